// SPDX-License-Identifier: MIT
// Instantiates every convolution of bf16 operands for nvcc, through the entry that picks among them.
#include "instances.hpp"

template void instances::convolutions<rsseg::cuda::bf16>(const rsseg::cuda::device_facts&, const rsseg::conv_geometry&, rsseg::cuda::conv_math,
                                                         rsseg::cuda::bf16*, float*, void*);
