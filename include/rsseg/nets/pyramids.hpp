// SPDX-License-Identifier: MIT
// Four ways to organise features of several scales, over one small trunk, to be compared: after Lin et al., CVPR 2017, Fig. 1.
//   trunk (ours), every convolution 3x3, BN, ReLU: stem 32 (1/2), c2 64 (1/4), c3 128 (1/8), c4 256 (1/16), c5 256 (1/32); each two convolutions
//   (a) FeaturizedImagePyramid  the image at 1, 1/2, 1/4 through shared trunk (to c4) and head; the mean of the three maps
//   (b) SingleFeatureMap        head on c5 only
//   (c) FeatureHierarchy        a head on each of c2..c5, no exchange (as SSD); the mean
//   (d) TopDownPyramid          1x1 laterals to 256, nearest up and add, 3x3, one shared head; the mean
// Scores lie at the extent of c2 (1/4 of the input); the loss brings them to the labels. Nothing published fixes trunk and mean: ours.
#pragma once
#include "rsseg/layers/conv_block.hpp"
#include "rsseg/nets/entry.hpp"

namespace rsseg {

namespace detail {
/// c2 .. c5 of the trunk, in scope `trunk`; levels: 3 stops with c4.
struct pyramid_trunk {
  value c[4];
  constexpr pyramid_trunk(builder& b, value x, int levels) {
    const scope s(b, "trunk");
    constexpr int widths[] = {64, 128, 256, 256};
    value y = conv_block(b, "stem", x, 32, {.kernel = 3, .stride = 2});
    for (int i = 0; i < levels; ++i) {
      const scope level(b, numbered("s", i + 2));
      y = conv_block(b, "0", y, widths[i], {.kernel = 3, .stride = 2});
      c[i] = y = conv_block(b, "1", y, widths[i]);
    }
  }
};
/// The mean of maps, each brought to the extent of `like`.
constexpr value mean_at(builder& b, const value* maps, int count, value like) {
  graph::list<value> parts;
  for (int i = 0; i < count; ++i) parts.push_back(resize_like(b, maps[i], like));
  return graph::ops::affine(b, graph::ops::add(b, parts.begin(), count), 1.0 / count, 0);
}
/// What the four have in common: levels = maps of scores that `levels_of` leaves.
template <class Pyramid>
constexpr void build_pyramid(builder& b) {
  const value x = b.input("x", from_data);
  value levels[4];
  output_scores(b, Pyramid::scores(b, x, levels), x);
}
}  // namespace detail

/// (a); levels: the scores of scales 1, 1/2, 1/4.
template <int Classes = from_data>
struct FeaturizedImagePyramid {
  static constexpr value scores(builder& b, value x, value (&levels)[4]) {
    value like;
    for (int i = 0; i < 3; ++i) {
      const shared_weights shared(b, i > 0);
      const detail::pyramid_trunk t(b, i == 0 ? x : resize_by(b, x, 1, 1 << i), 3);
      if (i == 0) like = t.c[0];
      levels[i] = conv(b, "head", t.c[2], b.classes(Classes), {.kernel = 3});
    }
    return detail::mean_at(b, levels, 3, like);
  }
  static constexpr void build(builder& b) { detail::build_pyramid<FeaturizedImagePyramid>(b); }
};

/// (b); levels: the scores of c5.
template <int Classes = from_data>
struct SingleFeatureMap {
  static constexpr value scores(builder& b, value x, value (&levels)[4]) {
    const detail::pyramid_trunk t(b, x, 4);
    levels[0] = conv(b, "head", t.c[3], b.classes(Classes), {.kernel = 3});
    return resize_like(b, levels[0], t.c[0]);
  }
  static constexpr void build(builder& b) { detail::build_pyramid<SingleFeatureMap>(b); }
};

/// (c); levels: the scores of c2 .. c5.
template <int Classes = from_data>
struct FeatureHierarchy {
  static constexpr value scores(builder& b, value x, value (&levels)[4]) {
    const detail::pyramid_trunk t(b, x, 4);
    for (int i = 0; i < 4; ++i) levels[i] = conv(b, numbered("heads.", i), t.c[i], b.classes(Classes), {.kernel = 3});
    return detail::mean_at(b, levels, 4, t.c[0]);
  }
  static constexpr void build(builder& b) { detail::build_pyramid<FeatureHierarchy>(b); }
};

/// (d); levels: the scores of p2 .. p5. Width: channels of the pyramid.
template <int Classes = from_data, int Width = 256>
struct TopDownPyramid {
  static constexpr value scores(builder& b, value x, value (&levels)[4]) {
    const detail::pyramid_trunk t(b, x, 4);
    value m[4];
    for (int i = 3; i >= 0; --i) {
      m[i] = conv(b, numbered("lateral.", i), t.c[i], Width);
      if (i < 3) m[i] = add(b, m[i], resize_like(b, m[i + 1], t.c[i], false, interpolation::nearest));
    }
    for (int i = 0; i < 4; ++i) {
      const value p = conv(b, numbered("smooth.", i), m[i], Width, {.kernel = 3});
      const shared_weights shared(b, i > 0);
      levels[i] = conv(b, "head", p, b.classes(Classes), {.kernel = 3});
    }
    return detail::mean_at(b, levels, 4, t.c[0]);
  }
  static constexpr void build(builder& b) { detail::build_pyramid<TopDownPyramid>(b); }
};

namespace detail {
inline constexpr recipe pyramid_recipe{"sgd", 0.01, 0.9, 1e-4, "poly", 8, 256};
}
inline constexpr network_entry pyramids_networks[] = {
    {"pyramid-a", "Featurized image pyramid", "after Lin et al., CVPR 2017, Fig. 1a", "shared trunk on three scales of the image",
     &FeaturizedImagePyramid<>::build, detail::pyramid_recipe, 1, 0, 64},
    {"pyramid-b", "Single feature map", "after Lin et al., CVPR 2017, Fig. 1b", "scores from the coarsest map only", &SingleFeatureMap<>::build,
     detail::pyramid_recipe, 1, 0, 32},
    {"pyramid-c", "Pyramidal feature hierarchy", "after Lin et al., CVPR 2017, Fig. 1c", "a head per level, no exchange", &FeatureHierarchy<>::build,
     detail::pyramid_recipe, 1, 0, 32},
    {"pyramid-d", "Feature pyramid network", "after Lin et al., CVPR 2017, Fig. 1d", "top-down sums, one shared head", &TopDownPyramid<>::build,
     detail::pyramid_recipe, 1, 0, 32},
};

}  // namespace rsseg
