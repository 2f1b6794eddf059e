// SPDX-License-Identifier: MIT
// What maps a scene, one window at a time: scene_predictor yields class scores for windows of a raster. A network of one image is the
// simplest (network_predictor); systems that look at the whole scene or at several scales, and refinements that wrap another predictor,
// implement the same two functions.
#pragma once
#include <algorithm>
#include <cmath>
#include <functional>
#include <span>
#include <vector>

#include "rsseg/core/tensor.hpp"
#include "rsseg/data/normalize.hpp"
#include "rsseg/io/raster.hpp"

namespace rsseg::scene {

/// Pixels [x, x + width) x [y, y + height) of a scene. It may reach outside, where the scene is mirrored.
struct window {
  int x = 0, y = 0, width = 0, height = 0;
};

class scene_predictor {
 public:
  virtual ~scene_predictor() = default;
  /// Called once before the windows of a scene: what is needed from all of it (a down-sampled view, features, where to look again).
  virtual void start(io::raster_source&) {}
  /// Class scores (n,K,h,w) of n windows of one extent; h, w may be smaller than the window's (scores are then resized bilinearly). The
  /// result depends on the scene and the window only, not on the order of calls.
  virtual tensor<float> scores(io::raster_source& scene, std::span<const window> windows) = 0;
  /// Bytes that are held between windows and while one is computed: arenas of networks, kept features. 0: not known.
  virtual std::size_t bytes() const { return 0; }
};

/// Class scores (N,K,h,w) of a batch of normalised windows (N,C,H,W); h, w may be smaller (strided output: scores are resized bilinearly).
using predictor = std::function<tensor<float>(const tensor<float>&)>;

namespace detail {

/// Coordinate mirrored into [0, n).
inline int mirrored(int i, int n) {
  if (n == 1) return 0;
  const int period = 2 * n - 2;
  i = ((i % period) + period) % period;
  return i < n ? i : period - i;
}

inline float unit_scale(io::sample_type t) { return t == io::sample_type::u8 ? 1.0f / 255 : t == io::sample_type::u16 ? 1.0f / 65535 : 1.0f; }

/// Reads the window at (x, y), which may reach outside the scene (mirrored), and normalises it into image n of `out`.
inline void read_normalised(io::raster_source& source, int x, int y, const data::normalization& norm, tensor<float>& out, int n,
                            std::vector<float>& scratch) {
  const io::raster_info& info = source.info();
  const int h = out.extent().h, w = out.extent().w, bands = info.bands;
  // The part inside; mirrored pixels may lie beyond it, so widen it to what they need.
  int x0 = info.width, x1 = -1, y0 = info.height, y1 = -1;
  for (int i = 0; i < w; ++i) x0 = std::min(x0, mirrored(x + i, info.width)), x1 = std::max(x1, mirrored(x + i, info.width));
  for (int i = 0; i < h; ++i) y0 = std::min(y0, mirrored(y + i, info.height)), y1 = std::max(y1, mirrored(y + i, info.height));
  const int rw = x1 - x0 + 1, rh = y1 - y0 + 1;
  scratch.resize(std::size_t(rw) * std::size_t(rh) * std::size_t(bands));
  source.read_window(x0, y0, rw, rh, scratch.data());
  const float scale = unit_scale(info.type);
  for (int r = 0; r < h; ++r) {
    const float* row = scratch.data() + std::size_t(mirrored(y + r, info.height) - y0) * std::size_t(rw) * std::size_t(bands);
    float* to = out.data() + (std::size_t(n) * std::size_t(h) + std::size_t(r)) * std::size_t(w) * std::size_t(bands);
    for (int c = 0; c < w; ++c) {
      const float* from = row + std::size_t(mirrored(x + c, info.width) - x0) * std::size_t(bands);
      for (int b = 0; b < bands; ++b) {
        float v = from[b] * scale;
        if (!std::isfinite(v)) v = norm.mean_of(b);
        to[std::size_t(c) * std::size_t(bands) + std::size_t(b)] = (v - norm.mean_of(b)) / norm.std_of(b);
      }
    }
  }
}

/// Scores of one pixel of a window of extent (h, w) from a score map of another extent, bilinearly (half-pixel centres).
inline void sample_scores(const float* map, int mh, int mw, int k, int h, int w, int y, int x, float* out) {
  if (mh == h && mw == w) {
    const float* p = map + (std::size_t(y) * std::size_t(mw) + std::size_t(x)) * std::size_t(k);
    for (int c = 0; c < k; ++c) out[c] = p[c];
    return;
  }
  const float sy = std::max(0.0f, (float(y) + 0.5f) * float(mh) / float(h) - 0.5f),
              sx = std::max(0.0f, (float(x) + 0.5f) * float(mw) / float(w) - 0.5f);
  const int ya = std::min(int(sy), mh - 1), xa = std::min(int(sx), mw - 1), yb = std::min(ya + 1, mh - 1), xb = std::min(xa + 1, mw - 1);
  const float fy = sy - float(ya), fx = sx - float(xa);
  const auto at = [&](int r, int c) { return map + (std::size_t(r) * std::size_t(mw) + std::size_t(c)) * std::size_t(k); };
  const float *p = at(ya, xa), *q = at(ya, xb), *r = at(yb, xa), *s = at(yb, xb);
  for (int c = 0; c < k; ++c) out[c] = (1 - fy) * ((1 - fx) * p[c] + fx * q[c]) + fy * ((1 - fx) * r[c] + fx * s[c]);
}

}  // namespace detail

/// Normalised pixels (n,bands,height,width) of windows of one extent.
inline tensor<float> read_windows(io::raster_source& scene, std::span<const window> windows, const data::normalization& norm) {
  tensor<float> out(shape{int(windows.size()), scene.info().bands, windows[0].height, windows[0].width});
  std::vector<float> scratch;
  for (std::size_t i = 0; i < windows.size(); ++i) detail::read_normalised(scene, windows[i].x, windows[i].y, norm, out, int(i), scratch);
  return out;
}

/// A network that maps one image to scores.
class network_predictor : public scene_predictor {
 public:
  network_predictor(predictor network, data::normalization norm) : network_(std::move(network)), norm_(std::move(norm)) {}
  void start(io::raster_source& scene) override { norm_.require_bands(scene.info().bands); }
  tensor<float> scores(io::raster_source& scene, std::span<const window> windows) override { return network_(read_windows(scene, windows, norm_)); }

 private:
  predictor network_;
  data::normalization norm_;
};

}  // namespace rsseg::scene
