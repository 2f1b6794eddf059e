// SPDX-License-Identifier: MIT
// Semantic FPN with its pyramid as outputs.
#pragma once
#include "rsseg/nets/fpn.hpp"
#include "rsseg/nets/parity_case.hpp"

namespace rsseg::parity {

inline constexpr parity_case fpn_parity[] = {
    {"fpn", "semantic FPN, resnet18", &FPN<18, from_data, true>::build},
    {"fpn", "semantic FPN, resnet50", &FPN<50, from_data, true>::build},
};

}  // namespace rsseg::parity
