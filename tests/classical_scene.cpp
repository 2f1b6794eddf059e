// SPDX-License-Identifier: MIT
// Over-segmentation, mutual best merging, and the classical pipeline over scenes.
#include <doctest/doctest.h>

#include <set>

#include "rsseg/classical/scene_map.hpp"

using namespace rsseg;
using namespace rsseg::classical;

namespace {
/// Four quadrants of a colour each, slightly noisy, (h, w, 3) in grey values.
std::vector<float> quadrants(int h, int w) {
  std::vector<float> v;
  random_stream r(1, 1);
  for (int y = 0; y < h; ++y)
    for (int x = 0; x < w; ++x)
      for (int c = 0; c < 3; ++c) v.push_back(float(40 + 60 * ((y >= h / 2) * 2 + (x >= w / 2)) * (c != 1) + 20 * c + int(r.below(5))));
  return v;
}
int quadrant(int i, int h, int w) { return (i / w >= h / 2) * 2 + (i % w >= w / 2); }
/// Share of pixels whose region lies in one quadrant.
void check_regions(const std::vector<std::int32_t>& region, int h, int w, std::size_t least, std::size_t most) {
  std::set<std::int32_t> ids(region.begin(), region.end());
  CHECK(ids.size() >= least);
  CHECK(ids.size() <= most);
  int mixed = 0;
  for (int i = 0; i < h * w; ++i) {
    REQUIRE(region[std::size_t(i)] >= 0);
    REQUIRE(region[std::size_t(i)] <= i);  // named by the smallest pixel
    mixed += quadrant(region[std::size_t(i)], h, w) != quadrant(i, h, w);
  }
  CHECK(mixed <= h * w / 50);
}
}  // namespace

TEST_CASE("over-segmentations respect contours") {
  const int h = 48, w = 64;
  const auto v = quadrants(h, w);
  check_regions(slic(v.data(), h, w, 3, {8, 10, 10}), h, w, 20, 60);
  check_regions(watershed(v.data(), h, w, 3, 8), h, w, 4, 40);
  CHECK(slic(v.data(), 1, 1, 3).size() == 1);
  CHECK(watershed(v.data(), 1, 1, 3).size() == 1);
  CHECK_THROWS_AS(slic(v.data(), h, w, 3, {1, 10, 10}), usage_error);
}

TEST_CASE("mutual best neighbours end with the same four regions as the global best") {
  const int h = 24, w = 32;
  const auto v = quadrants(h, w);
  merge_options o;
  o.criterion = merge_criterion::ward, o.threshold = 5000;
  for (const bool mutual : {false, true}) {
    o.mutual = mutual;
    const auto r = merge_regions(v.data(), h, w, 3, o);
    CHECK(r.regions == 4);
    CHECK(r.steps.size() == std::size_t(h * w - 4));
    check_regions(r.label, h, w, 4, 4);
  }
  o.min_regions = 7;
  CHECK(merge_regions(v.data(), h, w, 3, o).regions == 7);
}

#if RSSEG_HAS_OPENCV_ML

TEST_CASE("pixels are classified the same in windows of any size; regions and CRFs run on top") {
  const int h = 90, w = 100;
  auto grey = quadrants(h, w);
  for (float& x : grey) x /= 255;
  std::vector<std::int32_t> mask;
  for (int i = 0; i < h * w; ++i) mask.push_back(quadrant(i, h, w));
  feature_options f;
  f.lo = 0, f.hi = 1, f.radius = 2;
  sample_collector collector(3, 4, f, 200, 1);
  collector.add(grey.data(), h, w, mask.data());
  learner_options l;
  l.trees = 10;
  const auto model = collector.train({"a", "b", "c", "d"}, l);
  io::raster_info info;
  info.width = w, info.height = h, info.bands = 3, info.type = io::sample_type::f32;
  const auto source = io::memory_source(info, grey);
  const auto map = [&](const scene_options& o) {
    std::vector<std::uint8_t> ids(std::size_t(h) * std::size_t(w), 99);
    CHECK(map_scene(model, *source, o, [&](int x, int y, int ww, int hh, const std::uint8_t* from) {
      for (int r = 0; r < hh; ++r) std::copy_n(from + r * ww, ww, ids.begin() + (y + r) * w + x);
    }));
    return ids;
  };
  scene_options o;
  const auto whole = map(o);
  o.tile = 37, o.overlap = 0;
  CHECK(map(o) == whole);
  const auto wrong = [&](const std::vector<std::uint8_t>& ids) {
    int n = 0;
    for (int i = 0; i < h * w; ++i) n += ids[std::size_t(i)] != mask[std::size_t(i)];
    return double(n) / (h * w);
  };
  CHECK(wrong(whole) < 0.03);
  for (const auto over : {over_segmentation::graph, over_segmentation::slic, over_segmentation::watershed})
    for (const auto unit : {map_unit::pixel, map_unit::region}) {
      o.tile = 64, o.overlap = 16, o.over = over, o.unit = unit, o.region_size = 8;
      o.merge = unit == map_unit::pixel ? merging::mutual : merging::best, o.texture = unit == map_unit::pixel ? 0.2 : 0;
      o.crf = unit == map_unit::pixel ? map_refinement::none : map_refinement::grid_crf;
      CHECK(wrong(map(o)) < 0.06);
    }
  info.bands = 1;
  const auto grey_scene = io::memory_source(info, std::vector<float>(std::size_t(h) * std::size_t(w)));
  CHECK_THROWS_AS(map_scene(model, *grey_scene, o, [](int, int, int, int, const std::uint8_t*) {}), usage_error);
}

#endif
