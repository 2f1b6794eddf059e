// SPDX-License-Identifier: MIT
// The blocks most networks are made of, with the names torch.nn.Sequential gives their parts.
#pragma once
#include "rsseg/layers/combinators.hpp"
#include "rsseg/layers/naming.hpp"

namespace rsseg {

/// conv -> BN -> ReLU, parameters name.0 and name.1; no bias.
constexpr value conv_block(builder& b, std::string_view name, value x, int out, const conv_options& o = {.kernel = 3}) {
  const scope s(b, name);
  return conv_bn_relu(b, "0", "1", x, out, o);
}

/// The same with a bias in the convolution (as the SegNet and VGG-BN families have it, although the norm takes it away again).
constexpr value conv_block_biased(builder& b, std::string_view conv_name, std::string_view norm_name, value x, int out,
                                  const conv_options& o = {.kernel = 3}) {
  return relu(b, batch_norm(b, norm_name, conv(b, conv_name, x, out, o)));
}

/// 1x1 convolution with bias whose weights start at zero: scores, or log variances, that are to start neutral.
constexpr value zero_conv(builder& b, std::string_view name, value x, int out) {
  b.require_channels(x);
  const scope s(b, name);
  const value w = b.parameter("weight", {out, x.channels, 1, 1}, graph::init::constant, 0);
  return graph::ops::conv(b, x, w, b.parameter("bias", {out}, graph::init::constant, 0), detail::conv_attributes({}, out, x.channels));
}

/// linear() whose weights start at zero.
constexpr value zero_linear(builder& b, std::string_view name, value x, int out) {
  b.require_channels(x);
  const scope s(b, name);
  graph::attributes at;
  at.count = out;
  const value w = b.parameter("weight", {out, x.channels}, graph::init::constant, 0);
  return graph::ops::conv(b, x, w, b.parameter("bias", {out}, graph::init::constant, 0), at);
}

/// Two conv blocks, name.0 and name.1: what every level of a U-shaped network has.
constexpr value double_conv_block(builder& b, std::string_view name, value x, int out, int second_dilation = 1) {
  const scope s(b, name);
  return conv_block(b, "1", conv_block(b, "0", x, out), out, {.kernel = 3, .dilation = second_dilation});
}

/// Declares `logits` of a network whose scores are smaller than its input: in inference they are brought to the input's extent, in
/// training the loss decides (rule).
constexpr void output_scores(builder& b, value scores, value x, label_rule rule = label_rule::resize_logits, bool align_corners = false) {
  b.output("logits", b.training() ? scores : resize_like(b, scores, x, align_corners), 1, rule, align_corners);
}

}  // namespace rsseg
