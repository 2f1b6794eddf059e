// SPDX-License-Identifier: MIT
// Options are types; a value does not fit.
// all: class_argument.cpp:12
// all: type
// g++: expected a type
// clang++: must be a type
// nvcc: class_argument.cpp(12)
// nvcc: expected a ">"
#include "rsseg/layers/network.hpp"

using namespace rsseg;
struct Wrong : Network<Seq<Conv<8, conv_options{.kernel = 3}>>> {};
static_assert(well_composed<Wrong>());
