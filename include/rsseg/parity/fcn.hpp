// SPDX-License-Identifier: MIT
// The FCN family for comparison with its references: narrow classifier layers, auxiliary map as output.
#pragma once
#include "rsseg/nets/fcn.hpp"
#include "rsseg/nets/parity_case.hpp"

namespace rsseg::parity {

inline constexpr parity_case fcn_parity[] = {
    {"fcn32s_vgg16", "original padding 100, fc6/fc7 width reduced 4096->64", &FCN<32, from_data, 64>::build},
    {"fcn16s_vgg16", "original padding 100, fc6/fc7 width reduced 4096->64", &FCN<16, from_data, 64>::build},
    {"fcn8s_vgg16", "original padding 100, fc6/fc7 width reduced 4096->64", &FCN<8, from_data, 64>::build},
    {"fcn8satonce_vgg16", "original padding 100, fc6/fc7 width reduced 4096->64", &FCN<8, from_data, 64, true>::build},
    {"fcn8s_vgg16", "original padding 100", &FCN<8>::build},
    {"fcn_resnet50", "torchvision, output stride 8, aux head", &FCNResNet<50, from_data, true>::build},
};

}  // namespace rsseg::parity
