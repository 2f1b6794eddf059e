// SPDX-License-Identifier: MIT
// Networks of systems with several stages: parameter counts, extents, what is fixed stays fixed, points and windows.
#include <doctest/doctest.h>

#include "nets_facts.hpp"
#include "rsseg/layers/point_ops.hpp"
#include "rsseg/model/model.hpp"
#include "rsseg/nets/awmf_cnn.hpp"
#include "rsseg/nets/deep_guided_filter.hpp"
#include "rsseg/nets/hazn.hpp"
#include "rsseg/nets/iss.hpp"
#include "rsseg/nets/magnet.hpp"
#include "rsseg/nets/patch_then_segment.hpp"

using namespace rsseg;

namespace {
static_assert(parameter_count<MagNetRefinement<7>> == 88'092);
static_assert(parameter_count<ISSRefiner<5>> == 73'375);
static_assert(parameter_count<DGFHead<6>> == 688 && parameter_count<DeepGuidedFilter<>> == 27'068);
static_assert(parameter_count<DeepGuidedFilter<16, true>> == 28'547);
static_assert(parameter_count<AWMFCNN<4, 16>> == 1'486'051);
static_assert(output_of<AWMFExpert<0, 4, 16>>(shape{1, 3, 40, 64}) == shape{1, 4, 40, 64});
static_assert(output_of<ISSRefiner<5>>(shape{1, 3, 33, 20}, shape{1, 5, 33, 20}) == shape{1, 5, 33, 20});
static_assert(output_of<MagNetRefinement<7>>(shape{2, 7, 5, 9}, shape{2, 7, 5, 9}) == shape{2, 7, 5, 9});
static_assert(!test::accepts<MagNetRefinement<7>>(shape{2, 7, 5, 9}, shape{2, 7, 5, 8}));

/// One window of x, pasted back where it was.
struct window_and_back {
  static constexpr void build(builder& b) {
    const value x = b.input("x", 1);
    const value w = graph::ops::crop_window(b, x, 0.5, 0.25, 1, 2);
    b.output("window", w);
    b.output("back", graph::ops::paste_window(b, w, x, 0.5, 0.25));
  }
};
static_assert(output_of<window_and_back>(shape{1, 1, 5, 7}) == shape{1, 1, 2, 4});  // 2.5 and 3.5 round to even

/// The two least certain pixels of x replaced by 9.
struct replace_two {
  static constexpr void build(builder& b) {
    const value x = b.input("x", 2);
    const value where = uncertain_cells(b, x, 2);
    b.output("y", place_at(b, x, where, graph::ops::affine(b, sample_at(b, x, where), 0, 9)));
  }
};
}  // namespace

TEST_SUITE("nets") {
  TEST_CASE("a window of a map begins where rounding to even says, and goes back there") {
    Model<window_and_back> net;
    tensor<float> x(shape{1, 1, 5, 7});
    for (std::size_t i = 0; i < x.size(); ++i) x.data()[i] = float(i + 1);
    const tensor<float> w = net.infer(x), back = net.output(1);
    CHECK(w.data()[0] == 2 * 7 + 2 + 1);  // round(2.5) = 2, round(1.75) = 2
    for (int r = 0; r < 5; ++r)
      for (int c = 0; c < 7; ++c) CHECK(back.data()[r * 7 + c] == (r >= 2 && r < 4 && c >= 2 && c < 6 ? x.data()[r * 7 + c] : 0.0F));
  }

  TEST_CASE("the least certain pixels are replaced, and only they") {
    Model<replace_two> net;
    tensor<float> x(shape{1, 2, 4, 3});
    for (int i = 0; i < 12; ++i) x.data()[2 * i] = 1, x.data()[2 * i + 1] = float(2 + (i * 5) % 12);  // margins 1 at pixel 0, 2 at pixel 5
    const tensor<float> y = net.infer(x);
    for (int i = 0; i < 12; ++i)
      for (int k = 0; k < 2; ++k) CHECK(y.data()[2 * i + k] == (i == 0 || i == 5 ? 9.0F : x.data()[2 * i + k]));
  }
}
