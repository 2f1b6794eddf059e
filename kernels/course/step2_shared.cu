// SPDX-License-Identifier: MIT
// Step 2: shared memory. The convolution seen as a matrix product: rows are pixels, columns are output channels, the depth runs over taps and
// channels. A block makes a 16 x 16 tile of it; the slices of both operands that it needs are loaded once and used by all, so each value is read from
// memory 16 times less. Two barriers per slice: one before reading what others wrote, one before overwriting what others still read. Remove the
// second one and run this on the emulation: the result is wrong in every order of threads. Still two shared-memory reads per multiply-add: about a
// tenth of the fp32 peak.
#include "course.hpp"

using namespace course;

namespace {
constexpr int tile = 16;
RSSEG_KERNEL void conv_shared(conv_geometry g, const float* x, const float* w, float* y) {
  RSSEG_DYN_SHARED(float, shared);
  float *a = shared, *b = shared + tile * (tile + 1);  // the odd row length keeps column reads off each other's banks
  const int tx = int(threadIdx.x), ty = int(threadIdx.y), pixels = g.out_h * g.out_w;
  const int pixel = int(blockIdx.x) * tile + ty, k = int(blockIdx.y) * tile + tx;
  const int oy = pixel / g.out_w, ox = pixel % g.out_w;
  float sum = 0;
  for (int tap = 0; tap < 9; ++tap) {
    const int iy = oy + tap / 3 - 1, ix = ox + tap % 3 - 1;
    const bool inside = pixel < pixels && iy >= 0 && iy < g.in_h && ix >= 0 && ix < g.in_w;
    for (int c0 = 0; c0 < g.in_c; c0 += tile) {
      const int kb = int(blockIdx.y) * tile + ty;  // this thread loads one value of each slice
      a[ty * (tile + 1) + tx] = inside && c0 + tx < g.in_c ? x[(std::int64_t(iy) * g.in_w + ix) * g.in_c + c0 + tx] : 0.0f;
      b[ty * (tile + 1) + tx] = kb < g.out_c && c0 + tx < g.in_c ? w[(std::int64_t(kb) * 9 + tap) * g.in_c + c0 + tx] : 0.0f;
      __syncthreads();
      for (int c = 0; c < tile; ++c) sum += a[ty * (tile + 1) + c] * b[tx * (tile + 1) + c];
      __syncthreads();
    }
  }
  if (pixel < pixels && k < g.out_c) y[std::int64_t(pixel) * g.out_c + k] = sum;
}
}  // namespace

int main() {
  return study<float>("step 2, tiles in shared memory", 67e12, 1e-5, [](const conv_geometry& g, const float* x, const float* w, float* y) {
    const dim3 grid(unsigned(ceil_div(g.out_h * g.out_w, tile)), unsigned(ceil_div(g.out_c, tile)));
    kernel_launch({"conv_shared", grid, dim3(tile, tile), 2 * tile * (tile + 1) * sizeof(float)}, conv_shared, g, x, w, y);
  });
}
