// SPDX-License-Identifier: MIT
// Instantiates the convolutions that take the statistics of their results along, for nvcc.
#include "kernels/conv.cuh"

using namespace rsseg::cuda;

void instantiate_conv_statistics(const device_facts& d, float* f, bf16* h, f16* e) {
  convolve_with_statistics<float>(d, {}, {}, {}, f, f, f, {}, f);
  convolve_with_statistics<bf16>(d, {}, {}, {}, h, h, h, {}, f);
  convolve_with_statistics<f16>(d, {}, {}, {}, e, e, e, {}, f);
}
