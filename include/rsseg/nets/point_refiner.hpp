// SPDX-License-Identifier: MIT
// PointRend's idea (Kirillov, Wu, He, Girshick, CVPR 2020) behind any network: pixels whose class is uncertain are predicted anew by a small head
// that reads features at points. The paper's features are the backbone's, so its head is trained with one backbone (nets/point_rend.hpp has that);
// these are of the refiner's own: three 3x3 convolutions (dilation 1, 2, 4) over the image and the probabilities. The head is the paper's, narrower.
//   inference  image (N,B,H,W), logits0 (N,K,h,w), points (N,2,P,1) in [0, 1]^2 -> scores at the points (N,K,P,1); what is uncertain, and the
//              subdivision from a coarse map, is the caller's loop (scene/stages_trained.hpp)
// The head corrects the scores at the point and starts at zero: untrained, it leaves the map as it is.
//   training   H W / 16 pixels of the full map: three quarters uncertain, the rest random
#pragma once
#include "rsseg/graph/ops/source.hpp"
#include "rsseg/layers/conv_block.hpp"
#include "rsseg/layers/point_ops.hpp"
#include "rsseg/nets/entry.hpp"

namespace rsseg {

/// Pixels around a point that its new scores depend on: 1 + 2 + 4, and the bilinear read.
inline constexpr int point_refiner_reach = 8;

template <int Classes = from_data, int Width = 24>
struct PointRefiner {
  static constexpr int pixels_per_point = 16;
  static constexpr void build(builder& b) {
    namespace ops = graph::ops;
    const int k = b.classes(Classes);
    const value image = b.input("image", from_data), coarse = b.input("logits0", k);
    value fine = concat(b, image, resize_like(b, softmax(b, coarse), image));
    for (int i = 0; i < 3; ++i) fine = relu(b, conv(b, numbered("features.", i), fine, Width, {.kernel = 3, .dilation = 1 << i}));
    value points;
    value whole;
    if (b.training()) {
      whole = ops::stop_gradient(b, resize_like(b, coarse, image));
      const scope s(b, "points");  // the stream of the draw
      points = random_cells(b, whole, ops::noise(b, ops::slice(b, whole, 0, 1)), pixels_per_point);
    } else {
      points = b.input("points", 2);
    }
    const value given = sample_at(b, coarse, points);
    value y = concat(b, sample_at(b, fine, points), given);
    {
      const scope s(b, "point_head");
      for (int i = 1; i <= 3; ++i) y = relu(b, linear(b, numbered("fc", i), y, 2 * Width));
      y = add(b, given, zero_linear(b, "predictor", y, k));
    }
    if (b.training()) y = place_at(b, whole, points, y);
    b.output("logits", y, b.training() ? pixels_per_point : 1);
  }
};

inline constexpr network_entry point_refiner_networks[] = {
    {"pointrend-refiner", "PointRend behind any network", "after Kirillov et al., CVPR 2020",
     "a point head with features of its own; inputs image, logits0, points", &PointRefiner<>::build, recipe{"adam", 1e-3, 0.9, 1e-4, "poly", 8, 256},
     1, 0, 16, false},
};

}  // namespace rsseg
