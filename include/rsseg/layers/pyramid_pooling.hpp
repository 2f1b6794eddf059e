// SPDX-License-Identifier: MIT
// Pyramid pooling (Zhao et al., PSPNet, CVPR 2017, Fig. 3): means over b x b regions for several b, each reduced by a 1x1 convolution,
// resized back and put beside the map. (N,C,H,W) -> (N, C + bins * out, H, W), order [x, bin 0, bin 1, ...].
#pragma once
#include "rsseg/layers/naming.hpp"

namespace rsseg {

/// Regions of `bins`, `out` channels each; parameters features.i.1 (convolution without bias) and features.i.2 (BN).
template <int N>
constexpr value pyramid_pooling(builder& b, value x, const int (&bins)[N], int out, bool align_corners = true) {
  value parts[N + 1] = {x};
  for (int i = 0; i < N; ++i) {
    const value pooled = adaptive_avg_pool(b, x, bins[i]);
    const value y = conv_bn_relu(b, numbered("features.", i, ".1"), numbered("features.", i, ".2"), pooled, out);
    parts[i + 1] = resize_like(b, y, x, align_corners);
  }
  return graph::ops::concat(b, parts, N + 1);
}

}  // namespace rsseg
