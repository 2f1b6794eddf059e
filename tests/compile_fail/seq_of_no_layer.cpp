// SPDX-License-Identifier: MIT
// An option where a layer belongs.
// all: Seq: every part must have
// all: Kernel<3
// nvcc: Seq: every part must have
// nvcc: rsseg::Kernel<3, 3>
#include "rsseg/layers/network.hpp"

using namespace rsseg;
struct Wrong : Network<Seq<Conv<8>, Kernel<3>, ReLU>> {};
static_assert(well_composed<Wrong>());
