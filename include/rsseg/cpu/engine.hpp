// SPDX-License-Identifier: MIT
// Runs a graph on the CPU: plans it for an input size, binds parameters, gradients and arena, and calls one kernel per node.
// The loop is not a template of the network: a further network in a program costs a table, not code.
#pragma once
#include <algorithm>
#include <cstring>
#include <memory>
#include <new>
#include <span>

#include "rsseg/core/parallel.hpp"
#include "rsseg/cpu/inplace.hpp"
#include "rsseg/cpu/pitched.hpp"
#include "rsseg/cpu/table.hpp"
#include "rsseg/graph/passes.hpp"
#include "rsseg/plan/memory_plan.hpp"
#include "rsseg/plan/parameter_store.hpp"

namespace rsseg::cpu {

/// Memory on cache lines, not initialised.
class aligned_buffer {
 public:
  void resize(std::size_t bytes) {
    if (bytes <= size_) return;
    data_.reset();
    size_ = 0;
    data_.reset(static_cast<std::byte*>(::operator new(bytes, std::align_val_t(64))));
    size_ = bytes;
  }
  std::byte* data() const { return data_.get(); }
  std::size_t size() const { return size_; }

 private:
  struct release {
    void operator()(std::byte* p) const { ::operator delete(p, std::align_val_t(64)); }
  };
  std::unique_ptr<std::byte, release> data_;
  std::size_t size_ = 0;
};

template <class T>
class engine {
 public:
  /// g: an inference or a training graph; store: the weights, by name. Gradients (training graphs) go to an array laid out like store.values().
  engine(graph::graph g, parameter_store<T>& store) : g_(std::move(g)), store_(&store) {
    const int n = g_.nodes.size();
    slot_.assign(std::size_t(n), -1);
    constant_.assign(std::size_t(n), false);
    for (int i = 0; i < n; ++i) {
      const graph::op kind = g_.nodes[i].kind;
      if (kind == graph::op::parameter || kind == graph::op::buffer) {
        slot_[std::size_t(i)] = store.find(g_.name_of(i));
        if (slot_[std::size_t(i)] < 0) throw error("the weights have no tensor '" + std::string(g_.name_of(i)) + "'; they belong to another network");
        constant_[std::size_t(i)] = true;
      } else if (!training()) {  // what depends on weights only is computed once per weight change
        bool constant = g_.nodes[i].input_count > 0;
        for (int k = 0; k < g_.nodes[i].input_count; ++k) constant = constant && constant_[std::size_t(g_.input_of(i, k))];
        constant_[std::size_t(i)] = constant && kind != graph::op::noise;
      }
    }
    if (training()) gradients_.assign(store.values().size(), T(0));
  }

  bool training() const { return g_.loss >= 0; }
  const graph::graph& graph() const { return g_; }
  const memory_plan& plan() const { return plan_; }
  /// Bytes of arena, folded and packed weights; known after plan_for.
  std::size_t bytes() const { return plan_.arena_bytes + constants_bytes_ + prepared_bytes_; }
  /// Gradients of the last training run, laid out like the store's values.
  std::vector<T>& gradients() { return gradients_; }

  /// Plans for these input extents (one per input node, in order) and makes room. Throws usage_error for sizes the network refuses and
  /// memory_error if more than limit_bytes (0: no limit) would be needed, when nothing is allocated, or more than the system gives.
  void plan_for(std::span<const shape> inputs, std::size_t limit_bytes = 0) {
    // Workspaces grow with the number of threads, so a larger number asks for a new plan.
    if (planned_ && threads() <= planned_threads_ && std::equal(inputs.begin(), inputs.end(), planned_inputs_.begin(), planned_inputs_.end())) return;
    plan_only(inputs, limit_bytes);
    try {
      make_room();
    } catch (const std::bad_alloc&) {
      refuse("more than the system gives", inputs[0]);
    }
    bind_weights();
    planned_inputs_.assign(inputs.begin(), inputs.end());
    prepared_version_ = 0;
    planned_threads_ = threads();
    planned_ = true;
  }

  /// The plan alone, for plan() and bytes(): allocates nothing. Throws as plan_for.
  void plan_only(std::span<const shape> inputs, std::size_t limit_bytes = 0) {
    planned_ = false;
    const int n = g_.nodes.size();
    std::vector<shape> extents{std::size_t(n)};
    std::vector<bool> external(std::size_t(n), false);
    std::size_t k = 0;
    for (int i = 0; i < n; ++i) {
      const graph::op kind = g_.nodes[i].kind;
      if (kind == graph::op::input) {
        if (k >= inputs.size())
          throw usage_error("input '" + std::string(g_.name_of(i)) + "' is missing: the network has more inputs than were given");
        if (inputs[k].c != g_.nodes[i].channels)
          throw usage_error("input '" + std::string(g_.name_of(i)) + "': expected " + std::to_string(g_.nodes[i].channels) +
                            " channels (bands), got " + std::to_string(inputs[k].c));
        if (inputs[k].n < 1 || inputs[k].h < 1 || inputs[k].w < 1) throw usage_error("input '" + std::string(g_.name_of(i)) + "' is empty");
        extents[std::size_t(i)] = inputs[k++];
      }
      external[std::size_t(i)] = constant_[std::size_t(i)] || kind == graph::op::input || kind == graph::op::target;
    }
    direct_gradient_.assign(std::size_t(n), -1);
    for (int i = 0; i + 1 < g_.gradients.size(); i += 2) {
      const int parameter = g_.gradients[i], grad = g_.gradients[i + 1];
      const graph::op kind = g_.nodes[grad].kind;
      if (g_.nodes[parameter].kind != graph::op::parameter) continue;
      if (direct_gradient_[std::size_t(grad)] < 0 && kind != graph::op::reshape && kind != graph::op::stop_gradient && g_.nodes[grad].pass == 1) {
        direct_gradient_[std::size_t(grad)] = slot_[std::size_t(parameter)];
        external[std::size_t(grad)] = true;
      }
    }
    plan_rules rules;
    rules.real_bytes = sizeof(T);
    rules.workspace = [](const graph::graph& g, int id, const shape* s) {
      const auto f = entry_of<T>(g.nodes[id].kind);
      return (f.workspace_bytes ? f.workspace_bytes(g, id, s) : 0);
    };
    rules.in_place = [](const graph::graph& g, int id, int k) { return may_run_in_place(g.nodes[id].kind, k); };
    if (share_columns_) rules.pitched = [](const graph::graph& g, int id, int k) { return takes_pitch(g.nodes[id].kind, k); };
    memory_plan plan = plan_memory(g_, extents, external, rules);
    // Room for constants, and for packed weights: in training one place, made again in front of each use. In inference, too, where a layer has
    // so many pixels that packing costs little beside it; the others are kept. Folded weights are needed for packing only
    // and share one place; where packing goes piece by piece, folding does, too.
    constant_at_.assign(std::size_t(n), 0), prepared_at_.assign(std::size_t(n), 0), prepared_size_.assign(std::size_t(n), 0);
    std::size_t constants = 0, prepared = 0, folded = 0, remade = 0;
    const auto aligned = [](std::size_t b) { return (b + 63) / 64 * 64; };
    folded_for_.assign(std::size_t(n), -1);
    folds_later_.assign(std::size_t(n), false);
    remake_.assign(std::size_t(n), training()), pieces_.assign(std::size_t(n), false);
    const graph::list<int> uses = graph::use_counts(g_);
    for (int i = 0; i < n && !training(); ++i) {
      if (!entry_of<T>(g_.nodes[i].kind).prepared_bytes || g_.nodes[i].input_count < 2) continue;
      const int w = g_.input_of(i, 1);
      if (g_.nodes[w].kind == graph::op::fold_weights && constant_[std::size_t(w)] && uses[w] == 1)
        folded_for_[std::size_t(i)] = w, folds_later_[std::size_t(w)] = true;
    }
    for (int i = 0; i < n; ++i) {
      const std::size_t u = std::size_t(i);
      if (constant_[u] && slot_[u] < 0 && !folds_later_[u]) constant_at_[u] = constants, constants += aligned(plan.entries[u].bytes);
      const auto& entry = entry_of<T>(g_.nodes[i].kind);
      if (!entry.prepared_bytes) continue;
      prepared_size_[u] = entry.prepared_bytes(g_, i, plan.extents.data());
      // Packing for Winograd costs about 5 ns per weight, else 1 ns; the product 9 and 20 ps per weight and pixel (Zen 3, one thread).
      const bool transformed = prepared_size_[u] > 2 * plan.entries[std::size_t(g_.input_of(i, 1))].bytes;
      remake_[u] = training() || (plan.extents[u].pixels() >= (transformed ? 1024 : 256) && prepared_size_[u] >= (std::size_t(1) << 16));
      pieces_[u] = remake_[u] && !training() && entry.run_in_pieces;
      if (folded_for_[u] >= 0 && !pieces_[u]) folded = std::max(folded, aligned(plan.entries[std::size_t(folded_for_[u])].bytes));
      if (pieces_[u]) {
        const auto piece = entry.piece_bytes(g_, i, plan.extents.data());
        prepared_size_[u] = piece.packed;
        if (folded_for_[u] >= 0) folded = std::max(folded, aligned(piece.plain));
      }
      if (remake_[u])
        remade = std::max(remade, aligned(prepared_size_[u]));
      else
        prepared_at_[u] = prepared, prepared += aligned(prepared_size_[u]);
    }
    for (int i = 0; i < n; ++i) {
      if (folds_later_[std::size_t(i)]) constant_at_[std::size_t(i)] = constants;
      if (remake_[std::size_t(i)]) prepared_at_[std::size_t(i)] = prepared;
    }
    constants += folded, prepared += remade;
    plan_ = std::move(plan);
    constants_bytes_ = constants, prepared_bytes_ = prepared;
    if (limit_bytes && bytes() > limit_bytes) refuse("more than the " + std::to_string(limit_bytes >> 20) + " MiB allowed", inputs[0]);
  }

  /// Whether the parts of concatenations may lie in their memory (they may, unless switched off here): same bits, other memory.
  void set_share_columns(bool on) { share_columns_ = on, planned_ = false; }

  /// Memory of input number k for the next run; the caller keeps it alive.
  void set_input(int k, const T* data) {
    for (int i = 0; i < g_.nodes.size(); ++i)
      if (g_.nodes[i].kind == graph::op::input && k-- == 0) {
        pointers_[std::size_t(i)] = const_cast<T*>(data);
        for (int j = i + 1; j < g_.nodes.size(); ++j)
          if (plan_.entries[std::size_t(j)].alias_of == i) pointers_[std::size_t(j)] = pointers_[std::size_t(i)];
        return;
      }
  }
  /// Class ids of every target node: (node, values); fill before a training run.
  std::vector<std::pair<int, std::vector<std::int32_t>>>& targets() { return targets_; }
  /// Numbers to use instead of drawn ones for a noise node; null: drawn.
  void set_noise(int node, const T* values) { noise_.resize(std::size_t(g_.nodes.size()), nullptr), noise_[std::size_t(node)] = values; }

  /// Called after every node that ran, with what was set here: measuring programs take the time in between.
  void set_observer(void (*seen)(void* self, int node), void* self) { seen_ = seen, seen_by_ = self; }

  void run(const run_state& state) {
    const bool fresh = !training() && prepared_version_ != store_->version();
    if (bound_to_ != store_->values().data()) bind_weights();
    call<T> c{&g_, 0, plan_.extents.data(), pointers_.data(), nullptr, nullptr, &state, pitches_.data()};
    for (int i = 0; i < g_.nodes.size(); ++i) {
      const std::size_t u = std::size_t(i);
      const graph::op kind = g_.nodes[i].kind;
      if (kind == graph::op::input || kind == graph::op::parameter || kind == graph::op::buffer || kind == graph::op::target) continue;
      if (constant_[u] && (!fresh || folds_later_[u])) continue;
      if (is_view(g_, i, plan_.extents.data())) {
        const void* from = pointers_[std::size_t(g_.input_of(i, 0))];
        if (from != pointers_[u]) std::memcpy(pointers_[u], from, plan_.entries[u].bytes);
        if (seen_) seen_(seen_by_, i);
        continue;
      }
      if (kind == graph::op::noise && !noise_.empty() && noise_[u]) {
        std::memcpy(pointers_[u], noise_[u], plan_.entries[u].bytes);
        continue;
      }
      const auto& entry = entry_of<T>(kind);
      c.id = i;
      c.workspace = arena_.data() + plan_.workspaces[u];
      c.prepared = nullptr;
      if (entry.prepare && prepared_size_[u]) {
        std::byte* packed = prepared_.data() + prepared_at_[u];
        if (remake_[u] || fresh || !constant_[std::size_t(g_.input_of(i, 1))]) {
          if (folded_for_[u] >= 0 && !pieces_[u]) c.id = folded_for_[u], entry_of<T>(graph::op::fold_weights).run(c), c.id = i;
          if (!pieces_[u]) entry.prepare(c, packed);
        }
        c.prepared = packed;
      }
      c.folded = pieces_[u] && folded_for_[u] >= 0 ? pointers_[std::size_t(folded_for_[u])] : nullptr;
      if (pieces_[u])
        entry.run_in_pieces(c, prepared_.data() + prepared_at_[u]);
      else
        entry.run(c);
      if (seen_) seen_(seen_by_, i);
    }
    if (!training()) prepared_version_ = store_->version();
    for (int i = 0; i + 1 < g_.gradients.size(); i += 2) {  // gradients that could not be written in place
      const int parameter = g_.gradients[i], grad = g_.gradients[i + 1];
      if (g_.nodes[parameter].kind != graph::op::parameter) continue;
      const int slot = slot_[std::size_t(parameter)];
      if (direct_gradient_[std::size_t(grad)] == slot) continue;
      std::memcpy(gradients_.data() + store_->entries()[std::size_t(slot)].offset, pointers_[std::size_t(grad)],
                  store_->entries()[std::size_t(slot)].size * sizeof(T));
    }
  }

  /// A node's numbers after run(). Outputs and the loss are dense; others may be columns of a wider tensor (plan().entries[node].pitch), or gone.
  const T* value(int node) const { return static_cast<const T*>(pointers_[std::size_t(node)]); }
  const shape& extent(int node) const { return plan_.extents[std::size_t(node)]; }

 private:
  /// A name for the node to tell users: gradients have none and take that of a layer they come from.
  std::string layer_of(int id) const {
    for (int next; id >= 0; id = next) {
      if (!g_.name_of(id).empty()) return std::string(g_.name_of(id));
      next = -1;
      for (int k = 0; k < g_.nodes[id].input_count; ++k)
        if (const int in = g_.input_of(id, k); next < 0 || !g_.name_of(in).empty()) next = in;
    }
    return "";
  }
  [[noreturn]] void refuse(const std::string& why, const shape& in) const {
    const std::string layer = layer_of(plan_.peak_node);
    throw memory_error("needs " + std::to_string(bytes() >> 20) + " MiB, " + why + " (fullest at layer '" + layer + "', input " +
                       std::to_string(in.h) + "x" + std::to_string(in.w) + ", batch " + std::to_string(in.n) +
                       "); use a smaller tile, crop or batch");
  }
  /// Memory for what plan_only laid out, and everybody's place in it.
  void make_room() {
    const int n = g_.nodes.size();
    arena_.resize(plan_.arena_bytes);
    constants_.resize(constants_bytes_);
    prepared_.resize(prepared_bytes_);
    targets_.clear();
    pointers_.assign(std::size_t(n), nullptr);
    pitches_.assign(std::size_t(n), 0);
    for (int i = 0; i < n; ++i) {
      const std::size_t u = std::size_t(i);
      const plan_entry& e = plan_.entries[u];
      if (slot_[u] >= 0)
        pointers_[u] = store_->data(slot_[u]);
      else if (constant_[u])
        pointers_[u] = constants_.data() + constant_at_[u];
      else if (direct_gradient_[u] >= 0)
        pointers_[u] = gradients_.data() + store_->entries()[std::size_t(direct_gradient_[u])].offset;
      else if (g_.nodes[i].kind == graph::op::target)
        targets_.push_back({i, std::vector<std::int32_t>(std::size_t(plan_.extents[u].size()))}), pointers_[u] = targets_.back().second.data();
      else if (e.where == storage::arena)
        pointers_[u] = arena_.data() + e.offset, pitches_[u] = e.pitch;
    }
    for (auto& t : targets_) pointers_[std::size_t(t.first)] = t.second.data();
    for (int i = 0; i < n; ++i)  // views of external values
      if (plan_.entries[std::size_t(i)].alias_of >= 0 && pointers_[std::size_t(i)] == nullptr)
        pointers_[std::size_t(i)] = pointers_[std::size_t(plan_.entries[std::size_t(i)].alias_of)];
  }
  /// Points at the store's values, which the caller may have replaced by another vector.
  void bind_weights() {
    bound_to_ = store_->values().data();
    for (int i = 0; i < g_.nodes.size(); ++i) {
      const std::size_t u = std::size_t(i);
      const int source = slot_[u] >= 0 ? i : plan_.entries[u].alias_of;
      if (source >= 0 && slot_[std::size_t(source)] >= 0) pointers_[u] = store_->data(slot_[std::size_t(source)]);
    }
  }

  graph::graph g_;
  const T* bound_to_ = nullptr;
  parameter_store<T>* store_;
  std::vector<int> slot_;  // of parameters and buffers in the store
  std::vector<bool> constant_;
  std::vector<int> direct_gradient_;  // store entry whose gradient this node writes
  memory_plan plan_;
  bool planned_ = false;
  int planned_threads_ = 0;
  std::vector<shape> planned_inputs_;
  std::vector<void*> pointers_;
  std::vector<int> pitches_;
  bool share_columns_ = true;
  std::vector<std::pair<int, std::vector<std::int32_t>>> targets_;
  std::vector<const T*> noise_;
  std::vector<T> gradients_;
  aligned_buffer arena_, constants_, prepared_;
  std::vector<std::size_t> constant_at_, prepared_at_, prepared_size_;
  std::vector<bool> remake_;       // weights are packed before every use
  std::vector<bool> pieces_;       // by the run itself, piece by piece
  std::vector<bool> folds_later_;  // folded weights that are made when their reader packs them:
  std::vector<int> folded_for_;    // of that reader, else -1
  std::size_t constants_bytes_ = 0, prepared_bytes_ = 0;
  std::uint64_t prepared_version_ = 0;
  void (*seen_)(void*, int) = nullptr;
  void* seen_by_ = nullptr;
};

}  // namespace rsseg::cpu
