// SPDX-License-Identifier: MIT
// ISPRS Vaihingen: 33 tiles of about 2494x2064, near infrared / red / green, 9 cm, 8-bit TIFF; 16 for training, 17 for test.
#pragma once
#include "rsseg/data/isprs.hpp"

namespace rsseg::data {

/// split: train (the benchmark's 16 tiles), test (17), all; fit (12) and val (areas 5, 15, 21, 30) divide train as DeepNetsForEO does.
/// +eroded takes gts_eroded_for_participants, whose boundaries are ignored: what scores are counted on.
inline set_layout vaihingen(const fs::path& dir, const std::string& split) {
  const auto parsed = detail::split_and_flags(split);
  const std::string& part = parsed.first;  // no structured binding: a lambda below captures it
  const auto& flags = parsed.second;
  detail::require_split("vaihingen", part, {"train", "test", "all", "fit", "val"});
  detail::require_flags("vaihingen", flags, {"eroded"});
  const bool eroded = flags.count("eroded") != 0;
  static const std::set<std::string> train = {"1", "3", "5", "7", "11", "13", "15", "17", "21", "23", "26", "28", "30", "32", "34", "37"};
  static const std::set<std::string> test = {"2", "4", "6", "8", "10", "12", "14", "16", "20", "22", "24", "27", "29", "31", "33", "35", "38"};
  static const std::set<std::string> val = {"5", "15", "21", "30"};
  set_layout s;
  s.origin = "vaihingen:" + dir.string() + ":" + split;
  s.classes = isprs_classes();
  s.coding = mask_coding::of_colours(true);
  const auto images = detail::isprs_tiles(detail::first_folder(dir, {"top"}, "ISPRS Vaihingen"), "top_mosaic_09cm_area", ".tif");
  const fs::path labels = detail::first_folder(dir, {eroded ? "gts_eroded_for_participants" : "gts_for_participants"}, "ISPRS Vaihingen");
  const auto masks = detail::isprs_tiles(labels, "top_mosaic_09cm_area", eroded ? "_noBoundary.tif" : ".tif");
  detail::join(s, images, masks, [&](const std::string& tile) {
    if (part == "all") return true;
    if (part == "test") return test.count(tile) != 0;
    if (part == "val") return val.count(tile) != 0;
    return train.count(tile) != 0 && (part == "train" || !val.count(tile));
  });
  return s;
}

}  // namespace rsseg::data
