// SPDX-License-Identifier: MIT
// BiSeNet v1 (Yu, Wang, Peng, Gao, Yu, Sang, ECCV 2018, Fig. 2): a wide shallow spatial path (stride 8) beside a deep context path.
//   spatial:  CBR 7x7/2 64, CBR 3x3/2 64, CBR 3x3/2 64, CBR 1x1 128                                    (N,128,H/8,W/8)
//   context:  ResNet-18 -> c4, c5; attention refinement of both, plus the global mean; nearest x2 twice (N,128,H/8,W/8)
//   fusion:   concat, CBR 1x1 256, out = f + f * attention(f); head 3x3 256, 1x1 K; two auxiliary heads in training, all losses weight 1.
// After CoinCheung/BiSeNet. The fusion's attention there is 1x1, BN, sigmoid; bisenet_fusion::paper has the paper's 1x1, ReLU, 1x1,
// sigmoid. The paper trains with OHEM. Scores are brought to the input's extent bilinearly, so any size is legal.
#pragma once
#include "rsseg/nets/entry.hpp"
#include "rsseg/nets/resnet.hpp"

namespace rsseg {

enum class bisenet_fusion { reference, paper };

namespace detail {
/// conv -> BN -> ReLU in name.conv, name.bn.
constexpr value bisenet_cbr(builder& b, std::string_view name, value x, int out, int kernel = 3, int stride = 1) {
  const scope s(b, name);
  return conv_bn_relu(b, "conv", "bn", x, out, {.kernel = kernel, .stride = stride});
}
/// sigmoid(BN(1x1(mean of f))): (N,C,1,1).
constexpr value bisenet_gate(builder& b, std::string_view conv_name, std::string_view norm_name, value f) {
  return sigmoid(b, conv_bn(b, conv_name, norm_name, global_avg_pool(b, f), f.channels));
}
}  // namespace detail

/// Attention refinement module: (N,C,H,W) -> (N,out,H,W).
constexpr value attention_refinement(builder& b, value x, int out) {
  const value f = detail::bisenet_cbr(b, "conv", x, out);
  return graph::ops::mul_broadcast(b, f, detail::bisenet_gate(b, "conv_atten", "bn_atten", f));
}

/// Feature fusion module: two maps of one extent -> (N,out,H,W).
constexpr value feature_fusion(builder& b, value spatial, value context, int out, bisenet_fusion kind = bisenet_fusion::reference) {
  const value f = detail::bisenet_cbr(b, "convblk", concat(b, spatial, context), out, 1);
  value gate;
  if (kind == bisenet_fusion::paper) {
    gate = relu(b, conv(b, "conv1", global_avg_pool(b, f), out / 4, {.bias = false}));
    gate = sigmoid(b, conv(b, "conv2", gate, out, {.bias = false}));
  } else {
    gate = detail::bisenet_gate(b, "conv", "bn", f);
  }
  return add(b, f, graph::ops::mul_broadcast(b, f, gate));
}

/// KeepHeads: the auxiliary maps are outputs of inference, too.
template <int Classes = from_data, bisenet_fusion Fusion = bisenet_fusion::reference, bool KeepHeads = false>
struct BiSeNet {
  static constexpr void build(builder& b) {
    const value x = b.input("x", from_data);
    value half, eighth;  // context at 1/16 and 1/8
    {
      const scope s(b, "cp");
      context_path(b, x, half, eighth);
    }
    value spatial;
    {
      const scope s(b, "sp");
      spatial = detail::bisenet_cbr(b, "conv1", x, 64, 7, 2);
      spatial = detail::bisenet_cbr(b, "conv2", spatial, 64, 3, 2);
      spatial = detail::bisenet_cbr(b, "conv3", spatial, 64, 3, 2);
      spatial = detail::bisenet_cbr(b, "conv_out", spatial, 128, 1);
    }
    value fused;
    {
      const scope s(b, "ffm");
      fused = feature_fusion(b, spatial, eighth, 256, Fusion);
    }
    b.output("logits", head(b, "conv_out", fused, 256, x), 1);
    if (!b.training() && !KeepHeads) return;
    b.output("aux16", head(b, "conv_out16", eighth, 64, x), 1, label_rule::resize_logits, false, !KeepHeads);
    b.output("aux32", head(b, "conv_out32", half, 64, x), 1, label_rule::resize_logits, false, !KeepHeads);
  }

 private:
  static constexpr value refine(builder& b, std::string_view name, value x) {
    const scope s(b, name);
    return attention_refinement(b, x, 128);
  }
  static constexpr void context_path(builder& b, value x, value& half, value& eighth) {
    resnet_features f;
    {
      const scope s(b, "resnet");
      f = resnet(b, x, resnet_of_depth(18));
    }
    const value mean = detail::bisenet_cbr(b, "conv_avg", global_avg_pool(b, f.c5), 128, 1);
    value y = graph::ops::add_broadcast(b, refine(b, "arm32", f.c5), mean);
    half = detail::bisenet_cbr(b, "conv_head32", resize_like(b, y, f.c4, false, interpolation::nearest), 128);
    y = add(b, refine(b, "arm16", f.c4), half);
    eighth = detail::bisenet_cbr(b, "conv_head16", resize_like(b, y, f.c3, false, interpolation::nearest), 128);
  }
  static constexpr value head(builder& b, std::string_view name, value x, int width, value like) {
    const scope s(b, name);
    const value y = conv(b, "conv_out", detail::bisenet_cbr(b, "conv", x, width), b.classes(Classes));
    return resize_like(b, y, like);
  }
};

/// The reference's recipe: cross entropy over pixels with p < 0.7, at least a sixteenth of them.
inline constexpr recipe bisenet_recipe{"sgd", 0.01, 0.9, 5e-4, "poly", 8, 1024, 10, "cp,sp", "ohem:threshold=0.7,kept=0.0625"};

inline constexpr network_entry bisenet_networks[] = {
    {"bisenet", "BiSeNet v1", "Yu et al., ECCV 2018", "spatial path beside a ResNet-18 context path; two auxiliary heads", &BiSeNet<>::build,
     bisenet_recipe, 1, 0, 32},
    {"bisenet-paper-ffm", "BiSeNet v1", "Yu et al., ECCV 2018", "the paper's two-layer attention in the fusion module",
     &BiSeNet<from_data, bisenet_fusion::paper>::build, bisenet_recipe, 1, 0, 32},
};

}  // namespace rsseg
