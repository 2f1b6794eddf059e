// SPDX-License-Identifier: MIT
// ISPRS 2D semantic labeling, what its two cities share: classes, colours, and the mask with eroded boundaries.
// Metric: F1 per class, their mean over the first five, overall accuracy, on the eroded masks.
#pragma once
#include "rsseg/data/layout.hpp"

namespace rsseg::data {

inline class_table isprs_classes() {
  class_table t;
  t.names = {"impervious", "building", "low vegetation", "tree", "car", "clutter"};
  t.palette = {{{255, 255, 255}, {0, 0, 255}, {0, 255, 255}, {0, 255, 0}, {255, 255, 0}, {255, 0, 0}}};
  t.ignore_colours = {{{0, 0, 0}}};  // boundaries, three pixels each side, in the eroded masks
  t.colour_masks = true;
  return t;
}

namespace detail {
/// Key of a tile name: area number "5" from top_mosaic_09cm_area5, "2_10" from top_potsdam_2_10_RGB.
inline std::map<std::string, fs::path> isprs_tiles(const fs::path& dir, const std::string& before, const std::string& after) {
  std::map<std::string, fs::path> tiles;
  for (const auto& [name, file] : files_ending(dir, after))
    if (name.size() > before.size() && name.compare(0, before.size(), before) == 0) {
      const std::string key = name.substr(before.size());
      if (key.find_first_not_of("0123456789_") == std::string::npos) tiles.emplace(key, file);
    }
  return tiles;
}
}  // namespace detail
}  // namespace rsseg::data
