// SPDX-License-Identifier: MIT
// Which image each draw of an epoch shows, and where. Draw k of epoch e is a function of (seed, e, k): no state, so that resuming
// and any number of workers give the same training.
//
// Class-balanced draws follow class-uniform sampling (Zhu et al., "Improving semantic segmentation via video propagation and label
// relaxation", CVPR 2019, section 3.3; Rota Bulo et al., CVPR 2018): once, the pixels of each class are counted on a grid of cells
// per image; a draw picks a class uniformly, then a cell in proportion to its pixels of that class, then a pixel; the crop contains it.
#pragma once
#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "rsseg/core/error.hpp"
#include "rsseg/core/random.hpp"
#include "rsseg/data/augment.hpp"
#include "rsseg/data/dataset.hpp"
#include "rsseg/data/statistics.hpp"

namespace rsseg::data {

struct sampler_options {
  std::size_t draws_per_epoch = 0;  ///< 0: as many as there are images
  bool shuffle = true;              ///< false: images in their order, for evaluation
  bool by_area = false;             ///< draw images in proportion to their pixels, with replacement (images of very different size)
  double balance = 0;               ///< share of draws that start from a class, 0 .. 1; the others are unbalanced
};

/// A stateless random permutation of [0, count): four Feistel rounds over the next power of four, walking the cycle back into range.
inline std::uint64_t permuted(std::uint64_t i, std::uint64_t count, std::uint64_t seed, std::uint64_t stream) {
  int half = 1;
  while ((std::uint64_t(1) << (2 * half)) < count) ++half;
  const std::uint64_t low = (std::uint64_t(1) << half) - 1;
  do {
    std::uint64_t a = i >> half, b = i & low;
    for (std::uint64_t round = 0; round < 4; ++round) {
      const std::uint64_t mixed = a ^ (philox(seed, stream, (round << 40) | b).v[0] & low);
      a = b, b = mixed;
    }
    i = a << half | b;
  } while (i >= count);
  return i;
}

/// Pixels of each class on a grid of cells, over all images of a set.
class class_grid {
 public:
  struct cell {
    std::uint32_t image;
    std::int32_t x, y, width, height;
    std::uint64_t up_to;  ///< pixels of the class in this cell and all before it
  };
  explicit class_grid(const dataset& set, int threads = 0) : cells_(std::size_t(set.classes().count())) {
    const std::size_t classes = cells_.size();
    std::vector<std::vector<std::vector<cell>>> each(set.size());
    for_each_index(set.size(), threads, [&](std::size_t i) {
      const mask m = set.load_mask(i);
      const int step = std::max(32, (std::max(m.height, m.width) + 31) / 32);  // at most 32 x 32 cells
      each[i].resize(classes);
      for (int y = 0; y < m.height; y += step)
        for (int x = 0; x < m.width; x += step) {
          const int h = std::min(step, m.height - y), w = std::min(step, m.width - x);
          histogram counts{};
          for (int yy = y; yy < y + h; ++yy)
            for (int xx = x; xx < x + w; ++xx) ++counts[m.at(yy, xx)];
          for (std::size_t c = 0; c < classes; ++c)
            if (counts[c] && int(c) != set.classes().ignore_id) each[i][c].push_back({std::uint32_t(i), x, y, w, h, counts[c]});
        }
    });
    for (std::size_t c = 0; c < classes; ++c) {
      std::uint64_t sum = 0;
      for (const auto& image : each)
        for (cell one : image[c]) one.up_to = sum += one.up_to, cells_[c].push_back(one);
      if (sum) present_.push_back(int(c));
    }
  }
  /// Classes that occur at all.
  const std::vector<int>& present() const { return present_; }
  /// A cell drawn in proportion to its pixels of the class.
  const cell& draw(int id, random_stream& random) const {
    const auto& list = cells_[std::size_t(id)];
    const std::uint64_t word = std::uint64_t(random.next()) << 32 | random.next();
    const std::uint64_t at = word % list.back().up_to;
    return *std::upper_bound(list.begin(), list.end(), at, [](std::uint64_t v, const cell& c) { return v < c.up_to; });
  }

 private:
  std::vector<std::vector<cell>> cells_;  // per class
  std::vector<int> present_;
};

/// Gives draw k of epoch e.
class sampler {
 public:
  struct draw {
    std::size_t image = 0;
    int id = -1;  ///< class the crop is to show; -1: any
    class_grid::cell cell{};
  };

  sampler(const dataset& set, const sampler_options& options, std::uint64_t seed, int threads = 0)
      : options_(options), seed_(seed), images_(set.size()) {
    if (!(options.balance >= 0 && options.balance <= 1))
      throw usage_error("class-balanced share of draws is " + std::to_string(options.balance) + "; expected 0 to 1");
    if (images_ == 0) throw input_error("the data set is empty; nothing can be drawn from it");
    draws_ = options.draws_per_epoch ? options.draws_per_epoch : images_;
    if (options.balance > 0) {
      grid_ = std::make_shared<class_grid>(set, threads);
      if (grid_->present().empty()) throw input_error("no mask of the data set holds a labelled pixel; class-balanced sampling has nothing to draw");
    }
    if (options.by_area) {
      std::vector<std::uint64_t> areas(images_);
      for_each_index(images_, threads, [&](std::size_t i) { areas[i] = set.load_mask(i).ids.size(); });
      for (const std::uint64_t a : areas) area_up_to_.push_back((area_up_to_.empty() ? 0 : area_up_to_.back()) + a);
    }
  }
  std::size_t draws_per_epoch() const { return draws_; }

  draw at(std::uint64_t epoch, std::uint64_t k) const {
    random_stream random(seed_ ^ 0x53414D504C455221u, epoch << 32 | k);
    draw d;
    if (options_.balance > 0 && random.uniform() < options_.balance) {
      const auto& present = grid_->present();
      d.id = present[random.below(std::uint32_t(present.size()))];
      d.cell = grid_->draw(d.id, random);
      d.image = d.cell.image;
    } else if (options_.by_area) {
      const std::uint64_t word = std::uint64_t(random.next()) << 32 | random.next();
      const std::uint64_t v = word % area_up_to_.back();
      d.image = std::size_t(std::upper_bound(area_up_to_.begin(), area_up_to_.end(), v) - area_up_to_.begin());
    } else {
      const std::uint64_t round = k / images_, i = k % images_;  // further rounds when an epoch is longer than the set
      d.image = std::size_t(options_.shuffle ? permuted(i, images_, seed_ ^ 0x5045524D55544521u, epoch << 20 | round) : i);
    }
    return d;
  }

 private:
  sampler_options options_;
  std::uint64_t seed_;
  std::size_t images_, draws_ = 0;
  std::shared_ptr<const class_grid> grid_;
  std::vector<std::uint64_t> area_up_to_;
};

/// The pixel a class-balanced draw aims at, uniform among those of the class in the cell; none for other draws.
inline focus_point find_focus(const sampler::draw& d, const mask& m, random_stream& random) {
  if (d.id < 0) return {};
  std::vector<focus_point> points;
  for (int y = d.cell.y; y < d.cell.y + d.cell.height; ++y)
    for (int x = d.cell.x; x < d.cell.x + d.cell.width; ++x)
      if (m.at(y, x) == d.id) points.push_back({x, y});
  if (points.empty()) return {d.cell.x + d.cell.width / 2, d.cell.y + d.cell.height / 2};
  return points[random.below(std::uint32_t(points.size()))];
}

}  // namespace rsseg::data
