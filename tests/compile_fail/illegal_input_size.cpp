// SPDX-License-Identifier: MIT
// A ResNet decoder that doubles five times takes multiples of 32; 70 is none.
// all: this_input_size_is_not_allowed
// g++: (6 << -5)
// g++: shape{1, 3, 70, 64}
// clang++: (340, 6, 5)
// clang++: output_of({1, 3, 70, 64})
// nvcc: illegal_input_size.cpp(12)
// nvcc: this_input_size_is_not_allowed
#include "rsseg/nets/unet.hpp"

static_assert(rsseg::output_of<rsseg::UNetResNet34<2>>({1, 3, 70, 64}) == rsseg::shape{1, 2, 70, 64});
