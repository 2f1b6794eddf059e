// SPDX-License-Identifier: MIT
// Training of refiners: what their networks see beside the image. Coarse maps come from perturbed labels (data/perturb.hpp) or from a segmenter
// that is run, frozen, on each batch. Which inputs a network wants is read from its graph:
//   image                     the batch                        seg, truth     one class of each image: coarse mask in [-1, 1], labels of that class
//   logits0, logits_lr        logarithms of the coarse map
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "rsseg/data/loader.hpp"
#include "rsseg/data/perturb.hpp"
#include "rsseg/model/model.hpp"
#include "rsseg/refine/softmax.hpp"

namespace rsseg::train {

/// A segmenter that makes coarse maps; null model: labels are perturbed.
struct coarse_source {
  std::shared_ptr<basic_model<float>> model;
  data::normalization normalize;
  data::perturb_options perturb;
  int ignore = 255;
};

/// Sets all bands of one of several inputs to their mean (0 after normalisation) in a share of the crops, so that a network learns to do without.
inline void drop_inputs(tensor<float>& images, const std::vector<std::pair<std::string, int>>& inputs, double probability, std::uint64_t seed,
                        std::uint64_t step) {
  const shape s = images.extent();
  for (int n = 0; n < s.n; ++n) {
    random_stream random(seed ^ 0x44524F50u, step * 4096 + std::uint64_t(n));
    if (random.uniform() >= probability) continue;
    const int which = int(random.below(std::uint32_t(inputs.size())));
    int begin = 0;
    for (int m = 0; m < which; ++m) begin += inputs[std::size_t(m)].second;
    float* image = images.data() + std::size_t(n) * std::size_t(s.h) * std::size_t(s.w) * std::size_t(s.c);
    for (std::size_t i = 0; i < std::size_t(s.h) * std::size_t(s.w); ++i)
      std::fill_n(image + i * std::size_t(s.c) + std::size_t(begin), inputs[std::size_t(which)].second, 0.0f);
  }
}

/// The networks that rsseg::scene's trained stages run.
inline bool is_refiner(const std::string& network) {
  for (const char* name : {"iss-refiner", "dgf-head", "crf-rnn", "pointrend-refiner", "cascadepsp", "cascadepsp-16"})
    if (network == name) return true;
  return false;
}
/// These read colours as they are.
inline bool refiner_wants_unit_image(const std::string& network) { return network == "dgf-head" || network == "crf-rnn"; }

class refiner_inputs {
 public:
  refiner_inputs(const graph::graph& training, coarse_source source, data::normalization images, int classes, std::uint64_t seed)
      : source_(std::move(source)), images_(std::move(images)), classes_(classes), seed_(seed) {
    for (int i = 0; i < training.nodes.size(); ++i)
      if (training.nodes[i].kind == graph::op::input) names_.emplace_back(training.name_of(i));
  }

  /// Inputs in the graph's order; labels are replaced by those of one class where the network is binary.
  std::vector<tensor<float>> operator()(const data::batch& b, std::uint64_t step, tensor<std::int32_t>& labels) const {
    const shape s = b.images.extent();
    const std::size_t pixels = std::size_t(s.h) * std::size_t(s.w), k = std::size_t(classes_);
    labels = b.targets;
    tensor<float> coarse, seg, truth;
    if (source_.model) {
      coarse = probabilities(b.images);
    } else {
      coarse = tensor<float>(shape{s.n, classes_, s.h, s.w});
      for (int n = 0; n < s.n; ++n) {
        random_stream random(seed_ ^ 0x434F41525345u, step * 4096 + std::uint64_t(n));
        const auto worse = data::perturb_labels(b.targets.data() + std::size_t(n) * pixels, s.h, s.w, classes_, source_.perturb, random);
        const auto p = data::coarse_probabilities(worse, s.h, s.w, classes_, source_.perturb, random);
        std::copy(p.begin(), p.end(), coarse.data() + std::size_t(n) * pixels * k);
      }
    }
    std::vector<tensor<float>> out;
    for (const auto& name : names_) {
      if (name == "image") {
        out.push_back(b.images);
      } else if (name == "logits0" || name == "logits_lr") {
        tensor<float> logits = coarse;
        for (float& v : logits) v = std::log(std::max(v, 1e-6f));
        out.push_back(std::move(logits));
      } else if (name == "seg" || name == "truth") {
        if (seg.size() == 0) one_class(b.targets, coarse, step, seg, truth, labels);
        out.push_back(name == "seg" ? seg : truth);
      } else {
        throw usage_error("this network's input '" + name + "' is not known to the trainer of refiners");
      }
    }
    return out;
  }

  /// Probabilities of the segmenter for images normalised as the batches are.
  tensor<float> probabilities(const tensor<float>& images) const {
    const shape s = images.extent();
    tensor<float> x = images;
    for (std::size_t i = 0; i < x.size(); ++i) {
      const int band = int(i % std::size_t(s.c));
      const float raw = x.data()[i] * images_.std_of(band) + images_.mean_of(band);
      x.data()[i] = (raw - source_.normalize.mean_of(band)) / source_.normalize.std_of(band);
    }
    tensor<float> p = source_.model->infer(x);
    const shape e = p.extent();
    if (e.h != s.h || e.w != s.w) throw usage_error("--coarse: the segmenter's map is smaller than its image; use one that keeps the size");
    refine::softmax(p.data(), e.pixels(), e.c, p.data());
    return p;
  }

 private:
  /// One class that is there per image; the mask is hard, as in the paper and as the stage has it.
  void one_class(const tensor<std::int32_t>& targets, const tensor<float>& coarse, std::uint64_t step, tensor<float>& seg, tensor<float>& truth,
                 tensor<std::int32_t>& labels) const {
    const shape s = targets.extent();
    seg = tensor<float>(shape{s.n, 1, s.h, s.w}), truth = tensor<float>(shape{s.n, 2, s.h, s.w});
    const std::size_t pixels = std::size_t(s.h) * std::size_t(s.w), k = std::size_t(classes_);
    for (int n = 0; n < s.n; ++n) {
      random_stream random(seed_ ^ 0x434C415353u, step * 4096 + std::uint64_t(n));
      const std::int32_t* t = targets.data() + std::size_t(n) * pixels;
      std::vector<int> present;
      for (int c = 0; c < classes_; ++c)
        if (std::find(t, t + pixels, c) != t + pixels) present.push_back(c);
      const int chosen = present.empty() ? 0 : present[random.below(std::uint32_t(present.size()))];
      for (std::size_t i = 0; i < pixels; ++i) {
        const std::size_t at = std::size_t(n) * pixels + i;
        const float p = coarse.data()[at * k + std::size_t(chosen)];
        const float most = *std::max_element(coarse.data() + at * k, coarse.data() + (at + 1) * k);
        const bool known = t[i] != source_.ignore && t[i] >= 0 && t[i] < classes_;
        seg.data()[at] = p >= most ? 1.0f : -1.0f;
        truth.data()[2 * at] = t[i] == chosen, truth.data()[2 * at + 1] = known;
        labels.data()[at] = known ? t[i] == chosen : source_.ignore;
      }
    }
  }

  coarse_source source_;
  data::normalization images_;
  int classes_;
  std::uint64_t seed_;
  std::vector<std::string> names_;
};

}  // namespace rsseg::train
