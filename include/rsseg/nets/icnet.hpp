// SPDX-License-Identifier: MIT
// ICNet (Zhao, Qi, Shen, Shi, Jia: "ICNet for real-time semantic segmentation on high-resolution images", ECCV 2018, Fig. 2): a half-width
// PSPNet on a small version of the image, corrected by shallow branches on larger ones through cascade feature fusion (Fig. 3).
// x (N,B,H,W) -> logits (N,K,H,W) in inference; in training the maps at strides 4, 8, 16 (sub124, sub24, sub4; weights 1, 0.4, 0.16).
// H and W are multiples of 32 plus 1: all resizing keeps the corners. The windows of the pyramid are floor(size / bins), as in training.
// The first block of the third stage strides in its 3x3 convolution; MsraStride puts that in the 1x1 in front, as the Caffe model has it.
#pragma once
#include "rsseg/nets/entry.hpp"
#include "rsseg/nets/parity_case.hpp"
#include "rsseg/nets/resnet.hpp"

namespace rsseg {

namespace detail {
/// Convolution without bias, BN [, ReLU] as the reference names them.
constexpr value icnet_cbr(builder& b, std::string_view name, value x, int out, const conv_options& o) {
  const scope s(b, name), inner(b, "cbr_unit");
  return conv_bn_relu(b, "0", "1", x, out, o);
}
constexpr value icnet_cb(builder& b, std::string_view name, value x, int out, const conv_options& o) {
  const scope s(b, name), inner(b, "cb_unit");
  return conv_bn(b, "0", "1", x, out, o);
}
/// (n - 1) * num / den + 1 pixels a side: corners stay corners.
constexpr value corner_resize(builder& b, value x, int num, int den) {
  return graph::ops::resize_by(b, x, num, den, interpolation::bilinear, true, true);
}
/// `count` bottlenecks layers.0, layers.1, ... with `out` channels.
constexpr value icnet_stage(builder& b, std::string_view name, value x, int count, int out, int stride, int dilation, bool stride_in_first) {
  const scope s(b, name);
  residual_options r;
  r.names.conv[0] = "cbr1.cbr_unit.0", r.names.conv[1] = "cbr2.cbr_unit.0", r.names.conv[2] = "cb3.cb_unit.0";
  r.names.norm[0] = "cbr1.cbr_unit.1", r.names.norm[1] = "cbr2.cbr_unit.1", r.names.norm[2] = "cb3.cb_unit.1";
  r.names.shortcut_conv = "cb4.cb_unit.0", r.names.shortcut_norm = "cb4.cb_unit.1";
  r.out = out, r.dilation = dilation, r.stride_in_first = stride_in_first;
  for (int i = 0; i < count; ++i) {
    const scope layer(b, numbered("layers.", i));
    r.stride = i == 0 ? stride : 1;
    x = bottleneck_block(b, x, r);
  }
  return x;
}
/// x + the resized means over 6, 3, 2 and 1 bins.
constexpr value icnet_pyramid(builder& b, value x) {
  constexpr int bins[] = {6, 3, 2, 1};
  value parts[5] = {x};
  for (int i = 0; i < 4; ++i) {
    graph::attributes at;
    at.count = 1, at.bins_h = at.bins_w = bins[i];
    value y = graph::ops::avg_pool(b, x, at);
    y.exact = false;  // its extent depends on the window
    parts[i + 1] = resize_like(b, y, x, true);
  }
  return graph::ops::add(b, parts, 5);
}
}  // namespace detail

/// What cascade feature fusion yields: the fused map at the finer resolution, and class scores of the coarser branch there.
struct cascade_fusion {
  value fused, low_scores;
};
/// low (N,C,h,w) and high (N,D,2h-1,2w-1) -> fused (N,out,2h-1,2w-1).
constexpr cascade_fusion cascade_feature_fusion(builder& b, value low, value high, int out, int classes) {
  const value up = detail::corner_resize(b, low, 2, 1);
  const value coarse = detail::icnet_cb(b, "low_dilated_conv_bn", up, out, {.kernel = 3, .dilation = 2});
  const value scores = conv(b, "low_classifier_conv", up, classes);
  const value fine = detail::icnet_cb(b, "high_proj_conv_bn", high, out, {});
  return {relu(b, add(b, coarse, fine)), scores};
}

template <int Classes = from_data, bool MsraStride = false>
struct ICNet {
  static constexpr void build(builder& b) {
    using namespace detail;
    const value x = b.input("x", from_data);
    const int classes = b.classes(Classes);
    // half of the image, to stride 16, then a quarter, to stride 32
    value y = corner_resize(b, x, 1, 2);
    y = icnet_cbr(b, "convbnrelu1_1", y, 32, {.kernel = 3, .stride = 2});
    y = icnet_cbr(b, "convbnrelu1_2", y, 32, {.kernel = 3});
    y = icnet_cbr(b, "convbnrelu1_3", y, 64, {.kernel = 3});
    y = max_pool(b, y, {.kernel = 3, .stride = 2, .padding = 1});
    y = icnet_stage(b, "res_block2", y, 3, 128, 1, 1, false);
    const value middle = icnet_stage(b, "res_block3_conv", y, 1, 256, 2, 1, MsraStride);
    y = corner_resize(b, middle, 1, 2);
    y = icnet_stage(b, "res_block3_identity", y, 3, 256, 1, 1, false);
    y = icnet_stage(b, "res_block4", y, 6, 512, 1, 2, false);
    y = icnet_stage(b, "res_block5", y, 3, 1024, 1, 4, false);
    y = icnet_cbr(b, "conv5_4_k1", icnet_pyramid(b, y), 256, {});
    // the whole image, to stride 8
    value fine = icnet_cbr(b, "convbnrelu1_sub1", x, 32, {.kernel = 3, .stride = 2});
    fine = icnet_cbr(b, "convbnrelu2_sub1", fine, 32, {.kernel = 3, .stride = 2});
    fine = icnet_cbr(b, "convbnrelu3_sub1", fine, 64, {.kernel = 3, .stride = 2});

    const cascade_fusion sub24 = fuse(b, "cff_sub24", y, middle, classes);
    const cascade_fusion sub12 = fuse(b, "cff_sub12", sub24.fused, fine, classes);
    const value scores = conv(b, "classification", corner_resize(b, sub12.fused, 2, 1), classes);
    if (b.training()) {
      b.output("sub124", scores, 1, label_rule::resize_labels, true);
      b.output("sub24", sub12.low_scores, 0.4, label_rule::resize_labels, true, true);
      b.output("sub4", sub24.low_scores, 0.16, label_rule::resize_labels, true, true);
    } else {
      b.output("logits", corner_resize(b, scores, 4, 1), 1, label_rule::resize_logits, true);
    }
  }

 private:
  static constexpr cascade_fusion fuse(builder& b, std::string_view name, value low, value high, int classes) {
    const scope s(b, name);
    return cascade_feature_fusion(b, low, high, 128, classes);
  }
};

inline constexpr network_entry icnet_networks[] = {
    {"icnet", "ICNet", "Zhao et al., ECCV 2018", "image cascade: three scales, cascade feature fusion, label guidance", &ICNet<>::build,
     recipe{.learning_rate = 0.01, .weight_decay = 1e-4, .batch = 16, .crop = 737}, 32, 1, 161},
};

inline constexpr parity_case icnet_parity[] = {
    {"icnet", "Cityscapes structure, ResNet50-half with sub4/sub2/sub1", &ICNet<>::build},
};

}  // namespace rsseg
