// SPDX-License-Identifier: MIT
// A data set for tests of training: bright squares (class 1) on a dark, noisy ground (class 0), with a frame of ignored pixels.
#pragma once
#include <memory>
#include <string>
#include <utility>

#include "rsseg/core/random.hpp"
#include "rsseg/data/dataset.hpp"

namespace test {

class squares final : public rsseg::data::dataset {
 public:
  /// `images` pictures of side x side pixels.
  explicit squares(std::size_t images, int side = 48) : images_(images), side_(side) {}
  std::size_t size() const override { return images_; }
  std::string name(std::size_t i) const override { return "square " + std::to_string(i); }
  const rsseg::data::class_table& classes() const override { return classes_; }
  int bands() const override { return 3; }
  std::shared_ptr<const rsseg::data::sample> load(std::size_t i) const override {
    auto s = std::make_shared<rsseg::data::sample>();
    const std::size_t n = std::size_t(side_);
    s->name = name(i);
    s->image.height = s->image.width = s->labels.height = s->labels.width = side_, s->image.bands = 3;
    std::vector<std::uint8_t> v(n * n * 3);
    s->labels.ids.assign(n * n, 0);
    rsseg::random_stream r(11, i);
    const std::size_t left = r.below(n / 2), top = r.below(n / 2), size = 5 * n / 24 + r.below(7 * n / 24);
    for (std::size_t y = 0; y < n; ++y)
      for (std::size_t x = 0; x < n; ++x) {
        const bool in = x >= left && x < left + size && y >= top && y < top + size;
        for (std::size_t c = 0; c < 3; ++c) v[(y * n + x) * 3 + c] = std::uint8_t((in ? 150 : 60) + int(r.below(80)));
        s->labels.ids[y * n + x] = x == 0 || y == 0 ? 255 : in;
      }
    s->image.values = std::move(v);
    return s;
  }

 private:
  std::size_t images_;
  int side_;
  rsseg::data::class_table classes_ = rsseg::data::class_table::numbered(2);
};

}  // namespace test
