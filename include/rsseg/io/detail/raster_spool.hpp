// SPDX-License-Identifier: MIT
// The resumable sink: pixels go uncompressed into PATH.partial, finished units into PATH.partial.journal, and close() copies the spool
// into the real file. A compressed GeoTIFF cannot be cut off at any moment and continued; a flat file can, at the price of its space.
#pragma once
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <functional>
#include <unordered_set>

#include "rsseg/io/atomic_file.hpp"
#include "rsseg/io/raster.hpp"

namespace rsseg::io::detail {

class spool_sink final : public raster_sink {
 public:
  /// `make` creates the real sink when all is there.
  spool_sink(const std::string& path, const raster_info& info, const std::string& key, std::function<std::unique_ptr<raster_sink>()> make)
      : partial_(path + ".partial"), journal_(partial_ + ".journal"), make_(std::move(make)) {
    name_ = path, info_ = info;
    header_ = "rsseg journal 1: " + std::to_string(info.width) + " x " + std::to_string(info.height) + " x " + std::to_string(info.bands) + " " +
              sample_name(info.type) + " | ";
    for (const char c : key) header_ += c == '\n' || c == '\r' ? ' ' : c;
    header_ += '\n';
    const off_t bytes = off_t(pixel()) * info.width * info.height;
    const std::size_t kept = load(bytes);
    if (kept == 0) {
      ::unlink(journal_.c_str());  // first: a journal must never vouch for a new spool
      done_.clear();
    }
    data_ = open_for_writing(partial_, kept == 0 ? O_TRUNC : 0);
    try {
      log_ = open_for_writing(journal_, 0);
      if (::ftruncate(data_, bytes) != 0) fail(errno);
      // A line cut off by a kill goes, lest the next one be glued to it.
      if (::ftruncate(log_, off_t(kept)) != 0 || ::lseek(log_, 0, SEEK_END) < 0) fail(errno);
      if (kept == 0) append(header_);
    } catch (...) {
      shut();
      throw;
    }
  }
  ~spool_sink() override { shut(); }
  bool is_done(std::int64_t unit) const override { return done_.count(unit) != 0; }
  void mark_done(std::int64_t unit) override {
    if (::fdatasync(data_) != 0 && errno != EINVAL) fail(errno);  // pixels before the claim that they are there
    append(std::to_string(unit) + "\n");
    if (::fdatasync(log_) != 0 && errno != EINVAL) fail(errno);
    done_.insert(unit);
  }
  void close() override {
    if (closed_) return;
    const std::unique_ptr<raster_sink> target = make_();
    const int step = 256;  // the tile height of the GeoTIFF sink, so that no tile is written twice
    std::vector<std::uint8_t> rows(std::size_t(step) * info_.width * pixel());
    for (int y = 0; y < info_.height; y += step) {
      const int h = std::min(step, info_.height - y);
      const std::size_t bytes = std::size_t(h) * info_.width * pixel();
      for (std::size_t at = 0; at < bytes;) {
        const ssize_t got = ::pread(data_, rows.data() + at, bytes - at, off_t(pixel()) * info_.width * y + off_t(at));
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) throw output_error("cannot write '" + name_ + "': its '" + partial_ + "' cannot be read back: remove it and start again");
        at += std::size_t(got);
      }
      switch (info_.type) {
        case sample_type::u8:
          target->write_rows(y, h, rows.data());
          break;
        case sample_type::u16:
          target->write_rows(y, h, reinterpret_cast<const std::uint16_t*>(rows.data()));
          break;
        case sample_type::i16:
          target->write_rows(y, h, reinterpret_cast<const std::int16_t*>(rows.data()));
          break;
        case sample_type::f32:
          target->write_rows(y, h, reinterpret_cast<const float*>(rows.data()));
          break;
      }
    }
    target->close();
    closed_ = true;
    ::unlink(journal_.c_str());
    ::unlink(partial_.c_str());
    shut();
  }

 private:
  std::size_t pixel() const { return sample_size(info_.type) * std::size_t(info_.bands); }
  void shut() noexcept {
    if (data_ >= 0) ::close(data_);
    if (log_ >= 0) ::close(log_);
    data_ = log_ = -1;
  }
  [[noreturn]] void fail(int error_number) const { throw output_error("cannot write '" + partial_ + "': " + write_failure(error_number)); }
  int open_for_writing(const std::string& path, int flags) const {
    const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | flags, 0666);
    if (fd < 0) throw output_error("cannot write '" + path + "': " + write_failure(errno));
    return fd;
  }
  /// Reads the journal of an earlier run; returns how many of its bytes hold, 0 when it is not for this raster.
  std::size_t load(off_t bytes) {
    struct stat info {};
    if (!file_exists(journal_) || ::stat(partial_.c_str(), &info) != 0 || info.st_size != bytes) return 0;
    std::string text;
    try {
      text = read_text(journal_, "journal");
    } catch (const input_error&) {
      return 0;
    }
    if (text.compare(0, header_.size(), header_) != 0) return 0;
    std::size_t at = header_.size();
    for (std::size_t end; (end = text.find('\n', at)) != std::string::npos; at = end + 1) {
      std::int64_t unit = 0;
      const std::from_chars_result result = std::from_chars(text.data() + at, text.data() + end, unit);
      if (result.ec != std::errc() || result.ptr != text.data() + end) break;
      done_.insert(unit);
    }
    return at;
  }
  void append(const std::string& line) {
    if (::write(log_, line.data(), line.size()) != ssize_t(line.size())) fail(errno ? errno : ENOSPC);
  }
  void write(int x, int y, int w, int h, const void* values) override {
    const char* from = static_cast<const char*>(values);
    const bool whole = w == info_.width;  // full rows lie in one piece
    const std::size_t piece = (whole ? std::size_t(h) : 1) * std::size_t(w) * pixel();
    for (int row = 0; row < (whole ? 1 : h); ++row, from += piece) {
      off_t to = off_t(pixel()) * (off_t(y + row) * info_.width + x);
      for (std::size_t at = 0; at < piece;) {
        const ssize_t written = ::pwrite(data_, from + at, piece - at, to + off_t(at));
        if (written < 0 && errno == EINTR) continue;
        if (written <= 0) fail(written < 0 ? errno : ENOSPC);
        at += std::size_t(written);
      }
    }
  }

  std::string partial_, journal_, header_;
  std::function<std::unique_ptr<raster_sink>()> make_;
  std::unordered_set<std::int64_t> done_;
  int data_ = -1, log_ = -1;
};

}  // namespace rsseg::io::detail
