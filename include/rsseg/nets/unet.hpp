// SPDX-License-Identifier: MIT
// U-Net (Ronneberger, Fischer, Brox: "U-Net: convolutional networks for biomedical image segmentation", MICCAI 2015, Fig. 1), four ways:
//   UNet          padded convolutions with BN, transposed convolutions: x (N,B,H,W) -> logits (N,K,H,W), any H, W from 16; the default
//                 for remote sensing. Width = channels of the first level; levels double up to 16 * Width.
//   UNetBilinear  the same with bilinear up-sampling in place of transposed convolutions.
//   UNetOriginal  the paper's: valid convolutions, no BN, skips cropped; 572 x 572 -> 388 x 388. Legal sizes: 16k + 12, from 188.
//   UNetResNet34  encoder replaced by a ResNet-34, nearest up-sampling (segmentation_models); H, W multiples of 32.
#pragma once
#include "rsseg/nets/entry.hpp"
#include "rsseg/nets/parity_case.hpp"
#include "rsseg/nets/resnet.hpp"

namespace rsseg {

enum class unet_up { transposed, bilinear };

namespace detail {
/// Two 3x3 convolutions, each with BN and ReLU; `mid` channels between them.
constexpr value double_conv(builder& b, std::string_view name, value x, int mid, int out) {
  const scope s(b, name), inner(b, "double_conv");
  x = conv_bn_relu(b, "0", "1", x, mid, {.kernel = 3});
  return conv_bn_relu(b, "3", "4", x, out, {.kernel = 3});
}

/// Decoder step of the padded U-Net: x up by 2, padded to the skip's extent, beside the skip, two convolutions: (N,out,h,w) of the skip.
constexpr value unet_up_block(builder& b, value x, value skip, int out, unet_up how) {
  const int mid = how == unet_up::bilinear ? (x.channels + skip.channels) / 2 : out;
  x = how == unet_up::bilinear ? resize_by(b, x, 2, 1, true) : conv_transpose(b, "up", x, x.channels / 2, {.kernel = 2, .stride = 2});
  x = graph::ops::pad_crop_like(b, x, skip, graph::ops::pad_rule::center_floor);
  return double_conv(b, "conv", concat(b, skip, x), mid, out);
}
}  // namespace detail

template <int Classes = from_data, int Width = 64, unet_up Up = unet_up::transposed>
struct UNet {
  static constexpr void build(builder& b) { b.output("logits", scores(b, b.input("x", from_data)), 1); }

  /// The class scores of x, for what goes on from there.
  static constexpr value scores(builder& b, value x) {
    constexpr int deepest = Up == unet_up::bilinear ? 2 : 1;  // bilinear: nothing halves the channels, so the deepest levels are thinner
    value skips[4];
    value y = detail::double_conv(b, "inc", x, Width, Width);
    for (int i = 0; i < 4; ++i) {
      skips[i] = y;
      const int out = (Width << (i + 1)) / (i == 3 ? deepest : 1);
      y = detail::double_conv(b, numbered("down", i + 1, ".maxpool_conv.1"), max_pool(b, y), out, out);
    }
    for (int i = 3; i >= 0; --i) {
      const scope s(b, numbered("up", 4 - i));
      y = detail::unet_up_block(b, y, skips[i], i == 0 ? Width : (Width << i) / deepest, Up);
    }
    return conv(b, "outc.conv", y, b.classes(Classes));
  }
};
template <int Classes = from_data, int Width = 64>
using UNetBilinear = UNet<Classes, Width, unet_up::bilinear>;

/// The network of the paper.
template <int Classes = from_data, int Width = 64>
struct UNetOriginal {
  static constexpr void build(builder& b) {
    value y = b.input("x", from_data);
    value skips[5];
    for (int i = 0; i < 5; ++i) {
      if (i > 0) y = max_pool(b, y);
      skips[i] = y = valid_pair(b, numbered("enc.", i), y, Width << i);
    }
    y = dropout(b, y, 0.5);
    for (int i = 0; i < 4; ++i) {
      const int out = Width << (3 - i);
      y = conv_transpose(b, numbered("up.", i), y, out, {.kernel = 2, .stride = 2});
      const value skip = graph::ops::pad_crop_like(b, skips[3 - i], y, graph::ops::pad_rule::center_trunc);
      y = valid_pair(b, numbered("dec.", i), concat(b, skip, y), out);
    }
    b.output("logits", conv(b, "head", y, b.classes(Classes)), 1, label_rule::crop_labels);
  }

 private:
  static constexpr value valid_pair(builder& b, std::string_view name, value x, int out) {
    const scope s(b, name);
    x = relu(b, conv(b, "0", x, out, {.kernel = 3, .padding = 0}));
    return relu(b, conv(b, "2", x, out, {.kernel = 3, .padding = 0}));
  }
};

template <int Classes = from_data>
struct UNetResNet34 {
  static constexpr void build(builder& b) {
    const value x = b.input("x", from_data);
    resnet_features f;
    {
      const scope s(b, "encoder");
      f = resnet(b, x, resnet_of_depth(34));
    }
    const value skips[] = {f.c4, f.c3, f.c2, f.stem};
    value y = f.c5;
    for (int i = 0; i < 5; ++i) {
      const scope s(b, numbered("decoder.blocks.", i));
      y = resize_by(b, y, 2, 1, false, interpolation::nearest);
      if (i < 4) y = concat(b, y, skips[i]);
      y = conv_bn_relu(b, "conv1.0", "conv1.1", y, 256 >> i, {.kernel = 3});
      y = conv_bn_relu(b, "conv2.0", "conv2.1", y, 256 >> i, {.kernel = 3});
    }
    b.output("logits", conv(b, "segmentation_head.0", y, b.classes(Classes), {.kernel = 3}), 1);
  }
};

namespace detail {
inline constexpr recipe unet_recipe{
    .optimizer = "rmsprop", .learning_rate = 1e-5, .momentum = 0.999, .weight_decay = 1e-8, .batch = 4, .crop = 512, .loss = "ce+dice", .clip = 1};
// The narrow forms are ours, and so is their recipe.
inline constexpr recipe narrow_unet_recipe{.optimizer = "adam", .learning_rate = 1e-3, .weight_decay = 1e-4, .batch = 8, .crop = 256};
}  // namespace detail
inline constexpr network_entry unet_networks[] = {
    {"unet", "U-Net", "Ronneberger et al., MICCAI 2015", "padded, with BN, transposed convolutions; 64 to 1024 channels", &UNet<>::build,
     detail::unet_recipe, 1, 0, 16},
    {"unet-16", "U-Net, 16 channels", "Ronneberger et al., MICCAI 2015", "as unet with a quarter of its channels: quick to train on a processor",
     &UNet<from_data, 16>::build, detail::narrow_unet_recipe, 1, 0, 16},
    {"unet-32", "U-Net, 32 channels", "Ronneberger et al., MICCAI 2015", "as unet with half of its channels", &UNet<from_data, 32>::build,
     detail::narrow_unet_recipe, 1, 0, 16},
    {"unet-bilinear", "U-Net, bilinear", "Ronneberger et al., MICCAI 2015", "padded, with BN, bilinear up-sampling", &UNetBilinear<>::build,
     detail::unet_recipe, 1, 0, 16},
    {"unet-original", "U-Net (2015)", "Ronneberger et al., MICCAI 2015", "valid convolutions: the map is 184 pixels smaller than the image",
     &UNetOriginal<>::build, recipe{.learning_rate = 0.01, .momentum = 0.99, .weight_decay = 0, .schedule = "constant", .batch = 1, .crop = 572}, 16,
     12, 188},
    {"unet-resnet34", "U-Net with ResNet-34", "Ronneberger et al., MICCAI 2015; He et al., CVPR 2016",
     "ResNet-34 encoder, nearest up-sampling, decoder of 256 to 16 channels", &UNetResNet34<>::build,
     recipe{.optimizer = "adam", .learning_rate = 1e-4, .weight_decay = 0, .batch = 8, .crop = 512, .backbone = "encoder."}, 32, 0, 32},
};

inline constexpr parity_case unet_parity[] = {
    {"unet", "original 2015: valid convolutions, no BN, crop-and-copy", &UNetOriginal<>::build},
    {"unet", "padded + BN, transposed convolution", &UNet<>::build},
    {"unet", "padded + BN, bilinear upsampling", &UNetBilinear<>::build},
    {"unet_resnet34", "segmentation_models.pytorch Unet resnet34", &UNetResNet34<>::build},
};

}  // namespace rsseg
