// SPDX-License-Identifier: MIT
// ISIC 2018 task 1, lesion boundaries (Codella et al., arXiv 1902.03368; HAM10000, Tschandl et al. 2018): RGB up to 6.7k x 4.5k,
// masks 0 / 255 cut at 128. Ids: 0 background, 1 lesion.
// The survey's papers split the 2594 training images at random into 2077 / 260 / 257 without publishing lists; the split here is
// rsseg's own: sorted names, permuted by a fixed generator, cut in these proportions.
#pragma once
#include "rsseg/data/layout.hpp"
#include "rsseg/data/sampler.hpp"

namespace rsseg::data {

/// split: train, val, test (rsseg's own, see above), all.
inline set_layout isic2018(const fs::path& dir, const std::string& split) {
  detail::require_split("isic2018", split, {"train", "val", "test", "all"});
  set_layout s = detail::one_against_rest("isic2018:" + dir.string() + ":" + split, "background", "lesion", {40, 40, 40});
  const auto images = detail::files_ending(detail::first_folder(dir, {"ISIC2018_Task1-2_Training_Input"}, "ISIC 2018 task 1"), ".jpg");
  const auto masks =
      detail::files_ending(detail::first_folder(dir, {"ISIC2018_Task1_Training_GroundTruth"}, "ISIC 2018 task 1"), "_segmentation.png");
  std::vector<std::string> names;
  for (const auto& [name, file] : images) names.push_back(name);
  const std::uint64_t n = names.size(), train = (n * 2077 + 1297) / 2594, val = std::min(n - train, (n * 260 + 1297) / 2594);
  std::set<std::string> wanted;
  for (std::uint64_t i = 0; i < n; ++i) {
    const std::string part = i < train ? "train" : i < train + val ? "val" : "test";
    if (split == "all" || split == part) wanted.insert(names[std::size_t(permuted(i, n, 2018, 0))]);
  }
  detail::join(s, images, masks, [&](const std::string& name) { return wanted.count(name) != 0 || (split == "all" && !images.count(name)); });
  return s;
}

}  // namespace rsseg::data
