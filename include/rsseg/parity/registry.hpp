// SPDX-License-Identifier: MIT
// Which build function answers a parity manifest: by its fields `system` and `variant`. Networks that a user can train are in nets/;
// heads and single blocks that exist for comparison only are in parity/*.hpp. A new one: include its header, add its array.
#pragma once
#include <span>
#include <string>
#include <string_view>

#include "rsseg/parity/case.hpp"
// cases (alphabetical)
#include "rsseg/nets/deeplab_v3plus.hpp"
#include "rsseg/nets/hrnet.hpp"
#include "rsseg/nets/icnet.hpp"
#include "rsseg/nets/pspnet.hpp"
#include "rsseg/nets/segnet.hpp"
#include "rsseg/nets/unet.hpp"
#include "rsseg/parity/backbones.hpp"
#include "rsseg/parity/blocks.hpp"

namespace rsseg {

inline std::span<const std::span<const parity_case>> parity_families() {
  static const std::span<const parity_case> families[] = {
      // families (alphabetical)
      deeplab_v3plus_parity,
      hrnet_parity,
      icnet_parity,
      parity::backbones_parity,
      parity::blocks_parity,
      pspnet_parity,
      segnet_parity,
      unet_parity,
      std::span<const parity_case>{},
  };
  return families;
}

inline const parity_case* find_parity_case(std::string_view system, std::string_view variant) {
  for (const auto& family : parity_families())
    for (const parity_case& c : family)
      if (system == c.system && variant == c.variant) return &c;
  return nullptr;
}

}  // namespace rsseg
