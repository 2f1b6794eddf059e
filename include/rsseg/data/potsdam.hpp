// SPDX-License-Identifier: MIT
// ISPRS Potsdam: 38 tiles of 6000x6000, 5 cm, RGB / IRRG / RGBIR; 24 for training, 14 for test. Tile 7_10 has label errors; it is in train.
#pragma once
#include "rsseg/data/isprs.hpp"

namespace rsseg::data {

/// split: train (24), test (14), all; flags: +irrg or +rgbir instead of RGB, +eroded for masks whose boundaries are ignored.
inline set_layout potsdam(const fs::path& dir, const std::string& split) {
  const auto parsed = detail::split_and_flags(split);
  const std::string& part = parsed.first;  // no structured binding: a lambda below captures it
  const auto& flags = parsed.second;
  detail::require_split("potsdam", part, {"train", "test", "all"});
  detail::require_flags("potsdam", flags, {"irrg", "rgbir", "eroded"});
  static const std::set<std::string> test = {"2_13", "2_14", "3_13", "3_14", "4_13", "4_14", "4_15",
                                             "5_13", "5_14", "5_15", "6_13", "6_14", "6_15", "7_13"};
  set_layout s;
  s.origin = "potsdam:" + dir.string() + ":" + split;
  s.classes = isprs_classes();
  s.coding = mask_coding::of_colours(true);
  const bool eroded = flags.count("eroded") != 0;
  const std::string bands = flags.count("irrg") ? "IRRG" : flags.count("rgbir") ? "RGBIR" : "RGB";
  const std::string folder = (bands == "RGB" ? "2_Ortho_" : bands == "IRRG" ? "3_Ortho_" : "4_Ortho_") + bands;
  const auto images = detail::isprs_tiles(detail::first_folder(dir, {folder}, "ISPRS Potsdam"), "top_potsdam_", "_" + bands + ".tif");
  const fs::path labels =
      detail::first_folder(dir, {eroded ? "5_Labels_for_participants_no_Boundary" : "5_Labels_for_participants"}, "ISPRS Potsdam");
  const auto masks = detail::isprs_tiles(labels, "top_potsdam_", eroded ? "_label_noBoundary.tif" : "_label.tif");
  const auto in_train = [](const std::string& tile) {
    if (tile.size() < 3 || tile.size() > 6 || tile[1] != '_') return false;
    const int row = tile[0] - '0', column = std::stoi(tile.substr(2));
    return (row >= 2 && row <= 5 && column >= 10 && column <= 12) || (row >= 6 && row <= 7 && column >= 7 && column <= 12);
  };
  detail::join(s, images, masks, [&](const std::string& tile) { return part == "all" || (part == "test" ? test.count(tile) != 0 : in_train(tile)); });
  return s;
}

}  // namespace rsseg::data
