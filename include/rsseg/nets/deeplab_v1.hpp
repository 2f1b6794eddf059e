// SPDX-License-Identifier: MIT
// DeepLab v1 LargeFOV (Chen, Papandreou, Kokkinos, Murphy, Yuille, ICLR 2015): VGG-16 that stays at stride 8 by dilation, and a
// classifier with a large field of view.
//   VGG-16, pools 3x3, the last two with stride 1, group 5 dilated by 2, then average 3x3                     (N,512,(H-1)/8+1,(W-1)/8+1)
//   fc6 3x3 dilation 12 to 1024, fc7 1x1 1024, dropout 0.5 each, fc8 1x1 to K; labels are subsampled to the scores in training
// The paper smooths the result with a dense CRF (refine/dense_crf.hpp). Parameter names follow one Sequential.
#pragma once
#include "rsseg/layers/conv_block.hpp"
#include "rsseg/nets/entry.hpp"
#include "rsseg/nets/vgg.hpp"

namespace rsseg {

namespace detail {
/// fc6 and fc7 of the LargeFOV trunk on x (N,512,h,w): (N,Width,h,w).
constexpr value large_fov_classifier(builder& b, value x, int width) {
  const value y = dropout(b, relu(b, conv(b, "fc6", x, width, {.kernel = 3, .dilation = 12})), 0.5);
  return dropout(b, relu(b, conv(b, "fc7", y, width)), 0.5);
}
/// The trunk, in scope `features`.
constexpr value large_fov_trunk(builder& b, value x) {
  const scope s(b, "features");
  return vgg(b, x, vgg_large_fov()).out;
}
}  // namespace detail

template <int Classes = from_data, int Width = 1024>
struct DeepLabV1 {
  /// Scores at stride 8.
  static constexpr value scores(builder& b, value x) {
    const value trunk = avg_pool(b, detail::large_fov_trunk(b, x), {.kernel = 3, .stride = 1, .padding = 1});
    return conv(b, "fc8", detail::large_fov_classifier(b, trunk, Width), b.classes(Classes));
  }
  static constexpr void build(builder& b) {
    const value x = b.input("x", from_data);
    output_scores(b, scores(b, x), x, label_rule::resize_labels, true);
  }
};

inline constexpr network_entry deeplab_v1_networks[] = {
    {"deeplabv1", "DeepLab v1 LargeFOV", "Chen et al., ICLR 2015", "VGG-16 dilated to stride 8, fc6 with dilation 12", &DeepLabV1<>::build,
     recipe{"sgd", 1e-3, 0.9, 5e-4, "step", 20, 321, 10, "features,fc6,fc7"}, 1, 0, 8},
};

}  // namespace rsseg
