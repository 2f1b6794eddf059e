// SPDX-License-Identifier: MIT
// PointRend, semantic form (Kirillov, Wu, He, Girshick, "PointRend: image segmentation as rendering", CVPR 2020, Figs. 3 and 5): a coarse
// map is refined only where it is uncertain, by a small head that reads features at points.
//   ResNet (stride in the first 1x1, frozen norms) -> pyramid p2..p5, 256 channels, nearest top-down sums, 3x3 each
//   coarse head: per level [3x3 128, GroupNorm 32, ReLU, bilinear x2] up to stride 4, summed, 1x1                      (N,K,H/4,W/4)
//   point head: [p2 at the point 256, coarse scores K] -> 256, 256, 256 (ReLU) -> K
//   inference: twice, bilinear x2 and the `Points` least certain pixels predicted anew                                 (N,K,H,W)
//   training: coarse scores and, in "logits", H W / 64 pixels of the full map (three quarters uncertain, the rest random); everything else
//     there is constant, and the output's weight of 64 makes its loss a mean over points
// After detectron2's definition. Points lie on pixel centres in training (the paper draws them from the plane). Sides are multiples of 32.
#pragma once
#include "rsseg/graph/ops/source.hpp"
#include "rsseg/layers/naming.hpp"
#include "rsseg/layers/point_ops.hpp"
#include "rsseg/nets/entry.hpp"
#include "rsseg/nets/resnet.hpp"

namespace rsseg {

struct point_rend_maps {
  value fine;    ///< p2 (N,256,H/4,W/4)
  value coarse;  ///< (N,K,H/4,W/4)
};

namespace detail {
constexpr resnet_options point_rend_backbone(int depth) {
  resnet_options o = resnet_of_depth(depth);
  o.stride_in_first = true, o.mode = norm_mode::frozen;
  resnet_names n;
  n.stem_conv[0] = "stem.conv1", n.stem_norm[0] = "stem.conv1.norm";
  n.stages[0] = "res2", n.stages[1] = "res3", n.stages[2] = "res4", n.stages[3] = "res5";
  n.norm[0] = "conv1.norm", n.norm[1] = "conv2.norm", n.norm[2] = "conv3.norm";
  n.shortcut_conv = "shortcut", n.shortcut_norm = "shortcut.norm";
  o.names = n;
  return o;
}
/// Level i = 0 (p2) .. 3 (p5) to (N,128,H/4,W/4).
constexpr value point_rend_level(builder& b, int i, value x) {
  const scope s(b, numbered("p", i + 2));
  for (int k = 0; k < (i > 0 ? i : 1); ++k) {
    x = conv(b, numbered("", 2 * k), x, 128, {.kernel = 3, .bias = false});
    const scope n(b, numbered("", 2 * k, ".norm"));
    x = relu(b, group_norm(b, x, 32));
    if (i > 0) x = resize_by(b, x, 2);
  }
  return x;
}
}  // namespace detail

constexpr point_rend_maps point_rend_features(builder& b, value x, int classes, int depth) {
  value p[4];
  {
    const scope s(b, "backbone");
    resnet_features f;
    {
      const scope bottom_up(b, "bottom_up");
      f = resnet(b, x, detail::point_rend_backbone(depth));
    }
    const value c[] = {f.c2, f.c3, f.c4, f.c5};
    value inner;
    for (int i = 3; i >= 0; --i) {
      const value side = conv(b, numbered("fpn_lateral", i + 2), c[i], 256);
      inner = i == 3 ? side : add(b, side, resize_by(b, inner, 2, 1, false, interpolation::nearest));
      p[i] = conv(b, numbered("fpn_output", i + 2), inner, 256, {.kernel = 3});
    }
  }
  const scope s(b, "sem_seg_head.coarse_sem_seg_head");
  value parts[4];
  for (int i = 0; i < 4; ++i) parts[i] = detail::point_rend_level(b, i, p[i]);
  return {p[0], conv(b, "predictor", graph::ops::add(b, parts, 4), classes)};
}

/// Scores at points (N,2,P,1): (N,K,P,1).
constexpr value point_rend_head(builder& b, const point_rend_maps& m, value points, int classes) {
  const scope s(b, "sem_seg_head.point_head");
  value y = concat(b, sample_at(b, m.fine, points), sample_at(b, m.coarse, points));
  for (int i = 1; i <= 3; ++i) y = relu(b, linear(b, numbered("fc", i), y, 256));
  return linear(b, "predictor", y, classes);
}

/// Subdivision: `steps` times x2, the `points` least certain pixels anew. fresh: the head's parameters do not exist yet.
constexpr value point_rend_subdivide(builder& b, const point_rend_maps& m, int classes, int steps, int points, bool fresh) {
  value y = m.coarse;
  for (int i = 0; i < steps; ++i) {
    const shared_weights shared(b, i > 0 || !fresh);
    y = resize_by(b, y, 2);
    const value where = uncertain_cells(b, y, points);
    y = place_at(b, y, where, point_rend_head(b, m, where, classes));
  }
  return y;
}

template <int Classes = from_data, int Depth = 101, int Points = 8192>
struct PointRend {
  static constexpr int pixels_per_point = 64;
  static constexpr void build(builder& b) {
    namespace ops = graph::ops;
    const int k = b.classes(Classes);
    const value x = b.input("image", from_data);
    const point_rend_maps m = point_rend_features(b, x, k, Depth);
    if (!b.training()) return b.output("logits", point_rend_subdivide(b, m, k, 2, Points, true), 1);
    const value whole = ops::stop_gradient(b, resize_by(b, m.coarse, 4));
    value noise;
    {
      const scope s(b, "points");  // the stream of the draw
      noise = ops::noise(b, ops::slice(b, whole, 0, 1));
    }
    const value where = random_cells(b, whole, noise, pixels_per_point);
    b.output("logits", place_at(b, whole, where, point_rend_head(b, m, where, k)), pixels_per_point);
    b.output("coarse", m.coarse, 1, label_rule::resize_logits, false, true);
  }
};

inline constexpr network_entry point_rend_networks[] = {
    {"pointrend-resnet50", "PointRend", "Kirillov et al., CVPR 2020", "semantic FPN, uncertain pixels rendered by a point head; norms frozen",
     &PointRend<from_data, 50>::build, recipe{"sgd", 0.01, 0.9, 1e-4, "step", 32, 512}, 32, 0, 32},
    {"pointrend-resnet101", "PointRend", "Kirillov et al., CVPR 2020", "semantic FPN, uncertain pixels rendered by a point head; norms frozen",
     &PointRend<>::build, recipe{"sgd", 0.01, 0.9, 1e-4, "step", 32, 512}, 32, 0, 32},
};

}  // namespace rsseg
