// SPDX-License-Identifier: MIT
// Guided filter against a direct version of the definition, tiling, gradients, degenerate input; point sampling gradients and ties.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "rsseg/core/random.hpp"
#include "rsseg/cpu/point_sampling.hpp"
#include "rsseg/refine/guided_filter.hpp"

using namespace rsseg;
using namespace rsseg::refine;
using namespace rsseg::cpu;  // point_sampling.hpp

namespace {
template <class T = double>
std::vector<T> noise(std::uint64_t seed, std::size_t count, double lo, double hi) {
  random_stream random(seed, 3);
  std::vector<T> out;
  for (std::size_t i = 0; i < count; ++i) out.push_back(T(random.uniform(lo, hi)));
  return out;
}

/// Gray guide, straight from the paper's equations (5), (6), (8): windows visited one by one.
std::vector<double> direct_gray(const std::vector<double>& guide, const std::vector<double>& p, int h, int w, int r, double eps) {
  std::vector<double> a(guide.size()), b(guide.size()), q(guide.size());
  const auto window = [&](int y, int x, const auto& visit) {
    int n = 0;
    for (int v = std::max(0, y - r); v <= std::min(h - 1, y + r); ++v)
      for (int u = std::max(0, x - r); u <= std::min(w - 1, x + r); ++u) visit(std::size_t(v * w + u)), ++n;
    return n;
  };
  for (int y = 0; y < h; ++y)
    for (int x = 0; x < w; ++x) {
      double mi = 0, mp = 0, cov = 0, var = 0;
      const int n = window(y, x, [&](std::size_t k) { mi += guide[k], mp += p[k]; });
      mi /= n, mp /= n;
      window(y, x, [&](std::size_t k) { cov += (guide[k] - mi) * (p[k] - mp) / n, var += (guide[k] - mi) * (guide[k] - mi) / n; });
      a[std::size_t(y * w + x)] = cov / (var + eps), b[std::size_t(y * w + x)] = mp - a[std::size_t(y * w + x)] * mi;
    }
  for (int y = 0; y < h; ++y)
    for (int x = 0; x < w; ++x) {
      double ma = 0, mb = 0;
      const int n = window(y, x, [&](std::size_t k) { ma += a[k], mb += b[k]; });
      q[std::size_t(y * w + x)] = ma / n * guide[std::size_t(y * w + x)] + mb / n;
    }
  return q;
}
}  // namespace

TEST_CASE("guided filter: running sums give what the definition gives, also for 16-bit values and windows beyond the image") {
  for (const int r : {0, 1, 3, 40}) {
    const int h = 15, w = 21;
    const auto guide = noise(1, h * w, 30000, 30020), p = noise(2, h * w, 0, 1);
    std::vector<double> q(guide.size());
    guided_filter(guide.data(), 1, p.data(), 1, h, w, {r, 1e-3}, q.data());
    const auto expected = direct_gray(guide, p, h, w, r, 1e-3);
    for (std::size_t i = 0; i < q.size(); ++i) CHECK(q[i] == doctest::Approx(expected[i]).epsilon(1e-7));
  }
}

TEST_CASE("guided filter: images larger than a tile have no seam, and threads do not matter") {
  const int h = 400, w = 800, r = 5;
  const auto guide = noise<float>(3, std::size_t(h) * w, 0, 1), p = noise<float>(4, std::size_t(h) * w, 0, 1);
  std::vector<float> q(guide.size()), again(guide.size());
  const int before = thread_setting();
  set_threads(1);
  guided_filter(guide.data(), 1, p.data(), 1, h, w, {r, 1e-3}, q.data());
  set_threads(3);
  guided_filter(guide.data(), 1, p.data(), 1, h, w, {r, 1e-3}, again.data());
  set_threads(before);
  CHECK(std::memcmp(q.data(), again.data(), q.size() * sizeof(float)) == 0);
  const auto expected = direct_gray({guide.begin(), guide.end()}, {p.begin(), p.end()}, h, w, r, 1e-3);
  double worst = 0;
  for (std::size_t i = 0; i < q.size(); ++i) worst = std::max(worst, std::abs(q[i] - expected[i]));
  CHECK(worst < 2e-7);
}

TEST_CASE("guided filter: gradients for 1, 3 and 5 bands against finite differences") {
  const int h = 7, w = 9, channels = 2;
  for (const int bands : {1, 3, 5}) {
    auto guide = noise(5, std::size_t(h * w * bands), 0, 1), p = noise(6, h * w * channels, 0, 1);
    const auto up = noise(7, h * w * channels, -1, 1);
    std::vector<double> d_guide(guide.size()), dp(p.size()), q(p.size());
    const guided_filter_options o{2, 1e-2};
    guided_filter_backward(guide.data(), bands, p.data(), channels, h, w, o, up.data(), d_guide.data(), dp.data());
    const auto value = [&] {
      guided_filter(guide.data(), bands, p.data(), channels, h, w, o, q.data());
      double sum = 0;
      for (std::size_t i = 0; i < q.size(); ++i) sum += q[i] * up[i];
      return sum;
    };
    for (auto [values, gradient] : {std::pair{&guide, &d_guide}, std::pair{&p, &dp}})
      for (std::size_t i = 0; i < values->size(); i += 3) {
        const double keep = (*values)[i], step = 1e-5;
        (*values)[i] = keep + step;
        const double plus = value();
        (*values)[i] = keep - step;
        const double minus = value();
        (*values)[i] = keep;
        CHECK((*gradient)[i] == doctest::Approx((plus - minus) / (2 * step)).epsilon(1e-6).scale(1));
      }
  }
}

TEST_CASE("guided filter: one pixel, constant guide, bad options") {
  const double guide = 0.5, p = 0.25;
  double q = 0;
  guided_filter(&guide, 1, &p, 1, 1, 1, {8, 1e-8}, &q);
  CHECK(q == doctest::Approx(0.25));
  fast_guided_filter(&guide, &p, 1, 1, &guide, 1, 1, 1, 1, {8, 1e-8}, &q);
  CHECK(q == doctest::Approx(0.25));
  CHECK_THROWS_AS(guided_filter(&guide, 1, &p, 1, 1, 1, {8, 0.0}, &q), usage_error);
  CHECK_THROWS_AS(guided_filter(&guide, 1, &p, 1, 1, 1, {-1, 1.0}, &q), usage_error);
  CHECK_THROWS_AS(guided_filter(&guide, 1, &p, 1, 0, 1, {1, 1.0}, &q), usage_error);
  CHECK_THROWS_AS(guided_filter(&guide, 17, &p, 1, 1, 1, {1, 1.0}, &q), usage_error);
}

TEST_CASE("points: reading at cell centres returns the cells; far outside and NaN read zero") {
  const shape s{2, 3, 4, 5};
  const auto x = noise<float>(8, std::size_t(s.size()), -1, 1);
  std::vector<std::int32_t> index;
  for (int i = 0; i < s.h * s.w; ++i) index.push_back(i);
  std::vector<float> points(2 * 2 * index.size()), out(x.size());
  grid_points(index.data(), std::int64_t(index.size()), s.h, s.w, points.data());
  std::copy_n(points.begin(), 2 * index.size(), points.begin() + std::ptrdiff_t(2 * index.size()));
  sample_bilinear(x.data(), s, points.data(), s.h * s.w, out.data());
  for (std::size_t i = 0; i < x.size(); ++i) CHECK(out[i] == doctest::Approx(x[i]).epsilon(1e-5));
  sample_nearest(x.data(), s, points.data(), s.h * s.w, out.data());
  CHECK(out == x);
  const float far[4] = {1e30f, 0.5f, NAN, 0.5f};
  const shape one{1, 3, 4, 5};
  std::vector<float> nothing(6, 7.0f), none(6, 7.0f);
  sample_bilinear(x.data(), one, far, 2, nothing.data());
  sample_nearest(x.data(), one, far, 2, none.data());
  for (int i = 0; i < 6; ++i) CHECK((nothing[std::size_t(i)] == 0 && none[std::size_t(i)] == 0));
}

TEST_CASE("points: halves round to even, ties at the cut go to the lower index") {
  const shape s{1, 1, 1, 4};
  const int x[4] = {10, 20, 30, 40};
  const double points[8] = {0.25, 0.5, 0.5, 0.5, 0.75, 0.5, 1.0, 0.5};  // positions 0.5, 1.5, 2.5, 3.5
  int out[4];
  sample_nearest(x, s, points, 4, out);
  CHECK(out[0] == 10);
  CHECK(out[1] == 30);
  CHECK(out[2] == 30);
  CHECK(out[3] == 0);
  const float u[5] = {1, 2, 2, 2, 0};
  CHECK(largest_indices(u, 5, 2) == std::vector<std::int32_t>{1, 2});
  CHECK(largest_indices(u, 5, 99).size() == 5);
  CHECK(largest_indices(u, 5, 0).empty());
}

TEST_CASE("roi_align: bad boxes and batch indices are usage errors") {
  const shape s{1, 1, 4, 4};
  const std::vector<float> x(16, 1.0f);
  std::vector<float> out(4);
  const float box[4] = {0, 0, 4, 4}, bad[4] = {0, NAN, 4, 4};
  const std::int32_t wrong = 1;
  roi_align(x.data(), s, box, nullptr, 1, {2, 2}, out.data());
  for (const float v : out) CHECK(v == doctest::Approx(1));
  CHECK_THROWS_AS(roi_align(x.data(), s, bad, nullptr, 1, {2, 2}, out.data()), usage_error);
  CHECK_THROWS_AS(roi_align(x.data(), s, box, &wrong, 1, {2, 2}, out.data()), usage_error);
}
