// SPDX-License-Identifier: MIT
// GLNet (Chen, Jiang, Wang, Cui, Qian, "Collaborative global-local networks for memory-efficient segmentation of ultra-high resolution
// images", CVPR 2019, Figs. 2 to 4): a global branch sees the whole image down-sampled, a local one full-resolution patches, and the maps
// of each step of one branch enter the other.
//   branch: ResNet-50 c2..c5 -> pyramid of nets/smooth_fpn.hpp                                  (N,512,H/4,W/4) -> K scores at stride 4
//   global to local: the patch's window of every global map, resized to the local one, beside it (4 steps x 4 levels)
//   local to global: every local map resized to its window, all windows pasted into a global-sized map, overlaps averaged
//   ensemble: 3x3 on [local 512, window of global 512] to K                                                       (N,K,h/4,w/4) per patch
// Three stages of training, one network type each:
//   1 GLNetGlobal      the global branch alone, input "image"
//   2 GLNetLocal       global fixed; inputs "image_global" (N,3,H,W) and "patches" (W N,3,h,w), patch-major: patch 0 of all images first
//   3 GLNetBoth        local fixed, a second, fixed global branch of stage 1 (scope `fixed`) feeds the local one
// Where patches lie is in the type: Windows<G> cuts G x G patches that touch; any type with count, num / den, top(i) and left(i) will do.
// Counts of overlaps are taken at each map's own extent (the reference resizes full-size counts).
#pragma once
#include "rsseg/graph/ops/arrange.hpp"
#include "rsseg/graph/ops/source.hpp"
#include "rsseg/nets/entry.hpp"
#include "rsseg/nets/smooth_fpn.hpp"

namespace rsseg {

/// G x G windows that touch, row by row.
template <int G>
struct Windows {
  static constexpr int count = G * G, num = 1, den = G;
  static constexpr double top(int i) { return double(i / G) / G; }
  static constexpr double left(int i) { return double(i % G) / G; }
};

namespace detail {
template <class Size = BranchSize<>>
constexpr smooth_pyramid glnet_backbone(builder& b, std::string_view name, value x, norm_mode mode) {
  const scope s(b, name);
  resnet_options o = resnet_of_depth(Size::depth);
  o.width = Size::base;
  o.mode = mode;
  return pyramid_of(resnet(b, x, o));
}
constexpr value no_companion(int, int, value) { return {}; }

/// The windows of a map of whole images, as a batch of patches with the extent of `like`.
template <class W>
constexpr value glnet_windows(builder& b, value x, value like) {
  value parts[W::count];
  for (int i = 0; i < W::count; ++i) parts[i] = resize_like(b, graph::ops::crop_window(b, x, W::top(i), W::left(i), W::num, W::den), like);
  return graph::ops::batch_concat(b, parts, W::count);
}
/// A map of patches laid back into the extent of a map of whole images; the mean where windows overlap.
template <class W>
constexpr value glnet_merge(builder& b, value patches, value like) {
  namespace ops = graph::ops;
  value parts[W::count], ones[W::count];
  for (int i = 0; i < W::count; ++i) {
    const value window = ops::crop_window(b, like, W::top(i), W::left(i), W::num, W::den);
    const value part = resize_like(b, ops::batch_part(b, patches, i, W::count), window);
    parts[i] = ops::paste_window(b, part, like, W::top(i), W::left(i));
    ones[i] = ops::paste_window(b, ops::constant_like(b, part, 1), like, W::top(i), W::left(i));
  }
  const value count = ops::unary(b, ops::add(b, ones, W::count), function::clamp_min, 1);
  return ops::mul(b, ops::add(b, parts, W::count), ops::unary(b, count, function::reciprocal));
}
}  // namespace detail

/// The global branch by itself. Names: resnet_global, fpn_global.
template <class Size = BranchSize<>>
constexpr smooth_pyramid glnet_global(builder& b, value x, int classes, norm_mode mode) {
  smooth_pyramid f = detail::glnet_backbone<Size>(b, "resnet_global", x, mode);
  const scope s(b, "fpn_global");
  build_smooth_pyramid(b, f, classes, companion_mode::none, detail::no_companion, Size::width);
  return f;
}
/// The local branch with a companion. Names: resnet_local, fpn_local.
template <class Size = BranchSize<>, class Companion>
constexpr smooth_pyramid glnet_local(builder& b, value patches, int classes, norm_mode mode, const Companion& with) {
  smooth_pyramid f = detail::glnet_backbone<Size>(b, "resnet_local", patches, mode);
  const scope s(b, "fpn_local");
  build_smooth_pyramid(b, f, classes, companion_mode::local, with, Size::width);
  return f;
}

/// Stage 1. Raw: scores stay at stride 4.
template <int Classes = from_data, bool Raw = false>
struct GLNetGlobal {
  static constexpr void build(builder& b) {
    const value x = b.input("image", from_data);
    const value y = glnet_global(b, x, b.classes(Classes), norm_mode::batch).scores;
    b.output("logits", Raw ? y : resize_like(b, y, x), 1);
  }
};

/// Stage 2. The first output is the ensemble; focal loss on it and on `local`, and 0.15 x the mean squared difference of the two
/// branches' last maps.
template <int Classes = from_data, class W = Windows<2>, bool KeepHeads = false, class Size = BranchSize<>>
struct GLNetLocal {
  static constexpr void build(builder& b) {
    namespace ops = graph::ops;
    const int k = b.classes(Classes);
    const value image = b.input("image_global", from_data), patches = b.input("patches", from_data);
    const scope s(b, "net");
    smooth_pyramid whole = glnet_global<Size>(b, image, k, norm_mode::frozen);
    const auto fixed = [&](value v) { return ops::stop_gradient(b, v); };
    const smooth_pyramid local = glnet_local<Size>(
        b, patches, k, norm_mode::batch, [&](int step, int i, value own) { return detail::glnet_windows<W>(b, fixed(whole.levels(step, i)), own); });
    const value other = detail::glnet_windows<W>(b, fixed(whole.joined), local.joined);
    const value ensemble = conv(b, "ensemble_conv", concat(b, local.joined, other), k, {.kernel = 3});
    b.output("ensemble", ensemble, 1);
    b.output("local", local.scores, 1, label_rule::resize_logits, false, !KeepHeads);
    if (!b.training() && !KeepHeads) return;
    const value difference = ops::unary(b, add(b, local.joined, ops::affine(b, other, -1, 0)), function::square);
    const value mean = ops::reduce(b, difference, ops::axis_n | ops::axis_c | ops::axis_h | ops::axis_w, true);
    b.add_penalty("feature_difference", mean, 0.15);
    if (!KeepHeads) return;
    b.output("global", fixed(whole.scores));
    b.output("fm_reg_mse", ops::stop_gradient(b, mean));
  }
};

/// Stage 3. The first output is the ensemble of each patch; focal loss on it and on `global`.
template <int Classes = from_data, class W = Windows<2>, bool KeepHeads = false, class Size = BranchSize<>>
struct GLNetBoth {
  static constexpr void build(builder& b) {
    namespace ops = graph::ops;
    const int k = b.classes(Classes);
    const value image = b.input("image_global", from_data), patches = b.input("patches", from_data);
    const auto fixed = [&](value v) { return ops::stop_gradient(b, v); };
    smooth_pyramid first;
    {
      const scope s(b, "fixed");
      first = glnet_global<Size>(b, image, k, norm_mode::frozen);
    }
    const scope s(b, "net");
    smooth_pyramid whole = detail::glnet_backbone<Size>(b, "resnet_global", image, norm_mode::batch);
    const smooth_pyramid local = glnet_local<Size>(
        b, patches, k, norm_mode::frozen, [&](int step, int i, value own) { return detail::glnet_windows<W>(b, first.levels(step, i), own); });
    {
      const scope pyramid(b, "fpn_global");
      build_smooth_pyramid(
          b, whole, k, companion_mode::global,
          [&](int step, int i, value own) { return detail::glnet_merge<W>(b, fixed(local.levels(step, i)), own); }, Size::width);
    }
    const value local_map = fixed(local.joined);
    const value ensemble = conv(b, "ensemble_conv", concat(b, local_map, detail::glnet_windows<W>(b, whole.joined, local_map)), k, {.kernel = 3});
    b.output("ensemble", ensemble, 1);
    b.output("global", whole.scores, 1, label_rule::resize_logits, false, !KeepHeads);
    if (KeepHeads) b.output("local", fixed(local.scores));
  }
};

inline constexpr network_entry glnet_networks[] = {
    {"glnet-global", "GLNet, stage 1", "Chen et al., CVPR 2019", "the global branch alone: ResNet-50 pyramid on the down-sampled image",
     &GLNetGlobal<>::build, recipe{"adam", 5e-5, 0.9, 5e-4, "poly", 6, 508}, 1, 0, 32},
    {"glnet-global2local", "GLNet, stage 2", "Chen et al., CVPR 2019", "local branch fed by a fixed global one; inputs image_global and patches",
     &GLNetLocal<>::build, recipe{"adam", 2e-5, 0.9, 5e-4, "poly", 6, 508}, 1, 0, 64, false},
    {"glnet-local2global", "GLNet, stage 3", "Chen et al., CVPR 2019", "global branch fed by a fixed local one; inputs image_global and patches",
     &GLNetBoth<>::build, recipe{"adam", 5e-5, 0.9, 5e-4, "poly", 6, 508}, 1, 0, 64, false},
};

}  // namespace rsseg
