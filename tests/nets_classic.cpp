// SPDX-License-Identifier: MIT
// FCN, DeepLab v1 to v3, ParseNet, ENet, BiSeNet, FPN, RefineNet: facts at compile time, auxiliary outputs, size rules.
#include <doctest/doctest.h>

#include "nets_facts.hpp"
#include "rsseg/nets/bisenet.hpp"
#include "rsseg/nets/deeplab_v1.hpp"
#include "rsseg/nets/deeplab_v2.hpp"
#include "rsseg/nets/deeplab_v3.hpp"
#include "rsseg/nets/enet.hpp"
#include "rsseg/nets/fcn.hpp"
#include "rsseg/nets/fpn.hpp"
#include "rsseg/nets/parsenet.hpp"
#include "rsseg/nets/refinenet.hpp"

using namespace rsseg;

namespace {
static_assert(parameter_count<FCN<32, 6, 64>> == 16'472'390 && parameter_count<FCN<16, 6, 64>> == 16'365'452);
static_assert(parameter_count<FCN<8, 6, 64>> == 16'339'922 && parameter_count<FCN8s<6>> == 134'300'114);
static_assert(parameter_count<DeepLabV1<6>> == 20'490'054 && parameter_count<ParseNet<6>> == 20'498'246);
static_assert(parameter_count<DeepLabV2<6, 2, 2, 2, 2>> == 14'388'568 && parameter_count<MultiScaleMax<DeepLabV2<6, 1, 1, 1, 1>>> == 8'458'328);
static_assert(parameter_count<ENet<6>> == 349'788 && parameter_count<ENet<19>> == 351'660);
static_assert(parameter_count<BiSeNet<6>> == 13'420'690);
static_assert(parameter_count<FPN<18, 6>> == 13'047'878);

// Even and odd sizes. FCN takes any: conv1_1 pads by 100.
static_assert(output_of<FCN<8, 6, 64>>(shape{1, 3, 1, 1}) == shape{1, 6, 1, 1});
static_assert(output_of<FCN<32, 6, 64>>(shape{1, 3, 37, 50}) == shape{1, 6, 37, 50});
static_assert(output_of<DeepLabV1<6>>(shape{1, 3, 65, 64}) == shape{1, 6, 65, 64});
static_assert(output_of<DeepLabV2<6, 2, 2, 2, 2>>(shape{1, 3, 321, 100}) == shape{1, 6, 321, 100});
static_assert(output_of<ENet<6>>(shape{2, 3, 60, 91}) == shape{2, 6, 60, 91});
static_assert(output_of<BiSeNet<6>>(shape{1, 3, 97, 64}) == shape{1, 6, 97, 64});
static_assert(output_of<FPN<18, 6>>(shape{1, 3, 64, 96}) == shape{1, 6, 64, 96});
static_assert(!test::accepts<FPN<18, 6>>(shape{1, 3, 65, 96}), "the top-down sums would not meet");
static_assert(!test::accepts<ENet<6>>(shape{1, 3, 5, 64}), "the third pool would be empty");

// ENet's figure for 1024x512 (Paszke et al. count 3.83 GFLOP at 640x360 for a slightly different layout).
static_assert(macs_of<ENet<19>>({1, 3, 512, 1024}) > 3'900'000'000 && macs_of<ENet<19>>({1, 3, 512, 1024}) < 4'400'000'000);

template <class Net>
graph::graph lowered(bool training) {
  builder b(build_options{.classes = 6, .training = training});
  Net::build(b);
  CHECK_FALSE(b.failed());
  return std::move(b.g);
}
}  // namespace

TEST_SUITE("nets") {
  TEST_CASE("parameters of the deep forms") {
    CHECK(graph::parameter_count(lowered<DeepLabV2<6>>(true)) == 42'942'552);
    CHECK(graph::parameter_count(lowered<DeepLabV3<50, 7>>(true)) == 41'996'878);
    CHECK(graph::parameter_count(lowered<DeepLabV3<101, 7>>(true)) == 60'989'006);
    CHECK(graph::parameter_count(lowered<FCNResNet<50, 7>>(true)) == 35'311'438);
    CHECK(graph::parameter_count(lowered<FPN<50>>(true)) == 26'116'678);
    CHECK(graph::parameter_count(lowered<RefineNet<50>>(true)) == 99'025'734);
    CHECK(graph::parameter_count(lowered<RefineNet<101>>(true)) == 118'017'862);
  }
  TEST_CASE("auxiliary outputs exist in training only, with their weights") {
    CHECK(lowered<BiSeNet<>>(false).outputs.size() == 1);
    const graph::graph bisenet = lowered<BiSeNet<>>(true);
    REQUIRE(bisenet.outputs.size() == 3);
    for (int i = 0; i < 3; ++i) CHECK(bisenet.outputs[i].loss_weight == 1);
    CHECK(lowered<DeepLabV3<>>(false).outputs.size() == 1);
    const graph::graph v3 = lowered<DeepLabV3<>>(true);
    REQUIRE(v3.outputs.size() == 2);
    CHECK(v3.outputs[1].loss_weight == 0.5);
    CHECK(v3.outputs[1].train_only);
    const graph::graph msc = lowered<MultiScaleMax<DeepLabV2<from_data, 1, 1, 1, 1>>>(true);
    REQUIRE(msc.outputs.size() == 4);
    for (int i = 0; i < 4; ++i) CHECK(msc.outputs[i].labels == label_rule::resize_labels);
    CHECK(lowered<FCNResNet<>>(true).outputs[1].loss_weight == 0.5);
  }
  TEST_CASE("the scales of the multi-scale wrapper share every weight") {
    const graph::graph one = lowered<DeepLabV2<from_data, 1, 1, 1, 1>>(true), three = lowered<MultiScaleMax<DeepLabV2<from_data, 1, 1, 1, 1>>>(true);
    CHECK(graph::parameter_count(one) == graph::parameter_count(three));
    CHECK(three.find("base.aspp.c0.weight") >= 0);
  }
  TEST_CASE("ENet as its authors wrote it: a slope per channel, no norm between 5x1 and 1x5") {
    const graph::graph g = lowered<ENet<from_data, enet_policy::authors>>(true), shared = lowered<ENet<>>(true);
    CHECK(g.nodes[g.find("regular1_1.out_activation.weight")].at.dims[0] == 64);
    CHECK(shared.nodes[shared.find("regular1_1.out_activation.weight")].at.dims[0] == 1);
    CHECK(g.nodes[g.find("asymmetric2_3.ext_conv2.1.weight")].at.rank == 4);            // the 1x5 follows at once
    CHECK(shared.nodes[shared.find("asymmetric2_3.ext_conv2.1.weight")].at.rank == 1);  // a norm
    CHECK(g.nodes[g.find("upsample4_0.ext_tconv1.weight")].at.dims[2] == 3);
    CHECK(g.find("regular1_1.ext_conv3.2.weight") < 0);
  }
  TEST_CASE("FCN starts as bilinear up-sampling") {
    const graph::graph g = lowered<FCN<8, from_data, 64>>(true);
    for (const char* name : {"upscore2.weight", "upscore_pool4.weight", "upscore8.weight"})
      CHECK(graph::init(g.nodes[g.find(name)].at.mode) == graph::init::bilinear_upsample);
  }
}
