// SPDX-License-Identifier: MIT
// A pool that does not move.
// all: bad_option, 4, 1, -1
// all: LAYER<'1'>
// g++: Stride<-1>
// clang++: option_out_of_range(4, 1, -1)
// nvcc: What=rsseg::graph::fault::bad_option, Node=4, Expected=1, Given=-1, Layer=rsseg::LAYER<'1'>
// nvcc: option_out_of_range
#include "rsseg/layers/network.hpp"

using namespace rsseg;
struct Wrong : Network<Seq<Conv<8>, MaxPool<Kernel<2>, Stride<-1>>>> {};
static_assert(well_composed<Wrong>());
