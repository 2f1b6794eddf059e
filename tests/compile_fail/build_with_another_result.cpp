// SPDX-License-Identifier: MIT
// A layer whose build yields nothing.
// all: Seq: every part must have
// all: Forgetful
// nvcc: Seq: every part must have
// nvcc: Layers=<rsseg::Conv<8>, Forgetful>
#include "rsseg/layers/network.hpp"

using namespace rsseg;
struct Forgetful {
  static constexpr void build(builder& b, value x) { relu(b, x); }
};
struct Wrong : Network<Seq<Conv<8>, Forgetful>> {};
static_assert(well_composed<Wrong>());
