// SPDX-License-Identifier: MIT
// Batch normalisation with constant statistics folded into a convolution: w' = w * s, b' = beta + (b - mean) * s per output channel,
// s = gamma / sqrt(var + eps). These nodes depend on parameters only.
#pragma once
#include <cmath>

#include "rsseg/core/parallel.hpp"
#include "rsseg/cpu/call.hpp"

namespace rsseg::cpu {

/// Output channels [from, from + count) of the weights w (out, in, kh, kw), stored as OHWI, times their factors.
template <class T>
void fold_rows(const call<T>& c, std::int64_t from, std::int64_t count, T* to) {
  const shape s = c.extent();
  const T *w = c.in(0), *var = c.in(1) + c.in_extent(1).c, *gamma = c.in(2);
  const double eps = c.at().alpha;
  const std::int64_t each = std::int64_t(s.h) * s.w * s.c;
  parallel_for(count, [=](std::int64_t o) {
    const double f = double(gamma[from + o]) / std::sqrt(double(var[from + o]) + eps);
    for (std::int64_t i = o * each; i < (o + 1) * each; ++i) to[i] = T(double(w[from * each + i]) * f);
  });
}

/// (w, stats, gamma); w is (out, in, kh, kw) stored as OHWI, or with flag (in, out, kh, kw) of a transposed convolution.
template <class T>
void fold_weights(const call<T>& c) {
  const shape s = c.extent();  // (n, c, h, w) = (dims[0], dims[1], kh, kw), so that dims[1] is the fastest axis
  if (!c.at().flag) return fold_rows(c, 0, s.n, c.out());
  const T *w = c.in(0), *var = c.in(1) + c.in_extent(1).c, *gamma = c.in(2);
  const double eps = c.at().alpha;
  T* to = c.out();
  const std::int64_t rows = s.size() / s.c;
  constexpr int width = 64;
  parallel_for((s.c + width - 1) / width, [=](std::int64_t block) {
    const std::int64_t first = block * width, count = s.c - first < width ? s.c - first : width;
    double f[width];
    for (std::int64_t k = 0; k < count; ++k) f[k] = double(gamma[first + k]) / std::sqrt(double(var[first + k]) + eps);
    for (std::int64_t r = 0; r < rows; ++r)
      for (std::int64_t k = 0; k < count; ++k) to[r * s.c + first + k] = T(double(w[r * s.c + first + k]) * f[k]);
  });
}

/// (bias, stats, gamma, beta), or (stats, gamma, beta) for a convolution without bias.
template <class T>
void fold_bias(const call<T>& c) {
  const int first = c.inputs() == 4 ? 1 : 0, channels = c.extent().c;
  const T *mean = c.in(first), *var = mean + channels, *gamma = c.in(first + 1), *beta = c.in(first + 2);
  for (int k = 0; k < channels; ++k) {
    const double bias = first ? double(c.in(0)[k]) : 0;
    c.out()[k] = T(double(beta[k]) + (bias - double(mean[k])) * double(gamma[k]) / std::sqrt(double(var[k]) + c.at().alpha));
  }
}

}  // namespace rsseg::cpu
