// SPDX-License-Identifier: MIT
// What the executor runs as one although the graph has several nodes:
//   resize -> cross entropy   loss and gradient are taken from the small logits; neither full-resolution logits nor their gradient are written
//   conv -> bn_stats          the convolution leaves the statistics of its tiles, so that bn_stats does not read the map
//   softmax(q k^T) v          in fp32 inference, as attention.cuh: the N x N matrices are never written
#pragma once
#include "../attention.cuh"
#include "names.cuh"
#include "rsseg/graph/custom.hpp"
#include "rsseg/graph/ops/loss.hpp"
#include "rsseg/graph/ops/resize.hpp"

namespace rsseg::cuda {
inline namespace RSSEG_BACKEND_NS {

namespace fusion {
using graph::op;

/// Nodes that read node `id`, not only its extent.
inline std::vector<int> readers(const graph::graph& g, int id) {
  std::vector<int> found;
  for (int i = id + 1; i < g.nodes.size(); ++i)
    for (int k = 0; k < g.nodes[i].input_count; ++k)
      if (g.input_of(i, k) == id && !extent_only(g.nodes[i], k)) {
        found.push_back(i);
        break;
      }
  return found;
}
inline bool kept(const graph::graph& g, int id) {
  for (int k = 1; k < g.gradients.size(); k += 2)
    if (g.gradients[k] == id) return true;
  for (int r : g.roots)
    if (r == id) return true;
  return g.loss == id;
}
inline bool bilinear_like(const graph::node& n) {
  return n.kind == op::resize && graph::interpolation(n.at.mode) == graph::interpolation::bilinear && !(n.at.alpha > 0) &&
         graph::ops::resize_rule(n.at.count) == graph::ops::resize_rule::like;
}
inline void set_inputs(graph::graph& g, int id, std::initializer_list<int> inputs) {
  g.nodes[id].first_input = g.edges.size(), g.nodes[id].input_count = int(inputs.size());
  for (int i : inputs) g.edges.push_back(i);
}

/// One loss: its logits' resize, which only the loss and its gradient read, goes. A network that ends with a resize to the input's size and is
/// compared at that size has two in a row, the second of which does nothing: both go.
inline void fuse_upsampled_loss(graph::graph& g, int loss, std::vector<bool>& skip) {
  if (graph::loss_kind(g.nodes[loss].at.mode) != graph::loss_kind::cross_entropy || g.nodes[loss].at.alpha != 0) return;
  const int outer = g.input_of(loss, 0), target = g.input_of(loss, 1), weights = g.nodes[loss].input_count > 2 ? g.input_of(loss, 2) : -1;
  if (!bilinear_like(g.nodes[outer]) || kept(g, outer)) return;
  const std::vector<int> users = readers(g, outer);
  if (users.size() != 2 || users[0] != loss || g.nodes[users[1]].kind != op::loss_grad) return;
  const int gradient = users[1];
  int resize = outer, adjoint = -1;  // the innermost of the resizes, and the outermost of their adjoints
  std::vector<int> gone{outer, gradient};
  const auto next_adjoint = [&](int id) {
    const std::vector<int> r = readers(g, id);
    return r.size() == 1 && !kept(g, id) && g.nodes[r[0]].kind == op::resize_grad ? r[0] : -1;
  };
  adjoint = next_adjoint(gradient);
  if (adjoint < 0) return;
  const int inner = g.input_of(outer, 0);
  if (bilinear_like(g.nodes[inner]) && g.input_of(inner, 1) == g.input_of(outer, 1) && !kept(g, inner) && readers(g, inner).size() == 1) {
    const int second = next_adjoint(adjoint);
    if (second < 0) return;
    gone.push_back(inner), gone.push_back(adjoint);
    resize = inner, adjoint = second;
  }
  const int logits = g.input_of(resize, 0), upstream = g.input_of(gradient, 0);
  if (g.input_of(adjoint, 1) != logits) return;
  graph::attributes at = g.nodes[loss].at;
  at.flag = true, at.flag2 = g.nodes[resize].at.flag;
  g.nodes[loss].at = at;
  g.nodes[adjoint].kind = op::loss_grad, g.nodes[adjoint].at = at;
  if (weights >= 0)
    set_inputs(g, loss, {logits, target, weights}), set_inputs(g, adjoint, {upstream, logits, target, weights});
  else
    set_inputs(g, loss, {logits, target}), set_inputs(g, adjoint, {upstream, logits, target});
  for (int id : gone) skip[std::size_t(id)] = true;
}

/// softmax(alpha q k^T) v of (N, rows, d), (N, columns, d), (N, columns, C).
constexpr shape attention_extent(const graph::attributes&, const shape* in, int) { return {in[0].n, in[2].c, in[0].h, in[0].w}; }
inline void run_attention(const custom_call<float>& c, void* stream) {
  const shape q = c.in_extent[0], k = c.in_extent[1];
  const attention_geometry g{q.n, q.h * q.w, k.h * k.w, q.c, c.in_extent[2].c, float(c.at->alpha)};
  attention_forward(stream_t(stream), g, dot_score{c.in[0], c.in[1]}, c.in[2], c.out, nullptr);
}
inline constexpr custom_op attention_op{"attention", &attention_extent, nullptr, nullptr, nullptr, nullptr, &run_attention};

/// The product `id` and the softmax and product in front of it.
inline void fuse_attention(graph::graph& g, int id, std::vector<bool>& skip) {
  const graph::node n = g.nodes[id];
  if (n.kind != op::matmul || n.at.flag || n.at.flag2 || n.at.alpha != 1) return;
  const int p = g.input_of(id, 0), v = g.input_of(id, 1);
  if (g.nodes[p].kind != op::softmax) return;
  const int s = g.input_of(p, 0);
  const graph::node scores = g.nodes[s];
  if (scores.kind != op::matmul || scores.at.flag || !scores.at.flag2 || readers(g, p).size() != 1 || readers(g, s).size() != 1) return;
  for (const graph::output& o : g.outputs)
    if (o.node == p || o.node == s) return;
  set_inputs(g, id, {g.input_of(s, 0), g.input_of(s, 1), v});
  g.nodes[id].kind = op::custom, g.nodes[id].at = scores.at, g.nodes[id].at.custom = &attention_op;
  skip[std::size_t(p)] = skip[std::size_t(s)] = true;
}

/// The convolution whose results a bn_stats node reads, if nothing runs in between and nothing else is done to them on the way out; else -1.
inline int convolution_before(const graph::graph& g, int stats) {
  if (g.nodes[stats].kind != op::bn_stats) return -1;
  const int conv = g.input_of(stats, 0);
  const graph::node& n = g.nodes[conv];
  if (n.kind != op::conv || n.input_count > 3 || n.at.relu) return -1;
  for (int i = conv + 1; i < stats; ++i)
    if (const op k = g.nodes[i].kind; k != op::input && k != op::parameter && k != op::buffer && k != op::target) return -1;
  return conv;
}
/// Where the tile of the kernel with statistics is the one that the convolution would have anyway, or smaller by nothing that counts: few output
/// channels, hence large maps. Elsewhere the larger tile is worth more than a read of the map.
template <class T>
inline bool wants_statistics(const executor_context& x, const conv_geometry& g) {
  if (x.cudnn || g.depthwise() || g.out_c_per_group() > 64) return false;
  return std::is_same_v<T, float> || !(x.facts.hopper() && conv_hopper_supports(g));
}

}  // namespace fusion
}  // namespace RSSEG_BACKEND_NS
}  // namespace rsseg::cuda
