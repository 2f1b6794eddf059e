// SPDX-License-Identifier: MIT
// Bodies of train/metrics_report.hpp.
#pragma once
#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "rsseg/train/metrics_report.hpp"

namespace rsseg::train {

RSSEG_IO_INLINE std::string class_name(const std::vector<std::string>& names, int k) {
  return k < int(names.size()) && !names[std::size_t(k)].empty() ? names[std::size_t(k)] : "class " + std::to_string(k);
}

RSSEG_IO_INLINE std::string scores_table(const segmentation_scores& s, const std::vector<std::string>& names, const boundary_f1* boundary) {
  const auto letters = [](const std::string& text) {  // of UTF-8
    return int(std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
  };
  int wide = 5;
  for (int k = 0; k < int(s.classes.size()); ++k) wide = std::max(wide, letters(class_name(names, k)));
  const auto left = [&](const std::string& text) { return text + std::string(std::size_t(wide - letters(text)), ' '); };
  const auto cell = [](double v) {
    char text[32];
    std::isnan(v) ? std::snprintf(text, sizeof text, "%10s", "-") : std::snprintf(text, sizeof text, "%10.4f", v);
    return std::string(text);
  };
  const auto head = [](const char* text) {
    char field[32];
    std::snprintf(field, sizeof field, "%10s", text);
    return std::string(field);
  };
  std::string out =
      left("class") + head("IoU") + head("F1") + head("precision") + head("recall") + head("share") + (boundary ? head("boundary") : "") + "\n";
  for (int k = 0; k < int(s.classes.size()); ++k) {
    const class_scores& c = s.classes[std::size_t(k)];
    out += left(class_name(names, k)) + cell(c.iou) + cell(c.f1) + cell(c.precision) + cell(c.recall) +
           cell(detail::ratio(double(c.label_pixels), double(s.counted))) + (boundary ? cell(boundary->class_mean(k)) : "") + "\n";
  }
  detail::mean_of_numbers precision;
  for (const class_scores& c : s.classes) precision.add(c.precision);
  out += left("mean") + cell(s.mean_iou) + cell(s.mean_f1) + cell(precision.value()) + cell(s.mean_accuracy) + head("") +
         (boundary ? cell(boundary->mean()) : "") + "\n";
  const auto number = [](double v) {
    char text[32];
    std::snprintf(text, sizeof text, "%.4f", v);
    return std::isnan(v) ? std::string("-") : std::string(text);
  };
  const std::string ignored = std::to_string(s.ignored) + (s.ignored == 1 ? " pixel" : " pixels") + " ignored";
  if (s.counted == 0) return out + "nothing is measured: no pixel has a label (" + ignored + ")\n";
  out += "pixel accuracy " + number(s.pixel_accuracy) + ", frequency-weighted IoU " + number(s.frequency_iou) + ", kappa " + number(s.kappa) + "; " +
         std::to_string(s.counted) + (s.counted == 1 ? " pixel, " : " pixels, ") + std::to_string(s.ignored) + " ignored\n";
  if (!s.absent.empty()) {
    out += "not in the means, since neither labelled nor predicted:";
    for (const int k : s.absent) out += " " + class_name(names, k) + (k == s.absent.back() ? "" : ",");
    out += "\n";
  }
  return out;
}

RSSEG_IO_INLINE std::string scores_json(const confusion_matrix& matrix, const std::vector<std::string>& names, const boundary_f1* boundary,
                                        int indent) {
  using json = nlohmann::ordered_json;
  const segmentation_scores s = matrix.scores();
  json out = {{"mean_iou", s.mean_iou}, {"pixel_accuracy", s.pixel_accuracy},        {"mean_accuracy", s.mean_accuracy},
              {"mean_f1", s.mean_f1},   {"frequency_weighted_iou", s.frequency_iou}, {"kappa", s.kappa}};
  if (boundary) out["boundary_f1"] = boundary->mean(), out["boundary_tolerance_px"] = boundary->tolerance();
  out["pixels"] = s.counted;
  out["ignored_pixels"] = s.ignored;
  out["classes"] = json::array();
  for (int k = 0; k < matrix.classes(); ++k) {
    const class_scores& c = s.classes[std::size_t(k)];
    json entry = {{"id", k},
                  {"name", class_name(names, k)},
                  {"iou", c.iou},
                  {"f1", c.f1},
                  {"precision", c.precision},
                  {"recall", c.recall},
                  {"label_pixels", c.label_pixels},
                  {"predicted_pixels", c.predicted_pixels},
                  {"absent", c.absent}};
    if (boundary) entry["boundary_f1"] = boundary->class_mean(k);
    out["classes"].push_back(std::move(entry));
  }
  out["confusion"] = json::array();
  for (int l = 0; l < matrix.classes(); ++l) {
    json row = json::array();
    for (int p = 0; p < matrix.classes(); ++p) row.push_back(matrix(l, p));
    out["confusion"].push_back(std::move(row));
  }
  return out.dump(indent, ' ', false, json::error_handler_t::replace);  // NaN is dumped as null
}

}  // namespace rsseg::train
