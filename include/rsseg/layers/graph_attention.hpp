// SPDX-License-Identifier: MIT
// Graphs of image regions: a graph that the features construct themselves (SCG; Liu et al., SCG-Net 2020, and MSCG-Net, CVPRW 2020) and
// attention along its edges (GAT; Velickovic et al., ICLR 2018). Nodes are the pixels of a small map: a value (N,F,h,w) is N graphs of
// h*w nodes with F features, a value (N,h*w,h,w) N adjacency matrices (row = pixel).
#pragma once
#include "rsseg/graph/ops/source.hpp"
#include "rsseg/layers/conv_block.hpp"

namespace rsseg {

/// What the construction of a graph yields.
struct constructed_graph {
  value adjacency;    ///< (N,h*w,h,w), symmetric, normalised by degrees
  value nodes;        ///< (N,C,h,w): the features, averaged to the grid
  value prediction;   ///< (N,K,h,w): residual prediction z_hat = mean(gamma) mu (1 - log sigma)
  value regulariser;  ///< (1,1,1,1): Kullback-Leibler term minus diagonal term, to be added to the loss
};

namespace detail {
/// The graph of node embeddings; mu, log_sigma (N,K,h,w) or any N x nodes x K.
/// `stream` tells apart draws under one name.
constexpr constructed_graph construct_graph(builder& b, value mu, value log_sigma, int node_count, int stream = 0) {
  namespace ops = graph::ops;
  constexpr int everywhere = ops::axis_n | ops::axis_h | ops::axis_w;
  constructed_graph g;
  const value sigma = ops::unary(b, log_sigma, function::exp);
  value z = mu;
  if (b.training()) {
    const scope draw(b, numbered("noise", stream));
    z = add(b, mu, mul(b, sigma, ops::noise(b, mu)));
  }
  const value a = relu(b, ops::matmul(b, z, z, false, true));
  const value d = ops::diagonal(b, a);  // (N,1,nodes,1)
  // gamma = sqrt(1 + 1 / mean diagonal) strengthens weak self-loops.
  const value mean = ops::reduce(b, d, ops::axis_h | ops::axis_w, true);
  const value inverse = ops::unary(b, ops::unary(b, mean, function::clamp_min, 1e-3), function::reciprocal);
  const value gamma = ops::unary(b, ops::affine(b, inverse, 1, 1), function::sqrt);  // (N,1,1,1)
  const value gamma_mean = ops::reduce(b, gamma, everywhere, true);
  const value spread = sum(b, ops::affine(b, log_sigma, 2, 1), ops::affine(b, ops::unary(b, mu, function::square), -1, 0),
                           ops::affine(b, ops::unary(b, sigma, function::square), -1, 0));
  const value kl = ops::affine(b, ops::reduce(b, ops::reduce(b, spread, ops::axis_c, false), everywhere, true), -0.5 / node_count, 0);
  // Diagonal elements below 1 are pulled up; above 1 the logarithm is (as good as) 0.
  const value below_one = ops::affine(b, ops::unary(b, d, function::clamp_max, 1), 1, 1e-7);
  const value logs = ops::affine(b, ops::reduce(b, ops::unary(b, below_one, function::log), everywhere, true), -1.0 / node_count, 0);
  g.regulariser = add(b, kl, mul(b, gamma_mean, logs));
  // A + gamma diag(A) + I, then D^-1/2 . D^-1/2.
  const value looped = ops::add_diagonal(b, a, ops::affine(b, ops::mul_broadcast(b, d, gamma), 1, 1));
  const value row = ops::unary(b, ops::affine(b, ops::reduce(b, looped, ops::axis_c, false), 1, 1e-5), function::rsqrt);
  const value column = ops::unary(b, ops::affine(b, ops::reduce(b, looped, ops::axis_h | ops::axis_w, false), 1, 1e-5), function::rsqrt);
  g.adjacency = ops::mul_broadcast(b, ops::mul_broadcast(b, looped, row), column);
  g.prediction = ops::mul_broadcast(b, mul(b, mu, ops::affine(b, log_sigma, -1, 1)), gamma_mean);
  return g;
}
}  // namespace detail

/// Self-constructing graph on a grid of rows x columns nodes with K embedding channels: `mu` 3x3, `logvar` 1x1 (acts as log sigma; starts at
/// sigma = 1, ours, since exp of random numbers would drown the loss).
/// Used several times with the same weights, every use needs a `stream` of its own.
constexpr constructed_graph self_constructing_graph(builder& b, value x, int k, int rows, int columns, int stream = 0) {
  const value nodes = adaptive_avg_pool(b, x, rows, columns);
  const value mu = conv(b, "mu", nodes, k, {.kernel = 3});
  const value log_sigma = zero_conv(b, "logvar", nodes, k);
  constructed_graph g = detail::construct_graph(b, mu, log_sigma, rows * columns, stream);
  g.nodes = nodes;
  return g;
}

namespace detail {
/// sum_j softmax_j(LeakyReLU_0.2(source_i + target_j) + prior_ij) features_j for one head; source, target (N,1,h,w), prior N x nodes x nodes.
constexpr value attend_to_neighbours(builder& b, value features, value source, value target, value prior) {
  namespace ops = graph::ops;
  const value scores = leaky_relu(b, ops::add_broadcast(b, source, ops::transpose(b, target)), 0.2);
  return ops::matmul(b, softmax(b, add(b, scores, prior)), features, false, false);
}
}  // namespace detail

/// Graph attention with `heads` heads of `width` channels; `W` (heads * width, in) without bias, `a_src`, `a_dst` (heads, width), `bias`.
/// Edge weights enter as a prior: ln A is added to the scores, A = 0 is no edge. Heads are concatenated, or averaged (concatenated = false).
/// x (N,F,h,w), log_adjacency N x nodes x nodes.
constexpr value graph_attention(builder& b, value x, value log_adjacency, int heads, int width, bool concatenated) {
  namespace ops = graph::ops;
  const value h = linear(b, "W", x, heads * width, false);
  graph::attributes per_head;
  per_head.groups = heads, per_head.count = heads;  // a.h of every head: a grouped 1x1 convolution
  const value source = ops::conv(b, h, b.parameter("a_src", {heads, width}, graph::init::kaiming_uniform), value{}, per_head);
  const value target = ops::conv(b, h, b.parameter("a_dst", {heads, width}, graph::init::kaiming_uniform), value{}, per_head);
  graph::list<value> parts;
  for (int i = 0; i < heads; ++i)
    parts.push_back(
        detail::attend_to_neighbours(b, ops::slice(b, h, i * width, width), ops::slice(b, source, i, 1), ops::slice(b, target, i, 1), log_adjacency));
  value y = heads == 1     ? parts[0]
            : concatenated ? ops::concat(b, parts.begin(), heads)
                           : ops::affine(b, ops::add(b, parts.begin(), heads), 1.0 / heads, 0);
  return ops::add_broadcast(b, y, b.parameter("bias", {concatenated ? heads * width : width}, graph::init::constant, 0));
}

/// ln A; missing edges (A = 0) get a number so small that softmax gives them exactly no weight, and no gradient.
constexpr value log_adjacency(builder& b, value adjacency) {
  return graph::ops::unary(b, graph::ops::unary(b, adjacency, function::clamp_min, 1e-37), function::log);
}

}  // namespace rsseg
