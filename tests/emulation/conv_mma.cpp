// SPDX-License-Identifier: MIT
// The tensor-core convolution, with the instructions' register layouts modelled: bf16, fp16 and tf32, all passes, aligned and unaligned channels.
#include "kernels/conv_mma.cuh"
#include "conv_reference.hpp"

using namespace rsseg;
using namespace rsseg::cuda;
using namespace rsseg::test;

namespace {
/// tolerance: of results stored in the operands' type. Products and sums are exact or fp32, so inputs already rounded leave only the last rounding.
template <class T>
void check_passes(const char* what, const conv_geometry& g, double tolerance, double sum_tolerance) {
  using S = typename mma_operand<T>::stored;
  CAPTURE(what);
  const std::size_t ins = std::size_t(g.n * g.in_h * g.in_w * g.in_c), outs = std::size_t(g.n * g.out_h * g.out_w * g.out_c);
  const auto x = stored<S>(random_values(ins, 1)), w = stored<S>(random_values(std::size_t(g.weights()), 2)), dy = stored<S>(random_values(outs, 3));
  const auto want = reference_conv(g, widened(x), widened(w), widened(dy));
  std::vector<float> first;
  in_every_order([&] {
    device_array<S> px(x), pw(w), pdy(dy), y(outs), dx(ins);
    device_array<float> dw(w.size()), work(conv_mma_weight_workspace<T>(g));
    conv_mma_forward<T>({}, g, px.get(), pw.get(), y.get());
    CHECK(relative_error(y.host(), want.y) < tolerance);
    conv_mma_data_gradient<T>({}, g, pdy.get(), pw.get(), dx.get());
    CHECK(relative_error(dx.host(), want.dx) < tolerance);
    conv_mma_weight_gradient<T>({}, g, px.get(), pdy.get(), dw.get(), work.get());
    CHECK(relative_error(dw.host(), want.dw) < sum_tolerance);
    if (first.empty()) first = dw.host();
    CHECK(dw.host() == first);
  });
}
}  // namespace

TEST_CASE("conv mma: bf16") {
  const conv_case cases[] = {
      {"odd size", geometry(2, 7, 9, 24, 40, 3, 3)},
      {"first layer, 3 channels (unaligned)", geometry(1, 9, 11, 3, 20, 3, 3)},
      {"21 classes (unaligned)", geometry(1, 9, 7, 16, 21, 1, 1)},
      {"stride 2", geometry(1, 11, 9, 16, 24, 3, 3, 2)},
      {"dilation 12", geometry(1, 15, 14, 8, 16, 3, 3, 1, 12)},
      {"groups", geometry(1, 7, 6, 32, 48, 3, 3, 1, 1, 2)},
      {"1x5", geometry(1, 8, 10, 16, 16, 1, 5)},
      {"2x2 stride 2", geometry(1, 8, 6, 16, 24, 2, 2, 2, 1, 1, 0)},
  };
  for (const auto& c : cases) check_passes<bf16>(c.what, c.g, 4e-3, 2e-6);
}
TEST_CASE("conv mma: fp16 and tf32") {
  check_passes<f16>("fp16", geometry(1, 9, 10, 24, 40, 3, 3, 1, 2), 6e-4, 2e-6);
  check_passes<tf32>("tf32", geometry(1, 9, 10, 20, 36, 3, 3, 1, 2), 1e-3, 1e-3);
  check_passes<tf32>("tf32, unaligned, stride 2", geometry(1, 9, 11, 3, 10, 3, 3, 2), 1e-3, 1e-3);
}
TEST_CASE("conv mma: large tile, several splits") {
  const auto g = geometry(1, 26, 25, 72, 80, 1, 1);
  REQUIRE(conv_mma_weight_splits<bf16>(g) > 1);
  const std::size_t ins = std::size_t(g.n * g.in_h * g.in_w * g.in_c), outs = std::size_t(g.n * g.out_h * g.out_w * g.out_c);
  const auto x = stored<bf16>(random_values(ins, 1)), w = stored<bf16>(random_values(std::size_t(g.weights()), 2)),
             dy = stored<bf16>(random_values(outs, 3));
  const auto want = reference_conv(g, widened(x), widened(w), widened(dy));
  device_array<bf16> px(x), pw(w), pdy(dy), y(outs), dx(ins);
  conv_mma_run<conv_pass::forward, mma_large<bf16>>({}, g, px.get(), pw.get(), y.get(), {});
  CHECK(relative_error(y.host(), want.y) < 4e-3);
  conv_mma_run<conv_pass::data, mma_large<bf16>>({}, g, pdy.get(), pw.get(), dx.get(), {});
  CHECK(relative_error(dx.host(), want.dx) < 4e-3);
  device_array<float> dw(w.size()), work(conv_mma_weight_workspace<bf16>(g));
  conv_mma_weight_gradient<bf16>({}, g, px.get(), pdy.get(), dw.get(), work.get());
  CHECK(relative_error(dw.host(), want.dw) < 2e-6);
}
TEST_CASE("conv mma: epilogue with residual and ReLU") {
  const auto g = geometry(1, 7, 9, 16, 24, 3, 3);
  const std::size_t ins = std::size_t(g.n * g.in_h * g.in_w * g.in_c), outs = std::size_t(g.n * g.out_h * g.out_w * g.out_c);
  const auto x = stored<bf16>(random_values(ins, 1)), w = stored<bf16>(random_values(std::size_t(g.weights()), 2)),
             r = stored<bf16>(random_values(outs, 3));
  const auto scale = random_values(24, 4), shift = random_values(24, 5);
  auto want = reference_conv(g, widened(x), widened(w), widened(r)).y;
  for (std::size_t i = 0; i < outs; ++i) want[i] = std::max(0.0, want[i] * double(scale[i % 24]) + double(shift[i % 24]) + double(to_float(r[i])));
  in_every_order([&] {
    device_array<bf16> px(x), pw(w), pr(r), y(outs);
    device_array<float> ps(scale), pt(shift);
    conv_mma_forward<bf16>({}, g, px.get(), pw.get(), y.get(), {ps.get(), pt.get(), pr.get(), activation::relu});
    CHECK(relative_error(y.host(), want) < 4e-3);
  });
}
