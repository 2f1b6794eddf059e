// SPDX-License-Identifier: MIT
// A kernel without extent.
// all: bad_option, 1, 1, 0
// all: LAYER<'0'>
// g++: rsseg::conv(
// clang++: option_out_of_range(1, 1, 0)
// nvcc: What=rsseg::graph::fault::bad_option, Node=1, Expected=1, Given=0, Layer=rsseg::LAYER<'0'>
// nvcc: option_out_of_range
#include "rsseg/layers/network.hpp"

using namespace rsseg;
struct Wrong : Network<Seq<Conv<8, Kernel<0>>>> {};
static_assert(well_composed<Wrong>());
