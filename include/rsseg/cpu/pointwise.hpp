// SPDX-License-Identifier: MIT
// Element-wise operators, broadcasts and reductions (graph/ops/pointwise.hpp). All element-wise ones may run in place.
#pragma once
#include <cmath>

#include "rsseg/cpu/call.hpp"
#include "rsseg/cpu/columns.hpp"
#include "rsseg/cpu/exp.hpp"
#include "rsseg/graph/ops/pointwise.hpp"

namespace rsseg::cpu {

namespace detail {
/// Rows of x = in(0) and y = out().
template <class T>
inline element_rows unary_rows(const call<T>& c) {
  return rows_of(c.extent().pixels(), c.extent().c, c.in_pitch(0), c.out_pitch());
}
template <class T>
inline element_rows result_rows(const call<T>& c) {
  return rows_of(c.extent().pixels(), c.extent().c, c.out_pitch(), c.out_pitch());
}
}  // namespace detail

template <class T>
void unary(const call<T>& c) {
  using graph::function;
  const element_rows n = detail::unary_rows(c);
  const T* x = c.in(0);
  T* y = c.out();
  const T a = T(c.at().alpha);
  switch (function(c.at().mode)) {
    case function::relu:  // a NaN stays visible
      return map(n, x, y, [](T v) RSSEG_INLINE_BODY { return v < 0 ? T(0) : v; });
    case function::relu6:
      return map(n, x, y, [](T v) RSSEG_INLINE_BODY { return v < 0 ? T(0) : v > 6 ? T(6) : v; });
    case function::leaky_relu:
      return map(n, x, y, [a](T v) RSSEG_INLINE_BODY { return v > 0 ? v : a * v; });
    case function::elu:
      return map(n, x, y, [a](T v) RSSEG_INLINE_BODY { return v > 0 ? v : a * std::expm1(v); });
    case function::sigmoid:
      return map(n, x, y, [](T v) RSSEG_INLINE_BODY { return T(1) / (T(1) + vector_exp(-v)); });
    case function::tanh:
      return map(n, x, y, [](T v) RSSEG_INLINE_BODY { return std::tanh(v); });
    case function::exp:
      return map(n, x, y, [](T v) RSSEG_INLINE_BODY { return vector_exp(v); });
    case function::log:
      return map(n, x, y, [](T v) RSSEG_INLINE_BODY { return std::log(v); });
    case function::sqrt:
      return map(n, x, y, [](T v) RSSEG_INLINE_BODY { return std::sqrt(v); });
    case function::rsqrt:
      return map(n, x, y, [](T v) RSSEG_INLINE_BODY { return T(1) / std::sqrt(v); });
    case function::reciprocal:
      return map(n, x, y, [](T v) RSSEG_INLINE_BODY { return T(1) / v; });
    case function::square:
      return map(n, x, y, [](T v) RSSEG_INLINE_BODY { return v * v; });
    case function::abs:
      return map(n, x, y, [](T v) RSSEG_INLINE_BODY { return v < 0 ? -v : v; });
    case function::clamp_min:
      return map(n, x, y, [a](T v) RSSEG_INLINE_BODY { return v < a ? a : v; });
    case function::clamp_max:
      return map(n, x, y, [a](T v) RSSEG_INLINE_BODY { return v > a ? a : v; });
    case function::sign:
      return map(n, x, y, [](T v) RSSEG_INLINE_BODY { return v > 0 ? T(1) : v < 0 ? T(-1) : T(0); });
  }
}

/// (dy, r): r is y or x, as derivative_reads_result says. At kinks: relu 0, leaky_relu the slope, clamps 1, abs 0, as PyTorch.
template <class T>
void unary_grad(const call<T>& c) {
  using graph::function;
  const element_rows n = rows_of(c.extent().pixels(), c.extent().c, c.in_pitch(0), c.in_pitch(1), c.out_pitch());
  const T *dy = c.in(0), *r = c.in(1);
  T* dx = c.out();
  const T a = T(c.at().alpha);
  switch (function(c.at().mode)) {
    case function::relu:
      return map(n, dy, r, dx, [](T d, T y) RSSEG_INLINE_BODY { return y > 0 ? d : T(0); });
    case function::relu6:
      return map(n, dy, r, dx, [](T d, T y) RSSEG_INLINE_BODY { return ((y > 0) & (y < 6)) ? d : T(0); });
    case function::leaky_relu:
      return map(n, dy, r, dx, [a](T d, T x) RSSEG_INLINE_BODY { return x > 0 ? d : a * d; });
    case function::elu:
      return map(n, dy, r, dx, [a](T d, T y) RSSEG_INLINE_BODY { return y > 0 ? d : d * (y + a); });
    case function::sigmoid:
      return map(n, dy, r, dx, [](T d, T y) RSSEG_INLINE_BODY { return d * (y * (1 - y)); });
    case function::tanh:
      return map(n, dy, r, dx, [](T d, T y) RSSEG_INLINE_BODY { return d * (1 - y * y); });
    case function::exp:
      return map(n, dy, r, dx, [](T d, T y) RSSEG_INLINE_BODY { return d * y; });
    case function::log:
      return map(n, dy, r, dx, [](T d, T x) RSSEG_INLINE_BODY { return d / x; });
    case function::sqrt:
      return map(n, dy, r, dx, [](T d, T y) RSSEG_INLINE_BODY { return d / (2 * y); });
    case function::rsqrt:
      return map(n, dy, r, dx, [](T d, T y) RSSEG_INLINE_BODY { return d * (T(-0.5) * y * y * y); });
    case function::reciprocal:
      return map(n, dy, r, dx, [](T d, T y) RSSEG_INLINE_BODY { return -d * y * y; });
    case function::square:
      return map(n, dy, r, dx, [](T d, T x) RSSEG_INLINE_BODY { return d * (x + x); });
    case function::abs:
      return map(n, dy, r, dx, [](T d, T x) RSSEG_INLINE_BODY { return x > 0 ? d : x < 0 ? -d : T(0); });
    case function::clamp_min:
      return map(n, dy, r, dx, [a](T d, T x) RSSEG_INLINE_BODY { return x < a ? T(0) : d; });
    case function::clamp_max:
      return map(n, dy, r, dx, [a](T d, T x) RSSEG_INLINE_BODY { return x > a ? T(0) : d; });
    case function::sign:
      return fill(detail::result_rows(c), dx, T(0));
  }
}

namespace detail {
/// f(element of each tensor, its slope) over all pixels; one slope for all channels, or one per channel.
template <class T, class F>
inline void with_slope(const shape& s, const T* slope, std::int64_t slopes, std::int64_t pitch_a, std::int64_t pitch_b, std::int64_t pitch_c,
                       const F& f) {
  const int channels = s.c;
  const bool dense = pitch_a == channels && pitch_b == channels && pitch_c == channels;
  sweep<T>(s.pixels(), items_per_chunk(channels), [=](std::int64_t b, std::int64_t e) RSSEG_INLINE_BODY {
    const bool one = slopes == 1;
    const T only = *slope;
    const std::int64_t step = one && dense ? e - b : 1;
    for (std::int64_t i = b; i < e; i += step) {
      const std::int64_t at_a = i * pitch_a, at_b = i * pitch_b, at_c = i * pitch_c, n = step * channels;
      if (one) {
        RSSEG_INDEPENDENT
        for (std::int64_t k = 0; k < n; ++k) f(at_a + k, at_b + k, at_c + k, only);
      } else {
        RSSEG_INDEPENDENT
        for (int k = 0; k < channels; ++k) f(at_a + k, at_b + k, at_c + k, slope[k]);
      }
    }
  });
}
}  // namespace detail
template <class T>
void prelu(const call<T>& c) {
  const T* x = c.in(0);
  T* y = c.out();
  detail::with_slope<T>(c.extent(), c.in(1), c.in_extent(1).size(), c.in_pitch(0), c.out_pitch(), c.out_pitch(),
                        [=](std::int64_t i, std::int64_t o, std::int64_t, T a) RSSEG_INLINE_BODY {
                          const T v = x[i];
                          y[o] = choose(v > 0, T(1), a) * v;
                        });
}
template <class T>
void prelu_grad(const call<T>& c) {
  const T *dy = c.in(0), *x = c.in(1);
  T* dx = c.out();
  detail::with_slope<T>(c.extent(), c.in(2), c.in_extent(2).size(), c.in_pitch(0), c.in_pitch(1), c.out_pitch(),
                        [=](std::int64_t d, std::int64_t i, std::int64_t o, T a) RSSEG_INLINE_BODY { dx[o] = choose(x[i] > 0, T(1), a) * dy[d]; });
}
inline std::size_t prelu_slope_grad_space(const graph::graph& g, int id, const shape* s) {
  const shape x = s[g.input_of(id, 1)];
  return sizeof(double) * std::size_t(column_space(cut_columns(1, x.pixels(), x.c), 1));
}
template <class T>
void prelu_slope_grad(const call<T>& c) {
  const T *dy = c.in(0), *x = c.in(1);
  const shape s = c.in_extent(1);
  double* partial = static_cast<double*>(c.workspace);
  sum_columns<T, 1>(cut_columns(1, s.pixels(), s.c), partial, c.in_pitch(0), c.in_pitch(1),
                    [=](std::int64_t d, std::int64_t i, int, T* t) RSSEG_INLINE_BODY {
                      const T v = x[i];
                      t[0] = keep_if(!(v > 0), dy[d] * v);
                    });
  if (c.extent().size() == 1) {
    double sum = 0;
    for (int k = 0; k < s.c; ++k) sum += partial[k];
    c.out()[0] = T(sum);
  } else {
    for (int k = 0; k < s.c; ++k) c.out()[k] = T(partial[k]);
  }
}

namespace detail {
/// Strides of a tensor as seen from a larger extent: 0 along axes it repeats.
struct stretched {
  std::int64_t n, h, w;
  int c;
};
inline stretched stretch(const shape& s, std::int64_t pitch, const shape& to) {
  const std::int64_t row = s.w * pitch;
  return {s.n == to.n && s.n > 1 ? row * s.h : 0, s.h == to.h && s.h > 1 ? row : 0, s.w == to.w && s.w > 1 ? pitch : 0,
          s.c == to.c && s.c > 1 ? 1 : 0};
}
/// z = f(x, y) with repeated extents (sx and sy); z may be the operand that repeats nothing.
template <class T, class F>
inline void broadcast(const shape& o, const T* x, const stretched& sx, const T* y, const stretched& sy, T* z, std::int64_t pitch, const F& f) {
  sweep<T>(std::int64_t(o.n) * o.h, items_per_chunk(std::int64_t(o.w) * o.c), [=](std::int64_t b, std::int64_t e) RSSEG_INLINE_BODY {
    for (std::int64_t row = b; row < e; ++row) {
      const T* p = x + row / o.h * sx.n + row % o.h * sx.h;
      const T* q = y + row / o.h * sy.n + row % o.h * sy.h;
      T* to = z + row * o.w * pitch;
      for (int w = 0; w < o.w; ++w, p += sx.w, q += sy.w, to += pitch) {
        if (sx.c && sy.c) {
          RSSEG_INDEPENDENT
          for (int k = 0; k < o.c; ++k) to[k] = f(p[k], q[k]);
        } else if (sx.c) {
          const T v = *q;
          RSSEG_INDEPENDENT
          for (int k = 0; k < o.c; ++k) to[k] = f(p[k], v);
        } else {
          const T v = *p;
          RSSEG_INDEPENDENT
          for (int k = 0; k < o.c; ++k) to[k] = f(v, q[k * sy.c]);
        }
      }
    }
  });
}
template <class T>
inline stretched stretch(const call<T>& c, int k) {
  return stretch(c.in_extent(k), c.in_pitch(k), c.extent());
}
}  // namespace detail

/// Any input may be the result's own memory (of those that repeat nothing); relu: fused activation.
template <class T>
void add(const call<T>& c) {
  const shape o = c.extent();
  T* y = c.out();
  const int count = c.inputs();
  bool equal = true;
  for (int k = 0; k < count; ++k) equal = equal && c.in_extent(k) == o;
  if (count == 1) return copy(detail::unary_rows(c), c.in(0), y);
  if (!equal && count == 2)
    return detail::broadcast(o, c.in(0), detail::stretch(c, 0), c.in(1), detail::stretch(c, 1), y, c.out_pitch(),
                             [](T a, T b) RSSEG_INLINE_BODY { return a + b; });
  if (equal && count == 2)
    return map(rows_of(o.pixels(), o.c, c.in_pitch(0), c.in_pitch(1), c.out_pitch()), c.in(0), c.in(1), y,
               [](T a, T b) RSSEG_INLINE_BODY { return a + b; });
  const call<T>* self = &c;
  if (equal) {  // block by block through the stack, since y may be any of the inputs
    bool dense = c.dense(c.id);
    for (int k = 0; k < count; ++k) dense = dense && c.dense(c.input_id(k));
    element_rows r = flat_rows(o.size());
    if (!dense) r = {o.pixels(), o.c, o.c, items_per_chunk(o.c), {c.out_pitch(), 0, 0}};
    sweep<T>(r.rows, r.chunk, [=](std::int64_t b, std::int64_t e) RSSEG_INLINE_BODY {
      T sum[512];
      for (std::int64_t row = b; row < e; ++row)
        for (std::int64_t i = 0; i < r.width_of(row); i += 512) {
          const int n = r.width_of(row) - i < 512 ? int(r.width_of(row) - i) : 512;
          const T* first = self->in(0) + row * (dense ? r.width : self->in_pitch(0)) + i;
          for (int j = 0; j < n; ++j) sum[j] = first[j];
          for (int k = 1; k < count; ++k) {
            const T* next = self->in(k) + row * (dense ? r.width : self->in_pitch(k)) + i;
            for (int j = 0; j < n; ++j) sum[j] += next[j];
          }
          T* to = y + row * r.step[0] + i;
          for (int j = 0; j < n; ++j) to[j] = sum[j];
        }
    });
    return;
  }
  parallel_for(std::int64_t(o.n) * o.h, [=](std::int64_t row) {  // several operands of different extents: rare
    for (int w = 0; w < o.w; ++w)
      for (int ch = 0; ch < o.c; ++ch) {
        T sum = 0;
        for (int k = 0; k < count; ++k) {
          const detail::stretched s = detail::stretch(*self, k);
          sum += self->in(k)[row / o.h * s.n + row % o.h * s.h + w * s.w + ch * s.c];
        }
        y[(row * o.w + w) * self->out_pitch() + ch] = sum;
      }
  });
}

template <class T>
void mul(const call<T>& c) {
  const shape o = c.extent();
  if (c.in_extent(0) == o && c.in_extent(1) == o)
    return map(rows_of(o.pixels(), o.c, c.in_pitch(0), c.in_pitch(1), c.out_pitch()), c.in(0), c.in(1), c.out(),
               [](T a, T b) RSSEG_INLINE_BODY { return a * b; });
  detail::broadcast(o, c.in(0), detail::stretch(c, 0), c.in(1), detail::stretch(c, 1), c.out(), c.out_pitch(),
                    [](T a, T b) RSSEG_INLINE_BODY { return a * b; });
}

template <class T>
void maximum(const call<T>& c) {
  copy(detail::unary_rows(c), c.in(0), c.out());
  for (int k = 1; k < c.inputs(); ++k)
    map(rows_of(c.extent().pixels(), c.extent().c, c.out_pitch(), c.in_pitch(k), c.out_pitch()), static_cast<const T*>(c.out()), c.in(k), c.out(),
        [](T a, T b) RSSEG_INLINE_BODY { return b > a ? b : a; });
}
/// (dy, inputs...): dy where input `begin` is the first maximum.
template <class T>
void maximum_grad(const call<T>& c) {
  const int mine = c.at().begin + 1, count = c.inputs();
  const T *dy = c.in(0), *x = c.in(mine);
  T* dx = c.out();
  const call<T>* self = &c;
  sweep<T>(c.extent().size(), flat_chunk, [=](std::int64_t b, std::int64_t e) RSSEG_INLINE_BODY {
    for (std::int64_t i = b; i < e; ++i) dx[i] = dy[i];
    for (int k = 1; k < count; ++k) {
      if (k == mine) continue;
      const T* other = self->in(k);
      if (k < mine)
        for (std::int64_t i = b; i < e; ++i) dx[i] = x[i] > other[i] ? dx[i] : T(0);
      else
        for (std::int64_t i = b; i < e; ++i) dx[i] = x[i] >= other[i] ? dx[i] : T(0);
    }
  });
}

template <class T>
void affine(const call<T>& c) {
  const T a = T(c.at().alpha), b = T(c.at().beta);
  map(detail::unary_rows(c), c.in(0), c.out(), [a, b](T v) RSSEG_INLINE_BODY { return a * v + b; });
}

template <class T>
void stop_gradient(const call<T>& c) {
  copy(c.extent().size(), c.in(0), c.out());
}

// --- reductions and copies -----------------------------------------------------------------------------------------------------------

namespace detail {
/// y = factor * sum of x over the axes where y has extent 1. Whole images go through sum_columns, other sets of axes through plain loops.
inline bool sums_images(const shape& x, const shape& y) { return y.h == 1 && y.w == 1 && (y.n == 1 || y.n == x.n); }
inline column_cut reduce_cut(const shape& x, const shape& y) { return cut_columns(y.n, x.pixels() / y.n, x.c); }

template <class T>
inline void sum_axes(const T* x, const shape& s, std::int64_t pitch, T* y, const shape& o, double factor, void* workspace) {
  if (sums_images(s, o)) {
    const column_cut cut = reduce_cut(s, o);
    double* partial = static_cast<double*>(workspace);
    sum_columns<T, 1>(cut, partial, pitch, pitch, [=](std::int64_t i, std::int64_t, int, T* t) RSSEG_INLINE_BODY { t[0] = x[i]; });
    for (int n = 0; n < o.n; ++n) {
      const double* sums = partial + column_at(cut, 1, n, 0);
      if (o.c == s.c) {
        for (int k = 0; k < s.c; ++k) y[std::int64_t(n) * s.c + k] = T(factor * sums[k]);
      } else {
        double sum = 0;
        for (int k = 0; k < s.c; ++k) sum += sums[k];
        y[n] = T(factor * sum);
      }
    }
    return;
  }
  const int copies_n = o.n == s.n ? 1 : s.n, copies_h = o.h == s.h ? 1 : s.h, copies_w = o.w == s.w ? 1 : s.w;
  const int tiles = (s.c + 63) / 64;
  parallel_for(std::int64_t(o.n) * o.h, [=](std::int64_t row) {
    for (int ow = 0; ow < o.w; ++ow) {
      double over_channels = 0;
      for (int tile = 0; tile < tiles; ++tile) {
        const int c0 = tile * 64, width = s.c - c0 < 64 ? s.c - c0 : 64;
        double sum[64] = {};
        for (int n = 0; n < copies_n; ++n)
          for (int h = 0; h < copies_h; ++h)
            for (int w = 0; w < copies_w; ++w) {
              const std::int64_t in = row / o.h + n, ih = row % o.h + h, iw = ow + w;
              const T* from = x + ((in * s.h + ih) * s.w + iw) * pitch + c0;
              for (int k = 0; k < width; ++k) sum[k] += double(from[k]);
            }
        for (int k = 0; k < width; ++k) {
          over_channels += sum[k];
          if (o.c == s.c) y[(row * o.w + ow) * o.c + c0 + k] = T(factor * sum[k]);
        }
      }
      if (o.c != s.c) y[row * o.w + ow] = T(factor * over_channels);
    }
  });
}
}  // namespace detail

inline std::size_t reduce_space(const graph::graph& g, int id, const shape* s) {
  const shape x = s[g.input_of(id, 0)];
  return detail::sums_images(x, s[id]) ? sizeof(double) * std::size_t(column_space(detail::reduce_cut(x, s[id]), 1)) : 0;
}
template <class T>
void reduce(const call<T>& c) {
  const shape s = c.in_extent(0), o = c.extent();
  detail::sum_axes(c.in(0), s, c.in_pitch(0), c.out(), o, c.at().flag ? double(o.size()) / double(s.size()) : 1.0, c.workspace);
}
template <class T>
void broadcast_like(const call<T>& c) {
  const shape s = c.in_extent(0), o = c.extent();
  const T factor = c.at().flag ? T(double(s.size()) / double(o.size())) : T(1);
  detail::broadcast(o, c.in(0), detail::stretch(c, 0), &factor, detail::stretched{0, 0, 0, 0}, c.out(), c.out_pitch(),
                    [](T a, T b) RSSEG_INLINE_BODY { return a * b; });
}
/// Sum of the channels' pixels: the gradient of a bias.
template <class T>
void channel_sum(const call<T>& c) {
  detail::sum_axes(c.in(0), c.in_extent(0), c.in_pitch(0), c.out(), c.extent(), 1.0, c.workspace);
}

}  // namespace rsseg::cpu
