// SPDX-License-Identifier: MIT
// The permutohedral lattice. It lives under the networks, where a layer uses it: cpu/crf/permutohedral.hpp.
#pragma once
#include "rsseg/cpu/crf/permutohedral.hpp"

namespace rsseg::refine {
using cpu::crf::permutohedral_lattice;
}  // namespace rsseg::refine
