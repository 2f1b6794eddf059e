// SPDX-License-Identifier: MIT
// RefineNet (Lin, Milan, Shen, Reid, CVPR 2017, Figs. 2 and 3): a cascade of four refinement blocks from c5 to c2 of a plain ResNet;
// identity paths run through all of it, no norm in the decoder.
//   RCU   y = x + 3x3(ReLU(3x3(ReLU(x)))), first convolution with bias, second without
//   block two RCUs per input -> 3x3 each, the coarser one up-sampled, summed -> ReLU, chained pooling (4 x [max 5x5, 3x3], each added) -> 3 RCUs
//   widths 512 (c5) and 256; dropout 0.5 on c5, c4 and in front of the 3x3 classifier; scores at stride 4, brought to the labels' extent
// Ours: units begin as the identity and links of pooling small; with weights of the usual size and no norm, sums of sums begin at 1e4.
// Names after DrSleep/refinenet-pytorch. Up-sampling always to the extent of the next finer map, so odd sizes are fine.
#pragma once
#include "rsseg/layers/conv_block.hpp"
#include "rsseg/nets/entry.hpp"
#include "rsseg/nets/resnet.hpp"

namespace rsseg {

/// `count` residual convolution units in sequence; names i_conv and i_conv_relu_varout_dimred.
constexpr value residual_conv_units(builder& b, std::string_view name, value x, int count) {
  const scope s(b, name);
  for (int i = 1; i <= count; ++i) {
    const value y = conv(b, numbered("", i, "_conv"), relu(b, x), x.channels, {.kernel = 3});
    x = add(b, x, conv(b, numbered("", i, "_conv_relu_varout_dimred"), relu(b, y), x.channels, {.kernel = 3, .bias = false, .spread = 0}));
  }
  return x;
}

/// Chained residual pooling: each link pools and convolves the one before, all are added. (N,C,H,W) -> the same.
constexpr value chained_residual_pooling(builder& b, std::string_view name, value x, int links = 4) {
  const scope s(b, name);
  value top = x;
  for (int i = 1; i <= links; ++i) {
    top = conv(b, numbered("", i, "_outvar_dimred"), max_pool(b, top, {.kernel = 5, .stride = 1, .padding = 2}), x.channels,
               {.kernel = 3, .bias = false, .spread = 0.25});
    x = add(b, x, top);
  }
  return x;
}

template <int Depth = 101, int Classes = from_data>
struct RefineNet {
  /// Scores at stride 4.
  static constexpr value scores(builder& b, value x) {
    const resnet_features f = resnet(b, x, resnet_of_depth(Depth));
    const value maps[] = {dropout(b, f.c5, 0.5), dropout(b, f.c4, 0.5), f.c3, f.c2};
    constexpr conv_options plain{.kernel = 3, .bias = false, .spread = 0.58};
    value y;
    for (int i = 0; i < 4; ++i) {
      const int stage = i + 1, width = i == 0 ? 512 : 256;
      value path = conv(b, numbered("p_ims1d2_outl", stage, "_dimred"), maps[i], width, plain);
      path = residual_conv_units(b, numbered("adapt_stage", stage, "_b.0"), path, 2);
      if (i > 0) path = add(b, conv(b, numbered("adapt_stage", stage, "_b2_joint_varout_dimred"), path, width, plain), y);
      y = chained_residual_pooling(b, numbered("mflow_conv_g", stage, "_pool.0"), relu(b, path));
      y = residual_conv_units(b, numbered("mflow_conv_g", stage, "_b.0"), y, 3);
      if (i == 3) break;
      y = resize_like(b, conv(b, numbered("mflow_conv_g", stage, "_b3_joint_varout_dimred"), y, 256, plain), maps[i + 1], true);
    }
    return conv(b, "clf_conv", dropout(b, y, 0.5), b.classes(Classes), {.kernel = 3, .spread = 0.25});
  }
  static constexpr void build(builder& b) {
    const value x = b.input("x", from_data);
    output_scores(b, scores(b, x), x);
  }
};

inline constexpr network_entry refinenet_networks[] = {
    {"refinenet-resnet50", "RefineNet", "Lin et al., CVPR 2017", "cascade of residual refinement blocks, scores at stride 4", &RefineNet<50>::build,
     recipe{"sgd", 5e-4, 0.9, 5e-4, "step", 8, 512}, 1, 0, 32},
    {"refinenet-resnet101", "RefineNet", "Lin et al., CVPR 2017", "cascade of residual refinement blocks, scores at stride 4", &RefineNet<101>::build,
     recipe{"sgd", 5e-4, 0.9, 5e-4, "step", 8, 512}, 1, 0, 32},
};

}  // namespace rsseg
