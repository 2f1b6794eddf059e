// SPDX-License-Identifier: MIT
// MCNN (Zhao, Du, ISPRS J. 113, 2016): a patch CNN shared by the levels of an image pyramid; its features and the pixel's spectrum go into a
// multinomial logistic regression, whose labels a majority vote smooths.
//   patch (N,B,28,28) -> 5x5 32, ReLU, pool, 5x5 64, ReLU, pool, 1024 -> 128, ReLU | pre-training head: 128 -> K
//   three patches around one ground point, one per level, 3 x 128 + B -> K                                    (N,K,1,1)
// MCNNFeatures trains the CNN on patches of all levels; MCNN is the classifier on top, which the paper trains with the CNN frozen. The
// pyramid (5-tap binomial, every second pixel), reflection at the border and the vote are steps around the network. Sizes are ours.
#pragma once
#include "rsseg/graph/ops/arrange.hpp"
#include "rsseg/layers/basic.hpp"
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
    b.output("logits", linear(b, "cls", detail::mcnn_features(b, b.input("x", from_data)), b.classes(Classes)), 1);
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

inline constexpr network_entry mcnn_networks[] = {
    {"mcnn-features", "MCNN, patch network", "Zhao, Du, ISPRS J. 2016", "28x28 patches, one label each", &MCNNFeatures<>::build,
     recipe{"sgd", 0.01, 0.9, 1e-4, "poly", 64, 28}, 28, 0, 28, false},
    {"mcnn", "MCNN", "Zhao, Du, ISPRS J. 2016", "logistic regression on features of three pyramid levels and the spectrum", &MCNN<>::build,
     recipe{"sgd", 0.01, 0.9, 1e-4, "poly", 64, 28}, 28, 0, 28, false},
};

inline constexpr parity_case mcnn_parity[] = {
    {"MCNN", "mcnn", &MCNN<from_data, false, true>::build},
};

}  // namespace rsseg
