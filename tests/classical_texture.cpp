// SPDX-License-Identifier: MIT
// Texture maps against direct versions, region merging with shapes and starts, region votes.
#include <doctest/doctest.h>

#include <cmath>
#include <set>
#include <vector>

#include "rsseg/classical/features.hpp"
#include "rsseg/classical/region_merging.hpp"
#include "rsseg/core/random.hpp"

using namespace rsseg;
using namespace rsseg::classical;

namespace {
std::vector<float> noise(std::uint64_t seed, std::size_t count, double lo, double hi) {
  random_stream random(seed, 7);
  std::vector<float> out;
  for (std::size_t i = 0; i < count; ++i) out.push_back(float(random.uniform(lo, hi)));
  return out;
}
}  // namespace

TEST_CASE("glcm map: the sliding window gives what cutting out each window gives") {
  const int h = 14, w = 17, levels = 6;
  const auto v = noise(1, h * w, 0, 256);
  const auto q = quantize(v.data(), h * w, levels, 0, 256);
  for (const int r : {1, 3, 30})
    for (const pixel_offset o : {pixel_offset{0, 1}, pixel_offset{-1, 1}, pixel_offset{-1, 0}, pixel_offset{-1, -1}, pixel_offset{2, -3}}) {
      std::vector<double> map(std::size_t(h * w * 7));
      glcm_map(q.data(), h, w, levels, r, {o}, map.data());
      for (int y = 0; y < h; ++y)
        for (int x = 0; x < w; ++x) {
          const int top = std::max(0, y - r), left = std::max(0, x - r), bottom = std::min(h, y + r + 1), right = std::min(w, x + r + 1);
          std::vector<std::uint8_t> cut;
          for (int a = top; a < bottom; ++a)
            for (int b = left; b < right; ++b) cut.push_back(q[std::size_t(a * w + b)]);
          const auto expected = features_of_glcm(glcm(cut.data(), bottom - top, right - left, levels, o).data(), levels).values();
          for (int k = 0; k < 7; ++k) CHECK(map[std::size_t((y * w + x) * 7 + k)] == doctest::Approx(expected[std::size_t(k)]).epsilon(1e-12));
        }
    }
}

TEST_CASE("quantize: range ends, NaN, and what glcm refuses") {
  const double v[5] = {-5, 0, 255.9, 300, NAN};
  CHECK(quantize(v, 5, 8, 0, 256) == std::vector<std::uint8_t>{0, 0, 7, 7, 0});
  const std::uint8_t q[2] = {0, 9};
  CHECK_THROWS_AS(glcm(q, 1, 2, 8, {0, 1}), usage_error);
  CHECK_THROWS_AS(quantize(v, 5, 1, 0, 256), usage_error);
}

TEST_CASE("lbp: riu2 is invariant under turning the picture; histogram shares sum to one") {
  const int n = 11;
  const auto v = noise(2, n * n, 0, 256);
  std::vector<float> turned(v.size());
  for (int y = 0; y < n; ++y)
    for (int x = 0; x < n; ++x) turned[std::size_t(x * n + n - 1 - y)] = v[std::size_t(y * n + x)];
  const auto a = lbp(v.data(), n, n), b = lbp(turned.data(), n, n);
  std::set<int> seen;
  for (int y = 0; y < n; ++y)
    for (int x = 0; x < n; ++x) {
      CHECK(lbp_riu2(a[std::size_t(y * n + x)]) == lbp_riu2(b[std::size_t(x * n + n - 1 - y)]));
      seen.insert(lbp_riu2(a[std::size_t(y * n + x)]));
    }
  CHECK(seen.size() > 4);
  std::vector<double> map(std::size_t(n * n * 10));
  lbp_histogram_map(v.data(), n, n, 2, map.data());
  for (int i = 0; i < n * n; ++i) {
    double sum = 0;
    for (int k = 0; k < 10; ++k) sum += map[std::size_t(i * 10 + k)];
    CHECK(sum == doctest::Approx(1));
  }
}

TEST_CASE("gabor: silent on a flat image, loudest at the wave's own scale and direction") {
  const int n = 96;
  gabor_options o;
  o.scales = 3, o.orientations = 4;
  std::vector<float> flat(n * n, 50.0f), wave(n * n);
  std::vector<double> map(std::size_t(n) * n * 12);
  gabor_map(flat.data(), n, n, o, map.data());
  for (const double v : map) CHECK(std::abs(v) < 1e-9);
  for (int y = 0; y < n; ++y)
    for (int x = 0; x < n; ++x) wave[std::size_t(y * n + x)] = float(std::sin(2 * 3.14159265358979 * y / 8));  // wavelength 8, along y
  gabor_map(wave.data(), n, n, o, map.data());
  const double* centre = map.data() + (n / 2 * n + n / 2) * 12;
  CHECK(std::max_element(centre, centre + 12) - centre == 1 * 4 + 2);  // second scale, 90 degrees
}

TEST_CASE("features: strips agree with the whole, names count the columns") {
  const int h = 150, w = 20;
  const auto image = noise(3, std::size_t(h * w * 4), 0, 255);
  feature_options o;
  o.gabor = true, o.near_infrared = 3, o.gabor_bank.scales = 2;
  const int count = int(feature_names(4, o).size());
  CHECK(count == 4 + 8 + 3 + 2 + 7 + 10 + 12);
  std::vector<float> whole(std::size_t(h * w * count)), part(std::size_t(30 * w * count));
  extract_features(image.data(), h, w, 4, o, 0, h, whole.data());
  extract_features(image.data(), h, w, 4, o, 60, 90, part.data());
  double worst = 0;
  for (std::size_t i = 0; i < part.size(); ++i) worst = std::max(worst, double(std::abs(part[i] - whole[std::size_t(60 * w * count) + i])));
  CHECK(worst < 1e-4);
  CHECK_THROWS_AS(feature_names(3, o), usage_error);
  CHECK(feature_names(1, feature_options{}).size() == 1 + 2 + 7 + 10);  // grey: no colour features
  double hsv[3];
  rgb_to_hsv(0, 0, 1, hsv);
  CHECK(hsv[0] == doctest::Approx(2.0 / 3));
}

TEST_CASE("region merging: every criterion finds two flat halves, from pixels and from a graph segmentation") {
  const int h = 12, w = 16;
  auto image = noise(4, h * w, 0, 3);
  for (int i = 0; i < h * w; ++i) image[std::size_t(i)] += i % w < 7 ? 20 : 90;
  for (const auto criterion : {merge_criterion::mean_difference, merge_criterion::ward, merge_criterion::heterogeneity})
    for (const bool from_graph : {false, true}) {
      merge_options o;
      o.criterion = criterion, o.threshold = 1e9, o.min_regions = 2;
      const auto start = graph_segmentation(image.data(), h, w, 1, 10, 4);
      const auto r = merge_regions(image.data(), h, w, 1, o, from_graph ? start.label.data() : nullptr);
      CHECK(r.regions == 2);
      for (int i = 0; i < h * w; ++i) CHECK(r.label[std::size_t(i)] == (i % w < 7 ? r.label[0] : r.label[7]));
      CHECK(r.label[0] != r.label[7]);
      o.threshold = 0;
      CHECK(merge_regions(image.data(), h, w, 1, o).regions == h * w);
    }
}

TEST_CASE("region merging: a flat image, where every cost is equal, merges by the smallest ids and quickly") {
  const std::vector<float> flat(60 * 60, 5.0f);
  merge_options o;
  o.color = 1, o.threshold = 1;
  const auto r = merge_regions(flat.data(), 60, 60, 1, o);
  CHECK(r.regions == 1);
  CHECK(r.steps[0].kept == 0);
  CHECK(r.steps[0].gone == 1);
  CHECK(r.steps[1].kept == 0);
  CHECK(r.steps[1].gone == 2);
}

TEST_CASE("region merging: shape term prefers the compact partner") {
  std::vector<float> image(5 * 5, 1.0f);
  merge_options o;
  o.color = 0, o.threshold = 1e9, o.min_regions = 1;
  const auto r = merge_regions(image.data(), 5, 5, 1, o);
  CHECK(r.regions == 1);
  CHECK(r.steps.size() == 24);
  CHECK(r.steps[0].cost < 0.5 * (2 * 6 / std::sqrt(2.0)));
  std::vector<float> bad(4, NAN);
  CHECK_THROWS_AS(merge_regions(bad.data(), 2, 2, 1, o), usage_error);
  o.band_weight = {1, 2};
  CHECK_THROWS_AS(merge_regions(image.data(), 5, 5, 1, o), usage_error);
}

TEST_CASE("majority vote: smallest of equals, ignored pixels do not vote, regions without votes stay") {
  const std::vector<std::int32_t> region{0, 0, 0, 3, 3, 5};
  std::vector<std::int32_t> label{1, 2, 2, 1, 0, 255};
  majority_per_region(region, 3, label);
  CHECK(label == std::vector<std::int32_t>{2, 2, 2, 0, 0, 255});
}
