// SPDX-License-Identifier: MIT
// Which random numbers the operators draw, the same on every backend: dropout masks and normal noise as functions of
// (seed, step, who draws, element), so that a mask needs no memory and the backward pass draws the same one again.
#pragma once
#include <cmath>
#include <cstdint>
#include <string_view>

#include "rsseg/core/random.hpp"

namespace rsseg {

/// Stream of the dropout operator number `which` of a network at a training step.
RSSEG_HD constexpr std::uint64_t dropout_stream(int which, std::uint64_t step) { return std::uint64_t(std::uint32_t(which)) + (step << 20); }

/// Stream of a noise operator: FNV-1a of its name, moved on by the step.
constexpr std::uint64_t noise_stream(std::string_view name, std::uint64_t step) {
  std::uint64_t h = 14695981039346656037u;
  for (char c : name) h = (h ^ std::uint8_t(c)) * 1099511628211u;
  return h + step * 0x9E3779B97F4A7C15u;
}

struct normal_block {
  double v[4];
};
/// Four standard normal numbers (Box and Muller 1958): elements 4 * index ... 4 * index + 3 of a stream.
inline normal_block normal_draws(std::uint64_t seed, std::uint64_t stream, std::uint64_t index) {
  const philox_block words = philox(seed, stream, index);
  normal_block out;
  for (int pair = 0; pair < 2; ++pair) {
    const double u = 1.0 - double(unit_float(words.v[2 * pair])), v = double(unit_float(words.v[2 * pair + 1]));  // u in (0, 1]
    const double radius = std::sqrt(-2.0 * std::log(u)), angle = 6.283185307179586476925 * v;
    out.v[2 * pair] = radius * std::cos(angle), out.v[2 * pair + 1] = radius * std::sin(angle);
  }
  return out;
}

}  // namespace rsseg
