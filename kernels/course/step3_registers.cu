// SPDX-License-Identifier: MIT
// Step 3: register blocking. A thread makes 8 x 8 results instead of one: 16 values from shared memory now feed 64 multiply-adds, a ratio of 4
// instead of 1/2. The operands' slices lie transposed, so that a thread's 8 values are two 128-bit reads. While a slice is multiplied the next one is
// already on its way into registers, and two slices alternate, so one barrier per slice is enough. This is the library's fp32 kernel:
// kernels/conv_fp32.cuh. Expect 60 to 75 % of the fp32 peak.
#include "course.hpp"
#include "kernels/conv_fp32.cuh"

using namespace course;

int main() {
  return study<float>("step 3, 8 x 8 results per thread", 67e12, 1e-5, [](const conv_geometry& g, const float* x, const float* w, float* y) {
    conv_fp32_run<conv_pass::forward, fp32_large>({}, g, x, w, y, {});
  });
}
