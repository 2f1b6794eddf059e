// SPDX-License-Identifier: MIT
// From the labels of a batch to what a loss compares an output with: other extents, class boundaries, blurred boundaries.
// Labels are (N,1,H,W) class ids, or the ignored id, which counts nowhere and bounds nothing.
#pragma once
#include <algorithm>
#include <string>
#include <vector>

#include "rsseg/core/error.hpp"
#include "rsseg/core/tensor.hpp"
#include "rsseg/graph/ops/loss.hpp"

namespace rsseg {

/// Throws usage_error naming the sample (`name(n)`, e.g. its file) and the pixel, unless every label is the ignored id or in [0, classes).
template <class Name>
void check_labels(const tensor<std::int32_t>& labels, int classes, int ignore, const Name& name) {
  const shape s = labels.extent();
  const std::size_t area = std::size_t(s.h) * std::size_t(s.w);
  for (std::size_t i = 0; i < labels.size(); ++i) {
    const std::int32_t t = labels.data()[i];
    if (t == ignore || (t >= 0 && t < classes)) continue;
    throw usage_error("labels of " + std::string(name(int(i / area))) + ": id " + std::to_string(t) +
                      " at x=" + std::to_string(i % area % std::size_t(s.w)) + " y=" + std::to_string(i % area / std::size_t(s.w)) +
                      " is neither a class (0 to " + std::to_string(classes - 1) + ") nor the ignored id " + std::to_string(ignore) +
                      "; check the number of classes");
  }
}

/// 1 within a pixel of a change of class, 0 elsewhere; ignored pixels stay ignored.
inline tensor<std::int32_t> boundaries_of(const tensor<std::int32_t>& labels, int ignore) {
  const shape s = labels.extent();
  tensor<std::int32_t> out(s);
  const auto differ = [&](int n, int y, int x, int y1, int x1) {
    if (y1 >= s.h || x1 >= s.w) return false;
    const int a = labels(n, 0, y, x), b = labels(n, 0, y1, x1);
    return a != b && a != ignore && b != ignore;
  };
  for (int n = 0; n < s.n; ++n)
    for (int y = 0; y < s.h; ++y)
      for (int x = 0; x < s.w; ++x) {
        if (labels(n, 0, y, x) == ignore) out(n, 0, y, x) = ignore;
        if (!differ(n, y, x, y + 1, x) && !differ(n, y, x, y, x + 1)) continue;
        for (int v = std::max(0, y - 1); v <= std::min(s.h - 1, y + 1); ++v)
          for (int u = std::max(0, x - 1); u <= std::min(s.w - 1, x + 1); ++u)
            if (labels(n, 0, v, u) != ignore) out(n, 0, v, u) = 1;
      }
  return out;
}

/// The same line blurred by binomial weights (1,4,6,4,1)/16 per axis, close to a Gaussian of one pixel: fixed-point numbers in
/// [0, graph::soft_one], graph::soft_ignored where labels are ignored. Pixels outside of the image repeat its border.
inline tensor<std::int32_t> soft_boundaries_of(const tensor<std::int32_t>& labels, int ignore) {
  const shape s = labels.extent();
  tensor<std::int32_t> line = boundaries_of(labels, ignore), rows(s);
  constexpr int weight[5] = {1, 4, 6, 4, 1};
  const auto edge = [&](int n, int y, int x) { return labels(n, 0, y, x) == ignore ? 0 : line(n, 0, y, x); };
  for (int n = 0; n < s.n; ++n)
    for (int y = 0; y < s.h; ++y)
      for (int x = 0; x < s.w; ++x)
        for (int k = 0; k < 5; ++k) rows(n, 0, y, x) += weight[k] * edge(n, y, std::clamp(x + k - 2, 0, s.w - 1));
  for (int n = 0; n < s.n; ++n)
    for (int y = 0; y < s.h; ++y)
      for (int x = 0; x < s.w; ++x) {
        int sum = 0;
        for (int k = 0; k < 5; ++k) sum += weight[k] * rows(n, 0, std::clamp(y + k - 2, 0, s.h - 1), x);
        line(n, 0, y, x) = labels(n, 0, y, x) == ignore ? graph::soft_ignored : sum * (graph::soft_one / 256);
      }
  return line;
}

/// Brings labels to the extent of a target by its rule (attributes.mode; begin: ignored id): nearest neighbour, or the centre.
inline void fit_labels(const tensor<std::int32_t>& labels, const shape& want, const graph::attributes& at, std::vector<std::int32_t>& out) {
  using graph::label_rule;
  const label_rule rule = label_rule(at.mode);
  if (rule == label_rule::boundaries) return fit_labels(boundaries_of(labels, at.begin), want, {}, out);
  if (rule == label_rule::soft_boundaries) return fit_labels(soft_boundaries_of(labels, at.begin), want, {}, out);
  const shape have = labels.extent();
  if (have.n != want.n) throw usage_error("labels: expected a batch of " + std::to_string(want.n) + ", got " + std::to_string(have.n));
  if (rule == label_rule::crop_labels && (have.h < want.h || have.w < want.w))
    throw usage_error("labels of " + std::to_string(have.h) + "x" + std::to_string(have.w) + " are smaller than the output");
  out.resize(std::size_t(want.size()));
  const int top = (have.h - want.h) / 2, left = (have.w - want.w) / 2;
  const bool crop = rule == label_rule::crop_labels;
  for (int n = 0; n < want.n; ++n)
    for (int y = 0; y < want.h; ++y)
      for (int x = 0; x < want.w; ++x) {
        const int sy = crop ? y + top : int(std::int64_t(y) * have.h / want.h), sx = crop ? x + left : int(std::int64_t(x) * have.w / want.w);
        out[(std::size_t(n) * want.h + y) * want.w + x] = labels(n, 0, sy, sx);
      }
}

}  // namespace rsseg
