// SPDX-License-Identifier: MIT
// Where tiles lie: a scene of any size cut into overlapping windows of one size, whose kept interiors cover every pixel exactly once.
// The last window is shifted inwards, not cut or dropped; window positions keep the network's stride, so that a tile sees the
// same grid as the whole scene would.
#pragma once
#include <algorithm>
#include <numeric>
#include <string>
#include <vector>

#include "rsseg/core/error.hpp"

namespace rsseg::scene {

/// One axis of a tile: the window [begin, begin + extent) is read, [keep_begin, keep_end) of the scene is written from it.
struct span_1d {
  int begin = 0, keep_begin = 0, keep_end = 0;
};

/// Legal extents of a network: k * multiple + offset, at least minimum. Windows begin at multiples of `alignment`, its coarsest stride,
/// so that pooling windows fall as they would in the whole scene.
struct size_rule {
  int multiple = 1, offset = 0, minimum = 1, alignment = 1;
  int at_least(int n) const {
    n = std::max({n, minimum, offset, 1});
    return (n - offset + multiple - 1) / multiple * multiple + offset;
  }
  int at_most(int n) const { return std::max(at_least(1), (n - offset) / multiple * multiple + offset); }
};

/// Windows of `tile` pixels with at least 2 * halo pixels of overlap along an axis of `length`; the last one may reach beyond the scene.
inline std::vector<span_1d> cut_axis(int length, int tile, int halo, const size_rule& rule) {
  std::vector<span_1d> out;
  const int padded = rule.at_least(std::max(length, 1));
  if (padded <= tile) {
    out.push_back({0, 0, length});
    return out;
  }
  const int grid = std::lcm(rule.multiple, std::max(1, rule.alignment));
  const int step = (tile - 2 * halo) / grid * grid;
  if (step < 1)
    throw usage_error("tile " + std::to_string(tile) + " is too small for an overlap of " + std::to_string(2 * halo) + " pixels" +
                      (grid > 1 ? " (steps are multiples of " + std::to_string(grid) + ")" : "") + "; use a larger --tile or a smaller --overlap");
  const int last_begin = (length - tile + grid - 1) / grid * grid;
  for (int begin = 0;; begin += step) {
    const bool last = begin >= last_begin;
    if (last) begin = last_begin;
    out.push_back({begin, out.empty() ? 0 : out.back().keep_end, last ? length : begin + tile - halo});
    if (last) break;
  }
  return out;
}

}  // namespace rsseg::scene
