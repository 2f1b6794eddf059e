// SPDX-License-Identifier: MIT
// FuseNet (Hazirbas, Ma, Domokos, Cremers, ACCV 2016, Fig. 2, the sparse-fusion form SF5): two VGG-16 encoders, the height (depth) map's
// features are added to the colours' after each of the five blocks, in front of the pool; decoder as SegNet's.
//   rgb (N,B,H,W), depth (N,1,H,W): nDSM in metres, clipped and scaled, takes the place of depth
//   blocks 64x2, 128x2, 256x3, 512x3, 512x3 (conv with bias, BN, ReLU); colours pool the sum and keep the indices, depth pools its own
//   decoder: unpool, then 512 512 512 | 512 512 256 | 256 256 128 | 128 64 | 64 K; dropout 0.5 behind pools 3 to 5 and decoder blocks 5 to 3
// Names after zanilzanzan/FuseNet_PyTorch. Sides are at least 32.
#pragma once
#include "rsseg/layers/conv_block.hpp"
#include "rsseg/nets/entry.hpp"
#include "rsseg/nets/parity_case.hpp"

namespace rsseg {

template <int Classes = from_data, int Width = 64>
struct FuseNet {
  static constexpr void build(builder& b) {
    const value inputs[] = {b.input("rgb", from_data), b.input("depth", 1)};
    b.output("logits", scores(b, inputs, 2), 1);
  }

  /// inputs[0] is fused into; every other input has an encoder of its own, whose features are added.
  static constexpr value scores(builder& b, const value* inputs, int count) {
    constexpr int convs[] = {2, 2, 3, 3, 3}, widths[] = {Width, 2 * Width, 4 * Width, 8 * Width, 8 * Width};
    value rgb = inputs[0], depth[build_options::most_modalities];
    for (int m = 1; m < count; ++m) depth[m] = inputs[m];
    value before[5], index[5];
    for (int i = 0; i < 5; ++i) {
      before[i] = block(b, numbered("CBR", i + 1, "_RGB"), rgb, convs[i], widths[i], widths[i]);
      for (int m = 1; m < count; ++m) {
        const scope other(b, m > 1 ? numbered("input", m) : std::string_view());
        value d = depth[m];
        if (i == 0) {  // the reference keeps the first convolution of this branch apart
          d = conv(b, "conv11d", d, widths[0], {.kernel = 3});
          const scope s(b, "CBR1_D");
          d = conv_block_biased(b, "2", "3", relu(b, batch_norm(b, "0", d)), widths[0]);
        } else {
          d = block(b, numbered("CBR", i + 1, "_D"), d, convs[i], widths[i], widths[i]);
        }
        before[i] = add(b, before[i], d);
        if (i < 4) depth[m] = i >= 2 ? dropout(b, max_pool(b, d), 0.5) : max_pool(b, d);
      }
      const graph::ops::pooled p = max_pool_indices(b, before[i]);
      index[i] = p.index;
      rgb = i >= 2 ? dropout(b, p.y, 0.5) : p.y;
    }
    value y = rgb;
    for (int i = 4; i > 0; --i) {
      y = max_unpool(b, y, index[i], before[i]);
      y = block(b, numbered("CBR", i + 1, "_Dec"), y, convs[i], widths[i], widths[i - 1]);
      if (i >= 2) y = dropout(b, y, 0.5);
    }
    y = max_unpool(b, y, index[0], before[0]);
    const scope s(b, "CBR1_Dec");
    y = conv_block_biased(b, "0", "1", y, widths[0]);
    return conv(b, "3", y, b.classes(Classes), {.kernel = 3});
  }

 private:
  /// `count` convolutions to `width`, the last one to `out`.
  static constexpr value block(builder& b, std::string_view name, value x, int count, int width, int out) {
    const scope s(b, name);
    for (int k = 0; k < count; ++k) x = conv_block_biased(b, numbered("", 3 * k), numbered("", 3 * k + 1), x, k == count - 1 ? out : width);
    return x;
  }
};

inline constexpr network_entry fusenet_networks[] = {
    {"fusenet", "FuseNet", "Hazirbas et al., ACCV 2016", "colour and height encoders fused by sums; a second input `depth`", &FuseNet<>::build,
     recipe{"sgd", 0.005, 0.9, 5e-4, "step", 4, 256, 1, "", "ce", "median-frequency"}, 1, 0, 32, false},
};

inline constexpr parity_case fusenet_parity[] = {
    {"fusenet", "FuseNet-SF5, 6 classes, no scene-classification head", &FuseNet<>::build},
};

}  // namespace rsseg
