// SPDX-License-Identifier: MIT
// Step 1: the plain kernel. One thread, one result. Neighbouring threads take neighbouring output channels, so that stores are coalesced and every
// thread of a warp reads the same input value (a broadcast); the weights, though, are read 9 C apart. Per multiply-add the thread issues two loads.
// The arithmetic units wait for the load units: expect a few percent of the fp32 peak.
#include "course.hpp"

using namespace course;

namespace {
RSSEG_KERNEL void conv_plain(conv_geometry g, const float* x, const float* w, float* y) {
  const std::int64_t i = std::int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= std::int64_t(g.out_h) * g.out_w * g.out_c) return;
  const int k = int(i % g.out_c), ox = int(i / g.out_c % g.out_w), oy = int(i / g.out_c / g.out_w);
  float sum = 0;
  for (int ky = 0; ky < 3; ++ky)
    for (int kx = 0; kx < 3; ++kx) {
      const int iy = oy + ky - 1, ix = ox + kx - 1;
      if (iy < 0 || iy >= g.in_h || ix < 0 || ix >= g.in_w) continue;
      const float* px = x + (std::int64_t(iy) * g.in_w + ix) * g.in_c;
      const float* pw = w + ((std::int64_t(k) * 3 + ky) * 3 + kx) * g.in_c;
      for (int c = 0; c < g.in_c; ++c) sum += px[c] * pw[c];
    }
  y[i] = sum;
}
}  // namespace

int main() {
  return study<float>("step 1, one thread per result", 67e12, 1e-5, [](const conv_geometry& g, const float* x, const float* w, float* y) {
    kernel_launch({"conv_plain", unsigned(ceil_div(g.out_h * g.out_w * g.out_c, 256)), 256}, conv_plain, g, x, w, y);
  });
}
