// SPDX-License-Identifier: MIT
// Attention blocks alone and SGA-Net, for comparison with their references.
#pragma once
#include "rsseg/layers/attention.hpp"
#include "rsseg/layers/graph_attention.hpp"
#include "rsseg/nets/parity_case.hpp"
#include "rsseg/nets/sga_net.hpp"

namespace rsseg::parity {

struct self_attention_case {
  static constexpr void build(builder& b) {
    const value x = b.input("x", from_data);
    value y;
    {
      const scope s(b, "ssa");
      y = self_attention2d(b, x);
    }
    b.output("logits", conv(b, "head", y, b.classes(from_data)), 1);
    b.output("att", y);
  }
};

struct linear_attention_case {
  static constexpr void build(builder& b) {
    const value x = b.input("x", from_data);
    value p, c;
    {
      const scope s(b, "pla");
      p = position_linear_attention(b, x);
    }
    {
      const scope s(b, "cla");
      c = channel_linear_attention(b, p);
    }
    b.output("logits", conv(b, "head", c, b.classes(from_data)), 1);
    b.output("pla", p);
    b.output("cla", c);
  }
};

/// The reference's dense layer: `W` (in, out), `a` (2 out, 1); edges where the input exceeds 0.2, and self-loops.
struct gat_case {
  static constexpr void build(builder& b) {
    namespace ops = graph::ops;
    const value x = b.input("nodes", 12), drawn = b.input("adj", 1);
    const value positive = relu(b, ops::unary(b, ops::affine(b, drawn, 1, -0.2), function::sign));
    const value matrix = ops::reshape(b, positive, 20, 1, 20);
    const value loops = ops::add_diagonal(b, matrix, ops::constant_like(b, ops::slice(b, matrix, 0, 1), 1));
    const value prior = ops::affine(b, ops::unary(b, loops, function::clamp_max, 1), 9e15, -9e15);  // 0 or -9e15
    graph::list<value> heads;
    for (int i = 0; i < 3; ++i) {
      const scope s(b, numbered("attention_", i));
      heads.push_back(elu(b, layer(b, x, 5, prior)));
    }
    const scope s(b, "out_att");
    const value y = elu(b, layer(b, ops::concat(b, heads.begin(), 3), 4, prior));
    b.output("logprob", ops::log_softmax(b, y), 1);
  }

 private:
  static constexpr value layer(builder& b, value x, int out, value prior) {
    namespace ops = graph::ops;
    graph::attributes at;
    at.count = out;
    const value w = b.parameter("W", {x.channels, out}, graph::init::kaiming_uniform);
    const value h = ops::conv_transpose(b, x, w, value{}, at);  // weights lie as (in, out)
    const value a = b.parameter("a", {2 * out, 1}, graph::init::kaiming_uniform);
    graph::attributes like;
    like.count = int(ops::reshape_rule::like), like.flag = true;
    const value row = b.emit(graph::op::reshape, {a.id, ops::constant_row(b, 2 * out, 0).id}, 2 * out, {1, 1, 1, 1}, like);
    const value source = ops::reduce(b, ops::mul_broadcast(b, h, ops::slice(b, row, 0, out)), ops::axis_c, false);
    const value target = ops::reduce(b, ops::mul_broadcast(b, h, ops::slice(b, row, out, out)), ops::axis_c, false);
    return rsseg::detail::attend_to_neighbours(b, h, source, target, prior);
  }
};

/// One view of the self-constructing graph with two graph convolutions. The reference reinterprets (N,C,h,w) as N x nodes x C without
/// transposing, and this does, too.
struct scg_case {
  static constexpr void build(builder& b) {
    namespace ops = graph::ops;
    constexpr int rows = 6, columns = 5, nodes = rows * columns;
    const value x = b.input("feat", 24);
    const int k = b.classes(from_data);
    const value pooled = adaptive_avg_pool(b, x, rows, columns);
    const value mu = as_nodes(b, conv(b, "scg.mu.0", pooled, k, {.kernel = 3}), nodes);
    const value log_sigma = as_nodes(b, conv(b, "scg.logvar.0", pooled, k), nodes);
    const constructed_graph g = rsseg::detail::construct_graph(b, mu, log_sigma, nodes);
    value y = as_nodes(b, pooled, nodes);
    y = linear(b, "graph_layers1.fc.0", ops::matmul(b, g.adjacency, y, false, false), 16);
    y = relu(b, batch_norm(b, "graph_layers1.fc.1", y));
    y = linear(b, "graph_layers2.fc.0", ops::matmul(b, g.adjacency, y, false, false), k);
    y = add(b, y, g.prediction);
    const value map = ops::reshape(b, ops::transpose(b, ops::reshape(b, y, k, 1, nodes)), rows, columns, k);
    const value logits = resize_like(b, map, x);
    b.output("logits", add_to_first(b, logits, g.regulariser), 1);
    b.output("A", g.adjacency);
    b.output("reg", g.regulariser);
  }
  static constexpr value add_to_first(builder& b, value logits, value scalar) {
    namespace ops = graph::ops;
    const value first = ops::add_broadcast(b, ops::slice(b, logits, 0, 1), scalar);
    return concat(b, first, ops::slice(b, logits, 1, logits.channels - 1));
  }

 private:
  static constexpr value as_nodes(builder& b, value x, int nodes) {
    return graph::ops::reshape(b, graph::ops::transpose(b, x), nodes, 1, x.channels);
  }
};

/// SGA-Net on a 6x6 graph; the regulariser is added to channel 0 so that its gradient shows, and is an output.
struct sga_net_case {
  static constexpr void build(builder& b) {
    value regulariser;
    const value y = SGANet<from_data, 6>::scores(b, b.input("image", from_data), regulariser);
    b.output("logits", scg_case::add_to_first(b, y, regulariser), 1);
    b.output("reg", regulariser);
  }
};

inline constexpr parity_case attention_parity[] = {
    {"self_attention2d", "non-local / DANet-position style softmax attention, C=16, reduction 8", &self_attention_case::build},
    {"linear_attention", "PositionLinearAttention(16) -> ChannelLinearAttention -> 1x1 conv to 5", &linear_attention_case::build},
    {"gat", "dense GAT, 12 -> 3 heads x 5 (concat, ELU) -> 4 classes, LeakyReLU 0.2", &gat_case::build},
    {"scg_block", "one-view SCG + 2 GCN layers + residual prediction, C=24, K=6, nodes 6x5", &scg_case::build},
    {"sganet", "own reconstruction, K=6, 4 rotated views, node grid 6x6 (= stride-16 map)", &sga_net_case::build},
};

}  // namespace rsseg::parity
