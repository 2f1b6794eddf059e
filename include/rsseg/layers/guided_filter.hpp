// SPDX-License-Identifier: MIT
// The guided filter (He, Sun, Tang, PAMI 2013) as a piece of a network, after "Fast end-to-end trainable guided filter" (Wu, Zheng, Zhang,
// Huang, CVPR 2018): y is locally a linear function of the guide x, channel by channel.
//   A = cov(x, y) / (var x + eps), b = mean y - A mean x over windows of (2 radius + 1)^2 pixels, clipped at the border
//   guided_filter       out = mean(A) x + mean(b), all of one extent
//   fast_guided_filter  A and b from small maps, brought to the extent of the large guide (corners aligned): out = A x_hr + b
// Differentiable in both inputs. Variances are formed as E[x^2] - E[x]^2: in float, eps below 1e-6 of x^2 is lost.
#pragma once
#include "rsseg/graph/ops/source.hpp"
#include "rsseg/layers/basic.hpp"

namespace rsseg {

namespace detail {
/// Mean over the window, clipped at the border.
constexpr value box_mean(builder& b, value x, int radius) {
  return avg_pool(b, x, {.kernel = 2 * radius + 1, .stride = 1, .padding = radius, .count_inside = true});
}
/// x - y z.
constexpr value minus_product(builder& b, value x, value y, value z) { return add(b, x, graph::ops::affine(b, mul(b, y, z), -1, 0)); }

struct linear_model {
  value a, b;
};
/// A and b of the windows; a guide of one channel guides every channel of y.
constexpr linear_model guided_model(builder& b, value x, value y, int radius, double eps) {
  namespace ops = graph::ops;
  if (x.channels == 1 && y.channels > 1) x = ops::broadcast_like(b, x, y);
  const value mean_x = box_mean(b, x, radius), mean_y = box_mean(b, y, radius);
  const value covariance = minus_product(b, box_mean(b, mul(b, x, y), radius), mean_x, mean_y);
  const value variance = minus_product(b, box_mean(b, mul(b, x, x), radius), mean_x, mean_x);
  const value a = mul(b, covariance, ops::unary(b, ops::affine(b, variance, 1, eps), function::reciprocal));
  return {a, minus_product(b, mean_y, a, mean_x)};
}
}  // namespace detail

/// Guide x (N,C or 1,H,W), filtered y (N,C,H,W); radius in pixels.
constexpr value guided_filter(builder& b, value x, value y, int radius, double eps) {
  const detail::linear_model m = detail::guided_model(b, x, y, radius, eps);
  if (x.channels == 1 && y.channels > 1) x = graph::ops::broadcast_like(b, x, y);
  return add(b, mul(b, detail::box_mean(b, m.a, radius), x), detail::box_mean(b, m.b, radius));
}

/// Guide and y at a small extent (N,C,h,w), guide at the wanted one (N,C,H,W).
constexpr value fast_guided_filter(builder& b, value x, value y, value x_large, int radius, double eps) {
  const detail::linear_model m = detail::guided_model(b, x, y, radius, eps);
  const value a = resize_like(b, m.a, x_large, true);
  return add(b, mul(b, a, x_large), resize_like(b, m.b, x_large, true));
}

/// w_0 x + w_1 BN(x): starts as the identity (Chen, Xu, Koltun, ICCV 2017). Parameters w_0, w_1 (1) and bn.*.
constexpr value adaptive_norm(builder& b, value x, const norm_options& o = {1e-3, 0.999}) {
  namespace ops = graph::ops;
  const value keep = b.parameter("w_0", {1}, graph::init::constant, 1), change = b.parameter("w_1", {1}, graph::init::constant, 0);
  return add(b, ops::mul_broadcast(b, x, keep), ops::mul_broadcast(b, batch_norm(b, "bn", x, o), change));
}

/// The filter with learned windows (ConvGuidedFilter of the same paper): means by a depthwise 3x3 convolution divided by the same of
/// ones, A by 1x1 convolutions (32, 32, C) of [cov(x, y), var x].
constexpr value conv_guided_filter(builder& b, value x, value y, value x_large, int radius) {
  namespace ops = graph::ops;
  b.require_same_channels(x, y);
  const int channels = x.channels;
  const scope s(b, "gf");
  value weight;
  {
    const scope box(b, "box_filter");
    weight = b.parameter("weight", {channels, 1, 3, 3}, graph::init::constant, 1);
  }
  const graph::attributes at = detail::conv_attributes({.kernel = 3, .dilation = radius, .groups = 0, .bias = false}, channels, channels);
  const value share = ops::unary(b, ops::conv(b, ops::constant_like(b, x, 1), weight, value{}, at), function::reciprocal);
  const auto mean = [&](value v) { return mul(b, ops::conv(b, v, weight, value{}, at), share); };
  const value mean_x = mean(x), mean_y = mean(y);
  const value covariance = detail::minus_product(b, mean(mul(b, x, y)), mean_x, mean_y);
  const value variance = detail::minus_product(b, mean(mul(b, x, x)), mean_x, mean_x);
  value a = concat(b, covariance, variance);
  {
    const scope c(b, "conv_a");
    constexpr std::string_view convs[] = {"0", "3"}, norms[] = {"1", "4"};
    for (int i = 0; i < 2; ++i) {
      a = conv(b, convs[i], a, 32, {.bias = false});
      const scope n(b, norms[i]);
      a = relu(b, adaptive_norm(b, a));
    }
    a = conv(b, "6", a, channels, {.bias = false});
  }
  const value offset = detail::minus_product(b, mean_y, a, mean_x);
  return add(b, mul(b, resize_like(b, a, x_large, true), x_large), resize_like(b, offset, x_large, true));
}

}  // namespace rsseg
