// SPDX-License-Identifier: MIT
// An irregular block: the two paths meet with 48 and 64 channels. The compiler stops at the line of the sum.
// all: hand_written_block.cpp
// all: channels_do_not_match
// g++: TwoPaths::build
// g++: (64 << -48)
// clang++: channels_do_not_match(7, 64, 48)
// nvcc: hand_written_block.cpp(
// nvcc: channels_do_not_match(at, expected, given)
#include "rsseg/layers/network.hpp"

using namespace rsseg;
struct TwoPaths {
  static constexpr value build(builder& b, value x) {
    const value wide = conv(b, "wide", x, 64, {.kernel = 3});
    const value narrow = conv(b, "narrow", x, 48, {.kernel = 3});
    return add(b, wide, narrow);
  }
};
struct Wrong : Network<Seq<Named<"stem", TwoPaths>>> {};
static_assert(parameter_count<Wrong> > 0);
