// SPDX-License-Identifier: MIT
// A model checks its network when it is compiled, not when it runs.
// all: extents_differ, 7, 4, 2
// all: LAYER<'1'>
// all: Model<Wrong>
// g++: Residual<
// clang++: extents_do_not_match(7, 4, 2)
// nvcc: What=rsseg::graph::fault::extents_differ, Node=7, Expected=4, Given=2, Layer=rsseg::LAYER<'1'>
// nvcc: rsseg::Model<Net, T> [with Net=Wrong
#include "rsseg/model/model.hpp"

using namespace rsseg;
struct Wrong : Network<Seq<Conv<8, Kernel<3>, Stride<2>>, Residual<Conv<8, Kernel<3>, Stride<2>>>>> {};
Model<Wrong> model;
