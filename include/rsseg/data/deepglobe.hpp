// SPDX-License-Identifier: MIT
// DeepGlobe land cover (Demir et al., CVPR Workshops 2018): 2448x2448 RGB, 0.5 m; <id>_sat.jpg and <id>_mask.png (colours).
// Only the official training part has public masks (803 images); train / val / test follow GLNet's split of it.
// Ids: 0 unknown, 1 urban, 2 agriculture, 3 rangeland, 4 forest, 5 water, 6 barren. GLNet learns all 7 and reports the mean IoU of 1..6.
#pragma once
#include "rsseg/data/deepglobe_split.hpp"
#include "rsseg/data/layout.hpp"

namespace rsseg::data {

inline class_table deepglobe_classes() {
  class_table t;
  t.names = {"unknown", "urban", "agriculture", "rangeland", "forest", "water", "barren"};
  t.palette = {{{0, 0, 0}, {0, 255, 255}, {255, 255, 0}, {255, 0, 255}, {0, 255, 0}, {0, 0, 255}, {255, 255, 255}}};
  t.colour_masks = true;
  return t;
}

/// split: train, val, test, all. dir holds land-train/ (official), {train,crossvali,offical_crossvali}/{Sat,Label}/ (GLNet), or the files.
inline set_layout deepglobe(const fs::path& dir, const std::string& split) {
  detail::require_split("deepglobe", split, {"train", "val", "test", "all"});
  set_layout s;
  s.origin = "deepglobe:" + dir.string() + ":" + split;
  s.classes = deepglobe_classes();
  s.coding = mask_coding::of_colours(true);
  s.coding.binarise = true;  // the masks are not quite pure; corners of the colour cube remain, and (255,0,0) means nothing
  std::map<std::string, fs::path> images, masks;
  std::error_code none;
  for (const char* part : {"train", "crossvali", "offical_crossvali"})  // spelt as GLNet's program does
    if (fs::is_directory(dir / part / "Sat", none)) {
      images.merge(detail::files_ending(dir / part / "Sat", "_sat.jpg"));
      masks.merge(detail::files_ending(dir / part / "Label", "_mask.png"));
    }
  if (images.empty()) {
    const fs::path from = fs::is_directory(dir / "land-train", none) ? dir / "land-train" : dir;
    images = detail::files_ending(from, "_sat.jpg"), masks = detail::files_ending(from, "_mask.png");
  }
  std::set<std::string> wanted;
  const auto want = [&](const auto& ids) {
    for (const std::int32_t id : ids) wanted.insert(std::to_string(id));
  };
  if (split == "train") want(deepglobe_split::train);
  if (split == "val") want(deepglobe_split::val);
  if (split == "test") want(deepglobe_split::test);
  detail::join(s, images, masks, [&](const std::string& id) { return split == "all" || wanted.count(id) != 0; });
  return s;
}

}  // namespace rsseg::data
