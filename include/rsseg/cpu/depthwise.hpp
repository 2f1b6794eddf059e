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

/// Pixels [begin, end) of one output row of a gather with kc == nc == 1.
template <class T>
void depthwise_row(const kernel_table<T>& k, const gather_shape& s, int kernel_w, std::int64_t row, const T* in, const T* packed, T* out,
                   const gather_epilogue<T>& e, int begin, int end) {
  const int image = int(row / s.y.count), qy = int(row % s.y.count);
  const std::ptrdiff_t c = s.groups;
  int tap[max_depthwise_taps];
  std::ptrdiff_t offset[max_depthwise_taps];
  const std::ptrdiff_t out_row = (std::ptrdiff_t(image) * s.out_h + s.y.out(qy)) * s.out_w;
  const T* const image_in = in + std::ptrdiff_t(image) * s.y.in_extent * s.x.in_extent * s.in_pitch;

  depthwise_job<T> job;
  job.channels = int(c);
  job.tap = tap;
  job.offset = offset;
  job.w = packed;
  job.x_step = s.x.in_step * s.in_pitch;
  job.y_step = s.x.out_step * s.out_pitch;
  job.bias = e.bias;
  job.residual_step = s.x.out_step * e.residual_pitch;
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
        offset[job.taps++] = (std::ptrdiff_t(y) * s.x.in_extent + x) * s.in_pitch;
      }
    }
    job.count = q1 - q0;
    job.x = image_in;
    job.y = out + (out_row + s.x.out(q0)) * s.out_pitch;
    if (e.residual != nullptr) job.residual = e.residual + (out_row + s.x.out(q0)) * e.residual_pitch;
    k.depthwise(job);
  };
  // The middle, where every tap of the row lies inside, is one run; at both ends runs are one pixel long.
  const int last = s.x.tap_start + (s.x.taps - 1) * s.x.tap_step;
  const int low = std::min(s.x.tap_start, last), high = std::max(s.x.tap_start, last);
  int middle0 = low >= 0 ? 0 : (-low + s.x.in_step - 1) / s.x.in_step;
  int middle1 = s.x.in_extent - 1 - high < 0 ? 0 : (s.x.in_extent - 1 - high) / s.x.in_step + 1;
  if (s.x.taps == 0) middle0 = 0, middle1 = s.x.count;
  middle0 = std::clamp(middle0, begin, end);
  middle1 = std::clamp(middle1, middle0, end);
  for (int q = begin; q < middle0; ++q) run(q, q + 1);
  if (middle0 < middle1) run(middle0, middle1);
  for (int q = middle1; q < end; ++q) run(q, q + 1);
}

/// Two neighbouring output rows, whose middles share their input rows.
template <class T>
void depthwise_two_rows(const kernel_table<T>& k, const gather_shape& s, int kernel_w, std::int64_t row, const T* in, const T* packed, T* out,
                        const gather_epilogue<T>& e) {
  const int image = int(row / s.y.count), qy = int(row % s.y.count);
  const std::ptrdiff_t c = s.groups;
  // 3x3 with rows and columns in steps of one, whole vectors. The data gradient walks the taps backward.
  const int step = s.y.tap_step, top = s.y.tap_start + (step < 0 ? -2 : 0), left = s.x.tap_start + (step < 0 ? -2 : 0);
  const bool fits = s.y.taps == 3 && s.x.taps == 3 && (step == 1 || step == -1) && s.x.tap_step == step && s.y.in_step == 1 && s.x.in_step == 1 &&
                    s.y.out_step == 1 && s.x.out_step == 1 && c % k.lanes == 0 && qy + 1 < s.y.count && qy + top >= 0 && qy + top + 3 < s.y.in_extent;
  const int first = std::min(std::max(0, -left), s.x.count), last = std::clamp(s.x.in_extent - left - 2, first, s.x.count);
  if (!fits || first == last) {
    depthwise_row(k, s, kernel_w, row, in, packed, out, e, 0, s.x.count);
    if (qy + 1 < s.y.count) depthwise_row(k, s, kernel_w, row + 1, in, packed, out, e, 0, s.x.count);
    return;
  }
  depthwise_job<T> job;
  job.channels = int(c);
  job.count = last - first;
  job.w = step < 0 ? packed + 8 * c : packed;
  job.x_step = s.in_pitch;
  job.y_step = s.out_pitch;
  job.bias = e.bias;
  job.residual_step = e.residual_pitch;
  job.relu = e.relu;
  const T *x[4], *residual[2] = {};
  T* y[2];
  for (int r = 0; r < 4; ++r) x[r] = in + ((std::ptrdiff_t(image) * s.y.in_extent + qy + top + r) * s.x.in_extent + first + left) * s.in_pitch;
  for (int r = 0; r < 2; ++r) {
    const std::ptrdiff_t at = (std::ptrdiff_t(image) * s.out_h + qy + r) * s.out_w + first;
    y[r] = out + at * s.out_pitch;
    if (e.residual != nullptr) residual[r] = e.residual + at * e.residual_pitch;
    depthwise_row(k, s, kernel_w, row + r, in, packed, out, e, 0, first);
    depthwise_row(k, s, kernel_w, row + r, in, packed, out, e, last, s.x.count);
  }
  k.depthwise_pair(job, x, y, e.residual == nullptr ? nullptr : residual, step * c);
}

template <class T>
void depthwise_run_all(const gather_shape& s, int kernel_w, const T* in, const T* packed, T* out, const gather_epilogue<T>& e) {
  const kernel_table<T>& k = kernels<T>();
  // Eight rows per task: neighbouring rows read the same inputs.
  const int blocks = (s.y.count + 7) / 8;
  parallel_for(std::int64_t(s.n) * blocks, [&](std::int64_t i) {
    const std::int64_t image_row = i / blocks * s.y.count;
    const int begin = int(i % blocks) * 8, end = std::min(s.y.count, begin + 8);
    for (int q = begin; q < end; q += 2) depthwise_two_rows(k, s, kernel_w, image_row + q, in, packed, out, e);
  });
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
  const std::ptrdiff_t xp = g.x_pitch(), dyp = g.y_pitch();
  parallel_for(parts, [&](std::int64_t part) {
    T* const z = workspace + part * taps * c;
    for (std::ptrdiff_t i = 0; i < std::ptrdiff_t(taps) * c; ++i) z[i] = T(0);
    for (std::int64_t row = rows * part / parts; row < rows * (part + 1) / parts; ++row) {
      const int image = int(row / g.out_h), oy = int(row % g.out_h);
      int done0 = 0, done1 = 0;  // columns that the fast loop has taken
      const int y0 = oy * g.stride_h - g.pad_top;
      if (g.kernel_h == 3 && g.kernel_w == 3 && c % k.lanes == 0 && y0 >= 0 && y0 + 2 * g.dilation_h < g.in_h) {
        int lo = 0, hi = g.out_w;
        tap_range(g, 0, lo, hi);
        tap_range(g, 2, lo, hi);
        if (lo < hi) {
          const T* rows_of_x[3];
          for (int ky = 0; ky < 3; ++ky)
            rows_of_x[ky] = x + ((std::ptrdiff_t(image) * g.in_h + y0 + ky * g.dilation_h) * g.in_w + lo * g.stride_w - g.pad_left) * xp;
          k.depthwise_weights(c, hi - lo, dy + (row * g.out_w + lo) * dyp, dyp, rows_of_x, g.stride_w * xp, g.dilation_w * xp, z);
          done0 = lo, done1 = hi;
        }
      }
      for (int t = 0; t < taps; ++t) {
        const int ky = t / g.kernel_w, kx = t % g.kernel_w, y = oy * g.stride_h - g.pad_top + ky * g.dilation_h;
        if (unsigned(y) >= unsigned(g.in_h)) continue;
        int lo = 0, hi = g.out_w;
        tap_range(g, kx, lo, hi);
        const auto sum = [&](int from, int to) {
          const int column = from * g.stride_w - g.pad_left + kx * g.dilation_w;
          if (from < to)
            k.column_sums(c, to - from, dy + (row * g.out_w + from) * dyp, dyp, x + ((std::ptrdiff_t(image) * g.in_h + y) * g.in_w + column) * xp,
                          g.stride_w * xp, z + std::ptrdiff_t(t) * c, false);
        };
        if (done0 == done1) {
          sum(lo, hi);
        } else {
          sum(lo, done0);
          sum(done1, hi);
        }
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
