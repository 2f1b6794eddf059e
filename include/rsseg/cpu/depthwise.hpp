// SPDX-License-Identifier: MIT
// Depthwise convolution (groups == in_c == out_c): each channel with its own kernel, vectors along the channels, four pixels of a row at a time.
// Packed weights are [kernel_h*kernel_w][channels], for the forward pass and the data gradient alike.
#pragma once
#include "rsseg/cpu/conv_backward.hpp"

namespace rsseg::cpu {

inline constexpr int max_depthwise_taps = 256;  ///< larger kernels take the general path

inline bool depthwise_direct(const conv_geometry& g) { return g.depthwise() && g.kernel_h * g.kernel_w <= max_depthwise_taps; }

template <class T>
void depthwise_pack(const conv_geometry& g, const T* w, T* packed) {
  const int taps = g.kernel_h * g.kernel_w;
  for (int c = 0; c < g.in_c; ++c)
    for (int t = 0; t < taps; ++t) packed[std::ptrdiff_t(t) * g.in_c + c] = w[std::ptrdiff_t(c) * taps + t];
}

/// One output row of a gather with kc == nc == 1.
template <class T>
void depthwise_row(const kernel_table<T>& k, const gather_shape& s, int kernel_w, std::int64_t row, const T* in, const T* packed, T* out,
                   const gather_epilogue<T>& e) {
  const int image = int(row / s.y.count), qy = int(row % s.y.count);
  const std::ptrdiff_t c = s.groups;
  int tap[max_depthwise_taps];
  std::ptrdiff_t offset[max_depthwise_taps];
  T* const out_row = out + (std::ptrdiff_t(image) * s.out_h + s.y.out(qy)) * s.out_w * c;
  const T* const image_in = in + std::ptrdiff_t(image) * s.y.in_extent * s.x.in_extent * c;

  depthwise_job<T> job;
  job.channels = int(c);
  job.tap = tap;
  job.offset = offset;
  job.w = packed;
  job.x_step = s.x.in_step * c;
  job.y_step = s.x.out_step * c;
  job.bias = e.bias;
  job.residual_offset = e.residual_offset;
  job.relu = e.relu;

  const auto run = [&](int q0, int q1) {  // pixels whose valid taps are those of q0
    job.taps = 0;
    for (int ty = 0; ty < s.y.taps; ++ty) {
      const int y = qy * s.y.in_step + s.y.tap_start + ty * s.y.tap_step;
      if (unsigned(y) >= unsigned(s.y.in_extent)) continue;
      for (int tx = 0; tx < s.x.taps; ++tx) {
        const int x = q0 * s.x.in_step + s.x.tap_start + tx * s.x.tap_step;
        if (unsigned(x) >= unsigned(s.x.in_extent)) continue;
        tap[job.taps] = (s.y.k_start + ty * s.y.k_step) * kernel_w + s.x.k_start + tx * s.x.k_step;
        offset[job.taps++] = (std::ptrdiff_t(y) * s.x.in_extent + x) * c;
      }
    }
    job.count = q1 - q0;
    job.x = image_in;
    job.y = out_row + s.x.out(q0) * c;
    k.depthwise(job);
  };
  // The middle, where every tap of the row lies inside, is one run; at both ends runs are one pixel long.
  const int last = s.x.tap_start + (s.x.taps - 1) * s.x.tap_step;
  const int low = std::min(s.x.tap_start, last), high = std::max(s.x.tap_start, last);
  int middle0 = low >= 0 ? 0 : (-low + s.x.in_step - 1) / s.x.in_step;
  int middle1 = s.x.in_extent - 1 - high < 0 ? 0 : (s.x.in_extent - 1 - high) / s.x.in_step + 1;
  if (s.x.taps == 0) middle0 = 0, middle1 = s.x.count;
  middle0 = std::min(middle0, s.x.count);
  middle1 = std::clamp(middle1, middle0, s.x.count);
  for (int q = 0; q < middle0; ++q) run(q, q + 1);
  if (middle0 < middle1) run(middle0, middle1);
  for (int q = middle1; q < s.x.count; ++q) run(q, q + 1);
}

template <class T>
void depthwise_run_all(const gather_shape& s, int kernel_w, const T* in, const T* packed, T* out, const gather_epilogue<T>& e) {
  const kernel_table<T>& k = kernels<T>();
  parallel_for(std::int64_t(s.n) * s.y.count, [&](std::int64_t row) { depthwise_row(k, s, kernel_w, row, in, packed, out, e); });
}

inline int depthwise_parts(const conv_geometry& g) { return int(std::min<std::int64_t>(std::int64_t(g.n) * g.out_h, 24)); }

template <class T>
std::size_t depthwise_backward_weights_elements(const conv_geometry& g) {
  return std::size_t(depthwise_parts(g)) * g.kernel_h * g.kernel_w * g.in_c;
}

template <class T>
void depthwise_backward_weights(const conv_geometry& g, const T* x, const T* dy, T* dw, T* workspace) {
  const kernel_table<T>& k = kernels<T>();
  const int taps = g.kernel_h * g.kernel_w, c = g.in_c, parts = depthwise_parts(g);
  const std::int64_t rows = std::int64_t(g.n) * g.out_h;
  parallel_for(parts, [&](std::int64_t part) {
    T* const z = workspace + part * taps * c;
    for (std::ptrdiff_t i = 0; i < std::ptrdiff_t(taps) * c; ++i) z[i] = T(0);
    for (std::int64_t row = rows * part / parts; row < rows * (part + 1) / parts; ++row) {
      const int image = int(row / g.out_h), oy = int(row % g.out_h);
      for (int t = 0; t < taps; ++t) {
        const int ky = t / g.kernel_w, kx = t % g.kernel_w, y = oy * g.stride_h - g.pad_top + ky * g.dilation_h;
        if (unsigned(y) >= unsigned(g.in_h)) continue;
        int lo = 0, hi = g.out_w;
        tap_range(g, kx, lo, hi);
        if (lo >= hi) continue;
        const int column = lo * g.stride_w - g.pad_left + kx * g.dilation_w;
        k.column_sums(c, hi - lo, dy + (row * g.out_w + lo) * c, c, x + ((std::ptrdiff_t(image) * g.in_h + y) * g.in_w + column) * c,
                      std::ptrdiff_t(g.stride_w) * c, z + std::ptrdiff_t(t) * c, false);
      }
    }
  });
  for (int ch = 0; ch < c; ++ch)
    for (int t = 0; t < taps; ++t) {
      T s = 0;
      for (int part = 0; part < parts; ++part) s += workspace[(std::ptrdiff_t(part) * taps + t) * c + ch];
      dw[std::ptrdiff_t(ch) * taps + t] = s;
    }
}

}  // namespace rsseg::cpu
