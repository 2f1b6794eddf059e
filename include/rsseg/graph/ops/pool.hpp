// SPDX-License-Identifier: MIT
// Pooling. Maximum pooling that needs its indices (training, unpooling: SegNet, ENet) is two nodes: argmax_pool finds the
// flat index y * W + x of the first maximum in row-major window order, pick reads it, place writes it back.
// Attributes: kernel, stride, pad, dilation; flag = ceil mode (a last window that starts beyond input + padding is dropped);
// avg_pool: flag2 = count only pixels inside the input (default: the divisor is the whole window);
// adaptive_avg_pool: bins_h, bins_w; window i of n is [floor(i H / n), ceil((i+1) H / n)).
// count = 1: kernel = stride = floor(size / bins) (ICNet's pyramid), extent from that.
#pragma once
#include "rsseg/graph/builder.hpp"
#include "rsseg/graph/tape.hpp"

namespace rsseg::graph::ops {

struct pooled {
  value y, index;
};

/// Maximum pooling; the indices are computed in training, or when asked for.
constexpr pooled max_pool(builder& b, value x, const attributes& at, bool with_indices) {
  const scale_rule s = x.scale.times(1, at.stride_h);
  if (at.kernel_h < 1 || at.stride_h < 1) b.fail(fault::bad_option, 1, at.kernel_h < at.stride_h ? at.kernel_h : at.stride_h);
  if (!with_indices && !b.training()) return {b.emit(op::max_pool, {x.id}, x.channels, s, at, x.exact), {}};
  value index = b.emit(op::argmax_pool, {x.id}, x.channels, s, at, x.exact);
  b.g.nodes[index.id].type = data_type::index;
  return {b.emit(op::pick, {x.id, index.id}, x.channels, s, at, x.exact), index};
}

/// Unpooling: zeros of like's extent, y at the indices.
constexpr value max_unpool(builder& b, value y, value index, value like) {
  b.require_same_channels(index, y);
  return b.emit(op::place, {y.id, index.id, like.id}, y.channels, like.scale, {}, like.exact);
}

constexpr value avg_pool(builder& b, value x, const attributes& at) {
  return b.emit(op::avg_pool, {x.id}, x.channels, x.scale.times(1, at.stride_h), at, x.exact);
}

constexpr value adaptive_avg_pool(builder& b, value x, int bins_h, int bins_w) {
  attributes at;
  at.bins_h = bins_h, at.bins_w = bins_w;
  if (bins_h < 1 || bins_w < 1) b.fail(fault::bad_option, 1, bins_h < bins_w ? bins_h : bins_w);
  return b.emit(op::adaptive_avg_pool, {x.id}, x.channels, {1, 1, bins_h, bins_w}, at);
}

constexpr int pool_out(int in, int kernel, int stride, int pad_begin, int pad_end, int dilation, bool ceil_mode) {
  const int room = in + pad_begin + pad_end - dilation * (kernel - 1) - 1;
  int out = (ceil_mode ? (room + stride - 1) / stride : room / stride) + 1;
  if (ceil_mode && (out - 1) * stride >= in + pad_begin) --out;
  return room < 0 ? 0 : out;
}

constexpr bool pool_extent(graph_error& e, const graph& g, int id, const shape* s, shape& out) {
  const node& n = g.nodes[id];
  const attributes& a = n.at;
  const shape x = s[g.input_of(id, 0)];
  switch (n.kind) {
    case op::max_pool:
    case op::argmax_pool:
    case op::avg_pool: {
      int kh = a.kernel_h, kw = a.kernel_w, sh = a.stride_h, sw = a.stride_w;
      if (a.count == 1) {  // bins
        kh = sh = x.h / a.bins_h, kw = sw = x.w / a.bins_w;
        if (kh < 1 || kw < 1) {
          e = {fault::kernel_larger_than_input, id, a.bins_h, x.h < x.w ? x.h : x.w};
          kh = sh = kw = sw = 1;
        }
      }
      out = {x.n, x.c, pool_out(x.h, kh, sh, a.pad_top, a.pad_bottom, a.dilation_h, a.flag),
             pool_out(x.w, kw, sw, a.pad_left, a.pad_right, a.dilation_w, a.flag)};
      if (out.h < 1 || out.w < 1) e = {fault::kernel_larger_than_input, id, kh, x.h < x.w ? x.h : x.w};
      return true;
    }
    case op::pick:
      out = s[g.input_of(id, 1)];
      return true;
    case op::place: {
      const shape like = s[g.input_of(id, 2)];
      out = {x.n, x.c, like.h, like.w};
      return true;
    }
    case op::avg_pool_grad:
    case op::adaptive_avg_pool_grad:
      out = s[g.input_of(id, 1)];
      return true;
    case op::adaptive_avg_pool:
      out = {x.n, x.c, a.bins_h, a.bins_w};
      return true;
    default:
      return false;
  }
}

constexpr void pool_vjp(tape& t, int id, int dy) {
  graph& g = t.g;
  const node n = g.nodes[id];
  const int x = g.input_of(id, 0);
  if (!t.wants(x)) return;
  if (n.kind == op::pick) t.give(x, g.append(op::place, {dy, g.input_of(id, 1), x}, n.channels, n.at));
  if (n.kind == op::place) t.give(x, g.append(op::pick, {dy, g.input_of(id, 1)}, n.channels, n.at));
  if (n.kind == op::avg_pool) t.give(x, g.append(op::avg_pool_grad, {dy, x}, n.channels, n.at));
  if (n.kind == op::adaptive_avg_pool) t.give(x, g.append(op::adaptive_avg_pool_grad, {dy, x}, n.channels, n.at));
}

}  // namespace rsseg::graph::ops
