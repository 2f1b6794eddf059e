// SPDX-License-Identifier: MIT
// Concatenations without copies: in NHWC the parts of a concatenation are columns of its pixels, so a part may live in the memory of the whole
// from the start, if everybody who writes or reads it takes pixels that are further apart than its channels. The gradient of a concatenation is
// the same picture the other way round: slices of columns that are read where they lie.
//
//   [ a0 a1 a2 | b0 b1 ][ a0 a1 a2 | b0 b1 ] ...     a: pitch 5, column 0      b: pitch 5, column 3
//
// Unit of sharing is a storage with all values that follow each other in it (in place, views). Storages are put into one another as long as no
// value that is still read gets overwritten, and as long as the sum of what lives at a time never grows beyond what it was.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "rsseg/graph/graph.hpp"

namespace rsseg::plan_detail {

/// What sharing needs to know; all per node.
struct sharing_problem {
  const graph::graph& g;
  const std::vector<shape>& extents;
  const std::vector<int>& owner;          // whose storage the node is in
  const std::vector<int>& last;           // step of the last reader, -1: none
  const std::vector<bool>& view;          // takes no kernel: its value is its first input's
  const std::vector<bool>& planned;       // has its place from the plan, and holds real numbers
  const std::vector<bool>& kept;          // is read by the caller, who knows no pitch
  const std::vector<std::size_t>& bytes;  // of a storage, by owner
  const std::vector<std::size_t>& busy;   // bytes of workspace at each step
  bool (*pitched)(const graph::graph&, int id, int operand);
};

/// Where storages lie: inside of another one, from a column on.
class shared_columns {
 public:
  explicit shared_columns(const sharing_problem& p) : p_(p), inside_(p.owner.size(), -1), column_(p.owner.size(), 0) {
    const int n = p_.g.nodes.size();
    members_.resize(std::size_t(n)), content_.resize(std::size_t(n)), end_.assign(std::size_t(n), -1), fits_.assign(std::size_t(n), true);
    first_.assign(std::size_t(n), 0), final_.assign(std::size_t(n), 0);
    for (int i = 0; i < n; ++i) {
      const std::size_t u = std::size_t(i);
      const bool same_place = p_.view[u] && p_.owner[u] == p_.owner[std::size_t(p_.g.input_of(i, 0))];
      content_[u] = same_place ? content_[std::size_t(p_.g.input_of(i, 0))] : i;
      end_[std::size_t(content_[u])] = std::max({end_[std::size_t(content_[u])], p_.last[u], i});
    }
    for (int i = 0; i < n; ++i) {
      const std::size_t own = std::size_t(p_.owner[std::size_t(i)]);
      if (own == std::size_t(i)) first_[own] = i;
      final_[own] = std::max({final_[own], p_.last[std::size_t(i)], i});
      if (members_[own].empty() || content_[std::size_t(i)] == i) members_[own].push_back(i);
      if (!accepts_pitch(i)) fits_[own] = false;
      for (int k = 0; k < p_.g.nodes[i].input_count; ++k) {
        const int in = p_.g.input_of(i, k);
        const std::size_t from = std::size_t(p_.owner[std::size_t(in)]);
        if (p_.view[std::size_t(i)]) {  // in place, or copied in one piece; further operands lend their extent
          if (k == 0 && content_[std::size_t(i)] == i) fits_[from] = false;
        } else if (!p_.pitched(p_.g, i, k) && !one_pixel(in)) {
          fits_[from] = false;
        }
      }
    }
    live_ = p_.busy;
    for (int i = 0; i < n; ++i)
      if (p_.owner[std::size_t(i)] == i) add(first_[std::size_t(i)], final_[std::size_t(i)], p_.bytes[std::size_t(i)], true);
  }

  /// Puts storages into one another, at most `limit` of them. Returns how many.
  int share(int limit) {
    struct candidate {
      std::vector<part> parts;
      double cost = 0;
    };
    std::vector<candidate> all;
    std::vector<int> slices(p_.owner.size(), -1);  // by node: the candidate of all its slices
    for (int i = 0; i < p_.g.nodes.size(); ++i) {
      const graph::node& n = p_.g.nodes[i];
      if (!p_.planned[std::size_t(i)]) continue;
      if (n.kind == graph::op::concat) {
        candidate together;
        int column = 0;
        for (int k = 0; k < n.input_count; ++k) {
          const int in = p_.g.input_of(i, k);
          together.parts.push_back({p_.owner[std::size_t(in)], i, column});
          all.push_back({{together.parts.back()}, 0});
          column += p_.extents[std::size_t(in)].c;
        }
        all.push_back(together);
      } else if (n.kind == graph::op::slice) {
        const int in = p_.g.input_of(i, 0);
        const part slice{p_.owner[std::size_t(i)], in, n.at.begin};
        all.push_back({{slice}, 0});
        int& together = slices[std::size_t(in)];
        if (together < 0) together = int(all.size()), all.push_back({});
        all[std::size_t(together)].parts.push_back(slice);
      }
    }
    // Parts one by one and all together, first those that save most memory times steps: a part that lives long holds the whole with it.
    for (candidate& c : all) {
      const std::size_t whole = std::size_t(p_.owner[std::size_t(c.parts[0].into)]);
      int first = first_[whole], last = final_[whole];
      for (const part& q : c.parts) {
        const std::size_t s = std::size_t(q.storage);
        first = std::min(first, first_[s]), last = std::max(last, final_[s]);
        c.cost -= double(final_[s] - first_[s] + 1) * double(p_.bytes[s]);
      }
      c.cost += double(last - first - (final_[whole] - first_[whole])) * double(p_.bytes[whole]);
    }
    std::stable_sort(all.begin(), all.end(), [](const candidate& a, const candidate& b) { return a.cost < b.cost; });
    int count = 0;
    for (int round = 0; round < 2; ++round)  // what had no room at first may have some in the end
      for (const candidate& c : all)
        if (int(c.parts.size()) <= limit - count) count += put(c.parts);  // never more than `limit`: the caller halves it until the arena fits
    return count;
  }

  /// The storage that holds everything, and the first column there.
  int root(int storage) const {
    while (inside_[std::size_t(storage)] >= 0) storage = p_.owner[std::size_t(inside_[std::size_t(storage)])];
    return storage;
  }
  int column(int storage) const {
    int c = 0;
    for (; inside_[std::size_t(storage)] >= 0; storage = p_.owner[std::size_t(inside_[std::size_t(storage)])]) c += column_[std::size_t(storage)];
    return c;
  }
  /// Steps at which a root is in use.
  int first(int storage) const { return first_[std::size_t(storage)]; }
  int last(int storage) const { return final_[std::size_t(storage)]; }

 private:
  bool one_pixel(int i) const { return p_.extents[std::size_t(i)].pixels() == 1; }
  bool same_pixels(int a, int b) const {
    const shape &x = p_.extents[std::size_t(a)], &y = p_.extents[std::size_t(b)];
    return x.c == y.c && x.pixels() == y.pixels();
  }
  /// Whether node i may be written where pixels are apart: values of one storage must agree on what a pixel is.
  bool accepts_pitch(int i) const {
    const std::size_t u = std::size_t(i), own = std::size_t(p_.owner[u]);
    if (!p_.planned[u] || !p_.planned[own] || p_.kept[u] || !same_pixels(i, int(own))) return false;
    if (content_[u] != i) return true;
    return !p_.view[u] && (p_.pitched(p_.g, i, -1) || one_pixel(i));
  }
  void add(int from, int to, std::size_t size, bool more) {
    for (int t = from; t <= std::min(to, int(live_.size()) - 1); ++t) live_[std::size_t(t)] += more ? size : std::size_t(0) - size;
  }
  std::size_t peak() const { return *std::max_element(live_.begin(), live_.end()); }

  struct range {
    int begin, end;
    bool meets(const range& o) const { return begin < o.end && o.begin < end; }
  };
  /// Columns of node i in its root's pixels; everything, where it has other pixels than the root.
  range columns(int i) const {
    const int own = p_.owner[std::size_t(i)], whole = root(own), c = p_.extents[std::size_t(i)].c;
    if (own == whole && !same_pixels(i, whole)) return {0, p_.extents[std::size_t(whole)].c};
    const int from = column(own);
    return {from, from + c};
  }
  /// Whether v, made later, still shows u's numbers in u's columns, since it was made of them in place.
  bool carries(int v, int u, const range& where) const {
    v = content_[std::size_t(v)];
    if (v == u) return true;
    if (v < u) return false;
    const graph::node& n = p_.g.nodes[v];
    const int home = root(p_.owner[std::size_t(v)]);
    if (n.kind == graph::op::slice) {
      const int in = p_.g.input_of(v, 0);
      return shares(v, home, in, columns(in).begin + n.at.begin, columns(v).begin) && carries(in, u, where);
    }
    if (n.kind != graph::op::concat) return false;
    int at = columns(v).begin;
    for (int k = 0; k < n.input_count; ++k) {
      const int in = p_.g.input_of(v, k), c = p_.extents[std::size_t(in)].c;
      if (range{at, at + c}.meets(where) && !(shares(v, home, in, at, columns(in).begin) && carries(in, u, where))) return false;
      at += c;
    }
    return true;
  }
  bool shares(int v, int home, int in, int expected, int found) const {
    return p_.owner[std::size_t(v)] != p_.owner[std::size_t(in)] && root(p_.owner[std::size_t(in)]) == home && expected == found;
  }
  bool conflict(int a, int b) const {
    const int u = std::min(a, b), v = std::max(a, b);  // v is made when u exists
    if (end_[std::size_t(u)] < v) return false;
    const range x = columns(u), y = columns(v);
    return x.meets(y) && !carries(v, u, x);
  }

  /// A storage that may lie in the columns of node `into`, from column `column` of that on.
  struct part {
    int storage, into, column;
  };
  /// Whether nothing but memory speaks against it; then it is there.
  bool lies(const part& q) {
    const int storage = q.storage, host = p_.owner[std::size_t(q.into)];
    if (inside_[std::size_t(storage)] >= 0 || !fits_[std::size_t(storage)] || !p_.planned[std::size_t(host)] || !same_pixels(q.into, host))
      return false;
    const int home = root(host);
    if (home == storage || p_.extents[std::size_t(storage)].pixels() != p_.extents[std::size_t(home)].pixels()) return false;
    std::vector<int> guests, hosts;
    for (int i = 0; i < int(members_.size()); ++i) {
      if (members_[std::size_t(i)].empty()) continue;
      const int r = root(i);
      if (r != storage && r != home) continue;
      for (int m : members_[std::size_t(i)]) (r == storage ? guests : hosts).push_back(m);
    }
    inside_[std::size_t(storage)] = q.into, column_[std::size_t(storage)] = q.column;
    for (int u : guests)
      for (int v : hosts)
        if (conflict(u, v)) {
          inside_[std::size_t(storage)] = -1;
          return false;
        }
    return true;
  }
  /// Puts parts of one node there, all that can, unless more would live at a time then. Returns how many.
  int put(const std::vector<part>& parts) {
    const std::size_t home = std::size_t(root(p_.owner[std::size_t(parts[0].into)]));
    std::vector<std::size_t> there;
    for (const part& q : parts)
      if (lies(q)) there.push_back(std::size_t(q.storage));
    if (there.empty()) return 0;
    const std::size_t before = peak();
    const std::vector<std::size_t> kept = live_;
    int first = first_[home], last = final_[home];
    add(first, last, p_.bytes[home], false);
    for (std::size_t s : there) {
      add(first_[s], final_[s], p_.bytes[s], false);
      first = std::min(first, first_[s]), last = std::max(last, final_[s]);
    }
    add(first, last, p_.bytes[home], true);
    if (peak() <= before) {
      first_[home] = first, final_[home] = last;
      return int(there.size());
    }
    live_ = kept;
    for (std::size_t s : there) inside_[s] = -1;
    return 0;
  }

  const sharing_problem& p_;
  std::vector<int> inside_, column_;       // by storage: the node whose columns it lies in, and where
  std::vector<std::vector<int>> members_;  // by storage: the nodes that write it
  std::vector<int> content_;               // by node: the node that made its numbers
  std::vector<int> end_;                   // by such a node: step of the last reader
  std::vector<bool> fits_;                 // by storage: all writers and readers take pitches
  std::vector<int> first_, final_;         // by storage
  std::vector<std::size_t> live_;          // bytes in use at each step
};

}  // namespace rsseg::plan_detail
