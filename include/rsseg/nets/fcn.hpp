// SPDX-License-Identifier: MIT
// Fully convolutional networks (Long, Shelhamer, Darrell, CVPR 2015; PAMI 2017, Fig. 3): VGG-16 whose classifier became convolutions,
// scores added from coarse to fine, learned up-sampling.
//   conv1_1 pads by 100; pools 2x2 ceil; fc6 7x7, fc7 1x1 (Width channels), score_fr 1x1 to K at stride 32
//   32s: up 64x64/32, crop 19 | 16s: up 4x4/2 + score_pool4 (crop 5), up 32x32/16, crop 27
//   8s:  as 16s, up 4x4/2 + score_pool3 (crop 9), up 16x16/8, crop 31 | at once: pool4 x 0.01 and pool3 x 0.0001 before their scores
// After the authors' Caffe files as ported in wkentaro/pytorch-fcn. Any input size is legal because of the padding. Up-sampling starts as
// bilinear and is learned (the authors fix the last one), score layers start at zero.
// FCN-ResNet-50: torchvision's modern form, dilated to stride 8, auxiliary head on c4 with weight 0.5.
#pragma once
#include "rsseg/layers/conv_block.hpp"
#include "rsseg/layers/fcn_head.hpp"
#include "rsseg/nets/entry.hpp"
#include "rsseg/nets/resnet.hpp"
#include "rsseg/nets/vgg.hpp"

namespace rsseg {

namespace detail {
/// Transposed convolution K -> K without bias that starts as bilinear up-sampling by `stride`.
constexpr value fcn_upscore(builder& b, std::string_view name, value x, int kernel, int stride) {
  const scope s(b, name);
  const graph::attributes at = conv_attributes({.kernel = kernel, .stride = stride, .padding = 0}, x.channels, x.channels);
  const value w = b.parameter("weight", {x.channels, x.channels, kernel, kernel}, graph::init::bilinear_upsample);
  return graph::ops::conv_transpose(b, x, w, value{}, at);
}
/// The part of x that begins at (offset, offset) and is as large as `like`.
constexpr value fcn_crop(builder& b, value x, value like, int offset) {
  return graph::ops::pad_crop_like(b, x, like, graph::ops::pad_rule::offset, -offset, -offset);
}
}  // namespace detail

/// Stride: 32, 16 or 8. Width of fc6 and fc7: 4096 in the paper. AtOnce: the 8s form trained in one stage.
template <int Stride = 8, int Classes = from_data, int Width = 4096, bool AtOnce = false>
struct FCN {
  static_assert(Stride == 32 || Stride == 16 || Stride == 8);
  static constexpr void build(builder& b) {
    const value x = b.input("x", from_data);
    const int k = b.classes(Classes);
    const vgg_features f = vgg(b, x, vgg_fcn());
    value y = dropout2d(b, relu(b, conv(b, "fc6", f.out, Width, {.kernel = 7, .padding = 0})), 0.5);
    y = dropout2d(b, relu(b, conv(b, "fc7", y, Width)), 0.5);
    y = zero_conv(b, "score_fr", y, k);
    if constexpr (Stride == 32) {
      y = detail::fcn_crop(b, detail::fcn_upscore(b, "upscore", y, 64, 32), x, 19);
    } else {
      y = detail::fcn_upscore(b, "upscore2", y, 4, 2);
      y = add(b, y, skip(b, "score_pool4", f.pool[3], AtOnce ? 0.01 : 1, y, 5));
      if constexpr (Stride == 16) {
        y = detail::fcn_crop(b, detail::fcn_upscore(b, "upscore16", y, 32, 16), x, 27);
      } else {
        y = detail::fcn_upscore(b, "upscore_pool4", y, 4, 2);
        y = add(b, y, skip(b, "score_pool3", f.pool[2], AtOnce ? 0.0001 : 1, y, 9));
        y = detail::fcn_crop(b, detail::fcn_upscore(b, "upscore8", y, 16, 8), x, 31);
      }
    }
    b.output("logits", y, 1);
  }

 private:
  static constexpr value skip(builder& b, std::string_view name, value pool, double factor, value like, int offset) {
    if (factor != 1) pool = graph::ops::affine(b, pool, factor, 0);
    return detail::fcn_crop(b, zero_conv(b, name, pool, b.classes(Classes)), like, offset);
  }
};
template <int Classes = from_data>
using FCN32s = FCN<32, Classes>;
template <int Classes = from_data>
using FCN16s = FCN<16, Classes>;
template <int Classes = from_data>
using FCN8s = FCN<8, Classes>;

/// KeepHeads: the auxiliary map is an output of inference, too.
template <int Depth = 50, int Classes = from_data, bool KeepHeads = false>
struct FCNResNet {
  static constexpr void build(builder& b) {
    const value x = b.input("x", from_data);
    const int k = b.classes(Classes);
    resnet_features f;
    {
      const scope s(b, "backbone");
      f = resnet(b, x, resnet_of_depth(Depth, 8));
    }
    b.output("logits", resize_like(b, fcn_head(b, "classifier", f.c5, f.c5.channels / 4, k), x), 1);
    if (!b.training() && !KeepHeads) return;
    const value aux = resize_like(b, fcn_head(b, "aux_classifier", f.c4, f.c4.channels / 4, k), x);
    b.output("aux", aux, 0.5, label_rule::resize_logits, false, !KeepHeads);
  }
};

inline constexpr network_entry fcn_networks[] = {
    {"fcn-32s", "FCN-32s", "Long, Shelhamer, Darrell, CVPR 2015", "VGG-16, one up-sampling by 32; padding 100", &FCN<32>::build,
     recipe{"sgd", 1e-3, 0.9, 5e-4, "poly", 4, 500}},
    {"fcn-16s", "FCN-16s", "Long, Shelhamer, Darrell, CVPR 2015", "scores of pool4 added", &FCN<16>::build,
     recipe{"sgd", 1e-3, 0.9, 5e-4, "poly", 4, 500}},
    {"fcn-8s", "FCN-8s", "Long, Shelhamer, Darrell, CVPR 2015", "scores of pool4 and pool3 added", &FCN<8>::build,
     recipe{"sgd", 1e-3, 0.9, 5e-4, "poly", 4, 500}},
    {"fcn-8s-atonce", "FCN-8s at once", "Shelhamer, Long, Darrell, PAMI 2017", "skips scaled down so that one training stage is enough",
     &FCN<8, from_data, 4096, true>::build, recipe{"sgd", 1e-3, 0.9, 5e-4, "poly", 4, 500}},
    {"fcn-8s-narrow", "FCN-8s", "Long, Shelhamer, Darrell, CVPR 2015", "fc6 and fc7 with 512 channels instead of 4096 (ours)",
     &FCN<8, from_data, 512, true>::build, recipe{"sgd", 1e-3, 0.9, 5e-4, "poly", 4, 500}},
    {"fcn-resnet50", "FCN-ResNet-50", "torchvision, after Long et al. 2015", "dilated to stride 8, auxiliary head", &FCNResNet<50>::build,
     recipe{"sgd", 0.01, 0.9, 1e-4, "poly", 8, 480, 10, "backbone"}, 1, 0, 8},
};

}  // namespace rsseg
