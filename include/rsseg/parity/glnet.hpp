// SPDX-License-Identifier: MIT
// GLNet's three stages with scores at stride 4 and every head as output.
#pragma once
#include "rsseg/nets/glnet.hpp"
#include "rsseg/nets/parity_case.hpp"

namespace rsseg::parity {

inline constexpr parity_case glnet_parity[] = {
    {"GLNet", "mode 1: global branch alone (ResNet-50 FPN)", &GLNetGlobal<from_data, true>::build},
    {"GLNet", "mode 2: global2local, local branch training", &GLNetLocal<from_data, Windows<2>, true>::build},
    {"GLNet", "mode 3: local2global, global branch training", &GLNetBoth<from_data, Windows<2>, true>::build},
};

}  // namespace rsseg::parity
