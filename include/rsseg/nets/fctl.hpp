// SPDX-License-Identifier: MIT
// FCtL (Li, Yang, Liu, Yu, He, "From contexts to locality: ultra-high resolution image segmentation via locality-aware contextual
// correlation", ICCV 2021, Figs. 2 to 4): a patch is segmented with two surrounding contexts, attended from its deepest features.
//   three VGG-16 trunks (FCN's padding and ceil mode): patch, medium context, large context             pool5 (N,512,h,w) each
//   correlation of the patch with itself, medium, large: gamma softmax(q k^T) v, q and k without their spatial mean (whitened)
//   fusion: per-pixel, per-channel weights of the three (1x1s, sigmoid, softmax across them); pool5 + weighted sum
//   FCN-8s head (all at once), fixed bilinear up-sampling to the patch                                               (N,K,H,W)
// Inputs: patch; medium = a window 3 x as wide around it, resized to the patch's size (Inria: 2 x); global = the whole image resized
// (Inria: a window 3 x as wide). Stages: FCN8s alone; with each context; everything with fixed context trunks (this type).
// The paper's contextual semantics refinement is not published and left out. Whitening is in one of the two published branches: a flag.
#pragma once
#include "rsseg/graph/ops/arrange.hpp"
#include "rsseg/nets/entry.hpp"
#include "rsseg/nets/fcn.hpp"
#include "rsseg/nets/vgg.hpp"

namespace rsseg {

namespace detail {
constexpr value without_mean(builder& b, value x) {
  namespace ops = graph::ops;
  return ops::add_broadcast(b, x, ops::affine(b, ops::reduce(b, x, ops::axis_h | ops::axis_w, true), -1, 0));
}
}  // namespace detail

/// Parameter names of a correlation unit.
struct correlation_names {
  std::string_view gamma = "gamma", query = "conv_query", key = "conv_key", value_ = "conv_value";
};

/// gamma softmax_y(q(x) . k(y)) v(y): x (N,C,h,w) looks into y (N,C,any extent).
constexpr value contextual_correlation(builder& b, value x, value y, bool whitened, const correlation_names& n = {}) {
  namespace ops = graph::ops;
  const value gamma = b.parameter(n.gamma, {1}, graph::init::constant, 0);
  value q = conv(b, n.query, x, x.channels), k = conv(b, n.key, y, x.channels);
  const value v = conv(b, n.value_, y, x.channels, {.bias = false});
  if (whitened) q = detail::without_mean(b, q), k = detail::without_mean(b, k);
  const value weights = softmax(b, ops::matmul(b, q, k, false, true));
  return ops::mul_broadcast(b, ops::matmul(b, weights, v, false, false), gamma);
}

/// x + the three maps, weighted: 1x1 each, 1x1 across, 1x1 each and sigmoid, softmax across the three.
constexpr value multi_context_fusion(builder& b, value x, const value (&parts)[3]) {
  namespace ops = graph::ops;
  const int c = x.channels;
  value seen[3], weight[3], sum[4];
  for (int i = 0; i < 3; ++i) seen[i] = conv(b, numbered("in_", i + 1), parts[i], c);
  const value mixed = conv(b, "trans", ops::concat(b, seen, 3), 3 * c);
  for (int i = 0; i < 3; ++i)
    weight[i] = ops::unary(b, sigmoid(b, conv(b, numbered("out_", i + 1), ops::slice(b, mixed, i * c, c), c)), function::exp);
  const value share = ops::unary(b, ops::add(b, weight, 3), function::reciprocal);
  sum[0] = x;
  for (int i = 0; i < 3; ++i) sum[i + 1] = mul(b, mul(b, weight[i], share), parts[i]);
  return ops::add(b, sum, 4);
}

namespace detail {
struct fctl_trunk {
  value pool3, pool4, pool5;
  /// names: of the three sequences.
  constexpr fctl_trunk(builder& b, value x, const std::string_view (&names)[3], int base = 64) {
    vgg_options o = vgg_fcn();
    o.naming = vgg_naming::running;
    value* const out[] = {&pool3, &pool4, &pool5};
    for (int part = 0, group = 0; part < 3; ++part) {
      const scope s(b, names[part]);
      int index = 0;
      for (const int last = part + 2; group <= last; ++group) {
        x = max_pool(b, vgg_group(b, x, group, base << (group < 3 ? group : 3), o, index), {.ceil_mode = true});
        ++index;
      }
      *out[part] = x;
    }
  }
};
/// Transposed convolution K -> K whose bilinear kernel is not trained.
constexpr value fctl_upsample(builder& b, std::string_view name, value x, int kernel, int stride) {
  const scope s(b, name);
  const graph::attributes at = conv_attributes({.kernel = kernel, .stride = stride, .padding = 0}, x.channels, x.channels);
  const value w = b.parameter("weight", {x.channels, x.channels, kernel, kernel}, graph::init::bilinear_upsample);
  return graph::ops::conv_transpose(b, x, graph::ops::stop_gradient(b, w), value{}, at);
}
}  // namespace detail

/// ContextsTrained: the trunks of the contexts learn, too (stage 2). Factor: the scores are multiplied by it. Width: channels of the head,
/// Base: of the first group of the trunks. PatchOnly: without contexts (stage 1), one input "patch".
template <int Classes = from_data, bool Whitened = true, bool ContextsTrained = false, int Factor = 1, int Width = 4096, int Base = 64,
          bool PatchOnly = false>
struct FCtL {
  static constexpr void build(builder& b) {
    namespace ops = graph::ops;
    const int k = b.classes(Classes);
    const value patch = b.input("patch", from_data);
    value medium_map, large_map;
    if constexpr (!PatchOnly) {
      const value medium = b.input("medium", from_data), large = b.input("global", from_data);
      medium_map = context(b, "medium", medium), large_map = context(b, "glob", large);
    }
    const scope s(b, "net");
    const detail::fctl_trunk trunk(b, patch, {"pool3", "pool4", "pool5"}, Base);
    value y = trunk.pool5;
    if constexpr (!PatchOnly) {
      const value parts[] = {unit(b, "local", trunk.pool5, trunk.pool5), unit(b, "medium", trunk.pool5, medium_map),
                             unit(b, "large", trunk.pool5, large_map)};
      y = multi_context_fusion(b, trunk.pool5, parts);
    }
    {
      const scope head(b, "output");
      y = dropout(b, relu(b, conv(b, "0", y, Width, {.kernel = 7, .padding = 0})), 0.5);
      y = dropout(b, relu(b, conv(b, "3", y, Width)), 0.5);
      y = conv(b, "6", y, k);
    }
    y = detail::fctl_upsample(b, "up_output", y, 4, 2);
    y = add(b, y, detail::fcn_crop(b, conv(b, "adj_pool4", ops::affine(b, trunk.pool4, 0.01, 0), k), y, 5));
    y = detail::fctl_upsample(b, "up_pool4_out", y, 4, 2);
    y = add(b, y, detail::fcn_crop(b, conv(b, "adj_pool3", ops::affine(b, trunk.pool3, 0.0001, 0), k), y, 9));
    y = detail::fcn_crop(b, detail::fctl_upsample(b, "up_final", y, 16, 8), patch, 31);
    if (Factor != 1) y = ops::affine(b, y, Factor, 0);
    b.output("logits", y, 1);
  }

 private:
  static constexpr value context(builder& b, std::string_view name, value x) {
    const scope s(b, name);
    const value map = detail::fctl_trunk(b, x, {"big_pool3", "big_pool4", "big_pool5"}, Base).pool5;
    return ContextsTrained ? map : graph::ops::stop_gradient(b, map);
  }
  static constexpr value unit(builder& b, std::string_view name, value x, value y) {
    const scope s(b, name);
    return contextual_correlation(b, x, y, Whitened);
  }
};

inline constexpr network_entry fctl_networks[] = {
    {"fctl", "FCtL", "Li et al., ICCV 2021", "inputs patch, medium, global; fixed context trunks, whitened correlation", &FCtL<>::build,
     recipe{"adam", 5e-5, 0.9, 5e-4, "poly", 6, 508}, 1, 0, 32, false},
    {"fctl-contexts", "FCtL, stage 2", "Li et al., ICCV 2021", "the same with trained context trunks", &FCtL<from_data, true, true>::build,
     recipe{"adam", 5e-5, 0.9, 5e-4, "poly", 6, 508}, 1, 0, 32, false},
};

}  // namespace rsseg
