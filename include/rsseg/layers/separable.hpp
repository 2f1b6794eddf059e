// SPDX-License-Identifier: MIT
// Depthwise separable convolution (Chollet, "Xception", CVPR 2017, Fig. 4): one spatial filter per channel, then a 1x1 convolution.
// Two dialects: plain (MobileNet, segmentation_models) and with a norm in between (the aligned Xception of DeepLab v3+).
#pragma once
#include "rsseg/layers/basic.hpp"

namespace rsseg {

/// `0` depthwise, `1` pointwise, no biases, nothing in between: (N,C,H,W) -> (N,out,H/stride,W/stride).
constexpr value separable_conv(builder& b, value x, int out, conv_options o) {
  o.groups = 0, o.bias = false;
  x = conv(b, "0", x, x.channels, o);
  return conv(b, "1", x, out, {.bias = false});
}
constexpr value separable_conv(builder& b, std::string_view name, value x, int out, const conv_options& o) {
  const scope s(b, name);
  return separable_conv(b, x, out, o);
}

/// `conv1` depthwise, `bn`, `pointwise`, no ReLU inside.
constexpr value separable_conv_bn(builder& b, value x, int out, conv_options o) {
  o.groups = 0, o.bias = false;
  x = batch_norm(b, "bn", conv(b, "conv1", x, x.channels, o));
  return conv(b, "pointwise", x, out, {.bias = false});
}
constexpr value separable_conv_bn(builder& b, std::string_view name, value x, int out, const conv_options& o) {
  const scope s(b, name);
  return separable_conv_bn(b, x, out, o);
}

}  // namespace rsseg
