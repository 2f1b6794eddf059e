// SPDX-License-Identifier: MIT
// Which operands of which kernels may be columns of a wider tensor. Plans for the CPU ask here before they let a concatenation and its
// parts share memory. A kernel that is listed takes `call::in_pitch` and `out_pitch` and leaves what lies between its pixels alone.
#pragma once
#include "rsseg/graph/node.hpp"

namespace rsseg::cpu {

/// Whether operand number `operand` (-1: the result) of a kernel may have pixels that are further apart than its channels.
/// Operands that only lend their extent may.
constexpr bool takes_pitch(graph::op kind, int operand) {
  using graph::op;
  switch (kind) {
    // all operands and the result
    case op::unary:
    case op::unary_grad:
    case op::add:
    case op::mul:
    case op::maximum:
    case op::affine:
    case op::concat:
    case op::slice:
    case op::slice_grad:
    case op::pad_crop:
    case op::pad_crop_grad:
    case op::rotate:
    case op::batch_concat:
    case op::batch_slice:
    case op::max_pool:
    case op::avg_pool:
    case op::avg_pool_grad:
    case op::adaptive_avg_pool:
    case op::adaptive_avg_pool_grad:
    case op::resize:
    case op::resize_grad:
    case op::broadcast_like:
    case op::l2_normalize:
    case op::l2_normalize_grad:
      return true;
    // results of another shape than the operands: sums, statistics, indices
    case op::conv_backward_weights:  // (x, dy)
    case op::argmax_pool:            // (x)
    case op::channel_sum:
    case op::reduce:
    case op::reduce_like:
    case op::bn_stats:
    case op::group_stats:
    case op::target:  // and those that only ask for an extent
    case op::noise:
    case op::constant:
      return operand >= 0;
    case op::bn_reduce:  // (dy, x, stats)
    case op::group_reduce:
      return operand == 0 || operand == 1;
    case op::bn_update:  // (stats, mean, var, x)
      return operand == 3;
    // maps beside weights, statistics or indices
    case op::conv:  // (x, w, bias, residual)
      return operand == -1 || operand == 0 || operand == 3;
    case op::conv_backward_data:  // (dy, w, like)
    case op::place:               // (y, index, like)
      return operand != 1;
    case op::conv_transpose:  // (x, w, bias)
    case op::bn_apply:        // (x, stats, gamma, beta)
    case op::group_apply:
    case op::prelu:  // (x, slope)
    case op::pick:   // (x, index)
      return operand <= 0;
    case op::bn_grad:  // (dy, x, stats, gamma, reduced)
    case op::group_grad:
    case op::prelu_grad:  // (dy, x, slope)
      return operand <= 1;
    default:
      return false;
  }
}

}  // namespace rsseg::cpu
