// SPDX-License-Identifier: MIT
// AWMF-CNN (Tokunaga, Teramoto, Yoshizawa, Bise, "Adaptive weighting multi-field-of-view CNN for semantic segmentation in pathology",
// CVPR 2019, Fig. 3): one expert per field of view, weighted by what the images show.
//   inputs x10, x5, x2_5: (N,B,H,W) each, centred on one point; x5 shows twice, x2_5 four times the field of x10 at the same extent
//   expert k: U-Net (Base to 8 Base); softmax; its centre 1 / 2^k brought to (H,W), bilinear
//   weighting: [three images] 3x3/2 BN ReLU 16, 32, 64, mean, linear to 3, sigmoid: one scalar per expert and image
//   aggregation: [weighted maps, 3K] 3x3 BN ReLU 32 twice, 1x1 to K                                                     (N,K,H,W)
// Experts are trained first (AWMFExpert<0..2>, same parameter names), then weighting and aggregation with experts fixed (Fixed = true), then
// all together. Sides are multiples of 8. The experts' form, the weighting net and its sigmoid are ours: the paper leaves them open.
// In remote sensing a field of view is the scene around the tile, down-sampled by 1, 2 and 4.
#pragma once
#include "rsseg/graph/ops/arrange.hpp"
#include "rsseg/layers/conv_block.hpp"
#include "rsseg/nets/entry.hpp"
#include "rsseg/nets/parity_case.hpp"

namespace rsseg {

namespace detail {
/// U-Net of four levels with transposed convolutions: (N,B,H,W) -> (N,classes,H,W). Names e.*, u.*, d.*, out.
constexpr value awmf_expert(builder& b, value x, int classes, int base) {
  constexpr int depth = 4;
  value encoder[depth];
  for (int i = 0; i < depth; ++i) x = encoder[i] = double_conv_block(b, numbered("e.", i), i ? max_pool(b, x) : x, base << i);
  for (int i = depth - 2; i >= 0; --i) {
    const value up = conv_transpose(b, numbered("u.", i), x, base << i, {.kernel = 2, .stride = 2});
    x = double_conv_block(b, numbered("d.", i), concat(b, encoder[i], up), base << i);
  }
  return conv(b, "out", x, classes);
}
}  // namespace detail

/// One expert alone, its parameters named as in the whole network. Which: 0 (x10), 1 (x5), 2 (x2_5).
template <int Which = 0, int Classes = from_data, int Base = 64>
struct AWMFExpert {
  static constexpr void build(builder& b) {
    const value x = b.input("x", from_data);
    const scope s(b, numbered("expert.", Which));
    b.output("logits", detail::awmf_expert(b, x, b.classes(Classes), Base), 1);
  }
};

/// Fixed: the experts are not trained. KeepWeights: the three weights (N,3,1,1) are an output.
template <int Classes = from_data, int Base = 64, bool Fixed = false, bool KeepWeights = false>
struct AWMFCNN {
  static constexpr void build(builder& b) {
    namespace ops = graph::ops;
    const int k = b.classes(Classes);
    const value x[] = {b.input("x10", from_data), b.input("x5", from_data), b.input("x2_5", from_data)};
    value parts[3];
    for (int i = 0; i < 3; ++i) {
      const scope s(b, numbered("expert.", i));
      value y = softmax(b, detail::awmf_expert(b, x[i], k, Base));
      if (Fixed) y = ops::stop_gradient(b, y);
      const double margin = (1 - 1.0 / (1 << i)) / 2;
      parts[i] = i == 0 ? y : resize_like(b, ops::crop_window(b, y, margin, margin, 1, 1 << i), x[0]);
    }
    value w = ops::concat(b, x, 3);
    for (int i = 0; i < 3; ++i) w = conv_block(b, numbered("weigh.", i), w, 16 << i, {.kernel = 3, .stride = 2});
    w = sigmoid(b, linear(b, "fc", global_avg_pool(b, w), 3));
    for (int i = 0; i < 3; ++i) parts[i] = ops::mul_broadcast(b, parts[i], ops::slice(b, w, i, 1));
    value y = ops::concat(b, parts, 3);
    for (int i = 0; i < 2; ++i) y = conv_block(b, numbered("aggr.", i), y, 32);
    b.output("logits", conv(b, "aggr.2", y, k), 1);
    if (KeepWeights) b.output("weights", w);
  }
};

inline constexpr network_entry awmf_cnn_networks[] = {
    {"awmf-cnn", "AWMF-CNN", "Tokunaga et al., CVPR 2019", "three fields of view, weights from the images; inputs x10, x5, x2_5", &AWMFCNN<>::build,
     recipe{"adam", 1e-3, 0.9, 0, "constant", 8, 256}, 8, 0, 16, false},
    {"awmf-cnn-fixed-experts", "AWMF-CNN, stages 3 to 5", "Tokunaga et al., CVPR 2019", "weighting and aggregation on fixed experts",
     &AWMFCNN<from_data, 64, true>::build, recipe{"adam", 1e-3, 0.9, 0, "constant", 8, 256}, 8, 0, 16, false},
    {"awmf-expert-x10", "AWMF-CNN, expert", "Tokunaga et al., CVPR 2019", "the U-Net of the narrowest field of view", &AWMFExpert<0>::build,
     recipe{"adam", 1e-3, 0.9, 0, "constant", 8, 256}, 8, 0, 16},
    {"awmf-expert-x5", "AWMF-CNN, expert", "Tokunaga et al., CVPR 2019", "the U-Net of the middle field of view", &AWMFExpert<1>::build,
     recipe{"adam", 1e-3, 0.9, 0, "constant", 8, 256}, 8, 0, 16},
    {"awmf-expert-x2-5", "AWMF-CNN, expert", "Tokunaga et al., CVPR 2019", "the U-Net of the widest field of view", &AWMFExpert<2>::build,
     recipe{"adam", 1e-3, 0.9, 0, "constant", 8, 256}, 8, 0, 16},
};

inline constexpr parity_case awmf_cnn_parity[] = {
    {"AWMF-CNN", "awmf-cnn", &AWMFCNN<from_data, 16, false, true>::build},
};

}  // namespace rsseg
