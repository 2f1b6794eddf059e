// SPDX-License-Identifier: MIT
// Feature pyramid network (Lin, Dollar, Girshick, He, Hariharan, Belongie, CVPR 2017, Fig. 3) with the semantic head of Panoptic FPN
// (Kirillov, Girshick, He, Dollar, CVPR 2019, Fig. 3).
//   c2..c5 of a ResNet -> 1x1 to 256; p5, then p_i = lateral(c_i) + nearest x2 of p_{i+1}                     (N,256,H/4..H/32)
//   per level [3x3 128, GroupNorm 32, ReLU, bilinear x2] until stride 4 (p5: 3 times, p4: 2, p3: 1, p2: once without up-sampling), summed,
//   dropout 0.2, 1x1 K, bilinear to the input
// After segmentation_models.pytorch: no 3x3 smoothing of the p_i, corners aligned. Input sides are multiples of 32.
#pragma once
#include "rsseg/layers/naming.hpp"
#include "rsseg/nets/entry.hpp"
#include "rsseg/nets/resnet.hpp"

namespace rsseg {

/// KeepPyramid: p5..p2 are outputs, too.
template <int Depth = 50, int Classes = from_data, bool KeepPyramid = false>
struct FPN {
  static constexpr int width = 256, head_width = 128;
  static constexpr void build(builder& b) {
    const value x = b.input("x", from_data);
    resnet_features f;
    {
      const scope s(b, "encoder");
      f = resnet(b, x, resnet_of_depth(Depth));
    }
    value p[4], y;  // p[0] = p5
    {
      const scope s(b, "decoder");
      p[0] = conv(b, "p5", f.c5, width);
      const value skips[] = {f.c4, f.c3, f.c2};
      constexpr std::string_view names[] = {"p4.skip_conv", "p3.skip_conv", "p2.skip_conv"};
      for (int i = 0; i < 3; ++i) p[i + 1] = add(b, resize_by(b, p[i], 2, 1, false, interpolation::nearest), conv(b, names[i], skips[i], width));
      value parts[4];
      for (int i = 0; i < 4; ++i) parts[i] = semantic_branch(b, i, p[i]);
      y = graph::ops::add(b, parts, 4);
    }
    y = conv(b, "segmentation_head.0", dropout2d(b, y, 0.2), b.classes(Classes));
    b.output("logits", resize_by(b, y, 4, 1, true), 1);
    if (!KeepPyramid) return;
    constexpr std::string_view names[] = {"p5", "p4", "p3", "p2"};
    for (int i = 0; i < 4; ++i) b.output(names[i], p[i]);
  }

 private:
  /// Level i = 0 (p5) .. 3 (p2) to (N,128,H/4,W/4).
  static constexpr value semantic_branch(builder& b, int i, value x) {
    const scope s(b, numbered("seg_blocks.", i));
    const int ups = 3 - i;
    for (int k = 0; k < (ups > 0 ? ups : 1); ++k) {
      const scope block(b, numbered("block.", k, ".block"));
      x = conv(b, "0", x, head_width, {.kernel = 3, .bias = false});
      const scope norm(b, "1");
      x = relu(b, group_norm(b, x, 32));
      if (ups > 0) x = resize_by(b, x, 2, 1, true);
    }
    return x;
  }
};

inline constexpr network_entry fpn_networks[] = {
    {"fpn-resnet18", "FPN with semantic head", "Lin et al., CVPR 2017; Kirillov et al., CVPR 2019", "top-down sums, one branch per level",
     &FPN<18>::build, recipe{"sgd", 0.01, 0.9, 1e-4, "poly", 8, 512}, 32, 0, 32},
    {"fpn-resnet50", "FPN with semantic head", "Lin et al., CVPR 2017; Kirillov et al., CVPR 2019", "top-down sums, one branch per level",
     &FPN<50>::build, recipe{"sgd", 0.01, 0.9, 1e-4, "poly", 8, 512}, 32, 0, 32},
};

}  // namespace rsseg
