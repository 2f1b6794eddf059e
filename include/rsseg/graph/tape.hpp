// SPDX-License-Identifier: MIT
// What an operator's rule of differentiation talks to: which inputs want a gradient, and where to leave it.
#pragma once
#include "rsseg/graph/graph.hpp"

namespace rsseg::graph {

/// Collects gradient contributions during the reverse sweep of differentiate(). A rule appends nodes to `g` and gives each
/// wanted input the node of its contribution; contributions to one node are added in the order given.
class tape {
 public:
  graph& g;

  constexpr tape(graph& of, int forward_nodes) : g(of) {
    wanted_.resize(forward_nodes, 0);
    head_.resize(forward_nodes, -1);
  }
  constexpr bool wants(int node) const { return wanted_[node] != 0; }
  constexpr void set_wanted(int node) { wanted_[node] = 1; }
  constexpr void give(int node, int gradient) {
    if (!wants(node)) return;
    links_.push_back(link{gradient, head_[node]});
    head_[node] = links_.size() - 1;
  }
  constexpr bool received(int node) const { return head_[node] >= 0; }
  /// The sum of what node was given: the contribution itself, or an explicit accumulation node.
  constexpr int total(int node) {
    list<int> parts;
    for (int l = head_[node]; l >= 0; l = links_[l].next) parts.push_back(links_[l].gradient);
    if (parts.size() == 1) return parts[0];
    for (int i = 0, j = parts.size() - 1; i < j; ++i, --j) {  // in the order given
      const int t = parts[i];
      parts[i] = parts[j], parts[j] = t;
    }
    return g.append(op::add, parts.begin(), parts.size(), g.nodes[node].channels);
  }

 private:
  struct link {
    int gradient = -1, next = -1;
  };
  list<unsigned char> wanted_;
  list<int> head_;
  list<link> links_;
};

}  // namespace rsseg::graph
