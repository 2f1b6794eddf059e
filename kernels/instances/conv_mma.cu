// SPDX-License-Identifier: MIT
// Instantiates the tensor-core convolutions (mma.sync) for nvcc.
#include "kernels/conv_mma.cuh"

using namespace rsseg::cuda;

template <class T>
static void passes(typename mma_operand<T>::stored* p, float* f) {
  conv_mma_forward<T>({}, {}, p, p, p);
  conv_mma_data_gradient<T>({}, {}, p, p, p);
  conv_mma_weight_gradient<T>({}, {}, p, p, f, f);
}
void instantiate_conv_mma(float* f, bf16* h, f16* e) { passes<bf16>(h, f), passes<f16>(e, f), passes<tf32>(f, f); }
