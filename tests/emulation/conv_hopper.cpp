// SPDX-License-Identifier: MIT
// The Hopper convolution on the tile-level model of TMA, mbarrier and wgmma; and that the model catches a missing wait and a buffer given back too
// soon.
#include "kernels/conv_hopper.cuh"
#include "conv_reference.hpp"

using namespace rsseg;
using namespace rsseg::cuda;
using namespace rsseg::test;

namespace {
template <class T>
void check_case(const char* what, const conv_geometry& g, double tolerance) {
  CAPTURE(what);
  REQUIRE(conv_hopper_supports(g));
  const std::size_t ins = std::size_t(g.n * g.in_h * g.in_w * g.in_c), outs = std::size_t(g.n * g.out_h * g.out_w * g.out_c);
  const auto x = stored<T>(random_values(ins, 1)), w = stored<T>(random_values(std::size_t(g.weights()), 2)), dy = stored<T>(random_values(outs, 3));
  const auto want = reference_conv(g, widened(x), widened(w), widened(dy));
  in_every_order([&] {
    device_array<T> px(x), pw(w), pdy(dy), y(outs), dx(ins), mirrored_weights(w.size());
    conv_hopper_forward<T>({}, g, px.get(), pw.get(), y.get());
    CHECK(relative_error(y.host(), want.y) < tolerance);
    if (conv_hopper_supports_weights(g)) {
      device_array<float> dw(w.size()), work(conv_hopper_weight_workspace(g));
      conv_hopper_weight_gradient<T>({}, g, px.get(), pdy.get(), dw.get(), work.get());
      CHECK(relative_error(dw.host(), want.dw) < 3e-6);
    }
    if (!conv_hopper_supports_data(g)) return;
    conv_hopper_data_gradient<T>({}, g, pdy.get(), pw.get(), dx.get(), mirrored_weights.get());
    CHECK(relative_error(dx.host(), want.dx) < tolerance);
  });
}

enum class mistake { none, no_full_wait, no_product_wait, early_release };
/// A reduced pipeline: one 64 x 64 product of depth 64 * slices with a ring of two, and three ways to get it wrong.
template <mistake Mistake>
__global__ void small_pipeline(const __grid_constant__ tensor_map a, const __grid_constant__ tensor_map b, float* c, int slices) {
  RSSEG_DYN_SHARED(char, shared);
  constexpr int bytes = 64 * swizzle_row;
  auto* full = reinterpret_cast<std::uint64_t*>(shared + 4 * bytes);
  std::uint64_t* empty = full + 2;
  const int t = int(threadIdx.x);
  if (t == 0) {
    for (int i = 0; i < 2; ++i) mbarrier_init(full + i, 1), mbarrier_init(empty + i, 1);
    mbarrier_init_done();
  }
  __syncthreads();
  if (t >= 128) {
    for (int i = 0; t == 128 && i < slices; ++i) {
      mbarrier_wait(empty + i % 2, unsigned(i / 2 & 1) ^ 1u);
      mbarrier_expect(full + i % 2, 2 * bytes);
      tma_load(shared + i % 2 * 2 * bytes, &a, 64 * i, 0, full + i % 2);
      tma_load(shared + i % 2 * 2 * bytes + bytes, &b, 64 * i, 0, full + i % 2);
    }
    return;
  }
  float acc[32] = {};
  for (int i = 0; i < slices; ++i) {
    if (Mistake != mistake::no_full_wait) mbarrier_wait(full + i % 2, unsigned(i / 2 & 1));
    if (Mistake == mistake::early_release && t == 0) mbarrier_arrive(empty + i % 2);
    wgmma_fence();
    for (int k = 0; k < 4; ++k)
      wgmma(acc, describe_tile(shared + i % 2 * 2 * bytes, k), describe_tile(shared + i % 2 * 2 * bytes + bytes, k), bf16{});
    wgmma_commit();
    if (Mistake != mistake::no_product_wait) wgmma_wait<0>();
    if (Mistake != mistake::early_release && t == 0) mbarrier_arrive(empty + i % 2);
  }
  for (int i = 0; i < 32; ++i) c[(t / 32 * 16 + t % 32 / 4 + i / 2 % 2 * 8) * 64 + i / 4 * 8 + t % 4 * 2 + i % 2] = acc[i];
}
}  // namespace

TEST_CASE("conv hopper: sizes, strides, dilations, channel tails") {
  check_case<bf16>("odd size, 24 -> 40", geometry(1, 9, 13, 24, 40, 3, 3), 4e-3);
  check_case<bf16>("two images, 72 -> 136 (128 columns)", geometry(2, 7, 9, 72, 136, 1, 1), 4e-3);
  check_case<bf16>("stride 2", geometry(1, 15, 18, 16, 24, 3, 3, 2), 4e-3);
  check_case<bf16>("dilation 18", geometry(1, 20, 19, 8, 16, 3, 3, 1, 18), 4e-3);
  check_case<bf16>("1x5", geometry(1, 9, 11, 16, 16, 1, 5), 4e-3);
  check_case<f16>("fp16", geometry(1, 8, 10, 64, 64, 3, 3, 1, 2), 6e-4);
}
TEST_CASE("conv hopper: 256 columns, epilogue") {
  const auto g = geometry(1, 5, 7, 64, 264, 1, 1);
  const std::size_t ins = std::size_t(g.in_h * g.in_w * g.in_c), outs = std::size_t(g.out_h * g.out_w * g.out_c);
  const auto x = stored<bf16>(random_values(ins, 1)), w = stored<bf16>(random_values(std::size_t(g.weights()), 2)),
             r = stored<bf16>(random_values(outs, 3));
  const auto shift = random_values(264, 4);
  auto want = reference_conv(g, widened(x), widened(w), widened(r)).y;
  for (std::size_t i = 0; i < outs; ++i) want[i] = std::max(0.0, want[i] + double(shift[i % 264]) + double(to_float(r[i])));
  device_array<bf16> px(x), pw(w), pr(r), y(outs);
  device_array<float> ps(shift);
  conv_hopper_run<hopper_tile<bf16, 256>>({}, g, px.get(), pw.get(), y.get(), {nullptr, ps.get(), pr.get(), activation::relu});
  CHECK(relative_error(y.host(), want) < 4e-3);
}
TEST_CASE("conv hopper: weight gradient in several splits, dead runs of pixels, added to what is there") {
  for (const auto& g : {geometry(2, 33, 70, 8, 16, 3, 3, 1, 24), geometry(1, 41, 67, 72, 24, 1, 1)}) {
    REQUIRE(conv_hopper_weight_splits(g) > 1);
    int dead = 0;
    for (int tap = 0; tap < g.kernel_h * g.kernel_w; ++tap)
      for (int p = 0; p < g.n * g.out_h * g.out_w; p += 64) dead += dead_pixels(g, tap_rectangle(g, tap), p);
    CHECK((dead > 0) == (g.dilation_h > 1));
    const std::size_t ins = std::size_t(g.n * g.in_h * g.in_w * g.in_c), outs = std::size_t(g.n * g.out_h * g.out_w * g.out_c);
    const auto x = stored<bf16>(random_values(ins, 1)), dy = stored<bf16>(random_values(outs, 3));
    auto want = reference_conv(g, widened(x), std::vector<float>(std::size_t(g.weights())), widened(dy)).dw;
    device_array<bf16> px(x), pdy(dy);
    device_array<float> dw(want.size()), work(conv_hopper_weight_workspace(g));
    conv_hopper_weight_gradient<bf16>({}, g, px.get(), pdy.get(), dw.get(), work.get());
    CHECK(relative_error(dw.host(), want) < 3e-6);
    conv_hopper_weight_gradient<bf16>({}, g, px.get(), pdy.get(), dw.get(), work.get(), true);
    for (double& v : want) v *= 2;
    CHECK(relative_error(dw.host(), want) < 3e-6);
  }
}
TEST_CASE("conv hopper: what it cannot do is refused") {
  CHECK_FALSE(conv_hopper_supports(geometry(1, 9, 9, 3, 8, 3, 3)));
  CHECK_FALSE(conv_hopper_supports(geometry(1, 9, 9, 16, 16, 3, 3, 1, 1, 2)));
  CHECK(contains(fault_of([&] { conv_hopper_forward<bf16>({}, geometry(1, 9, 9, 3, 8, 3, 3), nullptr, nullptr, nullptr); }), "use conv_mma_forward"));
}
TEST_CASE("hopper model: missing waits and early releases are caught") {
  const int slices = 5;
  const auto a = stored<bf16>(random_values(64 * 64 * slices, 1)), b = stored<bf16>(random_values(64 * 64 * slices, 2));
  std::vector<double> want(64 * 64);
  for (std::size_t i = 0; i < 64; ++i)
    for (std::size_t j = 0; j < 64; ++j)
      for (std::size_t k = 0; k < 64 * slices; ++k)
        want[i * 64 + j] += double(to_float(a[i * 64 * slices + k])) * double(to_float(b[j * 64 * slices + k]));
  int early = 0;
  in_every_order([&] {
    device_array<bf16> pa(a), pb(b);
    const tensor_map ma = make_map(matrix_view{pa.get(), 64, 64 * slices, 64}), mb = make_map(matrix_view{pb.get(), 64, 64 * slices, 64});
    auto run = [&](auto kernel) {
      device_array<float> c(64 * 64);
      std::string fault;
      double error = 0;
      fault = fault_of([&] {
        kernel_launch({"small_pipeline", 1, 160, 4 * 64 * 128 + 1024}, kernel, ma, mb, c.get(), slices);
        error = relative_error(c.host(), want);
      });
      return std::pair(fault, error);
    };
    const auto good = run(small_pipeline<mistake::none>);
    CHECK(good.first == "");
    CHECK(good.second < 1e-5);
    auto caught = [](const std::pair<std::string, double>& r) { return r.first != "" || !(r.second < 1e-2); };
    CHECK(caught(run(small_pipeline<mistake::no_full_wait>)));
    CHECK(caught(run(small_pipeline<mistake::no_product_wait>)));
    early += caught(run(small_pipeline<mistake::early_release>));
  });
#if !defined(RSSEG_EMULATION_ASAN)
  CHECK(early > 0);  // depends on who runs first: that is what the orders are for
#endif
}
