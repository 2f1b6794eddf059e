// SPDX-License-Identifier: MIT
// Minimum cut on a 4-connected pixel grid: the two-tree augmenting path method of Boykov and Kolmogorov, "An Experimental Comparison of
// Min-Cut/Max-Flow Algorithms", PAMI 2004. Serial and deterministic. About 60 bytes per pixel.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <vector>

namespace rsseg::classical {

/// Directions 0: +x, 1: -x, 2: +y, 3: -y; d ^ 1 is the opposite.
class grid_cut {
 public:
  grid_cut(int h, int w)
      : h_(h),
        w_(w),
        terminal_(std::size_t(h) * w, 0.0),
        tree_(terminal_.size(), free_node),
        parent_(terminal_.size(), no_parent),
        distance_(terminal_.size(), 0),
        stamp_(terminal_.size(), 0),
        active_flag_(terminal_.size(), 0) {
    for (auto& c : capacity_) c.assign(terminal_.size(), 0.0);
  }

  /// Forgets all capacities.
  void reset() {
    std::fill(terminal_.begin(), terminal_.end(), 0.0);
    for (auto& c : capacity_) std::fill(c.begin(), c.end(), 0.0);
  }
  /// Cost of ending on the sink's side minus cost of ending on the source's: positive pulls to the source.
  void add_terminal(std::int64_t p, double source_minus_sink) { terminal_[std::size_t(p)] += source_minus_sink; }
  /// Paid when p ends on the source's side and its neighbour in direction d on the sink's.
  void add_edge(std::int64_t p, int d, double forward) { capacity_[d][std::size_t(p)] += forward; }

  /// Finds a minimum cut; afterwards on_source() tells the sides (nodes free of both trees count as sink).
  void solve() {
    std::fill(tree_.begin(), tree_.end(), free_node);
    std::fill(parent_.begin(), parent_.end(), no_parent);
    std::fill(stamp_.begin(), stamp_.end(), 0);
    std::fill(active_flag_.begin(), active_flag_.end(), 0);
    active_.clear(), time_ = 0;
    for (std::int64_t p = 0; p < std::int64_t(terminal_.size()); ++p) {
      if (terminal_[std::size_t(p)] == 0) continue;
      tree_[std::size_t(p)] = terminal_[std::size_t(p)] > 0 ? source_tree : sink_tree;
      parent_[std::size_t(p)] = to_terminal, distance_[std::size_t(p)] = 1;
      activate(p);
    }
    while (!active_.empty()) {
      const std::int64_t p = active_.front();
      int d = -1;
      if (tree_[std::size_t(p)] != free_node) d = grow(p);
      if (d < 0) {  // nothing left to do from here
        active_.pop_front();
        active_flag_[std::size_t(p)] = 0;
        continue;
      }
      ++time_;
      const std::int64_t q = neighbour(p, d);
      const bool from_source = tree_[std::size_t(p)] == source_tree;
      augment(from_source ? p : q, from_source ? d : d ^ 1);
      while (!orphans_.empty()) {
        const std::int64_t orphan = orphans_.front();
        orphans_.pop_front();
        adopt(orphan);
      }
    }
  }
  bool on_source(std::int64_t p) const { return tree_[std::size_t(p)] == source_tree; }

 private:
  enum : std::uint8_t { free_node, source_tree, sink_tree };
  enum : std::uint8_t { to_terminal = 4, orphaned = 5, no_parent = 6 };
  static constexpr double tiny = 1e-12;

  std::int64_t neighbour(std::int64_t p, int d) const {
    const std::int64_t x = p % w_;
    switch (d) {
      case 0:
        return x + 1 < w_ ? p + 1 : -1;
      case 1:
        return x > 0 ? p - 1 : -1;
      case 2:
        return p + w_ < std::int64_t(h_) * w_ ? p + w_ : -1;
      default:
        return p >= w_ ? p - w_ : -1;
    }
  }
  void activate(std::int64_t p) {
    if (active_flag_[std::size_t(p)]) return;
    active_flag_[std::size_t(p)] = 1;
    active_.push_back(p);
  }
  /// What can still flow between p and q = p's neighbour in direction d, in the sense of p's tree growing towards q.
  double outward(std::int64_t p, int d, std::int64_t q) const {
    return tree_[std::size_t(p)] == source_tree ? capacity_[d][std::size_t(p)] : capacity_[d ^ 1][std::size_t(q)];
  }

  /// Takes free neighbours of p into its tree; returns the direction in which the other tree was met, or -1.
  int grow(std::int64_t p) {
    for (int d = 0; d < 4; ++d) {
      const std::int64_t q = neighbour(p, d);
      if (q < 0 || !(outward(p, d, q) > tiny)) continue;
      if (tree_[std::size_t(q)] == free_node) {
        tree_[std::size_t(q)] = tree_[std::size_t(p)];
        parent_[std::size_t(q)] = std::uint8_t(d ^ 1);
        distance_[std::size_t(q)] = distance_[std::size_t(p)] + 1, stamp_[std::size_t(q)] = stamp_[std::size_t(p)];
        activate(q);
      } else if (tree_[std::size_t(q)] != tree_[std::size_t(p)]) {
        return d;
      }
    }
    return -1;
  }

  /// Saturates the path source .. p -d-> q .. sink; what is cut off becomes an orphan.
  void augment(std::int64_t p, int d) {
    const std::int64_t q = neighbour(p, d);
    double flow = capacity_[d][std::size_t(p)];
    for (std::int64_t v = p;;) {
      const int up = parent_[std::size_t(v)];
      if (up == to_terminal) {
        flow = std::min(flow, terminal_[std::size_t(v)]);
        break;
      }
      const std::int64_t above = neighbour(v, up);
      flow = std::min(flow, capacity_[up ^ 1][std::size_t(above)]);
      v = above;
    }
    for (std::int64_t v = q;;) {
      const int up = parent_[std::size_t(v)];
      if (up == to_terminal) {
        flow = std::min(flow, -terminal_[std::size_t(v)]);
        break;
      }
      flow = std::min(flow, capacity_[up][std::size_t(v)]);
      v = neighbour(v, up);
    }
    capacity_[d][std::size_t(p)] -= flow, capacity_[d ^ 1][std::size_t(q)] += flow;
    for (std::int64_t v = p;;) {
      const int up = parent_[std::size_t(v)];
      if (up == to_terminal) {
        terminal_[std::size_t(v)] -= flow;
        if (!(terminal_[std::size_t(v)] > tiny)) terminal_[std::size_t(v)] = 0, orphan(v);
        break;
      }
      const std::int64_t above = neighbour(v, up);
      capacity_[up ^ 1][std::size_t(above)] -= flow, capacity_[up][std::size_t(v)] += flow;
      if (!(capacity_[up ^ 1][std::size_t(above)] > tiny)) orphan(v);
      v = above;
    }
    for (std::int64_t v = q;;) {
      const int up = parent_[std::size_t(v)];
      if (up == to_terminal) {
        terminal_[std::size_t(v)] += flow;
        if (!(-terminal_[std::size_t(v)] > tiny)) terminal_[std::size_t(v)] = 0, orphan(v);
        break;
      }
      const std::int64_t above = neighbour(v, up);
      capacity_[up][std::size_t(v)] -= flow, capacity_[up ^ 1][std::size_t(above)] += flow;
      if (!(capacity_[up][std::size_t(v)] > tiny)) orphan(v);
      v = above;
    }
  }

  void orphan(std::int64_t p) {
    parent_[std::size_t(p)] = orphaned;
    orphans_.push_back(p);
  }

  /// Steps from p to its terminal, or -1 when the chain ends in an orphan. Marks what it passes as good for this round.
  std::int32_t origin_distance(std::int64_t p) {
    std::int32_t steps = 0;
    std::int64_t v = p;
    while (stamp_[std::size_t(v)] != time_) {
      const int up = parent_[std::size_t(v)];
      if (up == to_terminal) {
        stamp_[std::size_t(v)] = time_, distance_[std::size_t(v)] = 1;
        break;
      }
      if (up > 3) return -1;
      ++steps;
      v = neighbour(v, up);
    }
    const std::int32_t total = steps + distance_[std::size_t(v)];
    std::int32_t d = total;
    for (std::int64_t u = p; stamp_[std::size_t(u)] != time_; u = neighbour(u, parent_[std::size_t(u)]))
      stamp_[std::size_t(u)] = time_, distance_[std::size_t(u)] = d--;
    return total;
  }

  void adopt(std::int64_t p) {
    const auto mine = tree_[std::size_t(p)];
    int best = -1;
    std::int32_t best_distance = 0;
    for (int d = 0; d < 4; ++d) {
      const std::int64_t q = neighbour(p, d);
      if (q < 0 || tree_[std::size_t(q)] != mine) continue;
      const double residual = mine == source_tree ? capacity_[d ^ 1][std::size_t(q)] : capacity_[d][std::size_t(p)];
      if (!(residual > tiny)) continue;
      const std::int32_t distance = origin_distance(q);
      if (distance >= 0 && (best < 0 || distance < best_distance)) best = d, best_distance = distance;
    }
    if (best >= 0) {
      parent_[std::size_t(p)] = std::uint8_t(best);
      stamp_[std::size_t(p)] = time_, distance_[std::size_t(p)] = best_distance + 1;
      return;
    }
    for (int d = 0; d < 4; ++d) {
      const std::int64_t q = neighbour(p, d);
      if (q < 0 || tree_[std::size_t(q)] != mine) continue;
      const double residual = mine == source_tree ? capacity_[d ^ 1][std::size_t(q)] : capacity_[d][std::size_t(p)];
      if (residual > tiny) activate(q);
      if (parent_[std::size_t(q)] == (d ^ 1)) orphan(q);
    }
    tree_[std::size_t(p)] = free_node;
    parent_[std::size_t(p)] = no_parent;
  }

  int h_, w_;
  std::vector<double> capacity_[4], terminal_;
  std::vector<std::uint8_t> tree_, parent_;
  std::vector<std::int32_t> distance_;
  std::vector<std::int64_t> stamp_;
  std::vector<std::uint8_t> active_flag_;
  std::deque<std::int64_t> active_, orphans_;
  std::int64_t time_ = 0;
};

}  // namespace rsseg::classical
