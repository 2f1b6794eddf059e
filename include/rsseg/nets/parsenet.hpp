// SPDX-License-Identifier: MIT
// ParseNet (Liu, Rabinovich, Berg 2015, arXiv 1506.04579, Fig. 1): the mean of the whole image beside every local feature, both scaled to
// unit length and then by learned factors, since they differ in magnitude.
//   LargeFOV trunk (nets/deeplab_v1.hpp, without its average pool), fc6, fc7                                 (N,1024,h,w) at stride 8
//   concat [L2Norm(fc7), L2Norm(mean of fc7) repeated] (N,2048,h,w), 1x1 to K, bilinear to the input
// Ours, where the paper is silent: scales start at 10, bilinear with half-pixel centres.
#pragma once
#include "rsseg/layers/l2_norm.hpp"
#include "rsseg/nets/deeplab_v1.hpp"

namespace rsseg {

template <int Classes = from_data, int Width = 1024>
struct ParseNet {
  static constexpr void build(builder& b) {
    const value x = b.input("x", from_data);
    const value local = detail::large_fov_classifier(b, detail::large_fov_trunk(b, x), Width);
    const value global = normalised(b, "norm_global", global_avg_pool(b, local));
    const value both = concat(b, normalised(b, "norm_local", local), graph::ops::broadcast_like(b, global, local));
    b.output("logits", resize_like(b, conv(b, "score", both, b.classes(Classes)), x), 1);
  }

 private:
  static constexpr value normalised(builder& b, std::string_view name, value x) {
    const scope s(b, name);
    return l2_norm(b, x);
  }
};

inline constexpr network_entry parsenet_networks[] = {
    {"parsenet", "ParseNet", "Liu, Rabinovich, Berg 2015", "the image's mean feature beside every local one, both L2-normalised", &ParseNet<>::build,
     recipe{"sgd", 1e-3, 0.9, 5e-4, "poly", 8, 321, 10, "features,fc6,fc7"}, 1, 0, 8},
};

}  // namespace rsseg
