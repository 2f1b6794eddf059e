// SPDX-License-Identifier: MIT
// Scenes in memory for the tests of rsseg/scene.
#pragma once
#include <memory>
#include <utility>
#include <vector>

#include "rsseg/core/random.hpp"
#include "rsseg/io/raster.hpp"

namespace test {

inline rsseg::io::raster_info info_of(int width, int height) {
  rsseg::io::raster_info i;
  i.width = width, i.height = height, i.bands = 3, i.type = rsseg::io::sample_type::u8;
  return i;
}
/// Three bands of noise.
inline std::unique_ptr<rsseg::io::raster_source> scene_of(int width, int height) {
  std::vector<float> v(std::size_t(width) * std::size_t(height) * 3);
  rsseg::random_stream r(3, 9);
  for (float& x : v) x = float(r.below(256));
  return rsseg::io::memory_source(info_of(width, height), std::move(v));
}

}  // namespace test
