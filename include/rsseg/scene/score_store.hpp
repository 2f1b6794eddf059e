// SPDX-License-Identifier: MIT
// Class probabilities of a whole scene between two stages of refinement: float, (row, column, class), in a file without a name that vanishes
// with the object. Windows are read and written by system calls, so a program holds no more of a scene than its windows.
#pragma once
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "rsseg/core/error.hpp"

namespace rsseg::scene {

class score_store {
 public:
  /// Reserves width * height * classes * 4 bytes in `folder` (empty: $TMPDIR, else /tmp). Throws output_error when they are not to be had.
  score_store(int width, int height, int classes, std::string folder = "") : width_(width), height_(height), classes_(classes) {
    if (width < 1 || height < 1 || classes < 1) throw usage_error("score store: expected a non-empty scene and at least one class");
    if (folder.empty()) {
      const char* tmp = std::getenv("TMPDIR");
      folder = tmp && *tmp ? tmp : "/tmp";
    }
    std::string path = folder + "/rsseg-scores-XXXXXX";
    file_ = ::mkstemp(path.data());
    if (file_ < 0) throw output_error(folder + ": no scratch file can be made there (" + std::strerror(errno) + "); set TMPDIR");
    ::unlink(path.c_str());
    if (const int failed = ::posix_fallocate(file_, 0, off_t(bytes())); failed != 0) {
      ::close(file_);
      throw output_error(folder + ": refinement needs " + std::to_string(bytes() / 1000000 + 1) + " MB of scratch space there (" +
                         std::strerror(failed) + "); set TMPDIR to a larger disk");
    }
  }
  score_store(const score_store&) = delete;
  score_store& operator=(const score_store&) = delete;
  ~score_store() { ::close(file_); }

  int width() const { return width_; }
  int height() const { return height_; }
  int classes() const { return classes_; }
  std::uint64_t bytes() const { return std::uint64_t(width_) * std::uint64_t(height_) * std::uint64_t(classes_) * sizeof(float); }

  /// Probabilities of columns [x, x + w), rows [y, y + h), all inside the scene, as (h, w, classes).
  void read(int x, int y, int w, int h, float* out) const {
    each_row(x, y, w, h, [&](std::size_t row, std::size_t count, off_t at) { transfer(::pread, out + row * count, count, at); });
  }
  void write(int x, int y, int w, int h, const float* in) {
    each_row(x, y, w, h, [&](std::size_t row, std::size_t count, off_t at) { transfer(::pwrite, in + row * count, count, at); });
  }

 private:
  template <class F>
  void each_row(int x, int y, int w, int h, const F& f) const {
    if (x < 0 || y < 0 || w < 1 || h < 1 || x > width_ - w || y > height_ - h) throw usage_error("score store: a window reaches outside the scene");
    if (w == width_) return f(0, std::size_t(w) * std::size_t(h) * std::size_t(classes_), offset(0, y));
    for (int r = 0; r < h; ++r) f(std::size_t(r), std::size_t(w) * std::size_t(classes_), offset(x, y + r));
  }
  off_t offset(int x, int y) const { return (off_t(y) * width_ + x) * classes_ * off_t(sizeof(float)); }
  template <class Call, class Pointer>
  void transfer(Call* call, Pointer* values, std::size_t count, off_t at) const {
    using byte = std::conditional_t<std::is_const_v<Pointer>, const char, char>;
    byte* p = reinterpret_cast<byte*>(values);
    for (std::size_t left = count * sizeof(float); left > 0;) {
      const ssize_t done = call(file_, p, left, at);
      if (done < 0 && errno == EINTR) continue;
      if (done <= 0) throw output_error(std::string("scratch file of a refinement: ") + (done < 0 ? std::strerror(errno) : "cut short"));
      p += done, at += done, left -= std::size_t(done);
    }
  }

  int width_, height_, classes_, file_ = -1;
};

}  // namespace rsseg::scene
