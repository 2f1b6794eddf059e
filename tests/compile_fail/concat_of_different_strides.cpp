// SPDX-License-Identifier: MIT
// A skip from stride 1 beside a map at stride 2.
// all: extents_differ, 5, 1, 2
// all: LAYER<'1'>
// g++: Concat<
// clang++: extents_do_not_match(5, 1, 2)
// nvcc: What=rsseg::graph::fault::extents_differ, Node=5, Expected=1, Given=2, Layer=rsseg::LAYER<'1'>
// nvcc: extents_do_not_match
#include "rsseg/layers/network.hpp"

using namespace rsseg;
struct Wrong : Network<Seq<Conv<16, Kernel<3>>, Concat<Identity, MaxPool<>>, Conv<6>>> {};
static_assert(well_composed<Wrong>());
