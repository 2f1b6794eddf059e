// SPDX-License-Identifier: MIT
// Instantiates attention, matrix products, point sampling, optimizers and filters for nvcc.
#include "kernels/attention.cuh"
#include "kernels/filter.cuh"
#include "kernels/matmul.cuh"
#include "kernels/optimizer.cuh"
#include "kernels/point_sample.cuh"

using namespace rsseg::cuda;

void instantiate_operators(float* f, bf16* h, int* i, optimizer_step* step) {
  attention_forward({}, {}, dot_score{f, f}, f, f, f);
  attention_forward({}, {}, additive_score{f, f, nullptr}, f, f, f);
  attention_backward({}, {}, dot_score{f, f}, f, f, f, f, f, f, f, f);
  attention_backward({}, {}, additive_score{f, f, nullptr}, f, f, f, f, f, f, f, f);
  linear_attention({}, 1, 1, 1, 1, 1, f, f, f, f, f);
  point_sample<float>({}, {}, f, f, f), point_sample<bf16>({}, {}, h, f, h);
  point_sample_backward<float>({}, {}, f, f, f, i), point_sample_backward<bf16>({}, {}, f, h, h, i);
  sgd({}, f, f, f, 1, 0, 0, false, step);
  adam({}, f, f, f, f, 1, 0, 0, 0, 0, true, step);
  gradient_norm({}, f, 1, 1, 1, f, step, f);
  guided_filter({}, f, f, f, 1, 1, 1, 1, 1, 1, f);
}
