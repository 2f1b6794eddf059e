// SPDX-License-Identifier: MIT
// Entries of what moves values: resizing and its adjoint (graph/ops/resize.hpp), padding, slices, concatenation, turns (graph/ops/arrange.hpp).
// Resizing reads its positions from tables made on the host, in double precision, when a size is planned: the CPU's positions, bit for bit.
#pragma once
#include "../elementwise.cuh"
#include "../tensor_ops.cuh"
#include "call.cuh"
#include "rsseg/graph/ops/arrange.hpp"
#include "rsseg/graph/ops/resize.hpp"
#include "rsseg/graph/resize_samples.hpp"

namespace rsseg::cuda {
inline namespace RSSEG_BACKEND_NS {

using axis_sample = graph::axis_sample<float>;
using graph::axis_readers, graph::fill_readers, graph::fill_samples;

inline std::size_t resize_table(const graph::graph&, int id, const shape* s) { return sizeof(axis_sample) * std::size_t(s[id].h + s[id].w); }
inline void fill_resize_table(const graph::graph& g, int id, const shape* s, void* to) {
  const shape in = s[g.input_of(id, 0)], out = s[id];
  axis_sample* rows = static_cast<axis_sample*>(to);
  fill_samples(g.nodes[id].at, in.h, out.h, rows), fill_samples(g.nodes[id].at, in.w, out.w, rows + out.h);
}
inline std::size_t resize_grad_table(const graph::graph& g, int id, const shape* s) {
  const shape dy = s[g.input_of(id, 0)];
  return sizeof(axis_sample) * std::size_t(dy.h + dy.w) + sizeof(axis_readers) * std::size_t(s[id].h + s[id].w);
}
inline void fill_resize_grad_table(const graph::graph& g, int id, const shape* s, void* to) {
  const shape out = s[g.input_of(id, 0)], in = s[id];
  axis_sample *rows = static_cast<axis_sample*>(to), *columns = rows + out.h;
  axis_readers *row_readers = reinterpret_cast<axis_readers*>(columns + out.w), *column_readers = row_readers + in.h;
  fill_samples(g.nodes[id].at, in.h, out.h, rows), fill_samples(g.nodes[id].at, in.w, out.w, columns);
  fill_readers(rows, in.h, out.h, row_readers), fill_readers(columns, in.w, out.w, column_readers);
}

template <class T, int V>
struct resize_values {
  shape s, o;
  const axis_sample *rows, *columns;
  const T* x;
  T* y;
  __device__ void operator()(std::int64_t pack_index) const {
    const std::int64_t i = pack_index * V;
    const place_of at(i, o);
    const axis_sample v = rows[at.h], u = columns[at.w];
    const float a = (1 - v.f) * (1 - u.f), b = (1 - v.f) * u.f, c = v.f * (1 - u.f), d = v.f * u.f;
    const pack<T, V> p = load_pack<V>(x + offset_of(s, at.n, v.low, u.low, at.c)), q = load_pack<V>(x + offset_of(s, at.n, v.low, u.high, at.c)),
                     r = load_pack<V>(x + offset_of(s, at.n, v.high, u.low, at.c)), t = load_pack<V>(x + offset_of(s, at.n, v.high, u.high, at.c));
    pack<T, V> out;
    RSSEG_UNROLL
    for (int k = 0; k < V; ++k) out.v[k] = from_float<T>(a * to_float(p.v[k]) + b * to_float(q.v[k]) + (c * to_float(r.v[k]) + d * to_float(t.v[k])));
    store_pack<V>(y + i, out);
  }
};
template <class T, int V>
struct resize_gradient {
  shape s, o;  // of dx, of dy
  const axis_sample *rows, *columns;
  const axis_readers *row_readers, *column_readers;
  const T* dy;
  T* dx;
  static __device__ float weight(const axis_sample& a, int at) { return (a.low == at ? 1 - a.f : 0.0f) + (a.high == at ? a.f : 0.0f); }
  __device__ void operator()(std::int64_t pack_index) const {
    const std::int64_t i = pack_index * V;
    const place_of at(i, s);
    const axis_readers v = row_readers[at.h], u = column_readers[at.w];
    float sum[V] = {};
    for (int oy = v.first; oy < v.last; ++oy) {
      const float wy = weight(rows[oy], at.h);
      for (int ox = u.first; ox < u.last; ++ox) {
        const float w = wy * weight(columns[ox], at.w);
        const pack<T, V> d = load_pack<V>(dy + offset_of(o, at.n, oy, ox, at.c));
        RSSEG_UNROLL
        for (int k = 0; k < V; ++k) sum[k] += w * to_float(d.v[k]);
      }
    }
    pack<T, V> out;
    RSSEG_UNROLL
    for (int k = 0; k < V; ++k) out.v[k] = from_float<T>(sum[k]);
    store_pack<V>(dx + i, out);
  }
};
template <class T>
void resize(const call<T>& c) {
  constexpr int V = full_pack<T>;
  const shape s = c.in_extent(0), o = c.extent();
  const axis_sample* rows = static_cast<const axis_sample*>(c.table);
  if (s.c % V == 0)
    each(c.stream(), "resize", o.size() / V, resize_values<T, V>{s, o, rows, rows + o.h, c.in(0), c.out()});
  else
    each(c.stream(), "resize", o.size(), resize_values<T, 1>{s, o, rows, rows + o.h, c.in(0), c.out()});
}
template <class T>
void resize_grad(const call<T>& c) {
  constexpr int V = full_pack<T>;
  const shape o = c.in_extent(0), s = c.extent();
  const axis_sample *rows = static_cast<const axis_sample*>(c.table), *columns = rows + o.h;
  const axis_readers *row_readers = reinterpret_cast<const axis_readers*>(columns + o.w), *column_readers = row_readers + s.h;
  if (s.c % V == 0)
    each(c.stream(), "resize gradient", s.size() / V, resize_gradient<T, V>{s, o, rows, columns, row_readers, column_readers, c.in(0), c.out()});
  else
    each(c.stream(), "resize gradient", s.size(), resize_gradient<T, 1>{s, o, rows, columns, row_readers, column_readers, c.in(0), c.out()});
}

// --- channels and batches
template <class T>
void concat(const call<T>& c) {
  const shape o = c.extent();
  int begin = 0;
  for (int k = 0; k < c.count(); ++k) {
    const int width = c.in_extent(k).c;
    window_copy p;
    p.n = o.n, p.h = p.from_h = p.to_h = o.h, p.w = p.from_w = p.to_w = o.w;
    p.c = p.from_c = width, p.to_c = o.c, p.to_channel = begin;
    copy_window<T>(c.stream(), p, c.in(k), c.out());
    begin += width;
  }
}
template <class T>
void slice(const call<T>& c) {
  const shape o = c.extent();
  window_copy p;
  p.n = o.n, p.h = p.from_h = p.to_h = o.h, p.w = p.from_w = p.to_w = o.w;
  p.c = p.to_c = o.c, p.from_c = c.in_extent(0).c, p.from_channel = c.at().begin;
  copy_window<T>(c.stream(), p, c.in(0), c.out());
}
template <class T>
void slice_grad(const call<T>& c) {
  const shape o = c.extent();
  if (c.at().count != o.c) set_bytes(c.stream(), c.out(), 0, std::size_t(o.size()) * sizeof(T));
  window_copy p;
  p.n = o.n, p.h = p.from_h = p.to_h = o.h, p.w = p.from_w = p.to_w = o.w;
  p.c = p.from_c = c.in_extent(0).c, p.to_c = o.c, p.to_channel = c.at().begin;
  copy_window<T>(c.stream(), p, c.in(0), c.out());
}
template <class T>
void batch_concat(const call<T>& c) {
  T* to = c.out();
  for (int k = 0; k < c.count(); ++k) {
    copy_values(c.stream(), c.in(k), to, c.in_extent(k).size());
    to += c.in_extent(k).size();
  }
}
template <class T>
void batch_slice(const call<T>& c) {
  copy_values(c.stream(), c.in(0) + c.at().begin * c.extent().size(), c.out(), c.extent().size());
}
template <class T>
void batch_slice_grad(const call<T>& c) {
  const std::int64_t size = c.in_extent(0).size();
  set_bytes(c.stream(), c.out(), 0, std::size_t(c.extent().size()) * sizeof(T));
  copy_values(c.stream(), c.in(0), c.out() + c.at().begin * size, size);
}
template <class T>
void copy_first(const call<T>& c) {
  copy_values(c.stream(), c.in(0), c.out(), c.extent().size());
}

// --- padding and cropping
/// Input position behind output position i of a padded axis, or -1 for a zero.
RSSEG_HD inline int border_source(int i, int offset, int size, graph::ops::border how) {
  i -= offset;
  if (i >= 0 && i < size) return i;
  if (how == graph::ops::border::zero) return -1;
  if (how == graph::ops::border::replicate || size == 1) return i < 0 ? 0 : size - 1;
  const int period = 2 * (size - 1);
  i %= period;
  if (i < 0) i += period;
  return i < size ? i : period - i;
}
template <class T>
struct pad_values {
  shape s, o;
  int top, left;
  graph::ops::border how;
  const T* x;
  T* y;
  __device__ void operator()(std::int64_t i) const {
    const place_of at(i, o);
    const int iy = border_source(at.h, top, s.h, how), ix = border_source(at.w, left, s.w, how);
    y[i] = iy < 0 || ix < 0 ? from_float<T>(0.0f) : x[offset_of(s, at.n, iy, ix, at.c)];
  }
};
/// A gather: with borders that repeat pixels, each pixel looks through the rows and columns that may read it.
template <class T>
struct pad_gradient {
  shape s, o;  // of dx, of dy
  int top, left;
  graph::ops::border how;
  const T* dy;
  T* dx;
  __device__ void operator()(std::int64_t i) const {
    const place_of at(i, s);
    const bool zero = how == graph::ops::border::zero;
    const int first_y = zero ? at.h + top : 0, last_y = zero ? at.h + top + 1 : o.h;
    const int first_x = zero ? at.w + left : 0, last_x = zero ? at.w + left + 1 : o.w;
    float sum = 0;
    for (int oy = imax(first_y, 0); oy < imin(last_y, o.h); ++oy) {
      if (border_source(oy, top, s.h, how) != at.h) continue;
      for (int ox = imax(first_x, 0); ox < imin(last_x, o.w); ++ox)
        if (border_source(ox, left, s.w, how) == at.w) sum += to_float(dy[offset_of(o, at.n, oy, ox, at.c)]);
    }
    dx[i] = from_float<T>(sum);
  }
};
template <class T>
void pad_crop(const call<T>& c) {
  const shape s = c.in_extent(0), o = c.extent();
  int top, left;
  graph::ops::pad_offset(c.at(), s.h, s.w, o.h, o.w, top, left);
  each(c.stream(), "pad_crop", o.size(), pad_values<T>{s, o, top, left, graph::ops::border(c.at().mode), c.in(0), c.out()});
}
template <class T>
void pad_crop_grad(const call<T>& c) {
  const shape o = c.in_extent(0), s = c.extent();
  int top, left;
  graph::ops::pad_offset(c.at(), s.h, s.w, o.h, o.w, top, left);
  each(c.stream(), "pad_crop gradient", s.size(), pad_gradient<T>{s, o, top, left, graph::ops::border(c.at().mode), c.in(0), c.out()});
}

/// Flips (1: up-down, 2: left-right), then quarter turns counter-clockwise: one strided copy.
template <class T>
void rotate(const call<T>& c) {
  const shape s = c.in_extent(0), o = c.extent();
  const int turns = c.at().begin % 4, flips = c.at().count;
  const std::int64_t row = std::int64_t(s.w) * s.c;
  strided_view from;
  from.step[0] = std::int64_t(s.h) * row, from.step[3] = 1;
  // Output (i, j) reads row y0 + yi i + yj j and column x0 + xi i + xj j.
  int y0 = 0, yi = 0, yj = 0, x0 = 0, xi = 0, xj = 0;
  if (turns == 0) yi = 1, xj = 1;
  if (turns == 1) yj = 1, x0 = s.w - 1, xi = -1;
  if (turns == 2) y0 = s.h - 1, yi = -1, x0 = s.w - 1, xj = -1;
  if (turns == 3) y0 = s.h - 1, yj = -1, xi = 1;
  if (flips & 1) y0 = s.h - 1 - y0, yi = -yi, yj = -yj;
  if (flips & 2) x0 = s.w - 1 - x0, xi = -xi, xj = -xj;
  from.offset = y0 * row + std::int64_t(x0) * s.c;
  from.step[1] = yi * row + std::int64_t(xi) * s.c, from.step[2] = yj * row + std::int64_t(xj) * s.c;
  strided_copy<T>(c.stream(), o, from, view_of(o), c.in(0), c.out());
}

}  // namespace RSSEG_BACKEND_NS
}  // namespace rsseg::cuda
