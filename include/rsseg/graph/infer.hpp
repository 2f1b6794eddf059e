// SPDX-License-Identifier: MIT
// Extents of all nodes for concrete input sizes, and what each node costs. One pass, constexpr.
#pragma once
#include "rsseg/graph/custom.hpp"
#include "rsseg/graph/ops/arrange.hpp"
#include "rsseg/graph/ops/conv.hpp"
#include "rsseg/graph/ops/loss.hpp"
#include "rsseg/graph/ops/matrix.hpp"
#include "rsseg/graph/ops/norm.hpp"
#include "rsseg/graph/ops/pointwise.hpp"
#include "rsseg/graph/ops/pool.hpp"
#include "rsseg/graph/ops/resize.hpp"

namespace rsseg::graph {

/// Shape in which a parameter or buffer is stored: (out, in, kh, kw) as NHWC is OHWI; other ranks are flat vectors or matrices.
constexpr shape stored_shape(const attributes& a) {
  if (a.rank == 4) return {a.dims[0], a.dims[1], a.dims[2], a.dims[3]};
  if (a.rank == 2) return {a.dims[0], a.dims[1], 1, 1};
  int total = 1;
  for (int i = 0; i < a.rank; ++i) total *= a.dims[i];
  return {1, total, 1, 1};
}

/// Extents of every node into s (g.nodes.size() entries), given those of the input nodes already in s.
/// Returns the first error found; extents after it are not meaningful.
constexpr graph_error infer(const graph& g, shape* s) {
  graph_error e;
  for (int id = 0; id < g.nodes.size() && e.what == fault::none; ++id) {
    const node& n = g.nodes[id];
    shape out;
    switch (n.kind) {
      case op::input:
        continue;
      case op::parameter:
      case op::buffer:
        s[id] = stored_shape(n.at);
        continue;
      case op::target: {
        const shape like = s[g.input_of(id, 0)];
        s[id] = {like.n, 1, like.h, like.w};
        continue;
      }
      case op::noise:
        s[id] = s[g.input_of(id, 0)];
        continue;
      case op::constant:
        s[id] = n.input_count ? s[g.input_of(id, 0)] : shape{1, n.channels, 1, 1};
        continue;
      case op::custom: {
        shape in[8];
        for (int i = 0; i < n.input_count && i < 8; ++i) in[i] = s[g.input_of(id, i)];
        s[id] = n.at.custom->extent(n.at, in, n.input_count);
        continue;
      }
      default:
        break;
    }
    if (!(ops::conv_extent(e, g, id, s, out) || ops::norm_extent(e, g, id, s, out) || ops::pool_extent(e, g, id, s, out) ||
          ops::resize_extent(e, g, id, s, out) || ops::pointwise_extent(e, g, id, s, out) || ops::arrange_extent(e, g, id, s, out) ||
          ops::matrix_extent(e, g, id, s, out) || ops::loss_extent(e, g, id, s, out)))
      e = {fault::bad_option, id, 0, int(n.kind)};
    s[id] = out;
  }
  return e;
}

/// Multiply-adds of convolutions, matrix products and custom operators (1 MAC = 2 FLOP); other nodes count 0, as the papers count.
constexpr std::int64_t macs_of(const graph& g, int id, const shape* s) {
  const node& n = g.nodes[id];
  switch (n.kind) {
    case op::conv:
    case op::conv_transpose:
    case op::conv_backward_data:
    case op::conv_backward_weights:
      return ops::geometry_of(g, id, s).macs();
    case op::matmul: {
      const shape x = s[g.input_of(id, 0)];
      return s[id].size() * (n.at.flag ? x.h * x.w : x.c);
    }
    case op::custom: {
      shape in[8];
      for (int i = 0; i < n.input_count && i < 8; ++i) in[i] = s[g.input_of(id, i)];
      return n.at.custom->macs ? n.at.custom->macs(n.at, in, n.input_count) : 0;
    }
    default:
      return 0;
  }
}

}  // namespace rsseg::graph
