// SPDX-License-Identifier: MIT
// Inria Aerial Image Labeling (Maggiori et al., IGARSS 2017): 5000x5000 RGB GeoTIFF, 0.3 m, masks 0 / 255. Ids: 0 other, 1 building.
// Official validation: tiles 1 to 5 of each of the five cities (25 of 180). Metric: IoU of building over all tiles, pixel accuracy.
#pragma once
#include "rsseg/data/layout.hpp"

namespace rsseg::data {

/// split: train (155 tiles), val (25), all (180), test (180 without masks). dir holds train/images, train/gt, test/images.
inline set_layout inria(const fs::path& dir, const std::string& split) {
  detail::require_split("inria", split, {"train", "val", "all", "test"});
  set_layout s = detail::one_against_rest("inria:" + dir.string() + ":" + split, "other", "building", {60, 60, 60});
  std::error_code none;
  const fs::path root = fs::is_directory(dir / "AerialImageDataset", none) ? dir / "AerialImageDataset" : dir;
  if (split == "test") {
    s.masks_withheld = true;
    detail::join(s, detail::files_ending(detail::first_folder(root, {"test/images"}, "Inria Aerial"), ".tif"), {}, [](const auto&) { return true; });
    return s;
  }
  const auto held_out = [](const std::string& name) {  // austin3: validation; austin13: training
    std::size_t digits = name.size();
    while (digits > 0 && std::isdigit(static_cast<unsigned char>(name[digits - 1]))) --digits;
    const std::string number = name.substr(digits);
    return number.size() == 1 && number[0] >= '1' && number[0] <= '5';
  };
  detail::join(s, detail::files_ending(detail::first_folder(root, {"train/images"}, "Inria Aerial"), ".tif"),
               detail::files_ending(detail::first_folder(root, {"train/gt"}, "Inria Aerial"), ".tif"),
               [&](const std::string& name) { return split == "all" || held_out(name) == (split == "val"); });
  return s;
}

}  // namespace rsseg::data
