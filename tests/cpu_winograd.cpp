// SPDX-License-Identifier: MIT
// Winograd's F(4x4, 3x3): the stated error bound against sums in double, beside the direct sum's error; borders, phases, threads, the switch.
#include "rsseg/cpu/winograd.hpp"

#include <doctest/doctest.h>

#include <vector>

#include "cpu_conv_cases.hpp"
#include "cpu_conv_data.hpp"
#include "rsseg/core/parallel.hpp"
#include "rsseg/cpu/conv.hpp"

namespace {

using rsseg::conv_geometry;
using namespace rsseg::test;
namespace cpu = rsseg::cpu;

template <class T>
std::vector<T> backward(const conv_data& d, bool fused) {
  const std::vector<T> dy = spread<T>(d.dy, d.g.out_c, d.g.y_pitch()), w(d.w.begin(), d.w.end()), bias(d.bias_x.begin(), d.bias_x.end());
  std::vector<T> packed(cpu::conv_packed_size_backward_data<T>(d.g)), dx = spread<T>(d.x, d.g.in_c, d.g.x_pitch()),
                                                                      workspace(cpu::conv_workspace_size_backward_data<T>(d.g) / sizeof(T));
  cpu::conv_pack_backward_data(d.g, w.data(), packed.data());
  cpu::conv_epilogue<T> e;
  if (fused) e.bias = bias.data(), e.residual = dx.data(), e.act = cpu::activation::relu;
  cpu::conv_backward_data(d.g, dy.data(), packed.data(), dx.data(), e, workspace.data());
  return joined(dx, d.g.in_c, d.g.x_pitch());
}

template <class T>
std::vector<T> weights(const conv_data& d, bool) {
  const std::vector<T> x = spread<T>(d.x, d.g.in_c, d.g.x_pitch()), dy = spread<T>(d.dy, d.g.out_c, d.g.y_pitch());
  std::vector<T> dw(d.w.size()), workspace(cpu::conv_workspace_size_backward_weights<T>(d.g) / sizeof(T));
  cpu::conv_backward_weights(d.g, x.data(), dy.data(), dw.data(), workspace.data());
  return dw;
}

bool takes_winograd(const conv_geometry& g) { return cpu::winograd_wins<float>(cpu::forward_gather(g)); }

}  // namespace

TEST_CASE("Winograd stays within its error bound") {
  const cpu::isa chosen = cpu::current_isa();
  const std::vector<conv_geometry> cases = {
      square(1, 28, 16, 16, 3, 1, 1),
      square(1, 29, 48, 32, 3, 1, 1),
      square(2, 31, 16, 80, 3, 1, 1),
      square(1, 40, 64, 64, 3, 1, 0),
      square(1, 30, 128, 144, 3, 1, 1),
      square(1, 33, 160, 128, 3, 1, 1),
      square(3, 15, 256, 64, 3, 1, 1),
      square(1, 30, 512, 32, 3, 1, 1),
      square(1, 28, 18, 18, 3, 1, 1),
      square(1, 30, 36, 37, 3, 1, 1),
      square(1, 29, 133, 131, 3, 1, 1),
      square(1, 34, 32, 48, 3, 1, 2, 2),
      square(1, 47, 16, 32, 3, 1, 4, 4),
      oblong(1, 41, 30, 32, 32, 3, 3, 1, 1, 2, 0, 1, 2, 1, 1, 1),
      oblong(1, 60, 35, 32, 16, 3, 3, 1, 1, 2, 2, 3, 3, 2, 3, 1),
      oblong(2, 18, 70, 48, 48, 3, 3, 1, 1, 0, 0, 0, 0, 1, 1, 1),
  };
  for (auto i : {cpu::isa::portable, cpu::isa::avx2, cpu::isa::avx512}) {
    if (!cpu::available(i)) continue;
    cpu::set_isa(i);
    for (const auto& g : cases) {
      INFO(cpu::name_of(i) << " in " << g.in_h << " " << g.in_w << " " << g.in_c << " out " << g.out_h << " " << g.out_w << " " << g.out_c
                           << " dilation " << g.dilation_h << " " << g.dilation_w);
      cpu::set_winograd(true);
      REQUIRE(takes_winograd(g));
      const conv_data d(g);
      conv_data wide = d;  // the tensors as columns of wider ones
      wide.g.in_pitch = g.in_c + 7, wide.g.out_pitch = 2 * g.out_c + 1;
      for (bool fused : {false, true})
        for (bool back : {false, true}) {
          INFO("fused " << fused << " backward " << back);
          const auto run = back ? backward<float> : forward<float>;
          const auto want = back ? backward<double>(d, fused) : forward<double>(d, fused);  // double never takes it
          cpu::set_winograd(true);
          rsseg::set_threads(1);
          const auto got = run(d, fused);
          rsseg::set_threads(2);
          CHECK(run(d, fused) == got);
          CHECK(run(wide, fused) == got);
          rsseg::set_threads(0);
          cpu::set_winograd(false);
          const auto direct = run(d, fused);
          const errors e = compare(got, want), plain = compare(direct, want);
          CHECK(e.rms < 2e-6);
          CHECK(e.largest < 4e-5);
          CHECK(plain.rms < 5e-7);
          CHECK(plain.largest < 1e-5);
          CHECK(e.rms != plain.rms);  // it did run
        }
    }
  }
  cpu::set_winograd(true);
  cpu::set_isa(chosen);
}

TEST_CASE("Winograd sums many input channels in several passes, within the same bound") {
  const cpu::isa chosen = cpu::current_isa();
  for (auto i : {cpu::isa::portable, cpu::isa::avx2, cpu::isa::avx512}) {
    if (!cpu::available(i)) continue;
    cpu::set_isa(i);
    for (const bool back : {false, true}) {  // the channels that are summed are x's, or dy's
      const conv_geometry g = back ? square(1, 28, 18, 1040, 3, 1, 1) : square(1, 30, 1040, 18, 3, 1, 2, 2);
      INFO(cpu::name_of(i) << " backward " << back);
      cpu::set_winograd(true);
      const auto shape = back ? cpu::backward_gather(g, 0, 0) : cpu::forward_gather(g);
      REQUIRE(cpu::winograd_wins<float>(shape));
      CHECK(cpu::winograd_slice(shape) == 352);  // 352, 352, 336
      const conv_data d(g);
      conv_data wide = d;
      wide.g.in_pitch = g.in_c + 7, wide.g.out_pitch = 2 * g.out_c + 1;
      for (bool fused : {false, true}) {
        INFO("fused " << fused);
        const auto run = back ? backward<float> : forward<float>;
        const auto want = back ? backward<double>(d, fused) : forward<double>(d, fused);
        rsseg::set_threads(1);
        const auto got = run(d, fused);
        rsseg::set_threads(2);
        CHECK(run(d, fused) == got);
        CHECK(run(wide, fused) == got);
        rsseg::set_threads(0);
        const errors e = compare(got, want);
        CHECK(e.rms < 2e-6);
        CHECK(e.largest < 4e-5);
      }
    }
  }
  cpu::set_isa(chosen);
}

TEST_CASE("Winograd is taken where it is meant to be") {
  cpu::set_winograd(true);
  CHECK(takes_winograd(square(1, 64, 64, 64, 3, 1, 1)));
  CHECK(takes_winograd(square(1, 64, 4096, 64, 3, 1, 1)));
  CHECK(!cpu::winograd_weights_wins<float>(square(1, 64, 4096, 64, 3, 1, 1)));
  CHECK(!takes_winograd(square(1, 64, 64, 64, 3, 2, 1)));
  CHECK(!takes_winograd(square(1, 64, 64, 64, 5, 1, 2)));
  CHECK(!takes_winograd(square(1, 64, 3, 64, 3, 1, 1)));
  CHECK(!takes_winograd(square(1, 64, 64, 64, 3, 1, 1, 1, 2)));
  CHECK(!takes_winograd(square(1, 32, 64, 64, 3, 1, 18, 18)));  // four tiles per phase would be mostly border
  CHECK(!cpu::winograd_wins<double>(cpu::forward_gather(square(1, 64, 64, 64, 3, 1, 1))));
  cpu::set_winograd(false);
  CHECK(!takes_winograd(square(1, 64, 64, 64, 3, 1, 1)));
  cpu::set_winograd(true);
}

TEST_CASE("Winograd's weight gradient stays within its error bound") {
  const cpu::isa chosen = cpu::current_isa();
  const std::vector<conv_geometry> cases = {
      square(1, 29, 48, 32, 3, 1, 1),  square(2, 31, 33, 80, 3, 1, 1), square(1, 30, 128, 144, 3, 1, 1),
      square(3, 15, 256, 64, 3, 1, 1), square(1, 30, 36, 37, 3, 1, 1), square(1, 34, 32, 48, 3, 1, 2, 2),
      square(1, 66, 100, 65, 3, 1, 1), square(2, 40, 64, 64, 3, 1, 0), oblong(1, 60, 35, 32, 35, 3, 3, 1, 1, 2, 2, 3, 3, 2, 3, 1),
  };
  for (auto i : {cpu::isa::portable, cpu::isa::avx2, cpu::isa::avx512}) {
    if (!cpu::available(i)) continue;
    cpu::set_isa(i);
    for (const auto& g : cases) {
      INFO(cpu::name_of(i) << " in " << g.in_h << " " << g.in_w << " " << g.in_c << " out " << g.out_c << " dilation " << g.dilation_h << " "
                           << g.dilation_w);
      cpu::set_winograd(true);
      REQUIRE(cpu::winograd_weights_wins<float>(g));
      const conv_data d(g);
      conv_data wide = d;  // the tensors as columns of wider ones
      wide.g.in_pitch = g.in_c + 7, wide.g.out_pitch = 2 * g.out_c + 1;
      const auto want = weights<double>(d, false);
      rsseg::set_threads(1);
      const auto got = weights<float>(d, false);
      rsseg::set_threads(2);
      CHECK(weights<float>(d, false) == got);
      CHECK(weights<float>(wide, false) == got);
      rsseg::set_threads(0);
      cpu::set_winograd(false);
      const auto direct = weights<float>(d, false);
      cpu::set_winograd(true);
      const errors e = compare(got, want), plain = compare(direct, want);
      CHECK(e.rms < 2e-6);
      CHECK(e.largest < 4e-5);
      CHECK(e.rms != plain.rms);
    }
  }
  cpu::set_isa(chosen);
}
