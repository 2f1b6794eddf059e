// SPDX-License-Identifier: MIT
// What a segmentation is worth: every figure from one confusion matrix of exact counts.
// Rates that have no pixels to speak of are NaN, and means leave them out; `absent` and the texts say which.
#pragma once
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "rsseg/core/error.hpp"

namespace rsseg::train {

/// Figures of one class. IoU, F1 are NaN for a class that is neither in the labels nor in the predictions; recall is NaN without labels,
/// precision without predictions. F1 equals the Dice coefficient of the whole set.
struct class_scores {
  double iou, precision, recall, f1;
  std::int64_t label_pixels, predicted_pixels;
  bool absent;  ///< neither labelled nor predicted anywhere: in no mean
};

/// Figures of the whole set.
struct segmentation_scores {
  std::vector<class_scores> classes;
  double pixel_accuracy;    ///< correct / counted
  double mean_accuracy;     ///< mean recall over labelled classes
  double mean_iou;          ///< over classes that are not absent
  double mean_f1;           ///< over classes that are not absent
  double frequency_iou;     ///< IoU weighted by label frequency
  double kappa;             ///< Cohen, 1960: agreement beyond chance; NaN when chance alone agrees fully
  std::int64_t counted;     ///< pixels that entered
  std::int64_t ignored;     ///< pixels whose label was the ignore id
  int present;              ///< classes that are not absent
  std::vector<int> absent;  ///< ids left out of the means
};

/// Counts of (label, prediction), K x K. Adding is exact and order-free, so that matrices of threads or tiles merge to the same bits.
class confusion_matrix {
 public:
  /// K classes, 1 to 65535; ignore_id: labels not counted (any int; -1 = none).
  explicit confusion_matrix(int classes, int ignore_id = 255) : classes_(classes), ignore_id_(ignore_id) {
    if (classes < 1 || classes > 65535) throw usage_error("confusion matrix of " + std::to_string(classes) + " classes, expected 1 to 65535");
    counts_.resize(std::size_t(classes) * classes);
  }
  int classes() const { return classes_; }
  int ignore_id() const { return ignore_id_; }
  std::int64_t operator()(int label, int prediction) const { return counts_[std::size_t(label) * classes_ + prediction]; }
  std::int64_t ignored() const { return ignored_; }

  /// Counts `pixels` pairs. A label outside 0..K-1 that is not the ignore id is an input_error (`where` names the file); a prediction
  /// outside is a usage_error. Nothing is counted then.
  template <class Label, class Prediction>
  void add(const Label* labels, const Prediction* predictions, std::int64_t pixels, const std::string& where = "labels") {
    for (std::int64_t i = 0; i < pixels; ++i) {
      if (std::int64_t(labels[i]) == ignore_id_) continue;
      if (labels[i] < 0 || std::int64_t(labels[i]) >= classes_)
        throw input_error(where + ": class id " + std::to_string(labels[i]) + " at pixel " + std::to_string(i) + ", expected 0 to " +
                          std::to_string(classes_ - 1) + " or " + std::to_string(ignore_id_) + " (ignored): check the masks or --classes");
      if (predictions[i] < 0 || std::int64_t(predictions[i]) >= classes_)
        throw usage_error("prediction " + std::to_string(predictions[i]) + ", expected 0 to " + std::to_string(classes_ - 1));
    }
    for (std::int64_t i = 0; i < pixels; ++i) {
      if (std::int64_t(labels[i]) == ignore_id_)
        ++ignored_;
      else
        ++counts_[std::size_t(labels[i]) * classes_ + std::size_t(predictions[i])];
    }
  }
  void merge(const confusion_matrix& other) {
    if (other.classes_ != classes_)
      throw usage_error("merging confusion matrices of " + std::to_string(classes_) + " and " + std::to_string(other.classes_) + " classes");
    for (std::size_t i = 0; i < counts_.size(); ++i) counts_[i] += other.counts_[i];
    ignored_ += other.ignored_;
  }
  void clear() {
    counts_.assign(counts_.size(), 0);
    ignored_ = 0;
  }
  segmentation_scores scores() const;

 private:
  int classes_, ignore_id_;
  std::int64_t ignored_ = 0;
  std::vector<std::int64_t> counts_;  // [label][prediction]
};

namespace detail {
/// Mean of what is not NaN; NaN of nothing.
class mean_of_numbers {
 public:
  void add(double v) {
    if (std::isnan(v)) return;
    sum_ += v;
    ++count_;
  }
  double value() const { return count_ ? sum_ / count_ : std::numeric_limits<double>::quiet_NaN(); }
  int count() const { return count_; }

 private:
  double sum_ = 0;
  int count_ = 0;
};
inline double ratio(double part, double whole) { return whole > 0 ? part / whole : std::numeric_limits<double>::quiet_NaN(); }
}  // namespace detail

inline segmentation_scores confusion_matrix::scores() const {
  segmentation_scores s{};
  detail::mean_of_numbers iou, f1, recall;
  double correct = 0, weighted = 0, chance = 0, total = 0;
  std::vector<std::int64_t> labels(std::size_t(classes_), 0), predictions(std::size_t(classes_), 0);
  for (int l = 0; l < classes_; ++l)
    for (int p = 0; p < classes_; ++p) {
      const std::int64_t n = (*this)(l, p);
      labels[std::size_t(l)] += n, predictions[std::size_t(p)] += n, s.counted += n;
    }
  total = double(s.counted);
  for (int k = 0; k < classes_; ++k) {
    const double hit = double((*this)(k, k)), label = double(labels[std::size_t(k)]), predicted = double(predictions[std::size_t(k)]);
    class_scores c{};
    c.label_pixels = labels[std::size_t(k)], c.predicted_pixels = predictions[std::size_t(k)];
    c.absent = c.label_pixels == 0 && c.predicted_pixels == 0;
    c.iou = detail::ratio(hit, label + predicted - hit);
    c.precision = detail::ratio(hit, predicted);
    c.recall = detail::ratio(hit, label);
    c.f1 = detail::ratio(2 * hit, label + predicted);
    iou.add(c.iou), f1.add(c.f1), recall.add(c.recall);
    if (c.absent) s.absent.push_back(k);
    correct += hit;
    if (label > 0) weighted += label * c.iou;
    chance += label * predicted;
    s.classes.push_back(c);
  }
  s.ignored = ignored_;
  s.present = classes_ - int(s.absent.size());
  s.pixel_accuracy = detail::ratio(correct, total);
  s.mean_accuracy = recall.value();
  s.mean_iou = iou.value();
  s.mean_f1 = f1.value();
  s.frequency_iou = detail::ratio(weighted, total);
  // kappa = (po - pe) / (1 - pe), both multiplied by total^2: exact zero when chance explains all.
  s.kappa = detail::ratio(total * correct - chance, total * total - chance);
  return s;
}

}  // namespace rsseg::train
