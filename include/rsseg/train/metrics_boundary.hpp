// SPDX-License-Identifier: MIT
// Boundary F1: how well contours lie. Csurka, Larlus, Perronnin, "What is a good evaluation measure for semantic segmentation?",
// BMVC 2013, section 3. Precision: share of predicted boundary pixels within `tolerance` of a labelled one; recall: the reverse.
// Scores are made per image and class, averaged over the classes present in either map, then over the images.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "rsseg/core/error.hpp"
#include "rsseg/train/metrics.hpp"

namespace rsseg::train {

/// Streams image by image: add(labels, predictions, width, height); then mean() and class_mean(k).
class boundary_f1 {
 public:
  /// tolerance: pixels (Euclidean, <= counts as near). The paper uses 0.75 % of the image's diagonal: paper_tolerance(width, height).
  boundary_f1(int classes, double tolerance, int ignore_id = 255) : tolerance_(tolerance), ignore_id_(ignore_id), per_class_(std::size_t(classes)) {
    if (classes < 1 || !(tolerance >= 0 && tolerance <= 1000))
      throw usage_error("boundary F1 with tolerance " + std::to_string(tolerance) + ", expected 0 to 1000 pixels");
  }
  static double paper_tolerance(int width, int height) { return 0.0075 * std::hypot(double(width), double(height)); }
  double tolerance() const { return tolerance_; }

  /// Row-major maps of width x height. A boundary pixel of class c has c, and a 4-neighbour of another class; the picture's border and
  /// pixels labelled with the ignore id make no boundary. A class with boundary in one map only scores 0; a class present with boundary in
  /// neither (it fills the picture) is left out. Returns the image's score, NaN when no class has a boundary.
  template <class Label, class Prediction>
  double add(const Label* labels, const Prediction* predictions, int width, int height) {
    const std::size_t n = std::size_t(width) * std::size_t(height);
    std::vector<int> truth(n), guess(n);
    for (std::size_t i = 0; i < n; ++i) {
      const bool skip = std::int64_t(labels[i]) == ignore_id_;
      truth[i] = skip ? -1 : int(labels[i]), guess[i] = skip ? -1 : int(predictions[i]);
    }
    detail::mean_of_numbers image;
    std::vector<unsigned char> truth_edge(n), guess_edge(n);
    for (std::size_t c = 0; c < per_class_.size(); ++c) {
      const std::int64_t a = mark(truth, int(c), width, height, truth_edge), b = mark(guess, int(c), width, height, guess_edge);
      if (a + b == 0) continue;
      double score = 0;
      if (a > 0 && b > 0) {
        const double precision = double(near_count(guess_edge, truth_edge, width, height)) / double(b);
        const double recall = double(near_count(truth_edge, guess_edge, width, height)) / double(a);
        score = precision + recall > 0 ? 2 * precision * recall / (precision + recall) : 0;
      }
      per_class_[c].add(score);
      image.add(score);
    }
    mean_.add(image.value());
    return image.value();
  }
  double mean() const { return mean_.value(); }
  /// Over the images where the class has a boundary in either map; NaN if none.
  double class_mean(int k) const { return per_class_[std::size_t(k)].value(); }
  int images() const { return mean_.count(); }

 private:
  static std::int64_t mark(const std::vector<int>& map, int c, int width, int height, std::vector<unsigned char>& edge) {
    std::int64_t count = 0;
    for (int y = 0; y < height; ++y)
      for (int x = 0; x < width; ++x) {
        const std::size_t i = std::size_t(y) * width + x;
        const auto other = [&](std::size_t j) { return map[j] != c && map[j] >= 0; };
        const bool is = map[i] == c && ((x > 0 && other(i - 1)) || (x + 1 < width && other(i + 1)) || (y > 0 && other(i - width)) ||
                                        (y + 1 < height && other(i + width)));
        edge[i] = is;
        count += is;
      }
    return count;
  }
  /// Pixels of `from` with a pixel of `to` within the tolerance. Distances along rows first, then the best over the rows in reach.
  std::int64_t near_count(const std::vector<unsigned char>& from, const std::vector<unsigned char>& to, int width, int height) const {
    const int reach = int(tolerance_);
    const int far = 4 * (width + height) + 4 * reach + 4;
    std::vector<int> along(from.size());
    for (int y = 0; y < height; ++y) {
      int* row = along.data() + std::size_t(y) * width;
      const unsigned char* marks = to.data() + std::size_t(y) * width;
      for (int x = 0, d = far; x < width; ++x) row[x] = d = marks[x] ? 0 : std::min(d + 1, far);
      for (int x = width - 1, d = far; x >= 0; --x) row[x] = std::min(row[x], d = marks[x] ? 0 : std::min(d + 1, far));
    }
    const double limit = tolerance_ * tolerance_;
    std::int64_t count = 0;
    for (int y = 0; y < height; ++y)
      for (int x = 0; x < width; ++x) {
        if (!from[std::size_t(y) * width + x]) continue;
        bool found = false;
        for (int other = std::max(0, y - reach); other <= std::min(height - 1, y + reach) && !found; ++other) {
          const double dx = along[std::size_t(other) * width + x], dy = other - y;
          found = dx * dx + dy * dy <= limit;
        }
        count += found;
      }
    return count;
  }
  double tolerance_;
  int ignore_id_;
  std::vector<detail::mean_of_numbers> per_class_;
  detail::mean_of_numbers mean_;
};

}  // namespace rsseg::train
