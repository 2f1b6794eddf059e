// SPDX-License-Identifier: MIT
// Facts about ResNet and VGG that hold at compile time, and the differences between their dialects.
#include <doctest/doctest.h>

#include "nets_facts.hpp"
#include "rsseg/nets/resnet.hpp"
#include "rsseg/nets/vgg.hpp"

using namespace rsseg;

namespace {
template <class Backbone>
using probe = Network<Seq<Named<"body", Backbone>, Conv<7>>>;
template <class Backbone>
using last_map = Network<Backbone>;

// Table 1 of the paper without the classifier, plus a 1x1 head to 7 classes.
static_assert(parameter_count<probe<ResNet18<>>> == 11'180'103);
static_assert(parameter_count<probe<ResNet50<>>> == 23'522'375);
static_assert(parameter_count<probe<ResNet50<OutputStride<8>>>> == 23'522'375, "dilation has no parameters");
static_assert(parameter_count<probe<VGG16<>>> == 14'718'279);
static_assert(parameter_count<probe<VGG16<true>>> == 14'726'727);

static_assert(output_of<last_map<ResNet18<>>>(shape{2, 3, 64, 96}) == shape{2, 512, 2, 3});
static_assert(output_of<last_map<ResNet50<OutputStride<16>>>>(shape{1, 3, 65, 65}) == shape{1, 2048, 5, 5});
static_assert(output_of<last_map<ResNet50<OutputStride<8>, DeepStem, WholeStageDilation>>>(shape{1, 3, 65, 65}) == shape{1, 2048, 9, 9});
static_assert(output_of<last_map<ResNet50<Stages<3>>>>(shape{1, 3, 512, 512}) == shape{1, 1024, 32, 32});
static_assert(output_of<last_map<ResNet18<CeilPool>>>(shape{1, 3, 60, 60}) == shape{1, 512, 2, 2});
static_assert(output_of<last_map<VGG16<>>>(shape{1, 3, 65, 64}) == shape{1, 512, 2, 2});
static_assert(!test::accepts<last_map<VGG16<>>>(shape{1, 3, 31, 64}), "five pools leave nothing of 31 rows");

/// Dilations of the 3x3 convolutions of the stages 3 and 4, in order.
template <int N>
struct dilations {
  int of[N] = {};
  constexpr bool operator==(const dilations&) const = default;
};
template <int N>
constexpr dilations<N> last_dilations(const resnet_options& o) {
  builder b;
  resnet(b, b.input("x", 3), o);
  dilations<N> d;
  int at = N;
  for (int i = b.g.nodes.size() - 1; i >= 0 && at > 0; --i)
    if (b.g.nodes[i].kind == graph::op::conv && b.g.nodes[i].at.kernel_h == 3) d.of[--at] = b.g.nodes[i].at.dilation_h;
  return d;
}
constexpr resnet_options fifty(dilation_rule rule) { return resnet_of_depth(50, 8, rule); }
static_assert(last_dilations<9>(fifty(dilation_rule::previous_first)) == dilations<9>{{1, 2, 2, 2, 2, 2, 2, 4, 4}});
static_assert(last_dilations<9>(fifty(dilation_rule::whole_stage)) == dilations<9>{{2, 2, 2, 2, 2, 2, 4, 4, 4}});
static_assert(last_dilations<9>(fifty(dilation_rule::undilated_first)) == dilations<9>{{1, 2, 2, 2, 2, 2, 1, 4, 4}});
constexpr resnet_options with_grid() {
  resnet_options o = resnet_of_depth(101, 16, dilation_rule::whole_stage);
  o.grid[1] = 2, o.grid[2] = 4;
  return o;
}
static_assert(last_dilations<4>(with_grid()) == dilations<4>{{1, 2, 4, 8}});
}  // namespace

TEST_SUITE("nets") {
  TEST_CASE("the stride of a bottleneck sits in its 3x3, or in the 1x1 in front") {
    for (const bool first : {false, true}) {
      builder b;
      residual_options o;
      o.out = 16, o.stride = 2, o.stride_in_first = first;
      bottleneck_block(b, b.input("x", 8), o);
      for (const graph::node& n : b.g.nodes)
        if (n.kind == graph::op::conv && n.channels == 4) CHECK(n.at.stride_h == ((n.at.kernel_h == 1) == first ? 2 : 1));
    }
  }
  TEST_CASE("an impossible depth or output stride is refused") {
    for (const resnet_options& o : {resnet_of_depth(20), resnet_of_depth(50, 12)}) {
      builder b;
      resnet(b, b.input("x", 3), o);
      CHECK(b.failed());
    }
  }
  TEST_CASE("a frozen norm keeps its parameters and gets no gradient") {
    builder b(build_options{.training = true});
    const value y = frozen_batch_norm(b, conv(b, "c", b.input("x", 3), 4));
    b.output("logits", y, 1);
    graph::make_training_graph(b.g);
    int frozen = 0, trained = 0;
    for (int i = 0; i < b.g.gradients.size(); i += 2) {  // pairs (parameter, gradient)
      const auto name = b.g.name_of(b.g.gradients[i]);
      ++(name == "weight" || name == "bias" ? frozen : trained);
    }
    CHECK(frozen == 0);
    CHECK(trained == 2);
  }
}
