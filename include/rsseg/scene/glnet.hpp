// SPDX-License-Identifier: MIT
// GLNet over scenes (Chen et al., CVPR 2019): a view of the scene is seen down-sampled by the global branch and in full-resolution patches
// by the local one; maps pass both ways by exact correspondence of windows.
//   global        the global branch alone, at the patches' places
//   local, g2l    local branch fed by the global one: its own scores, or the ensemble of both                       (stage 2)
//   l2g           global branch fed by all local maps of the view                                                     (stage 3)
//   both          ensemble of the local maps and the fed global ones                                                  (stage 3)
// A view is a square of the scene as large as in training, or the whole scene (view 0, as in the paper, whose scenes have one size). What
// is kept is the global maps of one view and one patch; l2g and both pass over the patches, both does so twice and recomputes the local
// maps instead of storing them. Memory does not depend on the scene.
// Training follows the reference: 1 global branch; 2 local branch, global one fixed, over patches drawn from a view; 3 global branch fed by
// all patches of a view, local one fixed, ensemble loss on drawn patches. Ours: stages start from the branch of the stage before, new input
// channels at zero.
#pragma once
#include "rsseg/nets/glnet_parts.hpp"
#include "rsseg/scene/system.hpp"
#include "rsseg/scene/views.hpp"

namespace rsseg::scene {

/// The networks of one GLNet; those of stages that are not needed stay null.
struct glnet_networks {
  glnet_parts parts;
  build_options options;
  int patch = 508, overlap = 50;
  std::size_t memory_limit = 0;
  placement where;
  std::unique_ptr<placed_network> global, local, both;
  std::unique_ptr<placed_graph> ensemble;

  /// The networks of the first `stages` stages; options, where and memory_limit are set before.
  void make(int stages) {
    global = std::make_unique<placed_network>(parts.global_maps, options, where);
    if (stages > 1) local = std::make_unique<placed_network>(parts.local_part, options, where);
    if (stages > 2) {
      both = std::make_unique<placed_network>(parts.global_part, options, where);
      ensemble = both->make(inference_graph(parts.ensemble, options));
    }
    for (placed_network* m : {global.get(), local.get(), both.get()})
      if (m) m->set_memory_limit(memory_limit);
  }
  std::size_t bytes() const {
    std::size_t sum = ensemble ? ensemble->bytes() : 0;
    for (placed_network* m : {global.get(), local.get(), both.get()})
      if (m) sum += m->inference().bytes();
    return sum;
  }
};

/// One view: a region of `height` x `width` pixels whose down-sampled image is `patch` x `patch`.
class glnet_view {
 public:
  explicit glnet_view(glnet_networks& n) : n_(n) {}

  void begin(const tensor<float>& image, int height, int width) {
    height_ = height, width_ = width, image_ = image.extent();
    n_.global->run({as_input(image)});
    merged_.clear(), counts_.clear();
  }
  std::vector<int> tops() const { return even_starts(height_, n_.patch, n_.overlap, 4); }
  std::vector<int> lefts() const { return even_starts(width_, n_.patch, n_.overlap, 4); }

  /// Windows of the 16 global maps and of `joined` that belong to patches at (top, left).
  std::vector<tensor<float>> windows(const std::vector<std::pair<int, int>>& at) const {
    std::vector<tensor<float>> out;
    for (int i = 0; i < 17; ++i) {
      const auto [s, values] = output(*n_.global, 1 + i);
      std::vector<map_span> rows, columns;
      for (const auto& [top, left] : at) rows.emplace_back(s.h, top, n_.patch, height_), columns.emplace_back(s.w, left, n_.patch, width_);
      int h = s.h, w = s.w;  // one extent for all: a span that the border cuts short is not longer than the others
      for (std::size_t q = 0; q < at.size(); ++q) h = std::min(h, rows[q].count), w = std::min(w, columns[q].count);
      tensor<float> t(shape{int(at.size()), s.c, h, w});
      for (std::size_t q = 0; q < at.size(); ++q)
        for (int r = 0; r < h; ++r)
          std::memcpy(t.data() + (q * std::size_t(h) + std::size_t(r)) * std::size_t(w) * std::size_t(s.c),
                      values + (std::size_t(rows[q].begin + r) * std::size_t(s.w) + std::size_t(columns[q].begin)) * std::size_t(s.c),
                      std::size_t(w) * std::size_t(s.c) * sizeof(float));
      out.push_back(std::move(t));
    }
    return out;
  }
  /// The local branch on one patch (1,C,patch,patch).
  void run_local(const tensor<float>& patch, int top, int left) {
    const std::vector<tensor<float>> w = windows({{top, left}});
    std::vector<std::pair<shape, const float*>> inputs{as_input(patch)};
    for (const auto& t : w) inputs.push_back(as_input(t));
    n_.local->run(inputs);
  }
  /// Adds the local maps of the last patch to the global-sized ones.
  void merge(int top, int left) {
    if (merged_.empty())
      for (int i = 0; i < 16; ++i) {
        const shape s = output(*n_.global, 1 + i).first;
        merged_.emplace_back(s), counts_.emplace_back(std::size_t(s.h) * std::size_t(s.w), 0.0f);
        std::fill(merged_.back().begin(), merged_.back().end(), 0.0f);
      }
    for (int i = 0; i < 16; ++i) {
      const auto [s, values] = output(*n_.local, 2 + i);
      tensor<float>& m = merged_[std::size_t(i)];
      const shape g = m.extent();
      const map_span rows(g.h, top, n_.patch, height_), columns(g.w, left, n_.patch, width_);
      std::vector<float> v(std::size_t(s.c));
      for (int r = 0; r < rows.count; ++r)
        for (int c = 0; c < columns.count; ++c) {
          detail::sample_scores(values, s.h, s.w, s.c, rows.count, columns.count, r, c, v.data());
          const std::size_t pixel = std::size_t(rows.begin + r) * std::size_t(g.w) + std::size_t(columns.begin + c);
          float* to = m.data() + pixel * std::size_t(s.c);
          for (int k = 0; k < s.c; ++k) to[k] += v[std::size_t(k)];
          counts_[std::size_t(i)][pixel] += 1;
        }
    }
  }
  /// Averages where patches overlap: the 16 maps as inputs of the fed global branch.
  const std::vector<tensor<float>>& finish_merge() {
    for (std::size_t i = 0; i < merged_.size(); ++i) {
      const std::size_t c = std::size_t(merged_[i].extent().c);
      for (std::size_t p = 0; p < counts_[i].size(); ++p)
        if (counts_[i][p] > 1)
          for (std::size_t k = 0; k < c; ++k) merged_[i].data()[p * c + k] /= counts_[i][p];
    }
    return merged_;
  }
  /// The fed global branch; afterwards the merged maps are let go.
  void run_fed(const tensor<float>& image) {
    finish_merge();
    std::vector<std::pair<shape, const float*>> inputs{as_input(image)};
    for (const auto& t : merged_) inputs.push_back(as_input(t));
    n_.both->run(inputs);
    merged_.clear(), counts_.clear();
  }
  /// Scores of the ensemble for the patch that run_local saw last.
  tensor<float> ensemble(int top, int left) {
    const auto [gs, whole] = output(*n_.both, 1);
    const auto [ls, local] = output(*n_.local, 18);
    const map_span rows(gs.h, top, n_.patch, height_), columns(gs.w, left, n_.patch, width_);
    tensor<float> window(shape{1, gs.c, rows.count, columns.count});
    for (int r = 0; r < rows.count; ++r)
      std::memcpy(window.data() + std::size_t(r) * std::size_t(columns.count) * std::size_t(gs.c),
                  whole + (std::size_t(rows.begin + r) * std::size_t(gs.w) + std::size_t(columns.begin)) * std::size_t(gs.c),
                  std::size_t(columns.count) * std::size_t(gs.c) * sizeof(float));
    n_.ensemble->give({{ls, local}, as_input(window)}, n_.memory_limit);
    n_.ensemble->run();
    return n_.ensemble->copy_of_output(0);
  }
  /// Scores of a global branch (fed or not) at a patch's place, at a quarter of its extent.
  tensor<float> global_scores(bool fed, int top, int left) const {
    const auto [s, map] = output(fed ? *n_.both : *n_.global, 0);
    const int side = (n_.patch + 3) / 4;
    tensor<float> out(shape{1, s.c, side, side});
    std::vector<float> v(std::size_t(s.c));
    for (int y = 0; y < side; ++y)
      for (int x = 0; x < side; ++x)  // pixel centres of the quarter-sized patch, as pixels of the view
        detail::sample_scores(map, s.h, s.w, s.c, height_, width_, std::min(height_ - 1, top + 4 * y + 2), std::min(width_ - 1, left + 4 * x + 2),
                              out.data() + (std::size_t(y) * std::size_t(side) + std::size_t(x)) * std::size_t(s.c));
    return out;
  }
  std::size_t bytes() const {
    std::size_t sum = 0;
    for (const auto& m : merged_) sum += m.size() * sizeof(float);
    return sum;
  }

 private:
  static std::pair<shape, const float*> output(placed_network& m, int which) { return m.inference().output(which); }
  glnet_networks& n_;
  int height_ = 0, width_ = 0;
  shape image_;
  std::vector<tensor<float>> merged_;
  std::vector<std::vector<float>> counts_;
};

enum class glnet_mode { global, local, g2l, l2g, both };

class glnet_predictor : public scene_predictor {
 public:
  /// view: side of the windows that are asked for; 0: windows are patches of the whole scene.
  glnet_predictor(std::shared_ptr<glnet_networks> n, data::normalization norm, glnet_mode mode, int view)
      : n_(std::move(n)), norm_(std::move(norm)), mode_(mode), view_(view), maps_(*n_) {}

  void start(io::raster_source& scene) override {
    norm_.require_bands(scene.info().bands);
    if (view_ == 0) region_ = {0, 0, std::max(scene.info().width, n_->patch), std::max(scene.info().height, n_->patch)}, prepare(scene);
  }
  tensor<float> scores(io::raster_source& scene, std::span<const window> windows) override {
    tensor<float> out;
    for (std::size_t i = 0; i < windows.size(); ++i) {
      const tensor<float> one = view_ == 0 ? patch_scores(scene, windows[i].y, windows[i].x) : view_scores(scene, windows[i]);
      const shape s = one.extent();
      if (i == 0) out = tensor<float>(shape{int(windows.size()), s.c, s.h, s.w});
      std::copy(one.begin(), one.end(), out.data() + i * one.size());
    }
    return out;
  }
  std::size_t bytes() const override { return n_->bytes() + peak_; }

 private:
  void prepare(io::raster_source& scene) {
    const tensor<float> image = resized_view(scene, region_, n_->patch, n_->patch, norm_);
    maps_.begin(image, region_.height, region_.width);
    if (mode_ != glnet_mode::l2g && mode_ != glnet_mode::both) return;
    for (const int top : maps_.tops())
      for (const int left : maps_.lefts()) local(scene, top, left), maps_.merge(top, left);
    peak_ = std::max(peak_, maps_.bytes());
    maps_.run_fed(image);
  }
  void local(io::raster_source& scene, int top, int left) {
    const window w{region_.x + left, region_.y + top, n_->patch, n_->patch};
    maps_.run_local(read_windows(scene, {&w, 1}, norm_), top, left);
  }
  tensor<float> patch_scores(io::raster_source& scene, int top, int left) {
    if (mode_ == glnet_mode::global || mode_ == glnet_mode::l2g) return maps_.global_scores(mode_ == glnet_mode::l2g, top, left);
    local(scene, top, left);
    if (mode_ == glnet_mode::both) return maps_.ensemble(top, left);
    return n_->local->output(mode_ == glnet_mode::g2l ? 0 : 1);
  }
  /// All patches of a view, averaged where they overlap, at a quarter of its extent.
  tensor<float> view_scores(io::raster_source& scene, const window& w) {
    region_ = w;
    prepare(scene);
    tensor<float> sum;
    std::vector<float> count;
    const int h = (w.height + 3) / 4, width = (w.width + 3) / 4;
    for (const int top : maps_.tops())
      for (const int left : maps_.lefts()) {
        const tensor<float> one = patch_scores(scene, top, left);
        const shape s = one.extent();
        if (sum.size() == 0) {
          sum = tensor<float>(shape{1, s.c, h, width}), count.assign(std::size_t(h) * std::size_t(width), 0.0f);
          std::fill(sum.begin(), sum.end(), 0.0f);
        }
        for (int y = 0; y < s.h && top / 4 + y < h; ++y)
          for (int x = 0; x < s.w && left / 4 + x < width; ++x) {
            const std::size_t at = std::size_t(top / 4 + y) * std::size_t(width) + std::size_t(left / 4 + x);
            const float* from = one.data() + (std::size_t(y) * std::size_t(s.w) + std::size_t(x)) * std::size_t(s.c);
            for (int k = 0; k < s.c; ++k) sum.data()[at * std::size_t(s.c) + std::size_t(k)] += from[k];
            count[at] += 1;
          }
      }
    const std::size_t k = std::size_t(sum.extent().c);
    for (std::size_t i = 0; i < count.size(); ++i)
      for (std::size_t c = 0; c < k; ++c) sum.data()[i * k + c] /= std::max(1.0f, count[i]);
    return sum;
  }

  std::shared_ptr<glnet_networks> n_;
  data::normalization norm_;
  glnet_mode mode_;
  int view_;
  glnet_view maps_;
  window region_;
  std::size_t peak_ = 0;
};

/// Windows for a predictor that looks at views of `view` pixels, or at patches of the whole scene (view 0).
inline segment_options view_tiling(int patch, int patch_overlap, int view, int view_overlap, const data::normalization& norm) {
  segment_options o;
  o.tile = view == 0 ? patch : view, o.normalize = norm;
  const int overlap = view == 0 ? patch_overlap : view_overlap >= 0 ? view_overlap : view / 8;
  if (overlap >= o.tile) throw usage_error("an overlap of " + std::to_string(overlap) + " leaves nothing of views of " + std::to_string(o.tile));
  o.cut = [overlap](int length, int tile) { return even_cut(length, tile, overlap); };
  return o;
}

/// Learns one stage of a GLNet whose earlier stages are in `n`.
class glnet_learner final : public stage_learner {
 public:
  glnet_learner(std::shared_ptr<glnet_networks> n, int stage, data::normalization norm, int view)
      : n_(std::move(n)), stage_(stage), norm_(std::move(norm)), view_(view), maps_(*n_) {}

  double step(const data::batch& b, const tensor<float>* class_weights, const train::train_options&, const cpu::run_state& state) override {
    clear_gradients();
    const tensor<float> images = resized(b.images, n_->patch, n_->patch);
    if (stage_ == 0) return train_on(*n_->global, with({&images}, class_weights), {{"logits", &b.targets}}, state, gradients_, 1, limit_);
    const int count = b.images.extent().n;
    double loss = 0;
    for (int i = 0; i < count; ++i) {
      const tensor<float> image = part_of(images, i, 0, 0, n_->patch, n_->patch);
      maps_.begin(image, view_, view_);
      const std::vector<std::pair<int, int>> at = draw(state, i);
      tensor<float> patches(shape{int(at.size()), b.images.extent().c, n_->patch, n_->patch});
      tensor<std::int32_t> labels(shape{int(at.size()), 1, n_->patch, n_->patch});
      for (std::size_t q = 0; q < at.size(); ++q)
        copy_part(b.images, i, at[q].first, at[q].second, patches, int(q)), copy_part(b.targets, i, at[q].first, at[q].second, labels, int(q));
      loss += stage_ == 1 ? local_step(patches, labels, at, class_weights, state, 1.0 / count)
                          : fed_step(b, i, image, labels, at, class_weights, state, 1.0 / count);
    }
    return loss;
  }
  train::confusion_matrix validate(const data::dataset& set, const train::train_options&, const train::image_callback& each) override {
    const glnet_mode mode = stage_ == 0 ? glnet_mode::global : stage_ == 1 ? glnet_mode::g2l : glnet_mode::both;
    glnet_predictor p(n_, norm_, mode, view_);
    return train::evaluate(p, set, view_tiling(n_->patch, n_->overlap, view_, -1, norm_), each);
  }

 protected:
  placed_network& model() override { return stage_ == 0 ? *n_->global : stage_ == 1 ? *n_->local : *n_->both; }

 private:
  static std::vector<const tensor<float>*> with(std::vector<const tensor<float>*> inputs, const tensor<float>* class_weights) {
    if (class_weights) inputs.push_back(class_weights);
    return inputs;
  }
  /// Four patches of the view's grid, or all if there are fewer: without repetition, by (seed, step, image).
  std::vector<std::pair<int, int>> draw(const cpu::run_state& state, int image) const {
    std::vector<std::pair<int, int>> all;
    for (const int top : maps_.tops())
      for (const int left : maps_.lefts()) all.emplace_back(top, left);
    random_stream r(state.seed, 0x474C'4E65'7400ull + std::uint64_t(image), state.step << 8);
    const std::size_t wanted = std::min<std::size_t>(all.size(), 4);
    for (std::size_t i = 0; i < wanted; ++i) std::swap(all[i], all[i + r.below(std::uint32_t(all.size() - i))]);
    all.resize(wanted);
    return all;
  }
  double local_step(const tensor<float>& patches, const tensor<std::int32_t>& labels, const std::vector<std::pair<int, int>>& at,
                    const tensor<float>* class_weights, const cpu::run_state& state, double factor) {
    const std::vector<tensor<float>> windows = maps_.windows(at);
    std::vector<const tensor<float>*> inputs{&patches};
    for (const auto& w : windows) inputs.push_back(&w);
    return train_on(*n_->local, with(inputs, class_weights), {{"ensemble", &labels}, {"local", &labels}}, state, gradients_, factor, limit_);
  }
  double fed_step(const data::batch& b, int i, const tensor<float>& image, const tensor<std::int32_t>& labels,
                  const std::vector<std::pair<int, int>>& at, const tensor<float>* class_weights, const cpu::run_state& state, double factor) {
    tensor<float> joined, where(shape{int(at.size()), 1, 4, 1});
    for (const int top : maps_.tops())
      for (const int left : maps_.lefts()) {
        maps_.run_local(part_of(b.images, i, top, left, n_->patch, n_->patch), top, left);
        maps_.merge(top, left);
        const auto found = std::find(at.begin(), at.end(), std::pair<int, int>(top, left));
        if (found == at.end()) continue;
        const tensor<float> one = n_->local->output("joined");
        const shape s = one.extent();
        if (joined.size() == 0) joined = tensor<float>(shape{int(at.size()), s.c, s.h, s.w});
        std::copy(one.begin(), one.end(), joined.data() + std::size_t(found - at.begin()) * one.size());
      }
    const shape g = n_->global->inference().extent(n_->global->inference().graph().outputs[17].node);  // of `joined`
    for (std::size_t q = 0; q < at.size(); ++q) {
      const map_span rows(g.h, at[q].first, n_->patch, view_), columns(g.w, at[q].second, n_->patch, view_);
      float* w = where.data() + 4 * q;
      w[0] = float(rows.begin), w[1] = float(columns.begin), w[2] = float(rows.count), w[3] = float(columns.count);
    }
    const std::vector<tensor<float>>& merged = maps_.finish_merge();
    std::vector<const tensor<float>*> inputs{&image};
    for (const auto& m : merged) inputs.push_back(&m);
    inputs.push_back(&joined), inputs.push_back(&where);
    const tensor<std::int32_t> whole = part_of(b.targets, i, 0, 0, view_, view_);
    return train_on(*n_->both, with(inputs, class_weights), {{"global", &whole}, {"ensemble", &labels}}, state, gradients_, factor, limit_);
  }

  std::shared_ptr<glnet_networks> n_;
  int stage_;
  data::normalization norm_;
  int view_;
  glnet_view maps_;
};

namespace detail {
template <class Size>
std::shared_ptr<glnet_networks> glnet_of(const system_settings& s) {
  auto n = std::make_shared<glnet_networks>();
  n->parts = glnet_parts_of<Size>, n->options.classes = s.info.classes, n->options.bands = s.info.bands;
  n->patch = s.patch, n->overlap = std::max(4, s.patch / 10), n->where = s.where;
  return n;
}
/// The last convolution of a pyramid with a companion starts as the one without: its own maps pass through, the companion's are left out.
inline void pass_own_maps(parameter_store<float>& store, const std::string& name, int width) {
  const int e = store.find(name + ".weight"), bias = store.find(name + ".bias");
  if (e < 0) return;
  const std::size_t half = std::size_t(width) / 2, in = 4 * std::size_t(width);
  std::vector<float> w(store.entries()[std::size_t(e)].size, 0.0f);
  for (std::size_t level = 0; level < 4; ++level)
    for (std::size_t j = 0; j < half; ++j) w[((level * half + j) * in + level * 2 * half + j) * 9 + 4] = 1;
  store.from_file_order(e, w.data());
  if (bias >= 0) store.from_file_order(bias, std::vector<float>(store.entries()[std::size_t(bias)].size, 0.0f).data());
}
template <class Size>
std::unique_ptr<train::learner> glnet_stage(const system& sys, int stage, const system_settings& s, const std::string& folder, std::uint64_t seed) {
  const auto n = glnet_of<Size>(s);
  n->make(stage + 1);
  if (stage == 0) n->global->weights().initialise(seed);
  if (stage > 0) load_stage(sys, 0, folder, n->global->weights());
  if (stage == 1) {
    n->local->weights().initialise(seed);
    copy_weights(n->global->weights(), n->local->weights(), "resnet_global.", "net.resnet_local.");
    copy_weights(n->global->weights(), n->local->weights(), "fpn_global.", "net.fpn_local.");
    copy_weights(n->global->weights(), n->local->weights(), "fpn_global.classify.", "net.ensemble_conv.");
    pass_own_maps(n->local->weights(), "net.fpn_local.smooth", Size::width);
  }
  if (stage == 2) {
    load_stage(sys, 1, folder, n->local->weights());
    n->both->weights().initialise(seed);
    copy_weights(n->global->weights(), n->both->weights(), "resnet_global.", "net.resnet_global.");
    copy_weights(n->global->weights(), n->both->weights(), "fpn_global.", "net.fpn_global.", "_ext");
    pass_own_maps(n->both->weights(), "net.fpn_global.smooth", Size::width);
    copy_weights(n->local->weights(), n->both->weights(), "net.ensemble_conv.", "net.ensemble_conv.");
  }
  return std::make_unique<glnet_learner>(n, stage, data::normalization::parse(s.info.normalize), s.view);
}
template <class Size>
made_predictor glnet_maps(const system& sys, const system_settings& s, const std::string& folder, const predictor_options& o) {
  const std::string mode = mode_named(sys, o.mode);
  const glnet_mode m = mode == "global"  ? glnet_mode::global
                       : mode == "local" ? glnet_mode::local
                       : mode == "g2l"   ? glnet_mode::g2l
                       : mode == "l2g"   ? glnet_mode::l2g
                                         : glnet_mode::both;
  const int stages = m == glnet_mode::global ? 1 : m == glnet_mode::local || m == glnet_mode::g2l ? 2 : 3;
  const auto n = glnet_of<Size>(s);
  n->memory_limit = o.memory_limit;
  n->make(stages);
  load_stage(sys, 0, folder, n->global->weights());
  if (stages > 1) load_stage(sys, 1, folder, n->local->weights());
  if (stages > 2) load_stage(sys, 2, folder, n->both->weights());
  const data::normalization norm = data::normalization::parse(s.info.normalize);
  const int view = o.view < 0 ? s.view : o.view;
  if (view != 0 && (view < s.patch || view % 4 != 0))
    throw usage_error("--view " + std::to_string(view) + ": give 0 or a multiple of 4 that is at least the patch of " + std::to_string(s.patch));
  made_predictor p;
  p.predictor = std::make_unique<glnet_predictor>(n, norm, m, view);
  p.tiling = view_tiling(n->patch, n->overlap, view, o.overlap, norm);
  return p;
}
template <class Size>
system glnet_system(const char* name, const char* title, const char* note, int patch, int view, recipe first) {
  recipe second = first, third = first;
  second.learning_rate *= 0.4;
  if (Size::depth != 50) third.learning_rate *= 0.4;
  return {name,
          title,
          "Chen et al., CVPR 2019",
          note,
          {{"global", "the global branch on down-sampled views", first, "focal3"},
           {"global-to-local", "the local branch on patches, fed by the fixed global one", second, "focal3"},
           {"local-to-global", "the global branch fed by the fixed local one, and their ensemble", third, "focal3"}},
          {"both", "l2g", "g2l", "local", "global"},
          patch,
          view,
          4,
          &glnet_stage<Size>,
          &glnet_maps<Size>};
}
}  // namespace detail

inline system glnet() {
  return detail::glnet_system<BranchSize<>>("glnet", "GLNet", "two ResNet-50 pyramids", 508, 2448, recipe{"adam", 5e-5, 0.9, 5e-4, "poly", 6, 2448});
}
/// Ours: ResNet-18 of half width, pyramids of 64 channels.
inline system glnet_compact() {
  return detail::glnet_system<CompactBranch>("glnet-compact", "GLNet, compact", "ResNet-18 of half width; ours", 256, 896,
                                             recipe{"adamw", 1e-3, 0.9, 1e-2, "poly", 2, 896});
}

}  // namespace rsseg::scene
