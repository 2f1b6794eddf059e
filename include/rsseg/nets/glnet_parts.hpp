// SPDX-License-Identifier: MIT
// GLNet (nets/glnet.hpp) cut where maps pass from one branch to the other, so that scenes of any size run in bounded memory: what the
// other branch has seen is an input. Parameter names are those of GLNetGlobal, GLNetLocal and GLNetBoth.
//   GLNetGlobalMaps  image (N,3,h,w) -> scores (N,K,h/4,w/4); in inference also its 16 maps (4 steps x 4 levels) and `joined`
//   GLNetLocalPart   patch (Q,3,p,p), windows of the 16 global maps and of `joined`, any extent -> ensemble, local (Q,K,p/4,p/4);
//                    in inference also its own 16 maps and `joined`
//   GLNetGlobalPart  image, the 16 local maps laid into the global ones' extents -> global (1,K,h/4,w/4), joined; in training also
//                    patch_joined (Q,..) and where (Q,1,4,1) -> ensemble of these patches
//   GLNetEnsemble    patch_joined, window of joined -> ensemble
// Losses are taken at stride 4 with labels brought there, as the reference does.
#pragma once
#include "rsseg/layers/window_at.hpp"
#include "rsseg/nets/glnet.hpp"

namespace rsseg {

namespace detail {
/// Channels of map `i` (coarsest first) of step `step`: backbone, p0, p1, p2.
template <class Size>
constexpr int glnet_channels(int step, int i) {
  const int backbone = (Size::base << (3 - i)) * (Size::depth >= 50 ? 4 : 1);
  return step == 0 ? backbone : step == 3 ? Size::width / 2 : Size::width;
}
constexpr void glnet_output_maps(builder& b, const smooth_pyramid& f) {
  for (int step = 0; step < 4; ++step)
    for (int i = 0; i < 4; ++i) b.output(numbered("map", 4 * step + i), f.levels(step, i));
  b.output("joined", f.joined);
}
template <class Size>
struct glnet_map_inputs {
  value maps[16];
  constexpr glnet_map_inputs(builder& b, std::string_view prefix) {
    for (int step = 0; step < 4; ++step)
      for (int i = 0; i < 4; ++i) maps[4 * step + i] = b.input(numbered(prefix, 4 * step + i), glnet_channels<Size>(step, i));
  }
};
}  // namespace detail

template <int Classes = from_data, class Size = BranchSize<>>
struct GLNetGlobalMaps {
  static constexpr void build(builder& b) {
    const smooth_pyramid f = glnet_global<Size>(b, b.input("image", from_data), b.classes(Classes), norm_mode::batch);
    b.output("logits", f.scores, 1, label_rule::resize_labels);
    if (!b.training()) detail::glnet_output_maps(b, f);
  }
};

template <int Classes = from_data, class Size = BranchSize<>>
struct GLNetLocalPart {
  static constexpr void build(builder& b) {
    namespace ops = graph::ops;
    const int k = b.classes(Classes);
    const value patch = b.input("patch", from_data);
    const detail::glnet_map_inputs<Size> whole(b, "window");
    const value whole_joined = b.input("window_joined", 2 * Size::width);
    const scope s(b, "net");
    const smooth_pyramid local =
        glnet_local<Size>(b, patch, k, norm_mode::batch, [&](int step, int i, value own) { return resize_like(b, whole.maps[4 * step + i], own); });
    const value other = resize_like(b, whole_joined, local.joined);
    b.output("ensemble", conv(b, "ensemble_conv", concat(b, local.joined, other), k, {.kernel = 3}), 1, label_rule::resize_labels);
    b.output("local", local.scores, 1, label_rule::resize_labels);
    if (!b.training()) return detail::glnet_output_maps(b, local);
    const value difference = ops::unary(b, add(b, local.joined, ops::affine(b, other, -1, 0)), function::square);
    b.add_penalty("feature_difference", ops::reduce(b, difference, ops::axis_n | ops::axis_c | ops::axis_h | ops::axis_w, true), 0.15);
  }
};

template <int Classes = from_data, class Size = BranchSize<>>
struct GLNetGlobalPart {
  static constexpr void build(builder& b) {
    const int k = b.classes(Classes);
    const value image = b.input("image", from_data);
    const detail::glnet_map_inputs<Size> local(b, "local");
    value patch_joined, where;
    if (b.training()) patch_joined = b.input("patch_joined", 2 * Size::width), where = b.input("where", 1);
    const scope s(b, "net");
    smooth_pyramid whole = detail::glnet_backbone<Size>(b, "resnet_global", image, norm_mode::batch);
    {
      const scope pyramid(b, "fpn_global");
      build_smooth_pyramid(
          b, whole, k, companion_mode::global, [&](int step, int i, value own) { return resize_like(b, local.maps[4 * step + i], own); },
          Size::width);
    }
    b.output("global", whole.scores, 1, label_rule::resize_labels);
    if (!b.training()) return b.output("joined", whole.joined);
    const value window = window_at(b, whole.joined, where, patch_joined);
    b.output("ensemble", conv(b, "ensemble_conv", concat(b, patch_joined, window), k, {.kernel = 3}), 1, label_rule::resize_labels);
  }
};

template <int Classes = from_data, class Size = BranchSize<>>
struct GLNetEnsemble {
  static constexpr void build(builder& b) {
    const value local = b.input("patch_joined", 2 * Size::width), window = b.input("window_joined", 2 * Size::width);
    const scope s(b, "net");
    b.output("ensemble", conv(b, "ensemble_conv", concat(b, local, resize_like(b, window, local)), b.classes(Classes), {.kernel = 3}), 1);
  }
};

/// The four graphs of one size, lowered at run time.
struct glnet_parts {
  void (*global_maps)(builder&);
  void (*local_part)(builder&);
  void (*global_part)(builder&);
  void (*ensemble)(builder&);
};
template <class Size>
inline constexpr glnet_parts glnet_parts_of = {&GLNetGlobalMaps<from_data, Size>::build, &GLNetLocalPart<from_data, Size>::build,
                                               &GLNetGlobalPart<from_data, Size>::build, &GLNetEnsemble<from_data, Size>::build};

}  // namespace rsseg
