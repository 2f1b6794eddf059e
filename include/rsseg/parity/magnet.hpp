// SPDX-License-Identifier: MIT
// MagNet's two networks.
#pragma once
#include "rsseg/nets/magnet.hpp"
#include "rsseg/nets/parity_case.hpp"

namespace rsseg::parity {

inline constexpr parity_case magnet_parity[] = {
    {"magnet_refinement", "RefinementMagNet n_classes=7 use_bn=True", &MagNetRefinement<>::build},
    {"magnet_resnet50_fpn", "ResnetFPN backbone n_labels=7 (DeepGlobe config)", &MagNetBackbone<>::build},
};

}  // namespace rsseg::parity
