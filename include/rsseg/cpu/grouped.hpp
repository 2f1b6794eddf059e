// SPDX-License-Identifier: MIT
// Grouped convolution with few channels per group (ResNeXt's cardinality, Xie et al. 2017): straight from the tensors, since a matrix product per
// group would spend as long on its row pointers and half-filled tiles as on the products. Weights are packed as for the gather
// ([group][tap][channel][vector]).
#pragma once
#include "rsseg/cpu/conv_backward.hpp"

namespace rsseg::cpu {

inline constexpr int max_grouped_taps = 64;

/// Whether a gather takes this way: one vector holds a group's output channels.
template <class T>
bool grouped_wins(const gather_shape& s) {
  return s.groups > 1 && s.nc <= kernels<T>().lanes && s.kc <= 32 && s.taps() <= max_grouped_taps;
}

/// Pixels [begin, end) of output row `row` (of the batch).
template <class T>
void grouped_row(const kernel_table<T>& k, const gather_shape& s, std::int64_t row, const T* in, const T* packed, T* out,
                 const gather_epilogue<T>& e) {
  const int image = int(row / s.y.count), qy = int(row % s.y.count);
  int tap[max_grouped_taps];
  std::ptrdiff_t offset[max_grouped_taps];
  const std::ptrdiff_t out_row = (std::ptrdiff_t(image) * s.out_h + s.y.out(qy)) * s.out_w;
  grouped_job<T> job;
  job.groups = s.groups, job.depth = s.kc, job.columns = s.nc;
  job.tap = tap, job.offset = offset;
  job.x = in + std::ptrdiff_t(image) * s.y.in_extent * s.x.in_extent * s.in_pitch;
  job.w = packed, job.w_step = std::ptrdiff_t(s.taps()) * s.kc * k.lanes;
  job.x_step = s.x.in_step * s.in_pitch, job.y_step = s.x.out_step * s.out_pitch;
  job.bias = e.bias, job.residual_step = s.x.out_step * e.residual_pitch, job.relu = e.relu;
  const auto run = [&](int q0, int q1) {  // pixels whose valid taps are those of q0
    job.taps = 0;
    for (int ty = 0; ty < s.y.taps; ++ty) {
      const int y = qy * s.y.in_step + s.y.tap_start + ty * s.y.tap_step;
      if (unsigned(y) >= unsigned(s.y.in_extent)) continue;
      for (int tx = 0; tx < s.x.taps; ++tx) {
        const int x = q0 * s.x.in_step + s.x.tap_start + tx * s.x.tap_step;
        if (unsigned(x) >= unsigned(s.x.in_extent)) continue;
        tap[job.taps] = ty * s.x.taps + tx;  // as packed
        offset[job.taps++] = (std::ptrdiff_t(y) * s.x.in_extent + x) * s.in_pitch;
      }
    }
    job.count = q1 - q0;
    job.y = out + (out_row + s.x.out(q0)) * s.out_pitch;
    if (e.residual != nullptr) job.residual = e.residual + (out_row + s.x.out(q0)) * e.residual_pitch;
    k.grouped(job);
  };
  const int far = s.x.tap_start + (s.x.taps - 1) * s.x.tap_step, low = std::min(s.x.tap_start, far), high = std::max(s.x.tap_start, far);
  int middle0 = low >= 0 ? 0 : (-low + s.x.in_step - 1) / s.x.in_step;
  int middle1 = s.x.in_extent - 1 - high < 0 ? 0 : (s.x.in_extent - 1 - high) / s.x.in_step + 1;
  if (s.x.taps == 0) middle0 = 0, middle1 = s.x.count;
  middle0 = std::clamp(middle0, 0, s.x.count), middle1 = std::clamp(middle1, middle0, s.x.count);
  for (int q = 0; q < middle0; ++q) run(q, q + 1);
  if (middle0 < middle1) run(middle0, middle1);
  for (int q = middle1; q < s.x.count; ++q) run(q, q + 1);
}

template <class T>
void grouped_run_all(const gather_shape& s, const T* in, const T* packed, T* out, const gather_epilogue<T>& e) {
  const kernel_table<T>& k = kernels<T>();
  parallel_for(std::int64_t(s.n) * s.y.count, [&](std::int64_t row) { grouped_row(k, s, row, in, packed, out, e); });
}

/// The same for the weight gradient: kernels three wide, whole vectors of input channels.
template <class T>
bool grouped_weights_wins(const conv_geometry& g) {
  return g.groups > 1 && g.kernel_w == 3 && g.in_c_per_group() % kernels<T>().lanes == 0 && g.in_c_per_group() <= 16 &&
         g.out_c_per_group() % 4 == 0 && g.out_c_per_group() <= 16;
}

inline int grouped_parts(const conv_geometry& g) {
  const std::int64_t affordable = std::max<std::int64_t>(1, (std::int64_t(2) << 20) / g.weights());
  return int(std::min({(std::int64_t(g.n) * g.out_h + 1) / 2, std::int64_t(24), affordable}));
}

template <class T>
std::size_t grouped_weights_elements(const conv_geometry& g) {
  return std::size_t(grouped_parts(g) - 1) * std::size_t(g.weights());
}

template <class T>
void grouped_backward_weights(const conv_geometry& g, const T* x, const T* dy, T* dw, T* workspace) {
  const kernel_table<T>& k = kernels<T>();
  const int parts = grouped_parts(g), kc = g.in_c_per_group(), nc = g.out_c_per_group();
  const std::int64_t rows = std::int64_t(g.n) * g.out_h, size = g.weights();
  const std::ptrdiff_t xp = g.x_pitch(), dyp = g.y_pitch();
  int lo = 0, hi = g.out_w;  // columns whose taps lie inside, all of them
  tap_range(g, 0, lo, hi);
  tap_range(g, 2, lo, hi);
  if (lo >= hi) lo = hi = 0;
  parallel_for(parts, [&](std::int64_t part) {
    T* const z = part == 0 ? dw : workspace + (part - 1) * size;
    for (std::int64_t i = 0; i < size; ++i) z[i] = T(0);
    grouped_weights_job<T> job;
    job.groups = g.groups, job.kc = kc, job.nc = nc;
    job.x_step = g.stride_w * xp, job.dy_step = dyp, job.tap_step = g.dilation_w * xp, job.z_step = std::ptrdiff_t(g.kernel_h) * 3 * kc;
    for (std::int64_t row = rows * part / parts; row < rows * (part + 1) / parts; ++row) {
      const int image = int(row / g.out_h), oy = int(row % g.out_h);
      for (int ky = 0; ky < g.kernel_h; ++ky) {
        const int y = oy * g.stride_h - g.pad_top + ky * g.dilation_h;
        if (unsigned(y) >= unsigned(g.in_h)) continue;
        const auto aim = [&](int q, int kx) {  // at output column q and tap kx
          job.x = x + ((std::ptrdiff_t(image) * g.in_h + y) * g.in_w + q * g.stride_w - g.pad_left + kx * g.dilation_w) * xp;
          job.dy = dy + (row * g.out_w + q) * dyp;
          job.z = z + (ky * 3 + kx) * kc;
        };
        if (lo < hi) {
          aim(lo, 0);
          job.count = hi - lo;
          k.grouped_weights(job);
        }
        for (int q = lo == 0 ? hi : 0; q < g.out_w; q = q + 1 == lo ? hi : q + 1)
          for (int kx = 0; kx < 3; ++kx) {
            if (unsigned(q * g.stride_w - g.pad_left + kx * g.dilation_w) >= unsigned(g.in_w)) continue;
            aim(q, kx);
            k.grouped_weights_pixel(job);
          }
      }
    }
  });
  for (int part = 1; part < parts; ++part)
    for (std::int64_t i = 0; i < size; ++i) dw[i] += workspace[(part - 1) * size + i];
}

}  // namespace rsseg::cpu
