// SPDX-License-Identifier: MIT
// Batch normalisation with constant statistics folded into a convolution: w' = w * s, b' = beta + (b - mean) * s per output channel,
// s = gamma / sqrt(var + eps). These nodes depend on parameters only.
#pragma once
#include <cmath>

#include "rsseg/cpu/call.hpp"

namespace rsseg::cpu {

/// (w, stats, gamma); w is (out, in, kh, kw) stored as OHWI, or with flag (in, out, kh, kw) of a transposed convolution.
template <class T>
void fold_weights(const call<T>& c) {
  const shape s = c.extent();  // (n, c, h, w) = (dims[0], dims[1], kh, kw), so that dims[1] is the fastest axis
  const T *w = c.in(0), *var = c.in(1) + c.in_extent(1).c, *gamma = c.in(2);
  const double eps = c.at().alpha;
  const bool second = c.at().flag;
  const std::int64_t each = std::int64_t(s.h) * s.w * s.c;
  for (std::int64_t i = 0; i < s.size(); ++i) {
    const std::int64_t o = second ? i % s.c : i / each;
    c.out()[i] = T(double(w[i]) * double(gamma[o]) / std::sqrt(double(var[o]) + eps));
  }
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
