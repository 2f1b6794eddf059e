// SPDX-License-Identifier: MIT
// One level of MagNet (Huynh et al., CVPR 2021, Sec. 3.2 and 3.3) on maps in memory, without its networks: which patches, how their
// predictions make a map, and which pixels of the coarser prediction they replace. Maps are NHWC, probabilities.
//   uncertainty U = 1 - (top1 - top2); a patch's is the mean of roi_align(U)
//   error score E = certainty(refined) * U, brought to the input's size (nearest), median-filtered, brought back
//   the n cells of largest E take the refined probabilities
// Two quirks of the published code are behind a flag: patches overwrite each other in ascending order of uncertainty and are then divided by
// the count of patches less a frame of 10 pixels. Without it overlaps are averaged.
#pragma once
#include <algorithm>
#include <cmath>
#include <vector>

#include "rsseg/core/shape.hpp"
#include "rsseg/cpu/point_sampling.hpp"

namespace rsseg::scene {

/// A patch in pixels of its scale.
struct patch_box {
  int x = 0, y = 0, width = 0, height = 0;
};

/// The reference's grid: as few patches as cover the axis, evenly spread, columns first.
inline std::vector<patch_box> magnet_patches(int width, int height, int patch_w, int patch_h) {
  const auto starts = [](int length, int patch) {
    std::vector<int> out;
    const int n = (length + patch - 1) / patch;
    const int step = n > 1 ? int(double(patch) - double(n * patch - length) / (n - 1)) : 0;
    for (int i = 0; i < n; ++i) out.push_back(i + 1 < n ? i * step : std::max(0, length - patch));
    return out;
  };
  std::vector<patch_box> out;
  for (const int x : starts(width, patch_w))
    for (const int y : starts(height, patch_h)) out.push_back({x, y, std::min(patch_w, width), std::min(patch_h, height)});
  return out;
}

/// top1 - top2 of each pixel's probabilities.
template <class T>
std::vector<T> certainty(const T* p, std::int64_t pixels, int channels) {
  std::vector<T> u(static_cast<std::size_t>(pixels));
  cpu::uncertainty(p, pixels, channels, u.data());
  for (T& v : u) v = -v;
  return u;
}

/// Bilinear resize with half-pixel centres: (h,w,c) -> (oh,ow,c).
template <class T>
std::vector<T> resize_map(const T* in, int h, int w, int c, int oh, int ow) {
  std::vector<T> out(std::size_t(oh) * std::size_t(ow) * std::size_t(c));
  for (int y = 0; y < oh; ++y) {
    const double sy = std::max(0.0, (y + 0.5) * h / oh - 0.5);
    const int ya = std::min(int(sy), h - 1), yb = std::min(ya + 1, h - 1);
    const T fy = T(sy - ya);
    for (int x = 0; x < ow; ++x) {
      const double sx = std::max(0.0, (x + 0.5) * w / ow - 0.5);
      const int xa = std::min(int(sx), w - 1), xb = std::min(xa + 1, w - 1);
      const T fx = T(sx - xa);
      const auto at = [&](int r, int s) { return in + (std::int64_t(r) * w + s) * c; };
      const T *p = at(ya, xa), *q = at(ya, xb), *r = at(yb, xa), *s = at(yb, xb);
      T* to = out.data() + (std::int64_t(y) * ow + x) * c;
      for (int k = 0; k < c; ++k) to[k] = (1 - fy) * ((1 - fx) * p[k] + fx * q[k]) + fy * ((1 - fx) * r[k] + fx * s[k]);
    }
  }
  return out;
}
/// Nearest resize of one channel, source = floor(i * in / out).
template <class T>
std::vector<T> resize_nearest(const std::vector<T>& in, int h, int w, int oh, int ow) {
  std::vector<T> out(std::size_t(oh) * std::size_t(ow));
  for (int y = 0; y < oh; ++y)
    for (int x = 0; x < ow; ++x)
      out[std::size_t(y) * std::size_t(ow) + std::size_t(x)] =
          in[std::size_t(std::int64_t(y) * h / oh) * std::size_t(w) + std::size_t(std::int64_t(x) * w / ow)];
  return out;
}
/// Median of k x k windows, zeros outside.
template <class T>
std::vector<T> median_filter(const std::vector<T>& in, int h, int w, int k) {
  std::vector<T> out(in.size()), values;
  for (int y = 0; y < h; ++y)
    for (int x = 0; x < w; ++x) {
      values.clear();
      for (int v = y - k / 2; v <= y + k / 2; ++v)
        for (int u = x - k / 2; u <= x + k / 2; ++u)
          values.push_back(v < 0 || u < 0 || v >= h || u >= w ? T(0) : in[std::size_t(v) * std::size_t(w) + std::size_t(u)]);
      std::nth_element(values.begin(), values.begin() + std::ptrdiff_t(values.size() / 2), values.end());
      out[std::size_t(y) * std::size_t(w) + std::size_t(x)] = values[values.size() / 2];
    }
  return out;
}

/// roi_align of one box to (h,w).
template <class T>
std::vector<T> patch_of(const T* map, int height, int width, int channels, double x0, double y0, double x1, double y1, int h, int w) {
  std::vector<T> out(std::size_t(h) * std::size_t(w) * std::size_t(channels));
  const T box[4] = {T(x0), T(y0), T(x1), T(y1)};
  cpu::roi_align_options o;
  o.out_h = h, o.out_w = w;
  cpu::roi_align(map, shape{1, channels, height, width}, box, nullptr, 1, o, out.data());
  return out;
}

/// The refined map of a scale under construction.
template <class T>
class patch_ensemble {
 public:
  patch_ensemble(int height, int width, int channels, bool overwrite)
      : h_(height),
        w_(width),
        c_(channels),
        overwrite_(overwrite),
        map_(std::size_t(height) * std::size_t(width) * std::size_t(channels), T(0)),
        count_(std::size_t(height) * std::size_t(width), 0) {}
  /// Probabilities (h,w,c) of the patch at any extent.
  void add(const patch_box& b, const T* p, int h, int w) {
    const std::vector<T> v = resize_map(p, h, w, c_, b.height, b.width);
    for (int y = 0; y < b.height; ++y)
      for (int x = 0; x < b.width; ++x) {
        const std::size_t at = std::size_t(b.y + y) * std::size_t(w_) + std::size_t(b.x + x);
        const T* from = v.data() + (std::size_t(y) * std::size_t(b.width) + std::size_t(x)) * std::size_t(c_);
        for (int k = 0; k < c_; ++k) {
          T& to = map_[at * std::size_t(c_) + std::size_t(k)];
          to = overwrite_ ? from[k] : to + from[k];
        }
        constexpr int frame = 10;
        if (!overwrite_ || (y >= frame && x >= frame && y < b.height - frame && x < b.width - frame)) ++count_[at];
      }
  }
  /// The map; zeros where no patch was.
  std::vector<T> finish() {
    for (std::size_t i = 0; i < count_.size(); ++i)
      if (count_[i] > 1)
        for (int k = 0; k < c_; ++k) map_[i * std::size_t(c_) + std::size_t(k)] /= T(count_[i]);
    return std::move(map_);
  }
  /// Whether any patch covers a pixel.
  std::vector<std::uint8_t> covered() const {
    std::vector<std::uint8_t> out(count_.size());
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = count_[i] > 0;
    return out;
  }

 private:
  int h_, w_, c_;
  bool overwrite_;
  std::vector<T> map_;
  std::vector<int> count_;
};

/// E, from the certainty of the refined map and the uncertainty of the one before; (h,w) is the scale, (in_h,in_w) the network's input.
template <class T>
std::vector<T> error_score(const std::vector<T>& refined_certainty, const std::vector<T>& uncertain, int h, int w, int in_h, int in_w, int kernel) {
  std::vector<T> e(uncertain.size());
  for (std::size_t i = 0; i < e.size(); ++i) e[i] = refined_certainty[i] * uncertain[i];
  return resize_nearest(median_filter(resize_nearest(e, h, w, in_h, in_w), in_h, in_w, kernel), in_h, in_w, h, w);
}

}  // namespace rsseg::scene
