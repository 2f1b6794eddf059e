// SPDX-License-Identifier: MIT
// Shared by the six steps of the kernel course (docs/kernels/): the problem, a reference, the check and the roofline.
// The problem: y = x * w, a 3x3 convolution with padding on NHWC, C channels in, K channels out, weights (K, 3, 3, C).
#pragma once
#include <cmath>
#include <cstdio>
#include <vector>

#include "kernels/device_array.hpp"
#include "rsseg/core/conv_geometry.hpp"

namespace course {

using namespace rsseg;
using namespace rsseg::cuda;

inline conv_geometry layer(int h, int w, int c, int k) {
  conv_geometry g;
  g.in_h = g.out_h = h, g.in_w = g.out_w = w, g.in_c = c, g.out_c = k, g.kernel_h = g.kernel_w = 3, g.pad_top = g.pad_left = 1;
  return g;
}
/// The layer that is measured on a device: the last 3x3 of U-Net. The emulation checks a small odd one.
inline conv_geometry measured_layer() { return layer(512, 512, 64, 64); }
inline conv_geometry problem() { return RSSEG_EMULATED ? layer(13, 11, 32, 40) : measured_layer(); }

template <class T>
inline std::vector<T> numbers(std::size_t count, unsigned seed) {
  std::vector<T> v(count);
  for (T& x : v) seed = seed * 1664525u + 1013904223u, x = from_float<T>(float(seed >> 8) / 8388608.0f - 1.0f);
  return v;
}

/// Result at one pixel and output channel, by the definition, in double.
template <class T>
inline double expected(const conv_geometry& g, const std::vector<T>& x, const std::vector<T>& w, int oy, int ox, int k) {
  double sum = 0;
  for (int ky = 0; ky < 3; ++ky)
    for (int kx = 0; kx < 3; ++kx)
      for (int c = 0; c < g.in_c; ++c) {
        const int iy = oy + ky - 1, ix = ox + kx - 1;
        if (iy < 0 || iy >= g.in_h || ix < 0 || ix >= g.in_w) continue;
        sum += double(to_float(x[(std::size_t(iy) * g.in_w + ix) * g.in_c + c])) *
               double(to_float(w[((std::size_t(k) * 3 + ky) * 3 + kx) * g.in_c + c]));
      }
  return sum;
}

/// Runs a step (run(g, x, w, y)), compares a sample of the results with the reference, prints time (on a device) and floor. Returns main's exit
/// status.
template <class T, class Run>
inline int study(const char* step, double flops_per_second, double tolerance, Run&& run) try {
  const conv_geometry g = problem();
  const auto x = numbers<T>(std::size_t(g.n) * g.in_h * g.in_w * g.in_c, 1), w = numbers<T>(std::size_t(g.weights()), 2);
  device_array<T> dx(x), dw(w), dy(std::size_t(g.n) * g.out_h * g.out_w * g.out_c);
  run(g, dx.get(), dw.get(), dy.get());
  const auto y = dy.host();
  double worst = 0;
  const std::size_t stride = y.size() / 5000 + 1;
  for (std::size_t i = 0; i < y.size(); i += stride) {
    const int k = int(i % std::size_t(g.out_c)), ox = int(i / std::size_t(g.out_c) % std::size_t(g.out_w)),
              oy = int(i / std::size_t(g.out_c) / std::size_t(g.out_w));
    worst = std::max(worst, std::abs(double(to_float(y[i])) - expected(g, x, w, oy, ox, k)));
  }
  worst /= std::sqrt(9.0 * g.in_c);
  const conv_geometry m = measured_layer();
  const double bytes = (2.0 * 64 * 512 * 512 + double(m.weights())) * sizeof(T);
  const double floor = 1e6 * std::max(2.0 * double(m.macs()) / flops_per_second, bytes / 3.0e12);
  std::printf("%s: error %.1e (%s), 64->64 at 512x512: floor on an H100 %.1f us, time ", step, worst, worst < tolerance ? "right" : "WRONG", floor);
#if RSSEG_EMULATED
  std::printf("not measured (emulated)\n");
#else
  cudaEvent_t begin, end;
  check(cudaEventCreate(&begin), "event"), check(cudaEventCreate(&end), "event");
  check(cudaEventRecord(begin), "record");
  for (int i = 0; i < 20; ++i) run(g, dx.get(), dw.get(), dy.get());
  check(cudaEventRecord(end), "record"), check(cudaEventSynchronize(end), "run");
  float ms = 0;
  check(cudaEventElapsedTime(&ms, begin, end), "time");
  std::printf("%.1f us\n", 1e3 * double(ms) / 20);
#endif
  return worst < tolerance ? 0 : 1;
} catch (const std::exception& e) {
#if !RSSEG_EMULATED
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) return std::printf("%s: skipped, no CUDA device\n", step), 77;
#endif
  std::fprintf(stderr, "%s: error: %s\n", step, e.what());
  return 1;
}

}  // namespace course
