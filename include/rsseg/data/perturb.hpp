// SPDX-License-Identifier: MIT
// Coarse masks made from labels, to train refiners on (after CascadePSP, Cheng et al., CVPR 2020, section 3.3): contours lose detail, then random
// discs at contours take the class of one side, until the overlap with the labels has fallen to a target drawn between least_iou and 1.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

#include "rsseg/core/random.hpp"
#include "rsseg/refine/box_filter.hpp"

namespace rsseg::data {

struct perturb_options {
  double least_iou = 0.8;   ///< mean over the classes present
  int largest_step = 8;     ///< contours are sampled on a grid of 1 .. this many pixels
  double least_sure = 0.7;  ///< probability of the coarse class, drawn up to 0.97
  int blur = 2;             ///< radius of the mean that makes probabilities fall off across contours
};

/// Mean intersection over union over the classes that occur in either map; ids outside [0, classes) do not count.
inline double label_agreement(const std::int32_t* a, const std::int32_t* b, std::int64_t pixels, int classes) {
  std::vector<std::int64_t> both(std::size_t(classes), 0), in_a(both), in_b(both);
  for (std::int64_t i = 0; i < pixels; ++i) {
    if (a[i] < 0 || a[i] >= classes || b[i] < 0 || b[i] >= classes) continue;
    ++in_a[std::size_t(a[i])], ++in_b[std::size_t(b[i])], both[std::size_t(a[i])] += a[i] == b[i];
  }
  double sum = 0;
  int present = 0;
  for (std::size_t k = 0; k < both.size(); ++k)
    if (const std::int64_t either = in_a[k] + in_b[k] - both[k]; either > 0) sum += double(both[k]) / double(either), ++present;
  return present ? sum / present : 1;
}

/// A worse copy of label (h x w). Ids outside [0, classes) are left as they are and never spread.
inline std::vector<std::int32_t> perturb_labels(const std::int32_t* label, int h, int w, int classes, const perturb_options& o,
                                                random_stream& random) {
  const std::int64_t pixels = std::int64_t(h) * w;
  std::vector<std::int32_t> out(label, label + pixels);
  const auto valid = [&](std::int32_t id) { return id >= 0 && id < classes; };
  const double target = random.uniform(o.least_iou, 1);
  const int step = 1 + int(random.below(std::uint32_t(std::max(1, o.largest_step))));
  for (int y = 0; y < h && step > 1; ++y)
    for (int x = 0; x < w; ++x) {
      const std::int32_t from = label[std::int64_t(std::min(h - 1, y / step * step + step / 2)) * w + std::min(w - 1, x / step * step + step / 2)];
      if (valid(from) && valid(label[std::int64_t(y) * w + x])) out[std::size_t(std::int64_t(y) * w + x)] = from;
    }
  const int largest = std::max(3, std::min(h, w) / 24);
  for (int tries = 0; tries < 400; ++tries) {
    if (tries % 8 == 0 && label_agreement(out.data(), label, pixels, classes) <= target) break;
    // A walk from a random pixel to the right ends at a contour, or nowhere.
    const int y = int(random.below(std::uint32_t(h)));
    int x = int(random.below(std::uint32_t(w)));
    const std::int32_t first = out[std::size_t(std::int64_t(y) * w + x)];
    while (x + 1 < w && out[std::size_t(std::int64_t(y) * w + x + 1)] == first) ++x;
    if (x + 1 >= w) continue;
    const std::int32_t second = out[std::size_t(std::int64_t(y) * w + x + 1)];
    const std::int32_t winner = random.below(2) ? first : second;
    if (!valid(first) || !valid(second)) continue;
    const int r = 2 + int(random.below(std::uint32_t(largest)));
    for (int v = std::max(0, y - r); v <= std::min(h - 1, y + r); ++v)
      for (int u = std::max(0, x - r); u <= std::min(w - 1, x + r); ++u)
        if (auto& id = out[std::size_t(std::int64_t(v) * w + u)]; (v - y) * (v - y) + (u - x) * (u - x) <= r * r && valid(id)) id = winner;
  }
  return out;
}

/// Probabilities (h, w, classes) of such a map, as a network might give them.
inline std::vector<float> coarse_probabilities(const std::vector<std::int32_t>& label, int h, int w, int classes, const perturb_options& o,
                                               random_stream& random) {
  const std::size_t pixels = label.size(), k = std::size_t(classes);
  const double sure = random.uniform(o.least_sure, 0.97);
  std::vector<float> p(pixels * k);
  std::vector<double> plane(pixels), scratch(pixels);
  for (std::size_t c = 0; c < k; ++c) {
    for (std::size_t i = 0; i < pixels; ++i)
      plane[i] = label[i] < 0 || label[i] >= classes ? 1.0 / classes : label[i] == std::int32_t(c) ? sure : (1 - sure) / std::max(1, classes - 1);
    if (o.blur > 0) refine::box_mean(plane.data(), h, w, o.blur, scratch.data());
    for (std::size_t i = 0; i < pixels; ++i) p[i * k + c] = float(plane[i]);
  }
  return p;
}

}  // namespace rsseg::data
