// SPDX-License-Identifier: MIT
// Depthwise convolution (groups == in_c == out_c): each channel with its own kernel, vectors along the channels, four pixels of a row at a time.
// Packed weights are [vector of channels][kernel_h*kernel_w][channel], for the forward pass and the data gradient alike.
#pragma once
#include "rsseg/cpu/conv_backward.hpp"

namespace rsseg::cpu {

inline constexpr int max_depthwise_taps = 256;  ///< larger kernels take the general path

inline bool depthwise_direct(const conv_geometry& g) { return g.depthwise() && g.kernel_h * g.kernel_w <= max_depthwise_taps; }

template <class T>
void depthwise_pack(const conv_geometry& g, const T* w, T* packed) {
  const int taps = g.kernel_h * g.kernel_w, lanes = kernels<T>().lanes;
  for (int c0 = 0; c0 < g.in_c; c0 += lanes) {
    const int n = std::min(lanes, g.in_c - c0);
    for (int t = 0; t < taps; ++t)
      for (int c = 0; c < n; ++c) packed[c0 * taps + t * n + c] = w[(c0 + c) * taps + t];
  }
}

/// Pixels [begin, end) of one output row of a gather with kc == nc == 1.
template <class T>
void depthwise_row(const kernel_table<T>& k, const gather_shape& s, int kernel_w, int all_taps, std::int64_t row, const T* in, const T* packed,
                   T* out, const gather_epilogue<T>& e, int begin, int end) {
  const int image = int(row / s.y.count), qy = int(row % s.y.count);
  int tap[max_depthwise_taps];
  std::ptrdiff_t offset[max_depthwise_taps];
  const std::ptrdiff_t out_row = (std::ptrdiff_t(image) * s.out_h + s.y.out(qy)) * s.out_w;
  const T* const image_in = in + std::ptrdiff_t(image) * s.y.in_extent * s.x.in_extent * s.in_pitch;

  depthwise_job<T> job;
  job.channels = s.groups;
  job.all_taps = all_taps;
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

/// Whether the middle of a gather can take two output rows at a time: 3x3, whole vectors, all channels' pixels in order, and either stride 1 (any
/// dilation: rows and columns then fall into as many interleaved grids) or stride 2.
template <class T>
bool depthwise_by_pairs(const kernel_table<T>& k, const gather_shape& s) {
  const bool nine = s.y.taps == 3 && s.x.taps == 3 && s.y.tap_step == s.x.tap_step && s.y.in_step == s.x.in_step;
  const bool walk = s.y.in_step == 1 || (s.y.in_step == 2 && s.y.tap_step == 1);
  return nine && walk && s.y.out_step == 1 && s.x.out_step == 1 && s.groups % k.lanes == 0;
}

/// Output rows `row` and row + dilation of one image, of a gather that goes by pairs.
template <class T>
void depthwise_two_rows(const kernel_table<T>& k, const gather_shape& s, int kernel_w, int all_taps, std::int64_t row, const T* in, const T* packed,
                        T* out, const gather_epilogue<T>& e) {
  const int image = int(row / s.y.count), qy = int(row % s.y.count), stride = s.y.in_step;
  const int d = s.y.tap_step, apart = std::abs(d), top = qy * stride + s.y.tap_start + std::min(0, 2 * d), left = s.x.tap_start + std::min(0, 2 * d);
  const int rows = 3 + stride;
  const int first = std::min(std::max(0, -left + stride - 1) / stride, s.x.count);
  const int inside = std::clamp(s.x.in_extent - left - 2 * apart < 1 ? 0 : (s.x.in_extent - left - 2 * apart - 1) / stride + 1, first, s.x.count);
  const int last = first + (inside - first) / (2 * apart) * (2 * apart);
  if (first < last) {
    // The data gradient walks the taps backward, d < 0: then everything is mirrored, rows and columns.
    const int mirror = d < 0 ? 1 : 0;
    depthwise_job<T> job;
    job.channels = s.groups;
    job.count = last - first;
    job.w = packed;
    job.x_step = stride * s.in_pitch;
    job.y_step = s.out_pitch;
    job.bias = e.bias;
    job.residual_step = e.residual_pitch;
    job.relu = e.relu;
    const T *x[5], *residual[2] = {};
    T* y[2];
    for (int r = 0; r < rows; ++r)
      x[mirror ? rows - 1 - r : r] =
          in + ((std::ptrdiff_t(image) * s.y.in_extent + top + r * apart) * s.x.in_extent + first * stride + left + mirror * 3 * apart) * s.in_pitch;
    for (int r = 0; r < 2; ++r) {
      const std::ptrdiff_t at = (std::ptrdiff_t(image) * s.out_h + qy + r * apart) * s.out_w + first + mirror * apart;
      y[r ^ mirror] = out + at * s.out_pitch;
      if (e.residual != nullptr) residual[r ^ mirror] = e.residual + at * e.residual_pitch;
    }
    k.depthwise_pair[stride - 1](job, x, y, e.residual == nullptr ? nullptr : residual, d * s.in_pitch, d);
  }
  for (int r = 0; r < 2; ++r) {
    depthwise_row(k, s, kernel_w, all_taps, row + r * apart, in, packed, out, e, 0, first);
    depthwise_row(k, s, kernel_w, all_taps, row + r * apart, in, packed, out, e, last, s.x.count);
  }
}

template <class T>
void depthwise_run_all(const gather_shape& s, int kernel_w, int all_taps, const T* in, const T* packed, T* out, const gather_epilogue<T>& e) {
  const kernel_table<T>& k = kernels<T>();
  const bool pairs = depthwise_by_pairs(k, s);
  // About eight rows per task: neighbouring rows read the same inputs. A whole number of pairs, from the first row on whose taps lie inside.
  const int apart = pairs ? std::abs(s.y.tap_step) : 1, rows = 2 * apart * std::max(1, 4 / apart), blocks = (s.y.count + rows - 1) / rows;
  const int far = s.y.tap_start + (s.y.taps - 1) * s.y.tap_step, low = std::min(s.y.tap_start, far), high = std::max(s.y.tap_start, far);
  const int first = pairs ? std::min((std::max(0, -low) + s.y.in_step - 1) / s.y.in_step, s.y.count) : 0;
  parallel_for(std::int64_t(s.n) * blocks, [&](std::int64_t i) {
    const std::int64_t image_row = i / blocks * s.y.count;
    const int block = int(i % blocks), begin = block == 0 ? 0 : std::min(s.y.count, first + block * rows);
    const int end = block + 1 == blocks ? s.y.count : std::min(s.y.count, first + (block + 1) * rows);
    for (int q = begin; q < end; ++q) {
      const auto paired = [&](int upper) {  // whether row `upper` begins a pair
        return pairs && upper >= first && (upper - first) / apart % 2 == 0 && upper + apart < end &&
               (upper + apart) * s.y.in_step + high < s.y.in_extent;
      };
      if (paired(q))
        depthwise_two_rows(k, s, kernel_w, all_taps, image_row + q, in, packed, out, e);
      else if (q - apart < first || !paired(q - apart))
        depthwise_row(k, s, kernel_w, all_taps, image_row + q, in, packed, out, e, 0, s.x.count);
    }
  });
}

/// Whether the data gradient can write blocks of 2x2 pixels, each from 2x2 pixels of dy, instead of four grids one after the other.
template <class T>
bool depthwise_spreads(const conv_geometry& g, const gather_epilogue<T>& e) {
  return g.kernel_h == 3 && g.kernel_w == 3 && g.stride_h == 2 && g.stride_w == 2 && g.dilation_h == 1 && g.dilation_w == 1 &&
         g.in_c % kernels<T>().lanes == 0 && e.bias == nullptr && e.residual == nullptr && !e.relu;
}

/// Data gradient of a depthwise 3x3 with stride 2. Block m of an axis, pixels 2m - pad and 2m - pad + 1 of dx, reads pixels m - 1 and m of dy.
template <class T>
void depthwise_spread_all(const conv_geometry& g, const T* dy, const T* packed, T* dx) {
  const kernel_table<T>& k = kernels<T>();
  struct range {
    int m0, m1;  // blocks that lie inside with all they read
    range(int in, int out, int pad) : m0(std::max(1, (pad + 1) / 2)), m1(std::max(m0, std::min(out, (in - 2 + pad) / 2 + 1))) {}
  };
  const range y(g.in_h, g.out_h, g.pad_top), x(g.in_w, g.out_w, g.pad_left);
  const std::ptrdiff_t xp = g.x_pitch(), yp = g.y_pitch();
  // Pixels [begin, end) of one row of dx, the slow way.
  const auto piece = [&](int image, int row, int begin, int end) {
    for (int px = 0; px < 2; ++px) {
      const gather_shape s = backward_gather(g, row % 2, px);
      const auto index = [&](int column) { return std::clamp((column - px + 1) / 2, 0, s.x.count); };
      depthwise_row(k, s, g.kernel_w, g.kernel_h * g.kernel_w, std::int64_t(image) * s.y.count + row / 2, dy, packed, dx, {}, index(begin),
                    index(end));
    }
  };
  const int y0 = 2 * y.m0 - g.pad_top, y1 = std::max(y0, 2 * y.m1 - g.pad_top), x0 = 2 * x.m0 - g.pad_left, x1 = std::max(x0, 2 * x.m1 - g.pad_left);
  constexpr int rows = 4;
  const int blocks = (y.m1 - y.m0 + rows - 1) / rows;
  parallel_for(std::int64_t(g.n) * (blocks + 1), [&](std::int64_t i) {
    const int image = int(i / (blocks + 1)), block = int(i % (blocks + 1));
    if (block == blocks) {  // what lies above and below
      for (int row = 0; row < g.in_h; ++row)
        if (row < y0 || row >= y1) piece(image, row, 0, g.in_w);
      return;
    }
    depthwise_job<T> job;
    job.channels = g.in_c;
    job.count = x.m1 - x.m0;
    job.w = packed;
    job.x_step = yp;
    job.y_step = xp;
    for (int m = y.m0 + block * rows; m < std::min(y.m1, y.m0 + (block + 1) * rows); ++m) {
      const int row = 2 * m - g.pad_top;
      if (job.count > 0) {
        const T* const from = dy + ((std::ptrdiff_t(image) * g.out_h + m) * g.out_w + x.m0 - 1) * yp;
        T* const to = dx + ((std::ptrdiff_t(image) * g.in_h + row) * g.in_w + x0) * xp;
        const T* const sources[2] = {from - g.out_w * yp, from};
        T* const targets[2] = {to, to + g.in_w * xp};
        k.depthwise_spread(job, sources, targets);
      }
      for (int r = row; r < row + 2; ++r) piece(image, r, 0, std::min(x0, g.in_w)), piece(image, r, std::min(x1, g.in_w), g.in_w);
    }
  });
}

inline int depthwise_parts(const conv_geometry& g) { return int(std::min<std::int64_t>((std::int64_t(g.n) * g.out_h + 1) / 2, 24)); }

template <class T>
std::size_t depthwise_backward_weights_elements(const conv_geometry& g) {
  return std::size_t(depthwise_parts(g)) * g.kernel_h * g.kernel_w * g.in_c;
}

/// Adds to z ([tap][channels]) what output rows [begin, end) of the batch give.
template <class T>
void depthwise_weights_rows(const kernel_table<T>& k, const conv_geometry& g, std::int64_t begin, std::int64_t end, const T* x, const T* dy, T* z) {
  const int c = g.in_c;
  const std::ptrdiff_t xp = g.x_pitch(), dyp = g.y_pitch();
  const bool nine = g.kernel_h == 3 && g.kernel_w == 3 && c % k.lanes == 0;
  int lo = 0, hi = g.out_w;  // columns whose taps lie inside, all of them
  tap_range(g, 0, lo, hi);
  tap_range(g, g.kernel_w - 1, lo, hi);
  if (lo >= hi) lo = hi = 0;
  int tap[max_depthwise_taps];
  std::ptrdiff_t offset[max_depthwise_taps];
  for (std::int64_t row = begin; row < end;) {
    const int image = int(row / g.out_h), oy = int(row % g.out_h), y0 = oy * g.stride_h - g.pad_top, span = (g.kernel_h - 1) * g.dilation_h;
    const auto source = [&](int y, int column) { return x + ((std::ptrdiff_t(image) * g.in_h + y) * g.in_w + column) * xp; };
    const bool fast = nine && lo < hi && y0 >= 0 && y0 + span < g.in_h;
    const int rows = fast && row + 1 < end && oy + 1 < g.out_h && y0 + g.stride_h + span < g.in_h ? 2 : 1;
    if (fast) {
      const T *sources[6], *gradients[2];
      for (int r = 0; r < rows; ++r) {
        gradients[r] = dy + ((row + r) * g.out_w + lo) * dyp;
        for (int ky = 0; ky < 3; ++ky) sources[3 * r + ky] = source(y0 + r * g.stride_h + ky * g.dilation_h, lo * g.stride_w - g.pad_left);
      }
      k.depthwise_weights[rows - 1](c, hi - lo, gradients, dyp, sources, g.stride_w * xp, g.dilation_w * xp, z);
    }
    for (int r = 0; r < rows; ++r, ++row) {
      const auto each_tap = [&](int q, const auto& use) {  // the taps of pixel q that lie inside
        for (int ky = 0; ky < g.kernel_h; ++ky) {
          const int y = y0 + r * g.stride_h + ky * g.dilation_h;
          if (unsigned(y) >= unsigned(g.in_h)) continue;
          for (int kx = 0; kx < g.kernel_w; ++kx) {
            const int column = q * g.stride_w - g.pad_left + kx * g.dilation_w;
            if (unsigned(column) < unsigned(g.in_w)) use(ky * g.kernel_w + kx, source(y, column));
          }
        }
      };
      if (!fast && lo < hi)
        each_tap(lo, [&](int t, const T* from) {
          k.column_sums(c, hi - lo, dy + (row * g.out_w + lo) * dyp, dyp, from, g.stride_w * xp, z + std::ptrdiff_t(t) * c, false);
        });
      for (int q = lo == 0 ? hi : 0; q < g.out_w; q = q + 1 == lo ? hi : q + 1) {
        int taps = 0;
        each_tap(q, [&](int t, const T* from) { tap[taps] = t, offset[taps++] = from - x; });
        k.depthwise_weights_pixel(c, dy + (row * g.out_w + q) * dyp, x, taps, tap, offset, z);
      }
    }
  }
}

template <class T>
void depthwise_backward_weights(const conv_geometry& g, const T* x, const T* dy, T* dw, T* workspace) {
  const kernel_table<T>& k = kernels<T>();
  const int taps = g.kernel_h * g.kernel_w, c = g.in_c, parts = depthwise_parts(g);
  const std::int64_t rows = std::int64_t(g.n) * g.out_h;
  parallel_for(parts, [&](std::int64_t part) {
    T* const z = workspace + part * taps * c;
    for (std::ptrdiff_t i = 0; i < std::ptrdiff_t(taps) * c; ++i) z[i] = T(0);
    depthwise_weights_rows(k, g, rows * part / parts, rows * (part + 1) / parts, x, dy, z);
  });
  // In order of the parts, whole rows of channels at a time.
  for (int part = 1; part < parts; ++part)
    for (std::ptrdiff_t i = 0; i < std::ptrdiff_t(taps) * c; ++i) workspace[i] += workspace[std::ptrdiff_t(part) * taps * c + i];
  for (int ch = 0; ch < c; ++ch)
    for (int t = 0; t < taps; ++t) dw[std::ptrdiff_t(ch) * taps + t] = workspace[std::ptrdiff_t(t) * c + ch];
}

}  // namespace rsseg::cpu
