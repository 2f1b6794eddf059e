// SPDX-License-Identifier: MIT
// Which kernels may write their result over one of their inputs. Plans for the CPU ask here.
#pragma once
#include "rsseg/graph/node.hpp"

namespace rsseg::cpu {

/// Whether input number `input` may be the memory of the result. The caller makes sure that this input has the result's extent and
/// element type and that nobody reads it later. At most one input may share the result's memory, unless several are the same node.
constexpr bool may_run_in_place(graph::op kind, int input) {
  using graph::op;
  switch (kind) {
    case op::add:  // any one of them: sums go through registers
    case op::mul:
      return true;
    case op::unary_grad:  // element-wise in both
      return input < 2;
    case op::unary:
    case op::prelu:
    case op::prelu_grad:
    case op::affine:
    case op::dropout:
    case op::bn_apply:
    case op::bn_grad:
    case op::group_apply:
    case op::group_grad:
    case op::maximum:
    case op::maximum_grad:
    case op::l2_normalize:
    case op::softmax:
    case op::softmax_grad:
    case op::log_softmax:
    case op::log_softmax_grad:
    case op::stop_gradient:
    case op::reshape:
    case op::add_diagonal:
      return input == 0;
    default:
      return false;
  }
}

}  // namespace rsseg::cpu
