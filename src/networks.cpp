// SPDX-License-Identifier: MIT
// All networks, lowered with counts of the data: compiled once, for the program and the tests.
#include "rsseg/nets/registry.hpp"

#include <vector>

namespace rsseg::program {

std::vector<const network_entry*> networks() {
  std::vector<const network_entry*> all;
  for_each_network([&](const network_entry& e) { all.push_back(&e); });
  return all;
}
const network_entry& network_named(const std::string& name) { return rsseg::network_named(name); }

}  // namespace rsseg::program
