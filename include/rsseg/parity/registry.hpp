// SPDX-License-Identifier: MIT
// Which build function answers a parity manifest: by its fields `system` and `variant`. Networks that a user can train are in nets/;
// heads and single blocks that exist for comparison only are in parity/*.hpp. A new one: include its header, add its array.
#pragma once
#include <span>
#include <string>
#include <string_view>

#include "rsseg/nets/parity_case.hpp"
// cases (alphabetical)
#include "rsseg/nets/awmf_cnn.hpp"
#include "rsseg/nets/cascade_psp.hpp"
#include "rsseg/nets/deep_guided_filter.hpp"
#include "rsseg/nets/deeplab_v3plus.hpp"
#include "rsseg/nets/fusenet.hpp"
#include "rsseg/nets/hrnet.hpp"
#include "rsseg/nets/icnet.hpp"
#include "rsseg/nets/mcnn.hpp"
#include "rsseg/nets/mfal_net.hpp"
#include "rsseg/nets/multiscale_skip.hpp"
#include "rsseg/nets/patch_then_segment.hpp"
#include "rsseg/nets/pspnet.hpp"
#include "rsseg/nets/segnet.hpp"
#include "rsseg/nets/unet.hpp"
#include "rsseg/parity/attention.hpp"
#include "rsseg/parity/backbones.hpp"
#include "rsseg/parity/bisenet.hpp"
#include "rsseg/parity/blocks.hpp"
#include "rsseg/parity/classification_with_an_edge.hpp"
#include "rsseg/parity/deeplab.hpp"
#include "rsseg/parity/enet.hpp"
#include "rsseg/parity/fcn.hpp"
#include "rsseg/parity/fctl.hpp"
#include "rsseg/parity/fpn.hpp"
#include "rsseg/parity/fusionnet.hpp"
#include "rsseg/parity/glnet.hpp"
#include "rsseg/parity/hazn.hpp"
#include "rsseg/parity/magnet.hpp"
#include "rsseg/parity/multiscale.hpp"
#include "rsseg/parity/point_rend.hpp"
#include "rsseg/parity/pyramids.hpp"
#include "rsseg/parity/refinenet.hpp"
#include "rsseg/parity/refiners.hpp"
#include "rsseg/parity/smaf_net.hpp"

namespace rsseg {

inline std::span<const std::span<const parity_case>> parity_families() {
  static const std::span<const parity_case> families[] = {
      // families (alphabetical)
      awmf_cnn_parity,
      cascade_psp_parity,
      deep_guided_filter_parity,
      deeplab_v3plus_parity,
      fusenet_parity,
      hrnet_parity,
      icnet_parity,
      mcnn_parity,
      mfal_net_parity,
      multiscale_skip_parity,
      parity::attention_parity,
      parity::backbones_parity,
      parity::bisenet_parity,
      parity::blocks_parity,
      parity::classification_with_an_edge_parity,
      parity::deeplab_parity,
      parity::enet_parity,
      parity::fcn_parity,
      parity::fctl_parity,
      parity::fpn_parity,
      parity::fusionnet_parity,
      parity::glnet_parity,
      parity::hazn_parity,
      parity::magnet_parity,
      parity::multiscale_parity,
      parity::point_rend_parity,
      parity::pyramids_parity,
      parity::refinenet_parity,
      parity::refiners_parity,
      parity::smaf_net_parity,
      patch_then_segment_parity,
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
