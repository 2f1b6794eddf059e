// SPDX-License-Identifier: MIT
// A data set: numbered pairs of image and mask with one class table. file_dataset is every set whose pairs are files, which is
// all of them; the headers of the public sets (deepglobe.hpp, ...) only find the files and say how their masks are coded.
#pragma once
#include <cstddef>
#include <filesystem>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "rsseg/core/error.hpp"
#include "rsseg/data/classes.hpp"
#include "rsseg/data/files.hpp"
#include "rsseg/data/mask_coding.hpp"
#include "rsseg/data/pixels.hpp"

namespace rsseg::data {

/// What training and evaluation read from. All members may be called from several threads at once.
class dataset {
 public:
  virtual ~dataset() = default;
  virtual std::size_t size() const = 0;
  /// Name of pair i, for messages and reports.
  virtual std::string name(std::size_t i) const = 0;
  /// Decoded pair i, image and mask of one size. Throws input_error naming the file.
  virtual std::shared_ptr<const sample> load(std::size_t i) const = 0;
  /// The mask alone (statistics need no images).
  virtual mask load_mask(std::size_t i) const { return load(i)->labels; }
  virtual const class_table& classes() const = 0;
  /// Bands of every image.
  virtual int bands() const = 0;
};

/// One image file and its mask file. mask is empty where the set publishes none (test parts): such a pair has an all-ignored mask.
struct file_pair {
  std::filesystem::path image, mask;
  std::string name;
};

/// Pairs of files with one way of coding masks.
class file_dataset final : public dataset {
 public:
  /// bands 0: those of the first image. An empty list is an error that names `origin`.
  file_dataset(std::vector<file_pair> pairs, class_table classes, mask_coding coding, const std::string& origin, int bands = 0)
      : pairs_(std::move(pairs)), classes_(std::move(classes)), coding_(coding), bands_(bands) {
    if (pairs_.empty()) throw input_error(origin + ": no image/mask pairs found; see docs/data_preparation.md for the layouts that are understood");
    if (bands_ == 0) bands_ = image_bands(pairs_.front().image);
  }

  std::size_t size() const override { return pairs_.size(); }
  std::string name(std::size_t i) const override { return pairs_.at(i).name; }
  const class_table& classes() const override { return classes_; }
  int bands() const override { return bands_; }
  const std::vector<file_pair>& pairs() const { return pairs_; }

  std::shared_ptr<const sample> load(std::size_t i) const override {
    const file_pair& p = pairs_.at(i);
    auto s = std::make_shared<sample>();
    s->name = p.name;
    s->image = read_pixels(p.image);
    if (s->image.bands == bands_ + 1 && (bands_ == 1 || bands_ == 3)) drop_last_band(s->image);  // an alpha channel
    if (s->image.bands != bands_)
      throw input_error(p.image.string() + ": " + std::to_string(s->image.bands) + " band(s), but the data set has " + std::to_string(bands_) +
                        "; all images of one set need the same bands");
    s->labels = load_mask_of_size(p, s->image.height, s->image.width);
    if (s->image.nodata) ignore_nodata(s->image, s->labels);
    return s;
  }
  mask load_mask(std::size_t i) const override {
    const file_pair& p = pairs_.at(i);
    if (p.mask.empty()) return load(i)->labels;
    return decode_mask(read_mask_pixels(p.mask, coding_.how), coding_, classes_, p.mask.string());
  }

 private:
  /// Pixels without data are not learnt from, whatever the mask says.
  void ignore_nodata(const pixels& image, mask& labels) const {
    const std::size_t bands = std::size_t(image.bands);
    std::visit(
        [&](const auto& v) {
          for (std::size_t i = 0; i < labels.ids.size(); ++i) {
            bool empty = true;
            for (std::size_t b = 0; b < bands && empty; ++b) empty = float(v[i * bands + b]) == *image.nodata;
            if (empty) labels.ids[i] = std::uint8_t(classes_.ignore_id);
          }
        },
        image.values);
  }
  mask load_mask_of_size(const file_pair& p, int height, int width) const {
    if (p.mask.empty()) {
      mask none{height, width, {}};
      none.ids.assign(std::size_t(height) * std::size_t(width), std::uint8_t(classes_.ignore_id));
      return none;
    }
    mask m = decode_mask(read_mask_pixels(p.mask, coding_.how), coding_, classes_, p.mask.string());
    if (m.height != height || m.width != width)
      throw input_error(p.mask.string() + ": mask is " + std::to_string(m.width) + "x" + std::to_string(m.height) + " pixels, but its image " +
                        p.image.string() + " is " + std::to_string(width) + "x" + std::to_string(height) +
                        "; a mask must have the size of its image");
    return m;
  }

  std::vector<file_pair> pairs_;
  class_table classes_;
  mask_coding coding_;
  int bands_;
};

/// Keeps the most recently used samples of another set decoded, up to a bound in megabytes (0: keeps nothing).
class cached_dataset final : public dataset {
 public:
  cached_dataset(std::shared_ptr<const dataset> inner, std::size_t megabytes) : inner_(std::move(inner)), limit_(megabytes * 1000000) {}

  std::size_t size() const override { return inner_->size(); }
  std::string name(std::size_t i) const override { return inner_->name(i); }
  const class_table& classes() const override { return inner_->classes(); }
  int bands() const override { return inner_->bands(); }
  mask load_mask(std::size_t i) const override {
    {
      const std::lock_guard lock(mutex_);
      if (const auto hit = where_.find(i); hit != where_.end()) return hit->second->second->labels;
    }
    return inner_->load_mask(i);
  }

  std::shared_ptr<const sample> load(std::size_t i) const override {
    {
      const std::lock_guard lock(mutex_);
      if (const auto hit = where_.find(i); hit != where_.end()) {
        order_.splice(order_.begin(), order_, hit->second);
        return order_.front().second;
      }
    }
    auto s = inner_->load(i);  // decoded outside the lock: other threads go on
    const std::lock_guard lock(mutex_);
    if (s->bytes() > limit_ || where_.count(i)) return s;
    order_.emplace_front(i, s);
    where_[i] = order_.begin();
    held_ += s->bytes();
    while (held_ > limit_) {
      held_ -= order_.back().second->bytes();
      where_.erase(order_.back().first);
      order_.pop_back();
    }
    return s;
  }
  /// Bytes of decoded samples held now.
  std::size_t held_bytes() const {
    const std::lock_guard lock(mutex_);
    return held_;
  }

 private:
  using entry = std::pair<std::size_t, std::shared_ptr<const sample>>;
  std::shared_ptr<const dataset> inner_;
  std::size_t limit_;
  mutable std::mutex mutex_;
  mutable std::size_t held_ = 0;
  mutable std::list<entry> order_;  // most recent first
  mutable std::unordered_map<std::size_t, std::list<entry>::iterator> where_;
};

}  // namespace rsseg::data
