// SPDX-License-Identifier: MIT
// Attention over pixels and over channels. All of them return x + gamma * attended(x) with a learned scalar gamma that starts at 0, so
// that a new block leaves a trained network as it was.
//   self_attention2d          softmax attention over pixels, O(N^2) (Wang et al., Non-local networks, CVPR 2018; DANet, Fu et al., CVPR 2019)
//   position_linear_attention the softmax replaced by 1 + q.k of unit vectors, O(N) (Li et al. 2020, arXiv 2007.14902)
//   channel_linear_attention  the same between channels, without weights of its own
// Values are (N,C,H,W) = N matrices of H*W rows and C columns.
#pragma once
#include "rsseg/graph/ops/source.hpp"
#include "rsseg/layers/basic.hpp"

namespace rsseg {

namespace detail {
/// x + gamma * y; parameter `gamma` (1).
constexpr value add_scaled(builder& b, value x, value y) {
  const value gamma = b.parameter("gamma", {1}, graph::init::constant, 0);
  return add(b, x, graph::ops::mul_broadcast(b, y, gamma));
}
/// Sum over the pixels: (N,C,1,1).
constexpr value pixel_sum(builder& b, value x) { return graph::ops::reduce(b, x, graph::ops::axis_h | graph::ops::axis_w, false); }
/// Sum over the channels: (N,1,H,W).
constexpr value channel_sum(builder& b, value x) { return graph::ops::reduce(b, x, graph::ops::axis_c, false); }
/// Number of pixels of x as (N,1,1,1); x has one channel.
constexpr value pixel_count(builder& b, value x) { return pixel_sum(b, graph::ops::constant_like(b, x, 1)); }
}  // namespace detail

/// x + gamma * softmax_j(q_i . k_j) v_j; q, k: 1x1 to C / reduction, v: 1x1 to C; no 1 / sqrt(d). Memory grows with (H*W)^2.
constexpr value self_attention2d(builder& b, value x, int reduction = 8) {
  namespace ops = graph::ops;
  const value q = conv(b, "q", x, x.channels / reduction);
  const value k = conv(b, "k", x, x.channels / reduction);
  const value v = conv(b, "v", x, x.channels);
  const value weights = softmax(b, ops::matmul(b, q, k, false, true));  // (N,HW,H,W): row i, column j
  return detail::add_scaled(b, x, ops::matmul(b, weights, v, false, false));
}

/// out_i = (sum_j v_j + q_i . sum_j k_j v_j) / (H*W + q_i . sum_j k_j), q and k of unit length per pixel.
constexpr value position_linear_attention(builder& b, value x, int reduction = 8) {
  namespace ops = graph::ops;
  constexpr double eps = 1e-6;  // the reference's
  const value q = ops::l2_normalize(b, conv(b, "query_conv", x, x.channels / reduction), 1e-30);
  const value k = ops::l2_normalize(b, conv(b, "key_conv", x, x.channels / reduction), 1e-30);
  const value v = conv(b, "value_conv", x, x.channels);
  const value context = ops::matmul(b, k, v, true, false);  // d x C
  const value above = ops::add_broadcast(b, ops::matmul(b, q, context, false, false), detail::pixel_sum(b, v));
  const value keys = ops::affine(b, detail::pixel_sum(b, k), 1, eps);          // (N,d,1,1)
  const value match = detail::channel_sum(b, ops::mul_broadcast(b, q, keys));  // (N,1,H,W)
  const value below = ops::add_broadcast(b, match, detail::pixel_count(b, match));
  return detail::add_scaled(b, x, ops::mul_broadcast(b, above, ops::unary(b, below, function::reciprocal)));
}

/// Channels attend to channels: out_c = (sum_c' x_c' + sum_c' (x q^T)_cc' q_c') / (H*W + q_c . sum_c' q_c'), where q is x with every PIXEL
/// scaled to unit length (as the reference does, not every channel).
constexpr value channel_linear_attention(builder& b, value x) {
  namespace ops = graph::ops;
  constexpr double eps = 1e-6;
  const value q = ops::l2_normalize(b, x, 1e-30);
  const value context = ops::matmul(b, q, x, true, false);  // C x C
  const value all = detail::channel_sum(b, x);
  const value above = ops::add_broadcast(b, ops::matmul(b, q, context, false, false), all);
  const value total = ops::affine(b, detail::channel_sum(b, q), 1, eps);      // (N,1,H,W)
  const value match = detail::pixel_sum(b, ops::mul_broadcast(b, q, total));  // (N,C,1,1)
  const value below = ops::add_broadcast(b, match, detail::pixel_count(b, all));
  return detail::add_scaled(b, x, ops::mul_broadcast(b, above, ops::unary(b, below, function::reciprocal)));
}

}  // namespace rsseg
