// SPDX-License-Identifier: MIT
// PointRend at given points (v in [-1, 1) stands for the coordinate (v + 1) / 2), and its subdivision with two numbers of points.
#pragma once
#include "rsseg/nets/parity_case.hpp"
#include "rsseg/nets/point_rend.hpp"

namespace rsseg::parity {

struct point_rend_at_points {
  static constexpr void build(builder& b) {
    const value image = b.input("image", from_data), points = b.input("points", 2);
    const point_rend_maps m = point_rend_features(b, image, b.classes(from_data), 101);
    b.output("point_logits", point_rend_head(b, m, graph::ops::affine(b, points, 0.5, 0.5), b.classes(from_data)), 1);
    b.output("coarse_logits", m.coarse);
  }
};

struct point_rend_inference {
  static constexpr void build(builder& b) {
    const value image = b.input("image", from_data);
    const int k = b.classes(from_data);
    const point_rend_maps m = point_rend_features(b, image, k, 101);
    b.output("logits_n8192", point_rend_subdivide(b, m, k, 2, 8192, true), 1);
    b.output("logits_n100", point_rend_subdivide(b, m, k, 2, 100, false));
  }
};

inline constexpr parity_case point_rend_parity[] = {
    {"pointrend", "Semantic FPN R-101 + PointRend point head, K=6, point logits at given points", &point_rend_at_points::build},
    {"pointrend", "same net: subdivision inference, 2 steps, N=8192 (all points) and N=100", &point_rend_inference::build},
};

}  // namespace rsseg::parity
