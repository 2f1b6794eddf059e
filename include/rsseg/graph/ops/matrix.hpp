// SPDX-License-Identifier: MIT
// Matrix operators for attention and graphs. A tensor is N matrices of H*W rows (pixels or nodes) and C columns.
// Attributes: matmul: flag, flag2 = transpose inputs[0], inputs[1]; alpha = factor; softmax, log_softmax: over the columns.
#pragma once
#include "rsseg/graph/builder.hpp"
#include "rsseg/graph/tape.hpp"

namespace rsseg::graph::ops {

/// alpha * op(a) * op(b) per image. Rows of the result lie like the rows of a, or n x 1 when a is transposed.
constexpr value matmul(builder& b, value x, value y, bool transpose_x, bool transpose_y, double alpha = 1) {
  attributes at;
  at.flag = transpose_x, at.flag2 = transpose_y, at.alpha = alpha;
  const int channels = transpose_y ? (y.scale.fixed() && y.exact ? y.scale.fixed_h * y.scale.fixed_w : -1) : y.channels;
  scale_rule s = x.scale;
  bool exact = x.exact;
  if (transpose_x) s = {1, 1, x.channels > 0 ? x.channels : 1, 1}, exact = x.channels > 0;
  return b.emit(op::matmul, {x.id, y.id}, channels, s, at, exact);
}
constexpr value transpose(builder& b, value x) {
  const bool known = x.scale.fixed() && x.exact;
  return b.emit(op::transpose, {x.id}, known ? x.scale.fixed_h * x.scale.fixed_w : -1, {1, 1, x.channels > 0 ? x.channels : 1, 1}, {},
                x.channels > 0);
}
constexpr value softmax(builder& b, value x) { return b.emit(op::softmax, {x.id}, x.channels, x.scale, {}, x.exact); }
constexpr value log_softmax(builder& b, value x) { return b.emit(op::log_softmax, {x.id}, x.channels, x.scale, {}, x.exact); }
/// (N,rows,rows) -> (N,1,rows,1).
constexpr value diagonal(builder& b, value x) { return b.emit(op::diagonal, {x.id}, 1, x.scale, {}, x.exact); }
/// x + diag(d).
constexpr value add_diagonal(builder& b, value x, value d) { return b.emit(op::add_diagonal, {x.id, d.id}, x.channels, x.scale, {}, x.exact); }

constexpr bool matrix_extent(graph_error& e, const graph& g, int id, const shape* s, shape& out) {
  const node& n = g.nodes[id];
  if (n.input_count == 0) return false;
  const shape x = s[g.input_of(id, 0)];
  out = x;
  switch (n.kind) {
    case op::matmul: {
      const shape y = s[g.input_of(id, 1)];
      const int inner_x = n.at.flag ? x.h * x.w : x.c, inner_y = n.at.flag2 ? y.c : y.h * y.w;
      if (inner_x != inner_y) e = {fault::channels_differ, id, inner_x, inner_y};
      if (x.n != y.n) e = {fault::extents_differ, id, x.n, y.n};
      if (n.at.flag) out.h = x.c, out.w = 1;
      out.c = n.at.flag2 ? y.h * y.w : y.c;
      return true;
    }
    case op::transpose:
      out = {x.n, x.h * x.w, x.c, 1};
      return true;
    case op::softmax:
    case op::softmax_grad:
    case op::log_softmax:
    case op::log_softmax_grad:
    case op::add_diagonal:
      return true;
    case op::diagonal:
      if (x.h * x.w != x.c) e = {fault::extents_differ, id, x.h * x.w, x.c};
      out = {x.n, 1, x.h * x.w, 1};
      return true;
    default:
      return false;
  }
}

constexpr void matrix_vjp(tape& t, int id, int dy) {
  graph& g = t.g;
  const node n = g.nodes[id];
  const int x = g.input_of(id, 0);
  attributes like;
  like.count = 1, like.flag = true;  // reshape to the extent of inputs[1]
  switch (n.kind) {
    case op::matmul: {
      const int y = g.input_of(id, 1);
      attributes at;
      at.alpha = n.at.alpha;
      if (t.wants(x)) {  // dX = dY op(Y)^T, or op(Y) dY^T
        at.flag = n.at.flag && n.at.flag2, at.flag2 = n.at.flag ? true : !n.at.flag2;
        const int d = n.at.flag ? g.append(op::matmul, {y, dy}, g.nodes[x].channels, at) : g.append(op::matmul, {dy, y}, g.nodes[x].channels, at);
        t.give(x, g.append(op::reshape, {d, x}, g.nodes[x].channels, like));
      }
      if (t.wants(y)) {  // dY = op(X)^T dY, or dY^T op(X)
        at.flag = n.at.flag2 ? true : !n.at.flag, at.flag2 = n.at.flag2 && n.at.flag;
        const int d = n.at.flag2 ? g.append(op::matmul, {dy, x}, g.nodes[y].channels, at) : g.append(op::matmul, {x, dy}, g.nodes[y].channels, at);
        t.give(y, g.append(op::reshape, {d, y}, g.nodes[y].channels, like));
      }
      return;
    }
    case op::transpose:
      if (t.wants(x)) {
        const int d = g.append(op::transpose, {dy}, g.nodes[x].channels);
        t.give(x, g.append(op::reshape, {d, x}, g.nodes[x].channels, like));
      }
      return;
    case op::softmax:
      if (t.wants(x)) t.give(x, g.append(op::softmax_grad, {dy, id}, n.channels));
      return;
    case op::log_softmax:
      if (t.wants(x)) t.give(x, g.append(op::log_softmax_grad, {dy, id}, n.channels));
      return;
    case op::diagonal:
      if (t.wants(x)) {  // zeros like x with dy on the diagonal
        const int zero = g.append(op::constant, {x}, g.nodes[x].channels);
        t.give(x, g.append(op::add_diagonal, {zero, dy}, g.nodes[x].channels));
      }
      return;
    case op::add_diagonal: {
      const int d = g.input_of(id, 1);
      if (t.wants(x)) t.give(x, dy);
      if (t.wants(d)) {
        const int diag = g.append(op::diagonal, {dy}, 1);
        t.give(d, g.append(op::reshape, {diag, d}, 1, like));
      }
      return;
    }
    default:
      return;
  }
}

}  // namespace rsseg::graph::ops
