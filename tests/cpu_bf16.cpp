// SPDX-License-Identifier: MIT
// Convolutions of bfloat16 numbers: the sums of rounded products to float's accuracy (a product of two such numbers is exact in float), on every
// instruction set; what is rounded and what is not; a network as a whole.
#include "rsseg/cpu/bf16.hpp"

#include <doctest/doctest.h>

#include <bit>
#include <cstring>

#include "cpu_conv_cases.hpp"
#include "cpu_conv_data.hpp"
#include "rsseg/core/parallel.hpp"
#include "rsseg/model/model.hpp"
#include "rsseg/nets/unet.hpp"

namespace {

using namespace rsseg::test;
using rsseg::conv_geometry;
namespace cpu = rsseg::cpu;

float rounded(float v) { return std::bit_cast<float>(std::uint32_t(cpu::bf16_bits(std::bit_cast<std::uint32_t>(v))) << 16); }

conv_data rounded(conv_data d) {
  for (auto* v : {&d.x, &d.w})
    for (float& e : *v) e = rounded(e);
  return d;
}

bool takes_bf16(const conv_geometry& g) { return cpu::bf16_runs<float>(cpu::forward_gather(g)); }

}  // namespace

TEST_CASE("bfloat16 is the nearest one, ties to even") {
  CHECK(cpu::bf16_bits(std::bit_cast<std::uint32_t>(1.0f)) == 0x3F80);
  CHECK(cpu::bf16_bits(0x3F808000u) == 0x3F80);  // half way: even
  CHECK(cpu::bf16_bits(0x3F818000u) == 0x3F82);
  CHECK(cpu::bf16_bits(0x3F808001u) == 0x3F81);
  CHECK(cpu::bf16_bits(0xC0490FDBu) == 0xC049);            // -pi
  CHECK(cpu::bf16_bits(0x7F7FFFFFu) == 0x7F80);            // the largest float is nearest to infinity
  CHECK(cpu::bf16_bits(0xFF800000u) == 0xFF80);            // -infinity
  CHECK((cpu::bf16_bits(0x7F800001u) & 0x7FFF) > 0x7F80);  // NaN
  CHECK((cpu::bf16_bits(0xFFFFFFFFu) & 0x7FFF) > 0x7F80);
  CHECK(cpu::bf16_bits(0x80000000u) == 0x8000);
}

TEST_CASE("bfloat16 convolutions are the sums of the rounded numbers' products") {
  std::vector<conv_geometry> cases = conv_cases();
  for (const conv_geometry& g : {square(1, 9, 64, 70, 1), square(1, 20, 33, 64, 1, 2), square(1, 25, 40, 24, 3, 1, 12, 12),
                                 square(2, 11, 129, 65, 3, 2, 1), square(1, 9, 1025, 6, 1), square(1, 5, 35, 8, 3, 1, 1), square(1, 8, 32, 3, 5),
                                 square(1, 3, 64, 200, 3, 1, 6, 6), oblong(2, 13, 9, 50, 33, 1, 7, 2, 1, 0, 0, 3, 2, 1, 1, 1)})
    cases.push_back(g);
  const cpu::isa chosen = cpu::current_isa();
  int taken = 0;
  for (auto i : {cpu::isa::portable, cpu::isa::avx2, cpu::isa::avx512}) {
    if (!cpu::available(i)) continue;
    cpu::set_isa(i);
    for (conv_geometry g : cases) {
      g.bf16 = true;
      if (!takes_bf16(g)) continue;
      ++taken;
      INFO(cpu::name_of(i) << " in " << g.in_h << " " << g.in_w << " " << g.in_c << " out " << g.out_c << " kernel " << g.kernel_h << " "
                           << g.kernel_w << " dilation " << g.dilation_h);
      const conv_data d(g), exact = rounded(d);
      conv_data wide = d;  // the tensors as columns of wider ones
      wide.g.in_pitch = g.in_c + 7, wide.g.out_pitch = 2 * g.out_c + 1;
      for (bool fused : {false, true}) {
        INFO("fused " << fused);
        const auto want = forward<double>(exact, fused);
        rsseg::set_threads(1);
        const auto got = forward<float>(d, fused);
        rsseg::set_threads(3);
        CHECK(forward<float>(d, fused) == got);
        CHECK(forward<float>(wide, fused) == got);
        rsseg::set_threads(0);
        const errors e = compare(got, want);
        CHECK(e.rms < 5e-7);
        CHECK(e.largest < 1e-5);
      }
      CHECK(cpu::conv_packed_size<float>(g) <= (cpu::conv_packed_size<double>(g) + 1) / 2 + 64 * 64 * 8);
    }
  }
  CHECK(taken >= 20);
  cpu::set_isa(chosen);
}

TEST_CASE("NaN and infinity pass through bfloat16 convolutions") {
  conv_geometry g = square(1, 4, 40, 8, 1);
  g.bf16 = true;
  REQUIRE(takes_bf16(g));
  conv_data d(g);
  d.x[5] = std::numeric_limits<float>::quiet_NaN();           // pixel 0
  d.x[2 * 40 + 39] = std::numeric_limits<float>::infinity();  // pixel 2
  const auto y = forward<float>(d, false);
  for (int c = 0; c < 8; ++c) CHECK(std::isnan(y[std::size_t(c)]));
  for (int c = 0; c < 8; ++c) CHECK(std::isfinite(y[std::size_t(8 + c)]));
  for (int c = 0; c < 8; ++c) CHECK(std::isinf(y[std::size_t(16 + c)]));
}

TEST_CASE("what stays in float") {
  const auto asks = [](conv_geometry g) {
    g.bf16 = true;
    return takes_bf16(g);
  };
  CHECK(asks(square(1, 16, 64, 64, 1)));
  CHECK(asks(square(1, 64, 64, 64, 3, 2, 1)));
  CHECK(!takes_bf16(square(1, 16, 64, 64, 1)));         // nobody asked
  CHECK(!asks(square(1, 64, 64, 64, 3, 1, 1)));         // Winograd's
  CHECK(!asks(square(1, 64, 3, 64, 3, 2, 1)));          // few channels
  CHECK(!asks(square(1, 16, 64, 64, 1, 1, 0, 1, 2)));   // groups
  CHECK(!asks(square(1, 16, 64, 64, 3, 2, 1, 1, 64)));  // depthwise
  conv_geometry g = square(1, 16, 64, 64, 1);
  g.bf16 = true;
  CHECK(!cpu::bf16_runs<double>(cpu::forward_gather(g)));
  CHECK(!cpu::bf16_runs<float>(cpu::backward_gather(g, 0, 0)));
}

TEST_CASE("a network infers in bfloat16 when told so, and trains in float") {
  rsseg::Model<rsseg::UNet<4, 32>> net;
  net.weights().initialise(7);
  rsseg::tensor<float> x(rsseg::shape{1, 3, 32, 32});
  const auto values = noise<float>(x.size(), 3);
  std::copy(values.begin(), values.end(), x.data());
  const auto list = [](const rsseg::tensor<float>& t) { return std::vector<float>(t.data(), t.data() + t.size()); };
  const auto plain = list(net.infer(x));
  net.set_bfloat16(true);
  const auto half = list(net.infer(x));
  CHECK(half != plain);
  const errors e = compare(half, std::vector<double>(plain.begin(), plain.end()));
  CHECK(e.rms < 2e-2);
  CHECK(e.rms > 1e-5);
  net.prepare_training(rsseg::graph::loss_options{});
  for (const auto& n : net.training().graph().nodes) CHECK(!n.at.bf16);
  net.set_bfloat16(false);
  CHECK(list(net.infer(x)) == plain);
}
