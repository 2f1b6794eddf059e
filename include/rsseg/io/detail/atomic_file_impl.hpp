// SPDX-License-Identifier: MIT
// Bodies of io/atomic_file.hpp (POSIX).
#pragma once
#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "rsseg/io/atomic_file.hpp"

namespace rsseg::io {
namespace detail {

RSSEG_IO_INLINE std::string write_failure(int error_number) {
  switch (error_number) {
    case ENOSPC:
    case EDQUOT:
      return "disk full: free some space or choose another folder";
    case EFBIG:
      return "file size limit reached: raise it (ulimit -f) or choose another file system";
    case EACCES:
    case EPERM:
      return "permission denied: make the folder writable or choose another one";
    case EROFS:
      return "read-only file system: choose another folder";
    case ENOENT:
      return "the folder does not exist: create it first";
    case ENOTDIR:
      return "a part of the path is not a folder: check the path";
    case EISDIR:
      return "is a folder: give the name of a file";
    case ENAMETOOLONG:
      return "name too long: choose a shorter one";
    default:
      return std::string(std::strerror(error_number)) + ": check the path and the disk";
  }
}

RSSEG_IO_INLINE std::string read_failure(int error_number) {
  switch (error_number) {
    case ENOENT:
    case ENOTDIR:
      return "no such file: check the path";
    case EACCES:
    case EPERM:
      return "permission denied: make it readable";
    case EISDIR:
      return "is a folder: give the name of a file";
    default:
      return std::string(std::strerror(error_number)) + ": check the file and the disk";
  }
}

RSSEG_IO_INLINE std::string folder_of(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}
RSSEG_IO_INLINE std::string file_of(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  return slash == std::string::npos ? path : path.substr(slash + 1);
}
RSSEG_IO_INLINE std::string stem_path(const std::string& path) {
  const std::size_t dot = path.rfind('.'), slash = path.rfind('/');
  return dot == std::string::npos || dot == 0 || (slash != std::string::npos && dot <= slash + 1) ? path : path.substr(0, dot);
}
RSSEG_IO_INLINE std::string extension_of(const std::string& path) {
  const std::size_t length = stem_path(path).size();
  std::string text = length < path.size() ? path.substr(length + 1) : "";
  for (char& c : text)
    if (c >= 'A' && c <= 'Z') c = char(c - 'A' + 'a');
  return text;
}

RSSEG_IO_INLINE void sync_folder(const std::string& folder) noexcept {
  const int fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;  // readable folders can be synced; others are best effort
  ::fsync(fd);
  ::close(fd);
}

}  // namespace detail

RSSEG_IO_INLINE temporary_path::temporary_path(const std::string& target) : target_(target) {
  if (target.empty() || target.back() == '/') throw output_error("cannot write '" + target + "': no file name: give the name of a file");
  if (char* real = ::realpath(target.c_str(), nullptr)) {
    target_ = real;
    ::free(real);
  }
  struct stat info {};
  if (::stat(target_.c_str(), &info) == 0) {
    if (S_ISDIR(info.st_mode)) throw output_error("cannot write '" + target + "': " + detail::write_failure(EISDIR));
    direct_ = !S_ISREG(info.st_mode);
  }
  const std::string folder = detail::folder_of(target_);
  temporary_ = direct_ ? target_ : folder + "/." + detail::file_of(target_) + ".tmp";
  if (direct_) return;
  int failure = ::stat(folder.c_str(), &info) != 0 ? errno : !S_ISDIR(info.st_mode) ? ENOTDIR : 0;
  if (failure == 0 && ::access(folder.c_str(), W_OK | X_OK) != 0) failure = errno;
  if (failure != 0) throw output_error("cannot write '" + target + "': " + detail::write_failure(failure));
}

RSSEG_IO_INLINE temporary_path::~temporary_path() { discard(); }

RSSEG_IO_INLINE void temporary_path::discard() noexcept {
  if (!done_ && !direct_) ::unlink(temporary_.c_str());
  done_ = true;
}

RSSEG_IO_INLINE void temporary_path::commit() {
  if (done_ || direct_) {
    done_ = true;
    return;
  }
  const int fd = ::open(temporary_.c_str(), O_RDONLY | O_CLOEXEC);
  int failure = fd < 0 ? errno : 0;
  if (fd >= 0) {
    if (::fsync(fd) != 0 && errno != EINVAL) failure = errno;
    ::close(fd);
  }
  if (failure == 0 && ::rename(temporary_.c_str(), target_.c_str()) != 0) failure = errno;
  if (failure != 0) {
    discard();
    throw output_error("cannot write '" + target_ + "': " + detail::write_failure(failure));
  }
  done_ = true;
  detail::sync_folder(detail::folder_of(target_));
}

RSSEG_IO_INLINE atomic_file::atomic_file(const std::string& target) : path_(target) {
  for (int attempt = 0;; ++attempt) {
    fd_ = ::open(path_.temporary().c_str(), O_WRONLY | O_CLOEXEC | (path_.direct() ? 0 : O_CREAT), 0666);
    if (fd_ < 0) throw output_error("cannot write '" + target + "': " + detail::write_failure(errno));
    if (path_.direct()) return;
    const bool taken = ::flock(fd_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    // Between open and flock the former owner may have renamed or removed the file: then this lock is on a file nobody sees.
    struct stat mine {
    }, named{};
    const bool same = ::fstat(fd_, &mine) == 0 && ::stat(path_.temporary().c_str(), &named) == 0 && mine.st_ino == named.st_ino;
    if (!taken && same) break;
    ::close(fd_);
    fd_ = -1;
    if (taken || attempt == 8) {
      path_.release();
      throw output_error("cannot write '" + target + "': another process is writing it: wait for it or choose another name");
    }
  }
  if (::ftruncate(fd_, 0) != 0) {
    const int failure = errno;
    ::close(fd_);
    fd_ = -1;
    throw output_error("cannot write '" + target + "': " + detail::write_failure(failure));
  }
}

RSSEG_IO_INLINE atomic_file::~atomic_file() {
  path_.discard();
  if (fd_ >= 0) ::close(fd_);
}

RSSEG_IO_INLINE void atomic_file::flush() {
  std::size_t at = 0;
  while (at < buffer_.size()) {
    const ssize_t written = ::write(fd_, buffer_.data() + at, buffer_.size() - at);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) {
      const int failure = written < 0 ? errno : ENOSPC;
      path_.discard();
      throw output_error("cannot write '" + path_.target() + "': " + detail::write_failure(failure));
    }
    at += std::size_t(written);
  }
  buffer_.clear();
}

RSSEG_IO_INLINE void atomic_file::write(const void* data, std::size_t bytes) {
  constexpr std::size_t chunk = std::size_t(1) << 20;
  const char* from = static_cast<const char*>(data);
  while (bytes > 0) {
    const std::size_t take = bytes < chunk ? bytes : chunk;
    buffer_.insert(buffer_.end(), from, from + take);
    if (buffer_.size() >= chunk) flush();
    from += take, bytes -= take;
  }
}

RSSEG_IO_INLINE void atomic_file::commit() {
  flush();
  path_.commit();  // opens the temporary again and syncs it: one place for both users of temporary_path
  if (fd_ >= 0 && ::close(fd_) != 0 && errno != EINTR) {
    fd_ = -1;
    throw output_error("cannot write '" + path_.target() + "': " + detail::write_failure(errno));
  }
  fd_ = -1;
}

RSSEG_IO_INLINE void write_file(const std::string& target, const void* data, std::size_t bytes) {
  atomic_file file(target);
  file.write(data, bytes);
  file.commit();
}
RSSEG_IO_INLINE void write_file(const std::string& target, std::string_view text) { write_file(target, text.data(), text.size()); }

RSSEG_IO_INLINE std::vector<std::uint8_t> read_file(const std::string& path, const char* what, std::uint64_t max_bytes) {
  const auto fail = [&](const std::string& why) { throw input_error(std::string(what) + " '" + path + "': " + why); };
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) fail(detail::read_failure(errno));
  struct closer {
    int fd;
    ~closer() { ::close(fd); }
  } guard{fd};
  struct stat info {};
  if (::fstat(fd, &info) != 0) fail(detail::read_failure(errno));
  if (S_ISDIR(info.st_mode)) fail(detail::read_failure(EISDIR));
  if (S_ISREG(info.st_mode) && std::uint64_t(info.st_size) > max_bytes)
    fail("has " + std::to_string(info.st_size) + " bytes, more than the limit of " + std::to_string(max_bytes) + ": is it the right file?");
  std::vector<std::uint8_t> bytes(S_ISREG(info.st_mode) ? std::size_t(info.st_size) : 0);
  std::size_t at = 0;
  for (;;) {  // pipes have no size: read on until the end
    if (at == bytes.size() && (!S_ISREG(info.st_mode) || bytes.empty())) bytes.resize(at + 65536);
    if (at > max_bytes) fail("more than " + std::to_string(max_bytes) + " bytes: is it the right file?");
    if (at == bytes.size()) break;
    const ssize_t got = ::read(fd, bytes.data() + at, bytes.size() - at);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail(detail::read_failure(errno));
    if (got == 0) break;
    at += std::size_t(got);
  }
  bytes.resize(at);
  if (bytes.empty()) fail("is empty: is it the right file, or did a copy fail?");
  return bytes;
}

RSSEG_IO_INLINE std::string read_text(const std::string& path, const char* what, std::uint64_t max_bytes) {
  const std::vector<std::uint8_t> bytes = read_file(path, what, max_bytes);
  return std::string(bytes.begin(), bytes.end());
}

RSSEG_IO_INLINE bool file_exists(const std::string& path) {
  struct stat info {};
  return ::stat(path.c_str(), &info) == 0;
}

}  // namespace rsseg::io
