// SPDX-License-Identifier: MIT
// Step 6: Hopper. One thread asks the tensor memory accelerator for a whole slice: 128 pixels x 64 channels at a tap's offset, zeros where the image
// ends: the im2col happens in hardware. Four warps together issue wgmma, which reads both operands from shared memory and leaves 64 x 256 results in
// registers, while the loading warp is several slices ahead. Two mbarriers per slice connect them: "full" (bytes have arrived), "empty" (products are
// done). This is kernels/conv_hopper.cuh; sm_90a only. Expect 70 to 95 % of cuDNN.
#include "course.hpp"
#include "kernels/conv_hopper.cuh"

using namespace course;

int main() {
  return study<bf16>("step 6, TMA and wgmma", 800e12, 1e-2,
                     [](const conv_geometry& g, const bf16* x, const bf16* w, bf16* y) { conv_hopper_forward<bf16>({}, g, x, w, y); });
}
