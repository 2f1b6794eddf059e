// SPDX-License-Identifier: MIT
// A network of five bands is asked about a picture of three.
// all: this_input_size_is_not_allowed
// g++: (1 << -2)
// g++: TwoInputs
// clang++: (1, 1, 2)
// clang++: TwoInputs
// nvcc: wrong_band_count.cpp(21)
// nvcc: this_input_size_is_not_allowed
#include "rsseg/nets/unet.hpp"

using namespace rsseg;
struct Five : Network<Seq<Conv<8, Kernel<3>>, Conv<2>>, 5> {};
struct TwoInputs {
  static constexpr void build(builder& b) {
    const value rgb = b.input("rgb", 3), height = b.input("height", 1);
    b.output("logits", conv(b, "head", concat(b, rgb, height), 2), 1);
  }
};
static_assert(output_of<Five>({1, 5, 32, 32}).c == 2);
static_assert(output_of<TwoInputs>(shape{1, 3, 32, 32}, shape{1, 2, 32, 32}).c == 2);
