// SPDX-License-Identifier: MIT
// HAZN with a narrow trunk and one fixed box.
#pragma once
#include "rsseg/nets/hazn.hpp"
#include "rsseg/nets/parity_case.hpp"

namespace rsseg::parity {

inline constexpr parity_case hazn_parity[] = {
    {"HAZNet", "hazn", &HAZNFixedBox<Box<16, 8, 32, 48>, 64, 64, from_data, 2, 16, 128, 4>::build},
};

}  // namespace rsseg::parity
