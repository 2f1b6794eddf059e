// SPDX-License-Identifier: MIT
// MagNet over scenes (Huynh et al., CVPR 2021): a view of the scene is segmented at its coarsest scale, and scale by scale, each twice as
// fine, patches are segmented anew, merged with what the coarser scale says by the refinement module, and taken where the old prediction
// is uncertain and the new one certain (magnet_level.hpp).
//   magnet   every patch of every scale, three quarters of the pixels may change
//   fast     the `fast_patches` most uncertain patches of each scale, nine tenths of their pixels may change
//   coarse   the segmenter alone on the down-sampled view
//   patches  the segmenter alone on full-resolution patches
// A view is as large as in training (or the whole scene, view 0: memory then grows with it); its score map and one patch are what is kept.
// Scales: patch, 2 patch, 4 patch, ..., view. Any number.
// Stages: 1 the segmenter, on crops of random scales; 2 the refinement module, segmenter fixed, OHEM cross entropy.
// Ours: patches are ordered by decreasing uncertainty, the fast form selects inside the chosen patches, overlaps are averaged.
#pragma once
#include "rsseg/nets/magnet.hpp"
#include "rsseg/refine/softmax.hpp"
#include "rsseg/scene/glnet.hpp"
#include "rsseg/scene/magnet_level.hpp"

namespace rsseg::scene {

struct magnet_networks {
  std::unique_ptr<placed_network> segmenter, refinement;
  int patch = 508, classes = 0;
};

/// Sides of the scales: the coarsest is the patch, the finest the view.
inline std::vector<int> magnet_scales(int patch, int view) {
  std::vector<int> s{patch};
  while (s.back() < view) s.push_back(int(std::min<std::int64_t>(view, 2ll * s.back())));
  return s;
}

enum class magnet_mode { magnet, fast, coarse, patches };

class magnet_predictor : public scene_predictor {
 public:
  magnet_predictor(std::shared_ptr<magnet_networks> n, data::normalization norm, magnet_mode mode, int fast_patches = 3)
      : n_(std::move(n)), norm_(std::move(norm)), mode_(mode), fast_patches_(fast_patches) {}

  void start(io::raster_source& scene) override { norm_.require_bands(scene.info().bands); }
  tensor<float> scores(io::raster_source& scene, std::span<const window> windows) override {
    tensor<float> out;
    for (std::size_t i = 0; i < windows.size(); ++i) {
      const tensor<float> one =
          mode_ == magnet_mode::patches ? n_->segmenter->infer(read_windows(scene, {&windows[i], 1}, norm_)) : of_view(scene, windows[i]);
      const shape s = one.extent();
      if (i == 0) out = tensor<float>(shape{int(windows.size()), s.c, s.h, s.w});
      std::copy(one.begin(), one.end(), out.data() + i * one.size());
    }
    return out;
  }
  std::size_t bytes() const override {
    return n_->segmenter->inference().bytes() + (n_->refinement ? n_->refinement->inference().bytes() : 0) + kept_;
  }

 private:
  std::vector<float> segmented(const tensor<float>& x) {
    n_->segmenter->run({as_input(x)});
    return probabilities(*n_->segmenter);
  }
  static std::vector<float> probabilities(placed_network& m) {
    const auto [s, values] = m.inference().output(0);
    std::vector<float> p(std::size_t(s.size()));
    refine::softmax(values, std::int64_t(s.h) * s.w, s.c, p.data());
    return p;
  }
  std::vector<float> refined(const std::vector<float>& fine, const std::vector<float>& coarse) {
    const shape s{1, n_->classes, n_->patch, n_->patch};
    n_->refinement->run({{s, fine.data()}, {s, coarse.data()}});
    return probabilities(*n_->refinement);
  }
  tensor<float> of_view(io::raster_source& scene, const window& v) {
    const int p = n_->patch, k = n_->classes;
    int h = p, w = p;
    std::vector<float> y = segmented(resized_view(scene, v, p, p, norm_));
    const std::vector<int> rows = magnet_scales(p, v.height), columns = magnet_scales(p, v.width);
    const std::size_t levels = mode_ == magnet_mode::coarse ? 1 : std::max(rows.size(), columns.size());
    for (std::size_t level = 1; level < levels; ++level) {
      const int nh = rows[std::min(level, rows.size() - 1)], nw = columns[std::min(level, columns.size() - 1)];
      y = resize_map(y.data(), h, w, k, nh, nw), h = nh, w = nw;
      this->level(scene, v, y, h, w);
      kept_ = std::max(kept_, y.size() * sizeof(float) * 2);
    }
    tensor<float> out(shape{1, k, h, w});
    for (std::size_t i = 0; i < y.size(); ++i) out.data()[i] = std::log(std::max(y[i], 1e-7f));
    return out;
  }
  /// Refines y (h,w,K), which comes from the scale before.
  void level(io::raster_source& scene, const window& v, std::vector<float>& y, int h, int w) {
    const int p = n_->patch, k = n_->classes;
    std::vector<float> u = certainty(y.data(), std::int64_t(h) * w, k);
    for (float& x : u) x = 1 - x;
    std::vector<patch_box> boxes = magnet_patches(w, h, p, p);
    const bool fast = mode_ == magnet_mode::fast;
    if (fast && boxes.size() > std::size_t(fast_patches_)) {
      std::vector<std::pair<double, std::size_t>> order;
      for (std::size_t i = 0; i < boxes.size(); ++i) {
        double sum = 0;
        for (int r = 0; r < boxes[i].height; ++r)
          for (int c = 0; c < boxes[i].width; ++c) sum += u[std::size_t(boxes[i].y + r) * std::size_t(w) + std::size_t(boxes[i].x + c)];
        order.emplace_back(-sum / (double(boxes[i].height) * boxes[i].width), i);
      }
      std::sort(order.begin(), order.end());
      std::vector<patch_box> chosen;
      for (int i = 0; i < fast_patches_; ++i) chosen.push_back(boxes[order[std::size_t(i)].second]);
      boxes = std::move(chosen);
    }
    patch_ensemble<float> ensemble(h, w, k, false);
    for (const patch_box& b : boxes) {
      // the patch's part of the scene; sides of the view are not always multiples of the scale's
      const auto at = [](int i, int size, int whole) { return int(std::int64_t(i) * whole / size); };
      window part{v.x + at(b.x, w, v.width), v.y + at(b.y, h, v.height), 0, 0};
      part.width = v.x + at(b.x + b.width, w, v.width) - part.x, part.height = v.y + at(b.y + b.height, h, v.height) - part.y;
      const std::vector<float> fine = segmented(resized_view(scene, part, p, p, norm_));
      ensemble.add(b, refined(fine, patch_of(y.data(), h, w, k, b.x, b.y, b.x + b.width, b.y + b.height, p, p)).data(), p, p);
    }
    const std::vector<std::uint8_t> covered = ensemble.covered();
    const std::vector<float> r = ensemble.finish();
    const std::vector<float> e = error_score(certainty(r.data(), std::int64_t(h) * w, k), u, h, w, p, p, 11);
    std::vector<std::int32_t> where;
    for (std::size_t i = 0; i < covered.size(); ++i)
      if (covered[i]) where.push_back(std::int32_t(i));
    std::vector<float> of_covered(where.size());
    for (std::size_t i = 0; i < where.size(); ++i) of_covered[i] = e[std::size_t(where[i])];
    const auto count = std::int64_t((fast ? 0.9 : 0.75) * double(where.size()));
    for (const std::int32_t i : cpu::largest_indices(of_covered.data(), std::int64_t(of_covered.size()), count)) {
      const std::size_t pixel = std::size_t(where[std::size_t(i)]) * std::size_t(k);
      std::copy_n(r.begin() + std::ptrdiff_t(pixel), k, y.begin() + std::ptrdiff_t(pixel));
    }
  }

  std::shared_ptr<magnet_networks> n_;
  data::normalization norm_;
  magnet_mode mode_;
  int fast_patches_;
  std::size_t kept_ = 0;
};

class magnet_learner final : public stage_learner {
 public:
  magnet_learner(std::shared_ptr<magnet_networks> n, int stage, data::normalization norm, int view)
      : n_(std::move(n)), stage_(stage), norm_(std::move(norm)), scales_(magnet_scales(n_->patch, view)), view_(view) {}

  double step(const data::batch& b, const tensor<float>* class_weights, const train::train_options&, const cpu::run_state& state) override {
    clear_gradients();
    const int p = n_->patch, k = n_->classes, count = b.images.extent().n;
    tensor<float> patches(shape{count, b.images.extent().c, p, p});
    tensor<std::int32_t> labels(shape{count, 1, p, p});
    std::vector<float> fine, coarse;
    for (int i = 0; i < count; ++i) {
      random_stream r(state.seed, 0x4D61'674Eull + std::uint64_t(i), state.step << 8);
      // refinement: any scale but the coarsest; a side of the patch at this scale covers `side` pixels of the view
      const int scale = scales_.size() == 1 ? scales_[0] : scales_[stage_ + r.below(std::uint32_t(scales_.size()) - std::uint32_t(stage_))];
      const int side = std::min(view_, int(std::int64_t(p) * view_ / scale));
      const int y = int(r.below(std::uint32_t(view_ - side + 1))), x = int(r.below(std::uint32_t(view_ - side + 1)));
      const tensor<float> part = resized(part_of(b.images, i, y, x, side, side), p, p);
      std::copy(part.begin(), part.end(), patches.data() + std::size_t(i) * part.size());
      for (int v = 0; v < p; ++v)
        for (int u = 0; u < p; ++u) labels(i, 0, v, u) = b.targets(i, 0, y + int(std::int64_t(v) * side / p), x + int(std::int64_t(u) * side / p));
      if (stage_ == 0) continue;
      // both through the fixed segmenter; the coarse map's part by roi_align
      const std::vector<float> f = probabilities(part);
      const std::vector<float> c = probabilities(resized(part_of(b.images, i, 0, 0, view_, view_), p, p));
      const double to = double(p) / view_;
      const std::vector<float> crop = patch_of(c.data(), p, p, k, x * to, y * to, (x + side) * to, (y + side) * to, p, p);
      fine.insert(fine.end(), f.begin(), f.end()), coarse.insert(coarse.end(), crop.begin(), crop.end());
    }
    std::vector<const tensor<float>*> inputs;
    tensor<float> a, c;
    if (stage_ == 0) {
      inputs = {&patches};
    } else {
      a = tensor<float>(shape{count, k, p, p}), c = tensor<float>(shape{count, k, p, p});
      std::copy(fine.begin(), fine.end(), a.data()), std::copy(coarse.begin(), coarse.end(), c.data());
      inputs = {&a, &c};
    }
    if (class_weights) inputs.push_back(class_weights);
    return train_on(model(), inputs, {{"logits", &labels}}, state, gradients_, 1, limit_);
  }
  train::confusion_matrix validate(const data::dataset& set, const train::train_options&, const train::image_callback& each) override {
    magnet_predictor p(n_, norm_, stage_ == 0 ? magnet_mode::patches : magnet_mode::magnet);
    return train::evaluate(p, set, view_tiling(n_->patch, n_->patch / 4, stage_ == 0 ? 0 : view_, -1, norm_), each);
  }

 protected:
  placed_network& model() override { return stage_ == 0 ? *n_->segmenter : *n_->refinement; }

 private:
  std::vector<float> probabilities(const tensor<float>& x) {
    tensor<float> y = n_->segmenter->infer(x);
    refine::softmax(y.data(), std::int64_t(y.extent().h) * y.extent().w, y.extent().c, y.data());
    return {y.begin(), y.end()};
  }
  std::shared_ptr<magnet_networks> n_;
  int stage_;
  data::normalization norm_;
  std::vector<int> scales_;
  int view_;
};

namespace detail {
template <class Size, int Width>
std::shared_ptr<magnet_networks> magnet_of(const system_settings& s, bool refinement) {
  build_options b;
  b.classes = s.info.classes, b.bands = s.info.bands;
  auto n = std::make_shared<magnet_networks>();
  n->segmenter = std::make_unique<placed_network>(&MagNetBackbone<from_data, Size>::build, b, s.where);
  if (refinement) n->refinement = std::make_unique<placed_network>(&MagNetRefinement<from_data, Width>::build, b, s.where);
  n->patch = s.patch, n->classes = s.info.classes;
  return n;
}
template <class Size, int Width>
std::unique_ptr<train::learner> magnet_stage(const system& sys, int stage, const system_settings& s, const std::string& folder, std::uint64_t seed) {
  const auto n = magnet_of<Size, Width>(s, stage > 0);
  if (stage == 0)
    n->segmenter->weights().initialise(seed);
  else
    load_stage(sys, 0, folder, n->segmenter->weights()), n->refinement->weights().initialise(seed);
  return std::make_unique<magnet_learner>(n, stage, data::normalization::parse(s.info.normalize), s.view);
}
template <class Size, int Width>
made_predictor magnet_maps(const system& sys, const system_settings& s, const std::string& folder, const predictor_options& o) {
  const std::string mode = mode_named(sys, o.mode);
  const magnet_mode m = mode == "fast"      ? magnet_mode::fast
                        : mode == "coarse"  ? magnet_mode::coarse
                        : mode == "patches" ? magnet_mode::patches
                                            : magnet_mode::magnet;
  const bool refinement = m == magnet_mode::magnet || m == magnet_mode::fast;
  const auto n = magnet_of<Size, Width>(s, refinement);
  n->segmenter->set_memory_limit(o.memory_limit);
  if (refinement) n->refinement->set_memory_limit(o.memory_limit);
  load_stage(sys, 0, folder, n->segmenter->weights());
  if (refinement) load_stage(sys, 1, folder, n->refinement->weights());
  const data::normalization norm = data::normalization::parse(s.info.normalize);
  made_predictor p;
  p.predictor = std::make_unique<magnet_predictor>(n, norm, m);
  const int view = o.view < 0 ? s.view : o.view;
  if (view > 0 && view < s.patch)
    throw usage_error("--view " + std::to_string(view) + ": give 0 or at least the patch of " + std::to_string(s.patch));
  if (m != magnet_mode::patches && view == 0) {  // one window: the scene
    p.tiling.normalize = norm, p.tiling.tile = 0;
    p.tiling.cut = [](int length, int) { return std::vector<span_1d>{{0, 0, length}}; };
  } else {
    p.tiling = view_tiling(s.patch, s.patch / 4, m == magnet_mode::patches ? 0 : view, o.overlap, norm);
  }
  return p;
}
template <class Size, int Width>
system magnet_system(const char* name, const char* title, const char* note, int patch, int view, recipe segmenter, recipe refinement) {
  return {name,
          title,
          "Huynh et al., CVPR 2021",
          note,
          {{"segmenter", "the segmenter on crops of random scales", segmenter, "ce"},
           {"refinement", "the refinement module, segmenter fixed", refinement, "ohem"}},
          {"magnet", "fast", "coarse", "patches"},
          patch,
          view,
          4,
          &magnet_stage<Size, Width>,
          &magnet_maps<Size, Width>};
}
}  // namespace detail

inline system magnet() {
  return detail::magnet_system<BranchSize<>, 64>("magnet", "MagNet", "ResNet-50 pyramid, the DeepGlobe setting", 508, 2448,
                                                 recipe{"sgd", 0.01, 0.9, 5e-4, "poly", 12, 2448}, recipe{"sgd", 1e-3, 0.9, 5e-4, "step", 8, 2448});
}
/// Ours: ResNet-18 of half width, refinement of 16 channels.
inline system magnet_compact() {
  return detail::magnet_system<CompactBranch, 16>("magnet-compact", "MagNet, compact", "ResNet-18 of half width; ours", 256, 896,
                                                  recipe{"adamw", 1e-3, 0.9, 1e-2, "poly", 8, 896}, recipe{"adamw", 1e-3, 0.9, 1e-2, "poly", 4, 896});
}

}  // namespace rsseg::scene
