// SPDX-License-Identifier: MIT
// Where every value of a graph lives, for one input size: one arena, offsets by lifetime, in-place operators and reshapes sharing
// their input's storage, parts of concatenations in the columns of the whole (sharing.hpp). Made once per size at run time (DESIGN: planning in
// constexpr costs the compiler too much). Offsets: greedy by size over overlapping lifetimes (Pisarchyk and Lee, "Efficient memory management for
// deep neural net inference", 2020, "greedy by size").
#pragma once
#include <algorithm>
#include <cstddef>
#include <string>
#include <vector>

#include "rsseg/core/error.hpp"
#include "rsseg/graph/infer.hpp"
#include "rsseg/plan/sharing.hpp"

namespace rsseg {

/// Text of a graph error with the layer's name, for exceptions and messages.
inline std::string describe_error(const graph::graph& g, const graph::graph_error& e) {
  std::string where = "node " + std::to_string(e.node);
  if (e.node >= 0 && e.node < g.nodes.size()) {
    int named = e.node;  // operators outside of any scope are named by what feeds them
    while (g.nodes[named].name_length == 0 && g.nodes[named].input_count > 0) named = g.input_of(named, 0);
    if (g.nodes[named].name_length > 0) where = (named == e.node ? "layer '" : "after layer '") + std::string(g.name_of(named)) + "'";
  }
  const std::string expected = std::to_string(e.expected), given = std::to_string(e.given);
  switch (e.what) {
    case graph::fault::channels_differ:
      return where + ": channel counts differ: expected " + expected + ", got " + given;
    case graph::fault::extents_differ:
      return where + ": sizes differ: expected " + expected + ", got " + given;
    case graph::fault::not_divisible:
      return where + ": " + given + " is not a multiple of " + expected;
    case graph::fault::kernel_larger_than_input:
      return where + ": window of " + expected + " pixels on an input of " + given + "; use a larger image or tile";
    case graph::fault::unknown_channels:
      return where + ": the number of input channels is not known here";
    case graph::fault::unknown_name:
      return where + ": no value of that name";
    case graph::fault::input_size_not_allowed:
      return where + ": the input size leads to an extent of " + given + " (at least " + expected + " needed); use a larger image or tile";
    default:
      return where + ": option out of range: limit " + expected + ", got " + given;
  }
}

/// The node's value is its first input's, element for element: nothing to compute. Reshapes always; padding, cropping, resizing and
/// broadcasting when the extents happen to be equal.
inline bool is_view(const graph::graph& g, int id, const shape* extents) {
  const graph::node& n = g.nodes[id];
  using graph::op;
  if (n.kind == op::reshape || n.kind == op::stop_gradient) return true;
  if (n.input_count == 0 || !(extents[id] == extents[g.input_of(id, 0)])) return false;
  switch (n.kind) {
    case op::pad_crop:
    case op::pad_crop_grad: {
      int top = 0, left = 0;
      graph::ops::pad_offset(n.at, extents[id].h, extents[id].w, extents[id].h, extents[id].w, top, left);
      return top == 0 && left == 0;
    }
    case op::resize:
    case op::resize_grad:
      return !(n.at.alpha > 0);
    case op::reduce_like:
    case op::broadcast_like:
      return true;
    default:
      return false;
  }
}

enum class storage : unsigned char { none, arena, external };

struct plan_entry {
  storage where = storage::none;
  std::size_t offset = 0;  // in the arena, bytes
  std::size_t bytes = 0;
  int alias_of = -1;        // shares the storage of this node (already resolved to the owner)
  int pitch = 0;            // elements between pixels, where the value is columns of the owner's pixels; 0: dense
  int first = 0, last = 0;  // steps at which the storage is in use
};

/// What the planner must know about an operator of a backend.
struct plan_rules {
  /// Bytes of scratch memory while node `id` runs.
  std::size_t (*workspace)(const graph::graph&, int id, const shape* extents) = nullptr;
  /// The result may take the storage of input k.
  bool (*in_place)(const graph::graph&, int id, int k) = nullptr;
  /// Operand k (-1: the result) may be columns of a wider tensor. Null: none may, and concatenations share nothing.
  bool (*pitched)(const graph::graph&, int id, int k) = nullptr;
  std::size_t real_bytes = 4;
  const unsigned char* element_bytes = nullptr;  ///< per node, instead of real_bytes (and 4 for indices): values of several types
  std::size_t alignment = 64;
};

struct memory_plan {
  std::vector<shape> extents;
  std::vector<plan_entry> entries;
  std::size_t arena_bytes = 0;          // values and workspace together
  std::vector<std::size_t> workspaces;  // offset of each node's scratch memory
  int peak_node = -1;                   // where the arena is fullest
};

namespace plan_detail {
/// A storage, or workspace (id = ~node), with the steps at which it is in use.
struct block {
  int id;
  std::size_t bytes;
  int first, last;
};
struct placement {
  std::vector<std::size_t> offsets, workspaces;  // by node
  std::size_t arena_bytes = 0;
  int peak_node = -1;
};
/// Largest first, each at the lowest offset that is free while it is in use.
inline placement place(std::vector<block> blocks, int nodes) {
  std::stable_sort(blocks.begin(), blocks.end(), [](const block& a, const block& b) { return a.bytes > b.bytes; });
  struct placed {
    std::size_t begin, end;
    int first, last;
  };
  placement p;
  p.offsets.assign(std::size_t(nodes), 0), p.workspaces.assign(std::size_t(nodes), 0);
  std::vector<placed> done;
  std::vector<std::pair<std::size_t, std::size_t>> busy;
  for (const block& b : blocks) {
    busy.clear();
    for (const placed& d : done)
      if (d.first <= b.last && b.first <= d.last) busy.push_back({d.begin, d.end});
    std::sort(busy.begin(), busy.end());
    std::size_t at = 0;
    for (const auto& [begin, end] : busy) {
      if (at + b.bytes <= begin) break;
      at = std::max(at, end);
    }
    done.push_back({at, at + b.bytes, b.first, b.last});
    if (at + b.bytes > p.arena_bytes) p.arena_bytes = at + b.bytes, p.peak_node = b.id < 0 ? ~b.id : b.id;
    (b.id < 0 ? p.workspaces[std::size_t(~b.id)] : p.offsets[std::size_t(b.id)]) = at;
  }
  return p;
}
}  // namespace plan_detail

/// Plans g for the given extents (inputs set, others inferred here). `external[id]`: the node's storage is given by the caller.
inline memory_plan plan_memory(const graph::graph& g, const std::vector<shape>& input_extents, const std::vector<bool>& external,
                               const plan_rules& rules) {
  memory_plan p;
  const int n = g.nodes.size();
  p.extents = input_extents;
  p.extents.resize(std::size_t(n));
  if (const graph::graph_error e = graph::infer(g, p.extents.data()); e.what != graph::fault::none) throw usage_error(describe_error(g, e));
  p.entries.resize(std::size_t(n));

  std::vector<int> last(std::size_t(n), -1);
  for (int i = 0; i < n; ++i)
    for (int k = 0; k < g.nodes[i].input_count; ++k) last[std::size_t(g.input_of(i, k))] = i;
  for (const graph::output& o : g.outputs) last[std::size_t(o.node)] = n;
  for (int r : g.roots) last[std::size_t(r)] = n;
  if (g.loss >= 0) last[std::size_t(g.loss)] = n;

  auto element_bytes = [&](int id) -> std::size_t {
    if (rules.element_bytes) return rules.element_bytes[id];
    return g.nodes[id].type == graph::data_type::index ? 4 : rules.real_bytes;
  };
  auto bytes_of = [&](int id) { return std::size_t(p.extents[std::size_t(id)].size()) * element_bytes(id); };
  std::vector<int> owner(static_cast<std::size_t>(n));
  std::vector<int> owner_last(std::size_t(n), -1);
  for (int i = 0; i < n; ++i) {
    plan_entry& e = p.entries[std::size_t(i)];
    owner[std::size_t(i)] = i;
    e.bytes = bytes_of(i);
    e.first = i;
    if (external[std::size_t(i)]) {
      e.where = storage::external;
      continue;
    }
    if (e.bytes == 0) continue;
    e.where = storage::arena;
    // Reshapes and stop_gradient are the same memory; in-place operators may be, if nobody reads the input afterwards.
    for (int k = 0; k < g.nodes[i].input_count; ++k) {
      const int in = g.input_of(i, k), own = owner[std::size_t(in)];
      const bool view = k == 0 && is_view(g, i, p.extents.data());
      if (bytes_of(in) != e.bytes || element_bytes(in) != element_bytes(i) || p.entries[std::size_t(own)].where == storage::none) continue;
      if (view) {
        owner[std::size_t(i)] = own;
        break;
      }
      if (p.entries[std::size_t(own)].where != storage::arena || !rules.in_place(g, i, k)) continue;
      bool dies = owner_last[std::size_t(own)] <= i && last[std::size_t(in)] == i;
      for (int j = 0; j < g.nodes[i].input_count; ++j)  // another input in the same storage would be overwritten
        if (j != k && owner[std::size_t(g.input_of(i, j))] == own) dies = false;
      if (dies) {
        owner[std::size_t(i)] = own;
        break;
      }
    }
    const int own = owner[std::size_t(i)];
    owner_last[std::size_t(own)] = std::max({owner_last[std::size_t(own)], last[std::size_t(i)], i});
    if (own != i) e.alias_of = own;
  }
  // A view of an external value is external.
  for (plan_entry& e : p.entries)
    if (e.alias_of >= 0) e.where = p.entries[std::size_t(e.alias_of)].where;
  const auto rounded = [&](std::size_t bytes) { return (bytes + rules.alignment - 1) / rules.alignment * rules.alignment; };
  std::vector<std::size_t> workspaces(std::size_t(n) + 1, 0), storages(std::size_t(n), 0);
  std::vector<plan_detail::block> blocks, scratch;
  for (int i = 0; i < n; ++i) {
    const std::size_t need = rules.workspace ? rules.workspace(g, i, p.extents.data()) : 0;
    if (need) scratch.push_back({~i, workspaces[std::size_t(i)] = rounded(need), i, i});  // lives while its node runs
    plan_entry& e = p.entries[std::size_t(i)];
    if (e.where != storage::arena || e.alias_of >= 0) continue;
    e.last = std::min(owner_last[std::size_t(i)], n);
    blocks.push_back({i, storages[std::size_t(i)] = rounded(e.bytes), i, e.last});
  }
  blocks.insert(blocks.end(), scratch.begin(), scratch.end());
  plan_detail::placement best = plan_detail::place(blocks, n);
  if (rules.pitched) {
    std::vector<bool> view(std::size_t(n), false), planned(std::size_t(n), false), kept(std::size_t(n), false);
    for (int i = 0; i < n; ++i) {
      view[std::size_t(i)] = is_view(g, i, p.extents.data());
      planned[std::size_t(i)] = p.entries[std::size_t(i)].where == storage::arena && g.nodes[i].type == graph::data_type::real;
      kept[std::size_t(i)] = last[std::size_t(i)] == n;
    }
    const plan_detail::sharing_problem problem{g, p.extents, owner, last, view, planned, kept, storages, workspaces, rules.pitched};
    // Where the sum of what lives is smaller, the arena may still be larger for want of a place: then with fewer shared storages.
    for (int limit = n; limit > 0;) {
      plan_detail::shared_columns shared(problem);
      const int count = shared.share(limit);
      if (count == 0) break;
      std::vector<plan_detail::block> fewer;
      for (int i = 0; i < n; ++i)
        if (storages[std::size_t(i)] && shared.root(i) == i) fewer.push_back({i, storages[std::size_t(i)], shared.first(i), shared.last(i)});
      fewer.insert(fewer.end(), scratch.begin(), scratch.end());
      plan_detail::placement found = plan_detail::place(fewer, n);
      if (found.arena_bytes > best.arena_bytes) {
        limit = count / 2;
        continue;
      }
      best = std::move(found);
      for (int i = 0; i < n; ++i) {
        plan_entry& e = p.entries[std::size_t(i)];
        if (e.where != storage::arena) continue;
        const int own = owner[std::size_t(i)], home = shared.root(own);
        if (own == home) {
          if (own == i) e.first = shared.first(i), e.last = std::min(shared.last(i), n);
          continue;
        }
        e.alias_of = home;
        e.offset = std::size_t(shared.column(own)) * rules.real_bytes;
        e.pitch = p.extents[std::size_t(i)].pixels() > 1 ? p.extents[std::size_t(home)].c : 0;
      }
      break;
    }
  }
  p.arena_bytes = best.arena_bytes, p.peak_node = best.peak_node;
  p.workspaces = std::move(best.workspaces);
  for (int i = 0; i < n; ++i) {
    plan_entry& e = p.entries[std::size_t(i)];
    if (e.where == storage::arena) e.offset += best.offsets[std::size_t(e.alias_of >= 0 ? e.alias_of : i)];
  }
  return p;
}

/// Bytes that concatenations and slices of channels copy when the graph runs once: those of the parts that are not in place.
struct column_traffic {
  std::size_t copied = 0, all = 0;
};
inline column_traffic column_traffic_of(const graph::graph& g, const memory_plan& p) {
  column_traffic t;
  for (int i = 0; i < g.nodes.size(); ++i) {
    const graph::node& n = g.nodes[i];
    if ((n.kind != graph::op::concat && n.kind != graph::op::slice) || p.entries[std::size_t(i)].where != storage::arena) continue;
    std::size_t column = n.kind == graph::op::slice ? std::size_t(n.at.begin) : 0;
    for (int k = 0; k < n.input_count; ++k) {
      const int in = g.input_of(i, k);
      const plan_entry &part = p.entries[std::size_t(n.kind == graph::op::slice ? i : in)],
                       &whole = p.entries[std::size_t(n.kind == graph::op::slice ? in : i)];
      const shape& s = p.extents[std::size_t(n.kind == graph::op::slice ? i : in)];
      const std::size_t each = part.bytes / std::size_t(s.size());
      t.all += part.bytes;
      if (part.where != whole.where || part.offset != whole.offset + column * each) t.copied += part.bytes;
      column += std::size_t(s.c);
    }
  }
  return t;
}

}  // namespace rsseg
