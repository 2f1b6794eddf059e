// SPDX-License-Identifier: MIT
// Convolution and its two gradients, transposed convolution. Input (N,C,H,W), weights (out, in/groups, kh, kw).
// Attributes: kernel, stride, pad (each side), dilation, groups; count = output channels of conv; bins_h, bins_w of
// conv_transpose = output padding; relu = fused activation.
// Arithmetic: Dumoulin and Visin, "A guide to convolution arithmetic for deep learning", 2016.
#pragma once
#include "rsseg/core/conv_geometry.hpp"
#include "rsseg/graph/builder.hpp"
#include "rsseg/graph/tape.hpp"

namespace rsseg::graph::ops {

/// y = conv(x, w) [+ bias]; bias may be an invalid value.
constexpr value conv(builder& b, value x, value w, value bias, attributes at) {
  b.require_channels(x);
  const attributes& wa = b.g.nodes[w.id].at;
  const int in_per_group = wa.rank >= 2 ? wa.dims[1] : 1;
  if (at.groups < 1 || x.channels % at.groups != 0)
    b.fail(fault::not_divisible, at.groups, x.channels);
  else if (in_per_group * at.groups != x.channels)
    b.fail(fault::channels_differ, in_per_group * at.groups, x.channels);
  if (at.count % at.groups != 0) b.fail(fault::not_divisible, at.groups, at.count);
  if (at.stride_h < 1 || at.stride_w < 1) b.fail(fault::bad_option, 1, at.stride_h < at.stride_w ? at.stride_h : at.stride_w);
  if (at.dilation_h < 1 || at.dilation_w < 1) b.fail(fault::bad_option, 1, 0);
  const scale_rule s = x.scale.times(1, at.stride_h);
  const bool exact = x.exact && !x.scale.fixed();
  if (bias.valid()) return b.emit(op::conv, {x.id, w.id, bias.id}, at.count, s, at, exact);
  return b.emit(op::conv, {x.id, w.id}, at.count, s, at, exact);
}

/// The data gradient of a convolution used as an up-sampling layer; at.count = output channels, weights (in, out/groups, kh, kw).
constexpr value conv_transpose(builder& b, value x, value w, value bias, attributes at) {
  b.require_channels(x);
  const node& weights = b.g.nodes[w.id];  // a weight that is not trained is a node of its own, without dims
  if (weights.kind == op::parameter && weights.at.dims[0] != x.channels) b.fail(fault::channels_differ, weights.at.dims[0], x.channels);
  const scale_rule s = x.scale.times(at.stride_h, 1);
  const bool exact = x.exact && !x.scale.fixed();
  if (bias.valid()) return b.emit(op::conv_transpose, {x.id, w.id, bias.id}, at.count, s, at, exact);
  return b.emit(op::conv_transpose, {x.id, w.id}, at.count, s, at, exact);
}

/// The convolution a conv-family node computes, or is a gradient of; s = extents of all nodes.
constexpr conv_geometry geometry_of(const graph& g, int id, const shape* s) {
  const node& n = g.nodes[id];
  const attributes& a = n.at;
  conv_geometry c;
  c.kernel_h = a.kernel_h, c.kernel_w = a.kernel_w, c.stride_h = a.stride_h, c.stride_w = a.stride_w;
  c.pad_top = a.pad_top, c.pad_left = a.pad_left, c.dilation_h = a.dilation_h, c.dilation_w = a.dilation_w, c.groups = a.groups;
  c.bf16 = a.bf16;
  shape big, small;  // input and output of the convolution
  if (n.kind == op::conv)
    big = s[g.input_of(id, 0)], small = s[id];
  else if (n.kind == op::conv_backward_weights)
    big = s[g.input_of(id, 0)], small = s[g.input_of(id, 1)];
  else  // conv_transpose, conv_backward_data
    big = s[id], small = s[g.input_of(id, 0)];
  c.n = big.n, c.in_h = big.h, c.in_w = big.w, c.in_c = big.c;
  c.out_h = small.h, c.out_w = small.w, c.out_c = small.c;
  return c;
}

constexpr bool conv_extent(graph_error& e, const graph& g, int id, const shape* s, shape& out) {
  const node& n = g.nodes[id];
  const attributes& a = n.at;
  const shape x = s[g.input_of(id, 0)];
  switch (n.kind) {
    case op::conv: {
      const int kh = a.dilation_h * (a.kernel_h - 1) + 1, kw = a.dilation_w * (a.kernel_w - 1) + 1;
      const int ph = x.h + a.pad_top + a.pad_bottom, pw = x.w + a.pad_left + a.pad_right;
      if (kh > ph || kw > pw) e = {fault::kernel_larger_than_input, id, kh > ph ? kh : kw, kh > ph ? ph : pw};
      out = {x.n, a.count, (ph - kh) / a.stride_h + 1, (pw - kw) / a.stride_w + 1};
      return true;
    }
    case op::conv_transpose:
      out = {x.n, a.count, (x.h - 1) * a.stride_h - a.pad_top - a.pad_bottom + a.dilation_h * (a.kernel_h - 1) + 1 + a.bins_h,
             (x.w - 1) * a.stride_w - a.pad_left - a.pad_right + a.dilation_w * (a.kernel_w - 1) + 1 + a.bins_w};
      return true;
    case op::conv_backward_data:
      out = s[g.input_of(id, 2)];
      return true;
    case op::conv_backward_weights: {
      const shape dy = s[g.input_of(id, 1)];
      out = {dy.c, x.c / a.groups, a.kernel_h, a.kernel_w};
      return true;
    }
    case op::channel_sum:
      out = {1, x.c, 1, 1};
      return true;
    case op::fold_weights:
      out = x;
      return true;
    case op::fold_bias:
      out = {1, s[g.input_of(id, n.input_count - 1)].c, 1, 1};
      return true;
    default:
      return false;
  }
}

constexpr void conv_vjp(tape& t, int id, int dy) {
  graph& g = t.g;
  const node n = g.nodes[id];
  const int x = g.input_of(id, 0), w = g.input_of(id, 1);
  if (n.kind == op::conv) {
    if (t.wants(x)) t.give(x, g.append(op::conv_backward_data, {dy, w, x}, g.nodes[x].channels, n.at));
    if (t.wants(w)) t.give(w, g.append(op::conv_backward_weights, {x, dy}, g.nodes[w].channels, n.at));
  } else if (n.kind == op::conv_transpose) {
    attributes forward = n.at;  // the convolution that leads back
    forward.count = g.nodes[x].channels, forward.bins_h = forward.bins_w = 0;
    if (t.wants(x)) t.give(x, g.append(op::conv, {dy, w}, g.nodes[x].channels, forward));
    if (t.wants(w)) t.give(w, g.append(op::conv_backward_weights, {dy, x}, g.nodes[w].channels, forward));
  }
  if (n.input_count > 2) {
    const int bias = g.input_of(id, 2);
    if (t.wants(bias)) t.give(bias, g.append(op::channel_sum, {dy}, g.nodes[bias].channels));
  }
}

}  // namespace rsseg::graph::ops
