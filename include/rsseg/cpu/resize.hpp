// SPDX-License-Identifier: MIT
// Resizing and its adjoint. Positions are computed once per axis (graph/resize_samples.hpp) into tables in the workspace. The adjoint is a
// gather: every input pixel adds up the outputs that read it, in order, so that threads never meet.
#pragma once
#include <cmath>

#include "rsseg/cpu/call.hpp"
#include "rsseg/cpu/loops.hpp"
#include "rsseg/graph/ops/resize.hpp"
#include "rsseg/graph/resize_samples.hpp"

namespace rsseg::cpu {

namespace detail {
using sample = graph::axis_sample<double>;
using graph::fill_readers, graph::fill_samples;
using readers = graph::axis_readers;

/// Weight of input position `at` in output sample s.
template <class T>
RSSEG_ALWAYS_INLINE T weight_of(const sample& s, int at) {
  return (s.low == at ? T(1 - s.f) : T(0)) + (s.high == at ? T(s.f) : T(0));
}

/// One output row: each pixel the blend of four input pixels. Constant `channels` lets few of them unroll.
template <class T>
RSSEG_ALWAYS_INLINE void blend_row(const T* upper, const T* lower, T fy, const sample* xs, int out_w, int channels, std::int64_t in_pitch, T* to,
                                   std::int64_t out_pitch) {
  const T gy = 1 - fy;
  for (int ox = 0; ox < out_w; ++ox) {
    const T fx = T(xs[ox].f), a = gy * (1 - fx), b = gy * fx, c = fy * (1 - fx), d = fy * fx;
    const T* p = upper + xs[ox].low * in_pitch;
    const T* q = upper + xs[ox].high * in_pitch;
    const T* r = lower + xs[ox].low * in_pitch;
    const T* s = lower + xs[ox].high * in_pitch;
    T* y = to + ox * out_pitch;
    RSSEG_INDEPENDENT
    for (int k = 0; k < channels; ++k) y[k] = a * p[k] + b * q[k] + (c * r[k] + d * s[k]);
  }
}
}  // namespace detail

inline std::size_t resize_space(const graph::graph&, int id, const shape* s) { return sizeof(detail::sample) * std::size_t(s[id].h + s[id].w); }
template <class T>
void resize(const call<T>& c) {
  const shape s = c.in_extent(0), o = c.extent();
  detail::sample* ys = static_cast<detail::sample*>(c.workspace);
  detail::sample* xs = ys + o.h;
  detail::fill_samples(c.at(), s.h, o.h, ys);
  detail::fill_samples(c.at(), s.w, o.w, xs);
  const bool nearest = graph::interpolation(c.at().mode) == graph::interpolation::nearest;
  const T* x = c.in(0);
  T* y = c.out();
  const std::int64_t xp = c.in_pitch(0), yp = c.out_pitch(), in_row = s.w * xp, out_row = o.w * yp;
  const std::int64_t rows = items_per_chunk(std::int64_t(o.w) * o.c);
  if (nearest)
    return sweep<T>(std::int64_t(o.n) * o.h, rows, [=](std::int64_t b, std::int64_t e) RSSEG_INLINE_BODY {
      for (std::int64_t row = b; row < e; ++row) {
        const T* from = x + (row / o.h * s.h + ys[row % o.h].low) * in_row;
        T* to = y + row * out_row;
        for (int ox = 0; ox < o.w; ++ox)
          for (int k = 0; k < s.c; ++k) to[ox * yp + k] = from[xs[ox].low * xp + k];
      }
    });
  sweep<T>(std::int64_t(o.n) * o.h, rows, [=](std::int64_t b, std::int64_t e) RSSEG_INLINE_BODY {
    for (std::int64_t row = b; row < e; ++row) {
      const detail::sample v = ys[row % o.h];
      const T* image = x + row / o.h * s.h * in_row;
      const T* upper = image + v.low * in_row;
      const T* lower = image + v.high * in_row;
      if (s.c == 1)
        detail::blend_row(upper, lower, T(v.f), xs, o.w, 1, xp, y + row * out_row, yp);
      else
        detail::blend_row(upper, lower, T(v.f), xs, o.w, s.c, xp, y + row * out_row, yp);
    }
  });
}

inline std::size_t resize_grad_space(const graph::graph& g, int id, const shape* s) {
  const shape dy = s[g.input_of(id, 0)];
  return sizeof(detail::sample) * std::size_t(dy.h + dy.w) + sizeof(detail::readers) * std::size_t(s[id].h + s[id].w);
}
template <class T>
void resize_grad(const call<T>& c) {
  const shape o = c.in_extent(0), s = c.extent();
  detail::sample* ys = static_cast<detail::sample*>(c.workspace);
  detail::sample* xs = ys + o.h;
  detail::readers* yr = reinterpret_cast<detail::readers*>(xs + o.w);
  detail::readers* xr = yr + s.h;
  detail::fill_samples(c.at(), s.h, o.h, ys);
  detail::fill_samples(c.at(), s.w, o.w, xs);
  detail::fill_readers(ys, s.h, o.h, yr);
  detail::fill_readers(xs, s.w, o.w, xr);
  const T* dy = c.in(0);
  T* dx = c.out();
  const std::int64_t dyp = c.in_pitch(0), dxp = c.out_pitch();
  const int tiles = (s.c + 63) / 64;
  const bool in_one_piece = tiles == 1 && dyp == s.c;
  // First down the columns into a strip that stays in the cache, then along the strip: two short sums instead of one long one.
  constexpr int strip = 4096;
  sweep<T>(std::int64_t(s.n) * s.h * tiles, 1, [=](std::int64_t b, std::int64_t e) RSSEG_INLINE_BODY {
    T line[strip];
    for (std::int64_t item = b; item < e; ++item) {
      const int c0 = int(item % tiles) * 64, width = s.c - c0 < 64 ? s.c - c0 : 64, room = strip / width;
      const std::int64_t row = item / tiles, n = row / s.h;
      const int iy = int(row % s.h);
      for (int ix = 0, next; ix < s.w; ix = next) {
        int first = o.w, last = 0;  // as many input pixels as have their readers in one strip
        for (next = ix; next < s.w; ++next) {
          if (xr[next].last == 0) continue;  // nobody reads it
          const int low = first < xr[next].first ? first : xr[next].first;
          if (next > ix && xr[next].last - low > room) break;
          first = low, last = xr[next].last;
        }
        for (int i = ix; i < next; ++i)
          for (int k = 0; k < width; ++k) dx[(row * s.w + i) * dxp + c0 + k] = 0;
        for (int from = first; from < last; from += room) {  // more than one strip: a single input pixel that very many outputs read
          const int to = from + room < last ? from + room : last, count = (to - from) * width;
          for (int j = 0; j < count; ++j) line[j] = 0;
          for (int oy = yr[iy].first; oy < yr[iy].last; ++oy) {
            const T wy = detail::weight_of<T>(ys[oy], iy);
            const T* p = dy + ((n * o.h + oy) * o.w + from) * dyp + c0;
            if (in_one_piece) {
              for (int j = 0; j < count; ++j) line[j] += wy * p[j];
            } else {
              for (int i = 0; i < to - from; ++i)
                for (int k = 0; k < width; ++k) line[i * width + k] += wy * p[i * dyp + k];
            }
          }
          for (int i = ix; i < next; ++i) {
            T* sum = dx + (row * s.w + i) * dxp + c0;
            const int begin = xr[i].first > from ? xr[i].first : from, end = xr[i].last < to ? xr[i].last : to;
            for (int ox = begin; ox < end; ++ox) {
              const T wx = detail::weight_of<T>(xs[ox], i);
              const T* p = line + (ox - from) * width;
              RSSEG_INDEPENDENT
              for (int k = 0; k < width; ++k) sum[k] += wx * p[k];
            }
          }
        }
      }
    }
  });
}

}  // namespace rsseg::cpu
