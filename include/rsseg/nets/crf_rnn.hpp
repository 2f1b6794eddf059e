// SPDX-License-Identifier: MIT
// CRF-RNN (Zheng et al., "Conditional random fields as recurrent neural networks", ICCV 2015, Figs. 2 and 3): mean field steps behind a network,
// whose label compatibilities are learned with it. The layer is layers/crf_rnn.hpp.
//   CRFRNN       refines any network's scores: inputs logits0 (N,K,H,W) and image (N,B,H,W) in [0, 1]                (N,K,H,W)
//                the kernels' weights start at 1: behind a finished network 3 and 5 begin by smoothing away what is narrow
//   UNetCRFRNN   behind a narrow U-Net, trained end to end; the guide is the normalised image, brought back to about 0..255
// 5 steps in training, 10 otherwise, as published. The paper's network is FCN-8s, its kernels 160 pixels and 3 grey values; ours are 40 and 13.
#pragma once
#include "rsseg/layers/crf_rnn.hpp"
#include "rsseg/nets/entry.hpp"
#include "rsseg/nets/unet.hpp"

namespace rsseg {

namespace detail {
constexpr value mean_field(builder& b, value scores, value image, double range, double spatial = 3, double bilateral = 5) {
  value guide = image.channels > 3 ? graph::ops::slice(b, image, 0, 3) : image;
  guide = graph::ops::stop_gradient(b, graph::ops::affine(b, guide, range, 0));
  const scope s(b, "crfrnn");
  crf_rnn_layer_options o;
  o.iterations = b.training() ? 5 : 10;
  o.spatial = spatial, o.bilateral = bilateral;
  return crf_rnn_layer(b, scores, guide, o);
}
}  // namespace detail

template <int Classes = from_data>
struct CRFRNN {
  static constexpr void build(builder& b) {
    const value scores = b.input("logits0", b.classes(Classes)), image = b.input("image", from_data);
    b.output("logits", detail::mean_field(b, scores, image, 255, 1, 1), 1);
  }
};

template <int Classes = from_data, int Width = 16>
struct UNetCRFRNN {
  static constexpr void build(builder& b) {
    const value x = b.input("x", from_data);
    // 0.225 is the usual deviation of normalised images.
    b.output("logits", detail::mean_field(b, UNet<Classes, Width>::scores(b, x), x, 0.225 * 255), 1);
  }
};

inline constexpr network_entry crf_rnn_networks[] = {
    {"crf-rnn", "CRF-RNN", "Zheng et al., ICCV 2015",
     "refines any network's scores by mean field with learned compatibilities; inputs logits0 and image", &CRFRNN<>::build,
     recipe{"adam", 1e-2, 0.9, 0, "poly", 1, 256}, 1, 0, 1, false},
    {"unet-16-crf-rnn", "U-Net, 16 channels, CRF-RNN", "Zheng et al., ICCV 2015", "mean field behind a narrow U-Net, trained end to end",
     &UNetCRFRNN<>::build, recipe{"adamw", 1e-3, 0.9, 1e-2, "poly", 2, 256}, 1, 0, 16},
};

}  // namespace rsseg
