// SPDX-License-Identifier: MIT
// Definitions of memory_plan.hpp; in compiled mode librsseg has them (every user would pay for the compilation, and none needs it inline).
#pragma once
#include <algorithm>
#include <utility>

#include "rsseg/plan/memory_plan.hpp"
#include "rsseg/plan/sharing.hpp"

#if defined(RSSEG_BUILDING)
#define RSSEG_PLAN_INLINE
#else
#define RSSEG_PLAN_INLINE inline
#endif

namespace rsseg {

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

RSSEG_PLAN_INLINE memory_plan plan_memory(const graph::graph& g, const std::vector<shape>& input_extents, const std::vector<bool>& external,
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
      planned[std::size_t(i)] =
          p.entries[std::size_t(i)].where == storage::arena && g.nodes[i].type == graph::data_type::real && element_bytes(i) == rules.real_bytes;
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

RSSEG_PLAN_INLINE column_traffic column_traffic_of(const graph::graph& g, const memory_plan& p) {
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

#undef RSSEG_PLAN_INLINE
