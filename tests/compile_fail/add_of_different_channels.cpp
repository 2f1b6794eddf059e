// SPDX-License-Identifier: MIT
// A residual block whose body changes the channels, but not its shortcut.
// all: channels_differ, 7, 64, 32
// all: LAYER<'1'>
// g++: Residual<
// clang++: require_same_channels
// nvcc: What=rsseg::graph::fault::channels_differ, Node=7, Expected=64, Given=32, Layer=rsseg::LAYER<'1'>
// nvcc: require_same_channels
#include "rsseg/layers/network.hpp"

using namespace rsseg;
struct Wrong : Network<Seq<Conv<32, Kernel<3>>, Residual<Conv<64, Kernel<3>>>>> {};
static_assert(well_composed<Wrong>());
