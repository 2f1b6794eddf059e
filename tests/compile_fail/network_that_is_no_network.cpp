// SPDX-License-Identifier: MIT
// A layer where a network belongs: it says what it does to a value, but has no input.
// all: parameter_count
// all: NetworkType
// all: Conv<8>
#include "rsseg/layers/network.hpp"

using namespace rsseg;
static_assert(parameter_count<Conv<8>> > 0);
