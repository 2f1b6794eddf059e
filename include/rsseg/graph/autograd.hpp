// SPDX-License-Identifier: MIT
// Reverse-mode differentiation as a function from graph to graph: every operator's rule appends the nodes of its
// vector-Jacobian product, accumulations are explicit nodes, what nobody reads is dropped afterwards (passes.hpp).
// See Griewank and Walther, "Evaluating Derivatives", 2008, chapter 3.
#pragma once
#include "rsseg/graph/infer.hpp"

namespace rsseg::graph {

constexpr void vjp(tape& t, int id, int dy) {
  switch (const node& n = t.g.nodes[id]; n.kind) {
    case op::conv:
    case op::conv_transpose:
      return ops::conv_vjp(t, id, dy);
    case op::bn_apply:
    case op::group_apply:
    case op::l2_normalize:
      return ops::norm_vjp(t, id, dy);
    case op::pick:
    case op::place:
    case op::avg_pool:
    case op::adaptive_avg_pool:
      return ops::pool_vjp(t, id, dy);
    case op::resize:
      return ops::resize_vjp(t, id, dy);
    case op::concat:
    case op::slice:
    case op::pad_crop:
    case op::rotate:
    case op::reshape:
    case op::batch_concat:
    case op::batch_slice:
      return ops::arrange_vjp(t, id, dy);
    case op::matmul:
    case op::transpose:
    case op::softmax:
    case op::log_softmax:
    case op::diagonal:
    case op::add_diagonal:
      return ops::matrix_vjp(t, id, dy);
    case op::loss:
      return ops::loss_vjp(t, id, dy);
    case op::custom:
      if (n.at.custom->vjp) n.at.custom->vjp(t, id, dy);
      return;
    default:
      return ops::pointwise_vjp(t, id, dy);
  }
}

/// Appends the gradients of node `loss` (1,1,1,1) with respect to every parameter (and every input when asked) and lists them in g.gradients.
constexpr void differentiate(graph& g, int loss, bool inputs_too = false) {
  const int forward = g.nodes.size();
  tape t(g, forward);
  for (int id = 0; id < forward; ++id) {
    const op kind = g.nodes[id].kind;
    bool want = kind == op::parameter || (inputs_too && kind == op::input);
    if (kind != op::stop_gradient && kind != op::argmax_pool && kind != op::bn_stats && kind != op::group_stats && kind != op::bn_pair &&
        kind != op::target && kind != op::bn_update && kind != op::constant && kind != op::noise)
      for (int k = 0; k < g.nodes[id].input_count && !want; ++k) want = t.wants(g.input_of(id, k));
    if (want) t.set_wanted(id);
  }
  attributes one;
  one.alpha = 1;
  t.give(loss, g.append(op::constant, {loss}, 1, one));
  for (int id = loss; id >= 0; --id) {
    if (!t.wants(id) || !t.received(id)) continue;
    const int dy = t.total(id);
    const op kind = g.nodes[id].kind;
    if (kind == op::parameter || kind == op::input) {
      g.gradients.push_back(id);
      g.gradients.push_back(dy);
      g.roots.push_back(dy);
      continue;
    }
    vjp(t, id, dy);
  }
  for (int id = forward; id < g.nodes.size(); ++id) g.nodes[id].pass = 1;
  g.loss = loss;
}

}  // namespace rsseg::graph
