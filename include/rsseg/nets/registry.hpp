// SPDX-License-Identifier: MIT
// All networks by name. A new network: include its header and add its array here.
#pragma once
#include <span>
#include <string>
#include <string_view>

#include "rsseg/core/error.hpp"
#include "rsseg/nets/entry.hpp"
// networks (alphabetical)
#include "rsseg/nets/awmf_cnn.hpp"
#include "rsseg/nets/bisenet.hpp"
#include "rsseg/nets/cascade_psp.hpp"
#include "rsseg/nets/classification_with_an_edge.hpp"
#include "rsseg/nets/crf_rnn.hpp"
#include "rsseg/nets/deep_guided_filter.hpp"
#include "rsseg/nets/deeplab_v1.hpp"
#include "rsseg/nets/deeplab_v2.hpp"
#include "rsseg/nets/deeplab_v3.hpp"
#include "rsseg/nets/deeplab_v3plus.hpp"
#include "rsseg/nets/enet.hpp"
#include "rsseg/nets/fcn.hpp"
#include "rsseg/nets/fctl.hpp"
#include "rsseg/nets/fpn.hpp"
#include "rsseg/nets/fusenet.hpp"
#include "rsseg/nets/fusion.hpp"
#include "rsseg/nets/fusionnet.hpp"
#include "rsseg/nets/glnet.hpp"
#include "rsseg/nets/hazn.hpp"
#include "rsseg/nets/hcanet.hpp"
#include "rsseg/nets/hrnet.hpp"
#include "rsseg/nets/icnet.hpp"
#include "rsseg/nets/iss.hpp"
#include "rsseg/nets/magnet.hpp"
#include "rsseg/nets/mcnn.hpp"
#include "rsseg/nets/mfal_net.hpp"
#include "rsseg/nets/multiscale_skip.hpp"
#include "rsseg/nets/parsenet.hpp"
#include "rsseg/nets/patch_then_segment.hpp"
#include "rsseg/nets/point_refiner.hpp"
#include "rsseg/nets/point_rend.hpp"
#include "rsseg/nets/pspnet.hpp"
#include "rsseg/nets/pyramids.hpp"
#include "rsseg/nets/refinenet.hpp"
#include "rsseg/nets/scasnet.hpp"
#include "rsseg/nets/segnet.hpp"
#include "rsseg/nets/sga_net.hpp"
#include "rsseg/nets/smaf_net.hpp"
#include "rsseg/nets/unet.hpp"

namespace rsseg {

inline std::span<const std::span<const network_entry>> network_families() {
  static const std::span<const network_entry> families[] = {
      // families (alphabetical)
      awmf_cnn_networks,
      bisenet_networks,
      cascade_psp_networks,
      classification_with_an_edge_networks,
      crf_rnn_networks,
      deep_guided_filter_networks,
      deeplab_v1_networks,
      deeplab_v2_networks,
      deeplab_v3_networks,
      deeplab_v3plus_networks,
      enet_networks,
      fcn_networks,
      fctl_networks,
      fpn_networks,
      fusenet_networks,
      fusion_networks,
      fusionnet_networks,
      glnet_networks,
      hazn_networks,
      hcanet_networks,
      hrnet_networks,
      icnet_networks,
      iss_networks,
      magnet_networks,
      mcnn_networks,
      mfal_net_networks,
      multiscale_skip_networks,
      parsenet_networks,
      patch_then_segment_networks,
      point_refiner_networks,
      point_rend_networks,
      pspnet_networks,
      pyramids_networks,
      refinenet_networks,
      scasnet_networks,
      segnet_networks,
      sga_net_networks,
      smaf_net_networks,
      unet_networks,
      std::span<const network_entry>{},
  };
  return families;
}

/// Calls f(entry) for every network.
template <class F>
void for_each_network(const F& f) {
  for (const auto& family : network_families())
    for (const network_entry& e : family) f(e);
}

inline const network_entry* find_network(std::string_view name) {
  const network_entry* found = nullptr;
  for_each_network([&](const network_entry& e) {
    if (name == e.name) found = &e;
  });
  return found;
}

/// The network of that name; a usage_error that suggests the nearest names otherwise.
inline const network_entry& network_named(std::string_view name) {
  if (const network_entry* e = find_network(name)) return *e;
  std::string near;
  for_each_network([&](const network_entry& e) {
    const std::string_view n = e.name;
    if (name.size() >= 2 && (n.find(name.substr(0, 4)) != n.npos || name.find(n.substr(0, 4)) != name.npos))
      near += (near.empty() ? "" : ", ") + std::string(n);
  });
  throw usage_error("unknown network '" + std::string(name) + "'" + (near.empty() ? "" : "; near: " + near) + "; `rsseg list` shows all");
}

}  // namespace rsseg
