// SPDX-License-Identifier: MIT
// From a network's forward graph to the graph of one training step: targets, losses, penalties, gradients.
#pragma once
#include "rsseg/graph/autograd.hpp"
#include "rsseg/graph/facts.hpp"
#include "rsseg/graph/passes.hpp"

namespace rsseg::graph {

struct loss_term {
  loss_kind kind = loss_kind::cross_entropy;
  double weight = 1;
  double alpha = 0, beta = 0;  // see loss_kind
  int count = 0;
};

struct loss_options {
  loss_term terms[4] = {loss_term{}};
  int term_count = 1;
  int ignore = 255;                ///< class id that counts nowhere
  bool class_weights = false;      ///< adds an input "class_weights" (1,K,1,1)
  bool own_extent = false;         ///< every output has a target of its own extent, logits are never resized
  bool first_output_only = false;  ///< supervise the first output with weight 1 and nothing else, without penalties
};

/// Targets are nodes of kind op::target named like their output; attributes.mode = how the caller's labels are brought to their extent
/// (label_rule), begin = the ignored class id. Their inputs[0] gives the extent.
constexpr int add_target(graph& g, const output& o, int like, int ignore) {
  attributes at;
  at.mode = int(o.labels), at.begin = ignore;
  const int id = g.append(op::target, {like}, 1, at);
  g.nodes[id].type = data_type::index;
  g.nodes[id].name = o.name, g.nodes[id].name_length = o.name_length;
  return id;
}

/// Appends the losses of every supervised output and all penalties, differentiates, and drops what nobody needs.
/// g: a graph lowered for training.
constexpr void make_training_graph(graph& g, const loss_options& options = loss_options{}, bool input_gradients = false) {
  int first_input = -1;
  for (int i = g.nodes.size() - 1; i >= 0; --i)
    if (g.nodes[i].kind == op::input) first_input = i;
  int class_weights = -1;
  if (options.class_weights) {
    class_weights = g.append(op::input, {}, g.nodes[g.outputs[0].node].channels);
    const int begin = g.text.size();
    for (char c : std::string_view("class_weights")) g.text.push_back(c);
    g.nodes[class_weights].name = begin, g.nodes[class_weights].name_length = g.text.size() - begin;
  }
  list<int> parts;
  for (int i = 0; i < g.outputs.size(); ++i) {
    const output o = g.outputs[i];
    const double weight = options.first_output_only ? (i == 0 ? 1.0 : 0.0) : o.loss_weight;
    if (weight == 0) continue;
    int logits = o.node, like = o.node;
    if (!options.own_extent && o.labels == label_rule::resize_logits) {
      attributes at;
      at.mode = int(interpolation::bilinear), at.flag = o.align_corners, at.count = int(ops::resize_rule::like);
      logits = g.append(op::resize, {o.node, first_input}, g.nodes[o.node].channels, at);
      like = logits;  // the input's height and width, but the logits' own batch: GLNet's patches are more than its images
    }
    const int target = add_target(g, o, like, options.ignore);
    const bool edges = o.labels == label_rule::boundaries && !options.first_output_only;
    const loss_term binary{loss_kind::binary_cross_entropy};
    for (int k = 0; k < (edges ? 1 : options.term_count); ++k) {
      const loss_term& term = edges ? binary : options.terms[k];
      attributes at;
      at.mode = int(term.kind), at.begin = options.ignore, at.alpha = term.alpha, at.beta = term.beta, at.count = term.count;
      const bool weighted = class_weights >= 0 && g.nodes[o.node].channels == g.nodes[g.outputs[0].node].channels;
      int part = weighted ? g.append(op::loss, {logits, target, class_weights}, 1, at) : g.append(op::loss, {logits, target}, 1, at);
      if (weight * term.weight != 1) {
        attributes scale;
        scale.alpha = weight * term.weight;
        part = g.append(op::affine, {part}, 1, scale);
      }
      parts.push_back(part);
    }
  }
  if (!options.first_output_only)
    for (const penalty& p : g.penalties) {
      if (p.weight == 0) continue;
      attributes scale;
      scale.alpha = p.weight;
      parts.push_back(g.append(op::affine, {p.node}, 1, scale));
    }
  if (parts.empty()) {
    if (g.error.what == fault::none) g.error = {fault::bad_option, 0, 1, 0};
    return;
  }
  const int total = parts.size() == 1 ? parts[0] : g.append(op::add, parts.begin(), parts.size(), 1);
  differentiate(g, total, input_gradients);
  prune(g, true);
}

}  // namespace rsseg::graph
