// SPDX-License-Identifier: MIT
// What the executor knows of operators by name: texts for messages, and inputs that lend their extent only.
#pragma once
#include <string>

#include "call.cuh"
#include "rsseg/graph/op_names.hpp"

namespace rsseg::cuda {
inline namespace RSSEG_BACKEND_NS {

/// "operator 'conv' at layer 'down1.0'": for messages. Nodes without a name are named by what feeds them.
inline std::string node_text(const graph::graph& g, int id) {
  std::string text = graph::operator_name(g.nodes[id].kind);
  for (char& c : text)
    if (c == ' ' || c == '/') c = '_';
  text = "operator '" + text + "'";
  if (g.nodes[id].kind == graph::op::custom) text += " ('" + std::string(g.nodes[id].at.custom->name) + "')";
  int named = id;
  while (g.nodes[named].name_length == 0 && g.nodes[named].input_count > 0) named = g.input_of(named, 0);
  if (g.nodes[named].name_length > 0) text += (named == id ? " at layer '" : " after layer '") + std::string(g.name_of(named)) + "'";
  return text;
}
/// Input k lends its extent only.
constexpr bool extent_only(const graph::node& n, int k) {
  using graph::op;
  switch (n.kind) {
    case op::target:
    case op::noise:
    case op::constant:
      return true;
    case op::conv_backward_data:
    case op::place:
      return k == 2;
    case op::bn_update:
      return k == 3;
    case op::avg_pool_grad:
    case op::adaptive_avg_pool_grad:
    case op::resize:
    case op::resize_grad:
    case op::reduce_like:
    case op::broadcast_like:
    case op::slice_grad:
    case op::pad_crop:
    case op::pad_crop_grad:
    case op::reshape:
    case op::batch_slice_grad:
      return k == 1;
    default:
      return false;
  }
}

}  // namespace RSSEG_BACKEND_NS
}  // namespace rsseg::cuda
