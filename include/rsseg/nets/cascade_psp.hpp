// SPDX-License-Identifier: MIT
// CascadePSP's refinement module (Cheng, Chung, Tai, Tang, "CascadePSP: toward class-agnostic and very high-resolution segmentation via
// global and local refinement", CVPR 2020, Figs. 2 and 3): any binary mask is refined in three passes of one network.
//   [image 3, mask 1, previous 1, previous 1] -> dilated ResNet-50, stride 8 (f1 = the stem's convolution, stride 2; f2 = c2, stride 4)
//   pyramid pooling 1, 2, 3, 6 -> 1024; up blocks with skips f2, f1, image: 512, 256, 32; one-channel heads at strides 8, 4, 1
//   pass 1 sees the mask three times -> s8; pass 2 the mask and tanh s8 twice -> s8', s4; pass 3 the mask, tanh s8', tanh s4 -> s8'', s4', s1
// Masks are in [-1, 1]; scores are logits of the foreground, all brought to (N,1,H,W), bilinear. Sides are multiples of 8, at least 48.
// Global and local step, and several classes, are the loop around it.
#pragma once
#include "rsseg/graph/ops/source.hpp"
#include "rsseg/layers/naming.hpp"
#include "rsseg/nets/entry.hpp"
#include "rsseg/nets/parity_case.hpp"
#include "rsseg/nets/resnet.hpp"

namespace rsseg {

namespace detail {
/// BN, ReLU, 3x3, BN, ReLU, 3x3 in scope `name`.
constexpr value cascade_pre_activated(builder& b, std::string_view name, value x, int out) {
  const scope s(b, name);
  x = conv(b, "2", relu(b, batch_norm(b, "0", x)), out, {.kernel = 3});
  return conv(b, "5", relu(b, batch_norm(b, "3", x)), out, {.kernel = 3});
}
/// Twice as large, joined with the skip, residual twice.
constexpr value cascade_up(builder& b, std::string_view name, value x, value skip, int out) {
  const scope s(b, name);
  x = resize_by(b, x, 2);
  const value p = add(b, cascade_pre_activated(b, "conv", concat(b, x, skip), out), conv(b, "shortcut", x, out));
  return add(b, p, cascade_pre_activated(b, "conv2", p, out));
}
/// 1x1 to 32, ReLU, 1x1 to 1, enlarged.
constexpr value cascade_head(builder& b, std::string_view name, value x, int factor) {
  const scope s(b, name);
  return resize_by(b, conv(b, "2", relu(b, conv(b, "0", x, 32)), 1), factor);
}
constexpr value cascade_pooling(builder& b, value x) {
  const scope s(b, "psp");
  constexpr int bins[] = {1, 2, 3, 6};
  value parts[5];
  for (int i = 0; i < 4; ++i)
    parts[i] = resize_like(b, conv(b, numbered("stages.", i, ".1"), adaptive_avg_pool(b, x, bins[i]), x.channels, {.bias = false}), x);
  parts[4] = x;
  return relu(b, conv(b, "bottleneck", graph::ops::concat(b, parts, 5), 1024));
}
}  // namespace detail

/// One pass: scores at strides 8, 4 and 1 as far as `depth` (1, 2, 3) asks for them.
struct cascade_scores {
  value s8, s4, s1;
};
constexpr cascade_scores cascade_pass(builder& b, value image, value mask, value second, value third, int depth) {
  resnet_features f;
  {
    const scope s(b, "feats");
    f = resnet(b, concat(b, image, mask, second, third), resnet_of_depth(50, 8, dilation_rule::undilated_first));
  }
  cascade_scores r;
  value p = detail::cascade_pooling(b, f.c5);
  r.s8 = detail::cascade_head(b, "final_28", p, 8);
  if (depth < 2) return r;
  p = detail::cascade_up(b, "up_1", p, f.c2, 512);
  r.s4 = detail::cascade_head(b, "final_56", p, 4);
  if (depth < 3) return r;
  p = detail::cascade_up(b, "up_2", p, f.stem_conv, 256);
  p = detail::cascade_up(b, "up_3", p, image, 32);
  r.s1 = conv(b, "final_21", relu(b, conv(b, "final_11", concat(b, p, image), 32)), 1);
  return r;
}

/// The first output has two channels, (0, s1), so that cross entropy is the binary one. Weights of the others are the paper's for binary
/// cross entropy; its L1, L2 and gradient terms are the trainer's. Inputs "image" and "seg".
template <bool KeepAll = false>
struct CascadePSP {
  static constexpr void build(builder& b) {
    const value image = b.input("image", from_data), mask = b.input("seg", 1);
    const auto tanh = [&](value v) { return graph::ops::unary(b, v, function::tanh); };
    const cascade_scores first = cascade_pass(b, image, mask, mask, mask, 1);
    const value t8 = tanh(first.s8);
    const shared_weights shared(b);
    const cascade_scores second = cascade_pass(b, image, mask, t8, t8, 2);
    const cascade_scores third = cascade_pass(b, image, mask, tanh(second.s8), tanh(second.s4), 3);
    const auto two = [&](value v) { return concat(b, graph::ops::constant_like(b, v, 0), v); };
    b.output("logits2", two(third.s1), 1);
    b.output("out_224", third.s1);
    b.output("out_56_2", third.s4);
    const value others[] = {first.s8, second.s8, second.s4, third.s8};
    constexpr std::string_view names[] = {"out_28", "out_28_2", "out_56", "out_28_3"};
    for (int i = 0; i < 4; ++i) b.output(names[i], others[i], 0, label_rule::resize_logits, false, !KeepAll);
  }
};

inline constexpr network_entry cascade_psp_networks[] = {
    {"cascadepsp", "CascadePSP", "Cheng et al., CVPR 2020", "refines binary masks in three passes; inputs image and seg in [-1, 1]",
     &CascadePSP<>::build, recipe{"adam", 2.25e-4, 0.9, 1e-4, "step", 12, 224}, 8, 0, 48, false},
};

inline constexpr parity_case cascade_psp_parity[] = {
    {"cascadepsp", "refinement-module resnet50, 3-pass forward (s8, s4, s1)", &CascadePSP<true>::build, 1e-5},
};

}  // namespace rsseg
