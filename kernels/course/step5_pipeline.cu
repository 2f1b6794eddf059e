// SPDX-License-Identifier: MIT
// Step 5: feeding the tensor cores. cp.async copies 16 bytes from global to shared memory without passing through registers, so three slices can be
// under way while one is multiplied; ldmatrix hands a warp four 8 x 8 matrices in the layout mma wants; rows padded by 16 bytes keep its reads off
// each other's banks. 128 x 128 results per block, 64 x 32 per warp: 12 fragment loads feed 32 matrix instructions. This is kernels/conv_mma.cuh,
// which also skips taps that lie in the padding. Forget a cp_async_wait there and the emulation answers with NaN: a copy lands only when it is waited
// for. On Hopper mma.sync reaches perhaps two thirds of the peak; on Ampere and Ada it is the fastest way there is.
#include "course.hpp"
#include "kernels/conv_mma.cuh"

using namespace course;

int main() {
  return study<bf16>("step 5, asynchronous pipeline", 800e12, 1e-2, [](const conv_geometry& g, const bf16* x, const bf16* w, bf16* y) {
    conv_mma_run<conv_pass::forward, mma_large<bf16>>({}, g, x, w, y, {});
  });
}
