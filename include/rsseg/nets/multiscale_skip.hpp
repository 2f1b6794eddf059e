// SPDX-License-Identifier: MIT
// Multi-scale skip connection network (Ma et al. 2022): a U-Net whose encoder dilates and whose decoder levels each see all scales.
//   encoder level i = 0..4: 3x3 to Width * 2^i, 3x3 dilation 2; pool 2x2 between levels
//   decoder level i = 3..0: from every level j: encoder j pooled by 2^(i-j) (j <= i) or decoder j up-sampled (j > i; j = 4 is the encoder's),
//     3x3 to Skip each, concat (5 Skip), 3x3 5 Skip; then 1x1 to K at full resolution
// Known from its abstract only: widths and the dilation (rate 2 in the second convolution of a level) are ours. Several modalities are
// stacked into the input's bands. The 3x3 at full resolution dominates the cost.
#pragma once
#include "rsseg/layers/conv_block.hpp"
#include "rsseg/nets/entry.hpp"
#include "rsseg/nets/parity_case.hpp"

namespace rsseg {

template <int Classes = from_data, int Width = 64, int Skip = 64, int Dilation = 2>
struct MultiScaleSkip {
  static constexpr void build(builder& b) {
    const value x = b.input("x", from_data);
    value encoder[5], decoder[5];
    for (int i = 0; i < 5; ++i)
      encoder[i] = double_conv_block(b, numbered("enc.", i), i == 0 ? x : max_pool(b, encoder[i - 1]), Width << i, Dilation);
    decoder[4] = encoder[4];
    for (int i = 3; i >= 0; --i) {
      value parts[5];
      {
        const scope s(b, numbered("skip.", i));
        for (int j = 0; j < 5; ++j) {
          value z = j <= i ? encoder[j] : resize_like(b, decoder[j], encoder[i]);
          if (j < i) z = max_pool(b, z, {.kernel = 1 << (i - j)});
          parts[j] = conv_block(b, numbered("", j), z, Skip);
        }
      }
      decoder[i] = conv_block(b, numbered("merge.", i), graph::ops::concat(b, parts, 5), 5 * Skip);
    }
    b.output("logits", conv(b, "cls", decoder[0], b.classes(Classes)), 1);
  }
};

inline constexpr network_entry multiscale_skip_networks[] = {
    {"multiscale-skip", "Multi-scale skip network", "Ma et al. 2022", "dilated encoder, full-scale skips; rebuilt from the abstract",
     &MultiScaleSkip<>::build, recipe{"adam", 1e-3, 0.9, 1e-4, "poly", 8, 256}, 1, 0, 16},
    {"multiscale-skip-32", "Multi-scale skip network", "Ma et al. 2022", "half the width (ours)", &MultiScaleSkip<from_data, 32, 32>::build,
     recipe{"adam", 1e-3, 0.9, 1e-4, "poly", 8, 256}, 1, 0, 16},
};

inline constexpr parity_case multiscale_skip_parity[] = {
    {"Ma et al. multi-scale skip network", "multiscale-skip-unet", &MultiScaleSkip<from_data, 32, 32>::build},
};

}  // namespace rsseg
