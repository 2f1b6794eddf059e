// SPDX-License-Identifier: MIT
// CascadePSP's refinement module (Cheng, Chung, Tai, Tang, "CascadePSP: toward class-agnostic and very high-resolution segmentation via
// global and local refinement", CVPR 2020, Figs. 2 and 3): any binary mask is refined in three passes of one network.
//   [image 3, mask 1, previous 1, previous 1] -> dilated ResNet-50, stride 8 (f1 = the stem's convolution, stride 2; f2 = c2, stride 4)
//   pyramid pooling 1, 2, 3, 6 -> 1024; up blocks with skips f2, f1, image: 512, 256, 32; one-channel heads at strides 8, 4, 1
//   pass 1 sees the mask three times -> s8; pass 2 the mask and tanh s8 twice -> s8', s4; pass 3 the mask, tanh s8', tanh s4 -> s8'', s4', s1
// Masks are in [-1, 1]; scores are logits of the foreground, all brought to (N,1,H,W), bilinear. Sides are multiples of 8, at least 48.
// Global and local step, and several classes, are the loop around it (scene/cascade_psp_stage.hpp). CascadePSP<Classes, 18, 16> is ours: ResNet-18
// and a quarter of the channels, about a hundredth of the work, for machines without a GPU; its heads correct the mask and start at zero.
#pragma once
#include "rsseg/graph/ops/source.hpp"
#include "rsseg/layers/conv_block.hpp"
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
/// The score that stands for the mask (in [-1, 1]) where heads correct it: probability 0.95 and 0.05, tanh 0.995.
constexpr value cascade_kept(builder& b, value mask) { return graph::ops::affine(b, mask, 3, 0); }
/// 1x1 to 32, ReLU, 1x1 to 1, enlarged. mask: what the head corrects, starting at zero; none: the paper's, with scores near zero at first (ours: a
/// pass reads the scores of the one before, and from random weights the gradient through three of them was 5e6; the paper starts from a trained
/// ResNet).
constexpr value cascade_head(builder& b, std::string_view name, value x, int factor, int width, value mask) {
  const scope s(b, name);
  x = relu(b, conv(b, "0", x, width));
  if (!mask.valid()) return resize_by(b, conv(b, "2", x, 1, {.spread = 0.01}), factor);
  return add(b, cascade_kept(b, mask), resize_by(b, zero_conv(b, "2", x, 1), factor));
}
constexpr value cascade_pooling(builder& b, value x, int out) {
  const scope s(b, "psp");
  constexpr int bins[] = {1, 2, 3, 6};
  value parts[5];
  for (int i = 0; i < 4; ++i)
    parts[i] = resize_like(b, conv(b, numbered("stages.", i, ".1"), adaptive_avg_pool(b, x, bins[i]), x.channels, {.bias = false}), x);
  parts[4] = x;
  return relu(b, conv(b, "bottleneck", graph::ops::concat(b, parts, 5), out));
}

/// Mean over everything of |d| or d^2 where valid (N,1,H,W) is 1.
constexpr value cascade_mean(builder& b, value d, value valid, function f) {
  namespace ops = graph::ops;
  return ops::reduce(b, mul(b, ops::unary(b, d, f), valid), ops::axis_n | ops::axis_c | ops::axis_h | ops::axis_w, true);
}
/// Magnitude of the Sobel gradient (kernels / 4), zeros outside.
constexpr value cascade_sobel(builder& b, value x) {
  namespace ops = graph::ops;
  const auto moved = [&](value v, int dy, int dx) { return ops::pad(b, v, dy, dx, -dy, -dx); };
  const auto smooth = [&](value v, int dy, int dx) {
    return ops::affine(b, sum(b, ops::affine(b, v, 2, 0), moved(v, dy, dx), moved(v, -dy, -dx)), 0.25, 0);
  };
  const auto along = [&](int dy, int dx) {  // smoothed across, central difference along (dy, dx)
    const value v = smooth(x, dx, dy);
    return ops::unary(b, add(b, moved(v, dy, dx), ops::affine(b, moved(v, -dy, -dx), -1, 0)), function::square);
  };
  return ops::unary(b, ops::affine(b, add(b, along(1, 0), along(0, 1)), 1, 1e-4), function::sqrt);
}
}  // namespace detail

/// One pass: scores at strides 8, 4 and 1 as far as `depth` (1, 2, 3) asks for them.
struct cascade_scores {
  value s8, s4, s1;
};
/// resnet_depth 50 and width 64 are the paper's. corrects: scores are added to those of the mask.
constexpr cascade_scores cascade_pass(builder& b, value image, value mask, value second, value third, int depth, int resnet_depth = 50,
                                      int width = 64, bool corrects = false) {
  resnet_features f;
  {
    const scope s(b, "feats");
    resnet_options o = resnet_of_depth(resnet_depth, 8, dilation_rule::undilated_first);
    o.width = width;
    f = resnet(b, concat(b, image, mask, second, third), o);
  }
  cascade_scores r;
  const int narrow = width < 32 ? 16 : width / 2;
  value p = detail::cascade_pooling(b, f.c5, 16 * width);
  const value kept = corrects ? mask : value{};
  r.s8 = detail::cascade_head(b, "final_28", p, 8, narrow, kept);
  if (depth < 2) return r;
  p = detail::cascade_up(b, "up_1", p, f.c2, 8 * width);
  r.s4 = detail::cascade_head(b, "final_56", p, 4, narrow, kept);
  if (depth < 3) return r;
  p = detail::cascade_up(b, "up_2", p, f.stem_conv, 4 * width);
  p = detail::cascade_up(b, "up_3", p, image, narrow);
  p = relu(b, conv(b, "final_11", concat(b, p, image), narrow));
  r.s1 = corrects ? add(b, detail::cascade_kept(b, mask), zero_conv(b, "final_21", p, 1)) : conv(b, "final_21", p, 1);
  return r;
}

/// The first output has two channels, (0, s1), so that cross entropy is the binary one. Inputs "image" and "seg". In training a third input, "truth"
/// (N,2,H,W): the mask in {0, 1}, and 1 where it is known; the losses are the paper's six binary cross entropies, L1 and L2 of the probabilities,
/// and L1 of their gradients. KeepAll is for comparisons with the reference: every output, cross entropy of the first one only.
template <bool KeepAll = false, int Depth = 50, int Width = 64>
struct CascadePSP {
  static constexpr bool corrects = Width < 64;  // the paper's replaces the mask
  static constexpr void build(builder& b) {
    const value image = b.input("image", from_data), mask = b.input("seg", 1);
    const auto tanh = [&](value v) { return graph::ops::unary(b, v, function::tanh); };
    const cascade_scores first = cascade_pass(b, image, mask, mask, mask, 1, Depth, Width, corrects);
    const value t8 = tanh(first.s8);
    const shared_weights shared(b);
    const cascade_scores second = cascade_pass(b, image, mask, t8, t8, 2, Depth, Width, corrects);
    const cascade_scores third = cascade_pass(b, image, mask, tanh(second.s8), tanh(second.s4), 3, Depth, Width, corrects);
    const auto two = [&](value v) { return concat(b, graph::ops::constant_like(b, v, 0), v); };
    const value others[] = {first.s8, second.s8, second.s4, third.s8};
    constexpr std::string_view names[] = {"out_28", "out_28_2", "out_56", "out_28_3"};
    if (b.training() && !KeepAll) {
      constexpr double weights[] = {1, 1, 0.5, 0.5};  // the paper has 0.5 for s4 and the last s8, none for s1
      b.output("logits2", two(third.s1), 0);
      b.output("out_56_2", two(third.s4), 0.5, label_rule::resize_logits, false, true);
      for (int i = 0; i < 4; ++i) b.output(names[i], two(others[i]), weights[i], label_rule::resize_logits, false, true);
      return regress(b, third.s1, second.s4, third.s4);
    }
    b.output("logits2", two(third.s1), 1);
    b.output("out_224", third.s1);
    b.output("out_56_2", third.s4);
    for (int i = 0; i < 4; ++i) b.output(names[i], others[i], 0, label_rule::resize_logits, false, !KeepAll);
  }

 private:
  static constexpr void regress(builder& b, value s1, value s4, value last_s4) {
    namespace ops = graph::ops;
    const value truth = b.input("truth", 2), wanted = ops::slice(b, truth, 0, 1), valid = ops::slice(b, truth, 1, 1);
    const auto minus = [&](value x, value y) { return add(b, x, ops::affine(b, y, -1, 0)); };
    const value scores[] = {s1, s4, last_s4};
    for (int i = 0; i < 3; ++i) {
      const value d = minus(sigmoid(b, scores[i]), wanted);
      b.add_penalty("l1", detail::cascade_mean(b, d, valid, function::abs), i == 0 ? 1 : 0.25);
      b.add_penalty("l2", detail::cascade_mean(b, d, valid, function::square), i == 0 ? 1 : 0.25);
    }
    const value smooth = avg_pool(b, wanted, {.kernel = 3, .stride = 1, .padding = 1, .count_inside = true});
    b.add_penalty("gradient",
                  detail::cascade_mean(b, minus(detail::cascade_sobel(b, sigmoid(b, s1)), detail::cascade_sobel(b, smooth)), valid, function::abs),
                  5);
  }
};

inline constexpr network_entry cascade_psp_networks[] = {
    {"cascadepsp", "CascadePSP", "Cheng et al., CVPR 2020", "refines binary masks in three passes; inputs image and seg in [-1, 1]",
     &CascadePSP<>::build, recipe{"adam", 2.25e-4, 0.9, 1e-4, "step", 12, 224}, 8, 0, 48, false},
    {"cascadepsp-16", "CascadePSP, 16 channels", "after Cheng et al., CVPR 2020", "as cascadepsp with ResNet-18 and a quarter of its channels; ours",
     &CascadePSP<false, 18, 16>::build, recipe{"adam", 1e-3, 0.9, 1e-4, "step", 4, 160}, 8, 0, 48, false},
};

inline constexpr parity_case cascade_psp_parity[] = {
    {"cascadepsp", "refinement-module resnet50, 3-pass forward (s8, s4, s1)", &CascadePSP<true>::build, 1e-5},
};

}  // namespace rsseg
