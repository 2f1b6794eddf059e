// SPDX-License-Identifier: MIT
// Fusion of co-registered rasters (optical, infrared, height, ...) at three places, on one narrow U-Net so that only the place differs; ours.
// The image x holds the bands of all inputs in groups (layers/modalities.hpp).
//   early    any network: the groups are bands of one image                                        e.g. unet-16
//   middle   MiddleFusionUNet: an encoder per group; after each level the features are added, in front of the pool, to the first group's, as
//            FuseNet does (nets/fusenet.hpp); skips and decoder see the sums
//   late     LateFusionUNet: a U-Net per group, mean of the class scores
//   fusenet-16 is FuseNet itself with a quarter of its channels, on groups.
#pragma once
#include "rsseg/layers/modalities.hpp"
#include "rsseg/nets/fusenet.hpp"
#include "rsseg/nets/unet.hpp"

namespace rsseg {

template <int Classes = from_data, int Width = 16>
struct MiddleFusionUNet {
  static constexpr void build(builder& b) {
    const value x = b.input("x", from_data);
    const int groups = modality_count(b);
    value y[build_options::most_modalities], skips[4];
    for (int m = 0; m < groups; ++m) {
      const scope s(b, numbered("m", m));
      y[m] = detail::double_conv(b, "inc", modality(b, x, m), Width, Width);
    }
    for (int i = 0; i < 5; ++i) {
      for (int m = 1; m < groups; ++m) y[0] = add(b, y[0], y[m]);
      if (i == 4) break;
      skips[i] = y[0];
      for (int m = 0; m < groups; ++m) {
        const scope s(b, numbered("m", m));
        y[m] = detail::double_conv(b, numbered("down", i + 1), max_pool(b, y[m]), Width << (i + 1), Width << (i + 1));
      }
    }
    value z = y[0];
    for (int i = 3; i >= 0; --i) {
      const scope s(b, numbered("up", 4 - i));
      z = detail::unet_up_block(b, z, skips[i], Width << i, unet_up::transposed);
    }
    b.output("logits", conv(b, "outc.conv", z, b.classes(Classes)), 1);
  }
};

template <int Classes = from_data, int Width = 16>
struct LateFusionUNet {
  static constexpr void build(builder& b) {
    const value x = b.input("x", from_data);
    const int groups = modality_count(b);
    value sum;
    for (int m = 0; m < groups; ++m) {
      const scope s(b, numbered("m", m));
      const value y = UNet<Classes, Width>::scores(b, modality(b, x, m));
      sum = m == 0 ? y : add(b, sum, y);
    }
    b.output("logits", groups > 1 ? graph::ops::affine(b, sum, 1.0 / groups, 0) : sum, 1);
  }
};

/// FuseNet on the groups of one image.
template <int Classes = from_data, int Width = 16>
struct GroupedFuseNet {
  static constexpr void build(builder& b) {
    const value x = b.input("x", from_data);
    value groups[build_options::most_modalities];
    const int count = modality_count(b);
    for (int m = 0; m < count; ++m) groups[m] = modality(b, x, m);
    b.output("logits", FuseNet<Classes, Width>::scores(b, groups, count), 1);
  }
};

inline constexpr network_entry fusion_networks[] = {
    {"fusenet-16", "FuseNet, 16 channels", "after Hazirbas et al., ACCV 2016", "FuseNet with a quarter of its channels, for any number of inputs",
     &GroupedFuseNet<>::build, recipe{"adamw", 1e-3, 0.9, 1e-2, "poly", 8, 256}, 1, 0, 32},
    {"middle-fusion-unet-16", "Middle fusion, U-Net", "after Hazirbas et al., ACCV 2016", "an encoder per input, features added level by level; ours",
     &MiddleFusionUNet<>::build, recipe{"adamw", 1e-3, 0.9, 1e-2, "poly", 8, 256}, 1, 0, 16},
    {"late-fusion-unet-16", "Late fusion, U-Net", "own definition", "a U-Net per input, mean of the scores", &LateFusionUNet<>::build,
     recipe{"adamw", 1e-3, 0.9, 1e-2, "poly", 8, 256}, 1, 0, 16},
};

}  // namespace rsseg
