// SPDX-License-Identifier: MIT
// One way to name any data set, as the command line's --data takes it:
//   DIR              a folder with images/ and masks/
//   LIST             a text file, one `image mask` per line
//   NAME:DIR[:PART]  a public data set by name, e.g. deepglobe:/data/deepglobe:train
// A classes.json beside the data (or up to two folders above) gives names, colours and the ignored id.
#pragma once
#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "rsseg/core/error.hpp"
#include "rsseg/data/camvid.hpp"
#include "rsseg/data/cityscapes.hpp"
#include "rsseg/data/coco_stuff.hpp"
#include "rsseg/data/deepglobe.hpp"
#include "rsseg/data/inria.hpp"
#include "rsseg/data/isic2018.hpp"
#include "rsseg/data/layout.hpp"
#include "rsseg/data/potsdam.hpp"
#include "rsseg/data/statistics.hpp"
#include "rsseg/data/vaihingen.hpp"
#include "rsseg/data/voc2012.hpp"

namespace rsseg::data {

struct known_set {
  const char* name;
  const char* about;
  const char* default_part;
  set_layout (*find)(const fs::path& dir, const std::string& part);
};

/// The public data sets that NAME:DIR[:PART] knows.
inline const std::vector<known_set>& known_sets() {
  static const std::vector<known_set> all = {
      {"camvid", "street scenes, 11 classes (SegNet tutorial form); train, val, test", "train", camvid},
      {"cityscapes", "street scenes, 19 classes; train, val, test, train_extra, train+coarse", "train", cityscapes},
      {"coco_stuff", "photographs, 171 classes; train, val", "train", coco_stuff},
      {"deepglobe", "land cover, 7 classes, 2448x2448; train, val, test, all", "train", deepglobe},
      {"inria", "buildings, 2 classes, 5000x5000; train, val, all, test", "train", inria},
      {"isic2018", "skin lesions, 2 classes; train, val, test, all", "train", isic2018},
      {"potsdam", "ISPRS, 6 classes, 5 cm; train, test, all; +irrg, +rgbir, +eroded", "train", potsdam},
      {"vaihingen", "ISPRS, 6 classes, 9 cm; train, test, fit, val, all; +eroded", "train", vaihingen},
      {"voc2012", "photographs, 21 classes; train, val, trainval, train_aug; +colours", "train", voc2012},
  };
  return all;
}

struct open_options {
  int classes = 0;                    ///< class count where there is no classes.json; 0: the largest id found in the masks, plus one
  int ignore_id = -1;                 ///< -1: what classes.json says, or 255
  std::size_t cache_megabytes = 512;  ///< decoded samples kept; 0: none
};

namespace detail {

/// Largest value but `ignore` over all masks, plus one.
inline int measured_class_count(const std::vector<file_pair>& pairs, int ignore) {
  std::vector<int> top(pairs.size(), -1);
  class_table any = class_table::numbered(255);
  any.ignore_id = ignore;
  const mask_coding coding = mask_coding::plain_ids(256, ignore);
  for_each_index(pairs.size(), 0, [&](std::size_t i) {
    const mask m = decode_mask(read_mask_pixels(pairs[i].mask, mask_coding::kind::ids), coding, any, pairs[i].mask.string());
    for (const std::uint8_t id : m.ids)
      if (id != ignore) top[i] = std::max(top[i], int(id));
  });
  return *std::max_element(top.begin(), top.end()) + 1;
}

}  // namespace detail

/// Finds the files of a specification without reading pixels (but for the class count, where nothing states it).
inline set_layout find_dataset(const std::string& spec, const open_options& options = {}) {
  if (const std::size_t colon = spec.find(':'); colon != std::string::npos) {
    const std::string name = spec.substr(0, colon);
    for (const known_set& k : known_sets())
      if (name == k.name) {
        std::string dir = spec.substr(colon + 1), part = k.default_part;
        if (const std::size_t at = dir.rfind(':'); at != std::string::npos) part = dir.substr(at + 1), dir.resize(at);
        std::error_code none;
        if (!fs::is_directory(dir, none)) throw input_error(dir + ": no such folder; expected the root of " + name);
        return k.find(dir, part);
      }
    std::error_code none;
    if (!fs::exists(spec, none)) {
      std::string all;
      for (const known_set& k : known_sets()) all += (all.empty() ? "" : ", ") + std::string(k.name);
      throw usage_error("data set \"" + name + "\": unknown; known are " + all);
    }
  }
  std::error_code none;
  if (!fs::exists(spec, none)) throw input_error(spec + ": does not exist; expected a folder, a list file, or NAME:DIR[:PART]");
  set_layout s;
  s.origin = spec;
  const bool folder = fs::is_directory(spec, none);
  if (folder) {
    folder_pairs found;
    try {
      found = read_folder(spec);
    } catch (const input_error&) {
      // A public set as it comes: say how it is called.
      for (const known_set& k : known_sets()) try {
          if (!k.find(spec, k.default_part).pairs.empty())
            throw usage_error(spec + ": looks like " + k.name + "; write " + k.name + ":" + spec + " (part: " + k.default_part + ")");
        } catch (const input_error&) {
        }
      throw;
    }
    s.pairs = std::move(found.pairs);
    s.images_without_mask = std::move(found.images_without_mask), s.masks_without_image = std::move(found.masks_without_image);
  } else {
    if (detail::is_image(spec)) throw input_error(spec + ": an image, but a list file or a folder was expected; write `image mask` into a text file");
    s.pairs = read_list(spec);
  }
  if (s.pairs.empty() && s.images_without_mask.empty())
    throw input_error(spec + ": no image/mask pairs found; expected images/NAME.* and masks/NAME.*");
  const int wanted_ignore = options.ignore_id >= 0 ? options.ignore_id : 255;
  if (const auto file = find_classes(folder ? fs::path(spec) : fs::path(spec).parent_path())) {
    s.classes = read_classes(*file);
    if (options.ignore_id >= 0) s.classes.ignore_id = options.ignore_id;
    if (options.classes > 0 && options.classes != s.classes.count())
      throw usage_error(std::to_string(options.classes) + " classes were asked for, but " + file->string() + " names " +
                        std::to_string(s.classes.count()));
  } else {
    const int count = options.classes > 0 ? options.classes : s.pairs.empty() ? 1 : detail::measured_class_count(s.pairs, wanted_ignore);
    if (count < 1 || count > 255) throw usage_error(std::to_string(count) + " classes; 1 to 255 are possible in an 8-bit mask");
    s.classes = class_table::numbered(count);
    s.classes.ignore_id = wanted_ignore;
  }
  s.coding = s.classes.colour_masks ? mask_coding::of_colours() : mask_coding::plain_ids(s.classes.count(), s.classes.ignore_id);
  return s;
}

/// Opens a data set by specification (see top of file). Throws usage_error for unknown names and parts, input_error naming the file
/// for everything that is not as it should be. Masks and images are checked when they are read; `dataset check` reads them all.
inline std::shared_ptr<const dataset> open_dataset(const std::string& spec, const open_options& options = {}) {
  std::shared_ptr<const dataset> set = find_dataset(spec, options).open();
  if (options.cache_megabytes > 0) set = std::make_shared<cached_dataset>(set, options.cache_megabytes);
  return set;
}

}  // namespace rsseg::data
