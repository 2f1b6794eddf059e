// SPDX-License-Identifier: MIT
// The exponential function in loops. In single precision a polynomial that vectorises (the library's exp does not), in double
// precision the library's. And the first half of every softmax: maximum, exponentials and their sum for some pixels.
#pragma once
#include <bit>
#include <cmath>
#include <cstdint>

#include "rsseg/core/config.hpp"

namespace rsseg::cpu {

/// e^x within 2 units in the last place; 0 below -87.3 (where the result would be denormal), infinity above 88.7; NaN stays NaN.
RSSEG_ALWAYS_INLINE float vector_exp(float x) {
  // x = n ln 2 + r with |r| <= ln 2 / 2; ln 2 in two parts, the first with few bits, so that n * ln2_high is exact.
  const float shifted = x * 1.44269504088896341f + 12582912.0f;  // 1.5 * 2^23: rounds to an integer, which sits in the low bits
  const float n = shifted - 12582912.0f;
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  // Taylor series, economised on [-0.3466, 0.3466]
  float p = 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  const float e = (p * r) * r + r + 1.0f;
  const std::int32_t k = std::int32_t(std::bit_cast<std::uint32_t>(shifted) - std::bit_cast<std::uint32_t>(12582912.0f));
  // 2^k in two factors, since k reaches 128
  const std::int32_t half = k >> 1;
  const float y = e * std::bit_cast<float>((half + 127) << 23) * std::bit_cast<float>((k - half + 127) << 23);
  // Masks, not choices, which would become branches. Outside the range y is anything; a NaN passes.
  const std::int32_t under = -std::int32_t(x < -87.3f), over = -std::int32_t(x > 88.72f);
  return std::bit_cast<float>((std::bit_cast<std::int32_t>(y) & ~(under | over)) | (0x7f800000 & over));
}
RSSEG_ALWAYS_INLINE double vector_exp(double x) { return std::exp(x); }

/// Maximum and sum of n >= 1 numbers, in eight interleaved strands when there are many: faster, and the sum more accurate.
template <class T>
RSSEG_ALWAYS_INLINE T strand_maximum(const T* p, int n) {
  T m = p[0];
  int i = 1;
  if (n >= 16) {
    T strand[8];
    for (int k = 0; k < 8; ++k) strand[k] = p[k];
    for (i = 8; i + 8 <= n; i += 8)
      for (int k = 0; k < 8; ++k) strand[k] = p[i + k] > strand[k] ? p[i + k] : strand[k];
    for (int k = 0; k < 8; ++k) m = strand[k] > m ? strand[k] : m;
  }
  for (; i < n; ++i) m = p[i] > m ? p[i] : m;
  return m;
}
template <class T>
RSSEG_ALWAYS_INLINE T strand_sum(const T* p, int n) {
  T sum = 0;
  int i = 0;
  if (n >= 16) {
    T strand[8];
    for (int k = 0; k < 8; ++k) strand[k] = p[k];
    for (i = 8; i + 8 <= n; i += 8)
      for (int k = 0; k < 8; ++k) strand[k] += p[i + k];
    sum = ((strand[0] + strand[1]) + (strand[2] + strand[3])) + ((strand[4] + strand[5]) + (strand[6] + strand[7]));
  }
  for (; i < n; ++i) sum += p[i];
  return sum;
}

inline constexpr int exp_block = 64;   ///< pixels at a time
inline constexpr int exp_room = 1024;  ///< elements at a time, if they are not kept

/// For up to exp_block of the `left` pixels at z (classes each): top = maximum, total = sum of exp(z - top); `keep` (or null) gets the
/// exponentials. Returns how many pixels were done, at least one.
template <class T>
RSSEG_ALWAYS_INLINE int exp_pixels(const T* z, int classes, std::int64_t left, T* top, T* total, T* keep = nullptr) {
  T room[exp_room];
  int n = exp_room / classes;
  if (n > exp_block) n = exp_block;
  if (n < 1) n = 1;
  if (n > left) n = int(left);
  for (int i = 0; i < n; ++i) top[i] = strand_maximum(z + std::int64_t(i) * classes, classes);
  if (keep == nullptr && classes > exp_room) {  // one pixel of very many classes
    T sum = 0;
    for (int c = 0; c < classes; ++c) sum += vector_exp(z[c] - top[0]);
    total[0] = sum;
    return 1;
  }
  T* const e = keep ? keep : room;
  for (int i = 0; i < n; ++i) {
    const T m = top[i];
    const std::int64_t at = std::int64_t(i) * classes;
    for (int c = 0; c < classes; ++c) e[at + c] = z[at + c] - m;
  }
  for (int j = 0; j < n * classes; ++j) e[j] = vector_exp(e[j]);
  for (int i = 0; i < n; ++i) total[i] = strand_sum(e + std::int64_t(i) * classes, classes);
  return n;
}

}  // namespace rsseg::cpu
