// SPDX-License-Identifier: MIT
// FusionNet (Cheng, Meng, Xiang, Pan, IEEE JSTARS 10(12), 2017): a SegNet whose decoder stages feed an edge network; the edges in turn say
// where neighbouring pixels may differ.
//   SegNet core -> 1x1 K | edge net: 1x1 of each of the five decoder stages, bilinear to the input, concat, 1x1: fused edge logit (N,1,H,W)
//   loss: CE + edge losses (five sides and the fused map against class boundaries, binary cross entropy balanced as in HED) + 0.5 R,
//   R = mean over neighbour pairs of (1 - max(E_p, E_q)) |P_p - P_q|^2, P = softmax of the scores, E = sigmoid of the edges
// The paper first trains without R, then fine-tunes with it: R counts in the second half (`rsseg train --penalties-from`).
// No public code: taps, form of R, its weights and the half are ours.
#pragma once
#include "rsseg/graph/ops/source.hpp"
#include "rsseg/layers/segnet_core.hpp"
#include "rsseg/nets/entry.hpp"

namespace rsseg {

namespace detail {
/// One direction of edge_aware_variation: the sum over pairs, and their number; (1,1,1,1) each.
struct pair_sum {
  value sum, count;
};
constexpr pair_sum edge_pairs(builder& b, value p, value e, bool vertical) {
  namespace ops = graph::ops;
  constexpr int all = ops::axis_n | ops::axis_c | ops::axis_h | ops::axis_w;
  const int v = vertical ? 1 : 0, h = 1 - v;
  const value p1 = ops::pad(b, p, -v, -h, 0, 0), p0 = ops::pad(b, p, 0, 0, -v, -h);
  const value e01[] = {ops::pad(b, e, -v, -h, 0, 0), ops::pad(b, e, 0, 0, -v, -h)};
  const value closed = ops::affine(b, ops::maximum(b, e01, 2), -1, 1);
  const value step = ops::reduce(b, ops::unary(b, add(b, p1, ops::affine(b, p0, -1, 0)), function::square), ops::axis_c, false);
  return {ops::reduce(b, mul(b, closed, step), all, false), ops::reduce(b, ops::constant_like(b, closed, 1), all, false)};
}
}  // namespace detail

/// Mean over horizontal and vertical neighbour pairs of (1 - max of their edge probabilities) * squared difference of their class
/// probabilities: scores (N,K,H,W), edges (N,1,H,W) logits -> (1,1,1,1).
constexpr value edge_aware_variation(builder& b, value scores, value edges) {
  const value p = softmax(b, scores), e = sigmoid(b, edges);
  const detail::pair_sum v = detail::edge_pairs(b, p, e, true), h = detail::edge_pairs(b, p, e, false);
  return mul(b, add(b, v.sum, h.sum), graph::ops::unary(b, add(b, v.count, h.count), function::reciprocal));
}

template <int Classes = from_data, int Width = 64>
struct FusionNet {
  struct maps {
    value scores, edges, sides[5];
  };
  static constexpr maps parts(builder& b, value x, int classes) {
    segnet_stages s;
    {
      const scope seg(b, "seg");
      s = segnet_core(b, x, {.width = Width});
    }
    maps m;
    m.scores = conv(b, "cls", s.stage[4], classes);
    for (int i = 0; i < 5; ++i) m.sides[i] = resize_like(b, conv(b, numbered("side.", i), s.stage[i], 1), x);
    m.edges = conv(b, "fuse", graph::ops::concat(b, m.sides, 5), 1);
    return m;
  }
  static constexpr void build(builder& b) {
    const maps m = parts(b, b.input("x", from_data), b.classes(Classes));
    b.output("logits", m.scores, 1);
    b.output("edges", m.edges, 1, label_rule::boundaries);
    for (int i = 0; i < 5; ++i) b.output(numbered("side", i + 1), m.sides[i], 1, label_rule::boundaries, false, true);
    b.add_penalty("edge_aware_variation", edge_aware_variation(b, m.scores, m.edges), 0.5);
  }
};

inline constexpr network_entry fusionnet_networks[] = {
    {"fusionnet", "FusionNet", "Cheng et al., IEEE JSTARS 2017", "SegNet with an edge network on its decoder and an edge-aware regulariser",
     &FusionNet<>::build, recipe{"sgd", 0.01, 0.9, 5e-4, "poly", 8, 256, 1, "", "ce", "none", 0, 0.5}, 1, 0, 32},
};

}  // namespace rsseg
