// SPDX-License-Identifier: MIT
// A kernel without extent.
// all: bad_option, 1, 1, 0
// all: LAYER<'0'>
// g++: rsseg::conv(
// clang++: option_out_of_range(1, 1, 0)
#include "rsseg/layers/network.hpp"

using namespace rsseg;
struct Wrong : Network<Seq<Conv<8, Kernel<0>>>> {};
static_assert(well_composed<Wrong>());
