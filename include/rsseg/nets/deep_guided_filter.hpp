// SPDX-License-Identifier: MIT
// Deep guided filter (Wu, Zheng, Zhang, Huang, "Fast end-to-end trainable guided filter", CVPR 2018, Figs. 2 and 4).
//   DeepGuidedFilter (image to image): low-resolution net on x_lr, learned guide of both images, fast guided filter       (N,3,H,W)
//     net: 3x3 24 with dilation 1, 2, 4, 8, 16, 1 (adaptive norm, LeakyReLU 0.2), 1x1 to 3; guide: 1x1 15, norm, LeakyReLU, 1x1 to 3
//   DGFHead (segmentation): scores brought to the image's extent (corners aligned), guide 1x1 64, ReLU, 1x1 K; guided filter r = 4, eps = 0.01;
//     as registered, the 1x1 on the scores in front starts as the identity, so that the untrained head is a guided filter of the map
//   DGFDeepLab: ResNet-101 at stride 8, sum of four dilated 3x3 classifiers (6, 12, 18, 24), then the head
// The authors train the segmentation net with every norm frozen, and so does this.
#pragma once
#include "rsseg/layers/guided_filter.hpp"
#include "rsseg/layers/naming.hpp"
#include "rsseg/nets/entry.hpp"
#include "rsseg/nets/parity_case.hpp"
#include "rsseg/nets/resnet.hpp"

namespace rsseg {

namespace detail {
/// 1x1 without bias, adaptive norm, LeakyReLU, 1x1: (N,C,h,w) -> (N,out,h,w).
constexpr value dgf_guided_map(builder& b, value x, int width, int out) {
  const scope s(b, "guided_map");
  value y = conv(b, "0", x, width, {.bias = false});
  {
    const scope n(b, "1");
    y = leaky_relu(b, adaptive_norm(b, y), 0.2);
  }
  return conv(b, "3", y, out);
}
constexpr value dgf_low_net(builder& b, value x, int out) {
  const scope s(b, "lr");
  constexpr int dilations[] = {1, 2, 4, 8, 16, 1};
  for (int i = 0; i < 6; ++i) {
    x = conv(b, numbered("", 3 * i), x, 24, {.kernel = 3, .dilation = dilations[i], .bias = false});
    const scope n(b, numbered("", 3 * i + 1));
    x = leaky_relu(b, adaptive_norm(b, x), 0.2);
  }
  return conv(b, "18", x, out);
}
/// The learned guide of the segmentation head.
constexpr value dgf_segmentation_guide(builder& b, value image, int classes) {
  return conv(b, "guided_map_conv2", relu(b, conv(b, "guided_map_conv1", image, 64)), classes);
}
}  // namespace detail

/// Inputs x_lr (N,3,h,w) and x_hr (N,3,H,W), sides of x_lr above 2 Radius + 1. Learned: means by a learned convolution (ConvGF).
template <int GuideWidth = 15, bool Learned = false, int Radius = 1>
struct DeepGuidedFilter {
  static constexpr void build(builder& b) {
    const value low = b.input("x_lr", from_data), high = b.input("x_hr", from_data);
    const int bands = low.channels;
    const value guide_low = detail::dgf_guided_map(b, low, GuideWidth, bands);
    const value y = detail::dgf_low_net(b, low, bands);
    value guide_high;
    {
      const shared_weights shared(b);
      guide_high = detail::dgf_guided_map(b, high, GuideWidth, bands);
    }
    b.output("out", Learned ? conv_guided_filter(b, guide_low, y, guide_high, Radius) : fast_guided_filter(b, guide_low, y, guide_high, Radius, 1e-4),
             1);
  }
};

/// The head on any network's scores: inputs logits_lr (N,K,h,w) and image (N,B,H,W) in [0, 1].
/// Same: the 1x1 on the scores starts as the identity.
template <int Classes = from_data, bool Same = false>
struct DGFHead {
  static constexpr void build(builder& b) {
    const int k = b.classes(Classes);
    const value low = b.input("logits_lr", k), image = b.input("image", from_data);
    const value y = resize_like(b, Same ? same(b, low) : conv(b, "scale", low, k), image, true);
    b.output("logits", guided_filter(b, detail::dgf_segmentation_guide(b, image, k), y, 4, 1e-2), 1);
  }

 private:
  static constexpr value same(builder& b, value low) {
    const scope s(b, "scale");
    const int k = low.channels;
    const value weight = b.parameter("weight", {k, k, 1, 1}, graph::init::bilinear_upsample, 1);  // of one pixel: the identity
    graph::attributes at;
    at.count = k;
    return graph::ops::conv(b, low, weight, b.parameter("bias", {k}, graph::init::constant, 0), at);
  }
};

/// OwnGuide: a second input "im" guides (the image in [0, 1] while x is normalised); else x itself.
template <int Classes = from_data, bool OwnGuide = false>
struct DGFDeepLab {
  static constexpr void build(builder& b) {
    const int k = b.classes(Classes);
    const value x = b.input("x", from_data), guide = OwnGuide ? b.input("im", from_data) : x;
    value y;
    {
      const scope s(b, "Scale");
      resnet_options o = resnet_of_depth(101, 8, dilation_rule::whole_stage);
      o.stride_in_first = o.ceil_pool = true, o.mode = norm_mode::frozen;
      const value f = resnet(b, x, o).c5;
      const scope head(b, "layer5");
      value parts[4];
      for (int i = 0; i < 4; ++i) parts[i] = conv(b, numbered("conv2d_list.", i), f, k, {.kernel = 3, .dilation = 6 * (i + 1)});
      y = graph::ops::add(b, parts, 4);
    }
    y = resize_like(b, y, guide, true);
    b.output("logits", guided_filter(b, detail::dgf_segmentation_guide(b, guide, k), y, 4, 1e-2), 1);
  }
};

inline constexpr network_entry deep_guided_filter_networks[] = {
    {"dgf-deeplab-resnet101", "Deep guided filter, DeepLab", "Wu et al., CVPR 2018",
     "trainable guided filter behind dilated ResNet-101; norms frozen", &DGFDeepLab<>::build, recipe{"sgd", 2.5e-4, 0.9, 5e-4, "poly", 10, 321}, 1, 0,
     16},
    {"dgf-head", "Deep guided filter, head", "Wu et al., CVPR 2018", "refines any network's scores; inputs logits_lr and image",
     &DGFHead<from_data, true>::build, recipe{"sgd", 2.5e-3, 0.9, 5e-4, "poly", 10, 321}, 1, 0, 9, false},
    {"dgf-image", "Deep guided filter, image to image", "Wu et al., CVPR 2018", "learns an image operator at low resolution; inputs x_lr and x_hr",
     &DeepGuidedFilter<>::build, recipe{"adam", 1e-4, 0.9, 0, "constant", 1, 512}, 1, 0, 4, false},
};

inline constexpr parity_case deep_guided_filter_parity[] = {
    {"dgf_network", "DeepGuidedFilterAdvanced radius=1 eps=1e-4 (LR net + learned guidance map + fast guided filter)", &DeepGuidedFilter<>::build},
    {"dgf_convgf", "DeepGuidedFilterGuidedMapConvGF radius=1 c=16 layer=5 without the final clamp(0,1)", &DeepGuidedFilter<16, true>::build},
    {"dgf_seg_head", "segmentation head: 1x1 conv (scale) + guided_map 3-64-K + bilinear up (align_corners=True) + GuidedFilter r=4 eps=1e-2, K=6",
     &DGFHead<>::build},
    {"dgf_deeplab_resnet101", "DeepLab-v2-style ResNet-101 (single scale) + DGF head, 6 classes", &DGFDeepLab<from_data, true>::build},
};

}  // namespace rsseg
