// SPDX-License-Identifier: MIT
// L2 normalisation with a learned scale per channel (Liu, Rabinovich, Berg: "ParseNet", 2015, Sec. 3.3):
// y_c = s_c * x_c / sqrt(sum_c x_c^2 + eps) at every pixel.
#pragma once
#include "rsseg/layers/basic.hpp"

namespace rsseg {

/// `scale` (C), which starts at `start` (the paper: 10). (N,C,H,W) -> (N,C,H,W).
constexpr value l2_norm(builder& b, value x, double start = 10, double eps = 1e-10) {
  namespace ops = graph::ops;
  b.require_channels(x);
  const value squares = ops::reduce(b, mul(b, x, x), ops::axis_c, false);
  const value inverse = ops::unary(b, ops::affine(b, squares, 1, eps), function::rsqrt);
  const value unit = ops::mul_broadcast(b, x, inverse);
  return ops::mul_broadcast(b, unit, b.parameter("scale", {x.channels}, graph::init::constant, start));
}

}  // namespace rsseg
