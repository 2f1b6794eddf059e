// SPDX-License-Identifier: MIT
// From raw samples to what a network sees: value = (raw * unit_scale - mean[band]) / std[band], where unit_scale brings the full
// range of 8- and 16-bit types to [0, 1] and leaves floats alone. Mean and deviation are therefore in the units public
// recipes quote (imagenet: 0.485, ...).
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "rsseg/core/error.hpp"
#include "rsseg/data/dataset.hpp"
#include "rsseg/data/pixels.hpp"

namespace rsseg::data {

/// mean and std hold one value per band, or one value for all bands.
struct normalization {
  std::vector<float> mean{0.0f}, std{1.0f};

  float mean_of(int band) const { return mean[mean.size() == 1 ? 0 : std::size_t(band)]; }
  float std_of(int band) const { return std[std.size() == 1 ? 0 : std::size_t(band)]; }

  static normalization unit() { return {}; }
  /// Mean and deviation of ImageNet's training images, for red, green, blue in [0, 1]; what public backbones were trained with.
  static normalization imagenet() { return {{0.485f, 0.456f, 0.406f}, {0.229f, 0.224f, 0.225f}}; }

  /// Throws usage_error unless it fits images of so many bands.
  void require_bands(int bands) const {
    for (const auto* v : {&mean, &std})
      if (v->size() != 1 && int(v->size()) != bands)
        throw usage_error("normalization \"" + text() + "\" is for " + std::to_string(v->size()) + " bands, but the images have " +
                          std::to_string(bands) + "; use unit, or MEAN/STD with one value per band (0.4,0.4,0.4,0.5/0.2,0.2,0.2,0.2)");
  }

  /// "imagenet", "unit" or "m,m,.../s,s,...": what parse() reads; kept in the metadata of weights.
  std::string text() const {
    if (mean == unit().mean && std == unit().std) return "unit";
    if (mean == imagenet().mean && std == imagenet().std) return "imagenet";
    std::string out;
    char digits[32];
    for (const auto* v : {&mean, &std}) {
      for (std::size_t i = 0; i < v->size(); ++i) {
        std::snprintf(digits, sizeof digits, "%.9g", double((*v)[i]));  // 9 digits bring every float back
        out += (i ? "," : "") + std::string(digits);
      }
      if (v == &mean) out += "/";
    }
    return out;
  }

  /// Throws usage_error on anything but "imagenet", "unit", "MEAN/STD" (one number, or one per band, separated by commas).
  static normalization parse(const std::string& text) {
    if (text == "unit") return unit();
    if (text == "imagenet") return imagenet();
    const auto bad = [&](const std::string& why) {
      return usage_error("normalization \"" + text + "\": " + why + "; use imagenet, unit, or MEAN/STD such as 0.5,0.5,0.5/0.25,0.25,0.25");
    };
    const std::size_t slash = text.find('/');
    if (slash == std::string::npos) throw bad("no such name, and no \"/\" between mean and deviation");
    const auto numbers = [&](const std::string& list) {
      std::vector<float> v;
      std::stringstream in(list);
      for (std::string item; std::getline(in, item, ',');) {
        char* end = nullptr;
        const float x = std::strtof(item.c_str(), &end);
        if (item.empty() || *end || !std::isfinite(x)) throw bad("\"" + item + "\" is no number");
        v.push_back(x);
      }
      if (v.empty()) throw bad("an empty list");
      return v;
    };
    normalization n{numbers(text.substr(0, slash)), numbers(text.substr(slash + 1))};
    for (const float s : n.std)
      if (s <= 0) throw bad("a deviation must be above 0");
    return n;
  }
};

/// Mean and deviation per band over at most `images` samples spread evenly over the set, every `step`-th pixel; ignored pixels
/// are left out when there are others. Deterministic. A band without variation gets deviation 1.
inline normalization measure_normalization(const dataset& set, std::size_t images = 64, int step = 4) {
  const std::size_t bands = std::size_t(set.bands()), n = std::min(images, set.size());
  std::vector<double> sum(bands), squares(bands), all_sum(bands), all_squares(bands);
  double count = 0, all = 0;
  for (std::size_t k = 0; k < n; ++k) {
    const auto s = set.load(k * set.size() / n);
    const double scale = double(s->image.unit_scale());
    const auto ignored = std::uint8_t(set.classes().ignore_id);
    std::visit(
        [&](const auto& v) {
          for (int y = 0; y < s->image.height; y += step)
            for (int x = 0; x < s->image.width; x += step) {
              const std::size_t i = std::size_t(y) * std::size_t(s->image.width) + std::size_t(x);
              const bool use = s->labels.ids[i] != ignored;
              count += use, all += 1;
              for (std::size_t b = 0; b < bands; ++b) {
                const double value = double(v[i * bands + b]) * scale;
                if (!std::isfinite(value)) continue;
                all_sum[b] += value, all_squares[b] += value * value;
                if (use) sum[b] += value, squares[b] += value * value;
              }
            }
        },
        s->image.values);
  }
  if (count == 0) count = all, sum = all_sum, squares = all_squares;
  normalization out{std::vector<float>(bands), std::vector<float>(bands)};
  for (std::size_t b = 0; b < bands; ++b) {
    const double mean = sum[b] / std::max(count, 1.0), variance = squares[b] / std::max(count, 1.0) - mean * mean;
    out.mean[b] = float(mean);
    out.std[b] = variance > 1e-12 * (1 + mean * mean) ? float(std::sqrt(variance)) : 1.0f;
  }
  return out;
}

}  // namespace rsseg::data
