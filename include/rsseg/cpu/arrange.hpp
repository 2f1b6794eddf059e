// SPDX-License-Identifier: MIT
// Moving values (graph/ops/arrange.hpp): row by row, each output row by one thread.
#pragma once
#include "rsseg/cpu/call.hpp"
#include "rsseg/cpu/loops.hpp"
#include "rsseg/graph/ops/arrange.hpp"

namespace rsseg::cpu {

namespace detail {
/// Copies `width` channels of every pixel from column `from` of x to column `to` of y, whose pixels are x_pitch and y_pitch apart.
template <class T>
inline void copy_columns(std::int64_t pixels, const T* x, std::int64_t x_pitch, int from, T* y, std::int64_t y_pitch, int to, int width) {
  x += from, y += to;
  if (x == y && x_pitch == y_pitch) return;  // the plan gave both the same memory
  sweep<T>(pixels, items_per_chunk(width), [=](std::int64_t b, std::int64_t e) RSSEG_INLINE_BODY {
    for (std::int64_t i = b; i < e; ++i) {
      const T* p = x + i * x_pitch;
      T* q = y + i * y_pitch;
      RSSEG_INDEPENDENT
      for (int k = 0; k < width; ++k) q[k] = p[k];
    }
  });
}
}  // namespace detail

/// Inputs that the plan put into the result's memory are there already.
template <class T>
void concat(const call<T>& c) {
  const shape o = c.extent();
  T* y = c.out();
  const std::int64_t yp = c.out_pitch();
  int copied = 0, begin = 0;  // channels
  for (int n = 0; n < c.inputs(); begin += c.in_extent(n++).c)
    if (c.in(n) != y + begin || c.in_pitch(n) != yp) copied += c.in_extent(n).c;
  if (copied == 0) return;
  const call<T>* self = &c;
  sweep<T>(o.pixels(), items_per_chunk(copied),
           [=](std::int64_t b, std::int64_t e) RSSEG_INLINE_BODY {  // all parts of a pixel while it is in the cache
             T* part = y;
             for (int n = 0; n < self->inputs(); ++n) {
               const int width = self->in_extent(n).c;
               const T* x = self->in(n);
               const std::int64_t xp = self->in_pitch(n);
               if (x != part || xp != yp)
                 for (std::int64_t i = b; i < e; ++i) {
                   RSSEG_INDEPENDENT
                   for (int k = 0; k < width; ++k) part[i * yp + k] = x[i * xp + k];
                 }
               part += width;
             }
           });
}
template <class T>
void slice(const call<T>& c) {
  detail::copy_columns(c.extent().pixels(), c.in(0), c.in_pitch(0), c.at().begin, c.out(), c.out_pitch(), 0, c.at().count);
}
template <class T>
void slice_grad(const call<T>& c) {
  const shape o = c.extent();
  if (c.at().count != o.c) fill(rows_of(o.pixels(), o.c, c.out_pitch(), c.out_pitch()), c.out(), T(0));
  detail::copy_columns(o.pixels(), c.in(0), c.in_pitch(0), 0, c.out(), c.out_pitch(), c.at().begin, c.at().count);
}

template <class T>
void batch_concat(const call<T>& c) {
  T* to = c.out();
  for (int k = 0; k < c.inputs(); ++k) {
    const shape s = c.in_extent(k);
    copy(rows_of(s.pixels(), s.c, c.in_pitch(k), c.out_pitch()), c.in(k), to);
    to += s.pixels() * c.out_pitch();
  }
}
template <class T>
void batch_slice(const call<T>& c) {
  const shape o = c.extent();
  copy(rows_of(o.pixels(), o.c, c.in_pitch(0), c.out_pitch()), c.in(0) + c.at().begin * o.pixels() * c.in_pitch(0), c.out());
}
template <class T>
void batch_slice_grad(const call<T>& c) {
  const std::int64_t size = c.in_extent(0).size(), begin = c.at().begin * size;
  fill(begin, c.out(), T(0));
  copy(size, c.in(0), c.out() + begin);
  fill(c.extent().size() - begin - size, c.out() + begin + size, T(0));
}
template <class T>
void reshape(const call<T>& c) {
  copy(c.extent().size(), c.in(0), c.out());
}

namespace detail {
/// Input position behind output position i of a padded axis, or -1 for a zero.
RSSEG_ALWAYS_INLINE int source_of(int i, int offset, int size, graph::ops::border how) {
  i -= offset;
  if (i >= 0 && i < size) return i;
  if (how == graph::ops::border::zero) return -1;
  if (how == graph::ops::border::replicate || size == 1) return i < 0 ? 0 : size - 1;
  const int period = 2 * (size - 1);  // mirror at the outermost pixels, which are not repeated
  i %= period;
  if (i < 0) i += period;
  return i < size ? i : period - i;
}
}  // namespace detail
template <class T>
void pad_crop(const call<T>& c) {
  const shape s = c.in_extent(0), o = c.extent();
  int top, left;
  graph::ops::pad_offset(c.at(), s.h, s.w, o.h, o.w, top, left);
  const auto how = graph::ops::border(c.at().mode);
  const T* x = c.in(0);
  T* y = c.out();
  const std::int64_t xp = c.in_pitch(0), yp = c.out_pitch();
  sweep<T>(std::int64_t(o.n) * o.h, items_per_chunk(std::int64_t(o.w) * o.c), [=](std::int64_t b, std::int64_t e) RSSEG_INLINE_BODY {
    for (std::int64_t row = b; row < e; ++row) {
      const int iy = detail::source_of(int(row % o.h), top, s.h, how);
      for (int ox = 0; ox < o.w; ++ox) {
        const int ix = iy < 0 ? -1 : detail::source_of(ox, left, s.w, how);
        T* to = y + (row * o.w + ox) * yp;
        if (ix < 0) {
          for (int k = 0; k < o.c; ++k) to[k] = 0;
        } else {
          const T* from = x + ((row / o.h * s.h + iy) * s.w + ix) * xp;
          RSSEG_INDEPENDENT
          for (int k = 0; k < o.c; ++k) to[k] = from[k];
        }
      }
    }
  });
}
template <class T>
void pad_crop_grad(const call<T>& c) {
  const shape o = c.in_extent(0), s = c.extent();  // dy has the padded extent
  int top, left;
  graph::ops::pad_offset(c.at(), s.h, s.w, o.h, o.w, top, left);
  const auto how = graph::ops::border(c.at().mode);
  const T* dy = c.in(0);
  T* dx = c.out();
  const std::int64_t dyp = c.in_pitch(0), dxp = c.out_pitch();
  sweep<T>(std::int64_t(s.n) * s.h, items_per_chunk(std::int64_t(s.w) * s.c), [=](std::int64_t b, std::int64_t e) RSSEG_INLINE_BODY {
    for (std::int64_t row = b; row < e; ++row) {
      const int iy = int(row % s.h);
      T* line = dx + row * s.w * dxp;
      for (int i = 0; i < s.w; ++i)
        for (int k = 0; k < s.c; ++k) line[i * dxp + k] = 0;
      const bool zero = how == graph::ops::border::zero;
      const int first = zero ? iy + top : 0, last = zero ? iy + top + 1 : o.h;  // rows of dy that may read this one
      for (int oy = first; oy < last; ++oy) {
        if (oy < 0 || oy >= o.h || detail::source_of(oy, top, s.h, how) != iy) continue;
        for (int ox = 0; ox < o.w; ++ox) {
          const int ix = detail::source_of(ox, left, s.w, how);
          if (ix < 0) continue;
          const T* from = dy + ((row / s.h * o.h + oy) * o.w + ox) * dyp;
          T* to = line + ix * dxp;
          RSSEG_INDEPENDENT
          for (int k = 0; k < s.c; ++k) to[k] += from[k];
        }
      }
    }
  });
}

/// Flips (1: up-down, 2: left-right), then quarter turns counter-clockwise: out[i][j] = in[j][W-1-i] for one.
template <class T>
void rotate(const call<T>& c) {
  const shape s = c.in_extent(0), o = c.extent();
  const int turns = c.at().begin % 4, flips = c.at().count;
  const T* x = c.in(0);
  T* y = c.out();
  const std::int64_t xp = c.in_pitch(0), yp = c.out_pitch();
  sweep<T>(std::int64_t(o.n) * o.h, items_per_chunk(std::int64_t(o.w) * o.c), [=](std::int64_t b, std::int64_t e) RSSEG_INLINE_BODY {
    for (std::int64_t row = b; row < e; ++row) {
      const int i = int(row % o.h);
      for (int j = 0; j < o.w; ++j) {
        int iy = turns == 0 ? i : turns == 1 ? j : turns == 2 ? s.h - 1 - i : s.h - 1 - j;
        int ix = turns == 0 ? j : turns == 1 ? s.w - 1 - i : turns == 2 ? s.w - 1 - j : i;
        if (flips & 1) iy = s.h - 1 - iy;
        if (flips & 2) ix = s.w - 1 - ix;
        const T* from = x + ((row / o.h * s.h + iy) * s.w + ix) * xp;
        T* to = y + (row * o.w + j) * yp;
        RSSEG_INDEPENDENT
        for (int k = 0; k < s.c; ++k) to[k] = from[k];
      }
    }
  });
}

}  // namespace rsseg::cpu
