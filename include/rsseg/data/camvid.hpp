// SPDX-License-Identifier: MIT
// CamVid (Brostow et al., Pattern Recognition Letters 2009) in the form of the SegNet tutorial: 480x360, 367 / 101 / 233 pictures,
// {train,val,test}/ with {train,val,test}annot/ holding ids 0..10; 11 "unlabelled" is ignored here.
#pragma once
#include "rsseg/data/layout.hpp"

namespace rsseg::data {

inline class_table camvid_classes() {
  class_table t;
  t.names = {"sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist"};
  t.palette = {{{128, 128, 128},
                {128, 0, 0},
                {192, 192, 128},
                {128, 64, 128},
                {60, 40, 222},
                {128, 128, 0},
                {192, 128, 128},
                {64, 64, 128},
                {64, 0, 128},
                {64, 64, 0},
                {0, 128, 192}}};
  t.ignore_colours = {{{0, 0, 0}}};
  return t;
}

/// split: train, val, test. Takes the list <split>.txt where there is one (stems, or lines with paths whose file names count), else all files.
inline set_layout camvid(const fs::path& dir, const std::string& split) {
  detail::require_split("camvid", split, {"train", "val", "test"});
  set_layout s;
  s.origin = "camvid:" + dir.string() + ":" + split;
  s.classes = camvid_classes();
  s.coding = mask_coding::plain_ids(11, 255);
  s.coding.remap[11] = 255;
  const auto images = detail::images_by_stem(detail::first_folder(dir, {split}, "CamVid as in the SegNet tutorial"));
  const auto masks = detail::images_by_stem(detail::first_folder(dir, {split + "annot"}, "CamVid as in the SegNet tutorial"));
  std::set<std::string> listed;
  if (std::ifstream list(dir / (split + ".txt")); list)
    for (std::string line; std::getline(list, line);)
      if (const auto f = list_fields(line); !f.empty()) {
        const std::string stem = detail::is_image(f[0]) ? fs::path(f[0]).stem().string() : fs::path(f[0]).filename().string();
        if (!images.count(stem))
          throw input_error((dir / (split + ".txt")).string() + ": lists " + stem + ", which is not in " + (dir / split).string());
        listed.insert(stem);
      }
  detail::join(s, images, masks, [&](const std::string& stem) { return listed.empty() || listed.count(stem) != 0; });
  return s;
}

}  // namespace rsseg::data
