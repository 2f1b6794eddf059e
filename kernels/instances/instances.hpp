// SPDX-License-Identifier: MIT
// A function that reaches every convolution kernel of one operand type; nothing calls it.
#pragma once
#include "kernels/conv.cuh"

namespace instances {
template <class T>
void convolutions(const rsseg::cuda::device_facts& d, const rsseg::conv_geometry& g, rsseg::cuda::conv_math m, T* p, float* f, void* w) {
  using namespace rsseg::cuda;
  convolve<T>(d, {}, m, g, p, p, p);
  convolve_data<T>(d, {}, m, g, p, p, p, w);
  convolve_weights<T>(d, {}, m, g, p, p, f, f);
}
}  // namespace instances
