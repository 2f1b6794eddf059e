// SPDX-License-Identifier: MIT
// What the executor knows of operators by name: texts for messages, and inputs that lend their extent only.
#pragma once
#include <iterator>
#include <string>

#include "call.cuh"

namespace rsseg::cuda {
inline namespace RSSEG_BACKEND_NS {

inline constexpr const char* operator_names[] = {"input",
                                                 "parameter",
                                                 "buffer",
                                                 "target",
                                                 "noise",
                                                 "constant",
                                                 "conv",
                                                 "conv_transpose",
                                                 "conv_backward_data",
                                                 "conv_backward_weights",
                                                 "channel_sum",
                                                 "fold_weights",
                                                 "fold_bias",
                                                 "bn_stats",
                                                 "bn_pair",
                                                 "bn_apply",
                                                 "bn_update",
                                                 "bn_reduce",
                                                 "bn_grad",
                                                 "bn_row",
                                                 "group_stats",
                                                 "group_apply",
                                                 "group_reduce",
                                                 "group_grad",
                                                 "l2_normalize",
                                                 "l2_normalize_grad",
                                                 "max_pool",
                                                 "argmax_pool",
                                                 "pick",
                                                 "place",
                                                 "avg_pool",
                                                 "avg_pool_grad",
                                                 "adaptive_avg_pool",
                                                 "adaptive_avg_pool_grad",
                                                 "resize",
                                                 "resize_grad",
                                                 "unary",
                                                 "unary_grad",
                                                 "prelu",
                                                 "prelu_grad",
                                                 "prelu_slope_grad",
                                                 "add",
                                                 "mul",
                                                 "maximum",
                                                 "maximum_grad",
                                                 "affine",
                                                 "dropout",
                                                 "reduce",
                                                 "reduce_like",
                                                 "broadcast_like",
                                                 "stop_gradient",
                                                 "concat",
                                                 "slice",
                                                 "slice_grad",
                                                 "pad_crop",
                                                 "pad_crop_grad",
                                                 "rotate",
                                                 "reshape",
                                                 "batch_concat",
                                                 "batch_slice",
                                                 "batch_slice_grad",
                                                 "matmul",
                                                 "transpose",
                                                 "softmax",
                                                 "softmax_grad",
                                                 "log_softmax",
                                                 "log_softmax_grad",
                                                 "diagonal",
                                                 "add_diagonal",
                                                 "loss",
                                                 "loss_grad",
                                                 "custom"};
static_assert(std::size(operator_names) == std::size_t(graph::op::custom) + 1, "a new operator needs a name here and a row in table.cuh");

/// "operator 'conv' at layer 'down1.0'": for messages. Nodes without a name are named by what feeds them.
inline std::string node_text(const graph::graph& g, int id) {
  std::string text = "operator '" + std::string(operator_names[int(g.nodes[id].kind)]) + "'";
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
