// SPDX-License-Identifier: MIT
// Batch normalisation (Ioffe and Szegedy, ICML 2015), group normalisation (Wu and He, ECCV 2018), L2 normalisation over
// channels (ParseNet, Liu et al. 2015). Statistics, application and gradients are nodes of their own.
// Attributes: alpha = eps; flag = the statistics are constants (running or frozen); count = groups; bn_update: beta = momentum;
// bn_row: begin = row, its sum over N; the running variance takes the unbiased estimate.
#pragma once
#include "rsseg/graph/builder.hpp"
#include "rsseg/graph/tape.hpp"

namespace rsseg::graph::ops {

/// y = (x - mean) / sqrt(var + eps) * gamma + beta; batch statistics (and an update of the running ones) in training.
constexpr value batch_norm(builder& b, value x, value gamma, value beta, value running_mean, value running_var, double eps, double momentum) {
  b.require_channels(x);
  const bool batch = b.training() && !b.options().freeze_norm;
  attributes at;
  at.alpha = eps;
  const scale_rule one{1, 1, 2, 1};
  value stats;
  if (batch) {
    stats = b.emit(op::bn_stats, {x.id}, x.channels, one);
    attributes update;
    update.beta = momentum;
    const value u = b.emit(op::bn_update, {stats.id, running_mean.id, running_var.id, x.id}, x.channels, one, update);
    b.g.roots.push_back(u.id);
  } else {
    stats = b.emit(op::bn_pair, {running_mean.id, running_var.id}, x.channels, one);
    at.flag = true;
  }
  return b.emit(op::bn_apply, {x.id, stats.id, gamma.id, beta.id}, x.channels, x.scale, at, x.exact);
}

constexpr value group_norm(builder& b, value x, value gamma, value beta, int groups, double eps) {
  b.require_channels(x);
  if (groups < 1 || x.channels % groups != 0) b.fail(fault::not_divisible, groups, x.channels);
  attributes at;
  at.alpha = eps, at.count = groups;
  const value stats = b.emit(op::group_stats, {x.id}, groups, {1, 1, 2, 1}, at);
  return b.emit(op::group_apply, {x.id, stats.id, gamma.id, beta.id}, x.channels, x.scale, at, x.exact);
}

/// x / max(||x||_2, eps), the norm over channels of each pixel.
constexpr value l2_normalize(builder& b, value x, double eps) {
  attributes at;
  at.alpha = eps;
  return b.emit(op::l2_normalize, {x.id}, x.channels, x.scale, at, x.exact);
}

constexpr bool norm_extent(graph_error&, const graph& g, int id, const shape* s, shape& out) {
  const node& n = g.nodes[id];
  const shape x = s[g.input_of(id, 0)];
  switch (n.kind) {
    case op::bn_stats:
    case op::bn_pair:
      out = {1, x.c, 2, 1};
      return true;
    case op::bn_update:
      out = {0, 0, 0, 0};
      return true;
    case op::bn_reduce:
      out = {1, x.c, 2, 1};
      return true;
    case op::bn_row:
      out = {1, x.c, 1, 1};
      return true;
    case op::group_stats:
      out = {x.n, n.at.count, 2, 1};
      return true;
    case op::group_reduce:
      out = {x.n, x.c, 2, 1};
      return true;
    case op::bn_apply:
    case op::bn_grad:
    case op::group_apply:
    case op::group_grad:
    case op::l2_normalize:
    case op::l2_normalize_grad:
      out = x;
      return true;
    default:
      return false;
  }
}

constexpr void norm_vjp(tape& t, int id, int dy) {
  graph& g = t.g;
  const node n = g.nodes[id];
  const int x = g.input_of(id, 0);
  if (n.kind == op::l2_normalize) {
    if (t.wants(x)) t.give(x, g.append(op::l2_normalize_grad, {dy, x}, n.channels, n.at));
    return;
  }
  if (n.kind != op::bn_apply && n.kind != op::group_apply) return;
  const bool bn = n.kind == op::bn_apply;
  const int stats = g.input_of(id, 1), gamma = g.input_of(id, 2), beta = g.input_of(id, 3);
  int reduced = -1;
  if (t.wants(gamma) || t.wants(beta) || !n.at.flag) reduced = g.append(bn ? op::bn_reduce : op::group_reduce, {dy, x, stats}, n.channels, n.at);
  attributes row;
  row.begin = 0;
  if (t.wants(beta)) t.give(beta, g.append(op::bn_row, {reduced}, n.channels, row));
  row.begin = 1;
  if (t.wants(gamma)) t.give(gamma, g.append(op::bn_row, {reduced}, n.channels, row));
  if (t.wants(x)) {
    if (n.at.flag)  // constant statistics: `reduced` is not read
      t.give(x, g.append(op::bn_grad, {dy, x, stats, gamma}, n.channels, n.at));
    else
      t.give(x, g.append(bn ? op::bn_grad : op::group_grad, {dy, x, stats, gamma, reduced}, n.channels, n.at));
  }
}

}  // namespace rsseg::graph::ops
