// SPDX-License-Identifier: MIT
// Hierarchical auto-zoom over scenes (Xia et al., ECCV 2016): a view is segmented down-sampled, the network proposes objects, each is cut
// from the scene at the zoom that brings its long side to a target and segmented again; so are the parts it proposes in turn. Scores are
// merged by confidence.
//   image   the view brought to the patch's side; boxes of confidence above 0.5, non-maximum suppression at IoU 0.5, at most 20
//   object  zoom = target / long side, within 0.4 .. 2.5; target 0.8 of the patch
//   region  the same for the boxes that the object level proposes
//   merged  (S0 + sum c_i S_i) / (1 + sum c_i) over the boxes that hold a pixel
// In pictures from above an object is a connected area of one class; cells of stride 8. An object's crop is square, half as wide again.
// Memory: the score map of one view and one crop. Modes: all levels, objects (two levels), image (the first).
#pragma once
#include "rsseg/nets/hazn.hpp"
#include "rsseg/scene/glnet.hpp"

namespace rsseg::scene {

/// A proposal in pixels of its image.
struct zoom_box {
  double x0 = 0, y0 = 0, x1 = 0, y1 = 0, confidence = 0;
  double side() const { return std::max(x1 - x0, y1 - y0); }
};

/// Confident boxes of maps (h,w,4) and (h,w,2), suppressed, the surest first. cell: pixels per cell.
inline std::vector<zoom_box> zoom_proposals(const float* boxes, const float* confidence, int h, int w, double cell, int most = 20) {
  std::vector<zoom_box> all, kept;
  for (int y = 0; y < h; ++y)
    for (int x = 0; x < w; ++x) {
      const float *b = boxes + 4 * (std::size_t(y) * std::size_t(w) + std::size_t(x)),
                  *c = confidence + 2 * (std::size_t(y) * std::size_t(w) + std::size_t(x));
      const double p = 1 / (1 + std::exp(double(c[0]) - double(c[1])));
      if (!(p > 0.5)) continue;
      const double bw = std::exp(std::clamp(double(b[2]), -3.0, 8.0)), bh = std::exp(std::clamp(double(b[3]), -3.0, 8.0));
      const double cx = x + 0.5 + std::clamp(double(b[0]), -1e3, 1e3), cy = y + 0.5 + std::clamp(double(b[1]), -1e3, 1e3);
      zoom_box z{std::max(0.0, cx - bw / 2) * cell, std::max(0.0, cy - bh / 2) * cell, std::min(double(w), cx + bw / 2) * cell,
                 std::min(double(h), cy + bh / 2) * cell, p};
      if (z.x1 - z.x0 >= cell && z.y1 - z.y0 >= cell) all.push_back(z);
    }
  std::stable_sort(all.begin(), all.end(), [](const zoom_box& a, const zoom_box& b) { return a.confidence > b.confidence; });
  const auto area = [](const zoom_box& z) { return (z.x1 - z.x0) * (z.y1 - z.y0); };
  for (const zoom_box& z : all) {
    bool fresh = true;
    for (const zoom_box& k : kept) {
      const double iw = std::min(z.x1, k.x1) - std::max(z.x0, k.x0), ih = std::min(z.y1, k.y1) - std::max(z.y0, k.y0);
      if (iw > 0 && ih > 0 && iw * ih > 0.5 * (area(z) + area(k) - iw * ih)) fresh = false;
    }
    if (fresh) kept.push_back(z);
    if (int(kept.size()) == most) break;
  }
  return kept;
}

/// Objects of a grid of labels (h,w): connected cells of one class, at least 4 of them, and less than 0.6 of the grid along both axes.
/// cells: per object the indices of its cells.
inline std::vector<zoom_box> zoom_objects(const std::vector<std::int32_t>& labels, int h, int w, int ignore,
                                          std::vector<std::vector<int>>* cells = nullptr) {
  std::vector<zoom_box> out;
  std::vector<bool> seen(labels.size(), false);
  std::vector<int> stack, own;
  for (int start = 0; start < h * w; ++start) {
    if (seen[std::size_t(start)] || labels[std::size_t(start)] == ignore) continue;
    stack.assign(1, start), own.clear(), seen[std::size_t(start)] = true;
    zoom_box z{1e9, 1e9, 0, 0, 1};
    while (!stack.empty()) {
      const int i = stack.back(), y = i / w, x = i % w;
      stack.pop_back(), own.push_back(i);
      z.x0 = std::min(z.x0, double(x)), z.y0 = std::min(z.y0, double(y)), z.x1 = std::max(z.x1, x + 1.0), z.y1 = std::max(z.y1, y + 1.0);
      for (const auto& [v, u] : {std::pair<int, int>{y - 1, x}, {y + 1, x}, {y, x - 1}, {y, x + 1}}) {
        if (v < 0 || u < 0 || v >= h || u >= w) continue;
        const std::size_t j = std::size_t(v) * std::size_t(w) + std::size_t(u);
        if (!seen[j] && labels[j] == labels[std::size_t(start)]) seen[j] = true, stack.push_back(int(j));
      }
    }
    if (own.size() < 4 || z.x1 - z.x0 > 0.6 * w || z.y1 - z.y0 > 0.6 * h) continue;
    out.push_back(z);
    if (cells) cells->push_back(own);
  }
  return out;
}

struct hazn_networks {
  std::unique_ptr<placed_network> levels[3];
  int patch = 320, classes = 0;
  double target() const { return 0.8 * patch; }
};

class hazn_predictor : public scene_predictor {
 public:
  /// levels: 1 image, 2 and objects, 3 and regions.
  hazn_predictor(std::shared_ptr<hazn_networks> n, data::normalization norm, int levels)
      : n_(std::move(n)), norm_(std::move(norm)), levels_(levels) {}
  void start(io::raster_source& scene) override { norm_.require_bands(scene.info().bands); }
  tensor<float> scores(io::raster_source& scene, std::span<const window> windows) override {
    tensor<float> out;
    for (std::size_t i = 0; i < windows.size(); ++i) {
      const tensor<float> one = of_view(scene, windows[i]);
      const shape s = one.extent();
      if (i == 0) out = tensor<float>(shape{int(windows.size()), s.c, s.h, s.w});
      std::copy(one.begin(), one.end(), out.data() + i * one.size());
    }
    return out;
  }
  std::size_t bytes() const override {
    std::size_t sum = 0;
    for (int i = 0; i < levels_; ++i) sum += n_->levels[i]->inference().bytes();
    return sum + kept_;
  }

 private:
  static std::pair<shape, const float*> output(placed_network& m, int which) { return m.inference().output(which); }
  /// Runs `level` on a region of the scene brought to (h,w); proposals in pixels of the scene.
  std::vector<zoom_box> look(io::raster_source& scene, int level, const window& region, int h, int w) {
    const tensor<float> seen = resized_view(scene, region, h, w, norm_);
    n_->levels[level]->run({as_input(seen)});
    const auto [s, boxes] = output(*n_->levels[level], 1);
    std::vector<zoom_box> out = zoom_proposals(boxes, output(*n_->levels[level], 2).second, s.h, s.w, 8);
    const double fx = double(region.width) / w, fy = double(region.height) / h;
    for (zoom_box& z : out) z = {region.x + z.x0 * fx, region.y + z.y0 * fy, region.x + z.x1 * fx, region.y + z.y1 * fy, z.confidence};
    return out;
  }
  tensor<float> of_view(io::raster_source& scene, const window& v) {
    const int k = n_->classes, side = n_->patch;
    std::vector<zoom_box> boxes = look(scene, 0, v, side, side);
    tensor<float> sum(shape{1, k, v.height, v.width});
    std::vector<float> weight(std::size_t(v.height) * std::size_t(v.width), 1.0f);
    const auto [s0, first] = output(*n_->levels[0], 0);
    for (int y = 0; y < v.height; ++y)
      for (int x = 0; x < v.width; ++x)
        detail::sample_scores(first, s0.h, s0.w, k, v.height, v.width, y, x,
                              sum.data() + (std::size_t(y) * std::size_t(v.width) + std::size_t(x)) * std::size_t(k));
    kept_ = std::max(kept_, (sum.size() + weight.size()) * sizeof(float));
    for (int level = 1; level < levels_; ++level) {
      std::vector<zoom_box> next;
      for (const zoom_box& b : boxes) {
        const double long_side = 1.5 * b.side();
        window r{int(std::floor((b.x0 + b.x1 - long_side) / 2)), int(std::floor((b.y0 + b.y1 - long_side) / 2)), 0, 0};
        r.width = r.height = std::max(16, int(std::ceil(long_side)));
        // The zoom of the box, and a side of few different values, so that networks are planned few times.
        const double zoom = std::clamp(n_->target() / b.side(), 0.4, 2.5);
        const int input = std::clamp(int(std::lround(r.width * zoom / 32)) * 32, 64, 2 * side);
        const std::vector<zoom_box> more = look(scene, level, r, input, input);
        if (level + 1 < levels_) next.insert(next.end(), more.begin(), more.end());
        const auto [s, map] = output(*n_->levels[level], 0);
        std::vector<float> p(static_cast<std::size_t>(k));
        const int y0 = std::max(0, int(b.y0) - v.y), y1 = std::min(v.height, int(std::ceil(b.y1)) - v.y);
        const int x0 = std::max(0, int(b.x0) - v.x), x1 = std::min(v.width, int(std::ceil(b.x1)) - v.x);
        for (int y = y0; y < y1; ++y)
          for (int x = x0; x < x1; ++x) {
            detail::sample_scores(map, s.h, s.w, k, r.height, r.width, y + v.y - r.y, x + v.x - r.x, p.data());
            const std::size_t at = std::size_t(y) * std::size_t(v.width) + std::size_t(x);
            for (int c = 0; c < k; ++c) sum.data()[at * std::size_t(k) + std::size_t(c)] += float(b.confidence) * p[std::size_t(c)];
            weight[at] += float(b.confidence);
          }
      }
      boxes = std::move(next);
    }
    for (std::size_t i = 0; i < weight.size(); ++i)
      for (int c = 0; c < k; ++c) sum.data()[i * std::size_t(k) + std::size_t(c)] /= weight[i];
    return sum;
  }

  std::shared_ptr<hazn_networks> n_;
  data::normalization norm_;
  int levels_;
  std::size_t kept_ = 0;
};

class hazn_learner final : public stage_learner {
 public:
  hazn_learner(std::shared_ptr<hazn_networks> n, std::unique_ptr<placed_network> training, int stage, data::normalization norm, int view)
      : n_(std::move(n)), training_(std::move(training)), stage_(stage), norm_(std::move(norm)), view_(view) {}
  void prepare(const train::train_options& o) override { ignore_ = o.loss.ignore, stage_learner::prepare(o); }

  double step(const data::batch& b, const tensor<float>* class_weights, const train::train_options&, const cpu::run_state& state) override {
    clear_gradients();
    const int p = n_->patch, count = b.images.extent().n, cells = (p + 7) / 8;
    tensor<float> images(shape{count, b.images.extent().c, p, p}), target(shape{count, 4, cells, cells}), weight(shape{count, 4, cells, cells});
    tensor<std::int32_t> labels(shape{count, 1, p, p}), confident(shape{count, 1, cells, cells});
    std::fill(target.begin(), target.end(), 0.0f), std::fill(weight.begin(), weight.end(), 0.0f);
    double positives = 0;
    for (int n = 0; n < count; ++n) {
      random_stream r(state.seed, 0x4841'5A4Eull + std::uint64_t(n), state.step << 8);
      int y = 0, x = 0, side = view_;
      if (stage_ > 0) choose(b.targets, n, r, y, x, side);
      const tensor<float> part = resized(part_of(b.images, n, y, x, side, side), p, p);
      std::copy(part.begin(), part.end(), images.data() + std::size_t(n) * part.size());
      for (int v = 0; v < p; ++v)
        for (int u = 0; u < p; ++u) labels(n, 0, v, u) = b.targets(n, 0, y + int(std::int64_t(v) * side / p), x + int(std::int64_t(u) * side / p));
      std::vector<std::int32_t> grid(std::size_t(cells) * std::size_t(cells));
      for (int v = 0; v < cells; ++v)
        for (int u = 0; u < cells; ++u) {
          const std::int32_t t = labels(n, 0, std::min(p - 1, 8 * v + 4), std::min(p - 1, 8 * u + 4));
          grid[std::size_t(v) * std::size_t(cells) + std::size_t(u)] = t, confident(n, 0, v, u) = t == ignore_ ? ignore_ : 0;
        }
      std::vector<std::vector<int>> members;
      const auto objects = zoom_objects(grid, cells, cells, ignore_, &members);
      for (std::size_t o = 0; o < objects.size(); ++o)
        for (const int i : members[o]) {
          const int v = i / cells, u = i % cells;
          const zoom_box& z = objects[o];
          confident(n, 0, v, u) = 1, ++positives;
          target(n, 0, v, u) = float((z.x0 + z.x1) / 2 - u - 0.5), target(n, 1, v, u) = float((z.y0 + z.y1) / 2 - v - 0.5);
          target(n, 2, v, u) = float(std::log(z.x1 - z.x0)), target(n, 3, v, u) = float(std::log(z.y1 - z.y0));
          for (int c = 0; c < 4; ++c) weight(n, c, v, u) = 1;
        }
    }
    for (float& w : weight) w = positives > 0 ? float(w / positives) : 0.0f;
    std::vector<const tensor<float>*> inputs{&images, &target, &weight};
    if (class_weights) inputs.push_back(class_weights);
    return train_on(*training_, inputs, {{"logits", &labels}, {"box_conf", &confident}}, state, gradients_, 1, limit_);
  }
  train::confusion_matrix validate(const data::dataset& set, const train::train_options&, const train::image_callback& each) override {
    auto& level = n_->levels[stage_]->weights();
    copy_weights(training_->weights(), level, "", "");
    hazn_predictor p(n_, norm_, stage_ + 1);
    return train::evaluate(p, set, view_tiling(n_->patch, 0, view_, -1, norm_), each);
  }

 protected:
  placed_network& model() override { return *training_; }

 private:
  /// A square around an object of the view, at the zoom the object would get; the last level takes half of an object.
  void choose(const tensor<std::int32_t>& targets, int n, random_stream& r, int& y, int& x, int& side) const {
    const int cells = view_ / 8;
    std::vector<std::int32_t> grid(std::size_t(cells) * std::size_t(cells));
    for (int v = 0; v < cells; ++v)
      for (int u = 0; u < cells; ++u) grid[std::size_t(v) * std::size_t(cells) + std::size_t(u)] = targets(n, 0, 8 * v + 4, 8 * u + 4);
    const auto objects = zoom_objects(grid, cells, cells, ignore_);
    zoom_box z{0, 0, double(cells), double(cells), 1};
    if (!objects.empty()) z = objects[r.below(std::uint32_t(objects.size()))];
    const double p = n_->patch, wanted = z.side() * 8 * 1.5 / (stage_ == 2 ? 2 : 1);
    side = std::min(view_, int(std::clamp(wanted, p / 2.5, p / 0.4)));
    const double jitter = side / 8.0;
    const double cy = (z.y0 + z.y1) * 4 + r.uniform(-jitter, jitter), cx = (z.x0 + z.x1) * 4 + r.uniform(-jitter, jitter);
    y = std::clamp(int(cy - side / 2.0), 0, view_ - side), x = std::clamp(int(cx - side / 2.0), 0, view_ - side);
  }

  std::shared_ptr<hazn_networks> n_;
  std::unique_ptr<placed_network> training_;
  int stage_;
  data::normalization norm_;
  int view_, ignore_ = 255;
};

namespace detail {
template <int Width, int Fc>
std::shared_ptr<hazn_networks> hazn_of(const system_settings& s, int levels) {
  build_options b;
  b.classes = s.info.classes, b.bands = s.info.bands;
  auto n = std::make_shared<hazn_networks>();
  for (int i = 0; i < levels; ++i) n->levels[i] = std::make_unique<placed_network>(&AutoZoomNet<from_data, true, Width, Fc>::build, b, s.where);
  n->patch = s.patch, n->classes = s.info.classes;
  return n;
}
template <int Width, int Fc>
std::unique_ptr<train::learner> hazn_stage(const system& sys, int stage, const system_settings& s, const std::string& folder, std::uint64_t seed) {
  const auto n = hazn_of<Width, Fc>(s, stage + 1);
  for (int i = 0; i < stage; ++i) load_stage(sys, i, folder, n->levels[i]->weights());
  auto training = std::make_unique<placed_network>(&AutoZoomTraining<from_data, Width, Fc>::build, n->levels[0]->options(), s.where);
  training->weights().initialise(seed);
  if (stage > 0) copy_weights(n->levels[stage - 1]->weights(), training->weights(), "", "");
  return std::make_unique<hazn_learner>(n, std::move(training), stage, data::normalization::parse(s.info.normalize), s.view);
}
template <int Width, int Fc>
made_predictor hazn_maps(const system& sys, const system_settings& s, const std::string& folder, const predictor_options& o) {
  const std::string mode = mode_named(sys, o.mode);
  const int levels = mode == "image" ? 1 : mode == "objects" ? 2 : 3;
  const auto n = hazn_of<Width, Fc>(s, levels);
  for (int i = 0; i < levels; ++i) n->levels[i]->set_memory_limit(o.memory_limit), load_stage(sys, i, folder, n->levels[i]->weights());
  const data::normalization norm = data::normalization::parse(s.info.normalize);
  const int view = o.view > 0 ? o.view : s.view;
  if (view < s.patch) throw usage_error("--view " + std::to_string(view) + ": give at least the patch of " + std::to_string(s.patch));
  made_predictor m;
  m.predictor = std::make_unique<hazn_predictor>(n, norm, levels);
  m.tiling = view_tiling(s.patch, 0, view, o.overlap, norm);
  return m;
}
template <int Width, int Fc>
system hazn_system(const char* name, const char* title, const char* note, int patch, int view, recipe r) {
  return {name,
          title,
          "Xia et al., ECCV 2016",
          note,
          {{"image", "the whole view, and where objects are", r, "ce"},
           {"object", "objects at their zoom, and where their parts are", r, "ce"},
           {"region", "parts at their zoom", r, "ce"}},
          {"all", "objects", "image"},
          patch,
          view,
          8,
          &hazn_stage<Width, Fc>,
          &hazn_maps<Width, Fc>};
}
}  // namespace detail

inline system hazn() {
  return detail::hazn_system<64, 1024>("hazn", "HAZN", "VGG-16 LargeFOV at three levels", 320, 640, recipe{"sgd", 1e-3, 0.9, 5e-4, "poly", 30, 640});
}
/// Ours: a quarter of the width.
inline system hazn_compact() {
  return detail::hazn_system<16, 128>("hazn-compact", "HAZN, compact", "a quarter of the width; ours", 256, 512,
                                      recipe{"adamw", 1e-3, 0.9, 1e-2, "poly", 4, 512});
}

}  // namespace rsseg::scene
