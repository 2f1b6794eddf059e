// SPDX-License-Identifier: MIT
// Atrous spatial pyramid pooling. Version 3 (Chen et al., "Rethinking atrous convolution", 2017, Fig. 5): a 1x1 convolution, three
// dilated 3x3 convolutions and the image's mean, each with BN and ReLU, side by side, then a 1x1 projection. Version 2 (Chen et al.,
// TPAMI 2018, Fig. 4): the sum of dilated 3x3 classifiers.
#pragma once
#include "rsseg/layers/naming.hpp"
#include "rsseg/layers/separable.hpp"

namespace rsseg {

struct aspp_options {
  int out = 256;
  int rates[3] = {12, 24, 36};  ///< 6, 12, 18 at output stride 16
  bool separable = false;       ///< the dilated convolutions are depthwise separable
  double dropout = 0.5;         ///< behind the projection
  bool align_corners = false;   ///< of the resize of the pooled branch; without effect, as it comes from 1x1
  /// Scopes; the defaults are torchvision's. Branch i: branch[0] + i + branch[1], numbered from first_branch.
  std::string_view conv_prefix = "convs.", conv_suffix = ".0", norm_suffix = ".1";
  int first_branch = 0;
  std::string_view pool_conv = "convs.4.1", pool_norm = "convs.4.2";
  std::string_view project_conv = "project.0", project_norm = "project.1";
};

/// (N,C,H,W) -> (N,out,H,W).
constexpr value aspp(builder& b, value x, const aspp_options& o = {}) {
  value parts[5];
  for (int i = 0; i < 4; ++i) {
    const numbered conv_name(o.conv_prefix, i + o.first_branch, o.conv_suffix), norm_name(o.conv_prefix, i + o.first_branch, o.norm_suffix);
    value y;
    if (i == 0)
      y = conv(b, conv_name, x, o.out, {.bias = false});
    else if (o.separable)
      y = separable_conv(b, conv_name, x, o.out, {.kernel = 3, .dilation = o.rates[i - 1]});
    else
      y = conv(b, conv_name, x, o.out, {.kernel = 3, .dilation = o.rates[i - 1], .bias = false});
    parts[i] = relu(b, batch_norm(b, norm_name, y));
  }
  const value mean = conv_bn_relu(b, o.pool_conv, o.pool_norm, global_avg_pool(b, x), o.out);
  parts[4] = resize_like(b, mean, x, o.align_corners);
  const value y = conv_bn_relu(b, o.project_conv, o.project_norm, graph::ops::concat(b, parts, 5), o.out);
  return o.dropout > 0 ? dropout(b, y, o.dropout) : y;
}

/// DeepLab v2: `c0` ... `c3`, 3x3 convolutions with bias to `out` channels, dilated by rates, summed.
constexpr value aspp_sum(builder& b, value x, int out, const int (&rates)[4]) {
  value parts[4];
  for (int i = 0; i < 4; ++i) parts[i] = conv(b, numbered("c", i), x, out, {.kernel = 3, .dilation = rates[i]});
  return graph::ops::add(b, parts, 4);
}

}  // namespace rsseg
