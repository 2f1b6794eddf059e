// SPDX-License-Identifier: MIT
// Softmax over the channels of NHWC arrays, and its vector-Jacobian product. Arithmetic in double for every T.
#pragma once
#include <cmath>
#include <cstdint>

#include "rsseg/core/chunks.hpp"

namespace rsseg::cpu::crf {

/// One pixel: p = softmax(sign * z); T and U may differ, p may be z.
template <class T, class U>
inline void softmax_pixel(const T* z, int channels, U* p, double sign = 1) {
  double top = sign * z[0], sum = 0;
  for (int k = 1; k < channels; ++k) top = sign * z[k] > top ? sign * z[k] : top;
  for (int k = 0; k < channels; ++k) {
    const double e = std::exp(sign * z[k] - top);
    sum += e;
    p[k] = U(e);
  }
  for (int k = 0; k < channels; ++k) p[k] = U(p[k] / sum);
}

/// p = softmax(sign * z) over (pixels, channels); p may be z.
template <class T>
inline void softmax(const T* z, std::int64_t pixels, int channels, T* p, double sign = 1) {
  for_chunks(pixels, 4096, [&](std::int64_t begin, std::int64_t end, std::int64_t) {
    for (std::int64_t i = begin; i < end; ++i) softmax_pixel(z + i * channels, channels, p + i * channels, sign);
  });
}

/// dz = p * (dp - sum_k p_k dp_k) per pixel (added to dz when accumulate); dz may be dp.
template <class T>
inline void softmax_backward(const T* p, const T* dp, std::int64_t pixels, int channels, T* dz, bool accumulate = false) {
  for_chunks(pixels, 4096, [&](std::int64_t begin, std::int64_t end, std::int64_t) {
    for (std::int64_t i = begin; i < end; ++i) {
      double dot = 0;
      for (int k = 0; k < channels; ++k) dot += double(p[i * channels + k]) * dp[i * channels + k];
      for (int k = 0; k < channels; ++k) {
        const double g = p[i * channels + k] * (dp[i * channels + k] - dot);
        dz[i * channels + k] = accumulate ? T(dz[i * channels + k] + g) : T(g);
      }
    }
  });
}

}  // namespace rsseg::cpu::crf
