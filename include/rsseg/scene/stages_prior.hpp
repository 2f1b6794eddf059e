// SPDX-License-Identifier: MIT
// Prior knowledge as stages, over the functions of refine/constraints.hpp: what is known to be impossible, or how large things are.
//   forbid      a class cannot be where a co-registered raster is below (above) a value: no buildings where the height model is flat
//   neighbours  pairs of classes that never touch
//   size        least number of pixels of a region
//   area        least and largest share of the scene per class
#pragma once
#include <limits>

#include "rsseg/refine/constraints.hpp"
#include "rsseg/scene/stage.hpp"

namespace rsseg::scene {

namespace detail {
/// Makes `label` the most probable class by exchanging its probability with the largest.
inline void prefer(float* p, int classes, int label) {
  const int top = argmax(p, classes);
  if (top != label) std::swap(p[top], p[label]);
}
}  // namespace detail

/// where: a raster over the same ground, of any resolution; its band 0 is read at the nearest pixel. Exact.
class forbid_stage final : public window_stage {
 public:
  forbid_stage(int cls, std::shared_ptr<io::raster_source> where, double below, double above, int tile, std::string name)
      : window_stage(tile), class_(cls), where_(std::move(where)), below_(below), above_(above), name_(std::move(name)) {}
  std::string name() const override { return name_; }
  stage_reach reach() const override { return {}; }
  void refine(stage_window& w) override {
    const io::raster_info& info = where_->info();
    const auto at = [](int i, int extent, int scene) { return std::min(extent - 1, int((i + 0.5) * extent / scene)); };
    const int x0 = at(w.x, info.width, w.scene_width), x1 = at(w.x + w.w - 1, info.width, w.scene_width);
    const int y0 = at(w.y, info.height, w.scene_height), y1 = at(w.y + w.h - 1, info.height, w.scene_height);
    const int width = x1 - x0 + 1;
    std::vector<float> v(std::size_t(width) * std::size_t(y1 - y0 + 1) * std::size_t(info.bands));
    where_->read_window(x0, y0, width, y1 - y0 + 1, v.data());
    refine::forbid_class(w.scores.data(), std::int64_t(w.w) * w.h, w.classes, class_, [&](std::int64_t i) {
      const int x = at(w.x + int(i % w.w), info.width, w.scene_width) - x0, y = at(w.y + int(i / w.w), info.height, w.scene_height) - y0;
      const double value = double(v[(std::size_t(y) * std::size_t(width) + std::size_t(x)) * std::size_t(info.bands)]);
      return value < below_ || value > above_;
    });
  }

 private:
  int class_;
  std::shared_ptr<io::raster_source> where_;
  double below_, above_;
  std::string name_;
};

class neighbours_stage final : public window_stage {
 public:
  neighbours_stage(std::vector<std::pair<int, int>> pairs, double penalty, int tile, std::string name)
      : window_stage(tile), pairs_(std::move(pairs)), penalty_(penalty), name_(std::move(name)) {}
  std::string name() const override { return name_; }
  // 20 sweeps move a border by 20 pixels at most, mostly by a few.
  stage_reach reach() const override { return {24, 1, 0}; }
  void refine(stage_window& w) override {
    std::vector<double> forbid(std::size_t(w.classes) * std::size_t(w.classes), 0.0);
    for (const auto& [a, b] : pairs_) forbid[std::size_t(a * w.classes + b)] = forbid[std::size_t(b * w.classes + a)] = 1;
    std::vector<std::int32_t> label(std::size_t(w.w) * std::size_t(w.h));
    for (std::size_t i = 0; i < label.size(); ++i) label[i] = detail::argmax(w.scores.data() + i * std::size_t(w.classes), w.classes);
    refine::resolve_forbidden_neighbours(w.scores.data(), w.h, w.w, w.classes, forbid, penalty_, label.data());
    for (std::size_t i = 0; i < label.size(); ++i) detail::prefer(w.scores.data() + i * std::size_t(w.classes), w.classes, label[i]);
  }

 private:
  std::vector<std::pair<int, int>> pairs_;
  double penalty_;
  std::string name_;
};

/// A region of fewer pixels than `least` is never wider than that, so a halo of as much decides regions as the whole scene would, but for chains of
/// regions that join one another.
class size_stage final : public window_stage {
 public:
  size_stage(std::vector<std::int64_t> least, int tile, std::string name) : window_stage(tile), least_(std::move(least)), name_(std::move(name)) {}
  std::string name() const override { return name_; }
  stage_reach reach() const override { return {int(std::min<std::int64_t>(512, *std::max_element(least_.begin(), least_.end()) + 2)), 1, 0}; }
  void refine(stage_window& w) override {
    std::vector<std::int32_t> label(std::size_t(w.w) * std::size_t(w.h));
    for (std::size_t i = 0; i < label.size(); ++i) label[i] = detail::argmax(w.scores.data() + i * std::size_t(w.classes), w.classes);
    refine::remove_small_components(label.data(), w.h, w.w, least_);
    for (std::size_t i = 0; i < label.size(); ++i) detail::prefer(w.scores.data() + i * std::size_t(w.classes), w.classes, label[i]);
  }

 private:
  std::vector<std::int64_t> least_;
  std::string name_;
};

/// Probabilities of each class times a factor of its own, found on at most two million pixels spread over the scene.
class area_stage final : public stage {
 public:
  area_stage(std::vector<double> least, std::vector<double> most, std::string name)
      : least_(std::move(least)), most_(std::move(most)), name_(std::move(name)) {}
  std::string name() const override { return name_; }
  bool run(io::raster_source&, const score_store& in, score_store& out, const stage_progress& progress) override {
    const int w = in.width(), h = in.height(), k = in.classes();
    const int step = std::max(1, int(std::ceil(std::sqrt(double(w) * h / 2e6))));
    std::vector<float> row(std::size_t(w) * std::size_t(k)), sample;
    for (int y = step / 2; y < h; y += step) {
      in.read(0, y, w, 1, row.data());
      for (int x = step / 2; x < w; x += step)
        sample.insert(sample.end(), row.begin() + std::ptrdiff_t(x) * k, row.begin() + std::ptrdiff_t(x + 1) * k);
    }
    std::vector<double> factor;
    refine::area_factors(sample.data(), std::int64_t(sample.size()) / k, k, least_, most_, factor);
    const int rows = 64, parts = (h + rows - 1) / rows;
    row.resize(std::size_t(rows) * std::size_t(w) * std::size_t(k));
    for (int part = 0; part < parts; ++part) {
      const int y = part * rows, n = std::min(rows, h - y);
      in.read(0, y, w, n, row.data());
      refine::apply_class_factors(row.data(), std::int64_t(n) * w, k, factor);
      out.write(0, y, w, n, row.data());
      if (progress && !progress(part + 1, parts)) return false;
    }
    return true;
  }

 private:
  std::vector<double> least_, most_;
  std::string name_;
};

}  // namespace rsseg::scene
