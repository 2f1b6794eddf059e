// SPDX-License-Identifier: MIT
// Constraints at inference and the symmetries of the square.
#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include "rsseg/core/random.hpp"
#include "rsseg/refine/constraints.hpp"
#include "rsseg/refine/symmetry.hpp"

using namespace rsseg;
using namespace rsseg::refine;

TEST_CASE("symmetries: inverse, eight different ones, composition of shapes") {
  const shape s{2, 2, 3, 4};
  std::vector<int> x, all;
  for (int i = 0; i < s.size(); ++i) x.push_back(i);
  std::vector<std::vector<int>> seen;
  for (int op = 0; op < 8; ++op) {
    std::vector<int> y(x.size()), back(x.size());
    d4_apply(x.data(), s, op, y.data());
    d4_apply(y.data(), d4_shape(s, op), d4_inverse(op), back.data());
    CHECK(back == x);
    for (const auto& other : seen) CHECK(y != other);
    seen.push_back(y);
  }
}

TEST_CASE("symmetries: averaging a pointwise prediction changes nothing, a crooked one becomes symmetric") {
  const shape s{1, 1, 4, 4};
  std::vector<double> x;
  for (int i = 0; i < 16; ++i) x.push_back(i * i % 7);
  const auto same = d4_average(x.data(), s, 1, 255, [](const double* in, shape e, double* out) {
    for (int i = 0; i < e.size(); ++i) out[i] = 2 * in[i];
  });
  for (std::size_t i = 0; i < x.size(); ++i) CHECK(same[i] == 2 * x[i]);
  const std::vector<double> flat(16, 1.0);
  const auto mean = d4_average(flat.data(), s, 1, 255, [](const double*, shape e, double* out) {
    for (int i = 0; i < e.size(); ++i) out[i] = i % e.w;  // sees left and right differently
  });
  for (const double v : mean) CHECK(v == doctest::Approx(1.5));
  CHECK_THROWS_AS(d4_average(flat.data(), s, 1, 0, [](const double*, shape, double*) {}), usage_error);
}

TEST_CASE("forbidden class: gone where it cannot be, the rest renormalised") {
  std::vector<double> p{0.5, 0.25, 0.25, 1, 0, 0, 0.2, 0.3, 0.5};
  forbid_class(p.data(), 3, 3, 0, [](std::int64_t i) { return i < 2; });
  CHECK(p == std::vector<double>{0, 0.5, 0.5, 0, 0.5, 0.5, 0.2, 0.3, 0.5});
  CHECK_THROWS_AS(forbid_class(p.data(), 3, 3, 3, [](std::int64_t) { return true; }), usage_error);
}

TEST_CASE("area bounds are met, and said not to be when they contradict each other") {
  random_stream random(1, 8);
  std::vector<double> p;
  for (int i = 0; i < 500; ++i) {
    const double a = random.uniform(0.1, 1), b = random.uniform(0.1, 1), c = random.uniform(0.1, 1);
    for (const double v : {a, b, c}) p.push_back(v / (a + b + c));
  }
  const auto share = [&](int k) {
    double sum = 0;
    for (std::size_t i = std::size_t(k); i < p.size(); i += 3) sum += p[i] / 500;
    return sum;
  };
  CHECK(enforce_area(p.data(), 500, 3, {0.5, 0, 0}, {1, 1, 0.1}));
  CHECK(share(0) >= 0.5 - 2e-4);
  CHECK(share(2) <= 0.1 + 2e-4);
  CHECK(share(0) + share(1) + share(2) == doctest::Approx(1));
  CHECK_FALSE(enforce_area(p.data(), 500, 3, {0.8, 0.8, 0}, {1, 1, 1}));
}

TEST_CASE("forbidden neighbours: the less sure pixel gives way") {
  // Classes 0 and 2 may not touch; the lone 2 is unsure.
  const std::vector<double> p{0.9, 0.05, 0.05, 0.3, 0.3, 0.4, 0.9, 0.05, 0.05};
  std::vector<std::int32_t> label{0, 2, 0};
  std::vector<double> forbid(9, 0.0);
  forbid[2] = 1;
  CHECK(resolve_forbidden_neighbours(p.data(), 1, 3, 3, forbid, 10.0, label.data()) == 0);
  CHECK(label[0] == 0);
  CHECK(label[2] == 0);
  CHECK(label[1] != 2);
  CHECK_THROWS_AS(resolve_forbidden_neighbours(p.data(), 1, 3, 3, {1.0}, 10.0, label.data()), usage_error);
}

TEST_CASE("small components take the label around them; ignored pixels and large ones stay") {
  std::vector<std::int32_t> label{
      0, 0, 0,   0, 1,  //
      0, 2, 0,   0, 1,  //
      0, 0, 0,   0, 1,  //
      0, 0, 255, 0, 1,  //
  };
  CHECK(remove_small_components(label.data(), 4, 5, {2, 2, 2}) == 1);
  CHECK(label[6] == 0);
  CHECK(label[17] == 255);
  CHECK(label[4] == 1);
  CHECK(remove_small_components(label.data(), 4, 5, {2, 5, 2}) == 4);
  CHECK(label[4] == 0);
  std::vector<std::int32_t> lone{1};
  CHECK(remove_small_components(lone.data(), 1, 1, {9, 9}) == 0);
}

TEST_CASE("labels from spectral indices") {
  const std::vector<float> image{10, 20, 0, 90, 10, 60, 0, 5, 50, 50, 0, 50};  // r g b nir
  CHECK(labels_from_indices(image.data(), 3, 4, {}) == std::vector<std::int32_t>{1, 2, 255});
  CHECK_THROWS_AS(labels_from_indices(image.data(), 4, 3, {}), usage_error);
}
