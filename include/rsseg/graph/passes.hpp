// SPDX-License-Identifier: MIT
// Functions from graph to graph: pruning, folding batch normalisation into convolutions, fusing activations and residual
// sums into convolutions, recomputation instead of storage.
#pragma once
#include "rsseg/graph/facts.hpp"

namespace rsseg::graph {

/// Rebuilds g with the nodes marked in `keep`, in the order of `order` (a topological order of the kept nodes), redirecting every
/// use of node i to alias[i].
constexpr void rebuild(graph& g, const list<int>& order, const list<int>& alias) {
  list<node> nodes;
  list<int> edges, moved;
  moved.resize(g.nodes.size(), -1);
  nodes.reserve(order.size());
  edges.reserve(g.edges.size());
  for (int id : order) {
    node n = g.nodes[id];
    const int first = edges.size();
    for (int k = 0; k < n.input_count; ++k) edges.push_back(moved[alias[g.input_of(id, k)]]);
    n.first_input = first;
    moved[id] = nodes.size();
    nodes.push_back(n);
  }
  auto follow = [&](int id) { return id < 0 ? -1 : moved[alias[id]]; };
  list<output> outputs;
  for (output o : g.outputs) {
    o.node = follow(o.node);
    if (o.node >= 0) outputs.push_back(o);
  }
  list<penalty> penalties;
  for (penalty p : g.penalties) {
    p.node = follow(p.node);
    if (p.node >= 0) penalties.push_back(p);
  }
  list<int> roots, gradients;
  for (int r : g.roots)
    if (follow(r) >= 0) roots.push_back(follow(r));
  for (int i = 0; i + 1 < g.gradients.size(); i += 2)
    if (follow(g.gradients[i]) >= 0) gradients.push_back(follow(g.gradients[i])), gradients.push_back(follow(g.gradients[i + 1]));
  g.loss = follow(g.loss);
  if (g.error.node >= 0 && g.error.node < moved.size()) g.error.node = moved[g.error.node];
  g.nodes = static_cast<list<node>&&>(nodes);
  g.edges = static_cast<list<int>&&>(edges);
  g.outputs = static_cast<list<output>&&>(outputs);
  g.penalties = static_cast<list<penalty>&&>(penalties);
  g.roots = static_cast<list<int>&&>(roots);
  g.gradients = static_cast<list<int>&&>(gradients);
}

constexpr list<int> identity_alias(const graph& g) {
  list<int> a;
  a.resize(g.nodes.size());
  for (int i = 0; i < a.size(); ++i) a[i] = i;
  return a;
}

/// Lets convolutions round their inputs and weights to bfloat16 (backends that can; see cpu/bf16.hpp).
constexpr void use_bfloat16(graph& g) {
  for (node& n : g.nodes)
    if (n.kind == op::conv) n.at.bf16 = true;
}

/// Drops the nodes that no output, loss, penalty or root needs. For inference (training = false) train-only outputs, penalties and
/// roots go, too. Inputs stay: the caller feeds them.
constexpr void prune(graph& g, bool training) {
  if (!training) {
    list<output> outputs;
    for (const output& o : g.outputs)
      if (!o.train_only) outputs.push_back(o);
    g.outputs = static_cast<list<output>&&>(outputs);
    g.penalties.clear();
    g.roots.clear();
  }
  const list<unsigned char> need = needed_nodes(g, training);
  list<int> order;
  for (int i = 0; i < g.nodes.size(); ++i)
    if (need[i] || g.nodes[i].kind == op::input) order.push_back(i);
  rebuild(g, order, identity_alias(g));
}

/// Number of uses of every node (outputs and roots count).
constexpr list<int> use_counts(const graph& g) {
  list<int> uses;
  uses.resize(g.nodes.size(), 0);
  for (int e : g.edges) ++uses[e];
  for (const output& o : g.outputs) ++uses[o.node];
  for (int r : g.roots) ++uses[r];
  if (g.loss >= 0) ++uses[g.loss];
  return uses;
}

/// Inference only: conv -> BN with constant statistics becomes one convolution with folded weights; the folding itself is two nodes
/// that depend on parameters only and run once.
constexpr void fold_batch_norm(graph& g) {
  const int n = g.nodes.size();
  const list<int> uses = use_counts(g);
  list<int> alias = identity_alias(g), order;
  for (int id = 0; id < n; ++id) {
    order.push_back(id);
    const node bn = g.nodes[id];
    if (bn.kind != op::bn_apply || !bn.at.flag) continue;
    const int c = alias[g.input_of(id, 0)];
    if (c >= n || uses[g.input_of(id, 0)] != 1) continue;
    const node producer = g.nodes[c];
    if ((producer.kind != op::conv && producer.kind != op::conv_transpose) || producer.input_count > 3) continue;
    if (producer.kind == op::conv_transpose && producer.at.groups != 1) continue;
    const int x = g.input_of(c, 0), w = g.input_of(c, 1), stats = g.input_of(id, 1), gamma = g.input_of(id, 2), beta = g.input_of(id, 3);
    attributes fold = bn.at;
    fold.flag = producer.kind == op::conv_transpose;  // output channels are the second dimension of the weights
    const int fw = g.append(op::fold_weights, {w, stats, gamma}, g.nodes[w].channels, fold);
    const int fb = producer.input_count > 2 ? g.append(op::fold_bias, {g.input_of(c, 2), stats, gamma, beta}, bn.channels, fold)
                                            : g.append(op::fold_bias, {stats, gamma, beta}, bn.channels, fold);
    const int fused = g.append(producer.kind, {x, fw, fb}, bn.channels, producer.at);
    g.nodes[fw].name = g.nodes[fb].name = g.nodes[fused].name = producer.name;
    g.nodes[fw].name_length = g.nodes[fb].name_length = g.nodes[fused].name_length = producer.name_length;
    alias.push_back(fw), alias.push_back(fb), alias.push_back(fused);
    order.truncate(order.size() - 1);
    order.push_back(fw), order.push_back(fb), order.push_back(fused);
    alias[id] = fused;
  }
  for (int i = 0; i < n; ++i)  // chains: a folded node whose input was folded
    while (alias[alias[i]] != alias[i]) alias[i] = alias[alias[i]];
  rebuild(g, order, alias);
  prune(g, g.loss >= 0);
}

/// Inference only: conv (-> + residual) -> ReLU in one node: attributes.relu, residual as inputs[3]. Needs a bias to hold the slot.
constexpr void fuse_epilogues(graph& g) {
  for (int round = 0; round < 2; ++round) {
    const int n = g.nodes.size();
    const list<int> uses = use_counts(g);
    list<int> alias = identity_alias(g), order;
    for (int id = 0; id < n; ++id) {
      order.push_back(id);
      const node at_id = g.nodes[id];
      if (round == 0 && at_id.kind == op::add && at_id.input_count == 2 && !at_id.at.flag) {
        for (int k = 1; k >= 0; --k) {  // the convolution moves to the place of the sum, where both operands exist
          const int c = g.input_of(id, k), other = g.input_of(id, 1 - k);
          if (alias[c] != c || uses[c] != 1 || g.nodes[c].kind != op::conv || g.nodes[c].input_count != 3 || g.nodes[c].at.relu || other == c)
            continue;
          const int fused = g.append(op::conv, {g.input_of(c, 0), g.input_of(c, 1), g.input_of(c, 2), other}, at_id.channels, g.nodes[c].at);
          g.nodes[fused].name = g.nodes[c].name, g.nodes[fused].name_length = g.nodes[c].name_length;
          alias.push_back(fused);
          order.truncate(order.size() - 1);
          order.push_back(fused);
          alias[id] = fused;
          break;
        }
      }
      if (round == 1 && at_id.kind == op::unary && function(at_id.at.mode) == function::relu) {
        const int c = g.input_of(id, 0);
        const op kind = g.nodes[c].kind;
        if (alias[c] != c || uses[c] != 1 || (kind != op::conv && kind != op::conv_transpose && kind != op::bn_apply) || g.nodes[c].at.relu) continue;
        g.nodes[c].at.relu = true;
        alias[id] = c;
        order.truncate(order.size() - 1);
      }
    }
    for (int i = 0; i < n; ++i)
      while (alias[alias[i]] != alias[i]) alias[i] = alias[alias[i]];
    rebuild(g, order, alias);
    prune(g, g.loss >= 0);
  }
}

/// Training: cheap forward nodes (normalisation, activation, sums, copies) that only the backward pass still needs are computed again
/// there, in front of their first use, instead of being kept. The same kernels on the same values: results are bitwise equal.
constexpr void recompute_cheap(graph& g) {
  const int n = g.nodes.size();
  auto cheap = [](op k) {
    return k == op::bn_apply || k == op::group_apply || k == op::unary || k == op::prelu || k == op::add || k == op::mul || k == op::affine ||
           k == op::concat || k == op::pad_crop || k == op::resize || k == op::dropout || k == op::slice;
  };
  list<int> copy_of, order;
  copy_of.resize(n, -1);
  list<int> alias = identity_alias(g);
  for (int id = 0; id < n; ++id) {
    if (g.nodes[id].pass == 1) {
      // Depth-first over forward inputs that are cheap: copies go in front of this node.
      for (int k = 0; k < g.nodes[id].input_count; ++k) {
        const int in = g.input_of(id, k);
        if (in >= n || g.nodes[in].pass == 1 || !cheap(g.nodes[in].kind)) continue;
        list<int> stack;
        stack.push_back(in);
        while (!stack.empty()) {
          const int top = stack.back();
          if (copy_of[top] >= 0) {
            stack.truncate(stack.size() - 1);
            continue;
          }
          bool ready = true;
          for (int j = 0; j < g.nodes[top].input_count; ++j) {
            const int dep = g.input_of(top, j);
            if (cheap(g.nodes[dep].kind) && copy_of[dep] < 0) stack.push_back(dep), ready = false;
          }
          if (!ready) continue;
          list<int> inputs;
          for (int j = 0; j < g.nodes[top].input_count; ++j) {
            const int dep = g.input_of(top, j);
            inputs.push_back(cheap(g.nodes[dep].kind) ? copy_of[dep] : dep);
          }
          const node original = g.nodes[top];
          const int fresh = g.append(original.kind, inputs.begin(), inputs.size(), original.channels, original.at);
          g.nodes[fresh].name = original.name, g.nodes[fresh].name_length = original.name_length, g.nodes[fresh].pass = 1;
          copy_of[top] = fresh;
          alias.push_back(fresh);
          order.push_back(fresh);
          stack.truncate(stack.size() - 1);
        }
        g.input_of(id, k) = copy_of[in];
      }
    }
    order.push_back(id);
  }
  rebuild(g, order, alias);
}

}  // namespace rsseg::graph
