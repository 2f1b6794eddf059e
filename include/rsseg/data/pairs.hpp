// SPDX-License-Identifier: MIT
// Finding the pairs of a user's own data: a list file, or a folder with images/ and masks/.
#pragma once
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "rsseg/core/error.hpp"
#include "rsseg/data/dataset.hpp"

namespace rsseg::data {

namespace fs = std::filesystem;

/// Fields of one line of a list file: separated by tabs if there is one, else by spaces; "..." keeps spaces; # starts a comment
/// at the beginning of the line or after white space.
inline std::vector<std::string> list_fields(const std::string& text) {
  std::string line;
  bool quoted = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '"') quoted = !quoted;
    if (text[i] == '#' && !quoted && (i == 0 || text[i - 1] == ' ' || text[i - 1] == '\t')) break;
    if (text[i] != '\r') line += text[i];
  }
  const bool tabs = line.find('\t') != std::string::npos;
  std::vector<std::string> fields;
  std::string field;
  bool any = false;
  quoted = false;
  const auto flush = [&] {
    while (tabs && !field.empty() && field.back() == ' ') field.pop_back();
    while (tabs && !field.empty() && field.front() == ' ') field.erase(0, 1);
    if (any && !field.empty()) fields.push_back(field);
    field.clear(), any = false;
  };
  for (const char c : line) {
    if (c == '"')
      quoted = !quoted, any = true;
    else if (!quoted && (c == '\t' || (!tabs && c == ' ')))
      flush();
    else
      field += c, any = true;
  }
  flush();
  return fields;
}

namespace detail {

inline const std::vector<std::string>& image_extensions() {
  static const std::vector<std::string> all = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".PNG", ".JPG", ".JPEG", ".TIF", ".TIFF", ".bmp", ".vrt"};
  return all;
}
inline bool is_image(const fs::path& p) {
  const auto& all = image_extensions();
  return std::find(all.begin(), all.end(), p.extension().string()) != all.end();
}

/// dir/name as it stands, or with the first known extension that exists.
inline std::optional<fs::path> find_image(const fs::path& dir, const std::string& name) {
  std::error_code none;
  if (fs::is_regular_file(dir / name, none) && is_image(name)) return dir / name;
  for (const auto& e : image_extensions())
    if (fs::is_regular_file(dir / (name + e), none)) return dir / (name + e);
  return std::nullopt;
}

/// Image files of a folder by stem, sorted by name. Hidden files and .aux.xml and the like are passed over.
inline std::map<std::string, fs::path> images_by_stem(const fs::path& dir) {
  std::map<std::string, fs::path> found;
  std::error_code error;
  for (const auto& e : fs::directory_iterator(dir, error))
    if (is_image(e.path()) && e.path().filename().string()[0] != '.') found.emplace(e.path().stem().string(), e.path());
  if (error) throw input_error(dir.string() + ": cannot be listed (" + error.message() + ")");
  return found;
}

/// Sub-folders that hold images, and the matching one for masks: images + masks, img + ann, ..., <split> + <split>annot.
inline const std::vector<std::pair<std::string, std::string>>& folder_names() {
  static const std::vector<std::pair<std::string, std::string>> all = {{"images", "masks"}, {"images", "labels"}, {"images", "gt"},
                                                                       {"image", "mask"},   {"image", "label"},   {"img", "mask"}};
  return all;
}

}  // namespace detail

/// Pairs of a list file. A line is `image mask` (paths relative to the list's folder), or one name: a stem or file that lies in
/// images/ beside the list or one folder up, with its mask of the same stem in masks/ (or labels/, gt/).
/// Throws input_error naming the list, its line and the file that is missing.
inline std::vector<file_pair> read_list(const fs::path& list) {
  std::ifstream in(list);
  if (!in) throw input_error(list.string() + ": cannot be opened; expected a text file with one `image mask` pair per line");
  const fs::path base = list.parent_path().empty() ? fs::path(".") : list.parent_path();
  std::vector<file_pair> pairs;
  std::string line;
  for (int number = 1; std::getline(in, line); ++number) {
    const std::string at = list.string() + " line " + std::to_string(number) + ": ";
    if (line.find('\0') != std::string::npos) throw input_error(at + "binary data; expected a text file with one `image mask` pair per line");
    const auto f = list_fields(line);
    if (f.empty()) continue;
    if (f.size() > 2)
      throw input_error(at + "expected `image mask`, got " + std::to_string(f.size()) +
                        " fields; quote names with spaces (\"my image.png\") or separate by a tab");
    std::error_code none;
    if (f.size() == 2) {
      file_pair p{base / f[0], base / f[1], fs::path(f[0]).stem().string()};
      for (const fs::path& file : {p.image, p.mask})
        if (!fs::exists(file, none)) throw input_error(at + file.string() + " does not exist; paths are relative to the folder of the list");
      pairs.push_back(std::move(p));
      continue;
    }
    file_pair p;
    p.name = detail::is_image(f[0]) ? fs::path(f[0]).stem().string() : fs::path(f[0]).filename().string();
    const std::string split = list.stem().string();
    for (const fs::path& root : {base, base.parent_path().empty() ? base / ".." : base.parent_path()}) {
      auto folders = detail::folder_names();
      folders.emplace_back(split, split + "annot");
      for (const auto& [images, masks] : folders) {
        const auto image = detail::find_image(root / images, f[0]);
        const auto mask_file = detail::find_image(root / masks, p.name);
        if (image && mask_file && p.image.empty()) p.image = *image, p.mask = *mask_file;
      }
      if (!p.image.empty()) break;
    }
    if (p.image.empty())
      throw input_error(at + "no image and mask called " + f[0] +
                        " in images/ and masks/ beside the list or one folder up; write `image mask` to name both files");
    pairs.push_back(std::move(p));
  }
  if (pairs.empty()) throw input_error(list.string() + ": holds no pairs; expected one `image mask` per line");
  return pairs;
}

/// What a folder holds: pairs by equal stem, and files that have no partner.
struct folder_pairs {
  std::vector<file_pair> pairs;
  std::vector<fs::path> images_without_mask, masks_without_image;
};

/// Matches two folders by stem. A mask may carry one of the usual endings (_mask, _label, _labels, _gt, _L, _segmentation).
inline folder_pairs match_folders(const fs::path& images, const fs::path& masks) {
  folder_pairs out;
  const auto image_files = detail::images_by_stem(images);
  auto mask_files = detail::images_by_stem(masks);
  for (const auto& [stem, file] : image_files) {
    auto hit = mask_files.find(stem);
    for (const char* ending : {"_mask", "_label", "_labels", "_gt", "_L", "_segmentation"})
      if (hit == mask_files.end()) hit = mask_files.find(stem + ending);
    if (hit == mask_files.end()) {
      out.images_without_mask.push_back(file);
    } else {
      out.pairs.push_back({file, hit->second, stem});
      mask_files.erase(hit);
    }
  }
  for (const auto& [stem, file] : mask_files) out.masks_without_image.push_back(file);
  return out;
}

/// Pairs of a folder with images/ and masks/ (or labels/, gt/; or image/ and mask/).
inline folder_pairs read_folder(const fs::path& dir) {
  std::error_code none;
  for (const auto& [images, masks] : detail::folder_names())
    if (fs::is_directory(dir / images, none) && fs::is_directory(dir / masks, none)) return match_folders(dir / images, dir / masks);
  throw input_error(dir.string() +
                    ": expected sub-folders images/ and masks/ with files of equal names; or give a list file, or NAME:DIR for a public data set");
}

/// classes.json in this folder or one of the two above, if there is one.
inline std::optional<fs::path> find_classes(fs::path dir) {
  std::error_code none;
  for (int up = 0; up < 3; ++up) {
    if (fs::is_regular_file(dir / "classes.json", none)) return (dir / "classes.json").lexically_normal();
    dir = dir.empty() ? fs::path("..") : dir / "..";
  }
  return std::nullopt;
}

}  // namespace rsseg::data
