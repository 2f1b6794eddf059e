// SPDX-License-Identifier: MIT
// MCNN (Zhao, Du, ISPRS J. 113, 2016): a patch CNN shared by the levels of an image pyramid; its features and the pixel's spectrum go into a
// multinomial logistic regression, whose labels a majority vote smooths.
//   patch (N,B,28,28) -> 5x5 32, ReLU, pool, 5x5 64, ReLU, pool, 1024 -> 128, ReLU | pre-training head: 128 -> K
//   three patches around one ground point, one per level, 3 x 128 + B -> K                                    (N,K,1,1)
// MCNNFeatures trains the CNN on patches of all levels, MCNN is the classifier on top, which the paper trains with the CNN frozen
// (train/mcnn.hpp does both). MCNNMap is the same classifier for every pixel of an image at once: its pyramid (5-tap binomial, every second
// pixel, reflected border) is a part of the graph, and where a patch is pooled by 2 the map is pooled in steps of 1 and convolved with
// dilation, so no patch is computed twice. The vote is scene/vote.hpp. Sizes are ours.
#pragma once
#include "rsseg/graph/ops/arrange.hpp"
#include "rsseg/layers/basic.hpp"
#include "rsseg/layers/naming.hpp"
#include "rsseg/nets/entry.hpp"
#include "rsseg/nets/parity_case.hpp"

namespace rsseg {

namespace detail {
/// (N,B,28,28) -> (N,128,1,1).
constexpr value mcnn_features(builder& b, value patch) {
  value y = max_pool(b, relu(b, conv(b, "c1", patch, 32, {.kernel = 5, .padding = 0})));
  y = max_pool(b, relu(b, conv(b, "c2", y, 64, {.kernel = 5, .padding = 0})));
  const value flat = graph::ops::reshape(b, graph::ops::transpose(b, y), 1, 1, 64 * 4 * 4);  // channel by channel, as PyTorch flattens
  return relu(b, linear(b, "fc", flat, 128));
}
}  // namespace detail

/// Stage 1: one patch "x" and its label.
template <int Classes = from_data>
struct MCNNFeatures {
  static constexpr void build(builder& b) {
    b.output("logits", linear(b, "cls", detail::mcnn_features(b, b.input("x", from_data)), b.classes(Classes)), 1, label_rule::crop_labels);
  }
};

/// Stage 2: patches of three levels. Frozen: the CNN is not trained. KeepHead: the softmax head of stage 1 is an output, too.
template <int Classes = from_data, bool Frozen = true, bool KeepHead = false>
struct MCNN {
  static constexpr void build(builder& b) {
    const int k = b.classes(Classes);
    constexpr std::string_view names[] = {"patch0", "patch1", "patch2"};
    value patches[3], features[4];
    for (int i = 0; i < 3; ++i) patches[i] = b.input(names[i], from_data);
    for (int i = 0; i < 3; ++i) {
      const shared_weights shared(b, i > 0);
      features[i] = detail::mcnn_features(b, patches[i]);
      if (Frozen) features[i] = graph::ops::stop_gradient(b, features[i]);
    }
    features[3] = graph::ops::pad(b, patches[0], -14, -14, -13, -13);  // the pixel itself
    b.output("logits", linear(b, "lr", graph::ops::concat(b, features, 4), k), 1);
    const value head = linear(b, "cls", features[0], k);
    b.output("cnn_softmax_head", head, 0, label_rule::resize_logits, false, !KeepHead);
  }
};

/// What the logistic regression sees: (N, 3 * 128 + B, 1, 1).
struct MCNNVector {
  static constexpr void build(builder& b) {
    constexpr std::string_view names[] = {"patch0", "patch1", "patch2"};
    value patches[3], features[4];
    for (int i = 0; i < 3; ++i) patches[i] = b.input(names[i], from_data);
    for (int i = 0; i < 3; ++i) {
      const shared_weights shared(b, i > 0);
      features[i] = detail::mcnn_features(b, patches[i]);
    }
    features[3] = graph::ops::pad(b, patches[0], -14, -14, -13, -13);
    b.output("features", graph::ops::concat(b, features, 4));
  }
};

/// x (N,B,H,W) -> scores of every pixel (N,K,H,W). The regression's weights are in four parts (lr.0 to lr.2 per level, lr.3 for the spectrum), so
/// that the features of coarse levels are weighted before they are repeated for the pixels they stand for.
template <int Classes = from_data>
struct MCNNMap {
  static constexpr void build(builder& b) {
    namespace ops = graph::ops;
    const int k = b.classes(Classes);
    const value x = b.input("x", from_data);
    value level = x, sum = linear(b, "lr.3", x, k);
    for (int i = 0; i < 3; ++i) {
      if (i > 0) level = halved(b, level);
      const shared_weights shared(b, i > 0);
      const value f = features(b, level);
      const shared_weights own(b, false);
      const value part = linear(b, numbered("lr.", i), f, k, false);
      sum = add(b, sum, i == 0 ? part : resize_like(b, part, x, false, interpolation::nearest));
    }
    b.output("logits", sum, 1);
  }

 private:
  /// Binomial weights (1,4,6,4,1)/16 per axis are four means of two; then every second pixel.
  static constexpr value halved(builder& b, value x) {
    value y = graph::ops::pad(b, x, 2, 2, 2, 2, graph::ops::border::reflect);
    for (int i = 0; i < 4; ++i) y = avg_pool(b, y, {.kernel = 2, .stride = 1});
    return max_pool(b, y, {.kernel = 1, .stride = 2});
  }
  static constexpr value features(builder& b, value x) {
    value y = graph::ops::pad(b, x, 14, 14, 13, 13, graph::ops::border::reflect);
    y = spread_max(b, relu(b, conv(b, "c1", y, 32, {.kernel = 5, .padding = 0})), 1);
    y = spread_max(b, relu(b, conv(b, "c2", y, 64, {.kernel = 5, .padding = 0, .dilation = 2})), 2);
    return relu(b, conv(b, "fc", y, 128, {.kernel = 4, .padding = 0, .dilation = 4}));
  }
  /// Maximum of the four corners of a square of that side.
  static constexpr value spread_max(builder& b, value x, int step) {
    graph::attributes at;
    at.kernel_h = at.kernel_w = 2, at.dilation_h = at.dilation_w = step;
    return graph::ops::max_pool(b, x, at, false).y;
  }
};

inline constexpr network_entry mcnn_networks[] = {
    {"mcnn", "MCNN", "Zhao, Du, ISPRS J. 2016",
     "patch CNN on three pyramid levels, logistic regression with the spectrum; training is the paper's two stages, maps are voted",
     &MCNNMap<>::build, recipe{"sgd", 0.01, 0.9, 1e-4, "poly", 64, 160}, 4, 0, 64, true, 5},
    {"mcnn-features", "MCNN, patch network", "Zhao, Du, ISPRS J. 2016", "28x28 patches, one label each", &MCNNFeatures<>::build,
     recipe{"sgd", 0.01, 0.9, 1e-4, "poly", 64, 28}, 28, 0, 28, false},
    {"mcnn-patches", "MCNN, patch form", "Zhao, Du, ISPRS J. 2016", "one ground point as three patches, as the paper states it", &MCNN<>::build,
     recipe{"sgd", 0.01, 0.9, 1e-4, "poly", 64, 28}, 28, 0, 28, false},
};

inline constexpr parity_case mcnn_parity[] = {
    {"MCNN", "mcnn", &MCNN<from_data, false, true>::build},
};

}  // namespace rsseg
