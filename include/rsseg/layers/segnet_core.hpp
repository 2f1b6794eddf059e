// SPDX-License-Identifier: MIT
// SegNet's encoder and decoder as a part of larger networks (Badrinarayanan, Kendall, Cipolla, TPAMI 2017): the pools' indices tell the
// decoder where to put its values. The decoder's stages are what edge networks tap.
#pragma once
#include "rsseg/layers/conv_block.hpp"

namespace rsseg {

struct segnet_core_options {
  int width = 64;      ///< of the first block; 64, 128, 256, 512, 512 in the paper
  int last = 0;        ///< channels of the last convolution, which has ReLU but no norm; 0: width
  double dropout = 0;  ///< in front of every pool
};

/// Outputs of the five decoder stages, deepest first: strides 16, 8, 4, 2, 1 and 8, 4, 2, 1 x width, then `last` channels.
struct segnet_stages {
  value stage[5];
};

/// x (N,C,H,W), parameters enc.i.k.{0,1} and dec.i.k.{0,1}. Sides are at least 32.
constexpr segnet_stages segnet_core(builder& b, value x, const segnet_core_options& o = {}) {
  constexpr int convs[] = {2, 2, 3, 3, 3}, factor[] = {1, 2, 4, 8, 8};
  value before[5], index[5];
  for (int i = 0; i < 5; ++i) {
    const scope s(b, numbered("enc.", i));
    for (int k = 0; k < convs[i]; ++k) x = conv_block_biased(b, numbered("", k, ".0"), numbered("", k, ".1"), x, factor[i] * o.width);
    before[i] = dropout(b, x, o.dropout);
    const graph::ops::pooled p = max_pool_indices(b, before[i]);
    index[i] = p.index, x = p.y;
  }
  segnet_stages out;
  for (int j = 0; j < 5; ++j) {
    const int i = 4 - j, width = factor[i] * o.width;
    const scope s(b, numbered("dec.", j));
    x = max_unpool(b, x, index[i], before[i]);
    for (int k = 0; k + 1 < convs[i]; ++k) x = conv_block_biased(b, numbered("", k, ".0"), numbered("", k, ".1"), x, width);
    const numbered conv_name("", convs[i] - 1, ".0"), norm_name("", convs[i] - 1, ".1");
    if (i > 0)
      x = conv_block_biased(b, conv_name, norm_name, x, factor[i - 1] * o.width);
    else
      x = relu(b, conv(b, conv_name, x, o.last > 0 ? o.last : o.width, {.kernel = 3}));
    out.stage[j] = x;
  }
  return out;
}

}  // namespace rsseg
