// SPDX-License-Identifier: MIT
// The entry that picks a convolution kernel: each choice gives the right result, and devices that cannot are refused.
#include "conv_reference.hpp"
#include "kernels/conv.cuh"

using namespace rsseg;
using namespace rsseg::cuda;
using namespace rsseg::test;

namespace {
template <class T>
void check_choice(const device_facts& d, conv_math m, const conv_geometry& g, const char* kernel, double tolerance, double sum_tolerance) {
  CAPTURE(kernel);
  const std::size_t ins = std::size_t(g.n * g.in_h * g.in_w * g.in_c), outs = std::size_t(g.n * g.out_h * g.out_w * g.out_c);
  const auto x = stored<T>(random_values(ins, 1)), w = stored<T>(random_values(std::size_t(g.weights()), 2)), dy = stored<T>(random_values(outs, 3));
  const auto want = reference_conv(g, widened(x), widened(w), widened(dy));
  device_array<T> px(x), pw(w), pdy(dy), y(outs), dx(ins);
  device_array<float> dw(w.size()), work(convolve_weights_workspace<T>(d, m, g));
  device_array<char> space(convolve_data_workspace<T>(d, g) + 16);
  convolve<T>(d, {}, m, g, px.get(), pw.get(), y.get());
#if RSSEG_EMULATED
  CHECK(contains(emulation::the_engine().kernel, kernel));
#endif
  CHECK(relative_error(y.host(), want.y) < tolerance);
  convolve_data<T>(d, {}, m, g, pdy.get(), pw.get(), dx.get(), space.get());
  CHECK(relative_error(dx.host(), want.dx) < tolerance);
  convolve_weights<T>(d, {}, m, g, px.get(), pdy.get(), dw.get(), work.get());
  CHECK(relative_error(dw.host(), want.dw) < sum_tolerance);
}
}  // namespace

TEST_CASE("convolve: every choice of kernel") {
  const device_facts hopper = require_device(), ampere{"ampere", 8, 0, 1, 1}, turing{"turing", 7, 5, 1, 1};
  const auto plain = geometry(1, 7, 9, 16, 24, 3, 3), depthwise = geometry(1, 7, 9, 16, 16, 3, 3, 1, 1, 16), narrow = geometry(1, 7, 9, 3, 5, 3, 3);
  check_choice<float>(turing, conv_math::tf32, plain, "conv_fp32", 3e-6, 3e-6);  // no tf32 there: full precision
  check_choice<float>(ampere, conv_math::fp32, plain, "conv_fp32", 3e-6, 3e-6);
  check_choice<float>(ampere, conv_math::tf32, plain, "conv_mma", 1e-3, 1e-3);
  check_choice<bf16>(ampere, conv_math::fp32, plain, "conv_mma", 4e-3, 3e-6);
  check_choice<bf16>(hopper, conv_math::fp32, plain, "conv_hopper", 4e-3, 3e-6);
  check_choice<bf16>(hopper, conv_math::fp32, narrow, "conv_mma", 4e-3, 3e-6);
  check_choice<bf16>(hopper, conv_math::fp32, depthwise, "depthwise", 4e-3, 1e-5);
  check_choice<f16>(turing, conv_math::fp32, plain, "conv_mma", 6e-4, 3e-6);
  check_choice<f16>(hopper, conv_math::fp32, geometry(1, 9, 8, 16, 16, 3, 3, 2), "conv_hopper", 6e-4, 3e-6);
  CHECK(contains(fault_of([&] { convolve<bf16>(turing, {}, conv_math::fp32, plain, nullptr, nullptr, nullptr); }), "need compute capability 8.0"));
  CHECK(contains(fault_of([&] {
                   require_memory({"small", 8, 0, std::size_t(1) << 30, std::size_t(1) << 30}, std::size_t(3) << 30, "layer4.2.conv3");
                 }),
                 "planned 3072 MiB (peak at layer layer4.2.conv3), free 1024 MiB"));
}
