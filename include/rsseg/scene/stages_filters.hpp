// SPDX-License-Identifier: MIT
// Stages that learn nothing: dense CRF, guided filter, majority vote in regions.
#pragma once
#include "rsseg/classical/region_merging.hpp"
#include "rsseg/refine/dense_crf.hpp"
#include "rsseg/refine/guided_filter.hpp"
#include "rsseg/scene/stage.hpp"
#include "rsseg/scene/stage_spec.hpp"

namespace rsseg::scene {

namespace detail {
/// The first three bands (all, if there are fewer) in 0..255: what colour kernels are stated for.
inline std::vector<float> colours_255(const stage_window& w, int& channels) {
  channels = std::min(w.bands, 3);
  const std::size_t pixels = std::size_t(w.w) * std::size_t(w.h);
  std::vector<float> guide(pixels * std::size_t(channels));
  for (std::size_t i = 0; i < pixels; ++i)
    for (int c = 0; c < channels; ++c) guide[i * std::size_t(channels) + std::size_t(c)] = 255 * w.image[i * std::size_t(w.bands) + std::size_t(c)];
  return guide;
}
}  // namespace detail

/// Dense CRF (refine/dense_crf.hpp). Its reach is the whole scene: windows get an overlap (default 64 px, at most twice sxy helps) and are blended
/// over half of it.
class dense_crf_stage final : public window_stage {
 public:
  dense_crf_stage(const refine::dense_crf_options& options, int tile, int overlap, std::string name)
      : window_stage(tile), options_(options), overlap_(overlap), name_(std::move(name)) {}
  std::string name() const override { return name_; }
  stage_reach reach() const override { return {overlap_, 1, overlap_ / 2}; }
  void refine(stage_window& w) override {
    int channels = 0;
    const std::vector<float> guide = detail::colours_255(w, channels);
    std::vector<float> unary(w.scores.size());
    refine::unary_from_probabilities(w.scores.data(), std::int64_t(w.scores.size()), unary.data());
    refine::dense_crf_options o = options_;
    o.x0 = w.x, o.y0 = w.y;
    refine::dense_crf(unary.data(), w.h, w.w, w.classes, guide.data(), channels, o, w.scores.data());
  }

 private:
  refine::dense_crf_options options_;
  int overlap_;
  std::string name_;
};

/// Guided filter with the image as guide (up to four bands), or with their mean. Exact: a pixel depends on 2 radius around it.
class guided_stage final : public window_stage {
 public:
  guided_stage(const refine::guided_filter_options& options, int tile, std::string name, bool gray = false)
      : window_stage(tile), o_(options), name_(std::move(name)), gray_(gray) {}
  std::string name() const override { return name_; }
  stage_reach reach() const override { return {2 * o_.radius, 1, 0}; }
  void refine(stage_window& w) override {
    const int bands = gray_ ? 1 : std::min(w.bands, 4);
    std::vector<float> guide = w.image;
    if (gray_)
      for (std::size_t i = 0; i < std::size_t(w.w) * std::size_t(w.h); ++i) {
        float sum = 0;
        for (int b = 0; b < w.bands; ++b) sum += w.image[i * std::size_t(w.bands) + std::size_t(b)];
        guide[i] = sum / float(w.bands);
      }
    else if (bands < w.bands)
      for (std::size_t i = 0; i < std::size_t(w.w) * std::size_t(w.h); ++i)
        std::copy_n(w.image.data() + i * std::size_t(w.bands), bands, guide.data() + i * std::size_t(bands));
    std::vector<float> q(w.scores.size());
    refine::guided_filter(guide.data(), bands, w.scores.data(), w.classes, w.h, w.w, o_, q.data());
    // The filter keeps sums at 1 but may leave [0, 1] a little.
    for (std::size_t i = 0; i < q.size(); i += std::size_t(w.classes)) {
      float sum = 0;
      for (int k = 0; k < w.classes; ++k) sum += q[i + std::size_t(k)] = std::max(q[i + std::size_t(k)], 0.0f);
      for (int k = 0; k < w.classes; ++k) w.scores[i + std::size_t(k)] = sum > 0 ? q[i + std::size_t(k)] / sum : 1.0f / float(w.classes);
    }
  }

 private:
  refine::guided_filter_options o_;
  std::string name_;
  bool gray_;
};

/// Graph segmentation (Felzenszwalb, Huttenlocher) of the image; every region takes the mean of its probabilities. Regions end at a window's
/// border, so windows are given an overlap and blended.
class regions_stage final : public window_stage {
 public:
  regions_stage(double scale, std::int64_t least, int tile, int overlap, std::string name)
      : window_stage(tile), scale_(scale), least_(least), overlap_(overlap), name_(std::move(name)) {}
  std::string name() const override { return name_; }
  stage_reach reach() const override { return {overlap_, 1, overlap_ / 2}; }
  void refine(stage_window& w) override {
    int channels = 0;
    const std::vector<float> guide = detail::colours_255(w, channels);
    const auto regions = classical::graph_segmentation(guide.data(), w.h, w.w, channels, scale_, least_);
    const std::size_t k = std::size_t(w.classes), pixels = regions.label.size();
    std::vector<double> sum(pixels * k, 0.0), count(pixels, 0.0);
    for (std::size_t i = 0; i < pixels; ++i) {
      const std::size_t r = std::size_t(regions.label[i]);
      count[r] += 1;
      for (std::size_t c = 0; c < k; ++c) sum[r * k + c] += double(w.scores[i * k + c]);
    }
    for (std::size_t i = 0; i < pixels; ++i) {
      const std::size_t r = std::size_t(regions.label[i]);
      for (std::size_t c = 0; c < k; ++c) w.scores[i * k + c] = float(sum[r * k + c] / count[r]);
    }
  }

 private:
  double scale_;
  std::int64_t least_;
  int overlap_;
  std::string name_;
};

/// densecrf[:sxy=,srgb=,weight=,smooth=,iterations=,normalization=,tile=,overlap=], guided[:radius=,eps=,guide=,tile=],
/// regions[:scale=,least=,tile=,overlap=]; null for other names.
inline std::unique_ptr<stage> filter_stage(const stage_spec& s) {
  const int tile = s.whole("tile", 512, 16, 1 << 16);
  if (s.name == "densecrf") {
    s.only({"sxy", "srgb", "weight", "smooth", "iterations", "normalization", "tile", "overlap"});
    auto o = refine::usual_dense_crf(s.number("sxy", 40, 0.1, 1000), s.number("srgb", 13, 0.1, 1000), s.number("weight", 5, 0, 1000),
                                     s.whole("iterations", 5, 0, 1000));
    o.terms[0].potts = s.number("smooth", 3, 0, 1000);
    using way = refine::crf_normalization;
    const int which = s.choice("normalization", {"symmetric", "after", "before", "none"});
    for (auto& t : o.terms) t.kernel.normalization = which == 0 ? way::symmetric : which == 1 ? way::after : which == 2 ? way::before : way::none;
    return std::make_unique<dense_crf_stage>(o, tile, s.whole("overlap", 64, 0, 4096), s.text);
  }
  if (s.name == "guided") {
    s.only({"radius", "eps", "guide", "tile"});
    return std::make_unique<guided_stage>(refine::guided_filter_options{s.whole("radius", 8, 0, 1024), s.number("eps", 1e-3, 1e-12, 1e6)}, tile,
                                          s.text, s.choice("guide", {"colour", "gray"}) == 1);
  }
  if (s.name == "regions") {
    s.only({"scale", "least", "tile", "overlap"});
    return std::make_unique<regions_stage>(s.number("scale", 100, 0, 1e9), s.whole("least", 20, 1), tile, s.whole("overlap", 64, 0, 4096), s.text);
  }
  return nullptr;
}

}  // namespace rsseg::scene
