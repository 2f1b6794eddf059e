// SPDX-License-Identifier: MIT
// DeepLab v1 to v3 and ParseNet for comparison with their references: raw scores, auxiliary maps as outputs.
#pragma once
#include "rsseg/nets/deeplab_v1.hpp"
#include "rsseg/nets/deeplab_v2.hpp"
#include "rsseg/nets/deeplab_v3.hpp"
#include "rsseg/nets/parity_case.hpp"
#include "rsseg/nets/parsenet.hpp"
#include "rsseg/parity/raw_scores.hpp"

namespace rsseg::parity {

template <class Net>
struct multi_scale_raw {
  static constexpr void build(builder& b) {
    value each[3];
    const value largest = MultiScaleMax<Net>::maximum(b, b.input("x", from_data), each);
    MultiScaleMax<Net>::declare(b, "max", largest, each);
  }
};

inline constexpr parity_case deeplab_parity[] = {
    {"deeplabv1", "LargeFOV VGG16", &raw_scores<DeepLabV1<>>::build},
    {"deeplabv2", "ResNet blocks [3, 4, 23, 3], os8, ASPP sum 6/12/18/24", &raw_scores<DeepLabV2<>>::build},
    {"deeplabv2", "ResNet blocks [2, 2, 2, 2], os8, ASPP sum 6/12/18/24", &raw_scores<DeepLabV2<from_data, 2, 2, 2, 2>>::build},
    {"deeplabv2", "MSC wrapper (scales 1, 0.5, 0.75; pixel-wise max), blocks 1,1,1,1", &multi_scale_raw<DeepLabV2<from_data, 1, 1, 1, 1>>::build},
    {"deeplabv3", "torchvision resnet50, output stride 8, aux FCN head", &DeepLabV3<50, from_data, 8, false, true>::build},
    {"deeplabv3", "torchvision resnet101, output stride 8, aux FCN head", &DeepLabV3<101, from_data, 8, false, true>::build},
    {"parsenet", "LargeFOV VGG16 + one global context module on fc7", &ParseNet<>::build},
};

}  // namespace rsseg::parity
