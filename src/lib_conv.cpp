// SPDX-License-Identifier: MIT
// librsseg: convolution and matrix-product kernels, float and double.
#define RSSEG_BUILDING 1
#include "rsseg/cpu/conv.hpp"
#include "rsseg/cpu/conv_instantiate.inc"
