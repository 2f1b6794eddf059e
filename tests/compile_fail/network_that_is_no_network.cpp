// SPDX-License-Identifier: MIT
// A layer where a network belongs: it says what it does to a value, but has no input.
// all: parameter_count
// all: NetworkType
// all: Conv<8>
// nvcc: network_that_is_no_network.cpp(12)
// nvcc: type constraint failed for "rsseg::Conv<8>"
// nvcc: NetworkType
#include "rsseg/layers/network.hpp"

using namespace rsseg;
static_assert(parameter_count<Conv<8>> > 0);
