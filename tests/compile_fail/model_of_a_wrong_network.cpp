// SPDX-License-Identifier: MIT
// A model checks its network when it is compiled, not when it runs.
// all: extents_differ, 7, 4, 2
// all: LAYER<'1'>
// all: Model<Wrong>
// g++: Residual<
// clang++: extents_do_not_match(7, 4, 2)
#include "rsseg/model/model.hpp"

using namespace rsseg;
struct Wrong : Network<Seq<Conv<8, Kernel<3>, Stride<2>>, Residual<Conv<8, Kernel<3>, Stride<2>>>>> {};
Model<Wrong> model;
