// SPDX-License-Identifier: MIT
// Element-wise operators, reductions and broadcasts.
// Attributes: unary: mode = function, alpha = its parameter (slope, bound, ELU's alpha), unary_grad: flag = inputs[1] is y;
// add, mul: flag = extents may be 1 (broadcast), else equal; affine: alpha * x + beta; dropout: alpha = p, begin = stream;
// reduce: begin = set of axes (axis_n | axis_c | axis_h | axis_w), flag = mean; broadcast_like, reduce_like: flag = divided by the number of copies.
#pragma once
#include "rsseg/graph/builder.hpp"
#include "rsseg/graph/tape.hpp"

namespace rsseg::graph::ops {

inline constexpr int axis_n = 1, axis_c = 2, axis_h = 4, axis_w = 8;

/// The derivative of f is written in y = f(x) (then x need not be kept).
constexpr bool derivative_reads_result(function f) {
  switch (f) {
    case function::leaky_relu:
    case function::log:
    case function::square:
    case function::abs:
    case function::clamp_min:
    case function::clamp_max:
    case function::sign:
      return false;
    default:
      return true;
  }
}

constexpr value unary(builder& b, value x, function f, double alpha = 0) {
  attributes at;
  at.mode = int(f), at.alpha = alpha;
  return b.emit(op::unary, {x.id}, x.channels, x.scale, at, x.exact);
}
constexpr value prelu(builder& b, value x, value slope) {
  if (slope.channels != 1 && slope.channels != x.channels) b.fail(fault::channels_differ, x.channels, slope.channels);
  return b.emit(op::prelu, {x.id, slope.id}, x.channels, x.scale, {}, x.exact);
}
/// Sum of values of equal extent.
constexpr value add(builder& b, const value* parts, int count) {
  list<int> ids;
  for (int i = 0; i < count; ++i) {
    b.require_same_channels(parts[0], parts[i]);
    b.require_same_scale(parts[0], parts[i]);
    ids.push_back(parts[i].id);
  }
  return b.emit(op::add, ids.begin(), count, parts[0].channels, parts[0].scale, {}, parts[0].exact);
}
constexpr value add(builder& b, value x, value y) {
  const value parts[2] = {x, y};
  return add(b, parts, 2);
}
/// x + y or x * y where extents of 1 are repeated; the result is said to be as large as the larger one.
constexpr value broadcasting(builder& b, op kind, value x, value y) {
  attributes at;
  at.flag = true;
  if (x.channels > 1 && y.channels > 1) b.require_same_channels(x, y);
  const bool x_pixel = x.scale.fixed() && x.scale.fixed_h == 1 && x.scale.fixed_w == 1;
  const bool y_pixel = y.scale.fixed() && y.scale.fixed_h == 1 && y.scale.fixed_w == 1;
  const value& big = x_pixel || (!y_pixel && x.channels == 1 && y.channels != 1) ? y : x;
  const int channels = x.channels < 0 || y.channels < 0 ? -1 : x.channels > y.channels ? x.channels : y.channels;
  return b.emit(kind, {x.id, y.id}, channels, big.scale, at, big.exact);
}
constexpr value add_broadcast(builder& b, value x, value y) { return broadcasting(b, op::add, x, y); }
constexpr value mul_broadcast(builder& b, value x, value y) { return broadcasting(b, op::mul, x, y); }
constexpr value mul(builder& b, value x, value y) {
  b.require_same_channels(x, y);
  b.require_same_scale(x, y);
  return b.emit(op::mul, {x.id, y.id}, x.channels, x.scale, {}, x.exact);
}
constexpr value maximum(builder& b, const value* parts, int count) {
  list<int> ids;
  for (int i = 0; i < count; ++i) b.require_same_channels(parts[0], parts[i]), ids.push_back(parts[i].id);
  return b.emit(op::maximum, ids.begin(), count, parts[0].channels, parts[0].scale, {}, parts[0].exact);
}
constexpr value affine(builder& b, value x, double alpha, double beta) {
  attributes at;
  at.alpha = alpha, at.beta = beta;
  return b.emit(op::affine, {x.id}, x.channels, x.scale, at, x.exact);
}
/// Identity outside training. whole_channels: Dropout2d, one draw per image and channel.
constexpr value dropout(builder& b, value x, double p, bool whole_channels = false) {
  if (p < 0 || p >= 1) b.fail(fault::bad_option, 1, int(p));
  if (!b.training() || !b.options().dropout || p == 0) return x;
  attributes at;
  at.alpha = p, at.begin = b.g.nodes.size(), at.flag = whole_channels;
  return b.emit(op::dropout, {x.id}, x.channels, x.scale, at, x.exact);
}
constexpr value reduce(builder& b, value x, int axes, bool mean) {
  attributes at;
  at.begin = axes, at.flag = mean;
  const bool pixel = (axes & (axis_h | axis_w)) == (axis_h | axis_w);
  return b.emit(op::reduce, {x.id}, axes & axis_c ? 1 : x.channels, pixel ? scale_rule{1, 1, 1, 1} : x.scale, at, x.exact || pixel);
}
constexpr value broadcast_like(builder& b, value x, value like) {
  return b.emit(op::broadcast_like, {x.id, like.id}, like.channels, like.scale, {}, like.exact);
}
constexpr value stop_gradient(builder& b, value x) { return b.emit(op::stop_gradient, {x.id}, x.channels, x.scale, {}, x.exact); }

constexpr bool pointwise_extent(graph_error& e, const graph& g, int id, const shape* s, shape& out) {
  const node& n = g.nodes[id];
  if (n.input_count == 0) return false;
  const shape x = s[g.input_of(id, 0)];
  switch (n.kind) {
    case op::unary:
    case op::unary_grad:
    case op::prelu:
    case op::prelu_grad:
    case op::affine:
    case op::dropout:
    case op::stop_gradient:
    case op::maximum_grad:
      out = x;
      return true;
    case op::prelu_slope_grad:
      out = s[g.input_of(id, 2)];
      return true;
    case op::reduce_like:
    case op::broadcast_like:
      out = s[g.input_of(id, 1)];
      return true;
    case op::reduce: {
      out = x;
      if (n.at.begin & axis_n) out.n = 1;
      if (n.at.begin & axis_c) out.c = 1;
      if (n.at.begin & axis_h) out.h = 1;
      if (n.at.begin & axis_w) out.w = 1;
      return true;
    }
    case op::add:
    case op::mul:
    case op::maximum: {
      out = x;
      for (int i = 1; i < n.input_count; ++i) {
        const shape y = s[g.input_of(id, i)];
        const int xs[4] = {out.n, out.c, out.h, out.w}, ys[4] = {y.n, y.c, y.h, y.w};
        int* to[4] = {&out.n, &out.c, &out.h, &out.w};
        for (int k = 0; k < 4; ++k) {
          if (xs[k] == ys[k]) continue;
          if (!n.at.flag || (xs[k] != 1 && ys[k] != 1)) {
            e = {k == 1 ? fault::channels_differ : fault::extents_differ, id, xs[k], ys[k]};
            continue;
          }
          *to[k] = xs[k] > ys[k] ? xs[k] : ys[k];
        }
      }
      return true;
    }
    default:
      return false;
  }
}

constexpr void pointwise_vjp(tape& t, int id, int dy) {
  graph& g = t.g;
  const node n = g.nodes[id];
  const int x = g.input_of(id, 0);
  switch (n.kind) {
    case op::unary: {
      if (!t.wants(x) || function(n.at.mode) == function::sign) return;
      attributes at = n.at;
      at.flag = derivative_reads_result(function(n.at.mode));
      t.give(x, g.append(op::unary_grad, {dy, at.flag ? id : x}, n.channels, at));
      return;
    }
    case op::prelu: {
      const int slope = g.input_of(id, 1);
      if (t.wants(x)) t.give(x, g.append(op::prelu_grad, {dy, x, slope}, n.channels));
      if (t.wants(slope)) t.give(slope, g.append(op::prelu_slope_grad, {dy, x, slope}, g.nodes[slope].channels));
      return;
    }
    case op::affine: {
      attributes at;
      at.alpha = n.at.alpha;
      if (t.wants(x)) t.give(x, g.append(op::affine, {dy}, n.channels, at));
      return;
    }
    case op::dropout:
      if (t.wants(x)) t.give(x, g.append(op::dropout, {dy}, n.channels, n.at));
      return;
    case op::add:
      for (int i = 0; i < n.input_count; ++i) {
        const int in = g.input_of(id, i);
        if (t.wants(in)) t.give(in, n.at.flag ? g.append(op::reduce_like, {dy, in}, g.nodes[in].channels) : dy);
      }
      return;
    case op::mul:
      for (int i = 0; i < 2; ++i) {
        const int in = g.input_of(id, i), other = g.input_of(id, 1 - i);
        if (!t.wants(in)) continue;
        const int product = g.append(op::mul, {dy, other}, n.channels, n.at);
        t.give(in, n.at.flag ? g.append(op::reduce_like, {product, in}, g.nodes[in].channels) : product);
      }
      return;
    case op::maximum:
      for (int i = 0; i < n.input_count; ++i) {
        const int in = g.input_of(id, i);
        if (!t.wants(in)) continue;
        list<int> inputs;
        inputs.push_back(dy);
        for (int k = 0; k < n.input_count; ++k) inputs.push_back(g.input_of(id, k));
        attributes at;
        at.begin = i;
        t.give(in, g.append(op::maximum_grad, inputs.begin(), inputs.size(), n.channels, at));
      }
      return;
    case op::reduce: {
      attributes at;
      at.flag = n.at.flag;
      if (t.wants(x)) t.give(x, g.append(op::broadcast_like, {dy, x}, g.nodes[x].channels, at));
      return;
    }
    case op::reduce_like:
      if (t.wants(x)) t.give(x, g.append(op::broadcast_like, {dy, x}, g.nodes[x].channels, n.at));
      return;
    case op::broadcast_like:
      if (t.wants(x)) t.give(x, g.append(op::reduce_like, {dy, x}, g.nodes[x].channels, n.at));
      return;
    default:
      return;  // stop_gradient
  }
}

}  // namespace rsseg::graph::ops
