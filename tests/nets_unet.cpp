// SPDX-License-Identifier: MIT
// U-Net and SegNet: facts at compile time.
#include <doctest/doctest.h>

#include <span>

#include "nets_facts.hpp"
#include "rsseg/nets/segnet.hpp"
#include "rsseg/nets/unet.hpp"

using namespace rsseg;

namespace {
static_assert(parameter_count<UNet<6>> == 31'037'958);
static_assert(parameter_count<UNetBilinear<6>> == 17'263'302);
static_assert(parameter_count<WithBands<1, UNetOriginal<2>>> == 31'030'658);
static_assert(parameter_count<UNetResNet34<6>> == 24'437'094);
static_assert(parameter_count<SegNet<6>> == 29'446'470);
static_assert(parameter_count<SegNet<6, segnet_head::conv_bn_relu>> == 29'446'482);

static_assert(output_of<UNet<6>>(shape{1, 3, 256, 256}) == shape{1, 6, 256, 256});
static_assert(output_of<UNet<6>>(shape{2, 3, 71, 53}) == shape{2, 6, 71, 53});
static_assert(output_of<UNetOriginal<2>>(shape{1, 3, 572, 572}) == shape{1, 2, 388, 388});
static_assert(output_of<UNetOriginal<2>>(shape{1, 3, 188, 204}) == shape{1, 2, 4, 20});
static_assert(output_of<UNetResNet34<6>>(shape{1, 3, 64, 96}) == shape{1, 6, 64, 96});
static_assert(output_of<SegNet<6>>(shape{1, 3, 45, 60}) == shape{1, 6, 45, 60});
static_assert(macs_of<UNet<21>>(shape{1, 3, 256, 256}) / 100'000'000 == 482, "48.2 G, as counted from the reference");
static_assert(macs_of<SegNet<11>>(shape{1, 3, 360, 480}) / 100'000'000 == 1062);

static_assert(!test::accepts<UNet<6>>(shape{1, 3, 15, 64}));
static_assert(!test::accepts<UNetOriginal<2>>(shape{1, 3, 172, 188}), "nothing would be left");
static_assert(!test::accepts<UNetResNet34<6>>(shape{1, 3, 65, 64}), "up-sampled maps and skips differ");
static_assert(!test::accepts<SegNet<6>>(shape{1, 3, 31, 32}));
}  // namespace

TEST_SUITE("nets") {
  TEST_CASE("narrow U-Nets have the registered widths") {
    for (const network_entry& e : unet_networks) {
      builder b(build_options{.classes = 6});
      e.build(b);
      CHECK_FALSE(b.failed());
      if (std::string_view(e.name) == "unet-16") CHECK(b.g.nodes[b.g.find("inc.double_conv.0.weight")].at.dims[0] == 16);
    }
  }
  TEST_CASE("what the size rules of the entries allow, the networks take") {
    for (const auto& list : {std::span<const network_entry>(unet_networks), std::span<const network_entry>(segnet_networks)})
      for (const network_entry& e : list) {
        builder b(build_options{.classes = 6});
        e.build(b);
        for (int n = e.minimum_size; n < e.minimum_size + 70; ++n) {
          if (!test::legal(n, e.size_multiple, e.size_offset, e.minimum_size)) continue;
          const shape in{1, 3, n, e.minimum_size};
          graph::graph_error error;
          graph::extents_for(b.g, &in, 1, error);
          CHECK_MESSAGE(error.what == graph::fault::none, e.name, " at ", n);
        }
      }
  }
}
