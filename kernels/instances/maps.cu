// SPDX-License-Identifier: MIT
// Instantiates the memory-bound kernels for nvcc: proves that they compile for every architecture and gives ptxas what the register budget checks.
#include "kernels/cross_entropy.cuh"
#include "kernels/elementwise.cuh"
#include "kernels/normalization.cuh"
#include "kernels/pool.cuh"
#include "kernels/resize.cuh"

using namespace rsseg;
using namespace rsseg::cuda;

template <class T>
static void maps(T* p, float* f, std::uint8_t* u) {
  const conv_geometry g;
  const resize_geometry r;
  const pyramid q{};
  const batch_norm_state b;
  cross_entropy_target<std::uint8_t> t;
  activation_forward<T>({}, activation::relu, 0, p, p, 1);
  activation_backward<T>({}, activation::relu, 0, p, p, p, 1);
  add<T>({}, 1, p, 1, p, p, 1);
  multiply<T>({}, p, p, p, 1);
  fill<T>({}, 0, p, 1);
  scale_channels<T>({}, p, f, f, p, 1, 1, 1, true);
  prelu<T>({}, p, f, p, p, 1, 1);
  copy_window<T>({}, {}, p, p);
  dropout<T>({}, p, p, 1, 1, 1, 0.5f, 1, 1);
  sum_pixels<T>({}, p, f, 1, 1, f);
  dot_pixels<T>({}, p, p, f, 1, 1, f);
  prelu_slope_gradient<T>({}, p, p, f, 1, 1, f);
  batch_norm_train<T>({}, b, p, p, p, 1, 1, activation::relu, f);
  batch_norm_backward<T>({}, b, p, p, p, p, p, f, f, 1, 1, activation::relu, f);
  group_norm<T>({}, p, p, f, f, f, f, 1, 1, 1, 1, 0);
  group_norm_backward<T>({}, p, p, p, f, f, f, f, f, 1, 1, 1, 1, f);
  max_pool<T>({}, g, p, p, u);
  unpool<T>({}, g, p, u, p);
  unpool_backward<T>({}, g, p, u, p);
  average_pool<T>({}, g, true, p, p);
  average_pool_backward<T>({}, g, true, p, p);
  pyramid_pool<T>({}, q, p, &p, f);
  pyramid_pool_backward<T>({}, q, &p, p);
  bilinear<T>({}, r, p, p);
  bilinear_backward<T>({}, r, p, p);
  nearest<T>({}, r, p, p);
  nearest_backward<T>({}, r, p, p);
  softmax<T>({}, p, p, 1, 1);
  softmax_backward<T>({}, p, p, p, 1, 1);
  argmax<T>({}, p, u, 1, 1);
  cross_entropy<T>({}, p, t, p, f, 1, 1, 1, f, nullptr);
  upsampled_cross_entropy<T>({}, r, p, t, p, 1, f, nullptr);
}
void instantiate_maps(float* f, bf16* h, f16* e, std::uint8_t* u, unsigned long long* n) {
  maps(f, f, u), maps(h, f, u), maps(e, f, u);
  convert({}, f, h, 1), convert({}, h, f, 1), convert({}, f, e, 1), convert({}, e, f, 1);
  fold_batch_norm({}, {}, f, f, f, 1);
  confusion({}, u, u, 255, n, 1, 1);
}
