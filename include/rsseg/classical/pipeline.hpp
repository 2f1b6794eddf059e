// SPDX-License-Identifier: MIT
// The classical pipeline: features per pixel -> learner -> optional regions or CRF -> map. Images are (h, w, bands) with masks h x w.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "rsseg/classical/features.hpp"
#include "rsseg/classical/grid_crf.hpp"
#include "rsseg/classical/learners.hpp"
#include "rsseg/classical/region_merging.hpp"
#include "rsseg/core/random.hpp"
#include "rsseg/refine/dense_crf.hpp"

namespace rsseg::classical {

/// Rows handled at once: bounds memory whatever the height of a scene, and results do not depend on it.
constexpr int strip_rows = 128;

/// Collects an even number of training pixels per class from any number of images: of each class the samples_per_class pixels with the
/// smallest random numbers, which depend on the seed and the pixel's position in the stream only.
class sample_collector {
 public:
  sample_collector(int bands, int classes, const feature_options& features, int samples_per_class = 2000, std::uint64_t seed = 1)
      : bands_(bands),
        features_(features),
        limit_(std::size_t(std::max(samples_per_class, 1))),
        seed_(seed),
        kept_(std::size_t(classes)),
        seen_(std::size_t(classes), 0) {
    width_ = int(feature_names(bands, features).size());
  }

  /// Mask values outside [0, classes) are not used. Throws usage_error.
  template <class T>
  void add(const T* image, int h, int w, const std::int32_t* mask) {
    std::vector<float> strip;
    for (int y0 = 0; y0 < h; y0 += strip_rows) {
      const int y1 = std::min(h, y0 + strip_rows);
      // Which pixels can be kept is known before any feature is computed.
      std::vector<std::pair<std::int64_t, std::uint64_t>> chosen;
      for (std::int64_t i = std::int64_t(y0) * w; i < std::int64_t(y1) * w; ++i) {
        if (mask[i] < 0 || std::size_t(mask[i]) >= kept_.size()) continue;
        const auto words = philox(seed_, std::uint64_t(mask[i]) + 1, std::uint64_t(seen_[std::size_t(mask[i])]++));
        const std::uint64_t key = (std::uint64_t(words.v[0]) << 32) | words.v[1];
        const auto& heap = kept_[std::size_t(mask[i])];
        if (heap.size() < limit_ || key < heap.front().key) chosen.emplace_back(i, key);
      }
      if (chosen.empty()) continue;
      strip.resize(std::size_t(y1 - y0) * w * width_);
      extract_features(image, h, w, bands_, features_, y0, y1, strip.data());
      for (const auto& [i, key] : chosen) {
        auto& heap = kept_[std::size_t(mask[i])];
        if (heap.size() >= limit_) {
          if (!(key < heap.front().key)) continue;
          std::pop_heap(heap.begin(), heap.end());
          heap.pop_back();
        }
        const float* from = strip.data() + (i - std::int64_t(y0) * w) * width_;
        heap.push_back({key, std::vector<float>(from, from + width_)});
        std::push_heap(heap.begin(), heap.end());
      }
    }
  }

  /// Labelled pixels seen per class.
  const std::vector<std::int64_t>& seen() const { return seen_; }

  pixel_classifier train(const std::vector<std::string>& class_names, const learner_options& options) const {
    if (class_names.size() != kept_.size()) throw usage_error("classical training: expected one name per class");
    std::vector<float> x;
    std::vector<std::int32_t> y;
    for (std::size_t k = 0; k < kept_.size(); ++k) {
      auto sorted = kept_[k];
      std::sort(sorted.begin(), sorted.end());
      for (const sample& s : sorted) x.insert(x.end(), s.x.begin(), s.x.end()), y.push_back(std::int32_t(k));
    }
    return pixel_classifier::train(x, y, bands_, features_, class_names, options);
  }

 private:
  struct sample {
    std::uint64_t key;
    std::vector<float> x;
    bool operator<(const sample& other) const { return key < other.key; }
  };
  int bands_, width_;
  feature_options features_;
  std::size_t limit_;
  std::uint64_t seed_;
  std::vector<std::vector<sample>> kept_;  // heaps, largest key in front
  std::vector<std::int64_t> seen_;
};

/// Trains from anything that can be looped over: for (const auto& item : dataset) with item.image() (h, w, bands), item.mask(), item.height(),
/// item.width(). Throws usage_error.
template <class Dataset>
inline pixel_classifier train_classical(const Dataset& dataset, int bands, const std::vector<std::string>& class_names,
                                        const feature_options& features, const learner_options& options, int samples_per_class = 2000) {
  sample_collector collector(bands, int(class_names.size()), features, samples_per_class, options.seed);
  for (const auto& item : dataset) collector.add(item.image(), item.height(), item.width(), item.mask());
  return collector.train(class_names, options);
}

/// Class scores (h, w, classes) of an image, strip by strip. Throws usage_error when the bands do not match.
template <class T>
inline void classify(const pixel_classifier& model, const T* image, int h, int w, int bands, float* scores) {
  if (bands != model.bands())
    throw usage_error("the model was trained on " + std::to_string(model.bands()) + " bands, the image has " + std::to_string(bands));
  std::vector<float> features;
  for (int y0 = 0; y0 < h; y0 += strip_rows) {
    const int y1 = std::min(h, y0 + strip_rows);
    features.resize(std::size_t(y1 - y0) * w * model.features());
    extract_features(image, h, w, bands, model.options(), y0, y1, features.data());
    model.scores(features.data(), std::int64_t(y1 - y0) * w, scores + std::int64_t(y0) * w * model.classes());
  }
}

enum class map_refinement { none, regions, grid_crf, dense_crf };

struct map_options {
  map_refinement refinement = map_refinement::none;
  merge_options regions;  ///< merging after a graph segmentation with start_scale; majority vote per region
  double start_scale = 100;
  grid_crf_options grid{.weight = 2, .contrast_sigma = 15};
  refine::dense_crf_options dense = refine::usual_dense_crf();
  double floor = 1e-2;  ///< scores are clipped here before the logarithm: learners are over-confident
};

/// The class map of an image; scores (h, w, classes) are kept when given.
template <class T>
inline std::vector<std::int32_t> map_classical(const pixel_classifier& model, const T* image, int h, int w, int bands, const map_options& o,
                                               float* keep_scores = nullptr) {
  const std::int64_t pixels = std::int64_t(h) * w;
  const int classes = model.classes();
  std::vector<float> own(keep_scores ? 0 : std::size_t(pixels * classes));
  float* scores = keep_scores ? keep_scores : own.data();
  classify(model, image, h, w, bands, scores);
  std::vector<std::int32_t> label(static_cast<std::size_t>(pixels));
  refine::argmax(scores, pixels, classes, label.data());
  if (o.refinement == map_refinement::none) return label;
  if (o.refinement == map_refinement::regions) {
    const auto start = graph_segmentation(image, h, w, bands, o.start_scale);
    majority_per_region(merge_regions(image, h, w, bands, o.regions, start.label.data()).label, classes, label);
    return label;
  }
  std::vector<float> unary(std::size_t(pixels * classes)), guide(image, image + pixels * bands);
  refine::unary_from_probabilities(scores, pixels * classes, unary.data(), o.floor);
  if (o.refinement == map_refinement::grid_crf) {
    grid_crf(unary.data(), h, w, classes, guide.data(), bands, o.grid, label.data());
    return label;
  }
  std::vector<float> q(unary.size());
  refine::dense_crf(unary.data(), h, w, classes, guide.data(), bands, o.dense, q.data());
  refine::argmax(q.data(), pixels, classes, label.data());
  return label;
}

}  // namespace rsseg::classical
