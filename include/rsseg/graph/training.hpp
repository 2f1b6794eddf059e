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
  double alpha = 0, beta = 0, gamma = 0;  // see loss_kind
  int count = 0;
  bool flag = false, flag2 = false;
};

/// How outputs that are compared with class boundaries learn.
enum class edge_loss : std::uint8_t {
  as_declared,  ///< boundaries: balanced, soft_boundaries: euclidean
  balanced,     ///< binary cross entropy, edges and the rest weighing equally (HED)
  plain,        ///< binary cross entropy
  euclidean     ///< half the squared difference to the blurred boundaries
};

struct loss_options {
  loss_term terms[4] = {loss_term{}};
  int term_count = 1;
  edge_loss edges = edge_loss::as_declared;
  int ignore = 255;                ///< class id that counts nowhere
  bool class_weights = false;      ///< adds an input "class_weights" (1,K,1,1)
  bool own_extent = false;         ///< every output has a target of its own extent, logits are never resized
  bool first_output_only = false;  ///< supervise the first output with weight 1 and nothing else, without penalties
};

/// Targets are nodes of kind op::target named like their output; attributes.mode = how the caller's labels are brought to their extent
/// (label_rule), begin = the ignored class id. Their inputs[0] gives the extent.
constexpr int add_target(graph& g, const output& o, label_rule rule, int like, int ignore) {
  attributes at;
  at.mode = int(rule), at.begin = ignore;
  const int id = g.append(op::target, {like}, 1, at);
  g.nodes[id].type = data_type::index;
  g.nodes[id].name = o.name, g.nodes[id].name_length = o.name_length;
  return id;
}

/// Attributes of a loss node. A function of its own and optimised less, since g++ 12 -O2 loses alpha and beta when this is a part of the loop below.
#if defined(__GNUC__) && !defined(__clang__)
[[gnu::noinline, gnu::optimize("O1")]]
#endif
constexpr attributes loss_attributes(const loss_term& term, int ignore) {
  attributes at;
  at.mode = int(term.kind);
  at.begin = ignore;
  at.count = term.count;
  at.flag = term.flag;
  at.flag2 = term.flag2;
  at.alpha = term.alpha;
  at.beta = term.beta;
  at.gamma = term.gamma;
  return at;
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
    const bool edges = (o.labels == label_rule::boundaries || o.labels == label_rule::soft_boundaries) && !options.first_output_only;
    const bool soft =
        edges && (options.edges == edge_loss::euclidean || (options.edges == edge_loss::as_declared && o.labels == label_rule::soft_boundaries));
    const label_rule rule = !edges ? o.labels : soft ? label_rule::soft_boundaries : label_rule::boundaries;
    const int target = add_target(g, o, rule, like, options.ignore);
    loss_term edge_term;
    edge_term.kind = soft                                ? loss_kind::squared_error
                     : options.edges == edge_loss::plain ? loss_kind::binary_cross_entropy
                                                         : loss_kind::balanced_binary;
    for (int k = 0; k < (edges ? 1 : options.term_count); ++k) {
      const loss_term* const term = edges ? &edge_term : &options.terms[k];
      const attributes at = loss_attributes(*term, soft ? soft_ignored : options.ignore);
      const bool weighted = class_weights >= 0 && g.nodes[o.node].channels == g.nodes[g.outputs[0].node].channels;
      int part = weighted ? g.append(op::loss, {logits, target, class_weights}, 1, at) : g.append(op::loss, {logits, target}, 1, at);
      if (weight * term->weight != 1) {
        attributes scale;
        scale.alpha = weight * term->weight;
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
