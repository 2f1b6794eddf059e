// SPDX-License-Identifier: MIT
// The one table of operator cases: each row builds a tiny graph around one operator. It drives single against double precision,
// finite-difference gradients, threads, instruction sets and in-place runs (ops_cpu.cpp), and the comparison of CUDA with the CPU.
// Values are filled by op_cases_fill.hpp: distinct within a tensor and away from 0, so that no case sits on a kink.
#pragma once
#include <vector>

#include "rsseg/graph/autograd.hpp"
#include "rsseg/graph/ops/source.hpp"

namespace rsseg::test {

struct op_case {
  const char* name;
  std::vector<shape> inputs;
  value (*build)(builder& b, const value* x);  ///< x: the inputs; returns the result, of any extent
  bool gradient = true;                        ///< has a gradient to compare with finite differences
  bool training = true;
  double low = -1, high = 1;  ///< range of the inputs' values
};

/// An input node per extent, then the case's own nodes. The result's node is the value returned.
inline value build_case(const op_case& c, builder& b) {
  std::vector<value> x;
  const char* names[] = {"x0", "x1", "x2", "x3"};
  for (std::size_t i = 0; i < c.inputs.size(); ++i) x.push_back(b.input(names[i], c.inputs[i].c));
  return c.build(b, x.data());
}

namespace cases {
using graph::attributes;
using graph::function;
using graph::init;
using graph::interpolation;
using graph::loss_kind;
namespace ops = graph::ops;

struct conv_options {
  int out, kernel_h, kernel_w;
  int stride_h = 1, stride_w = 1, top = 0, left = 0, bottom = 0, right = 0, dilation_h = 1, dilation_w = 1, groups = 1;
  bool bias = false;
  int extra_h = 0, extra_w = 0;  // output padding of transposed convolutions
};
inline attributes attributes_of(const conv_options& o) {
  attributes at;
  at.kernel_h = o.kernel_h, at.kernel_w = o.kernel_w, at.stride_h = o.stride_h, at.stride_w = o.stride_w;
  at.pad_top = o.top, at.pad_left = o.left, at.pad_bottom = o.bottom, at.pad_right = o.right;
  at.dilation_h = o.dilation_h, at.dilation_w = o.dilation_w, at.groups = o.groups, at.count = o.out;
  at.bins_h = o.extra_h, at.bins_w = o.extra_w;
  return at;
}
inline value conv(builder& b, value x, const conv_options& o) {
  const value w = b.parameter("weight", {o.out, x.channels / o.groups, o.kernel_h, o.kernel_w}, init::kaiming_uniform);
  return ops::conv(b, x, w, o.bias ? b.parameter("bias", {o.out}, init::constant) : value{}, attributes_of(o));
}
inline value conv_transpose(builder& b, value x, const conv_options& o) {
  const value w = b.parameter("weight", {x.channels, o.out / o.groups, o.kernel_h, o.kernel_w}, init::kaiming_uniform);
  return ops::conv_transpose(b, x, w, o.bias ? b.parameter("bias", {o.out}, init::constant) : value{}, attributes_of(o));
}
inline value batch_norm(builder& b, value x, double eps = 1e-3) {
  const value gamma = b.parameter("gamma", {x.channels}, init::constant, 1), beta = b.parameter("beta", {x.channels}, init::constant);
  const value mean = b.buffer("mean", {x.channels}, 0), var = b.buffer("var", {x.channels}, 1);
  return ops::batch_norm(b, x, gamma, beta, mean, var, eps, 0.1);
}
inline value group_norm(builder& b, value x, int groups) {
  const value gamma = b.parameter("gamma", {x.channels}, init::constant, 1), beta = b.parameter("beta", {x.channels}, init::constant);
  return ops::group_norm(b, x, gamma, beta, groups, 1e-3);
}
struct pool_options {
  int kernel_h, kernel_w, stride_h, stride_w;
  int top = 0, left = 0, bottom = 0, right = 0, dilation_h = 1, dilation_w = 1;
  bool ceil = false, inside = false;
  int bins_h = 0, bins_w = 0;
};
inline attributes attributes_of(const pool_options& o) {
  attributes at;
  at.kernel_h = o.kernel_h, at.kernel_w = o.kernel_w, at.stride_h = o.stride_h, at.stride_w = o.stride_w;
  at.pad_top = o.top, at.pad_left = o.left, at.pad_bottom = o.bottom, at.pad_right = o.right;
  at.dilation_h = o.dilation_h, at.dilation_w = o.dilation_w, at.flag = o.ceil, at.flag2 = o.inside;
  if (o.bins_h) at.count = 1, at.bins_h = o.bins_h, at.bins_w = o.bins_w;
  return at;
}
inline value max_pool(builder& b, value x, const pool_options& o) { return ops::max_pool(b, x, attributes_of(o), false).y; }
inline value avg_pool(builder& b, value x, const pool_options& o) { return ops::avg_pool(b, x, attributes_of(o)); }
inline value unary(builder& b, const value* x, function f, double alpha = 0) { return ops::unary(b, x[0], f, alpha); }
inline value bilinear_to(builder& b, value x, int h, int w, bool corners) { return ops::resize_to(b, x, h, w, interpolation::bilinear, corners); }
inline value nearest_to(builder& b, value x, int h, int w) { return ops::resize_to(b, x, h, w, interpolation::nearest, false); }
inline value loss(builder& b, value x, loss_kind kind, double alpha = 0, double beta = 0, int count = 0, bool weighted = false, bool flag = false,
                  bool flag2 = false) {
  const value target = b.emit(graph::op::target, {x.id}, 1, x.scale);
  b.g.nodes[target.id].type = graph::data_type::index;
  attributes at;
  at.mode = int(kind), at.begin = 255, at.alpha = alpha, at.beta = beta, at.count = count, at.flag = flag, at.flag2 = flag2;
  if (!weighted) return b.emit(graph::op::loss, {x.id, target.id}, 1, {1, 1, 1, 1}, at);
  const value weights = b.buffer("class_weights", {x.channels}, 1);
  return b.emit(graph::op::loss, {x.id, target.id, weights.id}, 1, {1, 1, 1, 1}, at);
}
}  // namespace cases

inline const std::vector<op_case>& op_cases() {
  using namespace cases;
  using V = const value*;
  using B = builder&;
  static const std::vector<op_case> all = {
      // --- convolutions ---
      {"conv_1x1", {{2, 5, 4, 3}}, [](B b, V x) { return conv(b, x[0], {.out = 7, .kernel_h = 1, .kernel_w = 1}); }},
      {"conv_3x3_same", {{2, 3, 5, 7}},
       [](B b, V x) { return conv(b, x[0], {.out = 4, .kernel_h = 3, .kernel_w = 3, .top = 1, .left = 1, .bottom = 1, .right = 1, .bias = true}); }},
      {"conv_3x3_valid", {{1, 6, 6, 5}}, [](B b, V x) { return conv(b, x[0], {.out = 2, .kernel_h = 3, .kernel_w = 3}); }},
      {"conv_3x3_stride2", {{2, 4, 7, 6}},
       [](B b, V x) {
         return conv(b, x[0], {.out = 5, .kernel_h = 3, .kernel_w = 3, .stride_h = 2, .stride_w = 2, .top = 1, .left = 1, .bottom = 1, .right = 1});
       }},
      {"conv_7x7_stride2_small", {{1, 3, 4, 5}},
       [](B b, V x) {
         return conv(b, x[0], {.out = 3, .kernel_h = 7, .kernel_w = 7, .stride_h = 2, .stride_w = 2, .top = 3, .left = 3, .bottom = 3, .right = 3});
       }},
      {"conv_dilated", {{1, 3, 7, 7}},
       [](B b, V x) {
         return conv(b, x[0],
                     {.out = 4, .kernel_h = 3, .kernel_w = 3, .top = 2, .left = 3, .bottom = 2, .right = 3, .dilation_h = 2, .dilation_w = 3});
       }},
      {"conv_dilated_beyond_the_image", {{1, 2, 3, 4}},
       [](B b, V x) {
         return conv(b, x[0],
                     {.out = 3, .kernel_h = 3, .kernel_w = 3, .top = 6, .left = 6, .bottom = 6, .right = 6, .dilation_h = 6, .dilation_w = 6});
       }},
      {"conv_5x1_unequal_padding", {{1, 3, 6, 4}},
       [](B b, V x) { return conv(b, x[0], {.out = 2, .kernel_h = 5, .kernel_w = 1, .top = 3, .bottom = 1, .right = 2}); }},
      {"conv_even_kernel", {{1, 2, 5, 5}}, [](B b, V x) { return conv(b, x[0], {.out = 3, .kernel_h = 2, .kernel_w = 4, .stride_w = 3}); }},
      {"conv_groups", {{1, 6, 4, 5}},
       [](B b, V x) {
         return conv(b, x[0], {.out = 4, .kernel_h = 3, .kernel_w = 3, .top = 1, .left = 1, .bottom = 1, .right = 1, .groups = 2, .bias = true});
       }},
      {"conv_depthwise", {{2, 9, 5, 4}},
       [](B b, V x) {
         return conv(b, x[0], {.out = 9, .kernel_h = 3, .kernel_w = 3, .top = 1, .left = 1, .bottom = 1, .right = 1, .groups = 9});
       }},
      {"conv_depthwise_stride2_dilated", {{1, 5, 9, 8}},
       [](B b, V x) {
         return conv(b, x[0],
                     {.out = 5, .kernel_h = 3, .kernel_w = 3, .stride_h = 2, .stride_w = 2, .top = 2, .left = 2, .bottom = 2, .right = 2,
                      .dilation_h = 2, .dilation_w = 2, .groups = 5, .bias = true});
       }},
      {"conv_depth_multiplier", {{1, 3, 5, 4}}, [](B b, V x) { return conv(b, x[0], {.out = 6, .kernel_h = 3, .kernel_w = 3, .groups = 3}); }},
      {"conv_one_pixel", {{3, 4, 1, 1}},
       [](B b, V x) {
         return conv(b, x[0], {.out = 5, .kernel_h = 3, .kernel_w = 3, .top = 1, .left = 1, .bottom = 1, .right = 1, .bias = true});
       }},
      {"conv_many_channels", {{1, 35, 3, 4}},
       [](B b, V x) { return conv(b, x[0], {.out = 37, .kernel_h = 3, .kernel_w = 3, .top = 1, .left = 1, .bottom = 1, .right = 1}); }},
      {"conv_residual_relu", {{1, 3, 4, 5}, {1, 6, 4, 5}},
       [](B b, V x) {
         value y = conv(b, x[0], {.out = 6, .kernel_h = 3, .kernel_w = 3, .top = 1, .left = 1, .bottom = 1, .right = 1, .bias = true});
         const graph::node n = b.g.nodes[y.id];
         attributes at = n.at;
         at.relu = true;
         return b.emit(graph::op::conv, {b.g.input_of(y.id, 0), b.g.input_of(y.id, 1), b.g.input_of(y.id, 2), x[1].id}, 6, y.scale, at);
       },
       false},
      {"conv_transpose_2x2_stride2", {{1, 4, 3, 5}},
       [](B b, V x) { return conv_transpose(b, x[0], {.out = 3, .kernel_h = 2, .kernel_w = 2, .stride_h = 2, .stride_w = 2, .bias = true}); }},
      {"conv_transpose_3x3_output_padding", {{2, 3, 3, 2}},
       [](B b, V x) {
         return conv_transpose(b, x[0],
                               {.out = 4, .kernel_h = 3, .kernel_w = 3, .stride_h = 2, .stride_w = 2, .top = 1, .left = 1, .bottom = 1, .right = 1,
                                .extra_h = 1, .extra_w = 1});
       }},
      {"conv_transpose_4x4_pad1", {{1, 2, 3, 3}},
       [](B b, V x) {
         return conv_transpose(
             b, x[0],
             {.out = 5, .kernel_h = 4, .kernel_w = 4, .stride_h = 2, .stride_w = 2, .top = 1, .left = 1, .bottom = 1, .right = 1, .bias = true});
       }},
      {"conv_transpose_stride_larger_than_kernel", {{1, 3, 2, 3}},
       [](B b, V x) { return conv_transpose(b, x[0], {.out = 2, .kernel_h = 2, .kernel_w = 1, .stride_h = 3, .stride_w = 2}); }},
      {"conv_transpose_groups", {{1, 4, 3, 3}},
       [](B b, V x) { return conv_transpose(b, x[0], {.out = 6, .kernel_h = 3, .kernel_w = 3, .stride_h = 2, .stride_w = 2, .groups = 2}); }},
      {"fold_weights", {},
       [](B b, V) {
         const value w = b.parameter("weight", {4, 3, 2, 3}, init::kaiming_uniform), gamma = b.parameter("gamma", {4}, init::constant);
         const value stats = b.emit(graph::op::bn_pair, {b.buffer("mean", {4}, 0).id, b.buffer("var", {4}, 1).id}, 4, {1, 1, 2, 1});
         attributes at;
         at.alpha = 1e-3;
         return b.emit(graph::op::fold_weights, {w.id, stats.id, gamma.id}, 3, {1, 1, 2, 3}, at);
       },
       false},
      {"fold_weights_of_transposed", {},
       [](B b, V) {
         const value w = b.parameter("weight", {4, 3, 2, 3}, init::kaiming_uniform), gamma = b.parameter("gamma", {3}, init::constant);
         const value stats = b.emit(graph::op::bn_pair, {b.buffer("mean", {3}, 0).id, b.buffer("var", {3}, 1).id}, 3, {1, 1, 2, 1});
         attributes at;
         at.alpha = 1e-3, at.flag = true;
         return b.emit(graph::op::fold_weights, {w.id, stats.id, gamma.id}, 3, {1, 1, 2, 3}, at);
       },
       false},
      {"fold_bias", {},
       [](B b, V) {
         const value bias = b.parameter("bias", {5}, init::constant), gamma = b.parameter("gamma", {5}, init::constant);
         const value beta = b.parameter("beta", {5}, init::constant);
         const value stats = b.emit(graph::op::bn_pair, {b.buffer("mean", {5}, 0).id, b.buffer("var", {5}, 1).id}, 5, {1, 1, 2, 1});
         return b.emit(graph::op::fold_bias, {bias.id, stats.id, gamma.id, beta.id}, 5, {1, 1, 1, 1});
       },
       false},
      {"fold_bias_of_none", {},
       [](B b, V) {
         const value gamma = b.parameter("gamma", {5}, init::constant), beta = b.parameter("beta", {5}, init::constant);
         const value stats = b.emit(graph::op::bn_pair, {b.buffer("mean", {5}, 0).id, b.buffer("var", {5}, 1).id}, 5, {1, 1, 2, 1});
         return b.emit(graph::op::fold_bias, {stats.id, gamma.id, beta.id}, 5, {1, 1, 1, 1});
       },
       false},
      // --- normalisation ---
      {"batch_norm_1", {{2, 1, 5, 3}}, [](B b, V x) { return batch_norm(b, x[0]); }},
      {"batch_norm_3", {{3, 3, 4, 5}}, [](B b, V x) { return batch_norm(b, x[0]); }},
      {"batch_norm_19", {{1, 19, 7, 5}}, [](B b, V x) { return batch_norm(b, x[0]); }},
      {"batch_norm_40", {{2, 40, 3, 3}}, [](B b, V x) { return batch_norm(b, x[0]); }},
      {"batch_norm_270", {{1, 270, 2, 3}}, [](B b, V x) { return batch_norm(b, x[0]); }},
      {"batch_norm_one_pixel", {{3, 4, 1, 1}}, [](B b, V x) { return batch_norm(b, x[0]); }},
      {"batch_norm_constant_statistics", {{2, 5, 3, 4}}, [](B b, V x) { return batch_norm(b, x[0]); }, true, false},
      {"batch_norm_relu", {{2, 5, 3, 4}},
       [](B b, V x) {
         const value y = batch_norm(b, x[0]);
         b.g.nodes[y.id].at.relu = true;
         return y;
       },
       false, false},
      {"group_norm_1", {{2, 6, 3, 5}}, [](B b, V x) { return group_norm(b, x[0], 1); }},
      {"group_norm_2", {{2, 6, 3, 5}}, [](B b, V x) { return group_norm(b, x[0], 2); }},
      {"group_norm_all", {{2, 6, 3, 5}}, [](B b, V x) { return group_norm(b, x[0], 6); }},
      {"group_norm_64", {{2, 64, 3, 2}}, [](B b, V x) { return group_norm(b, x[0], 32); }},
      {"l2_normalize", {{2, 11, 3, 4}}, [](B b, V x) { return ops::l2_normalize(b, x[0], 1e-12); }},
      {"l2_normalize_large_eps", {{1, 3, 2, 2}}, [](B b, V x) { return ops::l2_normalize(b, x[0], 100.0); }},
      // --- pooling ---
      {"max_pool_2x2", {{2, 3, 6, 4}}, [](B b, V x) { return max_pool(b, x[0], {2, 2, 2, 2}); }},
      {"max_pool_3x3_stride2_pad1", {{1, 5, 7, 6}}, [](B b, V x) { return max_pool(b, x[0], {3, 3, 2, 2, 1, 1, 1, 1}); }},
      {"max_pool_ceil", {{1, 4, 7, 6}}, [](B b, V x) { return max_pool(b, x[0], {3, 2, 2, 3, 1, 0, 1, 0, 1, 1, true}); }},
      {"max_pool_stride1", {{1, 2, 4, 5}}, [](B b, V x) { return max_pool(b, x[0], {3, 3, 1, 1, 1, 1, 1, 1}); }},
      {"max_pool_dilated", {{1, 130, 5, 5}}, [](B b, V x) { return max_pool(b, x[0], {2, 2, 1, 1, 0, 0, 0, 0, 2, 3}); }},
      {"max_pool_inference", {{2, 9, 7, 6}}, [](B b, V x) { return max_pool(b, x[0], {3, 3, 2, 2, 1, 1, 1, 1, 1, 1, true}); }, false, false},
      {"max_unpool", {{2, 3, 6, 5}},
       [](B b, V x) {
         const ops::pooled p = ops::max_pool(b, x[0], attributes_of(pool_options{2, 2, 2, 2}), true);
         return ops::max_unpool(b, ops::unary(b, p.y, function::square), p.index, x[0]);
       }},
      {"max_unpool_overlapping", {{1, 4, 5, 5}},
       [](B b, V x) {
         const ops::pooled p = ops::max_pool(b, x[0], attributes_of(pool_options{3, 3, 1, 1, 1, 1, 1, 1}), true);
         return ops::max_unpool(b, p.y, p.index, x[0]);
       }},
      {"avg_pool_2x2", {{2, 3, 6, 4}}, [](B b, V x) { return avg_pool(b, x[0], {2, 2, 2, 2}); }},
      {"avg_pool_3x3_pad1", {{1, 5, 5, 4}}, [](B b, V x) { return avg_pool(b, x[0], {3, 3, 1, 1, 1, 1, 1, 1}); }},
      {"avg_pool_inside_ceil", {{1, 3, 7, 6}}, [](B b, V x) { return avg_pool(b, x[0], {3, 3, 2, 2, 1, 1, 1, 1, 1, 1, true, true}); }},
      {"avg_pool_bins", {{1, 4, 7, 9}}, [](B b, V x) { return avg_pool(b, x[0], {1, 1, 1, 1, 0, 0, 0, 0, 1, 1, false, false, 3, 2}); }},
      {"adaptive_avg_pool_1", {{2, 5, 3, 4}}, [](B b, V x) { return ops::adaptive_avg_pool(b, x[0], 1, 1); }},
      {"adaptive_avg_pool_overlapping", {{1, 3, 7, 5}}, [](B b, V x) { return ops::adaptive_avg_pool(b, x[0], 3, 2); }},
      {"adaptive_avg_pool_more_bins_than_pixels", {{1, 66, 2, 3}}, [](B b, V x) { return ops::adaptive_avg_pool(b, x[0], 3, 5); }},
      // --- resizing ---
      {"bilinear_up", {{2, 3, 3, 4}}, [](B b, V x) { return bilinear_to(b, x[0], 7, 9, false); }},
      {"bilinear_up_corners", {{2, 3, 3, 4}}, [](B b, V x) { return bilinear_to(b, x[0], 7, 9, true); }},
      {"bilinear_down", {{1, 5, 9, 8}}, [](B b, V x) { return bilinear_to(b, x[0], 4, 3, false); }},
      {"bilinear_down_corners", {{1, 5, 9, 8}}, [](B b, V x) { return bilinear_to(b, x[0], 4, 3, true); }},
      {"bilinear_mixed", {{1, 1, 6, 3}}, [](B b, V x) { return bilinear_to(b, x[0], 2, 8, false); }},
      {"bilinear_same", {{1, 2, 4, 4}}, [](B b, V x) { return bilinear_to(b, x[0], 4, 4, false); }},
      {"bilinear_from_one_pixel", {{2, 70, 1, 1}}, [](B b, V x) { return bilinear_to(b, x[0], 5, 6, true); }},
      {"bilinear_to_one_pixel", {{1, 3, 5, 6}}, [](B b, V x) { return bilinear_to(b, x[0], 1, 1, true); }},
      {"bilinear_x2_corner_zoom", {{1, 4, 4, 5}},
       [](B b, V x) { return ops::resize_by(b, x[0], 2, 1, interpolation::bilinear, true, true); }},
      {"bilinear_stated_step", {{1, 3, 5, 7}}, [](B b, V x) { return ops::resize_by(b, x[0], 2, 3, interpolation::bilinear, false, false, 1.5); }},
      {"bilinear_x8", {{1, 6, 2, 3}}, [](B b, V x) { return ops::resize_by(b, x[0], 8, 1, interpolation::bilinear, false); }},
      {"nearest_up", {{2, 3, 3, 4}}, [](B b, V x) { return nearest_to(b, x[0], 7, 8); }},
      {"nearest_down", {{1, 5, 7, 9}}, [](B b, V x) { return nearest_to(b, x[0], 3, 4); }},
      {"nearest_like", {{1, 3, 3, 4}, {1, 2, 5, 9}},
       [](B b, V x) { return ops::resize_like(b, x[0], x[1], interpolation::nearest, false); }},
      // --- element-wise ---
      {"relu", {{2, 5, 3, 4}}, [](B b, V x) { return unary(b, x, function::relu); }},
      {"relu6", {{2, 5, 3, 4}}, [](B b, V x) { return unary(b, x, function::relu6); }, true, true, -4, 9},
      {"leaky_relu", {{1, 5, 3, 4}}, [](B b, V x) { return unary(b, x, function::leaky_relu, 0.1); }},
      {"elu", {{1, 5, 3, 4}}, [](B b, V x) { return unary(b, x, function::elu, 0.7); }},
      {"sigmoid", {{1, 5, 3, 4}}, [](B b, V x) { return unary(b, x, function::sigmoid); }, true, true, -6, 6},
      {"tanh", {{1, 5, 3, 4}}, [](B b, V x) { return unary(b, x, function::tanh); }, true, true, -3, 3},
      {"exp", {{1, 5, 3, 4}}, [](B b, V x) { return unary(b, x, function::exp); }, true, true, -3, 3},
      {"log", {{1, 5, 3, 4}}, [](B b, V x) { return unary(b, x, function::log); }, true, true, 0.2, 4},
      {"sqrt", {{1, 5, 3, 4}}, [](B b, V x) { return unary(b, x, function::sqrt); }, true, true, 0.2, 4},
      {"rsqrt", {{1, 5, 3, 4}}, [](B b, V x) { return unary(b, x, function::rsqrt); }, true, true, 0.2, 4},
      {"reciprocal", {{1, 5, 3, 4}}, [](B b, V x) { return unary(b, x, function::reciprocal); }, true, true, 0.2, 4},
      {"square", {{1, 5, 3, 4}}, [](B b, V x) { return unary(b, x, function::square); }},
      {"abs", {{1, 5, 3, 4}}, [](B b, V x) { return unary(b, x, function::abs); }},
      {"clamp_min", {{1, 5, 3, 4}}, [](B b, V x) { return unary(b, x, function::clamp_min, 0.1003); }},
      {"clamp_max", {{1, 5, 3, 4}}, [](B b, V x) { return unary(b, x, function::clamp_max, 0.1003); }},
      {"sign", {{1, 5, 3, 4}}, [](B b, V x) { return unary(b, x, function::sign); }, false},
      {"prelu_shared", {{2, 5, 3, 4}}, [](B b, V x) { return ops::prelu(b, x[0], b.parameter("slope", {1}, init::constant, 0.25)); }},
      {"prelu_per_channel", {{2, 5, 3, 4}}, [](B b, V x) { return ops::prelu(b, x[0], b.parameter("slope", {5}, init::constant, 0.25)); }},
      {"add_two", {{2, 5, 3, 4}, {2, 5, 3, 4}}, [](B b, V x) { return ops::add(b, x[0], x[1]); }},
      {"add_itself", {{2, 5, 3, 4}}, [](B b, V x) { return ops::add(b, x[0], x[0]); }},
      {"add_four", {{1, 5, 7, 43}, {1, 5, 7, 43}, {1, 5, 7, 43}, {1, 5, 7, 43}}, [](B b, V x) { return ops::add(b, x, 4); }},
      {"add_channel_row", {{2, 5, 3, 4}, {1, 5, 1, 1}}, [](B b, V x) { return ops::add_broadcast(b, x[0], x[1]); }},
      {"add_outer", {{2, 1, 3, 4}, {2, 5, 1, 1}}, [](B b, V x) { return ops::add_broadcast(b, x[0], x[1]); }},
      {"mul_two", {{2, 5, 3, 4}, {2, 5, 3, 4}}, [](B b, V x) { return ops::mul(b, x[0], x[1]); }},
      {"mul_channel_gate", {{2, 5, 1, 1}, {2, 5, 3, 4}}, [](B b, V x) { return ops::mul_broadcast(b, x[0], x[1]); }},
      {"mul_pixel_gate", {{2, 5, 3, 4}, {2, 1, 3, 4}}, [](B b, V x) { return ops::mul_broadcast(b, x[0], x[1]); }},
      {"mul_row_and_column", {{1, 3, 4, 1}, {1, 3, 1, 5}}, [](B b, V x) { return ops::mul_broadcast(b, x[0], x[1]); }},
      {"maximum", {{2, 5, 3, 4}, {2, 5, 3, 4}, {2, 5, 3, 4}}, [](B b, V x) { return ops::maximum(b, x, 3); }},
      {"affine", {{2, 5, 3, 4}}, [](B b, V x) { return ops::affine(b, x[0], -1.5, 0.25); }},
      {"dropout", {{2, 5, 3, 7}}, [](B b, V x) { return ops::dropout(b, x[0], 0.3); }},
      {"dropout_channels", {{2, 70, 3, 2}}, [](B b, V x) { return ops::dropout(b, x[0], 0.4, true); }},
      {"reduce_pixels_mean", {{2, 5, 3, 4}}, [](B b, V x) { return ops::reduce(b, x[0], ops::axis_h | ops::axis_w, true); }},
      {"reduce_batch_and_pixels", {{2, 5, 3, 4}}, [](B b, V x) { return ops::reduce(b, x[0], ops::axis_n | ops::axis_h | ops::axis_w, false); }},
      {"reduce_channels", {{2, 70, 3, 4}}, [](B b, V x) { return ops::reduce(b, x[0], ops::axis_c, true); }},
      {"reduce_rows", {{2, 5, 3, 4}}, [](B b, V x) { return ops::reduce(b, x[0], ops::axis_h, false); }},
      {"reduce_batch", {{3, 5, 2, 4}}, [](B b, V x) { return ops::reduce(b, x[0], ops::axis_n, true); }},
      {"reduce_all", {{2, 5, 3, 4}}, [](B b, V x) { return ops::reduce(b, x[0], 15, true); }},
      {"broadcast_like", {{2, 5, 1, 1}, {2, 5, 3, 4}}, [](B b, V x) { return ops::broadcast_like(b, x[0], x[1]); }},
      {"stop_gradient", {{1, 5, 3, 4}}, [](B b, V x) { return ops::mul(b, x[0], ops::stop_gradient(b, x[0])); }, false},
      // --- moving values ---
      {"concat", {{2, 3, 3, 4}, {2, 1, 3, 4}, {2, 5, 3, 4}}, [](B b, V x) { return ops::concat(b, x, 3); }},
      {"slice", {{2, 7, 3, 4}}, [](B b, V x) { return ops::slice(b, x[0], 2, 3); }},
      {"pad", {{2, 3, 3, 4}}, [](B b, V x) { return ops::pad(b, x[0], 1, 2, 3, 0); }},
      {"pad_reflect", {{1, 3, 4, 5}}, [](B b, V x) { return ops::pad(b, x[0], 3, 2, 1, 4, ops::border::reflect); }},
      {"pad_replicate", {{1, 3, 3, 2}}, [](B b, V x) { return ops::pad(b, x[0], 2, 1, 3, 4, ops::border::replicate); }},
      {"crop", {{1, 3, 6, 5}}, [](B b, V x) { return ops::pad(b, x[0], -1, -2, -2, 1); }},
      {"center_floor", {{1, 2, 3, 8}, {1, 1, 6, 5}}, [](B b, V x) { return ops::pad_crop_like(b, x[0], x[1], ops::pad_rule::center_floor); }},
      {"center_trunc", {{1, 2, 3, 8}, {1, 1, 6, 5}}, [](B b, V x) { return ops::pad_crop_like(b, x[0], x[1], ops::pad_rule::center_trunc); }},
      {"crop_at_offset", {{1, 2, 8, 9}, {1, 1, 3, 4}},
       [](B b, V x) { return ops::pad_crop_like(b, x[0], x[1], ops::pad_rule::offset, -2, -5); }},
      {"crop_window", {{2, 3, 7, 9}}, [](B b, V x) { return ops::crop_window(b, x[0], 0.25, 0.4, 1, 2); }},
      {"paste_window_like", {{2, 3, 3, 4}, {1, 1, 7, 9}}, [](B b, V x) { return ops::paste_window(b, x[0], x[1], 0.5, 0.3); }},
      {"rotate_1", {{2, 3, 3, 4}}, [](B b, V x) { return ops::rotate(b, x[0], 1); }},
      {"rotate_2", {{2, 3, 3, 4}}, [](B b, V x) { return ops::rotate(b, x[0], 2); }},
      {"rotate_3_flip", {{2, 3, 3, 4}}, [](B b, V x) { return ops::rotate(b, x[0], 3, 1); }},
      {"rotate_1_flip", {{1, 2, 3, 4}}, [](B b, V x) { return ops::rotate(b, x[0], 1, 2); }},
      {"flip", {{2, 3, 3, 4}}, [](B b, V x) { return ops::rotate(b, x[0], 0, 2); }},
      {"reshape", {{2, 3, 4, 6}}, [](B b, V x) { return ops::reshape(b, x[0], 3, 2, 12); }},
      {"to_rows", {{2, 3, 4, 6}}, [](B b, V x) { return ops::to_rows(b, x[0]); }},
      {"batch_concat", {{2, 3, 2, 2}, {2, 3, 2, 2}}, [](B b, V x) { return ops::batch_concat(b, x, 2); }},
      {"batch_part", {{6, 3, 2, 2}}, [](B b, V x) { return ops::batch_part(b, x[0], 1, 3); }},
      // --- matrices ---
      {"matmul", {{2, 5, 3, 2}, {2, 4, 5, 1}}, [](B b, V x) { return ops::matmul(b, x[0], x[1], false, false, 0.5); }},
      {"matmul_tn", {{2, 5, 3, 2}, {2, 4, 6, 1}}, [](B b, V x) { return ops::matmul(b, x[0], x[1], true, false); }},
      {"matmul_nt", {{2, 5, 3, 2}, {2, 5, 7, 1}}, [](B b, V x) { return ops::matmul(b, x[0], x[1], false, true); }},
      {"matmul_tt", {{2, 5, 3, 2}, {2, 6, 4, 1}}, [](B b, V x) { return ops::matmul(b, x[0], x[1], true, true, 2); }},
      {"matmul_large", {{1, 70, 9, 9}, {1, 67, 10, 7}}, [](B b, V x) { return ops::matmul(b, x[0], x[1], false, false); }},
      {"transpose", {{2, 37, 5, 9}}, [](B b, V x) { return ops::transpose(b, x[0]); }},
      {"softmax", {{2, 6, 3, 4}}, [](B b, V x) { return ops::softmax(b, x[0]); }, true, true, -4, 4},
      {"softmax_1", {{2, 1, 3, 4}}, [](B b, V x) { return ops::softmax(b, x[0]); }},
      {"softmax_wide", {{1, 1100, 1, 2}}, [](B b, V x) { return ops::softmax(b, x[0]); }, true, true, -4, 4},
      {"log_softmax", {{2, 19, 3, 4}}, [](B b, V x) { return ops::log_softmax(b, x[0]); }, true, true, -4, 4},
      {"log_softmax_wide", {{1, 1100, 1, 2}}, [](B b, V x) { return ops::log_softmax(b, x[0]); }, true, true, -4, 4},
      {"diagonal", {{2, 6, 3, 2}}, [](B b, V x) { return ops::diagonal(b, x[0]); }},
      {"add_diagonal", {{2, 6, 3, 2}, {2, 1, 6, 1}}, [](B b, V x) { return ops::add_diagonal(b, x[0], x[1]); }},
      // --- losses ---
      {"cross_entropy", {{2, 5, 4, 5}}, [](B b, V x) { return loss(b, x[0], loss_kind::cross_entropy); }, true, true, -3, 3},
      {"cross_entropy_weighted", {{2, 5, 4, 5}}, [](B b, V x) { return loss(b, x[0], loss_kind::cross_entropy, 0, 0, 0, true); }, true, true, -3, 3},
      {"cross_entropy_19", {{1, 19, 7, 9}}, [](B b, V x) { return loss(b, x[0], loss_kind::cross_entropy); }, true, true, -3, 3},
      {"dice", {{2, 5, 4, 5}}, [](B b, V x) { return loss(b, x[0], loss_kind::dice, 1); }, true, true, -3, 3},
      {"focal", {{2, 5, 4, 5}}, [](B b, V x) { return loss(b, x[0], loss_kind::focal, 2, 0, 0, true); }, true, true, -3, 3},
      {"jaccard", {{2, 5, 4, 5}}, [](B b, V x) { return loss(b, x[0], loss_kind::jaccard, 1); }, true, true, -3, 3},
      {"tversky", {{2, 5, 4, 5}}, [](B b, V x) { return loss(b, x[0], loss_kind::tversky, 0.3, 0.7); }, true, true, -3, 3},
      {"lovasz", {{2, 5, 4, 5}}, [](B b, V x) { return loss(b, x[0], loss_kind::lovasz); }, true, true, -3, 3},
      {"ohem", {{2, 5, 4, 5}}, [](B b, V x) { return loss(b, x[0], loss_kind::ohem, 0.2, 0, 3); }, true, true, -3, 3},
      {"binary_cross_entropy", {{2, 1, 4, 5}}, [](B b, V x) { return loss(b, x[0], loss_kind::binary_cross_entropy); }, true, true, -3, 3},
      {"binary_cross_entropy_first_channel", {{2, 2, 4, 5}},
       [](B b, V x) { return loss(b, x[0], loss_kind::binary_cross_entropy); }, true, true, -3, 3},
      // --- sizes beyond one chunk of work ---
      {"large_batch_norm", {{2, 12, 70, 60}}, [](B b, V x) { return batch_norm(b, x[0]); }, false},
      {"large_batch_norm_wide", {{1, 300, 20, 30}}, [](B b, V x) { return batch_norm(b, x[0]); }, false},
      {"large_group_norm", {{2, 64, 30, 31}}, [](B b, V x) { return group_norm(b, x[0], 8); }, false},
      {"large_relu", {{1, 7, 90, 91}}, [](B b, V x) { return unary(b, x, function::relu); }, false},
      {"large_conv_relu", {{1, 16, 40, 41}},
       [](B b, V x) {
         return ops::unary(
             b, conv(b, x[0], {.out = 24, .kernel_h = 3, .kernel_w = 3, .top = 1, .left = 1, .bottom = 1, .right = 1, .bias = true}),
             function::relu);
       },
       false},
      {"large_max_pool", {{2, 33, 40, 40}}, [](B b, V x) { return max_pool(b, x[0], {3, 3, 2, 2, 1, 1, 1, 1}); }, false},
      {"large_bilinear", {{1, 33, 30, 20}}, [](B b, V x) { return bilinear_to(b, x[0], 60, 90, false); }, false},
      {"large_adaptive_pool", {{1, 70, 50, 40}}, [](B b, V x) { return ops::adaptive_avg_pool(b, x[0], 3, 3); }, false},
      {"balanced_binary", {{2, 1, 4, 5}}, [](B b, V x) { return loss(b, x[0], loss_kind::balanced_binary); }, true, true, -3, 3},
      {"squared_error", {{2, 2, 4, 5}}, [](B b, V x) { return loss(b, x[0], loss_kind::squared_error); }, true, true, -3, 3},
      {"cross_entropy_smooth", {{2, 5, 4, 5}}, [](B b, V x) { return loss(b, x[0], loss_kind::cross_entropy, 0.1, 0, 0, true); }, true, true, -3, 3},
      {"dice_present_weighted", {{1, 5, 1, 5}}, [](B b, V x) { return loss(b, x[0], loss_kind::dice, 0, 0, 0, true, true); }, true, true, -3, 3},
      {"lovasz_per_image_weighted", {{2, 5, 4, 5}},
       [](B b, V x) { return loss(b, x[0], loss_kind::lovasz, 0, 0, 0, true, true, true); }, true, true, -3, 3},
      {"ohem_share", {{2, 5, 4, 5}}, [](B b, V x) { return loss(b, x[0], loss_kind::ohem, 0.1, 0.5, 0, true); }, true, true, -3, 3},
      {"large_cross_entropy", {{2, 6, 64, 70}}, [](B b, V x) { return loss(b, x[0], loss_kind::cross_entropy); }, false, true, -3, 3},
      {"large_lovasz", {{2, 6, 64, 70}}, [](B b, V x) { return loss(b, x[0], loss_kind::lovasz); }, false, true, -3, 3},
      {"large_dice", {{2, 6, 64, 70}}, [](B b, V x) { return loss(b, x[0], loss_kind::dice, 1); }, false, true, -3, 3},
      {"large_prelu", {{1, 20, 50, 50}}, [](B b, V x) { return ops::prelu(b, x[0], b.parameter("slope", {20}, init::constant, 0.25)); }, false},
      {"large_attention", {{1, 40, 20, 20}, {1, 40, 20, 20}},
       [](B b, V x) { return ops::softmax(b, ops::matmul(b, x[0], x[1], false, true)); }, false},
      {"large_dropout", {{1, 20, 50, 50}}, [](B b, V x) { return ops::dropout(b, x[0], 0.3); }, false},
      {"large_gates", {{2, 40, 30, 20}, {2, 1, 30, 20}, {2, 40, 1, 1}},
       [](B b, V x) { return ops::mul_broadcast(b, ops::mul_broadcast(b, x[0], x[1]), x[2]); }, false},
  };
  return all;
}

}  // namespace rsseg::test
