// SPDX-License-Identifier: MIT
// A skip that nobody remembered.
// all: unknown_name
// all: LAYER<'2'>
// g++: Use<rsseg::fixed_string<4>{"lwo"}
// clang++: no_value_of_that_name
// nvcc: What=rsseg::graph::fault::unknown_name, Node=4, Expected=0, Given=0, Layer=rsseg::LAYER<'2'>
// nvcc: no_value_of_that_name
#include "rsseg/layers/network.hpp"

using namespace rsseg;
struct Wrong : Network<Seq<Tap<"low">, Conv<8>, Concat<Identity, Use<"lwo">>>> {};
static_assert(well_composed<Wrong>());
