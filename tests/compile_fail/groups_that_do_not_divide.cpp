// SPDX-License-Identifier: MIT
// 10 channels in 4 groups.
// all: not_divisible, 4, 4, 10
// all: LAYER<'1'>
// g++: Groups<4>
// clang++: channels_not_divisible(4, 4, 10)
// nvcc: What=rsseg::graph::fault::not_divisible, Node=4, Expected=4, Given=10, Layer=rsseg::LAYER<'1'>
// nvcc: channels_not_divisible
#include "rsseg/layers/network.hpp"

using namespace rsseg;
struct Wrong : Network<Seq<Conv<10>, Conv<20, Kernel<3>, Groups<4>>>> {};
static_assert(well_composed<Wrong>());
