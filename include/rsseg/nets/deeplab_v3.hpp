// SPDX-License-Identifier: MIT
// DeepLab v3 (Chen, Papandreou, Schroff, Adam 2017, arXiv 1706.05587, Fig. 5): dilated ResNet and pyramid pooling with the image's mean.
//   ResNet-50/101 at stride 8 (or 16) -> ASPP 256 (1x1, three dilated 3x3, mean; projected) -> 3x3 256 -> 1x1 K -> bilinear to the input
//   auxiliary head on c4 (weight 0.5)
// Default: torchvision's form: rates 12, 24, 36, a 3x3 behind the projection, no multi-grid. The paper: stride 16 with rates 6, 12, 18,
// multi-grid 1, 2, 4, no such 3x3: DeepLabV3Paper.
#pragma once
#include "rsseg/layers/aspp.hpp"
#include "rsseg/layers/fcn_head.hpp"
#include "rsseg/nets/entry.hpp"
#include "rsseg/nets/resnet.hpp"

namespace rsseg {

/// KeepHeads: the auxiliary map is an output of inference, too. Paper: multi-grid and no 3x3 behind the projection.
template <int Depth = 50, int Classes = from_data, int Stride = 8, bool Paper = false, bool KeepHeads = false>
struct DeepLabV3 {
  static_assert(Stride == 8 || Stride == 16);
  static constexpr void build(builder& b) {
    const value x = b.input("x", from_data);
    const int k = b.classes(Classes);
    resnet_options o = resnet_of_depth(Depth, Stride);
    if (Paper) o.grid[1] = 2, o.grid[2] = 4, o.dilation = dilation_rule::whole_stage;
    resnet_features f;
    {
      const scope s(b, "backbone");
      f = resnet(b, x, o);
    }
    b.output("logits", resize_like(b, classifier(b, f.c5, k), x), 1);
    if (!b.training() && !KeepHeads) return;
    const value aux = resize_like(b, fcn_head(b, "aux_classifier", f.c4, f.c4.channels / 4, k), x);
    b.output("aux", aux, 0.5, label_rule::resize_logits, false, !KeepHeads);
  }

 private:
  static constexpr value classifier(builder& b, value x, int k) {
    const scope s(b, "classifier");
    aspp_options o;
    if (Stride == 16) o.rates[0] = 6, o.rates[1] = 12, o.rates[2] = 18;
    value y;
    {
      const scope first(b, "0");
      y = aspp(b, x, o);
    }
    if (!Paper) y = conv_bn_relu(b, "1", "2", y, 256, {.kernel = 3});
    return conv(b, "4", y, k);
  }
};
template <int Depth = 101, int Classes = from_data>
using DeepLabV3Paper = DeepLabV3<Depth, Classes, 16, true>;

inline constexpr network_entry deeplab_v3_networks[] = {
    {"deeplabv3-resnet50", "DeepLab v3", "Chen et al. 2017", "stride 8, auxiliary head (torchvision's form)", &DeepLabV3<50>::build,
     recipe{"sgd", 0.01, 0.9, 1e-4, "poly", 8, 480, 10, "backbone"}, 1, 0, 8},
    {"deeplabv3-resnet101", "DeepLab v3", "Chen et al. 2017", "stride 8, auxiliary head (torchvision's form)", &DeepLabV3<101>::build,
     recipe{"sgd", 0.01, 0.9, 1e-4, "poly", 8, 480, 10, "backbone"}, 1, 0, 8},
    {"deeplabv3-paper-resnet101", "DeepLab v3", "Chen et al. 2017", "stride 16, rates 6, 12, 18, multi-grid 1, 2, 4", &DeepLabV3Paper<101>::build,
     recipe{"sgd", 0.007, 0.9, 1e-4, "poly", 16, 513, 1, "backbone"}, 1, 0, 16},
};

}  // namespace rsseg
