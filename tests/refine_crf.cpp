// SPDX-License-Identifier: MIT
// Lattice and dense CRF: transposes, thread counts, tiles, the self term, degenerate images.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "rsseg/core/random.hpp"
#include "rsseg/refine/crf_rnn.hpp"
#include "rsseg/refine/dense_crf.hpp"

using namespace rsseg;
using namespace rsseg::refine;

namespace {
template <class T>
std::vector<T> noise(std::uint64_t seed, std::size_t count, double lo, double hi) {
  random_stream random(seed, 2);
  std::vector<T> out;
  for (std::size_t i = 0; i < count; ++i) out.push_back(T(random.uniform(lo, hi)));
  return out;
}
double dot(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}
/// A picture of two flat halves with noise, unaries that are right in the mean only.
struct scene {
  int h, w;
  std::vector<float> unary, image;
  scene(int height, int width) : h(height), w(width) {
    const auto z = noise<float>(3, std::size_t(h) * w * 3, -1, 1), grain = noise<float>(4, std::size_t(h) * w * 3, 0, 10);
    for (int y = 0; y < h; ++y)
      for (int x = 0; x < w; ++x)
        for (int k = 0; k < 3; ++k) {
          const std::size_t at = (std::size_t(y) * w + x) * 3 + k;
          unary.push_back(z[at] - (k == (x < w / 2 ? 0 : 1) ? 0.6f : 0));
          image.push_back(grain[at] + (x < w / 2 ? 60.0f : 180.0f));
        }
  }
};
}  // namespace

TEST_CASE("lattice: reversed axis order is the exact transpose") {
  for (const int d : {1, 2, 3, 5, 7}) {
    const int n = 300;
    const auto f = noise<double>(d, std::size_t(n * d), 0, 4), a = noise<double>(11, n * 2, -1, 1), b = noise<double>(12, n * 2, -1, 1);
    const permutohedral_lattice<double> lattice(n, d, [&](std::int64_t i, double* x) { std::copy_n(f.data() + i * d, d, x); });
    std::vector<double> ka(a.size()), kb(b.size());
    lattice.filter(a.data(), ka.data(), 2);
    lattice.filter(b.data(), kb.data(), 2, true);
    CHECK(dot(ka, b) == doctest::Approx(dot(a, kb)).epsilon(1e-12));
    CHECK(std::abs(dot(ka, b)) > 1e-3);
  }
}

TEST_CASE("kernels: transpose for every normalisation, lattice and exact; rows sum to one after normalisation") {
  const scene s(9, 11);
  const std::vector<double> image(s.image.begin(), s.image.end());
  const auto a = noise<double>(21, 99 * 2, -1, 1), b = noise<double>(22, 99 * 2, -1, 1);
  for (const auto method : {crf_method::lattice, crf_method::brute_force})
    for (int way = 0; way < 5; ++way) {
      const crf_kernel<double> kernel(s.h, s.w, image.data(), 3, {4, 5, 30, crf_normalization(way), method});
      std::vector<double> work(kernel.workspace(2)), ka(a.size()), kb(b.size()), ones(99, 1.0);
      kernel.apply(a.data(), ka.data(), 2, work.data());
      kernel.apply(b.data(), kb.data(), 2, work.data(), true);
      CHECK(dot(ka, b) == doctest::Approx(dot(a, kb)).epsilon(1e-11));
      if (crf_normalization(way) != crf_normalization::after) continue;
      kernel.apply(ones.data(), ones.data(), 1, work.data());
      for (const double v : ones) CHECK(v == doctest::Approx(1).epsilon(1e-12));
    }
}

TEST_CASE("dense CRF: the same bits for any number of threads") {
  const scene s(70, 90);
  const auto options = usual_dense_crf(20, 13, 5, 3);
  std::vector<float> one(s.unary.size()), four(s.unary.size());
  const int before = thread_setting();
  set_threads(1);
  dense_crf(s.unary.data(), s.h, s.w, 3, s.image.data(), 3, options, one.data());
  set_threads(4);
  dense_crf(s.unary.data(), s.h, s.w, 3, s.image.data(), 3, options, four.data());
  set_threads(before);
  CHECK(std::memcmp(one.data(), four.data(), one.size() * sizeof(float)) == 0);
}

TEST_CASE("dense CRF: cleans a noisy two-region picture, tiled as well as whole, without a seam") {
  const scene s(96, 120);
  auto options = usual_dense_crf(12, 20, 5, 4);
  std::vector<float> whole(s.unary.size()), tiled(s.unary.size()), start(s.unary.size());
  dense_crf(s.unary.data(), s.h, s.w, 3, s.image.data(), 3, options, whole.data());
  dense_crf_tiled(s.unary.data(), s.h, s.w, 3, s.image.data(), 3, options, 40, 30, tiled.data());
  softmax(s.unary.data(), s.h * s.w, 3, start.data(), -1);
  int right_before = 0, right_after = 0, differ = 0;
  std::vector<std::int32_t> a(whole.size() / 3), b(a.size()), c(a.size());
  argmax(whole.data(), std::int64_t(a.size()), 3, a.data());
  argmax(tiled.data(), std::int64_t(a.size()), 3, b.data());
  argmax(start.data(), std::int64_t(a.size()), 3, c.data());
  double worst = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const int truth = int(i % std::size_t(s.w)) < s.w / 2 ? 0 : 1;
    right_before += c[i] == truth, right_after += a[i] == truth, differ += a[i] != b[i];
  }
  for (std::size_t i = 0; i < whole.size(); ++i) worst = std::max(worst, double(std::abs(whole[i] - tiled[i])));
  CHECK(right_before < 0.75 * double(a.size()));
  CHECK(right_after > 0.99 * double(a.size()));
  CHECK(differ == 0);
  CHECK(worst < 2e-2);
  std::vector<float> single(s.unary.size());
  dense_crf_tiled(s.unary.data(), s.h, s.w, 3, s.image.data(), 3, options, 120, 0, single.data());
  CHECK(std::memcmp(single.data(), whole.data(), whole.size() * sizeof(float)) == 0);
}

TEST_CASE("dense CRF: without the self term and with no neighbour in reach nothing changes") {
  const scene s(6, 7);
  dense_crf_options options;
  options.terms.resize(1);
  options.terms[0].kernel = {1e-3, 1e-3, 0, crf_normalization::raw, crf_method::brute_force};
  options.subtract_self = true;
  std::vector<float> q(s.unary.size()), start(s.unary.size());
  dense_crf(s.unary.data(), s.h, s.w, 3, s.image.data(), 3, options, q.data());
  softmax(s.unary.data(), s.h * s.w, 3, start.data(), -1);
  for (std::size_t i = 0; i < q.size(); ++i) CHECK(q[i] == doctest::Approx(start[i]).epsilon(1e-6));
  options.subtract_self = false;
  dense_crf(s.unary.data(), s.h, s.w, 3, s.image.data(), 3, options, q.data());
  CHECK(std::abs(q[0] - start[0]) > 1e-3);
}

TEST_CASE("dense CRF: one pixel, one label, extreme energies, bad input") {
  const std::vector<float> u{1e4f, 0, 5}, rgb{1, 2, 3};
  std::vector<float> q(3);
  dense_crf(u.data(), 1, 1, 3, rgb.data(), 3, usual_dense_crf(), q.data());
  CHECK(q[1] > 0.99f);
  CHECK(q[0] == 0.0f);
  dense_crf(u.data(), 1, 1, 1, rgb.data(), 3, usual_dense_crf(), q.data());
  CHECK(q[0] == 1.0f);
  auto bad = u;
  bad[1] = NAN;
  CHECK_THROWS_AS(dense_crf(bad.data(), 1, 1, 3, rgb.data(), 3, usual_dense_crf(), q.data()), usage_error);
  const std::vector<float> broken{1, INFINITY, 3};
  CHECK_THROWS_AS(dense_crf(u.data(), 1, 1, 3, broken.data(), 3, usual_dense_crf(), q.data()), usage_error);
  CHECK_THROWS_AS(dense_crf(u.data(), 1, 1, 3, rgb.data(), 3, usual_dense_crf(-1), q.data()), usage_error);
  CHECK_THROWS_AS(dense_crf<float>(u.data(), 1, 1, 3, nullptr, 3, usual_dense_crf(), q.data()), usage_error);
  auto options = usual_dense_crf();
  options.terms[0].compatibility = {1, 2};
  CHECK_THROWS_AS(dense_crf(u.data(), 1, 1, 3, rgb.data(), 3, options, q.data()), usage_error);
}

TEST_CASE("unaries from labels and probabilities") {
  const std::vector<std::int32_t> label{1, -1, 2};
  std::vector<double> u(9);
  unary_from_labels(label.data(), 3, 3, 0.7, u.data());
  CHECK(u[1] == doctest::Approx(-std::log(0.7)));
  CHECK(u[0] == doctest::Approx(-std::log(0.15)));
  CHECK(u[3] == doctest::Approx(std::log(3.0)));
  CHECK(u[8] == u[1]);
  const double p[2] = {0, 0.5};
  unary_from_probabilities(p, 2, u.data());
  CHECK(u[0] == doctest::Approx(-std::log(1e-5)));
  CHECK_THROWS_AS(unary_from_labels(label.data(), 3, 3, 1.0, u.data()), usage_error);
}

TEST_CASE("CRF-RNN on the lattice: gradients against finite differences") {
  const int h = 6, w = 7, labels = 3, values = h * w * labels;
  const auto image = noise<double>(31, h * w * 3, 0, 60), z = noise<double>(32, values, -2, 2), up = noise<double>(33, values, -1, 1);
  const auto ws = noise<double>(34, 9, -1, 3), wb = noise<double>(35, 9, -1, 3), c = noise<double>(36, 9, -1, 1);
  crf_rnn<double> layer(image.data(), h, w, 3, labels, {30, 20, 2, 4, crf_method::lattice});
  std::vector<double> parameters[4] = {z, ws, wb, c}, y(values);
  const auto value = [&] {
    layer.forward(parameters[0].data(), parameters[1].data(), parameters[2].data(), parameters[3].data(), y.data());
    return dot(y, up);
  };
  value();
  std::vector<double> g[4] = {std::vector<double>(values), std::vector<double>(9), std::vector<double>(9), std::vector<double>(9)};
  layer.backward(ws.data(), wb.data(), c.data(), up.data(), g[0].data(), g[1].data(), g[2].data(), g[3].data());
  for (int part = 0; part < 4; ++part)
    for (std::size_t i = 0; i < parameters[part].size(); i += part ? 1 : 5) {
      const double keep = parameters[part][i], step = 1e-5;
      parameters[part][i] = keep + step;
      const double plus = value();
      parameters[part][i] = keep - step;
      const double minus = value();
      parameters[part][i] = keep;
      CHECK(g[part][i] == doctest::Approx((plus - minus) / (2 * step)).epsilon(1e-5).scale(1));
    }
}
