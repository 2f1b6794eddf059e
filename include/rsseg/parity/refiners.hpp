// SPDX-License-Identifier: MIT
// Refinement networks with all their steps as outputs.
#pragma once
#include "rsseg/nets/iss.hpp"
#include "rsseg/nets/parity_case.hpp"

namespace rsseg::parity {

inline constexpr parity_case refiners_parity[] = {
    {"iss_refiner", "own illustration: 3 unrolled self-reflective refinement steps, shared weights, K=5",
     &ISSRefiner<from_data, 3, false, true>::build},
};

}  // namespace rsseg::parity
