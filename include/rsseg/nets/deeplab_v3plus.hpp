// SPDX-License-Identifier: MIT
// DeepLab v3+ (Chen, Zhu, Papandreou, Schroff, Adam: "Encoder-decoder with atrous separable convolution", ECCV 2018, Fig. 2): atrous
// spatial pyramid pooling on a dilated backbone, then a light decoder that adds the low-level map at stride 4.
// x (N,B,H,W) -> logits (N,K,H,W), bilinear with aligned corners throughout. Backbones: ResNet-101 with multi-grid (1,2,4), the modified
// Xception; output stride 16 (rates 6, 12, 18) or 8 (12, 24, 36). Plain convolutions in pyramid and decoder, as in the most used public
// code; DeepLabV3PlusSeparable is the light form on ResNet-18 with separable ones (rates 12, 24, 36).
#pragma once
#include "rsseg/layers/aspp.hpp"
#include "rsseg/nets/entry.hpp"
#include "rsseg/nets/parity_case.hpp"
#include "rsseg/nets/resnet.hpp"
#include "rsseg/nets/xception.hpp"

namespace rsseg {

enum class deeplab_backbone { resnet101, xception };

template <int Classes = from_data, deeplab_backbone Backbone = deeplab_backbone::resnet101, int Stride = 16>
struct DeepLabV3Plus {
  static_assert(Stride == 8 || Stride == 16, "DeepLabV3Plus: the output stride is 8 or 16");
  static constexpr void build(builder& b) {
    const value x = b.input("x", from_data);
    value low, high;
    {
      const scope s(b, "backbone");
      if constexpr (Backbone == deeplab_backbone::xception) {
        const xception_features f = xception(b, x, Stride);
        low = f.low, high = f.out;
      } else {
        resnet_options o = resnet_of_depth(101, Stride, dilation_rule::whole_stage);
        o.grid[1] = 2, o.grid[2] = 4;
        const resnet_features f = resnet(b, x, o);
        low = f.c2, high = f.c5;
      }
    }
    value y;
    {
      const scope s(b, "aspp");
      y = aspp(b, high, pyramid());
    }
    {
      const scope s(b, "decoder");
      low = conv_bn_relu(b, "conv1", "bn1", low, 48);
      y = concat(b, resize_like(b, y, low, true), low);
      y = dropout(b, conv_bn_relu(b, "last_conv.0", "last_conv.1", y, 256, {.kernel = 3}), 0.5);
      y = dropout(b, conv_bn_relu(b, "last_conv.4", "last_conv.5", y, 256, {.kernel = 3}), 0.1);
      y = conv(b, "last_conv.8", y, b.classes(Classes));
    }
    b.output("logits", resize_like(b, y, x, true), 1, label_rule::resize_logits, true);
  }

 private:
  static constexpr aspp_options pyramid() {
    aspp_options o;
    for (int i = 0; i < 3; ++i) o.rates[i] = (i + 1) * 96 / Stride;
    o.align_corners = true;
    o.conv_prefix = "aspp", o.conv_suffix = ".atrous_conv", o.norm_suffix = ".bn", o.first_branch = 1;
    o.pool_conv = "global_avg_pool.1", o.pool_norm = "global_avg_pool.2";
    o.project_conv = "conv1", o.project_norm = "bn1";
    return o;
  }
};

/// ResNet-18 at output stride 16, everything behind it separable.
template <int Classes = from_data>
struct DeepLabV3PlusSeparable {
  static constexpr void build(builder& b) {
    const value x = b.input("x", from_data);
    resnet_features f;
    {
      const scope s(b, "encoder");
      f = resnet(b, x, resnet_of_depth(18, 16, dilation_rule::whole_stage));
    }
    value y;
    {
      const scope s(b, "decoder");
      {
        const scope inner(b, "aspp");
        {
          const scope pyramid(b, "0");
          y = aspp(b, f.c5, {.separable = true, .align_corners = true});
        }
        const scope fuse(b, "1");
        y = separable_conv(b, y, 256, {.kernel = 3});
      }
      y = relu(b, batch_norm(b, "aspp.2", y));
      const value low = conv_bn_relu(b, "block1.0", "block1.1", f.c2, 48);
      y = concat(b, resize_like(b, y, low, true), low);
      y = relu(b, batch_norm(b, "block2.1", separable_conv(b, "block2.0", y, 256, {.kernel = 3})));
    }
    y = conv(b, "segmentation_head.0", y, b.classes(Classes));
    b.output("logits", resize_like(b, y, x, true), 1, label_rule::resize_logits, true);
  }
};

template <int Classes = from_data, int Stride = 16>
using DeepLabV3PlusXception = DeepLabV3Plus<Classes, deeplab_backbone::xception, Stride>;

namespace detail {
inline constexpr recipe deeplab_v3plus_recipe{
    .learning_rate = 0.007, .weight_decay = 5e-4, .batch = 16, .crop = 513, .head_rate = 10, .backbone = "backbone.,encoder."};
}
inline constexpr network_entry deeplab_v3plus_networks[] = {
    {"deeplabv3plus-resnet101", "DeepLab v3+", "Chen et al., ECCV 2018", "ResNet-101 at output stride 16", &DeepLabV3Plus<>::build,
     detail::deeplab_v3plus_recipe, 1, 0, 33},
    {"deeplabv3plus-resnet101-os8", "DeepLab v3+", "Chen et al., ECCV 2018", "ResNet-101 at output stride 8",
     &DeepLabV3Plus<from_data, deeplab_backbone::resnet101, 8>::build, detail::deeplab_v3plus_recipe, 1, 0, 33},
    {"deeplabv3plus-resnet18", "DeepLab v3+, light", "Chen et al., ECCV 2018", "ResNet-18 at output stride 16, separable pyramid and decoder",
     &DeepLabV3PlusSeparable<>::build, detail::deeplab_v3plus_recipe, 1, 0, 33},
    {"deeplabv3plus-xception", "DeepLab v3+", "Chen et al., ECCV 2018", "modified aligned Xception at output stride 16",
     &DeepLabV3PlusXception<>::build, detail::deeplab_v3plus_recipe, 1, 0, 33},
    {"deeplabv3plus-xception-os8", "DeepLab v3+", "Chen et al., ECCV 2018", "modified aligned Xception at output stride 8",
     &DeepLabV3PlusXception<from_data, 8>::build, detail::deeplab_v3plus_recipe, 1, 0, 33},
};

inline constexpr parity_case deeplab_v3plus_parity[] = {
    {"deeplabv3plus", "resnet, output stride 16", &DeepLabV3Plus<>::build},
    {"deeplabv3plus", "resnet, output stride 8", &DeepLabV3Plus<from_data, deeplab_backbone::resnet101, 8>::build},
    {"deeplabv3plus", "xception, output stride 16", &DeepLabV3PlusXception<>::build},
    {"deeplabv3plus", "xception, output stride 8", &DeepLabV3PlusXception<from_data, 8>::build},
    {"deeplabv3plus", "segmentation_models.pytorch resnet18, os16, separable ASPP", &DeepLabV3PlusSeparable<>::build},
};

}  // namespace rsseg
