// SPDX-License-Identifier: MIT
// Instantiates every convolution of float operands for nvcc, through the entry that picks among them.
#include "instances.hpp"

template void instances::convolutions<float>(const rsseg::cuda::device_facts&, const rsseg::conv_geometry&, rsseg::cuda::conv_math, float*, float*,
                                             void*);
