// SPDX-License-Identifier: MIT
// ScasNet (Liu, Fan, Wang, Bai, Xiang, Pan, ISPRS J. 145, 2018, Figs. 2 and 4), VGG form: contexts are added one after another from wide to
// narrow, and finer maps after them; every sum is repaired by a residual correction.
//   VGG-16 with 3x3 ceil pools, the last two with stride 1, group 5 dilated by 2                              (N,512,h,w) at stride 8
//   contexts d = 6, 12, 18, 24: 3x3 dilation d to 1024, ReLU, dropout 0.5, 1x1 512, ReLU; added 24 + 18, + 12, + 6
//   + conv5_3, + conv4_3 (each through 1x1 and ReLU), up to conv3_3's extent, + conv3_3; 3x3 256, 1x1 K; corners aligned everywhere
//   F(a, b; m, o): t = a + b, out = ReLU(1x1_o(t + 1x1(ReLU(3x3_m(ReLU(1x1_m(t)))))))
// Layer by layer after the authors' Caffe file.
#pragma once
#include "rsseg/layers/conv_block.hpp"
#include "rsseg/nets/entry.hpp"
#include "rsseg/nets/vgg.hpp"

namespace rsseg {

/// Sum of two maps with residual correction (`mid` channels inside), brought to `out` channels.
constexpr value corrected_sum(builder& b, std::string_view name, value x, value y, int mid, int out) {
  const scope s(b, name);
  const value t = add(b, x, y);
  value r = relu(b, conv(b, "a", t, mid));
  r = relu(b, conv(b, "b", r, mid, {.kernel = 3}));
  return relu(b, conv(b, "reduce", add(b, t, conv(b, "c", r, t.channels)), out));
}

template <int Classes = from_data>
struct ScasNet {
  struct maps {
    value scores;   ///< at stride 4
    value resized;  ///< at the input's extent
  };
  static constexpr maps parts(builder& b, value x) {
    vgg_features f;
    {
      const scope s(b, "st");
      vgg_options o = vgg_large_fov();
      o.ceil_mode = true, o.naming = vgg_naming::by_group;
      f = vgg(b, x, o);
    }
    value context[4];
    for (int i = 0; i < 4; ++i) {
      const value y = relu(b, conv(b, numbered("fc.", i), f.out, 1024, {.kernel = 3, .dilation = 6 * (i + 1)}));
      context[i] = relu(b, conv(b, numbered("red.", i), dropout(b, y, 0.5), 512));
    }
    value t = corrected_sum(b, "f34", context[3], context[2], 128, 512);
    t = corrected_sum(b, "f234", t, context[1], 128, 512);
    t = corrected_sum(b, "f1234", t, context[0], 128, 512);
    t = corrected_sum(b, "g5", t, relu(b, conv(b, "r5", f.conv[4], 512)), 128, 512);
    t = corrected_sum(b, "g4", t, relu(b, conv(b, "r4", f.conv[3], 512)), 128, 256);
    t = resize_like(b, t, f.conv[2], true);
    t = corrected_sum(b, "g3", t, relu(b, conv(b, "r3", f.conv[2], 256)), 64, 256);
    const value scores = conv(b, "cls", relu(b, conv(b, "last", t, 256, {.kernel = 3})), b.classes(Classes));
    return {scores, resize_like(b, scores, x, true)};
  }
  static constexpr void build(builder& b) { b.output("logits", parts(b, b.input("x", from_data)).resized, 1); }
};

inline constexpr network_entry scasnet_networks[] = {
    {"scasnet", "ScasNet", "Liu et al., ISPRS J. 2018", "VGG form: contexts cascaded from dilation 24 to 6, residual correction of every sum",
     &ScasNet<>::build, recipe{"sgd", 1e-3, 0.9, 5e-4, "poly", 4, 400, 20, "st"}, 1, 0, 16},
};

}  // namespace rsseg
