// SPDX-License-Identifier: MIT
// Folded and packed weights in inference: piece by piece where a layer has many pixels, kept where it has few. Both ways, and with other weights, the
// same answer; and no room for the whole where a piece will do.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "rsseg/rsseg.hpp"

using namespace rsseg;

namespace {
/// 3x3, 192 to 640 channels, batch normalisation folded into it: 17 MiB of weights for Winograd's algorithm, so two pieces.
struct Wide {
  static constexpr void build(builder& b) {
    const value x = conv(b, "narrow", b.input("x", 3), 192);
    const scope s(b, "wide");
    b.output("logits", batch_norm(b, "bn", conv(b, "conv", x, 640, {.kernel = 3, .bias = false})), 1);
  }
};

void fill(parameter_store<float>& w, std::uint64_t seed) {
  w.initialise(seed);
  random_stream r(seed, 7);
  for (const auto& e : w.entries()) {
    float* const p = w.values().data() + e.offset;
    const bool statistics = e.name.find("running") != std::string::npos, scale = e.name.find("bn.weight") != std::string::npos;
    if (statistics || scale)
      for (std::size_t i = 0; i < e.size; ++i) p[i] = float(r.uniform(0.5, 2));  // other factors for each channel
  }
  w.touch();
}
}  // namespace

TEST_CASE("weights folded and packed piece by piece give what kept ones give") {
  build_options o;
  o.classes = 640;
  const shape many{1, 3, 32, 32}, few{1, 3, 31, 32};  // from 1024 pixels on nothing is kept
  tensor<float> image(many), cut(few);
  random_stream r(5, 1);
  for (int c = 0; c < 3; ++c)
    for (int y = 0; y < 32; ++y)
      for (int x = 0; x < 32; ++x) {
        image(0, c, y, x) = float(r.uniform(-1, 1));
        if (y < 31) cut(0, c, y, x) = image(0, c, y, x);
      }
  basic_model<float> pieces(&Wide::build, o), kept(&Wide::build, o);
  for (std::uint64_t seed : {1, 2}) {  // the second time over old packed weights
    fill(pieces.weights(), seed), fill(kept.weights(), seed);
    pieces.infer(image), kept.infer(cut);
    const tensor<float> a = pieces.output(0), b = kept.output(0);
    double worst = 0, square = 0;
    for (int c = 0; c < 640; ++c)
      for (int y = 0; y < 30; ++y)  // the cut's last row sees padding
        for (int x = 0; x < 32; ++x) {
          worst = std::max(worst, std::abs(double(a(0, c, y, x)) - b(0, c, y, x)));
          square += double(b(0, c, y, x)) * b(0, c, y, x);
        }
    CHECK(square > 1);
    CHECK(worst < 1e-4 * std::sqrt(square / (640 * 30 * 32)));
  }
  const auto weights_of = [](basic_model<float>& m) { return m.inference().bytes() - m.inference().plan().arena_bytes; };
  CHECK(weights_of(pieces) < weights_of(kept) * 2 / 3);
  CHECK(weights_of(pieces) < (std::size_t(16) << 20));
}
