// SPDX-License-Identifier: MIT
// MFALNet (Lv, Guo, Bao, Fu, Huo, Fang, IEEE GRSL 18(12), 2021): a light network of asymmetric depthwise convolution residual (ADCR)
// units, aggregation of scales in encoder and decoder, spatial self-attention, gated fusion.
//   down 16 (1/2) | down 64, 5 ADCR (1/4) | down 128, 8 ADCR dilated 2 4 8 16 2 4 8 16 (1/8) | concat of the three at 1/8, 1x1 128, attention
//   gated fusion with 1/4 (64), then with 1/2 (16) | concat of all three at 1/2 (48), 3x3 32, 1x1 K, bilinear x2
// Only the abstract is public; widths, depths and the units' order (after ERFNet's factorised residual unit) are ours.
#pragma once
#include "rsseg/layers/attention.hpp"
#include "rsseg/layers/conv_block.hpp"
#include "rsseg/nets/entry.hpp"
#include "rsseg/nets/parity_case.hpp"

namespace rsseg {

/// Strided convolution beside a pool, as ENet's initial block: (N,C,H,W) -> (N,out,H/2,W/2).
constexpr value conv_pool_down(builder& b, std::string_view name, value x, int out) {
  const scope s(b, name);
  const value learned = conv(b, "conv", x, out - x.channels, {.kernel = 3, .stride = 2, .bias = false});
  return relu(b, batch_norm(b, "bn", concat(b, learned, max_pool(b, x, {.ceil_mode = true}))));
}

/// ADCR unit: x + two rounds of [3x1 and 1x3 depthwise, BN, ReLU, 1x1, BN]; the second round dilated. (N,C,H,W) -> the same.
constexpr value adcr_unit(builder& b, value x, int dilation = 1, double drop = 0) {
  value y = x;
  for (int round = 0; round < 2; ++round) {
    const int d = round == 0 ? 1 : dilation, c = x.channels, first = 2 * round + 1;
    y = conv(b, numbered("dw", first), y, c, {.kernel = 3, .kernel_w = 1, .dilation = d, .groups = 0, .bias = false});
    y = conv(b, numbered("dw", first + 1), y, c, {.kernel = 1, .kernel_w = 3, .dilation = d, .groups = 0, .bias = false});
    y = relu(b, batch_norm(b, numbered("bn", first), y));
    y = batch_norm(b, numbered("bn", first + 1), conv(b, numbered("pw", round + 1), y, c, {.bias = false}));
    if (round == 0) y = relu(b, y);
  }
  return relu(b, add(b, x, dropout2d(b, y, drop)));
}

/// ADCR(up(1x1(high)) + gate * low), gate = sigmoid(3x3(concat)); (N,Ch,..) and (N,Cl,H,W) -> (N,Cl,H,W).
constexpr value gated_fusion(builder& b, std::string_view name, value high, value low) {
  const scope s(b, name);
  const value h = resize_like(b, conv_block(b, "proj", high, low.channels, {.kernel = 1}), low);
  const value gate = sigmoid(b, conv(b, "gate", concat(b, h, low), low.channels, {.kernel = 3}));
  const scope refine(b, "ref");
  return adcr_unit(b, add(b, h, mul(b, gate, low)));
}

template <int Classes = from_data>
struct MFALNet {
  static constexpr void build(builder& b) {
    const value x = b.input("x", from_data);
    const value f1 = conv_pool_down(b, "down1", x, 16);
    value f2 = conv_pool_down(b, "down2", f1, 64);
    for (int i = 0; i < 5; ++i) f2 = unit(b, numbered("stage2.", i), f2, 1);
    value f3 = conv_pool_down(b, "down3", f2, 128);
    for (int i = 0; i < 8; ++i) f3 = unit(b, numbered("stage3.", i), f3, 2 << i % 4);
    const value near = avg_pool(b, f1, {.kernel = 4, .ceil_mode = true, .count_inside = true}),
                mid = avg_pool(b, f2, {.kernel = 2, .ceil_mode = true, .count_inside = true});
    value e = conv_block(b, "agg_enc", concat(b, near, mid, f3), 128, {.kernel = 1});
    {
      const scope s(b, "att");
      e = self_attention2d(b, e);
    }
    const value d2 = gated_fusion(b, "g2", e, f2), d1 = gated_fusion(b, "g1", d2, f1);
    const value from_e = resize_like(b, conv_block(b, "p3", e, 16, {.kernel = 1}), d1);
    const value from_d2 = resize_like(b, conv_block(b, "p2", d2, 16, {.kernel = 1}), d1);
    const value y = conv(b, "cls", conv_block(b, "agg_dec", concat(b, from_e, from_d2, d1), 32), b.classes(Classes));
    b.output("logits", resize_like(b, y, x), 1);
  }

 private:
  static constexpr value unit(builder& b, std::string_view name, value x, int dilation) {
    const scope s(b, name);
    return adcr_unit(b, x, dilation);
  }
};

inline constexpr network_entry mfal_net_networks[] = {
    {"mfalnet", "MFALNet", "Lv et al., IEEE GRSL 2021",
     "light: depthwise factorised residual units, self-attention, gated fusion; rebuilt from the abstract", &MFALNet<>::build,
     recipe{"adam", 5e-4, 0.9, 1e-4, "poly", 8, 512}, 1, 0, 8},
};

inline constexpr parity_case mfal_net_parity[] = {
    {"mfalnet", "own reconstruction, K=6", &MFALNet<>::build},
};

}  // namespace rsseg
