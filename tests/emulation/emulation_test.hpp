// SPDX-License-Identifier: MIT
// Support for the tests of kernels: every case runs in forward, reverse and shuffled order, on the emulation or (under nvcc) on a device.
#pragma once
#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <string>
#include <vector>

#include "kernels/device_array.hpp"
#include "rsseg/core/random.hpp"

namespace rsseg::test {

/// Runs body once per order of blocks and threads. Under AddressSanitizer, which is slow, only once.
template <class Body>
inline void in_every_order(Body&& body) {
#if RSSEG_EMULATED
  for (auto order : {emulation::order::forward, emulation::order::reverse, emulation::order::shuffled}) {
    emulation::settings().schedule = order;
    body();
#if defined(RSSEG_EMULATION_ASAN)
    break;
#endif
  }
  emulation::settings() = {};
#else
  body();
#endif
}

inline std::vector<float> random_values(std::size_t n, std::uint64_t stream, double low = -1.0, double high = 1.0) {
  random_stream r(42, stream);
  std::vector<float> v(n);
  for (float& x : v) x = float(r.uniform(low, high));
  return v;
}
template <class T>
inline std::vector<T> stored(const std::vector<float>& v) {
  std::vector<T> s(v.size());
  for (std::size_t i = 0; i < v.size(); ++i) s[i] = cuda::from_float<T>(v[i]);
  return s;
}
template <class T>
inline std::vector<float> widened(const std::vector<T>& v) {
  std::vector<float> s(v.size());
  for (std::size_t i = 0; i < v.size(); ++i) s[i] = cuda::to_float(v[i]);
  return s;
}

/// Largest difference, relative to the largest reference value. NaN anywhere gives NaN, which fails every comparison.
template <class A, class B>
inline double relative_error(const std::vector<A>& got, const std::vector<B>& want) {
  if (got.size() != want.size()) return INFINITY;
  double worst = 0, scale = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    const double g = double(cuda::to_float(got[i])), w = double(want[i]);
    if (std::isnan(g) || std::isnan(w)) return NAN;
    worst = std::max(worst, std::abs(g - w)), scale = std::max(scale, std::abs(w));
  }
  return scale > 0 ? worst / scale : worst;
}

/// Message of the exception body throws, or "" if none.
template <class Body>
inline std::string fault_of(Body&& body) {
  try {
    body();
  } catch (const error& e) {
    return e.what();
  }
  return "";
}
inline bool contains(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }

}  // namespace rsseg::test
