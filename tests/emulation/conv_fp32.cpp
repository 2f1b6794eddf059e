// SPDX-License-Identifier: MIT
// The fp32 convolution: forward, data gradient, weight gradient and epilogues against double, at odd sizes, strides, dilations and groups.
#include "kernels/conv_fp32.cuh"
#include "conv_reference.hpp"

using namespace rsseg;
using namespace rsseg::cuda;
using namespace rsseg::test;

TEST_CASE("conv fp32: all three passes") {
  const conv_case cases[] = {
      {"first layer, 3 channels", geometry(2, 11, 13, 3, 20, 3, 3)},
      {"narrow, odd", geometry(1, 9, 17, 12, 7, 3, 3)},
      {"medium tile, 1x1", geometry(1, 15, 9, 36, 40, 1, 1)},
      {"unaligned channels", geometry(1, 10, 10, 18, 50, 3, 3)},
      {"stride 2", geometry(2, 11, 14, 8, 36, 3, 3, 2)},
      {"7x7 stride 2", geometry(1, 17, 19, 3, 33, 7, 7, 2)},
      {"dilation beyond the map", geometry(1, 16, 16, 8, 40, 3, 3, 1, 18)},
      {"dilation 6", geometry(1, 21, 17, 8, 12, 3, 3, 1, 6)},
      {"groups", geometry(1, 9, 9, 24, 36, 3, 3, 1, 1, 3)},
      {"asymmetric 5x1", geometry(1, 12, 10, 16, 16, 5, 1)},
      {"2x2 stride 2 (up-convolution)", geometry(1, 16, 12, 20, 36, 2, 2, 2, 1, 1, 0)},
      {"no padding, 1 pixel out", geometry(2, 3, 3, 5, 9, 3, 3, 1, 1, 1, 0)},
      {"large tile", geometry(1, 5, 9, 72, 68, 3, 3)},
  };
  for (const auto& [what, g] : cases) {
    CAPTURE(what);
    const std::size_t ins = std::size_t(g.n * g.in_h * g.in_w * g.in_c), outs = std::size_t(g.n * g.out_h * g.out_w * g.out_c);
    const auto x = random_values(ins, 1), w = random_values(std::size_t(g.weights()), 2), dy = random_values(outs, 3);
    const auto want = reference_conv(g, x, w, dy);
    std::vector<float> first;
    in_every_order([&] {
      device_array<float> px(x), pw(w), pdy(dy), y(outs), dx(ins), dw(w.size()), work(conv_weight_workspace(g));
      conv_forward({}, g, px.get(), pw.get(), y.get());
      CHECK(relative_error(y.host(), want.y) < 3e-6);
      conv_data_gradient({}, g, pdy.get(), pw.get(), dx.get());
      CHECK(relative_error(dx.host(), want.dx) < 3e-6);
      conv_weight_gradient({}, g, px.get(), pdy.get(), dw.get(), work.get());
      CHECK(relative_error(dw.host(), want.dw) < 3e-6);
      if (first.empty()) first = dw.host();
      CHECK(dw.host() == first);
      conv_weight_gradient({}, g, px.get(), pdy.get(), dw.get(), work.get(), true);
      std::vector<double> twice = want.dw;
      for (double& v : twice) v *= 2;
      CHECK(relative_error(dw.host(), twice) < 3e-6);
    });
  }
}

TEST_CASE("conv fp32: the large tile and several splits") {
  const auto g = geometry(1, 34, 37, 4, 132, 3, 3);
  const std::size_t ins = std::size_t(g.n * g.in_h * g.in_w * g.in_c), outs = std::size_t(g.n * g.out_h * g.out_w * g.out_c);
  const auto x = random_values(ins, 1), w = random_values(std::size_t(g.weights()), 2), dy = random_values(outs, 3);
  const auto want = reference_conv(g, x, w, dy);
  REQUIRE(conv_weight_splits(g) > 1);
  device_array<float> px(x), pw(w), pdy(dy), y(outs), dw(w.size()), work(conv_weight_workspace(g));
  conv_fp32_run<conv_pass::forward, fp32_large>({}, g, px.get(), pw.get(), y.get(), {});
  CHECK(relative_error(y.host(), want.y) < 3e-6);
  conv_weight_gradient({}, g, px.get(), pdy.get(), dw.get(), work.get());
  CHECK(relative_error(dw.host(), want.dw) < 3e-6);
  device_array<float> dx(ins);
  conv_fp32_run<conv_pass::data, fp32_large>({}, g, pdy.get(), pw.get(), dx.get(), {});
  CHECK(relative_error(dx.host(), want.dx) < 3e-6);
}

TEST_CASE("conv fp32: epilogue") {
  const auto g = geometry(1, 7, 9, 8, 40, 3, 3);
  const std::size_t ins = std::size_t(g.n * g.in_h * g.in_w * g.in_c), outs = std::size_t(g.n * g.out_h * g.out_w * g.out_c);
  const auto x = random_values(ins, 1), w = random_values(std::size_t(g.weights()), 2), r = random_values(outs, 3), scale = random_values(40, 4),
             shift = random_values(40, 5);
  auto want = reference_conv(g, x, w, r).y;
  for (std::size_t i = 0; i < outs; ++i) want[i] = std::max(0.0, want[i] * double(scale[i % 40]) + double(shift[i % 40]) + double(r[i]));
  in_every_order([&] {
    device_array<float> px(x), pw(w), pr(r), ps(scale), pt(shift);
    conv_forward({}, g, px.get(), pw.get(), pr.get(), {ps.get(), pt.get(), pr.get(), activation::relu});  // residual in place
    CHECK(relative_error(pr.host(), want) < 3e-6);
  });
}

TEST_CASE("conv fp32: impossible geometries are refused") {
  auto g = geometry(1, 7, 9, 8, 40, 3, 3);
  g.groups = 3;
  CHECK(contains(fault_of([&] { conv_forward({}, g, nullptr, nullptr, nullptr); }), "divisible by the groups"));
  g.groups = 1, g.in_pitch = 16;
  CHECK(contains(fault_of([&] { conv_forward({}, g, nullptr, nullptr, nullptr); }), "dense tensors expected"));
}
