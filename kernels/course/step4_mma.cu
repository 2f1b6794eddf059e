// SPDX-License-Identifier: MIT
// Step 4: tensor cores. One instruction of a warp multiplies 16 x 16 by 16 x 8 halves and adds in fp32. Each lane holds a few elements in the order
// the PTX manual draws: of A rows g and g + 8 (g = lane / 4), columns 2 q, 2 q + 1 and the same + 8 (q = lane % 4). Here every lane picks its
// elements from shared memory by hand, the slowest way to feed a fast unit: on the device the loads dominate. On the emulation step into `mma` with
// gdb and print `a` for a few lanes: the layout is all there is to it.
#include "course.hpp"
#include "kernels/tensor_core.cuh"

using namespace course;

namespace {
constexpr int rows = 32, columns = 32, depth = 16;  // a block of four warps, 16 x 16 results each
RSSEG_KERNEL void conv_mma_plain(conv_geometry g, const bf16* x, const bf16* w, bf16* y) {
  RSSEG_DYN_SHARED(bf16, shared);
  bf16 *a = shared, *b = shared + rows * depth;
  const int t = int(threadIdx.x), lane = t & 31, warp = t >> 5, pixels = g.out_h * g.out_w;
  const int row = warp % 2 * 16, column = warp / 2 * 16, group = lane >> 2, q = (lane & 3) * 2;
  float acc[2][4] = {};
  for (int tap = 0; tap < 9; ++tap)
    for (int c0 = 0; c0 < g.in_c; c0 += depth) {
      for (int i = t; i < rows * depth; i += int(blockDim.x)) {
        const int pixel = int(blockIdx.x) * rows + i / depth, c = c0 + i % depth, iy = pixel / g.out_w + tap / 3 - 1,
                  ix = pixel % g.out_w + tap % 3 - 1;
        const bool inside = pixel < pixels && iy >= 0 && iy < g.in_h && ix >= 0 && ix < g.in_w && c < g.in_c;
        a[i] = inside ? x[(std::int64_t(iy) * g.in_w + ix) * g.in_c + c] : bf16{0};
        const int k = int(blockIdx.y) * columns + i / depth;
        b[i] = k < g.out_c && c < g.in_c ? w[(std::int64_t(k) * 9 + tap) * g.in_c + c] : bf16{0};
      }
      __syncthreads();
      const auto two = [](const bf16* p) { return unsigned(p[0].bits) | unsigned(p[1].bits) << 16; };
      const unsigned left[4] = {two(a + (row + group) * depth + q), two(a + (row + group + 8) * depth + q), two(a + (row + group) * depth + q + 8),
                                two(a + (row + group + 8) * depth + q + 8)};
      for (int j = 0; j < 2; ++j) {
        const bf16* p = b + (column + j * 8 + group) * depth + q;
        const unsigned right[2] = {two(p), two(p + 8)};
        mma(acc[j], left, right, bf16{});
      }
      __syncthreads();
    }
  for (int j = 0; j < 2; ++j)
    for (int e = 0; e < 4; ++e) {
      const int pixel = int(blockIdx.x) * rows + row + group + e / 2 * 8, k = int(blockIdx.y) * columns + column + j * 8 + q + e % 2;
      if (pixel < pixels && k < g.out_c) y[std::int64_t(pixel) * g.out_c + k] = from_float<bf16>(acc[j][e]);
    }
}
}  // namespace

int main() {
  return study<bf16>("step 4, tensor cores fed by hand", 800e12, 1e-2, [](const conv_geometry& g, const bf16* x, const bf16* w, bf16* y) {
    const dim3 grid(unsigned(ceil_div(g.out_h * g.out_w, rows)), unsigned(ceil_div(g.out_c, columns)));
    kernel_launch({"conv_mma_plain", grid, 128, (rows + columns) * depth * sizeof(bf16)}, conv_mma_plain, g, x, w, y);
  });
}
