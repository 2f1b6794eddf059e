// SPDX-License-Identifier: MIT
// SegNet (Badrinarayanan, Kendall, Cipolla: TPAMI 2017, Fig. 2): VGG-16's convolutions as encoder, their mirror image as decoder. The
// decoder unpools with the indices of the encoder's maxima; no feature maps are passed on. x (N,B,H,W) -> logits (N,K,H,W), any size
// from 32: odd rows and columns that a pool drops stay zero after unpooling. The first maximum of a window wins.
// The last layer is a plain convolution, as in the paper; segnet-relu ends with BN and ReLU, as a public reference does.
#pragma once
#include "rsseg/layers/naming.hpp"
#include "rsseg/nets/entry.hpp"
#include "rsseg/nets/parity_case.hpp"

namespace rsseg {

enum class segnet_head { plain, conv_bn_relu };

namespace detail {
/// 3x3 convolution with bias, BN, ReLU: cbr_unit.0, cbr_unit.1.
constexpr value segnet_unit(builder& b, std::string_view name, value x, int out) {
  const scope s(b, name), inner(b, "cbr_unit");
  return relu(b, batch_norm(b, "1", conv(b, "0", x, out, {.kernel = 3})));
}
}  // namespace detail

template <int Classes = from_data, segnet_head Head = segnet_head::plain, int Width = 64>
struct SegNet {
  static constexpr void build(builder& b) {
    constexpr int convs[] = {2, 2, 3, 3, 3}, widths[] = {Width, 2 * Width, 4 * Width, 8 * Width, 8 * Width};
    value y = b.input("x", from_data);
    value before[5], index[5];
    for (int i = 0; i < 5; ++i) {
      const scope s(b, numbered("down", i + 1));
      for (int k = 0; k < convs[i]; ++k) y = detail::segnet_unit(b, numbered("conv", k + 1), y, widths[i]);
      const graph::ops::pooled p = max_pool_indices(b, y);
      before[i] = y, index[i] = p.index, y = p.y;
    }
    for (int i = 4; i >= 0; --i) {
      const scope s(b, numbered("up", i + 1));
      y = max_unpool(b, y, index[i], before[i]);
      for (int k = 0; k < convs[i]; ++k) {
        const bool last = k == convs[i] - 1;
        if (i == 0 && last && Head == segnet_head::plain)
          y = conv(b, numbered("conv", k + 1), y, b.classes(Classes), {.kernel = 3});
        else
          y = detail::segnet_unit(b, numbered("conv", k + 1), y, !last ? widths[i] : i > 0 ? widths[i - 1] : b.classes(Classes));
      }
    }
    b.output("logits", y, 1);
  }
};

namespace detail {
inline constexpr recipe segnet_recipe{.learning_rate = 0.1,
                                      .weight_decay = 5e-4,
                                      .schedule = "constant",
                                      .batch = 12,
                                      .crop = 360,
                                      .backbone = "down",
                                      .class_weights = "median-frequency"};
}
inline constexpr network_entry segnet_networks[] = {
    {"segnet", "SegNet", "Badrinarayanan et al., TPAMI 2017", "unpools with the encoder's pooling indices; plain last convolution", &SegNet<>::build,
     detail::segnet_recipe, 1, 0, 32},
    {"segnet-relu", "SegNet, normalised head", "Badrinarayanan et al., TPAMI 2017", "as segnet; the last convolution is followed by BN and ReLU",
     &SegNet<from_data, segnet_head::conv_bn_relu>::build, detail::segnet_recipe, 1, 0, 32},
};

inline constexpr parity_case segnet_parity[] = {
    {"segnet", "VGG16 encoder, conv+bias+BN+ReLU", &SegNet<from_data, segnet_head::conv_bn_relu>::build},
    {"segnet", "plain final conv (as in the paper)", &SegNet<>::build},
};

}  // namespace rsseg
