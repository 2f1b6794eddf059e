// SPDX-License-Identifier: MIT
// Instantiates the fp32 and depthwise convolutions for nvcc.
#include "kernels/conv_fp32.cuh"
#include "kernels/depthwise.cuh"

using namespace rsseg::cuda;

template <class T>
static void depthwise(T* p, float* f) {
  depthwise_forward<T>({}, {}, p, p, p);
  depthwise_data_gradient<T>({}, {}, p, p, p);
  depthwise_weight_gradient<T>({}, {}, p, p, f, f);
}
void instantiate_conv_fp32(float* p, bf16* h) {
  conv_forward({}, {}, p, p, p);
  conv_data_gradient({}, {}, p, p, p);
  conv_weight_gradient({}, {}, p, p, p, p);
  depthwise(p, p), depthwise(h, p);
}
