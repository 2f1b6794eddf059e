// SPDX-License-Identifier: MIT
// Counter-based random numbers: Philox 4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
// The same (seed, stream, index) gives the same bits on every backend, in any order and with any number of threads.
#pragma once
#include <cstdint>

#include "rsseg/core/config.hpp"

namespace rsseg {

struct philox_block {
  std::uint32_t v[4];
};

/// Four random words of counter (index, stream) under key seed.
RSSEG_HD constexpr philox_block philox(std::uint64_t seed, std::uint64_t stream, std::uint64_t index) {
  std::uint32_t c0 = std::uint32_t(index), c1 = std::uint32_t(index >> 32), c2 = std::uint32_t(stream), c3 = std::uint32_t(stream >> 32);
  std::uint32_t k0 = std::uint32_t(seed), k1 = std::uint32_t(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t p0 = std::uint64_t(0xD2511F53u) * c0, p1 = std::uint64_t(0xCD9E8D57u) * c2;
    const std::uint32_t n0 = std::uint32_t(p1 >> 32) ^ c1 ^ k0, n2 = std::uint32_t(p0 >> 32) ^ c3 ^ k1;
    c0 = n0, c1 = std::uint32_t(p1), c2 = n2, c3 = std::uint32_t(p0);
    k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}

/// Uniform in [0, 1) with 24 bits: exact in float.
RSSEG_HD constexpr float unit_float(std::uint32_t word) { return float(word >> 8) * (1.0f / 16777216.0f); }

/// A sequential view of one stream, for host code such as augmentation: engine.uniform(), engine.below(n), engine.normal().
class random_stream {
 public:
  constexpr random_stream(std::uint64_t seed, std::uint64_t stream, std::uint64_t index = 0) : seed_(seed), stream_(stream), index_(index) {}
  constexpr std::uint32_t next() {
    if (used_ == 4) block_ = philox(seed_, stream_, index_++), used_ = 0;
    return block_.v[used_++];
  }
  /// Uniform in [0, 1).
  constexpr double uniform() { return double(unit_float(next())); }
  constexpr double uniform(double lo, double hi) { return lo + (hi - lo) * uniform(); }
  /// Uniform integer in [0, n); n in [1, 2^32).
  constexpr std::uint32_t below(std::uint32_t n) { return std::uint32_t((std::uint64_t(next()) * n) >> 32); }
  /// Standard normal (sum of 12 uniforms would be cheaper, Box-Muller is exact).
  double normal();

 private:
  std::uint64_t seed_, stream_, index_;
  philox_block block_{};
  int used_ = 4;
};

}  // namespace rsseg

#include <cmath>

inline double rsseg::random_stream::normal() {
  const double u = 1.0 - uniform(), v = uniform();  // u in (0, 1]
  return std::sqrt(-2.0 * std::log(u)) * std::cos(6.283185307179586476925 * v);
}
