// SPDX-License-Identifier: MIT
// Instantiates the Hopper convolution (sm_90a) for nvcc.
#include "kernels/conv_hopper.cuh"

using namespace rsseg::cuda;

template <class T>
static void passes(T* p) {
  conv_hopper_forward<T>({}, {}, p, p, p);
  conv_hopper_data_gradient<T>({}, {}, p, p, p, p);
}
void instantiate_conv_hopper(bf16* h, f16* e) { passes(h), passes(e); }
