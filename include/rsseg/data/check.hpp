// SPDX-License-Identifier: MIT
// `rsseg dataset check`: reads every file of a data set and reports counts, class histogram, size mismatches, ids out of range,
// unreadable files, and files without partner, all of them instead of stopping at the first.
#pragma once
#include <algorithm>
#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "rsseg/data/registry.hpp"

namespace rsseg::data {

struct check_report {
  std::string spec;
  class_table classes;
  std::size_t pairs = 0, good = 0;
  int bands = 0;
  std::uint64_t pixels = 0;                  ///< of the good pairs
  std::map<std::string, std::size_t> sizes;  ///< "width x height" -> pairs
  class_counts counts{0};                    ///< over the good pairs
  std::vector<std::string> problems;         ///< one line each, naming the file
  bool ok() const { return problems.empty() && pairs > 0; }
};

/// Looks at every file. Throws only when the specification itself leads nowhere.
inline check_report check_dataset(const std::string& spec, const open_options& options = {}, int threads = 0) {
  const set_layout layout = find_dataset(spec, options);
  check_report r;
  r.spec = spec, r.classes = layout.classes, r.pairs = layout.pairs.size();
  r.counts = class_counts(layout.classes.count());
  for (const auto& f : layout.images_without_mask) r.problems.push_back(f.string() + ": image without mask");
  for (const auto& f : layout.masks_without_image) r.problems.push_back(f.string() + ": mask without image");
  if (layout.pairs.empty()) {
    r.problems.push_back(spec + ": no pairs");
    return r;
  }
  for (const auto& p : layout.pairs) try {  // the bands of the first image that can be read
      r.bands = image_bands(p.image);
      break;
    } catch (const error&) {
    }
  const file_dataset set(layout.pairs, layout.classes, layout.coding, spec, std::max(1, r.bands));
  struct result {
    histogram counts{};
    int width = 0, height = 0;
    std::string problem;
  };
  std::vector<result> each(set.size());
  for_each_index(set.size(), threads, [&](std::size_t i) {
    try {
      const auto s = set.load(i);
      each[i].counts = count_ids(s->labels);
      each[i].width = s->image.width, each[i].height = s->image.height;
    } catch (const error& e) {
      each[i].problem = e.what();
    }
  });
  std::map<std::string, std::string> seen;
  for (std::size_t i = 0; i < set.size(); ++i) {
    const std::string image = layout.pairs[i].image.lexically_normal().string();
    if (!seen.emplace(image, layout.pairs[i].name).second) r.problems.push_back(image + ": listed twice");
    if (!each[i].problem.empty()) {
      r.problems.push_back(each[i].problem);
      continue;
    }
    ++r.good;
    r.pixels += std::uint64_t(each[i].width) * std::uint64_t(each[i].height);
    ++r.sizes[std::to_string(each[i].width) + "x" + std::to_string(each[i].height)];
    if (const int ignored = r.classes.ignore_id; ignored < r.classes.count()) {
      each[i].counts[255] += each[i].counts[std::size_t(ignored)];
      each[i].counts[std::size_t(ignored)] = 0;
    }
    r.counts.add(each[i].counts);
  }
  if (r.good && r.counts.labelled() == 0) r.problems.push_back(spec + ": not one labelled pixel; every mask is ignored throughout");
  return r;
}

/// The report for machines.
inline std::string check_json(const check_report& r) {
  nlohmann::ordered_json j;
  j["data"] = r.spec, j["ok"] = r.ok(), j["pairs"] = r.pairs, j["good"] = r.good, j["bands"] = r.bands, j["pixels"] = r.pixels;
  j["ignored_pixels"] = r.counts.ignored;
  j["classes"] = nlohmann::ordered_json::array();
  const double all = double(std::max<std::uint64_t>(1, r.pixels));
  for (int c = 0; c < r.classes.count(); ++c) {
    const std::size_t k = std::size_t(c);
    j["classes"].push_back({{"id", c},
                            {"name", r.classes.names[k]},
                            {"pixels", r.counts.pixels[k]},
                            {"share", double(r.counts.pixels[k]) / all},
                            {"images", r.counts.images[k]}});
  }
  j["sizes"] = r.sizes;
  j["problems"] = r.problems;
  return j.dump(1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

/// The report for people; at most `most` problems are spelt out.
inline std::string check_text(const check_report& r, std::size_t most = 20) {
  std::string out;
  char line[256];
  const auto add = [&](const char* format, auto... values) {
    std::snprintf(line, sizeof line, format, values...);
    out += line;
  };
  out += r.spec;
  add(": %zu pairs, %zu good, %d bands, %.1f megapixels, ", r.pairs, r.good, r.bands, double(r.pixels) / 1e6);
  if (r.sizes.size() == 1)
    out += r.sizes.begin()->first + "\n";
  else
    add("%zu different sizes\n", r.sizes.size());
  const double all = double(std::max<std::uint64_t>(1, r.pixels));
  add("  %3s  %-20s %14s %7s %7s\n", "id", "class", "pixels", "%", "images");
  for (int c = 0; c < r.classes.count(); ++c) {
    const std::size_t k = std::size_t(c);
    add("  %3d  %-20.60s %14llu %7.2f %7llu\n", c, r.classes.names[k].c_str(), static_cast<unsigned long long>(r.counts.pixels[k]),
        100 * double(r.counts.pixels[k]) / all, static_cast<unsigned long long>(r.counts.images[k]));
  }
  add("  %3d  %-20s %14llu %7.2f\n", r.classes.ignore_id, "(ignored)", static_cast<unsigned long long>(r.counts.ignored),
      100 * double(r.counts.ignored) / all);
  for (std::size_t i = 0; i < std::min(most, r.problems.size()); ++i) out += "problem: " + r.problems[i] + "\n";
  if (r.problems.size() > most) add("... and %zu problems more (--json lists all)\n", r.problems.size() - most);
  if (r.ok()) out += "no problems found\n";
  return out;
}

}  // namespace rsseg::data
