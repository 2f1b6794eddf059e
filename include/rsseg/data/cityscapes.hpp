// SPDX-License-Identifier: MIT
// Cityscapes (Cordts et al., CVPR 2016): 2048x1024 street scenes; 2975 / 500 / 1525 fine, 19998 more with coarse masks.
// Reads *_gtFine_labelIds.png (what the download holds) and maps the 34 label ids to the 19 train ids; all others are ignored.
#pragma once
#include "rsseg/data/layout.hpp"

namespace rsseg::data {

inline class_table cityscapes_classes() {
  class_table t;
  t.names = {"road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation", "terrain",
             "sky",  "person",   "rider",    "car",  "truck", "bus",  "train",         "motorcycle",   "bicycle"};
  t.palette = {{{128, 64, 128},
                {244, 35, 232},
                {70, 70, 70},
                {102, 102, 156},
                {190, 153, 153},
                {153, 153, 153},
                {250, 170, 30},
                {220, 220, 0},
                {107, 142, 35},
                {152, 251, 152},
                {70, 130, 180},
                {220, 20, 60},
                {255, 0, 0},
                {0, 0, 142},
                {0, 0, 70},
                {0, 60, 100},
                {0, 80, 100},
                {0, 0, 230},
                {119, 11, 32}}};
  return t;
}

/// Label ids of train ids 0 .. 18: what the evaluation server wants back.
inline constexpr std::array<std::uint8_t, 19> cityscapes_label_ids = {7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33};

/// split: train, val, test (its masks are withheld: all ignored), and with coarse masks train+coarse, val+coarse, train_extra.
inline set_layout cityscapes(const fs::path& dir, const std::string& split) {
  const auto [part, flags] = detail::split_and_flags(split);
  detail::require_split("cityscapes", split, {"train", "val", "test", "train_extra", "train+coarse", "val+coarse"});
  const bool coarse = part == "train_extra" || flags.count("coarse");
  set_layout s;
  s.origin = "cityscapes:" + dir.string() + ":" + split;
  s.classes = cityscapes_classes();
  // Label ids are 0 .. 33, and -1 (stored as 255) for the licence plate.
  s.coding.remap.fill(mask_coding::invalid);
  for (std::size_t label = 0; label <= 33; ++label) s.coding.remap[label] = 255;
  s.coding.remap[255] = 255;
  for (std::size_t id = 0; id < cityscapes_label_ids.size(); ++id) s.coding.remap[cityscapes_label_ids[id]] = std::int16_t(id);
  s.masks_withheld = part == "test";
  const auto images = detail::files_ending(detail::first_folder(dir, {"leftImg8bit/" + part}, "Cityscapes"), "_leftImg8bit.png", true);
  std::map<std::string, fs::path> masks;
  const std::string kind = coarse ? "gtCoarse" : "gtFine";
  if (!s.masks_withheld)
    masks = detail::files_ending(detail::first_folder(dir, {kind + "/" + part}, "Cityscapes"), "_" + kind + "_labelIds.png", true);
  detail::join(s, images, masks, [](const auto&) { return true; });
  return s;
}

}  // namespace rsseg::data
