// SPDX-License-Identifier: MIT
// Convolutions that take along the statistics of their results: results and statistics against double, and batch normalisation made of both.
#include "conv_reference.hpp"
#include "kernels/conv.cuh"
#include "kernels/normalization.cuh"

using namespace rsseg;
using namespace rsseg::cuda;
using namespace rsseg::test;

namespace {
template <class T>
void check_statistics(const char* what, const conv_geometry& g, conv_math m, double tolerance, double statistics_tolerance) {
  CAPTURE(what);
  const device_facts d = require_device();
  const std::size_t ins = std::size_t(g.n * g.in_h * g.in_w * g.in_c), pixels = std::size_t(g.n * g.out_h * g.out_w), c = std::size_t(g.out_c);
  const auto x = stored<T>(random_values(ins, 1)), w = stored<T>(random_values(std::size_t(g.weights()), 2));
  auto shift = random_values(c, 3);
  shift[0] = 100;  // a large mean must not cost the variance its digits
  auto want = reference_conv(g, widened(x), widened(w), std::vector<float>(pixels * c)).y;
  for (std::size_t i = 0; i < want.size(); ++i) want[i] += double(shift[i % c]);
  in_every_order([&] {
    device_array<T> px(x), pw(w), y(pixels * c), z(pixels * c);
    device_array<float> ps(shift), statistics(conv_statistics_size(g)), mean(c), inverse(c),
        work(batch_norm_workspace(std::int64_t(pixels), g.out_c));
    const int rows = convolve_with_statistics<T>(d, {}, m, g, px.get(), pw.get(), y.get(), {nullptr, ps.get()}, statistics.get());
    const auto result = y.host();
    CHECK(relative_error(result, want) < tolerance);
    // what batch normalisation sees are the stored results
    std::vector<double> means(c), deviations(c);
    for (std::size_t i = 0; i < result.size(); ++i) means[i % c] += double(to_float(result[i])) / double(pixels);
    for (std::size_t i = 0; i < result.size(); ++i) deviations[i % c] += std::pow(double(to_float(result[i])) - means[i % c], 2) / double(pixels);
    batch_norm_state b;
    b.mean = mean.get(), b.inverse_deviation = inverse.get();
    batch_norm_of_tiles<T>({}, b, statistics.get(), rows, y.get(), nullptr, z.get(), std::int64_t(pixels), g.out_c, activation::relu, work.get());
    const auto m1 = mean.host(), i1 = inverse.host();
    for (std::size_t k = 0; k < c; ++k) {
      CHECK(double(m1[k]) == doctest::Approx(means[k]).epsilon(statistics_tolerance));
      CHECK(double(i1[k]) == doctest::Approx(1 / std::sqrt(deviations[k] + 1e-5)).epsilon(statistics_tolerance));
    }
    std::vector<double> normal(result.size());
    for (std::size_t i = 0; i < normal.size(); ++i)
      normal[i] = std::max(0.0, (double(to_float(result[i])) - means[i % c]) / std::sqrt(deviations[i % c] + 1e-5));
    CHECK(relative_error(z.host(), normal) < std::max(tolerance, 1e-5));
  });
}
}  // namespace

TEST_CASE("convolutions with statistics of their results") {
  check_statistics<float>("fp32, narrow", geometry(2, 9, 11, 4, 7, 3, 3), conv_math::fp32, 3e-6, 1e-5);
  check_statistics<float>("fp32, 40 of 64 columns, stride 2", geometry(1, 19, 21, 6, 40, 3, 3, 2), conv_math::fp32, 3e-6, 1e-5);
  check_statistics<float>("fp32, groups", geometry(1, 9, 9, 16, 72, 3, 3, 1, 1, 2), conv_math::fp32, 3e-6, 1e-5);
  check_statistics<float>("tf32", geometry(1, 9, 11, 8, 40, 3, 3), conv_math::tf32, 1e-3, 1e-5);
  check_statistics<bf16>("bf16, dilated", geometry(2, 9, 13, 16, 24, 3, 3, 1, 4), conv_math::fp32, 4e-3, 1e-5);
  check_statistics<bf16>("bf16, unaligned, groups", geometry(1, 8, 9, 6, 10, 3, 3, 1, 1, 2), conv_math::fp32, 4e-3, 1e-5);
  check_statistics<f16>("fp16, 1x1", geometry(1, 9, 9, 16, 16, 1, 1), conv_math::fp32, 6e-4, 1e-5);
}
TEST_CASE("convolutions with statistics: the large tile; what lies between is refused") {
  const auto g = geometry(1, 11, 13, 8, 136, 1, 1);
  const auto x = stored<bf16>(random_values(11 * 13 * 8, 1)), w = stored<bf16>(random_values(136 * 8, 2));
  device_array<bf16> px(x), pw(w), y(11 * 13 * 136);
  device_array<float> statistics(conv_statistics_size(g));
  CHECK(conv_mma_statistics_run<mma_large<bf16>>({}, g, px.get(), pw.get(), y.get(), {}, statistics.get()) == 128);
  const auto result = y.host();
  const auto got = statistics.host(true);
  for (std::size_t tile = 0; tile < 2; ++tile)
    for (std::size_t c = 0; c < 136; ++c) {
      const std::size_t first = tile * 128, last = std::min<std::size_t>(first + 128, 143);
      double mean = 0, square = 0;
      for (std::size_t p = first; p < last; ++p) mean += double(to_float(result[p * 136 + c])) / double(last - first);
      for (std::size_t p = first; p < last; ++p) square += std::pow(double(to_float(result[p * 136 + c])) - mean, 2);
      CHECK(double(got[tile * 272 + c]) == doctest::Approx(mean).epsilon(1e-4));
      CHECK(double(got[tile * 272 + 136 + c]) == doctest::Approx(square).epsilon(1e-4));
    }
  CHECK(contains(fault_of([&] {
                   convolve_with_statistics<bf16>(require_device(), {}, conv_math::fp32, g, nullptr, nullptr, nullptr,
                                                  {nullptr, nullptr, nullptr, activation::relu}, nullptr);
                 }),
                 "without residual or activation"));
}
