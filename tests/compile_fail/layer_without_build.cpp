// SPDX-License-Identifier: MIT
// A layer that describes nothing.
// all: Network: its body must have
// all: Sharpen
// nvcc: Network: its body must have
// nvcc: Body=Sharpen
#include "rsseg/layers/network.hpp"

using namespace rsseg;
struct Sharpen {};
struct Wrong : Network<Sharpen> {};
static_assert(well_composed<Wrong>());
