// SPDX-License-Identifier: MIT
// All systems of several networks by name.
#pragma once
#include "rsseg/scene/contexts.hpp"
#include "rsseg/scene/glnet.hpp"
#include "rsseg/scene/hazn.hpp"
#include "rsseg/scene/magnet.hpp"
#include "rsseg/scene/patch_grid.hpp"

namespace rsseg::scene {

inline const std::vector<system>& systems() {
  static const std::vector<system> all = {glnet(),        glnet_compact(), magnet(),       magnet_compact(), fctl(), fctl_inria(),
                                          fctl_compact(), hazn(),          hazn_compact(), takahama(),       awmf(), awmf_compact()};
  return all;
}
/// Null if there is none of that name.
inline const system* find_system(const std::string& name) {
  for (const system& s : systems())
    if (name == s.name) return &s;
  return nullptr;
}

}  // namespace rsseg::scene
