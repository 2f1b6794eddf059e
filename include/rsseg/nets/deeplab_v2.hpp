// SPDX-License-Identifier: MIT
// DeepLab v2 (Chen, Papandreou, Kokkinos, Murphy, Yuille, TPAMI 2018, Figs. 4 and 7): dilated ResNet-101 and atrous spatial pyramid
// pooling, the SUM of four dilated 3x3 classifiers (6, 12, 18, 24).
//   ResNet at stride 8 (strides in the first 1x1, every block of a stage dilated, ceil pool)                  (N,2048,h,w)
//   aspp.c0 ... aspp.c3: 2048 to K with bias, summed; training compares with labels brought to the scores' extent
// DeepLabV2MSC: the same weights on scales 1, 0.5, 0.75, scores brought to the full scale's extent, maximum per element; in training
// all four maps are supervised. Names after kazuto1011/deeplab-pytorch; norm momentum 0.001. The authors keep the norms frozen.
#pragma once
#include "rsseg/layers/aspp.hpp"
#include "rsseg/layers/conv_block.hpp"
#include "rsseg/nets/entry.hpp"
#include "rsseg/nets/resnet.hpp"

namespace rsseg {

namespace detail {
constexpr resnet_options deeplab_v2_backbone() {
  resnet_options o = resnet_of_depth(101, 8, dilation_rule::whole_stage);
  o.stride_in_first = o.ceil_pool = true;
  o.momentum = 0.001;
  resnet_names n;
  n.stem_conv[0] = "layer1.conv1.conv", n.stem_norm[0] = "layer1.conv1.bn";
  n.stages[0] = "layer2", n.stages[1] = "layer3", n.stages[2] = "layer4", n.stages[3] = "layer5";
  n.block_prefix = "block", n.first_block = 1;
  n.conv[0] = "reduce.conv", n.conv[1] = "conv3x3.conv", n.conv[2] = "increase.conv";
  n.norm[0] = "reduce.bn", n.norm[1] = "conv3x3.bn", n.norm[2] = "increase.bn";
  n.shortcut_conv = "shortcut.conv", n.shortcut_norm = "shortcut.bn";
  o.names = n;
  return o;
}
}  // namespace detail

/// B1..B4: bottlenecks per stage; 3, 4, 23, 3 is ResNet-101.
template <int Classes = from_data, int B1 = 3, int B2 = 4, int B3 = 23, int B4 = 3>
struct DeepLabV2 {
  /// Scores at stride 8.
  static constexpr value scores(builder& b, value x) {
    resnet_options o = detail::deeplab_v2_backbone();
    o.blocks[0] = B1, o.blocks[1] = B2, o.blocks[2] = B3, o.blocks[3] = B4;
    const value f = resnet(b, x, o).c5;
    const scope s(b, "aspp");
    return aspp_sum(b, f, b.classes(Classes), {6, 12, 18, 24});
  }
  static constexpr void build(builder& b) {
    const value x = b.input("x", from_data);
    output_scores(b, scores(b, x), x, label_rule::resize_labels);
  }
};

/// Maximum over scales 1, 0.5 and 0.75 of Net.
template <class Net>
struct MultiScaleMax {
  static constexpr void build(builder& b) {
    const value x = b.input("x", from_data);
    value parts[3];
    const value largest = maximum(b, x, parts);
    if (!b.training()) return b.output("logits", resize_like(b, largest, x), 1);
    declare(b, "logits", largest, parts);
  }
  /// The maximum (N,K,h,w); each: the scores of the scales at their own extents.
  static constexpr value maximum(builder& b, value x, value (&each)[3]) {
    namespace ops = graph::ops;
    const scope s(b, "base");
    each[0] = Net::scores(b, x);
    const shared_weights shared(b);
    each[1] = Net::scores(b, ops::resize_by(b, x, 1, 2, interpolation::bilinear, false, false, 2.0));
    each[2] = Net::scores(b, ops::resize_by(b, x, 3, 4, interpolation::bilinear, false, false, 4.0 / 3.0));
    const value all[] = {each[0], resize_like(b, each[1], each[0]), resize_like(b, each[2], each[0])};
    return ops::maximum(b, all, 3);
  }
  static constexpr void declare(builder& b, std::string_view first, value largest, const value (&each)[3]) {
    b.output(first, largest, 1, label_rule::resize_labels);
    constexpr std::string_view names[] = {"x1", "x0.5", "x0.75"};
    for (int i = 0; i < 3; ++i) b.output(names[i], each[i], 1, label_rule::resize_labels, false, true);
  }
};
template <int Classes = from_data>
using DeepLabV2MSC = MultiScaleMax<DeepLabV2<Classes>>;

inline constexpr network_entry deeplab_v2_networks[] = {
    {"deeplabv2-resnet101", "DeepLab v2", "Chen et al., TPAMI 2018", "ResNet-101 dilated to stride 8, sum of four dilated classifiers",
     &DeepLabV2<>::build, recipe{"sgd", 2.5e-4, 0.9, 5e-4, "poly", 10, 321, 10, "layer1,layer2,layer3,layer4,layer5"}, 1, 0, 8},
    {"deeplabv2-small", "DeepLab v2", "Chen et al., TPAMI 2018", "two bottlenecks per stage (ours)", &DeepLabV2<from_data, 2, 2, 2, 2>::build,
     recipe{"sgd", 2.5e-4, 0.9, 5e-4, "poly", 10, 321, 10, "layer1,layer2,layer3,layer4,layer5"}, 1, 0, 8},
    {"deeplabv2-msc", "DeepLab v2, multi-scale", "Chen et al., TPAMI 2018", "maximum over scales 1, 0.5, 0.75, all supervised",
     &DeepLabV2MSC<>::build, recipe{"sgd", 2.5e-4, 0.9, 5e-4, "poly", 5, 321, 10, "base.layer1,base.layer2,base.layer3,base.layer4,base.layer5"}, 1,
     0, 16},
};

}  // namespace rsseg
