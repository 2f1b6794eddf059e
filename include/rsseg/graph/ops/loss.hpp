// SPDX-License-Identifier: MIT
// Losses over class scores: (logits (N,K,H,W), target (N,1,H,W) of class ids [, class weights (1,K,1,1)]) -> (1,1,1,1).
// Attributes: mode = loss_kind; begin = ignore id; alpha, beta, gamma, count, flag, flag2 = parameters of the loss (see loss_kind).
// Pixels whose target is the ignore id count nowhere; if all are ignored the loss is 0 with zero gradient.
#pragma once
#include "rsseg/graph/builder.hpp"
#include "rsseg/graph/tape.hpp"

namespace rsseg::graph {

enum class loss_kind : int {
  cross_entropy,         // sum w_t * -ln p_t / sum w_t; label smoothing alpha. flag (set by a device's executor): the logits are smaller than
                         // the target and brought to its extent on the way, bilinearly (flag2: corners aligned)
  dice,                  // 1 - mean over classes of soft dice (smoothing alpha; flag: only classes that occur)
  focal,                 // -(1 - p_t)^alpha ln p_t (Lin et al. 2017)
  jaccard,               // 1 - mean over classes of soft IoU (smoothing alpha; flag: only classes that occur)
  tversky,               // 1 - mean of TP / (TP + alpha FP + beta FN) (smoothing gamma; flag: only classes that occur)
  lovasz,                // Lovasz-softmax (Berman et al. 2018); flag: image by image; flag2: over absent classes, too
  ohem,                  // cross entropy over the hard pixels: p_t < alpha, at least `count` and the share beta of the valid ones
  binary_cross_entropy,  // logits against targets {0, 1} per channel 0; used for edges and boxes
  balanced_binary,       // the same, edges and the rest weigh equally (Xie and Tu, HED, ICCV 2015)
  squared_error,         // mean of (value - target)^2 / 2 of channel 0, with soft targets (soft_one)
};

/// Targets of squared_error are fixed-point numbers: this is 1. Ignored pixels are soft_ignored.
constexpr int soft_one = 65536, soft_ignored = -1;

namespace ops {

constexpr bool loss_extent(graph_error& e, const graph& g, int id, const shape* s, shape& out) {
  const node& n = g.nodes[id];
  if (n.kind == op::loss) {
    const shape x = s[g.input_of(id, 0)], t = s[g.input_of(id, 1)];
    const bool upsampled = loss_kind(n.at.mode) == loss_kind::cross_entropy && n.at.flag;
    if (!upsampled && (x.h != t.h || x.w != t.w || x.n != t.n)) e = {fault::extents_differ, id, x.h != t.h ? x.h : x.w, x.h != t.h ? t.h : t.w};
    out = {1, 1, 1, 1};
    return true;
  }
  if (n.kind == op::loss_grad) return out = s[g.input_of(id, 1)], true;
  return false;
}

constexpr void loss_vjp(tape& t, int id, int dy) {
  graph& g = t.g;
  const node n = g.nodes[id];
  if (n.kind != op::loss) return;
  const int logits = g.input_of(id, 0), target = g.input_of(id, 1);
  if (!t.wants(logits)) return;
  if (n.input_count > 2)
    t.give(logits, g.append(op::loss_grad, {dy, logits, target, g.input_of(id, 2)}, g.nodes[logits].channels, n.at));
  else
    t.give(logits, g.append(op::loss_grad, {dy, logits, target}, g.nodes[logits].channels, n.at));
}

}  // namespace ops
}  // namespace rsseg::graph
