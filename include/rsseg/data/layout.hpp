// SPDX-License-Identifier: MIT
// What the header of a public data set finds out: which files belong together, what the classes are, how masks are coded.
#pragma once
#include <algorithm>
#include <array>
#include <cctype>
#include <filesystem>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "rsseg/core/error.hpp"
#include "rsseg/data/dataset.hpp"
#include "rsseg/data/pairs.hpp"

namespace rsseg::data {

/// A data set before any pixel is read. open() turns it into a data set; check() looks at every file of it.
struct set_layout {
  std::string origin;  ///< what the user named, for messages
  std::vector<file_pair> pairs;
  class_table classes;
  mask_coding coding;
  std::vector<fs::path> images_without_mask, masks_without_image;
  bool masks_withheld = false;  ///< a test part whose masks are not public: pairs without masks are meant

  /// Throws input_error when an image lacks its mask, or nothing was found.
  std::shared_ptr<file_dataset> open() const {
    if (!images_without_mask.empty())
      throw input_error(images_without_mask.front().string() + ": has no mask (" + std::to_string(images_without_mask.size()) + " of " +
                        std::to_string(images_without_mask.size() + pairs.size()) +
                        " images); add the mask, move the image away, or give a list file");
    return std::make_shared<file_dataset>(pairs, classes, coding, origin);
  }
};

namespace detail {

/// "train+eroded+irrg" -> {"train", {"eroded", "irrg"}}
inline std::pair<std::string, std::set<std::string>> split_and_flags(const std::string& text) {
  std::vector<std::string> parts(1);
  for (const char c : text)
    if (c == '+')
      parts.emplace_back();
    else
      parts.back() += c;
  return {parts[0], std::set<std::string>(parts.begin() + 1, parts.end())};
}

inline void require_split(const std::string& set, const std::string& split, const std::vector<std::string>& known) {
  if (std::find(known.begin(), known.end(), split) != known.end()) return;
  std::string all;
  for (const auto& k : known) all += (all.empty() ? "" : ", ") + k;
  throw usage_error(set + ": no part called \"" + split + "\"; use one of " + all);
}

inline void require_flags(const std::string& set, const std::set<std::string>& flags, const std::set<std::string>& known) {
  for (const auto& f : flags)
    if (!known.count(f)) {
      std::string all;
      for (const auto& k : known) all += " +" + k;
      throw usage_error(set + ": no variant called \"+" + f + "\"; use" + all);
    }
}

/// The first of some folders that exists. Throws input_error naming what was looked for.
inline fs::path first_folder(const fs::path& root, const std::vector<std::string>& candidates, const std::string& set) {
  std::error_code none;
  std::string all;
  for (const auto& c : candidates) {
    if (fs::is_directory(root / c, none)) return root / c;
    all += (all.empty() ? "" : " or ") + (root / c).string();
  }
  throw input_error(root.string() + ": does not look like " + set + "; expected the folder " + all);
}

/// Files of a folder (and of its sub-folders if deep) whose name ends in `ending`, as name without the ending -> path, sorted.
inline std::map<std::string, fs::path> files_ending(const fs::path& dir, const std::string& ending, bool deep = false) {
  std::map<std::string, fs::path> found;
  std::error_code failed;
  const auto take = [&](const fs::directory_entry& e) {
    const std::string name = e.path().filename().string();
    if (name.size() > ending.size() && name[0] != '.' && name.compare(name.size() - ending.size(), ending.size(), ending) == 0)
      found.emplace(name.substr(0, name.size() - ending.size()), e.path());
  };
  if (deep)
    for (const auto& e : fs::recursive_directory_iterator(dir, failed)) take(e);
  else
    for (const auto& e : fs::directory_iterator(dir, failed)) take(e);
  if (failed) throw input_error(dir.string() + ": cannot be listed (" + failed.message() + ")");
  return found;
}

/// Joins images and masks of equal key into the layout; keep(key) says what belongs to the wanted part.
template <class Keep>
void join(set_layout& layout, const std::map<std::string, fs::path>& images, const std::map<std::string, fs::path>& masks, const Keep& keep) {
  for (const auto& [key, file] : images) {
    if (!keep(key)) continue;
    if (const auto hit = masks.find(key); hit != masks.end())
      layout.pairs.push_back({file, hit->second, key});
    else if (layout.masks_withheld)
      layout.pairs.push_back({file, {}, key});
    else
      layout.images_without_mask.push_back(file);
  }
  for (const auto& [key, file] : masks)
    if (keep(key) && !images.count(key)) layout.masks_without_image.push_back(file);
}

/// Two classes, told apart by a threshold in grey masks; the second is shown in white.
inline set_layout one_against_rest(const std::string& origin, const char* rest, const char* one, colour rest_colour) {
  set_layout s;
  s.origin = origin;
  s.classes.names = {rest, one};
  s.classes.palette = {{rest_colour, {255, 255, 255}}};
  s.coding.how = mask_coding::kind::threshold;
  return s;
}
}  // namespace detail
}  // namespace rsseg::data
