// SPDX-License-Identifier: MIT
// Backbones with probes for comparison with their references: `body` = ResNet or VGG, `head` = 1x1 convolution to the classes on the
// last map; every stage is an output. Also ResNet-18 with its classifier.
#pragma once
#include "rsseg/nets/parity_case.hpp"
#include "rsseg/nets/resnet.hpp"
#include "rsseg/nets/vgg.hpp"

namespace rsseg::parity {

/// logits (N,K,h,w) on c5; stem, c2 ... c5.
template <int Depth, int Stride>
struct resnet_probe {
  static constexpr void build(builder& b) {
    const value x = b.input("x", from_data);
    resnet_features f;
    {
      const scope s(b, "body");
      f = resnet(b, x, resnet_of_depth(Depth, Stride));
    }
    b.output("logits", conv(b, "head", f.c5, b.classes(from_data)), 1);
    b.output("stem", f.stem);
    b.output("c2", f.c2);
    b.output("c3", f.c3);
    b.output("c4", f.c4);
    b.output("c5", f.c5);
  }
};

/// logits (N,K,1,1) behind the global average.
struct resnet18_classifier {
  static constexpr void build(builder& b) {
    const resnet_features f = resnet(b, b.input("x", from_data), resnet_of_depth(18));
    b.output("logits", linear(b, "fc", global_avg_pool(b, f.c5), b.classes(from_data)), 1);
  }
};

/// logits (N,K,H/32,W/32) on pool5; pool1 ... pool5.
template <bool BatchNorm>
struct vgg16_probe {
  static constexpr void build(builder& b) {
    const value x = b.input("x", from_data);
    vgg_options o;
    o.batch_norm = BatchNorm;
    vgg_features f;
    {
      const scope s(b, "body");
      f = vgg(b, x, o);
    }
    b.output("logits", conv(b, "head", f.out, b.classes(from_data)), 1);
    for (int g = 0; g < 5; ++g) b.output(numbered("pool", g + 1), f.pool[g]);
  }
};

inline constexpr parity_case backbones_parity[] = {
    {"resnet18", "output stride 32, 7-class 1x1 head on c5", &resnet_probe<18, 32>::build},
    {"resnet34", "output stride 32, 7-class 1x1 head on c5", &resnet_probe<34, 32>::build},
    {"resnet50", "output stride 32, 7-class 1x1 head on c5", &resnet_probe<50, 32>::build},
    {"resnet50", "output stride 16, 7-class 1x1 head on c5", &resnet_probe<50, 16>::build},
    {"resnet50", "output stride 8, 7-class 1x1 head on c5", &resnet_probe<50, 8>::build},
    {"resnet101", "output stride 32, 7-class 1x1 head on c5", &resnet_probe<101, 32>::build},
    {"resnet101", "output stride 16, 7-class 1x1 head on c5", &resnet_probe<101, 16>::build},
    {"resnet101", "output stride 8, 7-class 1x1 head on c5", &resnet_probe<101, 8>::build},
    {"resnet18", "classifier with avgpool+fc", &resnet18_classifier::build},
    {"vgg16", "plain", &vgg16_probe<false>::build},
    {"vgg16", "bn", &vgg16_probe<true>::build},
};

}  // namespace rsseg::parity
