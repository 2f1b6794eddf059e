// SPDX-License-Identifier: MIT
// The classical pipeline over a scene of any size, window by window: features -> learner per pixel or per region -> vote in merged regions -> CRF.
// Pixels are classified as the whole scene would be. Regions and CRFs see a window and `overlap` pixels around it; a region that a window's border
// cuts may be decided differently on either side.
#pragma once
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "rsseg/classical/over_segmentation.hpp"
#include "rsseg/classical/pipeline.hpp"
#include "rsseg/io/raster.hpp"
#include "rsseg/scene/stage.hpp"

namespace rsseg::classical {

enum class over_segmentation { none, graph, slic, watershed };
enum class merging { none, best, mutual };
enum class map_unit { pixel, region };

inline over_segmentation over_segmentation_named(const std::string& name) {
  constexpr const char* names[] = {"none", "graph", "slic", "watershed"};
  for (int i = 0; i < 4; ++i)
    if (name == names[i]) return over_segmentation(i);
  throw usage_error("over-segmentation \"" + name + "\": unknown; use none, graph, slic, watershed");
}
inline merging merging_named(const std::string& name) {
  constexpr const char* names[] = {"none", "best", "mutual"};
  for (int i = 0; i < 3; ++i)
    if (name == names[i]) return merging(i);
  throw usage_error("merging \"" + name + "\": unknown; use none, best, mutual");
}

struct scene_options {
  int tile = 512, overlap = 32;
  over_segmentation over = over_segmentation::none;
  double scale = 100;    ///< graph
  int region_size = 16;  ///< slic
  merging merge = merging::none;
  double threshold = 400;
  double texture = 0;  ///< weight of co-occurrence and binary patterns among the bands that merging compares; 0: spectral alone
  map_unit unit = map_unit::pixel;
  map_refinement crf = map_refinement::none;
  grid_crf_options grid{.weight = 2, .contrast_sigma = 15};
  refine::dense_crf_options dense = refine::usual_dense_crf(40, 13, 5);
  double floor = 1e-2;
};

/// Fails with the same words as training when there are no learners in this build.
inline void require_learners() {
#if !RSSEG_HAS_OPENCV_ML
  detail::no_opencv();
#endif
}

/// Regions of an image in grey values (h, w, bands): ids are pixel indices.
inline std::vector<std::int32_t> regions_of(const std::vector<float>& grey, int h, int w, int bands, const scene_options& o) {
  std::vector<std::int32_t> region;
  if (o.over == over_segmentation::graph)
    region = graph_segmentation(grey.data(), h, w, bands, o.scale).label;
  else if (o.over == over_segmentation::slic)
    region = slic(grey.data(), h, w, bands, {o.region_size, 10, 10});
  else if (o.over == over_segmentation::watershed)
    region = watershed(grey.data(), h, w, bands);
  if (region.empty() || o.merge == merging::none) return region;
  std::vector<float> merged = grey;
  int width = bands;
  if (o.texture > 0) {
    // Contrast, homogeneity and entropy of the co-occurrence and the shares of flat and uneven patterns, each brought to about 0..255.
    feature_options f;
    f.local = f.hsv = f.gabor = false, f.lo = 0, f.hi = 256;
    const auto names = feature_names(bands, f);
    std::vector<float> all(std::size_t(h) * std::size_t(w) * names.size());
    extract_features(grey.data(), h, w, bands, f, 0, h, all.data());
    std::vector<std::pair<std::size_t, double>> chosen;
    for (std::size_t k = 0; k < names.size(); ++k) {
      if (names[k] == "contrast") chosen.emplace_back(k, 16);
      if (names[k] == "homogeneity" || names[k] == "lbp8" || names[k] == "lbp9") chosen.emplace_back(k, 255);
      if (names[k] == "entropy") chosen.emplace_back(k, 64);
    }
    width = bands + int(chosen.size());
    merged.assign(std::size_t(h) * std::size_t(w) * std::size_t(width), 0.0f);
    for (std::size_t i = 0; i < std::size_t(h) * std::size_t(w); ++i) {
      std::copy_n(grey.data() + i * std::size_t(bands), bands, merged.data() + i * std::size_t(width));
      for (std::size_t k = 0; k < chosen.size(); ++k)
        merged[i * std::size_t(width) + std::size_t(bands) + k] = float(o.texture * chosen[k].second) * all[i * names.size() + chosen[k].first];
    }
  }
  merge_options m;
  m.threshold = o.threshold;
  m.mutual = o.merge == merging::mutual;
  return merge_regions(merged.data(), h, w, width, m, region.data()).label;
}

/// The class map of one window in [0, 1] (h, w, bands).
inline std::vector<std::int32_t> map_window(const pixel_classifier& model, const std::vector<float>& image, int h, int w, int bands,
                                            const scene_options& o) {
  const std::int64_t pixels = std::int64_t(h) * w;
  const std::size_t classes = std::size_t(model.classes());
  std::vector<float> grey(image.size());
  for (std::size_t i = 0; i < grey.size(); ++i) grey[i] = 255 * image[i];
  const std::vector<std::int32_t> region = regions_of(grey, h, w, bands, o);
  std::vector<float> scores(std::size_t(pixels) * classes);
  if (o.unit == map_unit::region && !region.empty()) {
    // The learner sees the mean features of a region: texture and colour without the noise of single pixels.
    const std::size_t width = std::size_t(model.features());
    std::vector<std::int32_t> dense(std::size_t(pixels), -1);
    std::int32_t count = 0;
    for (const std::int32_t r : region)
      if (dense[std::size_t(r)] < 0) dense[std::size_t(r)] = count++;
    std::vector<double> sum(std::size_t(count) * width, 0.0), size(std::size_t(count), 0.0);
    std::vector<float> strip;
    for (int y0 = 0; y0 < h; y0 += strip_rows) {
      const int y1 = std::min(h, y0 + strip_rows);
      strip.resize(std::size_t(y1 - y0) * std::size_t(w) * width);
      extract_features(image.data(), h, w, bands, model.options(), y0, y1, strip.data());
      for (std::int64_t i = 0; i < std::int64_t(y1 - y0) * w; ++i) {
        const std::size_t r = std::size_t(dense[std::size_t(region[std::size_t(std::int64_t(y0) * w + i)])]);
        size[r] += 1;
        for (std::size_t k = 0; k < width; ++k) sum[r * width + k] += double(strip[std::size_t(i) * width + k]);
      }
    }
    std::vector<float> mean(sum.size()), of_region(std::size_t(count) * classes);
    for (std::size_t i = 0; i < sum.size(); ++i) mean[i] = float(sum[i] / size[i / width]);
    model.scores(mean.data(), count, of_region.data());
    for (std::int64_t i = 0; i < pixels; ++i)
      std::copy_n(of_region.data() + std::size_t(dense[std::size_t(region[std::size_t(i)])]) * classes, classes,
                  scores.data() + std::size_t(i) * classes);
  } else {
    classify(model, image.data(), h, w, bands, scores.data());
  }
  std::vector<std::int32_t> label(static_cast<std::size_t>(pixels));
  refine::argmax(scores.data(), pixels, int(classes), label.data());
  if (o.unit == map_unit::pixel && !region.empty()) majority_per_region(region, int(classes), label);
  if (o.crf == map_refinement::none) return label;
  std::vector<float> unary(scores.size());
  refine::unary_from_probabilities(scores.data(), std::int64_t(scores.size()), unary.data(), o.floor);
  if (o.crf == map_refinement::grid_crf) {
    grid_crf(unary.data(), h, w, int(classes), grey.data(), bands, o.grid, label.data());
  } else {
    std::vector<float> q(scores.size());
    refine::dense_crf(unary.data(), h, w, int(classes), grey.data(), bands, o.dense, q.data());
    refine::argmax(q.data(), pixels, int(classes), label.data());
  }
  return label;
}

/// Maps a scene; write(x, y, w, h, ids) is called for each window once, row by row of windows. Returns false when progress said stop. Throws
/// usage_error when the bands do not fit the model.
inline bool map_scene(const pixel_classifier& model, io::raster_source& source, const scene_options& o,
                      const std::function<void(int, int, int, int, const std::uint8_t*)>& write, const scene::stage_progress& progress = {}) {
  const io::raster_info& info = source.info();
  if (info.bands != model.bands())
    throw usage_error(source.name() + ": " + std::to_string(info.bands) + " bands; the model was trained on " + std::to_string(model.bands()));
  const int halo = std::max(o.overlap, feature_halo(model.options()));
  const std::int64_t total = std::int64_t((info.height + o.tile - 1) / o.tile) * ((info.width + o.tile - 1) / o.tile);
  std::int64_t done = 0;
  std::vector<float> image;
  std::vector<std::uint8_t> ids;
  for (int y = 0; y < info.height; y += o.tile)
    for (int x = 0; x < info.width; x += o.tile) {
      const int h = std::min(o.tile, info.height - y), w = std::min(o.tile, info.width - x);
      const int top = std::max(0, y - halo), left = std::max(0, x - halo), bottom = std::min(info.height, y + h + halo),
                right = std::min(info.width, x + w + halo);
      scene::read_image(source, left, top, right - left, bottom - top, image);
      const auto label = map_window(model, image, bottom - top, right - left, info.bands, o);
      ids.resize(std::size_t(w) * std::size_t(h));
      for (int r = 0; r < h; ++r)
        for (int c = 0; c < w; ++c)
          ids[std::size_t(r) * std::size_t(w) + std::size_t(c)] =
              std::uint8_t(label[std::size_t(y - top + r) * std::size_t(right - left) + std::size_t(x - left + c)]);
      write(x, y, w, h, ids.data());
      if (progress && !progress(++done, total)) return false;
    }
  return true;
}

}  // namespace rsseg::classical
