// SPDX-License-Identifier: MIT
// Matrix products and softmax (graph/ops/matrix.hpp): a tensor is N matrices of H*W rows and C columns.
#pragma once
#include <cmath>

#include "rsseg/cpu/call.hpp"
#include "rsseg/cpu/conv.hpp"
#include "rsseg/cpu/exp.hpp"
#include "rsseg/cpu/loops.hpp"

namespace rsseg::cpu {

namespace detail {
inline gemm_shape product_of(const graph::graph& g, int id, const shape* s) {
  const shape a = s[g.input_of(id, 0)], b = s[g.input_of(id, 1)], o = s[id];
  gemm_shape p;
  p.trans_a = g.nodes[id].at.flag, p.trans_b = g.nodes[id].at.flag2;
  p.m = o.h * o.w, p.n = o.c, p.k = p.trans_a ? a.h * a.w : a.c, p.batch = o.n;
  p.lda = a.c, p.ldb = b.c, p.ldc = o.c;
  p.stride_a = std::int64_t(a.h) * a.w * a.c, p.stride_b = std::int64_t(b.h) * b.w * b.c, p.stride_c = std::int64_t(p.m) * p.n;
  return p;
}
}  // namespace detail

template <class T>
std::size_t matmul_space(const graph::graph& g, int id, const shape* s) {
  return gemm_workspace_size<T>(detail::product_of(g, id, s));
}
template <class T>
void matmul(const call<T>& c) {
  gemm<T>(detail::product_of(*c.g, c.id, c.extents), T(c.at().alpha), c.in(0), c.in(1), T(0), c.out(), c.workspace);
}

/// (N, rows, columns) -> (N, columns, rows), in squares that stay in the cache.
template <class T>
void transpose(const call<T>& c) {
  const shape s = c.in_extent(0);
  const std::int64_t rows = std::int64_t(s.h) * s.w, columns = s.c, side = 32;
  const std::int64_t down = (rows + side - 1) / side, across = (columns + side - 1) / side;
  const T* x = c.in(0);
  T* y = c.out();
  parallel_for(s.n * across, [=](std::int64_t item) {
    const T* from = x + item / across * rows * columns;
    T* to = y + item / across * rows * columns;
    const std::int64_t c0 = item % across * side, c1 = c0 + side < columns ? c0 + side : columns;
    for (std::int64_t d = 0; d < down; ++d)
      for (std::int64_t k = c0; k < c1; ++k)
        for (std::int64_t r = d * side; r < rows && r < (d + 1) * side; ++r) to[k * rows + r] = from[r * columns + k];
  });
}

template <class T>
void softmax(const call<T>& c) {
  const int channels = c.extent().c;
  const T* x = c.in(0);
  T* y = c.out();
  sweep<T>(c.extent().pixels(), items_per_chunk(4 * std::int64_t(channels)), [=](std::int64_t b, std::int64_t e) RSSEG_INLINE_BODY {
    T top[exp_block], total[exp_block];
    for (std::int64_t i = b; i < e;) {
      const int n = exp_pixels<T>(x + i * channels, channels, e - i, top, total, y + i * channels);
      for (int p = 0; p < n; ++p, ++i) {
        const T factor = T(1) / total[p];
        for (int k = 0; k < channels; ++k) y[i * channels + k] *= factor;
      }
    }
  });
}
template <class T>
void softmax_grad(const call<T>& c) {
  const int channels = c.extent().c;
  const T *dy = c.in(0), *y = c.in(1);
  T* dx = c.out();
  sweep<T>(c.extent().pixels(), items_per_chunk(2 * std::int64_t(channels)), [=](std::int64_t b, std::int64_t e) RSSEG_INLINE_BODY {
    for (std::int64_t i = b * channels; i < e * channels; i += channels) {
      double sum = 0;
      for (int k = 0; k < channels; ++k) sum += double(dy[i + k]) * double(y[i + k]);
      const T along = T(sum);
      for (int k = 0; k < channels; ++k) dx[i + k] = y[i + k] * (dy[i + k] - along);
    }
  });
}
template <class T>
void log_softmax(const call<T>& c) {
  const int channels = c.extent().c;
  const T* x = c.in(0);
  T* y = c.out();
  sweep<T>(c.extent().pixels(), items_per_chunk(4 * std::int64_t(channels)), [=](std::int64_t b, std::int64_t e) RSSEG_INLINE_BODY {
    T top[exp_block], total[exp_block];
    for (std::int64_t i = b; i < e;) {
      const int n = exp_pixels<T>(x + i * channels, channels, e - i, top, total);
      for (int p = 0; p < n; ++p, ++i) {
        const T log_sum = std::log(total[p]);
        RSSEG_INDEPENDENT
        for (int k = 0; k < channels; ++k) y[i * channels + k] = (x[i * channels + k] - top[p]) - log_sum;
      }
    }
  });
}
template <class T>
void log_softmax_grad(const call<T>& c) {
  const int channels = c.extent().c;
  const T *dy = c.in(0), *y = c.in(1);
  T* dx = c.out();
  sweep<T>(c.extent().pixels(), items_per_chunk(4 * std::int64_t(channels)), [=](std::int64_t b, std::int64_t e) RSSEG_INLINE_BODY {
    for (std::int64_t i = b * channels; i < e * channels; i += channels) {
      double sum = 0;
      for (int k = 0; k < channels; ++k) sum += double(dy[i + k]);
      const T total = T(sum);
      for (int k = 0; k < channels; ++k) dx[i + k] = dy[i + k] - vector_exp(y[i + k]) * total;
    }
  });
}

template <class T>
void diagonal(const call<T>& c) {
  const std::int64_t side = c.in_extent(0).c;
  for (std::int64_t n = 0; n < c.extent().n; ++n)
    for (std::int64_t i = 0; i < side; ++i) c.out()[n * side + i] = c.in(0)[(n * side + i) * side + i];
}
template <class T>
void add_diagonal(const call<T>& c) {
  const shape o = c.extent();
  copy(o.size(), c.in(0), c.out());
  const std::int64_t side = o.c;
  for (std::int64_t n = 0; n < o.n; ++n)
    for (std::int64_t i = 0; i < side; ++i) c.out()[(n * side + i) * side + i] += c.in(1)[n * side + i];
}

}  // namespace rsseg::cpu
