// SPDX-License-Identifier: MIT
// What a graph is made of: operators, their attributes, nodes. A node yields exactly one tensor; what needs two results
// (batch statistics, pooling indices) is two nodes, so that differentiation and planning stay simple loops.
#pragma once
#include <cstdint>

#include "rsseg/core/shape.hpp"

namespace rsseg {
struct custom_op;  // graph/custom.hpp: an operator brought by the user
}

namespace rsseg::graph {

enum class op : std::uint8_t {
  // sources
  input,      // fed by the caller
  parameter,  // trained
  buffer,     // kept beside the parameters, changed by bn_update only
  target,     // class ids (int32) fed by the caller; (N,1,H,W) with the extent of inputs[0]
  noise,      // standard normal numbers of (seed, step, name), or fed by the caller; extent of inputs[0]
  constant,   // every element = attributes.alpha; extent of inputs[0], or (1,channels,1,1)
  // conv: graph/ops/conv.hpp
  conv,                   // (x, w [, bias] [, residual])
  conv_transpose,         // (x, w [, bias])
  conv_backward_data,     // (dy, w, like)
  conv_backward_weights,  // (x, dy)
  channel_sum,            // (x) -> (1,C,1,1), the bias gradient
  fold_weights,           // (w, stats, gamma): w * gamma / sqrt(var + eps) per output channel
  fold_bias,              // (bias|none, stats, gamma, beta)
  // norm: graph/ops/norm.hpp
  bn_stats,           // (x) -> (1,C,2,1): mean, biased variance over N,H,W
  bn_pair,            // (mean, var) -> (1,C,2,1)
  bn_apply,           // (x, stats, gamma, beta)
  bn_update,          // (stats, running_mean, running_var, x): moves the running statistics; yields nothing
  bn_reduce,          // (dy, x, stats) -> (1,C,2,1): sum dy, sum dy * xhat
  bn_grad,            // (dy, x, stats, gamma, reduced)
  bn_row,             // (reduced) -> (1,C,1,1)
  group_stats,        // (x) -> (N,G,2,1): mean, biased variance of each group
  group_apply,        // (x, stats, gamma, beta)
  group_reduce,       // (dy, x, stats) -> (N,C,2,1): sum dy, sum dy * xhat over H,W
  group_grad,         // (dy, x, stats, gamma, reduced)
  l2_normalize,       // (x): x / max(||x||_2 over channels, eps) per pixel
  l2_normalize_grad,  // (dy, x)
  // pool: graph/ops/pool.hpp
  max_pool,                // (x)
  argmax_pool,             // (x) -> int32: flat index y * W + x of the first maximum
  pick,                    // (x, index): x at the indices
  place,                   // (y, index, like): zeros of like's extent with y written at the indices (added up where they repeat)
  avg_pool,                // (x)
  avg_pool_grad,           // (dy, like)
  adaptive_avg_pool,       // (x) -> bins_h x bins_w
  adaptive_avg_pool_grad,  // (dy, like)
  // resize: graph/ops/resize.hpp
  resize,       // (x [, like])
  resize_grad,  // (dy, like)
  // pointwise: graph/ops/pointwise.hpp
  unary,             // (x)
  unary_grad,        // (dy, x or y: whichever the function's derivative is written in)
  prelu,             // (x, slope)
  prelu_grad,        // (dy, x, slope)
  prelu_slope_grad,  // (dy, x, slope)
  add,               // (a, b, ...): extents equal or 1 (broadcast)
  mul,               // (a, b): extents equal or 1 (broadcast)
  maximum,           // (a, b, ...): equal extents; the first of equal values wins
  maximum_grad,      // (dy, all...): dy where input number attributes.begin won, else 0
  affine,            // (x): alpha * x + beta
  dropout,           // (x): scaled by 1 / (1 - p), from the counter-based generator; the gradient is the same operator on dy
  reduce,            // (x): sum or mean over a set of axes
  reduce_like,       // (x, like): sum over the axes where like has extent 1
  broadcast_like,    // (x, like)
  stop_gradient,     // (x)
  // arrange: graph/ops/arrange.hpp
  concat,            // (a, b, ...) along channels
  slice,             // (x): channels [begin, begin + count)
  slice_grad,        // (dy, like): zeros with dy at the channels [begin, begin + count)
  pad_crop,          // (x [, like]): moves x by (top, left) into a new extent, zeros (or mirror) outside
  pad_crop_grad,     // (dy, like)
  rotate,            // (x): quarter turns and flips of H,W
  reshape,           // (x): same elements, other extent
  batch_concat,      // (a, b, ...) along N
  batch_slice,       // (x): images [begin, begin + count)
  batch_slice_grad,  // (dy, like)
  // matrix: graph/ops/matrix.hpp; a tensor is N matrices of H*W rows and C columns
  matmul,            // (a, b), each optionally transposed
  transpose,         // (x): rows <-> columns
  softmax,           // (x) over channels
  softmax_grad,      // (dy, y)
  log_softmax,       // (x) over channels
  log_softmax_grad,  // (dy, y)
  diagonal,          // (x) -> (N,1,rows,1)
  add_diagonal,      // (x, d)
  // loss: graph/ops/loss.hpp
  loss,       // (logits, target [, class weights]) -> (1,1,1,1)
  loss_grad,  // (d loss, logits, target [, class weights])
  custom,     // attributes.custom
};

/// Functions of op::unary.
enum class function : std::uint8_t {
  relu,
  relu6,
  leaky_relu,
  elu,
  sigmoid,
  tanh,
  exp,
  log,
  sqrt,
  rsqrt,
  reciprocal,
  square,
  abs,
  clamp_min,
  clamp_max,
  sign
};

enum class interpolation : std::uint8_t { nearest, bilinear };

/// How a parameter starts. Bounds and gains are in attributes.alpha / beta.
enum class init : std::uint8_t { constant, kaiming_uniform, kaiming_normal_out, normal, uniform, bilinear_upsample };

enum class data_type : std::uint8_t { real, index };

/// Everything a node may need, flat and trivially copyable. Which fields an operator reads is said in its file under graph/ops/.
struct attributes {
  int kernel_h = 1, kernel_w = 1;
  int stride_h = 1, stride_w = 1;
  int pad_top = 0, pad_left = 0, pad_bottom = 0, pad_right = 0;
  int dilation_h = 1, dilation_w = 1;
  int groups = 1;
  int mode = 0;   // a function, an interpolation, a loss, ...; see the operator
  int count = 0;  // of channels, heads, bins, ...
  int begin = 0;  // first channel, quarter turns, ...
  int bins_h = 0, bins_w = 0;
  int dims[4] = {0, 0, 0, 0};  // of a parameter, as PyTorch writes them
  int rank = 0;
  bool flag = false;  // align_corners, ceil_mode, frozen, ...: see the operator
  bool flag2 = false;
  bool relu = false;  // fused activation, set by passes
  bool bf16 = false;  // products of bfloat16 numbers, set by use_bfloat16
  double alpha = 0, beta = 0, gamma = 0;
  const custom_op* custom = nullptr;
};

struct node {
  op kind = op::input;
  data_type type = data_type::real;
  std::uint8_t pass = 0;                 // 0 forward, 1 backward
  std::uint8_t depth = 0;                // free for passes
  int first_input = 0, input_count = 0;  // in graph.edges
  int channels = 0;                      // -1: known only with the input's size
  int name = -1, name_length = 0;        // in graph.text
  attributes at;
};

}  // namespace rsseg::graph
