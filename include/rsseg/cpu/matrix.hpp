// SPDX-License-Identifier: MIT
// Matrix products and softmax (graph/ops/matrix.hpp): a tensor is N matrices of H*W rows and C columns.
#pragma once
#include <cmath>

#include "rsseg/cpu/call.hpp"
#include "rsseg/cpu/loops.hpp"

namespace rsseg::cpu {

namespace detail {
inline constexpr int gemm_rows = 64, gemm_columns = 64, gemm_depth = 128;

/// One block of z = alpha * op(x) * op(y): packs pieces of both operands on the stack, so that all four transpositions share one inner loop.
template <class T>
RSSEG_ALWAYS_INLINE void gemm_block(const T* x, bool transpose_x, const T* y, bool transpose_y, T* z, std::int64_t rows, std::int64_t depth,
                                    std::int64_t columns, std::int64_t r0, std::int64_t c0, T alpha) {
  T left[gemm_rows * gemm_depth], right[gemm_depth * gemm_columns], sum[gemm_rows * gemm_columns];
  const int m = int(rows - r0 < gemm_rows ? rows - r0 : gemm_rows), n = int(columns - c0 < gemm_columns ? columns - c0 : gemm_columns);
  for (int i = 0; i < gemm_rows * gemm_columns; ++i) sum[i] = 0;
  for (std::int64_t k0 = 0; k0 < depth; k0 += gemm_depth) {
    const int d = int(depth - k0 < gemm_depth ? depth - k0 : gemm_depth);
    for (int i = 0; i < gemm_rows; ++i)
      for (int k = 0; k < d; ++k) left[i * gemm_depth + k] = i >= m ? T(0) : transpose_x ? x[(k0 + k) * rows + r0 + i] : x[(r0 + i) * depth + k0 + k];
    for (int k = 0; k < d; ++k)
      for (int j = 0; j < gemm_columns; ++j)
        right[k * gemm_columns + j] = j >= n ? T(0) : transpose_y ? y[(c0 + j) * depth + k0 + k] : y[(k0 + k) * columns + c0 + j];
    for (int i = 0; i < m; i += 4) {
      T* to = sum + i * gemm_columns;
      const T* a = left + i * gemm_depth;
      for (int k = 0; k < d; ++k) {
        const T a0 = a[k], a1 = a[gemm_depth + k], a2 = a[2 * gemm_depth + k], a3 = a[3 * gemm_depth + k];
        const T* b = right + k * gemm_columns;
        RSSEG_INDEPENDENT
        for (int j = 0; j < gemm_columns; ++j) {
          to[j] += a0 * b[j];
          to[gemm_columns + j] += a1 * b[j];
          to[2 * gemm_columns + j] += a2 * b[j];
          to[3 * gemm_columns + j] += a3 * b[j];
        }
      }
    }
  }
  for (int i = 0; i < m; ++i)
    for (int j = 0; j < n; ++j) z[(r0 + i) * columns + c0 + j] = alpha * sum[i * gemm_columns + j];
}
}  // namespace detail

template <class T>
void matmul(const call<T>& c) {
  const shape a = c.in_extent(0), b = c.in_extent(1), o = c.extent();
  const bool ta = c.at().flag, tb = c.at().flag2;
  const std::int64_t rows = std::int64_t(o.h) * o.w, columns = o.c, depth = ta ? std::int64_t(a.h) * a.w : a.c;
  const std::int64_t down = (rows + detail::gemm_rows - 1) / detail::gemm_rows, across = (columns + detail::gemm_columns - 1) / detail::gemm_columns;
  const T alpha = T(c.at().alpha);
  const T *x = c.in(0), *y = c.in(1);
  T* z = c.out();
  const std::int64_t size_a = std::int64_t(a.h) * a.w * a.c, size_b = std::int64_t(b.h) * b.w * b.c;
  sweep<T>(o.n * down * across, 1, [=](std::int64_t first, std::int64_t last) RSSEG_INLINE_BODY {
    for (std::int64_t item = first; item < last; ++item) {
      const std::int64_t n = item / (down * across), r = item / across % down, k = item % across;
      detail::gemm_block(x + n * size_a, ta, y + n * size_b, tb, z + n * rows * columns, rows, depth, columns, r * detail::gemm_rows,
                         k * detail::gemm_columns, alpha);
    }
  });
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
    for (std::int64_t i = b; i < e; ++i) {
      const T* from = x + i * channels;
      T* to = y + i * channels;
      T top = from[0];
      for (int k = 1; k < channels; ++k) top = from[k] > top ? from[k] : top;
      double sum = 0;
      for (int k = 0; k < channels; ++k) sum += double(to[k] = std::exp(from[k] - top));
      const T factor = T(1 / sum);
      for (int k = 0; k < channels; ++k) to[k] *= factor;
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
    for (std::int64_t i = b; i < e; ++i) {
      const T* from = x + i * channels;
      T top = from[0];
      for (int k = 1; k < channels; ++k) top = from[k] > top ? from[k] : top;
      double sum = 0;
      for (int k = 0; k < channels; ++k) sum += double(std::exp(from[k] - top));
      const T log_sum = T(std::log(sum));
      for (int k = 0; k < channels; ++k) y[i * channels + k] = (from[k] - top) - log_sum;
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
      for (int k = 0; k < channels; ++k) dx[i + k] = dy[i + k] - std::exp(y[i + k]) * total;
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
