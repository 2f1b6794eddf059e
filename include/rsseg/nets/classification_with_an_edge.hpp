// SPDX-License-Identifier: MIT
// Classification with an edge (Marmanis, Schindler, Wegner, Galliani, Datcu, Stilla, ISPRS J. 135, 2018, Figs. 2 to 4): a class-boundary
// network whose edge map is a further input channel, and a late feature, of two-stream SegNets for image and height.
//   inputs image (N,B,H,W), dem (N,2,H,W) (surface model, normalised surface model)
//   boundaries: two VGG-16 streams (first padding 35, ceil pools); after each block concat, 1x1 to 1, transposed convolution to the input's
//     extent (1/1, 4/2, 8/4, 16/8, 32/16); concat of five, 1x1: edges (N,1,H,W), linear
//   scale 1: SegNet on [image, edges] and on [dem, edges], 21 channels each; concat with edges, 3x3 10, 1x1 K
//   Scales = 3 adds the same, with weights of its own, on the inputs pooled by 2 and 4, transposed back, and fuses the three by a 1x1
// After the published Caffe files. As there, edges and sides are fitted with a Euclidean loss (weight 1 each) to soft labels: the lines between
// classes, 3 pixels wide and blurred (ours: by a Gaussian of one pixel). The paper then averages with VGG and FCN models. Sides are multiples of 16.
#pragma once
#include "rsseg/layers/segnet_core.hpp"
#include "rsseg/nets/entry.hpp"
#include "rsseg/nets/vgg.hpp"

namespace rsseg {

template <int Classes = from_data, int Scales = 1, int Width = 64, int DemBands = 2>
struct ClassificationWithAnEdge {
  static_assert(Scales == 1 || Scales == 3);
  struct maps {
    value scores, edges, sides[5];
    value by_scale[3];  ///< with Scales = 3: the scores of each, at the input's extent
  };
  static constexpr maps parts(builder& b, value image, value dem) {
    maps m;
    boundaries(b, image, dem, m);
    if constexpr (Scales == 1) {
      m.scores = two_streams(b, image, dem, m.edges, 0);
    } else {
      m.by_scale[0] = two_streams(b, image, dem, m.edges, 0);
      for (int i = 1; i < 3; ++i) {
        const scope s(b, numbered("scale", i + 1));
        const pool_options p{.kernel = 1 << i};
        const value y = two_streams(b, max_pool(b, image, p), max_pool(b, dem, p), max_pool(b, m.edges, p), 0.1);
        m.by_scale[i] = conv_transpose(b, "up", y, y.channels,
                                       i == 1 ? conv_options{.kernel = 4, .stride = 2, .padding = 1} : conv_options{.kernel = 4, .stride = 4});
      }
      m.scores = conv(b, "fuse_scales", graph::ops::concat(b, m.by_scale, 3), b.classes(Classes));
    }
    return m;
  }
  static constexpr void build(builder& b) {
    const value image = b.input("image", from_data), dem = b.input("dem", DemBands);
    const maps m = parts(b, image, dem);
    b.output("logits", m.scores, 1);
    b.output("edges", m.edges, 1, label_rule::soft_boundaries);
    for (int i = 0; i < 5; ++i) b.output(numbered("side", i + 1), m.sides[i], 1, label_rule::soft_boundaries, false, true);
    if (Scales == 3)
      for (int i = 0; i < 3; ++i) b.output(numbered("scale", i + 1), m.by_scale[i], 1, label_rule::resize_logits, false, true);
  }

 private:
  static constexpr vgg_features stream(builder& b, std::string_view name, value x) {
    const scope s(b, name);
    vgg_options o;
    o.width = Width, o.first_padding = 35, o.ceil_mode = true;
    o.pool_stride[4] = 0;
    o.naming = vgg_naming::by_group;
    return vgg(b, x, o);
  }
  static constexpr void boundaries(builder& b, value image, value dem, maps& m) {
    const vgg_features f = stream(b, "edge_img", image), g = stream(b, "edge_dem", dem);
    constexpr int kernel[] = {1, 4, 8, 16, 32}, stride[] = {1, 2, 4, 8, 16}, padding[] = {34, 35, 36, 40, 48};
    for (int i = 0; i < 5; ++i) {
      const value score = conv(b, numbered("score.", i), concat(b, f.conv[i], g.conv[i]), 1);
      m.sides[i] = conv_transpose(b, numbered("upc.", i), score, 1, {.kernel = kernel[i], .stride = stride[i], .padding = padding[i]});
    }
    m.edges = conv(b, "weight", graph::ops::concat(b, m.sides, 5), 1);
  }
  static constexpr value core(builder& b, std::string_view name, value x, value edges, double drop) {
    const scope s(b, name);
    return segnet_core(b, concat(b, x, edges), {.width = Width, .last = 21, .dropout = drop}).stage[4];
  }
  static constexpr value two_streams(builder& b, value image, value dem, value edges, double drop) {
    const value f = core(b, "seg_img", image, edges, drop), g = core(b, "seg_dem", dem, edges, drop);
    return conv(b, "cls", conv(b, "fit", concat(b, f, g, edges), 10, {.kernel = 3}), b.classes(Classes));
  }
};

inline constexpr network_entry classification_with_an_edge_networks[] = {
    {"classification-with-an-edge", "Classification with an edge", "Marmanis et al., ISPRS J. 2018",
     "boundary network and two-stream SegNet; a second input `dem`", &ClassificationWithAnEdge<>::build,
     recipe{"sgd", 0.01, 0.9, 1.5e-4, "step", 2, 256}, 16, 0, 32, false},
    {"classification-with-an-edge-3", "Classification with an edge", "Marmanis et al., ISPRS J. 2018",
     "as published, at three scales; a second input `dem`", &ClassificationWithAnEdge<from_data, 3>::build,
     recipe{"sgd", 0.01, 0.9, 1.5e-4, "step", 2, 256}, 128, 0, 128, false},
};

}  // namespace rsseg
