// SPDX-License-Identifier: MIT
// PSPNet (Zhao, Shi, Qi, Wang, Jia: "Pyramid scene parsing network", CVPR 2017, Fig. 3): a ResNet with deep stem at output stride 8,
// pyramid pooling over 1, 2, 3 and 6 bins, a 3x3 and a 1x1 convolution. x (N,B,H,W) -> logits (N,K,H,W); in training also aux, from the
// fourth stage (weight 0.4). H and W are multiples of 8 plus 1, so that the corners of all maps coincide.
// Every block of a dilated stage dilates, as in the authors' later code (semseg).
#pragma once
#include "rsseg/layers/pyramid_pooling.hpp"
#include "rsseg/nets/entry.hpp"
#include "rsseg/nets/parity_case.hpp"
#include "rsseg/nets/resnet.hpp"

namespace rsseg {

template <int Classes = from_data, int Depth = 50>
struct PSPNet {
  static constexpr void build(builder& b) {
    const value x = b.input("x", from_data);
    resnet_options o = resnet_of_depth(Depth, 8, dilation_rule::whole_stage);
    o.stem = resnet_stem::deep, o.names = semseg_names();
    const resnet_features f = resnet(b, x, o);
    value y;
    {
      const scope s(b, "ppm");
      y = pyramid_pooling(b, f.c5, {1, 2, 3, 6}, f.c5.channels / 4);
    }
    b.output("logits", head(b, "cls", y, f.c5.channels / 4, x), 1, label_rule::resize_logits, true);
    if (b.training()) b.output("aux", head(b, "aux", f.c4, f.c4.channels / 4, x), 0.4, label_rule::resize_logits, true, true);
  }

 private:
  /// 3x3 convolution, BN, ReLU, dropout, 1x1 convolution; resized to the input.
  static constexpr value head(builder& b, std::string_view name, value x, int width, value like) {
    const scope s(b, name);
    x = dropout2d(b, conv_bn_relu(b, "0", "1", x, width, {.kernel = 3}), 0.1);
    return resize_like(b, conv(b, "4", x, b.classes(Classes)), like, true);
  }
};

namespace detail {
inline constexpr recipe pspnet_recipe{.learning_rate = 0.01, .weight_decay = 1e-4, .batch = 16, .crop = 473, .head_rate = 10, .backbone = "layer"};
}
inline constexpr network_entry pspnet_networks[] = {
    {"pspnet-resnet50", "PSPNet", "Zhao et al., CVPR 2017", "pyramid pooling on a dilated ResNet-50 with deep stem, auxiliary loss 0.4",
     &PSPNet<from_data, 50>::build, detail::pspnet_recipe, 8, 1, 9},
    {"pspnet-resnet101", "PSPNet", "Zhao et al., CVPR 2017", "pyramid pooling on a dilated ResNet-101 with deep stem, auxiliary loss 0.4",
     &PSPNet<from_data, 101>::build, detail::pspnet_recipe, 8, 1, 9},
};

inline constexpr parity_case pspnet_parity[] = {
    {"pspnet", "ResNet-50 deep stem, os8, bins 1/2/3/6", &PSPNet<from_data, 50>::build},
    {"pspnet", "ResNet-101 deep stem, os8, bins 1/2/3/6", &PSPNet<from_data, 101>::build},
};

}  // namespace rsseg
