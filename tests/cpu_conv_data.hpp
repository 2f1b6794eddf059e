// SPDX-License-Identifier: MIT
// Tensors for convolutions under test, the forward pass on them (also as columns of wider tensors), and how far two results are apart.
#pragma once
#include <cmath>
#include <limits>
#include <vector>

#include "rsseg/cpu/conv.hpp"

namespace rsseg::test {

/// Values in [-1, 1) from a small multiplicative generator; the same for float and double.
template <class T>
std::vector<T> noise(std::size_t size, std::uint64_t seed) {
  std::vector<T> v(size);
  std::uint64_t s = seed * 0x9E3779B97F4A7C15ull + 1;
  for (auto& e : v) {
    s = s * 6364136223846793005ull + 1442695040888963407ull;
    e = T(double(std::int64_t(s >> 40) - (1 << 23)) / (1 << 23));
  }
  return v;
}

struct conv_data {
  conv_geometry g;
  std::vector<float> x, w, dy, bias_y, bias_x;
  explicit conv_data(const conv_geometry& geometry) : g(geometry) {
    x = noise<float>(std::size_t(g.n) * g.in_h * g.in_w * g.in_c, 1), w = noise<float>(std::size_t(g.weights()), 2);
    dy = noise<float>(std::size_t(g.n) * g.out_h * g.out_w * g.out_c, 3), bias_y = noise<float>(g.out_c, 4), bias_x = noise<float>(g.in_c, 5);
  }
};

/// A tensor of c channels as columns of one whose pixels are `pitch` apart, NaN between; and back, nothing if something was written between.
template <class T>
std::vector<T> spread(const std::vector<float>& v, int c, std::int64_t pitch) {
  std::vector<T> wide(v.size() / std::size_t(c) * std::size_t(pitch), std::numeric_limits<T>::quiet_NaN());
  for (std::size_t i = 0; i < v.size(); ++i) wide[i / std::size_t(c) * std::size_t(pitch) + i % std::size_t(c)] = T(v[i]);
  return wide;
}
template <class T>
std::vector<T> joined(const std::vector<T>& wide, int c, std::int64_t pitch) {
  std::vector<T> v;
  for (std::size_t i = 0; i < wide.size(); ++i) {
    if (int(i % std::size_t(pitch)) < c)
      v.push_back(wide[i]);
    else if (!std::isnan(wide[i]))
      return {};
  }
  return v;
}

template <class T>
std::vector<T> forward(const conv_data& d, bool fused) {
  const std::vector<T> x = spread<T>(d.x, d.g.in_c, d.g.x_pitch()), w(d.w.begin(), d.w.end()), bias(d.bias_y.begin(), d.bias_y.end());
  std::vector<T> packed(cpu::conv_packed_size<T>(d.g)), y = spread<T>(d.dy, d.g.out_c, d.g.y_pitch()),
                                                        workspace(cpu::conv_workspace_size<T>(d.g) / sizeof(T));
  cpu::conv_pack(d.g, w.data(), packed.data());
  cpu::conv_epilogue<T> e;
  if (fused) e.bias = bias.data(), e.residual = y.data(), e.act = cpu::activation::relu;
  cpu::conv_forward(d.g, x.data(), packed.data(), y.data(), e, workspace.data());
  return joined(y, d.g.out_c, d.g.y_pitch());
}

/// RMS and largest difference over the RMS of `want`.
struct errors {
  double rms = 0, largest = 0;
};
inline errors compare(const std::vector<float>& got, const std::vector<double>& want) {
  double square = 0, error = 0, largest = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    const double e = std::abs(got[i] - want[i]);
    square += want[i] * want[i], error += e * e;
    if (!(e <= largest)) largest = e;
  }
  return {std::sqrt(error / square), largest / std::sqrt(square / double(got.size()))};
}

}  // namespace rsseg::test
