// SPDX-License-Identifier: MIT
// The layer functions that every `build` is written with, named after PyTorch's modules and with their defaults where not said
// otherwise. Each appends nodes and creates its parameters in the current name scope (or in the scope `name`).
// Values are (N,C,H,W).
#pragma once
#include "rsseg/graph/infer.hpp"

namespace rsseg {

using graph::function;
using graph::interpolation;

/// Options of a convolution. Padding defaults to dilation * (kernel - 1) / 2, which keeps the size of odd kernels at stride 1.
struct conv_options {
  int kernel = 1, kernel_w = 0;      ///< kernel_w = 0: square
  int stride = 1, stride_w = 0;      ///< stride_w = 0: as stride
  int padding = -1, padding_w = -1;  ///< -1: keeps the size
  int dilation = 1;
  int groups = 1;  ///< 0: depthwise (one group per input channel)
  bool bias = true;
  int output_padding = 0;  ///< transposed convolution only
  double spread = -1;      ///< deviation of the initial weights, times the root of a sum's terms; -1: He et al. 2015; 0: zeros
};

/// Options of batch normalisation (Ioffe and Szegedy 2015); momentum as PyTorch: running = (1 - momentum) running + momentum batch.
struct norm_options {
  double eps = 1e-5, momentum = 0.1;
};

namespace detail {
constexpr void check_kernel(builder& b, const graph::attributes& at) {
  if (at.kernel_h < 1 || at.kernel_w < 1) b.fail(graph::fault::bad_option, 1, at.kernel_h < at.kernel_w ? at.kernel_h : at.kernel_w);
}
constexpr graph::attributes conv_attributes(const conv_options& o, int out, int in) {
  graph::attributes at;
  at.kernel_h = o.kernel, at.kernel_w = o.kernel_w ? o.kernel_w : o.kernel;
  at.stride_h = o.stride, at.stride_w = o.stride_w ? o.stride_w : o.stride;
  at.dilation_h = at.dilation_w = o.dilation;
  at.pad_top = o.padding >= 0 ? o.padding : o.dilation * (at.kernel_h - 1) / 2;
  at.pad_left = o.padding_w >= 0 ? o.padding_w : o.padding >= 0 && o.kernel_w == 0 ? o.padding : o.dilation * (at.kernel_w - 1) / 2;
  at.pad_bottom = at.pad_top, at.pad_right = at.pad_left;
  at.groups = o.groups ? o.groups : in;
  at.count = out;
  return at;
}
}  // namespace detail

/// 2-d convolution: `weight` (out, in / groups, kh, kw), `bias` (out).
constexpr value conv(builder& b, value x, int out, const conv_options& o = {}) {
  b.require_channels(x);
  graph::attributes at = detail::conv_attributes(o, out, x.channels);
  detail::check_kernel(b, at);
  const int in = at.groups > 0 && x.channels > 0 ? x.channels / at.groups : 1;
  if (out < 1) b.fail(graph::fault::bad_option, 1, out);
  if (at.groups > 0 && x.channels % at.groups != 0) b.fail(graph::fault::not_divisible, at.groups, x.channels);
  const graph::init start = o.spread < 0 ? graph::init::kaiming_normal_out : o.spread == 0 ? graph::init::constant : graph::init::kaiming_uniform;
  const value w = b.parameter("weight", {out, in, at.kernel_h, at.kernel_w}, start, o.spread > 0 ? o.spread : 0);
  const value bias = o.bias ? b.parameter("bias", {out}, graph::init::constant, 0) : value{};
  return graph::ops::conv(b, x, w, bias, at);
}
constexpr value conv(builder& b, std::string_view name, value x, int out, const conv_options& o = {}) {
  const scope s(b, name);
  return conv(b, x, out, o);
}

/// Transposed convolution (the data gradient of a convolution): `weight` (in, out / groups, kh, kw), `bias` (out). Padding defaults to 0.
constexpr value conv_transpose(builder& b, value x, int out, const conv_options& o) {
  b.require_channels(x);
  conv_options p = o;
  if (p.padding < 0) p.padding = 0, p.padding_w = 0;
  graph::attributes at = detail::conv_attributes(p, out, x.channels);
  detail::check_kernel(b, at);
  at.bins_h = at.bins_w = o.output_padding;
  const value w = b.parameter("weight", {x.channels, out / at.groups, at.kernel_h, at.kernel_w}, graph::init::kaiming_normal_out);
  const value bias = o.bias ? b.parameter("bias", {out}, graph::init::constant, 0) : value{};
  return graph::ops::conv_transpose(b, x, w, bias, at);
}
constexpr value conv_transpose(builder& b, std::string_view name, value x, int out, const conv_options& o) {
  const scope s(b, name);
  return conv_transpose(b, x, out, o);
}

/// Linear layer on the channels of every pixel or node: `weight` (out, in), `bias` (out).
constexpr value linear(builder& b, value x, int out, bool bias = true) {
  b.require_channels(x);
  graph::attributes at;
  at.count = out;
  const value w = b.parameter("weight", {out, x.channels}, graph::init::kaiming_normal_out);
  const value c = bias ? b.parameter("bias", {out}, graph::init::constant, 0) : value{};
  return graph::ops::conv(b, x, w, c, at);
}
constexpr value linear(builder& b, std::string_view name, value x, int out, bool bias = true) {
  const scope s(b, name);
  return linear(b, x, out, bias);
}

/// Batch normalisation: `weight`, `bias`, and the buffers `running_mean`, `running_var`, all (C).
constexpr value batch_norm(builder& b, value x, const norm_options& o = {}) {
  b.require_channels(x);
  const value gamma = b.parameter("weight", {x.channels}, graph::init::constant, 1);
  const value beta = b.parameter("bias", {x.channels}, graph::init::constant, 0);
  const value mean = b.buffer("running_mean", {x.channels}, 0);
  const value var = b.buffer("running_var", {x.channels}, 1);
  return graph::ops::batch_norm(b, x, gamma, beta, mean, var, o.eps, o.momentum);
}
constexpr value batch_norm(builder& b, std::string_view name, value x, const norm_options& o = {}) {
  const scope s(b, name);
  return batch_norm(b, x, o);
}

/// Group normalisation (Wu and He 2018): `weight`, `bias` (C).
constexpr value group_norm(builder& b, value x, int groups, double eps = 1e-5) {
  b.require_channels(x);
  const value gamma = b.parameter("weight", {x.channels}, graph::init::constant, 1);
  const value beta = b.parameter("bias", {x.channels}, graph::init::constant, 0);
  return graph::ops::group_norm(b, x, gamma, beta, groups, eps);
}

constexpr value relu(builder& b, value x) { return graph::ops::unary(b, x, function::relu); }
constexpr value relu6(builder& b, value x) { return graph::ops::unary(b, x, function::relu6); }
constexpr value leaky_relu(builder& b, value x, double slope = 0.01) { return graph::ops::unary(b, x, function::leaky_relu, slope); }
constexpr value elu(builder& b, value x, double alpha = 1) { return graph::ops::unary(b, x, function::elu, alpha); }
constexpr value sigmoid(builder& b, value x) { return graph::ops::unary(b, x, function::sigmoid); }
constexpr value softmax(builder& b, value x) { return graph::ops::softmax(b, x); }
/// PReLU (He et al. 2015): `weight` (C), or (1) when shared.
constexpr value prelu(builder& b, value x, bool shared = false) {
  b.require_channels(x);
  return graph::ops::prelu(b, x, b.parameter("weight", {shared ? 1 : x.channels}, graph::init::constant, 0.25));
}

/// Options of pooling windows.
struct pool_options {
  int kernel = 2, stride = 0;  ///< stride 0: as kernel
  int padding = 0, dilation = 1;
  bool ceil_mode = false;
  bool count_inside = false;  ///< average: divide by the pixels inside the input only
};
namespace detail {
constexpr graph::attributes pool_attributes(const pool_options& o) {
  graph::attributes at;
  at.kernel_h = at.kernel_w = o.kernel;
  at.stride_h = at.stride_w = o.stride ? o.stride : o.kernel;
  at.pad_top = at.pad_left = at.pad_bottom = at.pad_right = o.padding;
  at.dilation_h = at.dilation_w = o.dilation;
  at.flag = o.ceil_mode, at.flag2 = o.count_inside;
  return at;
}
}  // namespace detail
constexpr value max_pool(builder& b, value x, const pool_options& o = {}) { return graph::ops::max_pool(b, x, detail::pool_attributes(o), false).y; }
/// Also yields the indices, for max_unpool.
constexpr graph::ops::pooled max_pool_indices(builder& b, value x, const pool_options& o = {}) {
  return graph::ops::max_pool(b, x, detail::pool_attributes(o), true);
}
constexpr value max_unpool(builder& b, value y, value index, value like) { return graph::ops::max_unpool(b, y, index, like); }
constexpr value avg_pool(builder& b, value x, const pool_options& o = {}) { return graph::ops::avg_pool(b, x, detail::pool_attributes(o)); }
constexpr value adaptive_avg_pool(builder& b, value x, int bins_h, int bins_w = 0) {
  return graph::ops::adaptive_avg_pool(b, x, bins_h, bins_w ? bins_w : bins_h);
}
/// (N,C,H,W) -> (N,C,1,1).
constexpr value global_avg_pool(builder& b, value x) { return adaptive_avg_pool(b, x, 1); }

constexpr value resize_like(builder& b, value x, value like, bool align_corners = false, interpolation how = interpolation::bilinear) {
  return graph::ops::resize_like(b, x, like, how, align_corners);
}
/// Up- or down-scales by num / den.
constexpr value resize_by(builder& b, value x, int num, int den = 1, bool align_corners = false, interpolation how = interpolation::bilinear) {
  return graph::ops::resize_by(b, x, num, den, how, align_corners);
}

constexpr value add(builder& b, value x, value y) { return graph::ops::add(b, x, y); }
constexpr value mul(builder& b, value x, value y) { return graph::ops::mul(b, x, y); }
template <class... V>
constexpr value concat(builder& b, value first, V... rest) {
  const value parts[] = {first, rest...};
  return graph::ops::concat(b, parts, 1 + int(sizeof...(rest)));
}
template <class... V>
constexpr value sum(builder& b, value first, V... rest) {
  const value parts[] = {first, rest...};
  return graph::ops::add(b, parts, 1 + int(sizeof...(rest)));
}
constexpr value dropout(builder& b, value x, double p) { return graph::ops::dropout(b, x, p, false); }
/// Drops whole channels (Dropout2d).
constexpr value dropout2d(builder& b, value x, double p) { return graph::ops::dropout(b, x, p, true); }

// --- the triples everything is made of ---------------------------------------------------------------------------------
/// conv (no bias) -> BN, parameters under conv_name and bn_name.
constexpr value conv_bn(builder& b, std::string_view conv_name, std::string_view bn_name, value x, int out, conv_options o = {},
                        const norm_options& n = {}) {
  o.bias = false;
  return batch_norm(b, bn_name, conv(b, conv_name, x, out, o), n);
}
constexpr value conv_bn_relu(builder& b, std::string_view conv_name, std::string_view bn_name, value x, int out, const conv_options& o = {},
                             const norm_options& n = {}) {
  return relu(b, conv_bn(b, conv_name, bn_name, x, out, o, n));
}

}  // namespace rsseg
