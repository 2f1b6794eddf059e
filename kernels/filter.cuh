// SPDX-License-Identifier: MIT
// Box mean and guided filter (He, Sun and Tang, TPAMI 2013) on NHWC float maps, for refining score maps with an image as guide.
// Windows are cut at the border and divided by the pixels they hold. Two separable passes; each reads its neighbours from the cache.
// Floor: guided filter with a grey guide, 6 maps in, about 14 passes over the map.
#pragma once
#include "elementwise.cuh"

namespace rsseg::cuda {
inline namespace RSSEG_BACKEND_NS {

/// Mean over 2 r + 1 pixels along one axis. along_x selects the axis.
RSSEG_KERNEL void box_axis_kernel(const float* x, float* y, int n, int h, int w, int c, int radius, bool along_x) {
  const std::int64_t size = std::int64_t(n) * h * w * c;
  for (std::int64_t i = grid_start(); i < size; i += grid_stride()) {
    const int at = along_x ? int(i / c % w) : int(i / c / w % h), extent = along_x ? w : h;
    const std::int64_t step = along_x ? c : std::int64_t(w) * c;
    const int first = imax(at - radius, 0), last = imin(at + radius, extent - 1);
    float sum = 0;
    for (int k = first; k <= last; ++k) sum += x[i + (k - at) * step];
    y[i] = sum / float(last - first + 1);
  }
}
/// y = box mean of x; between: as large as x; y may be x.
inline void box_mean(stream_t s, const float* x, float* between, float* y, int n, int h, int w, int c, int radius) {
  const unsigned blocks = grid_for(std::int64_t(n) * h * w * c, 256);
  kernel_launch({"box_mean x", blocks, 256, 0, s}, box_axis_kernel, x, between, n, h, w, c, radius, true);
  kernel_launch({"box_mean y", blocks, 256, 0, s}, box_axis_kernel, static_cast<const float*>(between), y, n, h, w, c, radius, false);
}

/// products[i] = guide * p, squares = guide^2 (one guide channel, c map channels).
RSSEG_KERNEL void guided_products_kernel(const float* guide, const float* p, float* products, std::int64_t pixels, int c) {
  for (std::int64_t i = grid_start(); i < pixels * c; i += grid_stride()) products[i] = guide[i / c] * (p ? p[i] : guide[i / c]);
}
/// In place: covariance -> a, mean of p -> b.
RSSEG_KERNEL void guided_coefficients_kernel(const float* mean_guide, const float* mean_square, float* a, float* b, std::int64_t pixels, int c,
                                             float epsilon) {
  for (std::int64_t i = grid_start(); i < pixels * c; i += grid_stride()) {
    const float m = mean_guide[i / c], variance = mean_square[i / c] - m * m, mean_p = b[i];
    a[i] = (a[i] - m * mean_p) / (variance + epsilon);
    b[i] = mean_p - a[i] * m;
  }
}
RSSEG_KERNEL void guided_apply_kernel(const float* guide, const float* a, const float* b, float* y, std::int64_t pixels, int c) {
  for (std::int64_t i = grid_start(); i < pixels * c; i += grid_stride()) y[i] = a[i] * guide[i / c] + b[i];
}
inline std::size_t guided_filter_workspace(int n, int h, int w, int c) {
  return std::size_t(n) * std::size_t(h) * std::size_t(w) * (3 * std::size_t(c) + 2);
}
/// Filters each of c maps p with a one-channel guide. y may be p.
inline void guided_filter(stream_t s, const float* guide, const float* p, float* y, int n, int h, int w, int c, int radius, float epsilon,
                          float* workspace) {
  const std::int64_t pixels = std::int64_t(n) * h * w;
  float *a = workspace, *b = a + pixels * c, *between = b + pixels * c, *mean_guide = between + pixels * c, *mean_square = mean_guide + pixels;
  const unsigned blocks = grid_for(pixels * c, 256);
  kernel_launch({"guided squares", grid_for(pixels, 256), 256, 0, s}, guided_products_kernel, guide, nullptr, mean_square, pixels, 1);
  box_mean(s, mean_square, between, mean_square, n, h, w, 1, radius);
  box_mean(s, guide, between, mean_guide, n, h, w, 1, radius);
  kernel_launch({"guided products", blocks, 256, 0, s}, guided_products_kernel, guide, p, a, pixels, c);
  box_mean(s, a, between, a, n, h, w, c, radius);
  box_mean(s, p, between, b, n, h, w, c, radius);
  kernel_launch({"guided coefficients", blocks, 256, 0, s}, guided_coefficients_kernel, static_cast<const float*>(mean_guide),
                static_cast<const float*>(mean_square), a, b, pixels, c, epsilon);
  box_mean(s, a, between, a, n, h, w, c, radius);
  box_mean(s, b, between, b, n, h, w, c, radius);
  kernel_launch({"guided apply", blocks, 256, 0, s}, guided_apply_kernel, guide, static_cast<const float*>(a), static_cast<const float*>(b), y,
                pixels, c);
}

}  // namespace RSSEG_BACKEND_NS
}  // namespace rsseg::cuda
