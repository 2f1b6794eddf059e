// SPDX-License-Identifier: MIT
// What can be said of a graph before it runs: parameters, extents, multiply-adds, receptive field, values alive at once.
#pragma once
#include "rsseg/graph/infer.hpp"

namespace rsseg::graph {

/// Number of trained values.
constexpr std::int64_t parameter_count(const graph& g) {
  std::int64_t n = 0;
  for (int i = 0; i < g.nodes.size(); ++i)
    if (g.nodes[i].kind == op::parameter) n += stored_shape(g.nodes[i].at).size();
  return n;
}

/// Extents of all nodes for the given extents of the input nodes, in their order; one for all if only one is given (channels as declared).
constexpr list<shape> extents_for(const graph& g, const shape* inputs, int count, graph_error& error) {
  list<shape> s;
  s.resize(g.nodes.size());
  int k = 0;
  for (int i = 0; i < g.nodes.size(); ++i) {
    if (g.nodes[i].kind != op::input) continue;
    s[i] = inputs[k < count ? k : count - 1];
    if (count == 1) s[i].c = g.nodes[i].channels;
    if (s[i].c != g.nodes[i].channels && error.what == fault::none) error = {fault::channels_differ, i, g.nodes[i].channels, s[i].c};
    ++k;
  }
  const graph_error e = infer(g, s.begin());
  if (error.what == fault::none) error = e;
  return s;
}

// Named by the compiler, with the numbers, when an extent is asked for that the network cannot take (as in builder.hpp).
constexpr int this_input_size_is_not_allowed(int /*node*/, int expected, int given) { return stop_here(expected, given); }

constexpr list<shape> extents_or_stop(const graph& g, const shape* inputs, int count) {
  graph_error e;
  list<shape> s = extents_for(g, inputs, count, e);
  if (std::is_constant_evaluated() && e.what != fault::none) this_input_size_is_not_allowed(e.node, e.expected, e.given);
  return s;
}

/// Extent of output number `which`; {0,0,0,0} at run time if the input size is not allowed.
constexpr shape output_extent(const graph& g, const shape* inputs, int count, int which) {
  const list<shape> s = extents_or_stop(g, inputs, count);
  return s[g.outputs[which].node];
}

/// Which nodes the outputs (all, or those of inference), penalties, loss and roots need.
constexpr list<unsigned char> needed_nodes(const graph& g, bool with_train_only) {
  list<unsigned char> need;
  need.resize(g.nodes.size(), 0);
  for (const output& o : g.outputs)
    if (with_train_only || !o.train_only) need[o.node] = 1;
  if (with_train_only) {
    for (const penalty& p : g.penalties) need[p.node] = 1;
    for (int r : g.roots) need[r] = 1;
  }
  if (g.loss >= 0) need[g.loss] = 1;
  for (int i = g.nodes.size() - 1; i >= 0; --i)
    if (need[i])
      for (int k = 0; k < g.nodes[i].input_count; ++k) need[g.input_of(i, k)] = 1;
  return need;
}

constexpr std::int64_t total_macs(const graph& g, const shape* inputs, int count) {
  const list<shape> s = extents_or_stop(g, inputs, count);
  const list<unsigned char> need = needed_nodes(g, false);
  std::int64_t sum = 0;
  for (int i = 0; i < g.nodes.size(); ++i)
    if (need[i]) sum += macs_of(g, i, s.begin());
  return sum;
}

constexpr bool is_stored(op kind) { return kind == op::parameter || kind == op::buffer; }

/// Largest sum of the values alive at once when the nodes run in order, without sharing in place.
constexpr std::int64_t live_bytes(const graph& g, const shape* inputs, int count, int bytes_per_value) {
  const list<shape> s = extents_or_stop(g, inputs, count);
  const list<unsigned char> need = needed_nodes(g, g.loss >= 0);
  list<int> last;
  last.resize(g.nodes.size(), -1);
  for (int i = 0; i < g.nodes.size(); ++i)
    if (need[i])
      for (int k = 0; k < g.nodes[i].input_count; ++k) last[g.input_of(i, k)] = i;
  for (const output& o : g.outputs) last[o.node] = g.nodes.size();
  list<int> freed_at, next;  // nodes freed after step i, as linked lists
  freed_at.resize(g.nodes.size() + 1, -1);
  next.resize(g.nodes.size(), -1);
  std::int64_t live = 0, peak = 0;
  for (int i = 0; i < g.nodes.size(); ++i) {
    if (!need[i] || is_stored(g.nodes[i].kind)) continue;
    live += s[i].size() * bytes_per_value;
    if (live > peak) peak = live;
    const int until = last[i] < i ? i : last[i];
    if (until < g.nodes.size()) next[i] = freed_at[until], freed_at[until] = i;
    for (int f = freed_at[i]; f >= 0; f = next[f]) live -= s[f].size() * bytes_per_value;
  }
  return peak;
}

/// Region of the input that one pixel of the first output sees.
struct receptive_field {
  bool everything = false;  ///< a global operator (pooling to bins, attention, batch-free statistics) sees the whole input
  double h = 1, w = 1;      ///< extent in input pixels; if `everything`, of the local part
};

/// At input extent `in`. Araujo, Norris, Sim, "Computing receptive fields of convolutional neural networks", Distill 2019.
constexpr receptive_field receptive_field_of(const graph& g, const shape* inputs, int count) {
  const list<shape> s = extents_or_stop(g, inputs, count);
  const list<unsigned char> need = needed_nodes(g, false);
  list<receptive_field> r;
  r.resize(g.nodes.size());
  shape in0{};
  for (int i = g.nodes.size() - 1; i >= 0; --i)
    if (g.nodes[i].kind == op::input) in0 = s[i];
  for (int i = 0; i < g.nodes.size(); ++i) {
    const node& n = g.nodes[i];
    if (!need[i] || is_stored(n.kind) || n.input_count == 0) continue;
    const int used = n.kind == op::resize || n.kind == op::pad_crop || n.kind == op::reshape ? 1 : n.kind == op::place ? 2 : n.input_count;
    for (int k = 0; k < used; ++k) {
      const receptive_field& a = r[g.input_of(i, k)];
      r[i].everything = r[i].everything || a.everything;
      if (a.h > r[i].h) r[i].h = a.h;
      if (a.w > r[i].w) r[i].w = a.w;
    }
    const shape x = s[g.input_of(i, 0)];
    const double jump_h = x.h > 0 ? double(in0.h) / x.h : 1, jump_w = x.w > 0 ? double(in0.w) / x.w : 1;
    const attributes& a = n.at;
    int grow_h = 0, grow_w = 0;  // pixels of x beyond the first
    switch (n.kind) {
      case op::conv:
      case op::max_pool:
      case op::argmax_pool:
      case op::avg_pool:
        grow_h = a.dilation_h * (a.kernel_h - 1), grow_w = a.dilation_w * (a.kernel_w - 1);
        break;
      case op::conv_transpose:
        grow_h = (a.kernel_h + a.stride_h - 1) / a.stride_h - 1, grow_w = (a.kernel_w + a.stride_w - 1) / a.stride_w - 1;
        break;
      case op::resize:
        if (interpolation(a.mode) == interpolation::bilinear) {
          grow_h = x.h > 1 ? 1 : 0, grow_w = x.w > 1 ? 1 : 0;
          if (x.h == 1 && x.w == 1 && s[i].h > 1) r[i].everything = true;
        }
        break;
      case op::place:
        grow_h = grow_w = 1;
        break;
      case op::adaptive_avg_pool:
      case op::matmul:
      case op::group_stats:
      case op::rotate:
      case op::transpose:
        r[i].everything = true;
        break;
      case op::reduce:
        if (a.begin & (4 | 8)) r[i].everything = true;
        break;
      default:
        break;
    }
    r[i].h += grow_h * jump_h, r[i].w += grow_w * jump_w;
  }
  return r[g.outputs[0].node];
}

}  // namespace rsseg::graph
