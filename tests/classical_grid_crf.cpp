// SPDX-License-Identifier: MIT
// Grid CRF: exact on two labels (against exhaustive search), expansion never above ICM, same result for any thread count.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "rsseg/classical/grid_crf.hpp"
#include "rsseg/core/random.hpp"

using namespace rsseg;
using namespace rsseg::classical;

namespace {
std::vector<double> noise(std::uint64_t seed, std::size_t count, double scale) {
  random_stream random(seed, 1);
  std::vector<double> out;
  for (std::size_t i = 0; i < count; ++i) out.push_back(random.uniform(0, scale));
  return out;
}
}  // namespace

TEST_CASE("one expansion cycle on two labels is the global minimum") {
  const int h = 3, w = 4;
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    const auto unary = noise(seed, h * w * 2, 2), guide = noise(seed + 1000, h * w, 20);
    grid_crf_options o;
    o.weight = 0.2 + 0.03 * double(seed), o.contrast_sigma = 10;
    std::vector<std::int32_t> x(h * w), best(h * w);
    const double energy = grid_crf(unary.data(), h, w, 2, guide.data(), 1, o, x.data());
    const auto edge = classical::detail::grid_weights(guide.data(), h, w, 1, o);
    double least = std::numeric_limits<double>::infinity();
    for (unsigned code = 0; code < 1u << (h * w); ++code) {
      for (int i = 0; i < h * w; ++i) best[std::size_t(i)] = (code >> i) & 1;
      least = std::min(least, classical::detail::grid_energy(unary.data(), h, w, 2, edge, best.data()));
    }
    CHECK(energy == doctest::Approx(least).epsilon(1e-12));
  }
}

TEST_CASE("expansion reaches lower energy than ICM on a larger problem, and ICM lowers the start's") {
  const int h = 37, w = 53, labels = 5;
  const auto unary = noise(5, std::size_t(h * w * labels), 3);
  grid_crf_options o;
  o.weight = 0.9;
  std::vector<std::int32_t> a(h * w), b(h * w), start(h * w);
  const auto edge = classical::detail::grid_weights<double>(nullptr, h, w, 0, o);
  const double expanded = grid_crf<double>(unary.data(), h, w, labels, nullptr, 0, o, a.data());
  o.method = grid_crf_method::icm;
  const double icm = grid_crf<double>(unary.data(), h, w, labels, nullptr, 0, o, b.data());
  o.iterations = 0;
  const double begin = grid_crf<double>(unary.data(), h, w, labels, nullptr, 0, o, start.data());
  CHECK(expanded < icm);
  CHECK(icm < begin);
  CHECK(classical::detail::grid_energy(unary.data(), h, w, labels, edge, a.data()) == expanded);
  const int before = thread_setting();
  o.iterations = 10;
  std::vector<std::int32_t> c(h * w);
  set_threads(4);
  grid_crf<double>(unary.data(), h, w, labels, nullptr, 0, o, c.data());
  set_threads(before);
  CHECK(b == c);
}

TEST_CASE("one pixel, and bad input") {
  const std::vector<double> unary{3, 1, 2};
  std::vector<std::int32_t> x(1);
  CHECK(grid_crf<double>(unary.data(), 1, 1, 3, nullptr, 0, {}, x.data()) == 1);
  CHECK(x[0] == 1);
  const std::vector<double> bad{NAN};
  CHECK_THROWS_AS(grid_crf<double>(bad.data(), 1, 1, 1, nullptr, 0, {}, x.data()), usage_error);
}
