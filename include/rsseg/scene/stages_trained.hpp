// SPDX-License-Identifier: MIT
// Stages that were trained: their networks see the image and the probabilities so far. `rsseg train --net NAME --coarse ...` trains them.
//   iss          iterative segmentation (nets/iss.hpp): looks `steps` times                             exact
//   deep-guided  deep guided filter's head (nets/deep_guided_filter.hpp)                                exact
//   crf-rnn      mean field with learned compatibilities (nets/crf_rnn.hpp)                             blended
//   pointrend    a point head on uncertain pixels (nets/point_refiner.hpp)                              exact with steps = 0
#pragma once
#include "rsseg/nets/point_refiner.hpp"
#include "rsseg/refine/softmax.hpp"
#include "rsseg/scene/placed_network.hpp"
#include "rsseg/scene/stage.hpp"

namespace rsseg::scene {

/// A refiner with its weights.
struct refiner {
  std::string name;  ///< registered name of the network
  std::unique_ptr<placed_network> model;
  data::normalization normalize;
  int classes = 0, bands = 0;
};

namespace detail {
/// Logits whose softmax is p.
inline float log_probability(float p) { return std::log(std::max(p, 1e-6f)); }

/// The window as tensors of sides that are multiples of `multiple` in the scene's grid, mirrored at the scene's lower and right border.
struct refiner_input {
  tensor<float> image, logits;
  int h = 0, w = 0;
};
inline refiner_input refiner_input_of(const stage_window& w, const data::normalization& normalize, int multiple) {
  refiner_input in;
  in.h = (w.h + multiple - 1) / multiple * multiple, in.w = (w.w + multiple - 1) / multiple * multiple;
  in.image = tensor<float>(shape{1, w.bands, in.h, in.w}), in.logits = tensor<float>(shape{1, w.classes, in.h, in.w});
  const std::size_t bands = std::size_t(w.bands), k = std::size_t(w.classes);
  for (int y = 0; y < in.h; ++y)
    for (int x = 0; x < in.w; ++x) {
      const std::size_t from = std::size_t(mirrored(y, w.h)) * std::size_t(w.w) + std::size_t(mirrored(x, w.w));
      const std::size_t to = std::size_t(y) * std::size_t(in.w) + std::size_t(x);
      for (std::size_t b = 0; b < bands; ++b) {
        const float v = w.image[from * bands + b];
        in.image.data()[to * bands + b] = (v - normalize.mean_of(int(b))) / normalize.std_of(int(b));
      }
      for (std::size_t c = 0; c < k; ++c) in.logits.data()[to * k + c] = log_probability(w.scores[from * k + c]);
    }
  return in;
}
inline void scores_from_logits(const tensor<float>& logits, stage_window& w) {
  const std::size_t k = std::size_t(w.classes), width = std::size_t(logits.extent().w);
  for (int y = 0; y < w.h; ++y)
    for (int x = 0; x < w.w; ++x)
      refine::softmax_pixel(logits.data() + (std::size_t(y) * width + std::size_t(x)) * k, w.classes,
                            w.scores.data() + (std::size_t(y) * std::size_t(w.w) + std::size_t(x)) * k);
}
}  // namespace detail

/// What trained stages have in common.
class trained_stage : public window_stage {
 public:
  trained_stage(refiner r, int tile, std::string name) : window_stage(tile), r_(std::move(r)), name_(std::move(name)) {}
  std::string name() const override { return name_; }
  void check(const io::raster_info& image, int classes) const override {
    if (classes != r_.classes)
      throw usage_error("stage " + r_.name + " was trained for " + std::to_string(r_.classes) + " classes, the map has " + std::to_string(classes));
    if (image.bands != r_.bands)
      throw usage_error("stage " + r_.name + " was trained on " + std::to_string(r_.bands) + " bands, the image has " + std::to_string(image.bands));
  }

 protected:
  refiner r_;
  std::string name_;
};

/// steps looks, each at the image and the last result. The network may have been trained with another number of steps.
class iss_stage final : public trained_stage {
 public:
  iss_stage(refiner r, int steps, int tile, std::string name) : trained_stage(std::move(r), tile, std::move(name)), steps_(steps) {}
  // One look: two 3x3 at stride 4 (and 2, and 1) with pools and bilinear taps between them.
  static constexpr int reach_of_step = 24;
  stage_reach reach() const override { return {reach_of_step * steps_, 4, 0}; }
  void refine(stage_window& w) override {
    detail::refiner_input in = detail::refiner_input_of(w, r_.normalize, 4);
    for (int t = 0; t < steps_; ++t) {
      const tensor<float>* inputs[] = {&in.image, &in.logits};
      r_.model->run(inputs);
      in.logits = r_.model->output(0);
    }
    detail::scores_from_logits(in.logits, w);
  }

 private:
  int steps_;
};

class deep_guided_stage final : public trained_stage {
 public:
  using trained_stage::trained_stage;
  stage_reach reach() const override { return {2 * 4, 1, 0}; }
  void refine(stage_window& w) override {
    detail::refiner_input in = detail::refiner_input_of(w, r_.normalize, 1);
    // The filter's windows must fit: a sliver is filtered as a part of its mirror image.
    if (in.h < 10 || in.w < 10) return;
    const tensor<float>* inputs[] = {&in.logits, &in.image};
    r_.model->run(inputs);
    detail::scores_from_logits(r_.model->output(0), w);
  }
};

class crf_rnn_stage final : public trained_stage {
 public:
  crf_rnn_stage(refiner r, int overlap, int tile, std::string name) : trained_stage(std::move(r), tile, std::move(name)), overlap_(overlap) {}
  stage_reach reach() const override { return {overlap_, 1, overlap_ / 2}; }
  void refine(stage_window& w) override {
    detail::refiner_input in = detail::refiner_input_of(w, r_.normalize, 1);
    const tensor<float>* inputs[] = {&in.logits, &in.image};
    r_.model->run(inputs);
    detail::scores_from_logits(r_.model->output(0), w);
  }

 private:
  int overlap_;
};

/// Pixels whose two most probable classes are closer than `margin` are predicted anew from features at the pixel. steps > 0: PointRend's
/// subdivision, from probabilities averaged over 2^steps pixels up again, each time twice as large, uncertain pixels first.
class point_stage final : public trained_stage {
 public:
  point_stage(refiner r, double margin, int steps, int tile, std::string name)
      : trained_stage(std::move(r), tile, std::move(name)), margin_(float(margin)), steps_(steps) {}
  stage_reach reach() const override { return {point_refiner_reach + (steps_ > 0 ? 3 << steps_ : 0), 1 << steps_, 0}; }
  void refine(stage_window& w) override {
    detail::refiner_input in = detail::refiner_input_of(w, r_.normalize, 1 << steps_);
    const int k = w.classes;
    const tensor<float> coarse = steps_ > 0 ? averaged(in.logits, 1 << steps_) : in.logits;
    tensor<float> map = coarse;
    for (int step = 0; step <= steps_; ++step) {
      if (step > 0) map = doubled(map);
      if (steps_ > 0 && step == 0) continue;
      predict(in.image, coarse, map, k);
    }
    detail::scores_from_logits(map, w);
  }

 private:
  static constexpr int batch = 16384;  // points at once: few plans, bounded memory

  void predict(const tensor<float>& image, const tensor<float>& coarse, tensor<float>& map, int k) {
    const shape s = map.extent();
    std::vector<std::int32_t> where;
    std::vector<float> p(static_cast<std::size_t>(k));
    for (std::int32_t i = 0; i < s.h * s.w; ++i) {
      refine::softmax_pixel(map.data() + std::size_t(i) * std::size_t(k), k, p.data());
      std::nth_element(p.begin(), p.begin() + 1, p.end(), std::greater<>());
      if (p[0] - p[1] < margin_) where.push_back(i);
    }
    for (std::size_t at = 0; at < where.size(); at += batch) {
      const std::size_t count = std::min<std::size_t>(batch, where.size() - at);
      tensor<float> points(shape{1, 2, batch, 1});
      std::fill(points.data(), points.data() + points.size(), -1.0f);  // the rest of the last batch reads nothing
      cpu::grid_points(where.data() + at, std::int64_t(count), s.h, s.w, points.data());
      const tensor<float>* inputs[] = {&image, &coarse, &points};
      r_.model->run(inputs);
      const tensor<float> anew = r_.model->output(0);
      for (std::size_t i = 0; i < count; ++i)
        std::copy_n(anew.data() + i * std::size_t(k), k, map.data() + std::size_t(where[at + i]) * std::size_t(k));
    }
  }
  /// Mean probability over f x f pixels, as logits.
  static tensor<float> averaged(const tensor<float>& logits, int f) {
    const shape s = logits.extent();
    tensor<float> out(shape{1, s.c, s.h / f, s.w / f});
    std::vector<float> p(std::size_t(s.c)), sum(std::size_t(s.c));
    for (int y = 0; y < s.h / f; ++y)
      for (int x = 0; x < s.w / f; ++x) {
        std::fill(sum.begin(), sum.end(), 0.0f);
        for (int i = 0; i < f * f; ++i) {
          refine::softmax_pixel(logits.data() + (std::size_t(y * f + i / f) * std::size_t(s.w) + std::size_t(x * f + i % f)) * std::size_t(s.c), s.c,
                                p.data());
          for (std::size_t c = 0; c < p.size(); ++c) sum[c] += p[c] / float(f * f);
        }
        for (int c = 0; c < s.c; ++c) out(0, c, y, x) = detail::log_probability(sum[std::size_t(c)]);
      }
    return out;
  }
  static tensor<float> doubled(const tensor<float>& map) {
    const shape s = map.extent();
    tensor<float> out(shape{1, s.c, 2 * s.h, 2 * s.w});
    for (int y = 0; y < 2 * s.h; ++y)
      for (int x = 0; x < 2 * s.w; ++x)
        detail::sample_scores(map.data(), s.h, s.w, s.c, 2 * s.h, 2 * s.w, y, x,
                              out.data() + (std::size_t(y) * std::size_t(2 * s.w) + std::size_t(x)) * std::size_t(s.c));
    return out;
  }

  float margin_;
  int steps_;
};

}  // namespace rsseg::scene
