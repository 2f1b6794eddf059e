// SPDX-License-Identifier: MIT
// Which operands of which kernels may be columns of a wider tensor. Plans for the CPU ask here before they let a concatenation and its
// parts share memory. A kernel that is listed takes `call::in_pitch` or `out_pitch` and leaves what lies between its pixels alone.
#pragma once
#include "rsseg/graph/node.hpp"

namespace rsseg::cpu {

/// Whether operand number `operand` (-1: the result) of a kernel may have pixels that are further apart than its channels.
constexpr bool takes_pitch(graph::op kind, int operand) {
  using graph::op;
  switch (kind) {
    case op::conv:  // (x, w, bias, residual)
      return operand == -1 || operand == 0 || operand == 3;
    case op::conv_transpose:      // (x, w, bias)
    case op::conv_backward_data:  // (dy, w, like)
      return operand == -1 || operand == 0 || operand == 2;
    case op::conv_backward_weights:  // (x, dy)
      return operand >= 0;
    default:
      return false;
  }
}

}  // namespace rsseg::cpu
