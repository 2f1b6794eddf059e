// SPDX-License-Identifier: MIT
// HCANet (Bai, Cheng, Huang, Liu, Deng, IEEE GRSL 2021): a U-shaped network whose skips are compact pyramid poolings (CASPP) of every stage
// of a ResNet, merged level by level, with a wider one (CASPP+) in the middle of the decoder.
//   CASPP(64): 1x1 to 64, then 1x1 and 3x3 dilated 6, 12, 18 and the image's mean (1x1 with bias, no norm), concat, 1x1 64
//   CASPP+: rates 3, 6, 12, 18, and the reduced input itself in the concat
//   t = [CASPP(c5) up, CASPP(c4)] -> 3x3 64 | [up, CASPP(c3)] -> CASPP+ | [up, CASPP(c2)] -> 3x3 64 twice, 1x1 K, bilinear to the input
// Known from its abstract: ResNet-50 as encoder, rates, width and plain (not separable) branches are ours.
#pragma once
#include "rsseg/layers/conv_block.hpp"
#include "rsseg/nets/entry.hpp"
#include "rsseg/nets/resnet.hpp"

namespace rsseg {

/// Which branches a compact pyramid pooling has.
struct caspp_options {
  int out = 64;
  int rates[4] = {6, 12, 18, 0};  ///< of the 3x3 branches; 0: no branch
  bool keep_input = false;        ///< the reduced input joins the concatenation
};
constexpr caspp_options caspp_plus(int out = 64) { return {out, {3, 6, 12, 18}, true}; }

/// (N,C,H,W) -> (N,out,H,W).
constexpr value caspp(builder& b, std::string_view name, value x, const caspp_options& o = {}) {
  const scope s(b, name);
  x = conv_block(b, "reduce", x, o.out, {.kernel = 1});
  graph::list<value> parts;
  parts.push_back(conv_block(b, "b.0", x, o.out, {.kernel = 1}));
  for (int i = 0; i < 4 && o.rates[i] > 0; ++i)
    parts.push_back(conv_block(b, numbered("b.", i + 1), x, o.out, {.kernel = 3, .dilation = o.rates[i]}));
  const value mean = relu(b, conv(b, "pool.0", global_avg_pool(b, x), o.out));
  parts.push_back(graph::ops::broadcast_like(b, mean, x));
  if (o.keep_input) parts.push_back(x);
  return conv_block(b, "fuse", graph::ops::concat(b, parts.begin(), parts.size()), o.out, {.kernel = 1});
}

/// B1..B4: bottlenecks per stage of the encoder (3, 4, 6, 3 is ResNet-50, 3, 4, 23, 3 ResNet-101); Base: its first width.
template <int Classes = from_data, int B1 = 3, int B2 = 4, int B3 = 6, int B4 = 3, int Base = 64, int Width = 64>
struct HCANet {
  /// Scores at stride 4.
  static constexpr value scores(builder& b, value x) {
    const resnet_features f = encoder(b, x);
    const value maps[] = {f.c2, f.c3, f.c4, f.c5};
    value context[4];
    for (int i = 0; i < 4; ++i) context[i] = caspp(b, numbered("ctx.", i), maps[i], {.out = Width});
    value t = conv_block(b, "d4.0", concat(b, resize_like(b, context[3], context[2]), context[2]), Width);
    t = caspp(b, "plus", concat(b, resize_like(b, t, context[1]), context[1]), caspp_plus(Width));
    t = double_conv_block(b, "d2", concat(b, resize_like(b, t, context[0]), context[0]), Width);
    return conv(b, "cls", t, b.classes(Classes));
  }
  static constexpr void build(builder& b) {
    const value x = b.input("x", from_data);
    b.output("logits", resize_like(b, scores(b, x), x), 1);
  }

 private:
  static constexpr resnet_features encoder(builder& b, value x) {
    resnet_options o = resnet_of_depth(50);
    o.blocks[0] = B1, o.blocks[1] = B2, o.blocks[2] = B3, o.blocks[3] = B4;
    o.width = Base;
    resnet_names& n = o.names;
    n.stem_conv[0] = "stem.0", n.stem_norm[0] = "stem.1";
    n.stages[0] = "stages.0", n.stages[1] = "stages.1", n.stages[2] = "stages.2", n.stages[3] = "stages.3";
    n.conv[0] = "reduce", n.conv[1] = "conv", n.conv[2] = "inc";
    n.shortcut_conv = "proj.0", n.shortcut_norm = "proj.1";
    const scope s(b, "enc");
    return resnet(b, x, o);
  }
};

inline constexpr network_entry hcanet_networks[] = {
    {"hcanet", "HCANet", "Bai et al., IEEE GRSL 2021", "compact pyramid pooling of every ResNet-50 stage; rebuilt from the abstract",
     &HCANet<>::build, recipe{"sgd", 0.01, 0.9, 5e-4, "poly", 8, 512}, 1, 0, 32},
    {"hcanet-resnet101", "HCANet", "Bai et al., IEEE GRSL 2021", "the same on ResNet-101", &HCANet<from_data, 3, 4, 23, 3>::build,
     recipe{"sgd", 0.01, 0.9, 5e-4, "poly", 8, 512}, 1, 0, 32},
};

}  // namespace rsseg
