// SPDX-License-Identifier: MIT
// The fill formula of parity manifests: every parameter, buffer and input of a manifest is a function of its name, so that an exact
// answer can be stated without shipping weights. Keys are hashed with FNV-1a 64, elements are drawn with a SplitMix64 finaliser.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace rsseg::parity {

/// FNV-1a 64 of the bytes of prefix followed by key. prefix is the manifest's field `fill_prefix`.
constexpr std::uint64_t fill_hash(std::string_view prefix, std::string_view key) {
  std::uint64_t h = 0xCBF29CE484222325ull;
  for (const char c : prefix) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001B3ull;
  for (const char c : key) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001B3ull;
  return h;
}

/// Element i (0-based, C order of the NCHW / OIHW shape) of the fill with that hash: uniform on [lo, hi), computed in double and
/// rounded once to float. A double run widens the rounded value.
constexpr float fill_value(std::uint64_t key_hash, std::uint64_t i, double lo, double hi) {
  std::uint64_t z = key_hash + (i + 1) * 0x9E3779B97F4A7C15ull;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  z = z ^ (z >> 31);
  const double u = double(z >> 40) * (1.0 / 16777216.0);
  return float(lo + (hi - lo) * u);
}

/// A manifest's fill: parity_fill("prefix")("input.x", count, -1, 1) gives count elements in C order.
class parity_fill {
 public:
  explicit parity_fill(std::string_view prefix = {}) : prefix_hash_(fill_hash(prefix, {})) {}

  /// Hash of fill_prefix + key; FNV is sequential, so the prefix's hash is simply continued.
  std::uint64_t hash(std::string_view key) const {
    std::uint64_t h = prefix_hash_;
    for (const char c : key) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001B3ull;
    return h;
  }
  template <class T = double>
  std::vector<T> operator()(std::string_view key, std::size_t count, double lo, double hi) const {
    const std::uint64_t h = hash(key);
    std::vector<T> out(count);
    for (std::size_t i = 0; i < count; ++i) out[i] = T(fill_value(h, i, lo, hi));
    return out;
  }

 private:
  std::uint64_t prefix_hash_;
};

// The published test vector of the published test vector: fixed at compile time, so that no reader can drift.
static_assert(fill_hash("", "") == 0xcbf29ce484222325ull && fill_hash("", "input.x") == 0x8108462d5960cef5ull);
static_assert(fill_hash("in", "put.x") == fill_hash("", "input.x"));
static_assert(fill_value(fill_hash("", "input.x"), 0, -1, 1) == 0.29778385162353516f);
static_assert(fill_value(fill_hash("", "input.x"), 3, -1, 1) == -0.665590763092041f);

}  // namespace rsseg::parity
