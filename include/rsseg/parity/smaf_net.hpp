// SPDX-License-Identifier: MIT
// SMAF-Net, stage 2, base width 32, with the discriminator's score as output.
#pragma once
#include "rsseg/nets/parity_case.hpp"
#include "rsseg/nets/smaf_net.hpp"

namespace rsseg::parity {

inline constexpr parity_case smaf_net_parity[] = {
    {"SMAF-Net", "smaf-net", &SMAFNet<from_data, 32, true>::build},
};

}  // namespace rsseg::parity
