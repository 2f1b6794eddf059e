// SPDX-License-Identifier: MIT
// Files that exist whole or not at all: write beside the target under a temporary name, fsync, rename, fsync the folder.
// A kill at any moment leaves the old file; the stale temporary (".NAME.tmp", the same name each time) is reused by the next run.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "rsseg/core/error.hpp"
#include "rsseg/io/detail/linkage.hpp"

namespace rsseg::io {

/// The target and its temporary sibling, for libraries that write by path (GDAL). The destructor removes an uncommitted temporary.
class temporary_path {
 public:
  /// Follows symbolic links of `target`. Throws output_error when the folder is missing or not writable, or the target is a folder.
  explicit temporary_path(const std::string& target);
  temporary_path(const temporary_path&) = delete;
  temporary_path& operator=(const temporary_path&) = delete;
  ~temporary_path();
  const std::string& target() const { return target_; }
  const std::string& temporary() const { return temporary_; }
  /// Devices and pipes (/dev/null, /dev/full, /dev/stdout) are written directly: renaming over them would replace them.
  bool direct() const { return direct_; }
  /// fsync, rename over the target, fsync the folder. Throws output_error; then the temporary is gone and the old target untouched.
  void commit();
  /// Removes the temporary now.
  void discard() noexcept;
  /// Leaves the temporary where it is: it belongs to somebody else.
  void release() noexcept { done_ = true; }

 private:
  std::string target_, temporary_;
  bool direct_ = false, done_ = false;
};

/// An output stream of bytes that becomes `target` at commit() and vanishes without it.
/// Every member throws output_error (file, cause, remedy): disk full, quota, size limit, unwritable or missing folder, or another
/// process that is writing the same target (an advisory lock on the temporary tells).
class atomic_file {
 public:
  explicit atomic_file(const std::string& target);
  atomic_file(const atomic_file&) = delete;
  atomic_file& operator=(const atomic_file&) = delete;
  ~atomic_file();
  void write(const void* data, std::size_t bytes);
  void write(std::string_view text) { write(text.data(), text.size()); }
  void commit();
  const std::string& target() const { return path_.target(); }

 private:
  void flush();
  temporary_path path_;
  int fd_ = -1;
  std::vector<char> buffer_;
};

/// Replaces `target` by `bytes`, atomically.
void write_file(const std::string& target, const void* data, std::size_t bytes);
void write_file(const std::string& target, std::string_view text);

/// The whole file. Throws input_error when it is missing, a folder, unreadable, empty, or larger than max_bytes.
/// `what` names the kind in messages ("image", "list file").
std::vector<std::uint8_t> read_file(const std::string& path, const char* what, std::uint64_t max_bytes = std::uint64_t(1) << 32);
std::string read_text(const std::string& path, const char* what, std::uint64_t max_bytes = std::uint64_t(1) << 26);
bool file_exists(const std::string& path);

namespace detail {
/// "disk full: free some space ..." for an errno of writing.
std::string write_failure(int error_number);
std::string read_failure(int error_number);
/// Folder part of a path, "." if none; and what follows it.
std::string folder_of(const std::string& path);
std::string file_of(const std::string& path);
/// Path without its last extension; the extension in lower case without the dot.
std::string stem_path(const std::string& path);
std::string extension_of(const std::string& path);
void sync_folder(const std::string& folder) noexcept;
}  // namespace detail
}  // namespace rsseg::io

#if RSSEG_IO_BODIES
#include "rsseg/io/detail/atomic_file_impl.hpp"
#endif
