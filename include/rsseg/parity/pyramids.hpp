// SPDX-License-Identifier: MIT
// The four pyramids with their levels as outputs.
#pragma once
#include "rsseg/nets/parity_case.hpp"
#include "rsseg/nets/pyramids.hpp"

namespace rsseg::parity {

template <class Pyramid, fixed_string... Names>
struct pyramid_case {
  static constexpr void build(builder& b) {
    value levels[4];
    b.output("logits", Pyramid::scores(b, b.input("x", from_data), levels), 1);
    int i = 0;
    (b.output(Names.view(), levels[i++]), ...);
  }
};

inline constexpr parity_case pyramids_parity[] = {
    {"Pyramids (Fig. 1a)", "pyramid-a-featurized-image-pyramid", &pyramid_case<FeaturizedImagePyramid<>, "scale1", "scale1_2", "scale1_4">::build},
    {"Pyramids (Fig. 1b)", "pyramid-b-single-feature-map", &pyramid_case<SingleFeatureMap<>>::build},
    {"Pyramids (Fig. 1c, SSD style)", "pyramid-c-feature-hierarchy", &pyramid_case<FeatureHierarchy<>, "p2", "p3", "p4", "p5">::build},
    {"Pyramids (Fig. 1d, FPN)", "pyramid-d-fpn", &pyramid_case<TopDownPyramid<>, "p2", "p3", "p4", "p5">::build},
};

}  // namespace rsseg::parity
