// SPDX-License-Identifier: MIT
// The head of fully convolutional networks: 3x3 to a narrower map, BN, ReLU, dropout, 1x1 to the classes. Main head of FCN-ResNet,
// auxiliary head of DeepLab v3 and PSPNet. Names 0, 1 and 4 as in torchvision's Sequential.
#pragma once
#include "rsseg/layers/basic.hpp"

namespace rsseg {

/// (N,C,h,w) -> (N,classes,h,w).
constexpr value fcn_head(builder& b, std::string_view name, value x, int width, int classes, double drop = 0.1) {
  const scope s(b, name);
  const value y = dropout(b, conv_bn_relu(b, "0", "1", x, width, {.kernel = 3}), drop);
  return conv(b, "4", y, classes);
}

}  // namespace rsseg
