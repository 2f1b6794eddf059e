// SPDX-License-Identifier: MIT
// Pooling. Gradients of averages are gathers (every input pixel looks up the windows that hold it), so that no two threads write the same
// element; `place` is cut over images and blocks of channels and adds repeated indices in row-major order.
#pragma once
#include <limits>

#include "rsseg/cpu/call.hpp"
#include "rsseg/cpu/columns.hpp"
#include "rsseg/graph/ops/pool.hpp"

namespace rsseg::cpu {

namespace detail {
struct pool_window {
  int kernel_h, kernel_w, stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w;
};
inline pool_window window_of(const graph::attributes& a, const shape& x) {
  pool_window p{a.kernel_h, a.kernel_w, a.stride_h, a.stride_w, a.pad_top, a.pad_left, a.dilation_h, a.dilation_w};
  if (a.count == 1) p.kernel_h = p.stride_h = x.h / a.bins_h, p.kernel_w = p.stride_w = x.w / a.bins_w;
  return p;
}
/// Taps [first, last) of the window at `start` that lie inside [0, size).
RSSEG_ALWAYS_INLINE void valid_taps(int start, int kernel, int dilation, int size, int& first, int& last) {
  first = start >= 0 ? 0 : (-start + dilation - 1) / dilation;
  last = start >= size ? 0 : (size - 1 - start) / dilation + 1;
  if (last > kernel) last = kernel;
}
/// Windows [first, last) of `count` that may hold position i (with dilation: some of them do not).
RSSEG_ALWAYS_INLINE void covering(int i, int kernel, int dilation, int stride, int pad, int count, int& first, int& last) {
  const int low = i + pad - dilation * (kernel - 1);
  first = low <= 0 ? 0 : (low + stride - 1) / stride;
  last = (i + pad) / stride + 1;
  if (last > count) last = count;
}
inline constexpr int pool_tile = 128;  // channels at a time

/// Nearly all maximum pooling has windows of 2x2; in a register each, they cost a quarter of the general loops.
template <class T>
RSSEG_ALWAYS_INLINE void max_of_four(const T* a, const T* b, const T* c, const T* d, int count, T* y) {
  for (int k = 0; k < count; ++k) {
    const T v0 = a[k], v1 = b[k], v2 = c[k], v3 = d[k];
    T high = v1 > v0 ? v1 : v0;
    high = v2 > high ? v2 : high;
    y[k] = v3 > high ? v3 : high;
  }
}
template <class T>
RSSEG_ALWAYS_INLINE void argmax_of_four(const T* a, const T* b, const T* c, const T* d, std::int32_t first, std::int32_t row, int count,
                                        std::int32_t* index) {
  for (int k = 0; k < count; ++k) {
    const T v0 = a[k], v1 = b[k], v2 = c[k], v3 = d[k];
    std::int32_t at = v1 > v0 ? first + 1 : first;
    T high = v1 > v0 ? v1 : v0;
    at = v2 > high ? first + row : at;
    high = v2 > high ? v2 : high;
    index[k] = v3 > high ? first + row + 1 : at;
  }
}

/// Where indices come from an argmax_pool of the map that they point into, no index leaves its window: then reading and writing them needs no
/// scattered access, only a comparison per tap. Maps from elsewhere (and windows that hold no pixel) take the general loops.
template <class T>
inline bool windows_of(const call<T>& c, const shape& map, pool_window& p) {
  const graph::node& source = c.g->nodes[c.input_id(1)];
  if (source.kind != graph::op::argmax_pool) return false;
  const shape s = c.extents[c.g->input_of(c.input_id(1), 0)], o = c.in_extent(1);
  p = window_of(source.at, s);
  return s.h == map.h && s.w == map.w && s.n == map.n && s.c == map.c && p.pad_top <= p.dilation_h * (p.kernel_h - 1) &&
         p.pad_left <= p.dilation_w * (p.kernel_w - 1) && (o.h - 1) * p.stride_h - p.pad_top < s.h && (o.w - 1) * p.stride_w - p.pad_left < s.w;
}
inline bool two_by_two(const pool_window& p) { return p.kernel_h == 2 && p.kernel_w == 2 && p.dilation_h == 1 && p.dilation_w == 1; }

/// One window over the input: the output pixel it belongs to, its corner, and the taps [y0, y1) x [x0, x1) of it that lie inside.
struct placed_window {
  std::int64_t out, image;  // pixels; image: the first one of the sample
  int top, left, y0, y1, x0, x1;
  RSSEG_ALWAYS_INLINE bool inside(const pool_window& p) const { return y0 == 0 && x0 == 0 && y1 == p.kernel_h && x1 == p.kernel_w; }
  /// The pixel of a tap, in the sample.
  RSSEG_ALWAYS_INLINE std::int32_t pixel(const pool_window& p, const shape& s, int ky, int kx) const {
    return std::int32_t((top + ky * p.dilation_h) * s.w + left + kx * p.dilation_w);
  }
};
/// body(placed_window) for every pixel of the output, rows of it in parallel.
template <class T, class Body>
inline void sweep_windows(const pool_window& p, const shape& s, const shape& o, const Body& body) {
  sweep<T>(std::int64_t(o.n) * o.h, 1, [=](std::int64_t b, std::int64_t e) RSSEG_INLINE_BODY {
    for (std::int64_t row = b; row < e; ++row) {
      placed_window w;
      w.image = row / o.h * s.h * s.w;
      w.top = int(row % o.h) * p.stride_h - p.pad_top;
      valid_taps(w.top, p.kernel_h, p.dilation_h, s.h, w.y0, w.y1);
      for (int ox = 0; ox < o.w; ++ox) {
        w.out = row * o.w + ox, w.left = ox * p.stride_w - p.pad_left;
        valid_taps(w.left, p.kernel_w, p.dilation_w, s.w, w.x0, w.x1);
        body(w);
      }
    }
  });
}
}  // namespace detail

template <class T>
void max_pool(const call<T>& c) {
  const shape s = c.in_extent(0), o = c.extent();
  const detail::pool_window p = detail::window_of(c.at(), s);
  const T* x = c.in(0);
  T* y = c.out();
  const std::int64_t xp = c.in_pitch(0), yp = c.out_pitch();
  const bool two = detail::two_by_two(p);
  detail::sweep_windows<T>(p, s, o, [=](const detail::placed_window& w) RSSEG_INLINE_BODY {
    T* to = y + w.out * yp;
    if (two && w.inside(p)) {
      const T* from = x + (w.image + w.pixel(p, s, 0, 0)) * xp;
      const T* below = from + std::int64_t(s.w) * xp;
      detail::max_of_four(from, from + xp, below, below + xp, s.c, to);
      return;
    }
    bool first = true;
    for (int ky = w.y0; ky < w.y1; ++ky)
      for (int kx = w.x0; kx < w.x1; ++kx) {
        const T* from = x + (w.image + w.pixel(p, s, ky, kx)) * xp;
        if (first) {
          for (int k = 0; k < s.c; ++k) to[k] = from[k];
        } else {
          RSSEG_INDEPENDENT
          for (int k = 0; k < s.c; ++k) to[k] = from[k] > to[k] ? from[k] : to[k];
        }
        first = false;
      }
    if (first)
      for (int k = 0; k < s.c; ++k) to[k] = -std::numeric_limits<T>::infinity();
  });
}

/// Flat index of the first maximum in row-major window order.
template <class T>
void argmax_pool(const call<T>& c) {
  const shape s = c.in_extent(0), o = c.extent();
  const detail::pool_window p = detail::window_of(c.at(), s);
  const T* x = c.in(0);
  const std::int64_t xp = c.in_pitch(0);
  std::int32_t* index = c.index_out();
  const bool two = detail::two_by_two(p);
  detail::sweep_windows<T>(p, s, o, [=](const detail::placed_window& w) RSSEG_INLINE_BODY {
    if (two && w.inside(p)) {
      const std::int32_t at = w.pixel(p, s, 0, 0);
      const T* from = x + (w.image + at) * xp;
      const T* below = from + std::int64_t(s.w) * xp;
      detail::argmax_of_four(from, from + xp, below, below + xp, at, s.w, s.c, index + w.out * s.c);
      return;
    }
    for (int c0 = 0; c0 < s.c; c0 += detail::pool_tile) {
      const int width = s.c - c0 < detail::pool_tile ? s.c - c0 : detail::pool_tile;
      std::int32_t* to = index + w.out * s.c + c0;
      T best[detail::pool_tile];
      bool first = true;
      for (int ky = w.y0; ky < w.y1; ++ky)
        for (int kx = w.x0; kx < w.x1; ++kx) {
          const std::int32_t at = w.pixel(p, s, ky, kx);
          const T* from = x + (w.image + at) * xp + c0;
          if (first) {
            for (int k = 0; k < width; ++k) best[k] = from[k], to[k] = at;
          } else {
            RSSEG_INDEPENDENT
            for (int k = 0; k < width; ++k) {
              const T v = from[k], high = best[k];  // all loads first: a load inside a choice becomes a branch
              const std::int32_t t = to[k];
              to[k] = v > high ? at : t;
              best[k] = v > high ? v : high;
            }
          }
          first = false;
        }
      if (first)
        for (int k = 0; k < width; ++k) to[k] = 0;
    }
  });
}

namespace detail {
template <class T>
inline void pick_in_windows(const pool_window& p, const shape& s, const shape& o, const T* x, std::int64_t xp, const std::int32_t* index, T* y,
                            std::int64_t yp) {
  sweep_windows<T>(p, s, o, [=](const placed_window& w) RSSEG_INLINE_BODY {
    const std::int32_t* which = index + w.out * s.c;
    T* to = y + w.out * yp;
    bool first = true;
    for (int ky = w.y0; ky < w.y1; ++ky)
      for (int kx = w.x0; kx < w.x1; ++kx) {
        const std::int32_t at = w.pixel(p, s, ky, kx);
        const T* from = x + (w.image + at) * xp;
        if (first) {
          for (int k = 0; k < s.c; ++k) to[k] = from[k];
        } else {
          RSSEG_INDEPENDENT
          for (int k = 0; k < s.c; ++k) to[k] = choose(which[k] == at, from[k], to[k]);
        }
        first = false;
      }
  });
}
/// Every pixel asks the windows that hold it, in row-major order: no zeros are written first, and no two threads write the same element.
template <class T>
inline void place_in_windows(const pool_window& p, const shape& s, const shape& o, const T* y, std::int64_t yp, const std::int32_t* index, T* x,
                             std::int64_t xp) {
  sweep<T>(std::int64_t(o.n) * o.h, 1, [=](std::int64_t b, std::int64_t e) RSSEG_INLINE_BODY {
    for (std::int64_t row = b; row < e; ++row) {
      const int iy = int(row % o.h);
      int y0, y1, x0, x1;
      covering(iy, p.kernel_h, p.dilation_h, p.stride_h, p.pad_top, s.h, y0, y1);
      for (int ix = 0; ix < o.w; ++ix) {
        covering(ix, p.kernel_w, p.dilation_w, p.stride_w, p.pad_left, s.w, x0, x1);
        T* to = x + (row * o.w + ix) * xp;
        const std::int32_t at = std::int32_t(iy * o.w + ix);
        bool first = true;
        for (int wy = y0; wy < y1; ++wy)
          for (int wx = x0; wx < x1; ++wx) {
            const std::int64_t window = (row / o.h * s.h + wy) * s.w + wx;
            const std::int32_t* which = index + window * o.c;
            const T* from = y + window * yp;
            if (first) {
              for (int k = 0; k < o.c; ++k) to[k] = T(0) + keep_if(which[k] == at, from[k]);
            } else {
              RSSEG_INDEPENDENT
              for (int k = 0; k < o.c; ++k) to[k] += keep_if(which[k] == at, from[k]);
            }
            first = false;
          }
        if (first)
          for (int k = 0; k < o.c; ++k) to[k] = 0;
      }
    }
  });
}
}  // namespace detail

/// y = x at the indices; an index outside x (an index map of another tensor) reads 0.
template <class T>
void pick(const call<T>& c) {
  const shape s = c.in_extent(0), o = c.extent();
  const T* x = c.in(0);
  const std::int32_t* index = c.index_in(1);
  T* y = c.out();
  const std::int64_t xp = c.in_pitch(0), yp = c.out_pitch();
  if (detail::pool_window p; detail::windows_of(c, s, p)) return detail::pick_in_windows(p, s, o, x, xp, index, y, yp);
  const std::int64_t pixels = std::int64_t(s.h) * s.w, each = std::int64_t(o.h) * o.w;
  sweep<T>(o.pixels(), items_per_chunk(4 * std::int64_t(o.c)), [=](std::int64_t b, std::int64_t e) RSSEG_INLINE_BODY {
    for (std::int64_t i = b; i < e; ++i) {
      const T* from = x + i / each * pixels * xp;
      for (int k = 0; k < o.c; ++k) {
        const std::int64_t at = index[i * o.c + k];
        y[i * yp + k] = at >= 0 && at < pixels ? from[at * xp + k] : T(0);
      }
    }
  });
}

template <class T>
void place(const call<T>& c) {
  const shape s = c.in_extent(0), o = c.extent();
  const T* y = c.in(0);
  const std::int32_t* index = c.index_in(1);
  T* x = c.out();
  const std::int64_t xp = c.out_pitch(), yp = c.in_pitch(0);
  if (detail::pool_window p; detail::windows_of(c, o, p)) return detail::place_in_windows(p, s, o, y, yp, index, x, xp);
  fill(rows_of(o.pixels(), o.c, xp, xp), x, T(0));
  const int width = 32;
  const std::int64_t blocks = (s.c + width - 1) / width, pixels = std::int64_t(o.h) * o.w, each = std::int64_t(s.h) * s.w;
  sweep<T>(s.n * blocks, 1, [=](std::int64_t b, std::int64_t e) RSSEG_INLINE_BODY {
    for (std::int64_t item = b; item < e; ++item) {
      const std::int64_t n = item / blocks;
      const int c0 = int(item % blocks) * width, c1 = c0 + width < s.c ? c0 + width : s.c;
      T* to = x + n * pixels * xp;
      for (std::int64_t i = n * each; i < (n + 1) * each; ++i)
        for (int k = c0; k < c1; ++k) {
          const std::int64_t at = index[i * s.c + k];
          if (at >= 0 && at < pixels) to[at * xp + k] += y[i * yp + k];
        }
    }
  });
}

/// The divisor is the whole window, or with flag2 the pixels of it inside the input.
template <class T>
void avg_pool(const call<T>& c) {
  const shape s = c.in_extent(0), o = c.extent();
  const detail::pool_window p = detail::window_of(c.at(), s);
  const bool inside = c.at().flag2;
  const T* x = c.in(0);
  T* y = c.out();
  const std::int64_t xp = c.in_pitch(0), yp = c.out_pitch();
  detail::sweep_windows<T>(p, s, o, [=](const detail::placed_window& w) RSSEG_INLINE_BODY {
    T* to = y + w.out * yp;
    for (int k = 0; k < s.c; ++k) to[k] = 0;
    for (int ky = w.y0; ky < w.y1; ++ky)
      for (int kx = w.x0; kx < w.x1; ++kx) {
        const T* from = x + (w.image + w.pixel(p, s, ky, kx)) * xp;
        RSSEG_INDEPENDENT
        for (int k = 0; k < s.c; ++k) to[k] += from[k];
      }
    const int count = inside ? (w.y1 > w.y0 ? w.y1 - w.y0 : 0) * (w.x1 > w.x0 ? w.x1 - w.x0 : 0) : p.kernel_h * p.kernel_w;
    const T factor = T(1) / T(count > 0 ? count : 1);
    for (int k = 0; k < s.c; ++k) to[k] *= factor;
  });
}
template <class T>
void avg_pool_grad(const call<T>& c) {
  const shape s = c.extent(), o = c.in_extent(0);
  const detail::pool_window p = detail::window_of(c.at(), s);
  const bool inside = c.at().flag2;
  const T* dy = c.in(0);
  T* dx = c.out();
  const std::int64_t dyp = c.in_pitch(0), dxp = c.out_pitch();
  sweep<T>(std::int64_t(s.n) * s.h, 1, [=](std::int64_t b, std::int64_t e) RSSEG_INLINE_BODY {
    for (std::int64_t row = b; row < e; ++row) {
      const int iy = int(row % s.h);
      int oy0, oy1, ox0, ox1, y0, y1, x0, x1;
      detail::covering(iy, p.kernel_h, p.dilation_h, p.stride_h, p.pad_top, o.h, oy0, oy1);
      for (int ix = 0; ix < s.w; ++ix) {
        detail::covering(ix, p.kernel_w, p.dilation_w, p.stride_w, p.pad_left, o.w, ox0, ox1);
        T* to = dx + (row * s.w + ix) * dxp;
        for (int k = 0; k < s.c; ++k) to[k] = 0;
        for (int oy = oy0; oy < oy1; ++oy) {
          const int top = oy * p.stride_h - p.pad_top;
          if ((iy - top) % p.dilation_h != 0) continue;
          detail::valid_taps(top, p.kernel_h, p.dilation_h, s.h, y0, y1);
          for (int ox = ox0; ox < ox1; ++ox) {
            const int left = ox * p.stride_w - p.pad_left;
            if ((ix - left) % p.dilation_w != 0) continue;
            detail::valid_taps(left, p.kernel_w, p.dilation_w, s.w, x0, x1);
            const T factor = T(1) / T(inside ? (y1 - y0) * (x1 - x0) : p.kernel_h * p.kernel_w);
            const T* from = dy + ((row / s.h * o.h + oy) * o.w + ox) * dyp;
            RSSEG_INDEPENDENT
            for (int k = 0; k < s.c; ++k) to[k] += from[k] * factor;
          }
        }
      }
    }
  });
}

namespace detail {
/// Window i of n over `size` pixels.
constexpr int bin_begin(int i, int n, int size) { return int(std::int64_t(i) * size / n); }
constexpr int bin_end(int i, int n, int size) { return int((std::int64_t(i + 1) * size + n - 1) / n); }
}  // namespace detail

template <class T>
void adaptive_avg_pool(const call<T>& c) {
  const shape s = c.in_extent(0), o = c.extent();
  const T* x = c.in(0);
  T* y = c.out();
  const std::int64_t xp = c.in_pitch(0), yp = c.out_pitch();
  const int tiles = (s.c + 63) / 64;
  sweep<T>(o.pixels() * tiles, items_per_chunk(s.size() / o.pixels() / tiles + 1), [=](std::int64_t b, std::int64_t e) RSSEG_INLINE_BODY {
    for (std::int64_t item = b; item < e; ++item) {
      const int c0 = int(item % tiles) * 64, width = s.c - c0 < 64 ? s.c - c0 : 64;
      const std::int64_t pixel = item / tiles, n = pixel / (o.h * o.w);
      const int oy = int(pixel / o.w % o.h), ox = int(pixel % o.w);
      const int y0 = detail::bin_begin(oy, o.h, s.h), y1 = detail::bin_end(oy, o.h, s.h);
      const int x0 = detail::bin_begin(ox, o.w, s.w), x1 = detail::bin_end(ox, o.w, s.w);
      double total[64] = {};
      for (int iy = y0; iy < y1; ++iy)
        for (int from = x0; from < x1; from += block_rows) {
          const int to = from + block_rows < x1 ? from + block_rows : x1;
          T sum[64] = {};
          for (int ix = from; ix < to; ++ix) {
            const T* p = x + ((n * s.h + iy) * s.w + ix) * xp + c0;
            for (int k = 0; k < width; ++k) sum[k] += p[k];
          }
          for (int k = 0; k < width; ++k) total[k] += double(sum[k]);
        }
      const double count = double(y1 - y0) * (x1 - x0);
      for (int k = 0; k < width; ++k) y[pixel * yp + c0 + k] = T(total[k] / count);
    }
  });
}
template <class T>
void adaptive_avg_pool_grad(const call<T>& c) {
  const shape s = c.extent(), o = c.in_extent(0);
  const T* dy = c.in(0);
  T* dx = c.out();
  const std::int64_t dyp = c.in_pitch(0), dxp = c.out_pitch();
  sweep<T>(std::int64_t(s.n) * s.h, 1, [=](std::int64_t b, std::int64_t e) RSSEG_INLINE_BODY {
    for (std::int64_t row = b; row < e; ++row) {
      const int iy = int(row % s.h);
      const int oy0 = int(std::int64_t(iy) * o.h / s.h), oy1 = int((std::int64_t(iy + 1) * o.h + s.h - 1) / s.h);
      for (int ix = 0; ix < s.w; ++ix) {
        const int ox0 = int(std::int64_t(ix) * o.w / s.w), ox1 = int((std::int64_t(ix + 1) * o.w + s.w - 1) / s.w);
        T* to = dx + (row * s.w + ix) * dxp;
        for (int k = 0; k < s.c; ++k) to[k] = 0;
        for (int oy = oy0; oy < oy1; ++oy)
          for (int ox = ox0; ox < ox1; ++ox) {
            const int height = detail::bin_end(oy, o.h, s.h) - detail::bin_begin(oy, o.h, s.h);
            const int width = detail::bin_end(ox, o.w, s.w) - detail::bin_begin(ox, o.w, s.w);
            const T factor = T(1) / (T(height) * T(width));
            const T* from = dy + ((row / s.h * o.h + oy) * o.w + ox) * dyp;
            RSSEG_INDEPENDENT
            for (int k = 0; k < s.c; ++k) to[k] += from[k] * factor;
          }
      }
    }
  });
}

}  // namespace rsseg::cpu
