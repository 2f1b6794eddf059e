// SPDX-License-Identifier: MIT
// Scenes: every pixel is written once, tiles with a halo of the receptive field have no seams, rows of tiles resume.
#include <doctest/doctest.h>

#include "rsseg/model/model.hpp"
#include "rsseg/nets/unet.hpp"
#include "rsseg/train/evaluate.hpp"
#include "scene_helpers.hpp"

using namespace rsseg;
using test::info_of, test::scene_of;

namespace {
struct Local : Network<Chain<Named<"a", Conv<8, Kernel<3>>>, ReLU, MaxPool<>, Named<"b", Conv<8, Kernel<3>>>, ReLU,
                             Upsample<2, 1, false, interpolation::nearest>, Named<"h", Conv<3>>>> {};
const network_entry local = {"local", "", "", "", &Local::build, {}, 2, 0, 2, true};

std::vector<std::uint8_t> map_of(basic_model<float>& m, const network_entry& e, int w, int h, int tile, int overlap, bool blend,
                                 bool* exact = nullptr) {
  const auto source = scene_of(w, h);
  auto info = info_of(w, h);
  info.bands = 1;
  io::memory_raster sink(info);
  auto o = train::tiling_of(e, m, tile, data::normalization::imagenet());
  o.overlap = overlap, o.blend = blend;
  if (exact) *exact = scene::plan_segment(w, h, o).exact;
  scene::segment(train::predictor_of(m), *source, sink, o);
  return {sink.values().begin(), sink.values().end()};
}
}  // namespace

TEST_CASE("the kept parts of tiles cover every pixel once, whatever the sizes") {
  for (int length = 1; length < 140; ++length)
    for (const scene::size_rule rule :
         {scene::size_rule{1, 0, 1}, scene::size_rule{8, 1, 9}, scene::size_rule{16, 0, 32}, scene::size_rule{1, 0, 16, 16}})
      for (int halo : {0, 3, 9}) {
        const int tile = rule.at_least(40);
        const auto cuts = scene::cut_axis(length, std::min(tile, rule.at_least(length)), rule.at_least(length) < tile ? 0 : halo, rule);
        int at = 0;
        for (const auto& c : cuts) {
          CHECK(c.keep_begin == at);
          CHECK(c.keep_end > c.keep_begin);
          CHECK(c.begin % std::lcm(rule.multiple, rule.alignment) == 0);
          CHECK(c.begin <= c.keep_begin);
          CHECK(c.keep_end <= c.begin + tile);
          at = c.keep_end;
        }
        CHECK(at == length);
      }
  CHECK_THROWS_AS(scene::cut_axis(1000, 32, 16, {1, 0, 1}), usage_error);
}

TEST_CASE("with a halo of the receptive field, tiles give what the whole scene gives") {
  build_options b;
  b.classes = 3;
  basic_model<float> m(local.build, b);
  m.weights().initialise(2);
  bool exact = false;
  const auto whole = map_of(m, local, 90, 74, 96, -1, false);
  const auto tiled = map_of(m, local, 90, 74, 32, -1, false, &exact);
  CHECK(exact);
  CHECK(whole == tiled);
  int seen[3] = {};
  for (auto v : whole) ++seen[v];
  CHECK(seen[0] + seen[1] + seen[2] == 90 * 74);
  CHECK((seen[0] > 0) + (seen[1] > 0) + (seen[2] > 0) >= 2);
  // Without overlap the borders show: the test above can fail.
  CHECK(map_of(m, local, 90, 74, 32, 0, false) != whole);
  const auto blended = map_of(m, local, 90, 74, 32, 16, true);
  int differ = 0;
  for (std::size_t i = 0; i < whole.size(); ++i) differ += whole[i] != blended[i];
  CHECK(differ < int(whole.size() / 20));
}

TEST_CASE("a padded U-Net has no seams either, whose tiles lie on its coarsest grid") {
  static const network_entry unet = {"u", "", "", "", &UNet<from_data, 4>::build, {}, 1, 0, 16, true};
  build_options b;
  b.classes = 3;
  basic_model<float> m(unet.build, b);
  m.weights().initialise(2);
  bool exact = false;
  const auto whole = map_of(m, unet, 640, 512, 640, -1, false);
  CHECK(whole == map_of(m, unet, 640, 512, 448, 208, false, &exact));
  CHECK(exact);
}

TEST_CASE("scenes of one pixel, one row, smaller than a tile") {
  build_options b;
  b.classes = 3;
  basic_model<float> m(local.build, b);
  m.weights().initialise(2);
  for (const auto& [w, h] : {std::pair{1, 1}, {300, 1}, {5, 7}, {33, 64}})
    CHECK(map_of(m, local, w, h, 64, -1, false).size() == std::size_t(w) * std::size_t(h));
}

TEST_CASE("a network of valid convolutions maps a whole scene through mirrored margins") {
  static const network_entry original = {"o", "", "", "", &UNetOriginal<from_data, 4>::build, {}, 16, 12, 188, true};
  build_options b;
  b.classes = 2;
  basic_model<float> m(original.build, b);
  m.weights().initialise(1);
  CHECK(map_of(m, original, 61, 47, 204, -1, false).size() == 61u * 47u);
}
