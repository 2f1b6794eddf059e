// SPDX-License-Identifier: MIT
// The feature pyramid of GLNet (Chen et al., CVPR 2019, Fig. 4) and of MagNet's DeepGlobe backbone (Huynh et al., CVPR 2021): four 1x1
// laterals to 256 with bilinear top-down sums, two 3x3 smoothing convolutions per level (256, 128), all levels concatenated at the finest.
//   c5..c2 -> p5..p2 (N,256,H/32..H/4) -> (N,256) -> (N,128) -> concat (N,512,H/4,W/4) -> 3x3 to K
// No norm, no activation; every convolution has a bias. The form with a companion takes, at each of the four steps, the maps of another
// pyramid beside its own: twice the input channels, and a last 3x3 from 1024 to 512.
#pragma once
#include "rsseg/layers/basic.hpp"
#include "rsseg/nets/resnet.hpp"

namespace rsseg {

/// The maps of one branch, coarsest first: backbone c5..c2, pyramid p0 (256), p1 (256), p2 (128), their concatenation and the scores.
struct smooth_pyramid {
  value c[4], p0[4], p1[4], p2[4];
  value joined;  ///< (N,512,H/4,W/4)
  value scores;  ///< (N,K,H/4,W/4)
  value levels(int step, int i) const { return step == 0 ? c[i] : step == 1 ? p0[i] : step == 2 ? p1[i] : p2[i]; }
};

namespace detail {
struct smooth_pyramid_names {
  std::string_view lateral[4], first[4], second[4];
};
constexpr smooth_pyramid_names smooth_pyramid_plain = {{"toplayer", "latlayer1", "latlayer2", "latlayer3"},
                                                       {"smooth1_1", "smooth2_1", "smooth3_1", "smooth4_1"},
                                                       {"smooth1_2", "smooth2_2", "smooth3_2", "smooth4_2"}};
constexpr smooth_pyramid_names smooth_pyramid_ext = {{"toplayer_ext", "latlayer1_ext", "latlayer2_ext", "latlayer3_ext"},
                                                     {"smooth1_1_ext", "smooth2_1_ext", "smooth3_1_ext", "smooth4_1_ext"},
                                                     {"smooth1_2_ext", "smooth2_2_ext", "smooth3_2_ext", "smooth4_2_ext"}};
}  // namespace detail

/// Whether a pyramid has a companion, and in which order and under which names it takes its maps.
enum class companion_mode {
  none,
  local,  ///< own maps first; names as without a companion
  global  ///< own maps first; names end in _ext
};

/// Size of a branch: ResNet depth, channels of its first stage, channels of the pyramid. The default is the papers'.
template <int Depth = 50, int Base = 64, int Width = 256>
struct BranchSize {
  static constexpr int depth = Depth, base = Base, width = Width;
};
/// Ours, for training on a CPU: 1/20 of the multiply-adds.
using CompactBranch = BranchSize<18, 32, 64>;

/// f.c is given; the rest is filled in. with(step, i, own): the companion's map of that step (0: c, 1: p0, 2: p1, 3: p2) with the extent
/// of `own`; not called in mode none. The caller opens the scope.
template <class Companion>
constexpr void build_smooth_pyramid(builder& b, smooth_pyramid& f, int classes, companion_mode mode, const Companion& with, int width = 256) {
  const detail::smooth_pyramid_names& n = mode == companion_mode::global ? detail::smooth_pyramid_ext : detail::smooth_pyramid_plain;
  const auto joined = [&](int step, int i, value own) { return mode == companion_mode::none ? own : concat(b, own, with(step, i, own)); };
  for (int i = 0; i < 4; ++i) {
    const value side = conv(b, n.lateral[i], joined(0, i, f.c[i]), width);
    f.p0[i] = i == 0 ? side : add(b, resize_like(b, f.p0[i - 1], side), side);
  }
  for (int i = 0; i < 4; ++i) f.p1[i] = conv(b, n.first[i], joined(1, i, f.p0[i]), width, {.kernel = 3});
  for (int i = 0; i < 4; ++i) f.p2[i] = conv(b, n.second[i], joined(2, i, f.p1[i]), width / 2, {.kernel = 3});
  value parts[4];
  for (int i = 0; i < 4; ++i) {
    parts[i] = joined(3, i, f.p2[i]);
    if (i < 3) parts[i] = resize_like(b, parts[i], f.p2[3]);
  }
  f.joined = graph::ops::concat(b, parts, 4);
  if (mode != companion_mode::none) f.joined = conv(b, "smooth", f.joined, 2 * width, {.kernel = 3});
  f.scores = conv(b, "classify", f.joined, classes, {.kernel = 3});
}

/// c5..c2 of a ResNet, coarsest first.
constexpr smooth_pyramid pyramid_of(const resnet_features& r) {
  smooth_pyramid f;
  f.c[0] = r.c5, f.c[1] = r.c4, f.c[2] = r.c3, f.c[3] = r.c2;
  return f;
}

}  // namespace rsseg
