// SPDX-License-Identifier: MIT
// IEEE binary16 and bfloat16 as bit patterns, converted to and from float with round-to-nearest-even. For files, not for arithmetic.
#pragma once
#include <bit>
#include <cstdint>

namespace rsseg::io {

constexpr float float_from_half(std::uint16_t bits) {
  const std::uint32_t sign = std::uint32_t(bits & 0x8000u) << 16;
  std::uint32_t exponent = (bits >> 10) & 31u, fraction = bits & 0x3FFu;
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7F800000u | (fraction << 13));  // infinity, NaN
  if (exponent == 0) {
    if (fraction == 0) return std::bit_cast<float>(sign);
    exponent = 1;
    while (!(fraction & 0x400u)) fraction <<= 1, --exponent;  // subnormal: wraps below zero, the bias below brings it back
    fraction &= 0x3FFu;
  }
  return std::bit_cast<float>(sign | ((exponent + 112u) << 23) | (fraction << 13));
}

constexpr std::uint16_t half_from_float(float value) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(value), sign = (bits >> 16) & 0x8000u, magnitude = bits & 0x7FFFFFFFu;
  if (magnitude > 0x7F800000u) return std::uint16_t(sign | 0x7E00u | ((magnitude >> 13) & 0x3FFu));  // NaN stays NaN
  if (magnitude >= 0x47800000u) return std::uint16_t(sign | 0x7C00u);                                // 65536 and above
  std::uint32_t fraction = magnitude, shift = 13, base = 0;
  if (magnitude < 0x38800000u) {  // below 2^-14: subnormal half
    if (magnitude < 0x33000000u) return std::uint16_t(sign);
    fraction = (magnitude & 0x7FFFFFu) | 0x800000u;
    shift = 126u - (magnitude >> 23);
  } else {
    base = 112u << 10;
  }
  const std::uint32_t kept = fraction >> shift, rest = fraction & ((1u << shift) - 1u), half = 1u << (shift - 1);
  const std::uint32_t up = (rest > half || (rest == half && (kept & 1u))) ? 1u : 0u;
  return std::uint16_t(sign | (kept - base + up));  // a carry runs into the exponent, up to infinity, as it should
}

constexpr float float_from_bfloat(std::uint16_t bits) { return std::bit_cast<float>(std::uint32_t(bits) << 16); }
constexpr std::uint16_t bfloat_from_float(float value) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return std::uint16_t((bits >> 16) | 0x40u);
  return std::uint16_t((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16);
}

}  // namespace rsseg::io
