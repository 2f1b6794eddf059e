// SPDX-License-Identifier: MIT
// Systems that see a patch and the scene around it at the same extent in pixels: FCtL (Li et al., ICCV 2021) and AWMF-CNN (Tokunaga et al.,
// CVPR 2019). Each input is a square around the patch's centre, down-sampled to the patch's side; what lies outside the scene is mirrored
// (the references pad with black).
//   FCtL         sides patch, 3 patch, view (the whole scene with view 0, read once); without whitening patch, 2 patch, 3 patch (Inria)
//   AWMF-CNN     sides patch, 2 patch, 4 patch
// A scene is cut into patches that overlap by a tenth; memory is one patch's and does not depend on the scene.
// Stages of FCtL: patch alone, with trained contexts, with fixed ones. Of AWMF-CNN: the three experts, each on labels of its own field;
// weighting and aggregation on fixed experts; all together.
#pragma once
#include "rsseg/nets/awmf_cnn.hpp"
#include "rsseg/nets/fctl.hpp"
#include "rsseg/scene/glnet.hpp"

namespace rsseg::scene {

/// Tensors of an earlier stage that a stage starts with: those called `from`... become `to`...
struct start_from {
  int stage;
  const char* from;
  const char* to;
};
/// One stage: its network, which fields are its inputs, whose labels it learns.
struct context_stage {
  build_function build;
  std::vector<int> inputs;
  int labels;
  std::vector<start_from> starts;
};
/// Fields as multiples of the patch; 0: the view.
struct context_plan {
  std::vector<int> fields;
  std::vector<context_stage> stages;
};

/// Side in pixels of a field.
inline int side_of(int field, int patch, int view) { return field == 0 ? view : field * patch; }

class context_predictor : public scene_predictor {
 public:
  /// view 0: a field of 0 is the whole scene.
  context_predictor(std::shared_ptr<placed_network> net, data::normalization norm, std::vector<int> fields, int patch, int view)
      : net_(std::move(net)), norm_(std::move(norm)), fields_(std::move(fields)), patch_(patch), view_(view) {}

  void start(io::raster_source& scene) override {
    norm_.require_bands(scene.info().bands);
    if (view_ == 0) whole_ = resized_view(scene, {0, 0, scene.info().width, scene.info().height}, patch_, patch_, norm_);
  }
  tensor<float> scores(io::raster_source& scene, std::span<const window> windows) override {
    std::vector<tensor<float>> inputs;
    for (const int field : fields_) {
      tensor<float> x(shape{int(windows.size()), scene.info().bands, patch_, patch_});
      for (std::size_t i = 0; i < windows.size(); ++i) {
        const int side = side_of(field, patch_, view_);
        const window& w = windows[i];
        const tensor<float> one =
            side == 0 ? whole_ : resized_view(scene, {w.x + (patch_ - side) / 2, w.y + (patch_ - side) / 2, side, side}, patch_, patch_, norm_);
        std::copy(one.begin(), one.end(), x.data() + i * one.size());
      }
      inputs.push_back(std::move(x));
    }
    std::vector<const tensor<float>*> pointers;
    for (const auto& x : inputs) pointers.push_back(&x);
    net_->run(pointers);
    return net_->output(0);
  }
  std::size_t bytes() const override { return net_->inference().bytes() + fields_.size() * std::size_t(patch_) * std::size_t(patch_) * 12; }

 private:
  std::shared_ptr<placed_network> net_;
  data::normalization norm_;
  std::vector<int> fields_;
  int patch_, view_;
  tensor<float> whole_;
};

class context_learner final : public stage_learner {
 public:
  context_learner(std::shared_ptr<placed_network> net, const context_plan& plan, int stage, data::normalization norm, int patch, int view)
      : net_(std::move(net)), plan_(plan), stage_(plan.stages[std::size_t(stage)]), norm_(std::move(norm)), patch_(patch), view_(view) {}

  double step(const data::batch& b, const tensor<float>* class_weights, const train::train_options&, const cpu::run_state& state) override {
    clear_gradients();
    std::vector<tensor<float>> fields;
    for (const int i : stage_.inputs) fields.push_back(field(b, i));
    const int side = std::min(view_, side_of(plan_.fields[std::size_t(stage_.labels)], patch_, view_)), at = (view_ - side) / 2;
    tensor<std::int32_t> labels(shape{b.images.extent().n, 1, patch_, patch_});
    for (int n = 0; n < b.images.extent().n; ++n)
      for (int y = 0; y < patch_; ++y)
        for (int x = 0; x < patch_; ++x)
          labels(n, 0, y, x) = b.targets(n, 0, at + int(std::int64_t(y) * side / patch_), at + int(std::int64_t(x) * side / patch_));
    std::vector<const tensor<float>*> inputs;
    for (const auto& f : fields) inputs.push_back(&f);
    if (class_weights) inputs.push_back(class_weights);
    return train_on(*net_, inputs, {{"logits", &labels}}, state, gradients_, 1, limit_);
  }
  train::confusion_matrix validate(const data::dataset& set, const train::train_options&, const train::image_callback& each) override {
    std::vector<int> fields;
    for (const int i : stage_.inputs) fields.push_back(plan_.fields[std::size_t(i)]);
    // An expert of a wider field is judged on its own field's scores at the patch's places.
    if (stage_.inputs.size() == 1 && stage_.inputs[0] > 0) return expert(set, side_of(fields[0], patch_, view_), each);
    context_predictor p(net_, norm_, fields, patch_, view_);
    return train::evaluate(p, set, view_tiling(patch_, patch_ / 10, 0, -1, norm_), each);
  }

 protected:
  placed_network& model() override { return *net_; }

 private:
  tensor<float> field(const data::batch& b, int i) const {
    const int side = std::min(view_, side_of(plan_.fields[std::size_t(i)], patch_, view_)), at = (view_ - side) / 2;
    const shape s = b.images.extent();
    tensor<float> part(shape{s.n, s.c, side, side});
    for (int n = 0; n < s.n; ++n) copy_part(b.images, n, at, at, part, n);
    return side == patch_ ? part : resized(part, patch_, patch_);
  }
  train::confusion_matrix expert(const data::dataset& set, int side, const train::image_callback& each) {
    struct reduced : scene_predictor {
      placed_network& net;
      const data::normalization& norm;
      int patch;
      reduced(placed_network& n, const data::normalization& d, int p) : net(n), norm(d), patch(p) {}
      tensor<float> scores(io::raster_source& scene, std::span<const window> w) override {
        return net.infer(resized_view(scene, w[0], patch, patch, norm));
      }
    } p(*net_, norm_, patch_);
    return train::evaluate(p, set, view_tiling(patch_, 0, side, side / 10, norm_), each);
  }

  std::shared_ptr<placed_network> net_;
  const context_plan& plan_;
  const context_stage& stage_;
  data::normalization norm_;
  int patch_, view_;
};

namespace detail {
inline std::shared_ptr<placed_network> context_net(const context_plan& p, int stage, const system_settings& s) {
  build_options b;
  b.classes = s.info.classes, b.bands = s.info.bands;
  return std::make_shared<placed_network>(p.stages[std::size_t(stage)].build, b, s.where);
}
template <const context_plan& (*Plan)()>
std::unique_ptr<train::learner> context_stage_of(const system& sys, int stage, const system_settings& s, const std::string& folder,
                                                 std::uint64_t seed) {
  const context_plan& p = Plan();
  const int widest = *std::max_element(p.fields.begin(), p.fields.end());
  if (widest * s.patch > s.view)
    throw usage_error(std::string(sys.name) + " looks at " + std::to_string(widest) + " times its patch: --crop must be at least " +
                      std::to_string(widest * s.patch));
  const auto net = context_net(p, stage, s);
  net->weights().initialise(seed + std::uint64_t(stage));
  std::map<int, std::shared_ptr<placed_network>> earlier;
  for (const start_from& f : p.stages[std::size_t(stage)].starts) {
    auto& from = earlier[f.stage];
    if (!from) from = context_net(p, f.stage, s), load_stage(sys, f.stage, folder, from->weights());
    copy_weights(from->weights(), net->weights(), f.from, f.to);
  }
  return std::make_unique<context_learner>(net, p, stage, data::normalization::parse(s.info.normalize), s.patch, s.view);
}
template <const context_plan& (*Plan)()>
made_predictor context_maps(const system& sys, const system_settings& s, const std::string& folder, const predictor_options& o) {
  const context_plan& p = Plan();
  mode_named(sys, o.mode);
  const int last = int(p.stages.size()) - 1;
  const auto net = context_net(p, last, s);
  net->set_memory_limit(o.memory_limit);
  load_stage(sys, last, folder, net->weights());
  const data::normalization norm = data::normalization::parse(s.info.normalize);
  made_predictor m;
  m.predictor = std::make_unique<context_predictor>(net, norm, p.fields, s.patch, o.view < 0 ? s.view : o.view);
  const int overlap = o.overlap >= 0 ? o.overlap : s.patch / 10;
  m.tiling = view_tiling(s.patch, overlap, 0, -1, norm);
  return m;
}

template <bool Whitened, int Width, int Base>
const context_plan& fctl_plan() {
  static const context_plan plan = {Whitened ? std::vector<int>{1, 3, 0} : std::vector<int>{1, 2, 3},
                                    {{&FCtL<from_data, Whitened, false, 1, Width, Base, true>::build, {0}, 0, {}},
                                     {&FCtL<from_data, Whitened, true, 1, Width, Base>::build,
                                      {0, 1, 2},
                                      0,
                                      {{0, "net.", "net."},
                                       {0, "net.pool3.", "medium.big_pool3."},
                                       {0, "net.pool4.", "medium.big_pool4."},
                                       {0, "net.pool5.", "medium.big_pool5."},
                                       {0, "net.pool3.", "glob.big_pool3."},
                                       {0, "net.pool4.", "glob.big_pool4."},
                                       {0, "net.pool5.", "glob.big_pool5."}}},
                                     {&FCtL<from_data, Whitened, false, 1, Width, Base>::build, {0, 1, 2}, 0, {{1, "", ""}}}}};
  return plan;
}
template <bool Whitened, int Width, int Base>
system fctl_system(const char* name, const char* title, const char* note, int patch, int view, recipe r) {
  return {name,
          title,
          "Li et al., ICCV 2021",
          note,
          {{"patch", "FCN-8s on patches", r, "focal3"},
           {"contexts", "with medium and large contexts, all trunks trained", r, "focal3"},
           {"fusion", "the same with fixed context trunks", r, "focal3"}},
          {"fusion"},
          patch,
          view,
          4,
          &context_stage_of<&fctl_plan<Whitened, Width, Base>>,
          &context_maps<&fctl_plan<Whitened, Width, Base>>};
}
template <int Base>
const context_plan& awmf_plan() {
  static const context_plan plan = {{1, 2, 4},
                                    {{&AWMFExpert<0, from_data, Base>::build, {0}, 0, {}},
                                     {&AWMFExpert<1, from_data, Base>::build, {1}, 1, {}},
                                     {&AWMFExpert<2, from_data, Base>::build, {2}, 2, {}},
                                     {&AWMFCNN<from_data, Base, true>::build, {0, 1, 2}, 0, {{0, "", ""}, {1, "", ""}, {2, "", ""}}},
                                     {&AWMFCNN<from_data, Base>::build, {0, 1, 2}, 0, {{3, "", ""}}}}};
  return plan;
}
template <int Base>
system awmf_system(const char* name, const char* title, const char* note, int patch, recipe r) {
  return {name,
          title,
          "Tokunaga et al., CVPR 2019",
          note,
          {{"expert-x10", "the expert of the narrowest field", r, "ce"},
           {"expert-x5", "the expert of twice the field", r, "ce"},
           {"expert-x2-5", "the expert of four times the field", r, "ce"},
           {"weighting", "weighting and aggregation, experts fixed", r, "ce"},
           {"all", "all together", r, "ce"}},
          {"all"},
          patch,
          4 * patch,
          8,
          &context_stage_of<&awmf_plan<Base>>,
          &context_maps<&awmf_plan<Base>>};
}
}  // namespace detail

inline system fctl() {
  return detail::fctl_system<true, 4096, 64>("fctl", "FCtL", "whitened correlation; contexts 3 patch and view (DeepGlobe)", 508, 2448,
                                             recipe{"adam", 5e-5, 0.9, 5e-4, "poly", 6, 2448});
}
inline system fctl_inria() {
  return detail::fctl_system<false, 4096, 64>("fctl-inria", "FCtL, Inria form", "plain correlation; contexts 2 patch and 3 patch", 508, 1524,
                                              recipe{"adam", 5e-5, 0.9, 5e-4, "poly", 6, 1524});
}
/// Ours: a quarter of the trunks' width, 256 channels in the head.
inline system fctl_compact() {
  return detail::fctl_system<true, 256, 16>("fctl-compact", "FCtL, compact", "a quarter of the width; ours", 256, 896,
                                            recipe{"adamw", 1e-3, 0.9, 1e-2, "poly", 4, 896});
}
inline system awmf() {
  return detail::awmf_system<64>("awmf", "AWMF-CNN", "three fields of view", 256, recipe{"adam", 1e-3, 0.9, 0, "constant", 8, 1024});
}
/// Ours: experts of 16 channels.
inline system awmf_compact() {
  return detail::awmf_system<16>("awmf-compact", "AWMF-CNN, compact", "experts of 16 channels; ours", 256,
                                 recipe{"adamw", 1e-3, 0.9, 1e-2, "poly", 4, 1024});
}

}  // namespace rsseg::scene
