// SPDX-License-Identifier: MIT
// Refinement of scenes in stages: a stage reads the image and the class probabilities of a whole scene and writes better ones, window by
// window. Stages are chained; each cuts the scene as it needs, so none sees the borders of another's windows.
//   window_stage: the usual kind. A window is `tile` pixels and a halo on each side, clipped to the scene. Where the stage's reach is finite
//   the halo covers it and the result does not depend on the tile size; where it is not, neighbouring windows are blended over a ramp.
#pragma once
#include <algorithm>
#include <cmath>
#include <functional>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "rsseg/io/raster.hpp"
#include "rsseg/scene/score_store.hpp"
#include "rsseg/scene/segment.hpp"

namespace rsseg::scene {

/// Called with (part done, parts in all); false: stop.
using stage_progress = std::function<bool(std::int64_t, std::int64_t)>;

/// Image values of a window in [0, 1] for 8- and 16-bit rasters, as stored for floats; values that are not finite become 0. The window lies
/// inside the scene. out: (h, w, bands).
inline void read_image(io::raster_source& image, int x, int y, int w, int h, std::vector<float>& out) {
  out.resize(std::size_t(w) * std::size_t(h) * std::size_t(image.info().bands));
  image.read_window(x, y, w, h, out.data());
  const float scale = detail::unit_scale(image.info().type);
  for (float& v : out) v = std::isfinite(v) ? v * scale : 0.0f;
}

class stage {
 public:
  virtual ~stage() = default;
  /// As on the command line: "guided:radius=8".
  virtual std::string name() const = 0;
  /// in and out are of the image's size and of the same classes; out's old contents are meaningless. Returns false when progress said stop.
  virtual bool run(io::raster_source& image, const score_store& in, score_store& out, const stage_progress& progress) = 0;
  /// Throws usage_error when the stage does not fit (trained for other classes or bands).
  virtual void check(const io::raster_info& /*image*/, int /*classes*/) const {}
};

/// What a window stage works on. image and scores cover [x, x + w) x [y, y + h) of the scene; refine() replaces the scores.
struct stage_window {
  int x = 0, y = 0, w = 0, h = 0, bands = 0, classes = 0;
  int scene_width = 0, scene_height = 0;
  std::vector<float> image;   ///< (h, w, bands), see read_image
  std::vector<float> scores;  ///< (h, w, classes), probabilities
};

/// Where and how a window stage looks.
struct stage_reach {
  int halo = 0;       ///< pixels beyond a window that its result depends on, or is to be given
  int alignment = 1;  ///< windows begin at multiples of this
  int ramp = 0;       ///< half the width over which neighbouring windows are blended; 0: the halo makes windows independent (exact)
};

class window_stage : public stage {
 public:
  explicit window_stage(int tile) : tile_(tile) {}
  virtual stage_reach reach() const = 0;
  virtual void refine(stage_window& window) = 0;
  int tile() const { return tile_; }

  bool run(io::raster_source& image, const score_store& in, score_store& out, const stage_progress& progress) override {
    const int width = in.width(), height = in.height();
    const stage_reach r = reach();
    const auto rows = cut(height, r), columns = cut(width, r);
    const std::int64_t total = std::int64_t(rows.size()) * std::int64_t(columns.size());
    std::int64_t done = 0;
    std::vector<float> part, before;
    for (const span& row : rows)
      for (const span& column : columns) {
        stage_window win;
        win.x = column.begin, win.y = row.begin, win.w = column.end - column.begin, win.h = row.end - row.begin;
        win.bands = image.info().bands, win.classes = in.classes(), win.scene_width = width, win.scene_height = height;
        read_image(image, win.x, win.y, win.w, win.h, win.image);
        win.scores.resize(std::size_t(win.w) * std::size_t(win.h) * std::size_t(win.classes));
        in.read(win.x, win.y, win.w, win.h, win.scores.data());
        refine(win);
        // The part that is written, with the ramps.
        const std::size_t k = std::size_t(win.classes);
        const int w = column.last - column.first, h = row.last - row.first;
        part.resize(std::size_t(w) * std::size_t(h) * k);
        for (int y = 0; y < h; ++y)
          std::copy_n(win.scores.data() + (std::size_t(row.first + y - win.y) * std::size_t(win.w) + std::size_t(column.first - win.x)) * k,
                      std::size_t(w) * k, part.data() + std::size_t(y) * std::size_t(w) * k);
        if (r.ramp > 0) {
          before.resize(part.size());
          out.read(column.first, row.first, w, h, before.data());
          for (int y = 0; y < h; ++y)
            for (int x = 0; x < w; ++x) {
              // Earlier windows wrote their share; where this is the first one to come, there is nothing to keep.
              const float wy = weight(row, row.first + y, r.ramp, height), wx = weight(column, column.first + x, r.ramp, width);
              const bool new_row = row.keep_begin == 0 || row.first + y >= row.keep_begin + r.ramp;
              const bool new_column = column.keep_begin == 0 || column.first + x >= column.keep_begin + r.ramp;
              float* p = part.data() + (std::size_t(y) * std::size_t(w) + std::size_t(x)) * k;
              const float* q = before.data() + (p - part.data());
              for (std::size_t c = 0; c < k; ++c) p[c] = new_row && new_column ? wy * wx * p[c] : q[c] + wy * wx * p[c];
            }
        }
        out.write(column.first, row.first, w, h, part.data());
        if (progress && !progress(++done, total)) return false;
      }
    return true;
  }

 private:
  /// Along one axis: read [begin, end), write [first, last) around the kept [keep_begin, keep_end).
  struct span {
    int begin, end, first, last, keep_begin, keep_end;
  };
  std::vector<span> cut(int extent, const stage_reach& r) const {
    const int a = std::max(1, r.alignment);
    // A ramp on either side must fit into a tile.
    const int step = (std::max(std::max(tile_, 1), 2 * r.ramp) + a - 1) / a * a;
    const int halo = std::max(r.halo, r.ramp);
    std::vector<span> out;
    for (int b = 0; b < extent; b += step) {
      span s;
      s.keep_begin = b, s.keep_end = std::min(extent, b + step);
      s.begin = std::max(0, b - halo) / a * a, s.end = std::min(extent, s.keep_end + halo);
      s.first = b > 0 ? b - r.ramp : 0, s.last = s.keep_end < extent ? std::min(extent, s.keep_end + r.ramp) : extent;
      out.push_back(s);
    }
    return out;
  }
  /// Weights of neighbouring windows add up to 1.
  static float weight(const span& s, int at, int ramp, int extent) {
    float v = 1;
    if (s.keep_begin > 0 && at < s.keep_begin + ramp) v = (float(at - (s.keep_begin - ramp)) + 0.5f) / float(2 * ramp);
    if (s.keep_end < extent && at >= s.keep_end - ramp) v = std::min(v, 1 - (float(at - (s.keep_end - ramp)) + 0.5f) / float(2 * ramp));
    return v;
  }

  int tile_;
};

}  // namespace rsseg::scene
