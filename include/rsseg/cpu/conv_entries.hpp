// SPDX-License-Identifier: MIT
// The convolution family's rows of the kernel table.
#pragma once
#include "rsseg/cpu/reference_conv.hpp"

namespace rsseg::cpu {

template <class T>
constexpr kernel_entry<T> conv_entry(graph::op kind) {
  using graph::op;
  switch (kind) {
    case op::conv:
      return {&reference_conv<T>};
    case op::conv_transpose:
      return {&reference_conv_transpose<T>};
    case op::conv_backward_data:
      return {&reference_conv_backward_data<T>};
    case op::conv_backward_weights:
      return {&reference_conv_backward_weights<T>};
    default:
      return {};
  }
}

}  // namespace rsseg::cpu
