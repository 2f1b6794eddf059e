// SPDX-License-Identifier: MIT
// The multi-stage system of Takahama et al. (ICCV 2019) over scenes: a view is cut into small patches that touch, a classifier turns each
// into features, and a U-Net segments the grid of features; every pixel gets its patch's scores.
//   fusion   both networks; patches: the classifier's own scores
// Stages: 1 the classifier, each patch labelled with its most frequent class; 2 the grid network, classifier fixed; 3 end to end in bounded
// memory, as the paper does it: all features without a graph, one step of the grid network that also yields the gradient with respect to
// the features, then the classifier again, with a graph, on 64 drawn patches, driven by that gradient.
// Memory is one view's (the default holds 64 x 64 patches) and does not depend on the scene.
#pragma once
#include "rsseg/nets/patch_then_segment.hpp"
#include "rsseg/scene/glnet.hpp"

namespace rsseg {

/// The classifier with a given gradient of its features: a penalty <features, pull> whose gradient is `pull`.
template <int Classes = from_data>
struct PulledPatchFeatures {
  static constexpr void build(builder& b) {
    namespace ops = graph::ops;
    const value x = b.input("x", from_data), pull = b.input("pull", detail::patch_features);
    const value f = detail::patch_net(b, x);
    b.output("features", f);
    const value product = ops::mul(b, f, pull);
    b.add_penalty("pull", ops::reduce(b, product, ops::axis_n | ops::axis_c | ops::axis_h | ops::axis_w, false), 1);
  }
};

}  // namespace rsseg

namespace rsseg::scene {

/// Both networks on one set of weights, that of PatchThenSegment.
struct patch_grid_networks {
  std::unique_ptr<placed_network> whole;  ///< holds the weights
  std::unique_ptr<placed_graph> classify, segment;
  int patch = 32, classes = 0, bands = 3;
  std::size_t memory_limit = 0;

  explicit patch_grid_networks(const system_settings& s) : patch(s.patch), classes(s.info.classes), bands(s.info.bands) {
    build_options b;
    b.classes = classes, b.bands = bands;
    whole = std::make_unique<placed_network>(&PatchThenSegment<8>::build, b, s.where);
    classify = whole->make(inference_graph(&PatchClassifier<>::build, b));
    segment = whole->make(inference_graph(&PatchGridNet<>::build, b));
  }
  /// Output `which` (0 scores, 1 features) for every patch of image n: (1,C,Gh,Gw). 64 patches at a time.
  tensor<float> of_patches(const tensor<float>& image, int n, int which) {
    const shape s = image.extent();
    const int gh = s.h / patch, gw = s.w / patch, count = gh * gw;
    tensor<float> out;
    for (int from = 0; from < count; from += 64) {
      const int batch = std::min(64, count - from);
      tensor<float> x(shape{batch, s.c, patch, patch});
      for (int i = 0; i < batch; ++i) copy_part(image, n, (from + i) / gw * patch, (from + i) % gw * patch, x, i);
      classify->give({as_input(x)}, memory_limit);
      classify->run();
      const auto [of_batch, values] = classify->output(which);
      const int c = of_batch.c;
      if (from == 0) out = tensor<float>(shape{1, c, gh, gw});
      std::copy_n(values, std::size_t(batch) * std::size_t(c), out.data() + std::size_t(from) * std::size_t(c));
    }
    return out;
  }
};

class patch_grid_predictor : public scene_predictor {
 public:
  patch_grid_predictor(std::shared_ptr<patch_grid_networks> n, data::normalization norm, bool grid)
      : n_(std::move(n)), norm_(std::move(norm)), grid_(grid) {}
  void start(io::raster_source& scene) override { norm_.require_bands(scene.info().bands); }
  tensor<float> scores(io::raster_source& scene, std::span<const window> windows) override {
    tensor<float> out;
    for (std::size_t i = 0; i < windows.size(); ++i) {
      const tensor<float> image = read_windows(scene, windows.subspan(i, 1), norm_);
      tensor<float> one = n_->of_patches(image, 0, grid_ ? 1 : 0);
      if (grid_) n_->segment->give({as_input(one)}, n_->memory_limit), n_->segment->run(), one = n_->segment->copy_of_output(0);
      // nearest: a pixel has its patch's scores
      const shape s = one.extent(), v = image.extent();
      if (i == 0) out = tensor<float>(shape{int(windows.size()), s.c, v.h, v.w});
      for (int y = 0; y < v.h; ++y)
        for (int x = 0; x < v.w; ++x)
          std::copy_n(one.data() + (std::size_t(y / n_->patch) * std::size_t(s.w) + std::size_t(x / n_->patch)) * std::size_t(s.c), s.c,
                      out.data() + ((i * std::size_t(v.h) + std::size_t(y)) * std::size_t(v.w) + std::size_t(x)) * std::size_t(s.c));
    }
    return out;
  }
  std::size_t bytes() const override { return n_->classify->bytes() + n_->segment->bytes(); }

 private:
  std::shared_ptr<patch_grid_networks> n_;
  data::normalization norm_;
  bool grid_;
};

class patch_grid_learner final : public train::learner {
 public:
  patch_grid_learner(std::shared_ptr<patch_grid_networks> n, int stage, data::normalization norm, int view)
      : n_(std::move(n)), stage_(stage), norm_(std::move(norm)), view_(view) {}

  parameter_store<float>& weights() override { return n_->whole->weights(); }
  void prepare(const train::train_options& o) override {
    limit_ = o.memory_limit, ignore_ = o.loss.ignore;
    build_options b = n_->whole->options();
    b.training = true;
    const auto engine_of = [&](build_function build, bool inputs) {
      graph::graph g = lower_network(build, b);
      graph::make_training_graph(g, o.loss, inputs);
      return n_->whole->make(std::move(g));
    };
    if (stage_ == 0) train_patches_ = engine_of(&PatchClassifier<>::build, false);
    if (stage_ > 0) train_grid_ = engine_of(&PatchGridNet<>::build, stage_ == 2);
    if (stage_ == 2) pull_ = engine_of(&PulledPatchFeatures<>::build, false);
  }
  std::vector<float>& gradients() override { return sum_; }

  double step(const data::batch& b, const tensor<float>* class_weights, const train::train_options&, const cpu::run_state& state) override {
    sum_.assign(weights().values().size(), 0.0f);
    const shape s = b.images.extent();
    const int gh = s.h / n_->patch, gw = s.w / n_->patch;
    double loss = 0;
    for (int n = 0; n < s.n; ++n) {
      const tensor<std::int32_t> labels = majority(b.targets, n, gh, gw);
      random_stream r(state.seed, 0x5461'6B61ull + std::uint64_t(n), state.step << 12);
      std::vector<int> drawn(std::size_t(gh) * std::size_t(gw));
      for (std::size_t i = 0; i < drawn.size(); ++i) drawn[i] = int(i);
      const std::size_t count = std::min<std::size_t>(64, drawn.size());
      for (std::size_t i = 0; i < count; ++i) std::swap(drawn[i], drawn[i + r.below(std::uint32_t(drawn.size() - i))]);
      drawn.resize(count);
      tensor<float> patches(shape{int(count), s.c, n_->patch, n_->patch});
      for (std::size_t i = 0; i < count; ++i) copy_part(b.images, n, drawn[i] / gw * n_->patch, drawn[i] % gw * n_->patch, patches, int(i));
      if (stage_ == 0) {
        std::vector<std::int32_t> of_drawn;
        for (const int i : drawn) of_drawn.push_back(labels(0, 0, i / gw, i % gw));
        loss += run(*train_patches_, {as_input(patches)}, class_weights, &of_drawn, state, 1.0 / s.n);
        continue;
      }
      const tensor<float> features = n_->of_patches(b.images, n, 1);
      const std::vector<std::int32_t> all(labels.begin(), labels.end());
      loss += run(*train_grid_, {as_input(features)}, class_weights, &all, state, 1.0 / s.n);
      if (stage_ != 2) continue;
      // dL/dF of the drawn patches, as much as all patches would have given on average
      const graph::graph& g = train_grid_->graph();
      const float* to_features = nullptr;
      for (int i = 0; i + 1 < g.gradients.size(); i += 2)
        if (g.nodes[g.gradients[i]].kind == graph::op::input && g.name_of(g.gradients[i]) == "features")
          to_features = train_grid_->value(g.gradients[i + 1]);
      if (!to_features) throw error("the grid network yields no gradient of its features");
      tensor<float> pull(shape{int(count), rsseg::detail::patch_features, 1, 1});
      const float factor = float(double(gh) * gw / double(count));
      for (std::size_t i = 0; i < count; ++i)
        for (int c = 0; c < rsseg::detail::patch_features; ++c)
          pull.data()[i * rsseg::detail::patch_features + std::size_t(c)] =
              factor * to_features[std::size_t(drawn[i]) * rsseg::detail::patch_features + std::size_t(c)];
      run(*pull_, {as_input(patches), as_input(pull)}, class_weights, nullptr, state, 1.0 / s.n);
    }
    return loss;
  }
  train::confusion_matrix validate(const data::dataset& set, const train::train_options&, const train::image_callback& each) override {
    patch_grid_predictor p(n_, norm_, stage_ > 0);
    return train::evaluate(p, set, view_tiling(n_->patch, 0, view_, 0, norm_), each);
  }

 private:
  /// The most frequent class of each patch; ignored where nothing is labelled.
  tensor<std::int32_t> majority(const tensor<std::int32_t>& targets, int n, int gh, int gw) const {
    tensor<std::int32_t> out(shape{1, 1, gh, gw});
    std::vector<int> counts(std::size_t(n_->classes));
    for (int y = 0; y < gh; ++y)
      for (int x = 0; x < gw; ++x) {
        std::fill(counts.begin(), counts.end(), 0);
        for (int v = 0; v < n_->patch; ++v)
          for (int u = 0; u < n_->patch; ++u) {
            const std::int32_t t = targets(n, 0, y * n_->patch + v, x * n_->patch + u);
            if (t != ignore_ && t >= 0 && t < n_->classes) ++counts[std::size_t(t)];
          }
        const auto top = std::max_element(counts.begin(), counts.end());
        out(0, 0, y, x) = *top > 0 ? std::int32_t(top - counts.begin()) : ignore_;
      }
    return out;
  }
  double run(placed_graph& e, std::vector<std::pair<shape, const float*>> inputs, const tensor<float>* class_weights,
             const std::vector<std::int32_t>* labels, const cpu::run_state& state, double factor) {
    if (class_weights) inputs.push_back(as_input(*class_weights));
    e.give(inputs, limit_);
    if (labels)
      e.fill_targets([&](int, std::vector<std::int32_t>& values) {  // one label per patch; scores of patches are resized to the patches' extent
        const std::size_t each = values.size() / labels->size();
        for (std::size_t i = 0; i < labels->size(); ++i) std::fill_n(values.begin() + std::ptrdiff_t(i * each), each, (*labels)[i]);
      });
    e.run(state);
    e.add_gradients(sum_, factor);
    return factor * e.loss();
  }

  std::shared_ptr<patch_grid_networks> n_;
  int stage_;
  data::normalization norm_;
  int view_, ignore_ = 255;
  std::size_t limit_ = 0;
  std::unique_ptr<placed_graph> train_patches_, train_grid_, pull_;
  std::vector<float> sum_;
};

namespace detail {
inline std::unique_ptr<train::learner> patch_grid_stage(const system& sys, int stage, const system_settings& s, const std::string& folder,
                                                        std::uint64_t seed) {
  if (s.view % (4 * s.patch) != 0)
    throw usage_error("--crop " + std::to_string(s.view) + ": " + sys.name + " takes multiples of 4 patches, here of " + std::to_string(4 * s.patch));
  const auto n = std::make_shared<patch_grid_networks>(s);
  n->whole->weights().initialise(seed);
  if (stage > 0) load_stage(sys, stage - 1, folder, n->whole->weights());
  return std::make_unique<patch_grid_learner>(n, stage, data::normalization::parse(s.info.normalize), s.view);
}
inline made_predictor patch_grid_maps(const system& sys, const system_settings& s, const std::string& folder, const predictor_options& o) {
  const std::string mode = mode_named(sys, o.mode);
  const auto n = std::make_shared<patch_grid_networks>(s);
  n->memory_limit = o.memory_limit;
  load_stage(sys, mode == "patches" ? 0 : mode == "grid" ? 1 : 2, folder, n->whole->weights());
  const data::normalization norm = data::normalization::parse(s.info.normalize);
  const int view = o.view > 0 ? o.view : s.view;
  if (view % (4 * s.patch) != 0)
    throw usage_error("--view " + std::to_string(view) + ": give a multiple of four patches, " + std::to_string(4 * s.patch));
  made_predictor m;
  m.predictor = std::make_unique<patch_grid_predictor>(n, norm, mode != "patches");
  m.tiling = view_tiling(s.patch, 0, view, o.overlap >= 0 ? o.overlap / s.patch * s.patch : 0, norm);
  return m;
}
}  // namespace detail

inline system takahama() {
  return {"takahama",
          "Multi-stage classification with segmentation",
          "Takahama et al., ICCV 2019",
          "patches of 32 pixels, their features segmented as a grid",
          {{"patches", "the patch classifier", recipe{"adam", 1e-3, 0.9, 0, "poly", 2, 1024}, "ce"},
           {"grid", "the network over the grid of features, classifier fixed", recipe{"adam", 1e-3, 0.9, 0, "poly", 2, 1024}, "ce"},
           {"end-to-end", "both, the classifier recomputed on drawn patches", recipe{"adam", 1e-4, 0.9, 0, "poly", 2, 1024}, "ce"}},
          {"fusion", "grid", "patches"},
          32,
          1024,
          4,
          &detail::patch_grid_stage,
          &detail::patch_grid_maps};
}

}  // namespace rsseg::scene
