// SPDX-License-Identifier: MIT
// Box sums over (2r+1)^2 windows clipped at the border, O(1) per pixel whatever the radius: separable running sums in double.
#pragma once
#include <algorithm>
#include <cstddef>
#include <vector>

namespace rsseg::refine {

/// Sums of one plane (h x w doubles) over windows of radius r, in place. scratch: h * w doubles.
inline void box_sum(double* plane, int h, int w, int r, double* scratch) {
  for (int y = 0; y < h; ++y) {
    const double* in = plane + std::size_t(y) * w;
    double* out = scratch + std::size_t(y) * w;
    double sum = 0;
    for (int x = 0; x < std::min(r, w); ++x) sum += in[x];
    for (int x = 0; x < w; ++x) {
      if (x + r < w) sum += in[x + r];
      if (x - r - 1 >= 0) sum -= in[x - r - 1];
      out[x] = sum;
    }
  }
  std::vector<double> column(std::size_t(w), 0.0);
  for (int y = 0; y < std::min(r, h); ++y)
    for (int x = 0; x < w; ++x) column[std::size_t(x)] += scratch[std::size_t(y) * w + x];
  for (int y = 0; y < h; ++y) {
    double* out = plane + std::size_t(y) * w;
    if (y + r < h)
      for (int x = 0; x < w; ++x) column[std::size_t(x)] += scratch[std::size_t(y + r) * w + x];
    if (y - r - 1 >= 0)
      for (int x = 0; x < w; ++x) column[std::size_t(x)] -= scratch[std::size_t(y - r - 1) * w + x];
    std::copy(column.begin(), column.end(), out);
  }
}

/// Pixels of the window of radius r around `at` on an axis of that extent.
inline int box_extent(int at, int extent, int r) { return std::min(extent - 1, at + r) - std::max(0, at - r) + 1; }

/// Divides each pixel by the pixel count of its window.
inline void box_divide(double* plane, int h, int w, int r) {
  for (int y = 0; y < h; ++y)
    for (int x = 0; x < w; ++x) plane[std::size_t(y) * w + x] /= double(box_extent(y, h, r)) * box_extent(x, w, r);
}

/// Mean over the clipped window, in place.
inline void box_mean(double* plane, int h, int w, int r, double* scratch) {
  box_sum(plane, h, w, r, scratch);
  box_divide(plane, h, w, r);
}

/// The transpose of box_mean: windows are symmetric, so the same sum with the division in front.
inline void box_mean_transpose(double* plane, int h, int w, int r, double* scratch) {
  box_divide(plane, h, w, r);
  box_sum(plane, h, w, r, scratch);
}

}  // namespace rsseg::refine
