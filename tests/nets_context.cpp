// SPDX-License-Identifier: MIT
// PSPNet, DeepLab v3+, HRNetV2, ICNet: facts at compile time.
#include <doctest/doctest.h>

#include <span>

#include "nets_facts.hpp"
#include "rsseg/nets/deeplab_v3plus.hpp"
#include "rsseg/nets/hrnet.hpp"
#include "rsseg/nets/icnet.hpp"
#include "rsseg/nets/pspnet.hpp"

using namespace rsseg;

namespace {
static_assert(parameter_count<PSPNet<6>> == 49'070'028);
static_assert(parameter_count<DeepLabV3PlusXception<6>> == 54'701'462);
static_assert(parameter_count<DeepLabV3PlusSeparable<6>> == 12'330'582);
static_assert(parameter_count<HRNetV2<6, 16, hrnet_size::small_v1>> == 1'537'686);
static_assert(parameter_count<HRNetV2<6, 18, hrnet_size::small_v2>> == 3'936'056);
static_assert(parameter_count<ICNet<6>> == 6'700'626);

static_assert(output_of<PSPNet<21>>(shape{1, 3, 473, 473}) == shape{1, 21, 473, 473});
static_assert(output_of<DeepLabV3PlusSeparable<6>>(shape{2, 3, 513, 256}) == shape{2, 6, 513, 256});
static_assert(output_of<HRNetV2<6, 16, hrnet_size::small_v1>>(shape{1, 3, 64, 96}) == shape{1, 6, 16, 24});
static_assert(output_of<ICNet<19>>(shape{1, 3, 1025, 2049}) == shape{1, 19, 1025, 2049});
static_assert(!test::accepts<ICNet<19>>(shape{1, 3, 210, 193}), "the branches would not meet");
static_assert(!test::accepts<ICNet<19>>(shape{1, 3, 129, 193}), "six bins need six rows at stride 32");
}  // namespace

TEST_SUITE("nets") {
  TEST_CASE("parameters of the larger forms") {
    struct form {
      void (*build)(builder&);
      std::int64_t parameters;
    };
    const form forms[] = {{&PSPNet<6, 101>::build, 68'062'156},
                          {&DeepLabV3Plus<6>::build, 59'340'454},
                          {&DeepLabV3Plus<6, deeplab_backbone::resnet101, 8>::build, 59'340'454},
                          {&HRNetV2<6, 18>::build, 9'637'596},
                          {&HRNetV2<6, 32>::build, 29'540'262},
                          {&HRNetV2<6, 48>::build, 65'850'006}};
    for (const form& f : forms) {
      builder b(build_options{.training = true});
      f.build(b);
      CHECK_FALSE(b.failed());
      CHECK(graph::parameter_count(b.g) == f.parameters);
    }
  }
  TEST_CASE("what the size rules of the entries allow, the networks take and give back") {
    for (const auto& list : {std::span<const network_entry>(pspnet_networks), std::span<const network_entry>(deeplab_v3plus_networks),
                             std::span<const network_entry>(icnet_networks), std::span<const network_entry>(hrnet_networks)})
      for (const network_entry& e : list) {
        builder b(build_options{.classes = 6});
        e.build(b);
        const int scale = list.data() == hrnet_networks ? 4 : 1;
        for (int n = e.minimum_size; n < e.minimum_size + 70; ++n) {
          if (!test::legal(n, e.size_multiple, e.size_offset, e.minimum_size)) continue;
          const shape in{1, 3, n, e.minimum_size};
          graph::graph_error error;
          const auto s = graph::extents_for(b.g, &in, 1, error);
          CHECK_MESSAGE(error.what == graph::fault::none, e.name, " at ", n);
          const shape whole{1, 6, n / scale, e.minimum_size / scale};
          CHECK_MESSAGE(s[b.g.outputs[0].node] == whole, e.name, " at ", n);
        }
      }
  }
  TEST_CASE("auxiliary outputs exist in training only, with the weights of the papers") {
    builder eval(build_options{.classes = 6}), train(build_options{.classes = 6, .training = true});
    PSPNet<>::build(eval);
    PSPNet<>::build(train);
    CHECK(eval.g.outputs.size() == 1);
    REQUIRE(train.g.outputs.size() == 2);
    CHECK(train.g.outputs[1].loss_weight == 0.4);
    CHECK(train.g.outputs[1].train_only);
    builder cascade(build_options{.classes = 6, .training = true});
    ICNet<>::build(cascade);
    REQUIRE(cascade.g.outputs.size() == 3);
    CHECK(cascade.g.outputs[2].loss_weight == 0.16);
    CHECK(cascade.g.outputs[0].labels == label_rule::resize_labels);
  }
}
