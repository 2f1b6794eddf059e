// SPDX-License-Identifier: MIT
// Extent of a four-dimensional tensor. Written N, C, H, W as the field does; stored in memory as NHWC.
#pragma once
#include <cstdint>

namespace rsseg {

struct shape {
  int n = 0, c = 0, h = 0, w = 0;
  constexpr std::int64_t size() const { return std::int64_t(n) * c * h * w; }
  constexpr std::int64_t pixels() const { return std::int64_t(n) * h * w; }
  friend constexpr bool operator==(const shape&, const shape&) = default;
};

}  // namespace rsseg
