// SPDX-License-Identifier: MIT
// PASCAL VOC 2012 segmentation (Everingham et al., IJCV 2015): 1464 / 1449 pictures, masks are palette PNGs whose indices are the ids;
// 255 is the void border. Some tools save the same masks as RGB in the VOC colour map: voc2012+colours reads those.
#pragma once
#include "rsseg/data/layout.hpp"

namespace rsseg::data {

inline class_table voc2012_classes() {
  class_table t;
  t.names = {"background",  "aeroplane", "bicycle", "bird",      "boat",   "bottle",      "bus",   "car",  "cat",   "chair",    "cow",
             "diningtable", "dog",       "horse",   "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"};
  for (int i = 0; i < 21; ++i) t.palette.push_back(voc_colour(i));
  t.ignore_colours = {voc_colour(255)};  // (224,224,192)
  return t;
}

/// split: train, val, trainval, train_aug (with SegmentationClassAug/ and its list), each also with +colours.
inline set_layout voc2012(const fs::path& dir, const std::string& split) {
  const auto [part, flags] = detail::split_and_flags(split);
  detail::require_split("voc2012", part, {"train", "val", "trainval", "train_aug"});
  detail::require_flags("voc2012", flags, {"colours"});
  set_layout s;
  s.origin = "voc2012:" + dir.string() + ":" + split;
  s.classes = voc2012_classes();
  s.classes.colour_masks = flags.count("colours") != 0;
  s.coding = s.classes.colour_masks ? mask_coding::of_colours() : mask_coding::plain_ids(21, 255);
  std::error_code none;
  fs::path root = dir;
  for (const char* below : {"VOC2012", "VOCdevkit/VOC2012"})
    if (fs::is_directory(dir / below, none)) root = dir / below;
  const fs::path list = root / "ImageSets/Segmentation" / (part + ".txt");
  std::ifstream in(list);
  if (!in) throw input_error(list.string() + ": cannot be opened; expected the VOC 2012 folder with JPEGImages, SegmentationClass and ImageSets");
  const fs::path masks = part == "train_aug" ? root / "SegmentationClassAug" : root / "SegmentationClass";
  for (std::string line; std::getline(in, line);) {
    const auto f = list_fields(line);
    if (f.empty()) continue;
    file_pair p{root / "JPEGImages" / (f[0] + ".jpg"), masks / (f[0] + ".png"), f[0]};
    if (!fs::exists(p.image, none)) throw input_error(list.string() + ": lists " + f[0] + ", but " + p.image.string() + " does not exist");
    if (fs::exists(p.mask, none))
      s.pairs.push_back(std::move(p));
    else
      s.images_without_mask.push_back(p.image);
  }
  return s;
}

}  // namespace rsseg::data
