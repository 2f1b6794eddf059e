// SPDX-License-Identifier: MIT
// Iterative refinement after Li, Hariharan, Malik ("Iterative instance segmentation", CVPR 2016, Fig. 1): one network looks at the image
// and at its own previous prediction, several times. The refiner is ours, a small hypercolumn net (the paper's taps are not published):
//   [image, probabilities] -> 3x3 16, 3x3 16 | pool, 3x3 32 twice | pool, 3x3 64 twice; ReLU; a 1x1 to K per level, brought to the
//   image's extent and summed                                                                                          (N,K,H,W)
// Steps share their weights. Between steps the prediction is data: no gradient goes through it (the paper); Through = true lets it pass.
// ISSRefiner refines any network's scores ("logits0"); in training every step has the loss, the last one the map that is written.
// Residual: a step adds to the scores it was given, and its classifiers start at zero, so that an untrained refiner leaves the map as it is.
// The registered network is of that kind: what replaces the map has to learn first what the segmenter knows already.
#pragma once
#include "rsseg/layers/conv_block.hpp"
#include "rsseg/nets/entry.hpp"

namespace rsseg {

namespace detail {
/// Two 3x3 convolutions with ReLU, named 0 and 2 in scope `name`.
constexpr value iss_pair(builder& b, std::string_view name, value x, int out) {
  const scope s(b, name);
  return relu(b, conv(b, "2", relu(b, conv(b, "0", x, out, {.kernel = 3})), out, {.kernel = 3}));
}
}  // namespace detail

/// One step: scores from the image (N,B,H,W) and the previous probabilities (N,K,H,W). zero: the classifiers start at zero.
constexpr value iss_step(builder& b, value image, value probabilities, int classes, bool zero = false) {
  value y = concat(b, image, probabilities);
  value parts[3];
  for (int i = 0; i < 3; ++i) {
    if (i > 0) y = max_pool(b, y);
    y = detail::iss_pair(b, numbered("b", i + 1), y, 16 << i);
    parts[i] = zero ? zero_conv(b, numbered("h", i + 1), y, classes) : conv(b, numbered("h", i + 1), y, classes);
    if (i > 0) parts[i] = resize_like(b, parts[i], image);
  }
  return graph::ops::add(b, parts, 3);
}

/// Steps: number of refinements. KeepSteps: the earlier predictions are outputs of inference, too.
template <int Classes = from_data, int Steps = 3, bool Through = false, bool KeepSteps = false, bool Residual = false>
struct ISSRefiner {
  static_assert(Steps >= 1 && Steps < 10);
  static constexpr void build(builder& b) {
    const int k = b.classes(Classes);
    const value image = b.input("image", from_data), first = b.input("logits0", k);
    value y[Steps], before = first, p = softmax(b, first);
    for (int t = 0; t < Steps; ++t) {
      const shared_weights shared(b, t > 0);
      y[t] = iss_step(b, image, p, k, Residual);
      if (Residual) y[t] = add(b, before, y[t]);
      before = Through ? y[t] : graph::ops::stop_gradient(b, y[t]);
      p = softmax(b, y[t]);
      if (!Through) p = graph::ops::stop_gradient(b, p);
    }
    b.output("logits", y[Steps - 1], 1);
    for (int t = 0; t + 1 < Steps; ++t) b.output(numbered("step", t + 1), y[t], 1, label_rule::resize_logits, false, !KeepSteps);
  }
};

inline constexpr network_entry iss_networks[] = {
    {"iss-refiner", "Iterative segmentation", "Li, Hariharan, Malik, CVPR 2016",
     "three looks at the image and its own last prediction, which each corrects; refiner is ours",
     &ISSRefiner<from_data, 3, false, false, true>::build, recipe{"adamw", 2e-3, 0.9, 1e-4, "poly", 4, 256}, 1, 0, 4, false},
};

}  // namespace rsseg
