// SPDX-License-Identifier: MIT
// Multi-stage network of Takahama et al. ("Multi-stage pathological image classification using semantic segmentation", ICCV 2019, Fig. 1):
// a patch classifier's features, laid out on the grid of patches, are segmented as a small image.
//   stage 1: patch (N,B,P,P) -> 3x3/2 BN ReLU 16, 32, 64, mean -> 64 features; linear to K (does the patch show foreground?)
//   stage 2: features (N,64,Gh,Gw) -> U-Net 64, 128, 256 with transposed convolutions -> K scores per patch               (N,K,Gh,Gw)
// PatchThenSegment is both in one graph, trained end to end on an image of Grid x Grid patches; PatchClassifier and PatchGridNet are the
// stages by themselves, with the same names, for scenes of any size. The paper's stage 1 is GoogLeNet; this one is ours. Grid sides of
// stage 2 are multiples of 4.
#pragma once
#include "rsseg/graph/ops/arrange.hpp"
#include "rsseg/layers/conv_block.hpp"
#include "rsseg/nets/entry.hpp"
#include "rsseg/nets/parity_case.hpp"

namespace rsseg {

namespace detail {
constexpr int patch_features = 64;
/// (N,B,P,P) -> (N,64,1,1). Names c.0, c.1, c.2.
constexpr value patch_net(builder& b, value x) {
  for (int i = 0; i < 3; ++i) x = conv_block(b, numbered("c.", i), x, 16 << i, {.kernel = 3, .stride = 2});
  return global_avg_pool(b, x);
}
/// (N,64,Gh,Gw) -> (N,classes,Gh,Gw).
constexpr value patch_grid_net(builder& b, value f, int classes) {
  const value a = double_conv_block(b, "e1", f, 64);
  const value c = double_conv_block(b, "e2", max_pool(b, a), 128);
  value y = double_conv_block(b, "mid", max_pool(b, c), 256);
  y = double_conv_block(b, "d2", concat(b, c, conv_transpose(b, "u2", y, 128, {.kernel = 2, .stride = 2})), 128);
  y = double_conv_block(b, "d1", concat(b, a, conv_transpose(b, "u1", y, 64, {.kernel = 2, .stride = 2})), 64);
  return conv(b, "out", y, classes);
}
}  // namespace detail

/// Stage 1: one label per patch "x"; its features are the second output.
template <int Classes = from_data>
struct PatchClassifier {
  static constexpr void build(builder& b) {
    const value f = detail::patch_net(b, b.input("x", from_data));
    b.output("logits", linear(b, "patch_cls", f, b.classes(Classes)), 1);
    b.output("features", f);
  }
};

/// Stage 2: a grid of patch features "features" (N,64,Gh,Gw).
template <int Classes = from_data>
struct PatchGridNet {
  static constexpr void build(builder& b) {
    b.output("logits", detail::patch_grid_net(b, b.input("features", detail::patch_features), b.classes(Classes)), 1);
  }
};

/// Both on images of Grid x Grid patches; sides are multiples of Grid. Inference gives every pixel its patch's scores. `patch_logits`: (Grid^2
/// N,K,1,1), patch-major.
template <int Grid = 8, int Classes = from_data, bool KeepPatches = false>
struct PatchThenSegment {
  static_assert(Grid % 4 == 0);
  static constexpr void build(builder& b) {
    namespace ops = graph::ops;
    constexpr int count = Grid * Grid;
    const int k = b.classes(Classes);
    const value x = b.input("image", from_data);
    value parts[count];
    for (int i = 0; i < count; ++i) parts[i] = ops::crop_window(b, x, double(i / Grid) / Grid, double(i % Grid) / Grid, 1, Grid);
    const value f = detail::patch_net(b, ops::batch_concat(b, parts, count));
    for (int i = 0; i < count; ++i) parts[i] = ops::batch_part(b, f, i, count);
    const value grid = ops::reshape(b, ops::concat(b, parts, count), Grid, Grid, detail::patch_features);
    const value y = detail::patch_grid_net(b, grid, k);
    b.output("logits", b.training() || KeepPatches ? y : resize_like(b, y, x, false, interpolation::nearest), 1, label_rule::resize_labels);
    b.output("patch_logits", linear(b, "patch_cls", ops::stop_gradient(b, f), k), 0, label_rule::resize_logits, false, !KeepPatches);
  }
};

inline constexpr network_entry patch_then_segment_networks[] = {
    {"takahama-multistage", "Multi-stage classification with segmentation", "Takahama et al., ICCV 2019",
     "8 x 8 patches classified, their features segmented as a grid; end to end", &PatchThenSegment<>::build,
     recipe{"adam", 1e-4, 0.9, 0, "constant", 1, 256}, 8, 0, 64},
    {"takahama-patches", "Multi-stage classification, stage 1", "Takahama et al., ICCV 2019", "the patch classifier", &PatchClassifier<>::build,
     recipe{"adam", 1e-4, 0.9, 0, "constant", 64, 32}, 1, 0, 8, false},
    {"takahama-grid", "Multi-stage classification, stage 2", "Takahama et al., ICCV 2019", "segments a grid of patch features",
     &PatchGridNet<>::build, recipe{"adam", 1e-4, 0.9, 0, "constant", 1, 8}, 4, 0, 4, false},
};

inline constexpr parity_case patch_then_segment_parity[] = {
    {"Takahama multi-stage", "takahama-multistage", &PatchThenSegment<8, from_data, true>::build},
};

}  // namespace rsseg
