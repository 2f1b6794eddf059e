// SPDX-License-Identifier: MIT
// Groups is an option of convolutions.
// all: Groups<2>
// all: pool_options
// all: conv_options
// g++: MaxPool
// clang++: MaxPool
// nvcc: rsseg::conv_options
// nvcc: rsseg::pool_options
// nvcc: MaxPool<Options...>::build
// nvcc: Options=<rsseg::Groups<2>>
#include "rsseg/layers/network.hpp"

using namespace rsseg;
struct Wrong : Network<Seq<Conv<8>, MaxPool<Groups<2>>>> {};
static_assert(well_composed<Wrong>());
