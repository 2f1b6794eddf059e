// SPDX-License-Identifier: MIT
// Several rasters of one ground as one image: bands stack on the first one's grid, for data sets and for scenes; what does not fit is named.
#include <doctest/doctest.h>

#include <filesystem>

#include "rsseg/data/modalities.hpp"
#include "rsseg/data/registry.hpp"

using namespace rsseg;

namespace {
struct tree {
  std::filesystem::path dir = std::filesystem::temp_directory_path() / ("rsseg_modalities_" + std::to_string(::getpid()));
  tree() {
    for (const char* part : {"images", "masks", "height"}) std::filesystem::create_directories(dir / part);
    for (const char* name : {"a", "b"}) {
      io::image8 rgb(16, 12, 3, 100), mask(16, 12, 1, 0), height(4, 3, 1, 0);
      mask.data[5] = 1;
      for (int y = 0; y < 3; ++y)
        for (int x = 0; x < 4; ++x) height.at(x, y) = std::uint8_t(50 * x);
      io::write_image((dir / "images" / (std::string(name) + ".png")).string(), rgb);
      io::write_image((dir / "masks" / (std::string(name) + ".png")).string(), mask);
      io::write_image((dir / "height" / (std::string(name) + ".png")).string(), height);
    }
  }
  ~tree() { std::filesystem::remove_all(dir); }
};
}  // namespace

TEST_CASE("inputs of a data set: bands behind one another, resampled to the image") {
  const tree t;
  const auto set = data::open_dataset(t.dir.string(), {});
  const data::stacked_dataset stacked(set, {{"rgb", "images", 0}, {"height", "height", 0}}, t.dir);
  CHECK(stacked.bands() == 4);
  CHECK(stacked.inputs()[1].bands == 1);
  const auto s = stacked.load(1);
  const auto& v = std::get<std::vector<float>>(s->image.values);
  CHECK(v.size() == 16 * 12 * 4);
  CHECK(v[0] == doctest::Approx(100 / 255.0));
  CHECK(v[3] == 0);                                      // left of the first centre: its value
  CHECK(v[4 * 15 + 3] == doctest::Approx(150 / 255.0));  // right of the last
  // Pixel 8 lies at (8.5 / 4 - 0.5) = 1.625 of the small grid.
  CHECK(v[4 * 8 + 3] == doctest::Approx(50 * 1.625 / 255));
  std::filesystem::remove(t.dir / "height" / "b.png");
  CHECK_THROWS_AS(data::stacked_dataset(set, {{"rgb", "images", 0}, {"height", "height", 0}}, t.dir), input_error);
  CHECK_THROWS_AS(data::stacked_dataset(set, {{"rgb", "images", 0}, {"height", "nowhere", 0}}, t.dir), input_error);
  CHECK_THROWS_AS(data::parse_modality("height"), usage_error);
}

TEST_CASE("a stacked scene: any window shows what the whole shows; other ground is refused") {
  const auto part = [](int w, int h, int bands, double left) {
    io::raster_info i;
    i.width = w, i.height = h, i.bands = bands, i.type = io::sample_type::u8;
    i.geotransform = std::array<double, 6>{left, 160.0 / w, 0, 900, 0, -120.0 / h};
    std::vector<float> v(std::size_t(w) * std::size_t(h) * std::size_t(bands));
    for (std::size_t k = 0; k < v.size(); ++k) v[k] = float((k * 37) % 251);
    return io::memory_source(i, std::move(v));
  };
  std::vector<std::unique_ptr<io::raster_source>> parts;
  parts.push_back(part(32, 24, 3, 500)), parts.push_back(part(8, 6, 2, 500)), parts.push_back(part(64, 48, 1, 500));
  data::stacked_source s(std::move(parts));
  CHECK(s.info().bands == 6);
  CHECK(s.info().geotransform.has_value());
  std::vector<float> whole(32 * 24 * 6), window(5 * 7 * 6);
  s.read_window(0, 0, 32, 24, whole.data());
  s.read_window(13, 9, 5, 7, window.data());
  for (int y = 0; y < 7; ++y)
    for (int x = 0; x < 5; ++x)
      for (int b = 0; b < 6; ++b)
        REQUIRE(window[std::size_t((y * 5 + x) * 6 + b)] == doctest::Approx(whole[std::size_t(((y + 9) * 32 + x + 13) * 6 + b)]).epsilon(1e-6));
  std::vector<std::unique_ptr<io::raster_source>> elsewhere;
  elsewhere.push_back(part(32, 24, 3, 500)), elsewhere.push_back(part(8, 6, 2, 900));
  CHECK_THROWS_AS(data::stacked_source(std::move(elsewhere)), usage_error);
}
