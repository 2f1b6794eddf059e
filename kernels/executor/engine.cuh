// SPDX-License-Identifier: MIT
// Runs a graph on a device: the counterpart of cpu/engine.hpp, from the same graph and the same planner. One arena, one stream, a loop over the
// nodes; the first run of a size is launched node by node, the second is captured as a CUDA graph, the others replay it. What differs between runs
// (inputs, labels, seed and step, the loss scale) lies in device memory at fixed places. In half precision every value is a map (stored as T) or
// float: `narrow`. An entry says what it reads; what lies otherwise is converted on the way.
#pragma once
#include <array>

#include "backend.cuh"
#include "fusion.cuh"
#include "names.cuh"
#include "rsseg/cpu/inplace.hpp"
#include "table.cuh"

namespace rsseg::cuda {
inline namespace RSSEG_BACKEND_NS {

/// Seed and step of a run, from launch arguments to device memory.
struct set_run_numbers {
  run_numbers* to;
  std::uint64_t seed, step;
  __device__ void operator()(std::int64_t) const { to->seed = seed, to->step = step; }
};

template <class T>
class device_executor final : public executor {
  static constexpr bool half = !std::is_same_v<T, float>;

 public:
  device_executor(graph::graph g, device_backend& b) : g_(std::move(g)), b_(&b) {
    const int n = g_.nodes.size();
    skip_.assign(std::size_t(n), false);
    for (int i = 0; i < n; ++i) {
      if (training() && g_.nodes[i].kind == graph::op::loss) fusion::fuse_upsampled_loss(g_, i, skip_);
      if (!training() && !half && b.context().math == conv_math::fp32) fusion::fuse_attention(g_, i, skip_);
    }
    slot_.assign(std::size_t(n), -1);
    constant_.assign(std::size_t(n), false);
    rows_.resize(std::size_t(n));
    for (int i = 0; i < n; ++i) {
      const std::size_t u = std::size_t(i);
      const graph::op kind = g_.nodes[i].kind;
      bool known = false;
      entry_of<float>(kind, known);
      if (!known) throw usage_error("cuda: " + node_text(g_, i) + " has no CUDA kernel; run this network on the CPU");
      if (kind == graph::op::custom && custom_kind_of(g_.nodes[i].at.custom) == custom_kind::host) on_host_ = true;
      if (kind == graph::op::parameter || kind == graph::op::buffer) {
        slot_[u] = b.store().find(g_.name_of(i));
        if (slot_[u] < 0) throw error("the weights have no tensor '" + std::string(g_.name_of(i)) + "'; they belong to another network");
        constant_[u] = true;
      } else if (!training()) {  // what depends on weights only is computed once per weight change
        bool constant = g_.nodes[i].input_count > 0;
        for (int k = 0; k < g_.nodes[i].input_count; ++k) constant = constant && constant_[std::size_t(g_.input_of(i, k))];
        constant_[u] = constant && kind != graph::op::noise;
      }
      if (kind == graph::op::bn_update) moves_statistics_ = true;
      if (kind == graph::op::input) inputs_.push_back({i});
      if (kind == graph::op::target) targets_.push_back({i});
      if (kind == graph::op::noise) noises_.push_back({i});
    }
  }

  bool training() const override { return g_.loss >= 0; }
  const graph::graph& graph() const override { return g_; }
  const memory_plan& plan() const override { return plan_; }
  std::size_t bytes() const override { return need_; }
  const shape& extent(int node) const override { return plan_.extents[std::size_t(node)]; }
  bool replayed() const override { return replayed_; }
  std::vector<int> targets() const override {
    std::vector<int> ids;
    for (const feed& f : targets_) ids.push_back(f.node);
    return ids;
  }

  void plan_for(std::span<const shape> inputs, std::size_t limit_bytes) override {
    if (planned_ && std::equal(inputs.begin(), inputs.end(), planned_inputs_.begin(), planned_inputs_.end())) return;
    if (planned_) synchronise(stream(), "wait before a new plan");
    planned_ = false, replay_.reset(), runs_of_plan_ = 0;
    const int n = g_.nodes.size();
    std::vector<shape> extents{std::size_t(n)};
    std::vector<bool> external(std::size_t(n), false);
    for (std::size_t k = 0; k < inputs_.size(); ++k) {
      const int i = inputs_[k].node;
      const std::string name = "input '" + std::string(g_.name_of(i)) + "'";
      if (k >= inputs.size()) throw usage_error(name + " is missing: the network has more inputs than were given");
      if (inputs[k].c != g_.nodes[i].channels)
        throw usage_error(name + ": expected " + std::to_string(g_.nodes[i].channels) + " channels (bands), got " + std::to_string(inputs[k].c));
      if (inputs[k].n < 1 || inputs[k].h < 1 || inputs[k].w < 1) throw usage_error(name + " is empty");
      extents[std::size_t(i)] = inputs[k];
    }
    for (int i = 0; i < n; ++i) {
      const graph::op kind = g_.nodes[i].kind;
      external[std::size_t(i)] = constant_[std::size_t(i)] || skip_[std::size_t(i)] || kind == graph::op::input || kind == graph::op::target;
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
    choose_types(extents);
    std::vector<shape> inferred = extents;
    if (graph::infer(g_, inferred.data()).what == graph::fault::none) pair_statistics(inferred.data());  // plan_memory reports faults
    std::vector<unsigned char> element(static_cast<std::size_t>(n));
    for (int i = 0; i < n; ++i) element[std::size_t(i)] = narrow_[std::size_t(i)] ? sizeof(T) : 4;
    plan_rules rules;
    rules.element_bytes = element.data();
    planning() = this;
    rules.workspace = [](const graph::graph&, int id, const shape* s) { return planning()->space_of(id, s); };
    rules.in_place = [](const graph::graph& g, int id, int k) {
      return cpu::may_run_in_place(g.nodes[id].kind, k) && (g.nodes[id].kind != graph::op::add || k < operand_list<T>::most);
    };
    memory_plan plan = plan_memory(g_, extents, external, rules);

    // Behind the arena: constants and their narrow copies, inputs, labels, tables.
    std::size_t rest = 0;
    const auto take = [&](std::size_t bytes) {
      const std::size_t at = rest;
      rest += padded(bytes);
      return at;
    };
    std::vector<std::size_t> place(std::size_t(n), 0), copy_place(std::size_t(n), 0), table_place(std::size_t(n), 0);
    std::size_t table_bytes = 0;
    for (int i = 0; i < n; ++i) {
      const std::size_t u = std::size_t(i), size = std::size_t(plan.extents[u].size());
      const graph::op kind = g_.nodes[i].kind;
      if ((constant_[u] && slot_[u] < 0) || kind == graph::op::input || kind == graph::op::target) place[u] = take(plan.entries[u].bytes);
      if (narrow_copy_[u]) copy_place[u] = take(size * sizeof(T));
      if (rows_[u].table_bytes && !is_view(g_, i, plan.extents.data())) {
        table_place[u] = table_bytes;
        table_bytes += padded(rows_[u].table_bytes(g_, i, plan.extents.data()));
      }
    }
    const std::size_t tables_at = take(table_bytes), tiles_at = take(tile_bytes_), need = plan.arena_bytes + rest;
    const std::string layer = plan.peak_node >= 0 ? node_text(g_, plan.peak_node) : "";
    if (limit_bytes && need > limit_bytes)
      throw memory_error("cuda: needs " + std::to_string(need >> 20) + " MiB, more than the " + std::to_string(limit_bytes >> 20) +
                         " MiB allowed (fullest at " + layer + ", input " + std::to_string(inputs[0].h) + "x" + std::to_string(inputs[0].w) +
                         ", batch " + std::to_string(inputs[0].n) + "); use a smaller tile, crop or batch");
    if (need > arena_.size() + others_.size()) {
      arena_ = device_memory(), others_ = device_memory();
      require_memory(require_device(b_->options().device), need, layer);
    }
    arena_.resize(plan.arena_bytes + 64, "arena, fullest at " + layer);
    others_.resize(rest + 64, "constants and inputs");
    plan_ = std::move(plan), need_ = need;
    tiles_.values = reinterpret_cast<float*>(others_.data() + tiles_at);
    pointers_.assign(std::size_t(n), nullptr), copies_.assign(std::size_t(n), nullptr), tables_.assign(std::size_t(n), nullptr);
    for (int i = 0; i < n; ++i) {
      const std::size_t u = std::size_t(i);
      const graph::op kind = g_.nodes[i].kind;
      if (slot_[u] >= 0)
        pointers_[u] = b_->weight(slot_[u]);
      else if (constant_[u] || kind == graph::op::input || kind == graph::op::target)
        pointers_[u] = others_.data() + place[u];
      else if (direct_gradient_[u] >= 0)
        pointers_[u] = b_->gradient(direct_gradient_[u]);
      else if (plan_.entries[u].where == storage::arena)
        pointers_[u] = arena_.data() + plan_.entries[u].offset;
      if (narrow_copy_[u]) copies_[u] = reinterpret_cast<T*>(others_.data() + copy_place[u]);
      tables_[u] = others_.data() + tables_at + table_place[u];
    }
    for (int i = 0; i < n; ++i)  // views of external values
      if (plan_.entries[std::size_t(i)].alias_of >= 0 && pointers_[std::size_t(i)] == nullptr)
        pointers_[std::size_t(i)] = pointers_[std::size_t(plan_.entries[std::size_t(i)].alias_of)];
    std::vector<unsigned char> tables(table_bytes);
    for (int i = 0; i < n; ++i)
      if (rows_[std::size_t(i)].fill_table && !is_view(g_, i, plan_.extents.data()))
        rows_[std::size_t(i)].fill_table(g_, i, plan_.extents.data(), tables.data() + table_place[std::size_t(i)]);
    copy_bytes(stream(), others_.data() + tables_at, tables.data(), table_bytes, "copy tables to the device");
    synchronise(stream(), "copy tables to the device");
    for (auto* group : {&inputs_, &targets_, &noises_})
      for (feed& f : *group) f.reset(std::size_t(plan_.extents[std::size_t(f.node)].size()) * 4);
    planned_inputs_.assign(inputs.begin(), inputs.end());
    weights_version_ = 0;
    planned_ = true;
  }

  void set_input(int k, const float* values) override {
    if (k >= 0 && std::size_t(k) < inputs_.size()) inputs_[std::size_t(k)].stage(b_->copy_stream(), values);
  }
  void set_target(int node, const std::int32_t* values) override {
    for (feed& f : targets_)
      if (f.node == node) f.stage(b_->copy_stream(), values);
  }
  void set_noise(int node, const float* values) override {
    for (feed& f : noises_)
      if (f.node == node) {
        if (!f.given) replay_.reset(), runs_of_plan_ = 0;  // from now on it is read, not drawn
        f.given = true;
        f.stage(b_->copy_stream(), values);
      }
  }

  std::uint64_t run(std::uint64_t seed, std::uint64_t step) override {
    const std::uint64_t version = b_->push_weights();
    each(stream(), "numbers of the run", 1, set_run_numbers{b_->run(), seed, step});
    for (feed& f : inputs_) deliver(f);
    for (feed& f : targets_) deliver(f);
    if (weights_version_ != version && !training()) {
      run_nodes(true);
      weights_version_ = version;
    }
    bool capture = b_->options().capture && !on_host_ && !single_stepping();
    for (const feed& f : noises_) capture = capture && !f.given;  // fed from outside the graph
    replayed_ = capture && runs_of_plan_ > 0;
    if (replayed_) {
      if (!replay_.ready()) replay_.capture(stream(), [&] { run_nodes(false); });
      replay_.launch(stream());
    } else {
#if RSSEG_EMULATED
      std::memset(arena_.data(), emulation::poison_byte, arena_.size());
#endif
      run_nodes(false);
    }
    ++runs_of_plan_;
    if (moves_statistics_) b_->touched();
    if (!training()) return runs_++;
    loss_slot& slot = losses_[runs_ % losses_.size()];
    if (!slot.host.size()) slot.host.resize(64, "losses");
    copy_bytes(stream(), slot.host.template data<float>(), pointers_[std::size_t(g_.loss)], sizeof(float), "copy the loss to the host");
    slot.done.record(stream());
    slot.run = runs_;
    return runs_++;
  }
  float loss(std::uint64_t which) override {
    loss_slot& slot = losses_[which % losses_.size()];
    if (slot.run != which || runs_ == 0) throw usage_error("cuda: the loss of run " + std::to_string(which) + " is not kept any more");
    slot.done.wait("a training step");
    return *slot.host.template data<float>();
  }
  void read(int node, float* to) override {
    if (skip_[std::size_t(node)]) throw usage_error("cuda: " + node_text(g_, node) + " is not computed: it is fused with what follows");
    const std::size_t u = std::size_t(node), size = std::size_t(extent(node).size());
    const void* from = pointers_[u];
    if (narrow_[u]) {
      read_.resize(size * sizeof(float), "a result on its way to the host");
      convert<T, float>(stream(), static_cast<const T*>(from), read_.data<float>(), std::int64_t(size));
      from = read_.data();
    }
    copy_bytes(stream(), to, from, size * sizeof(float), "copy a result to the host");
    synchronise(stream(), "compute the result");
  }
  void read_argmax(int node, std::uint8_t* to) override {
    const shape s = extent(node);
    read_.resize(std::size_t(s.pixels()), "a class map on its way to the host");
    argmax_of(node, read_.data<std::uint8_t>());
    copy_bytes(stream(), to, read_.data(), std::size_t(s.pixels()), "copy a class map to the host");
    synchronise(stream(), "compute the class map");
  }
  void add_confusion(int node, const std::int32_t* truth, int ignore) override {
    const shape s = extent(node);
    const std::size_t pixels = std::size_t(s.pixels()), classes = std::size_t(s.c);
    if (classes * classes * 4 > 200 * 1024) throw usage_error("cuda: a confusion matrix of " + std::to_string(classes) + " classes, at most 226");
    if (confusion_classes_ != classes) {
      confusion_.resize(classes * classes * sizeof(std::uint64_t), "confusion matrix");
      set_bytes(stream(), confusion_.data(), 0, classes * classes * sizeof(std::uint64_t));
      confusion_classes_ = classes;
    }
    if (truth_.bytes != pixels * 4) {
      synchronise(stream(), "wait before labels of another size");
      truth_.reset(pixels * 4);
    }
    truth_.stage(b_->copy_stream(), truth);
    auto& labels = *truth_.slot[truth_.latest];
    labels.copied.hold(stream());
    read_.resize(pixels * 4, "a class map");
    argmax_of(node, read_.data<std::int32_t>());
    confusion<std::int32_t>(stream(), labels.device.template data<std::int32_t>(), read_.data<std::int32_t>(), ignore,
                            confusion_.data<unsigned long long>(), std::int64_t(pixels), int(classes));
    labels.consumed.record(stream());
  }
  std::vector<std::uint64_t> take_confusion() override {
    std::vector<std::uint64_t> counts(confusion_classes_ * confusion_classes_);
    if (counts.empty()) return counts;
    copy_bytes(stream(), counts.data(), confusion_.data(), counts.size() * sizeof(std::uint64_t), "copy the confusion matrix to the host");
    set_bytes(stream(), confusion_.data(), 0, counts.size() * sizeof(std::uint64_t));
    synchronise(stream(), "read the confusion matrix");
    return counts;
  }

 private:
  template <class Label>
  void argmax_of(int node, Label* to) {
    const shape s = extent(node);
    const void* from = pointers_[std::size_t(node)];
    if (half && narrow_[std::size_t(node)])
      argmax<T, Label>(stream(), static_cast<const T*>(from), to, s.pixels(), s.c);
    else
      argmax<float, Label>(stream(), static_cast<const float*>(from), to, s.pixels(), s.c);
  }

  /// Values the host hands over: pinned memory and device memory, twice, so that one batch travels while another is computed with.
  struct feed {
    int node;
    bool given = false;  // noise: fed instead of drawn
    struct half_of_pair {
      pinned_memory host;
      device_memory device;
      owned_event copied, consumed;
    };
    std::unique_ptr<half_of_pair> slot[2] = {};
    int next = 0, latest = -1;
    std::size_t bytes = 0;
    feed(int id) : node(id) {}
    void reset(std::size_t size) {
      bytes = size, latest = -1, given = false;
      for (auto& s : slot) s.reset();
    }
    void stage(stream_t copy_stream, const void* values) {
      auto& s = slot[next];
      if (!s) {
        s = std::make_unique<half_of_pair>();
        s->host.resize(bytes, "pinned memory of an input"), s->device.resize(bytes, "an input on its way");
      }
      s->copied.wait("copy an input to the device");
      std::memcpy(s->host.data(), values, bytes);
      s->consumed.hold(copy_stream);
      copy_bytes(copy_stream, s->device.data(), s->host.data(), bytes, "copy an input to the device");
      s->copied.record(copy_stream);
      latest = next, next ^= 1;
    }
  };
  struct loss_slot {
    pinned_memory host;
    owned_event done;
    std::uint64_t run = ~std::uint64_t(0);
  };

  stream_t stream() const { return b_->stream(); }
  static bool single_stepping() {
#if RSSEG_EMULATED
    return false;
#else
    return synchronous();
#endif
  }
  static device_executor*& planning() {
    static thread_local device_executor* p = nullptr;
    return p;
  }
  /// Staged values to their place in the graph.
  void deliver(feed& f) {
    if (f.latest < 0) return;
    auto& s = *f.slot[f.latest];
    s.copied.hold(stream());
    const std::size_t u = std::size_t(f.node);
    if (half && narrow_[u])
      convert<float, T>(stream(), s.device.template data<float>(), static_cast<T*>(pointers_[u]), extent(f.node).size());
    else
      copy_bytes(stream(), pointers_[u], s.device.data(), f.bytes, "deliver an input");
    s.consumed.record(stream());
    f.latest = -1;
  }

  /// Which values are stored as T, and which entries run on them.
  void choose_types(const std::vector<shape>& extents) {
    using graph::op;
    const int n = g_.nodes.size();
    narrow_.assign(std::size_t(n), false), on_narrow_.assign(std::size_t(n), false), narrow_copy_.assign(std::size_t(n), false);
    for (int i = 0; i < n; ++i) {
      const std::size_t u = std::size_t(i);
      const graph::node& node = g_.nodes[i];
      bool known = false;
      rows_[u] = entry_as_float<T>(node.kind, known);
      if constexpr (half) {
        bool maps = false;
        for (int k = 0; k < node.input_count; ++k) maps = maps || (!extent_only(node, k) && narrow_[std::size_t(g_.input_of(i, k))]);
        switch (node.kind) {
          case op::input:
            narrow_[u] = extents[u].h > 1 || extents[u].w > 1;
            break;
          case op::noise:
          case op::constant:
            narrow_[u] = node.input_count > 0 && narrow_[std::size_t(g_.input_of(i, 0))];
            break;
          default:
            narrow_[u] = maps;
        }
        const kernel_entry<T> row = entry_of<T>(node.kind, known);
        if (known && row.run && node.kind != op::noise && node.kind != op::constant && !(row.maps & result_map)) narrow_[u] = false;
        if (!known || node.type == graph::data_type::index || direct_gradient_[u] >= 0 || slot_[u] >= 0) narrow_[u] = false;
        bool any = narrow_[u] && (row.maps & result_map);
        for (int k = 0; k < node.input_count; ++k)
          any = any || ((row.maps >> k & 1u) && !extent_only(node, k) && narrow_[std::size_t(g_.input_of(i, k))]);
        on_narrow_[u] = known && any && row.run;
        if (on_narrow_[u]) adopt(rows_[u], row);
        for (int k = 0; k < node.input_count; ++k)  // weights: a narrow copy, remade when they change
          if (wants_narrow(i, k) && !narrow_[std::size_t(g_.input_of(i, k))] && constant_[std::size_t(g_.input_of(i, k))])
            narrow_copy_[std::size_t(g_.input_of(i, k))] = true;
      }
    }
  }
  /// Rows of both types share everything but the function that runs; that one is looked up again.
  struct row_info {
    map_mask maps = 0;
    std::size_t (*workspace_bytes)(const graph::graph&, int, const shape*, const executor_context&) = nullptr;
    std::size_t (*table_bytes)(const graph::graph&, int, const shape*) = nullptr;
    void (*fill_table)(const graph::graph&, int, const shape*, void*) = nullptr;
    void (*run_float)(const call<float>&) = nullptr;
    void (*run_half)(const call<T>&) = nullptr;
  };
  template <class U>
  static row_info entry_as_float(graph::op kind, bool& known) {
    const kernel_entry<float> e = entry_of<float>(kind, known);
    return {e.maps, e.workspace_bytes, e.table_bytes, e.fill_table, e.run, nullptr};
  }
  static void adopt(row_info& to, const kernel_entry<T>& e) { to = {e.maps, e.workspace_bytes, e.table_bytes, e.fill_table, to.run_float, e.run}; }

  /// Which convolutions leave statistics for the node behind them.
  void pair_statistics(const shape* s) {
    const int n = g_.nodes.size();
    with_tiles_.assign(std::size_t(n), false), tile_bytes_ = 0;
    for (int i = 0; i < n; ++i) {
      const int c = fusion::convolution_before(g_, i);
      if (c < 0 || on_narrow_[std::size_t(c)] != on_narrow_[std::size_t(i)] || converts(i, 0)) continue;
      if (half && on_narrow_[std::size_t(c)] && gives_narrow(c) != bool(narrow_[std::size_t(c)])) continue;
      const conv_geometry geometry = graph::ops::geometry_of(g_, c, s);
      if (!(half && on_narrow_[std::size_t(c)] ? fusion::wants_statistics<T>(b_->context(), geometry)
                                               : fusion::wants_statistics<float>(b_->context(), geometry)))
        continue;
      with_tiles_[std::size_t(c)] = with_tiles_[std::size_t(i)] = true;
      const std::size_t bytes = conv_statistics_size(geometry) * sizeof(float);
      if (bytes > tile_bytes_) tile_bytes_ = bytes;
    }
  }

  bool wants_narrow(int i, int k) const {
    const graph::node& node = g_.nodes[i];
    if (!half || !on_narrow_[std::size_t(i)] || extent_only(node, k)) return false;
    return g_.nodes[g_.input_of(i, k)].type != graph::data_type::index && (rows_[std::size_t(i)].maps >> k & 1u);
  }
  bool gives_narrow(int i) const { return half && on_narrow_[std::size_t(i)] && (rows_[std::size_t(i)].maps & result_map); }
  /// Input k must be converted in front of node i.
  bool converts(int i, int k) const {
    const int in = g_.input_of(i, k);
    if (!half || extent_only(g_.nodes[i], k) || g_.nodes[in].type == graph::data_type::index) return false;
    return wants_narrow(i, k) != narrow_[std::size_t(in)] && !(wants_narrow(i, k) && narrow_copy_[std::size_t(in)]);
  }
  std::size_t own_space(int id, const shape* s) const {
    const row_info& row = rows_[std::size_t(id)];
    return row.workspace_bytes && row_runs(id) ? padded(row.workspace_bytes(g_, id, s, b_->context())) : 0;
  }
  bool row_runs(int id) const { return rows_[std::size_t(id)].run_float || rows_[std::size_t(id)].run_half; }
  std::size_t space_of(int id, const shape* s) const {
    if (!row_runs(id) || skip_[std::size_t(id)] || is_view(g_, id, s)) return 0;
    std::size_t bytes = own_space(id, s);
    if constexpr (half) {
      for (int k = 0; k < g_.nodes[id].input_count; ++k)
        if (converts(id, k)) bytes += padded(std::size_t(s[g_.input_of(id, k)].size()) * (wants_narrow(id, k) ? sizeof(T) : 4));
      if (gives_narrow(id) != bool(narrow_[std::size_t(id)])) bytes += padded(std::size_t(s[id].size()) * (gives_narrow(id) ? sizeof(T) : 4));
    }
    return bytes;
  }
  void convert_values(const void* from, bool from_narrow, void* to, std::int64_t size) {
    if (from_narrow)
      convert<T, float>(stream(), static_cast<const T*>(from), static_cast<float*>(to), size);
    else
      convert<float, T>(stream(), static_cast<const float*>(from), static_cast<T*>(to), size);
  }

  void run_nodes(bool constants) {
    if constexpr (half) {  // narrow copies of weights: once per change in inference, each step in training
      if (constants || training())
        for (int i = 0; i < g_.nodes.size(); ++i)
          if (narrow_copy_[std::size_t(i)] && slot_[std::size_t(i)] >= 0) copy_narrow(i);
    }
    for (int i = 0; i < g_.nodes.size(); ++i) {
      const std::size_t u = std::size_t(i);
      const graph::op kind = g_.nodes[i].kind;
      if (kind == graph::op::input || kind == graph::op::parameter || kind == graph::op::buffer || kind == graph::op::target) continue;
      if (constant_[u] != constants) continue;
      try {
        run_node(i);
        if constexpr (half)
          if (constants && narrow_copy_[u]) copy_narrow(i);
      } catch (const memory_error& e) {
        throw memory_error(std::string(e.what()) + " (" + node_text(g_, i) + ")");
      } catch (const usage_error& e) {
        throw usage_error(std::string(e.what()) + " (" + node_text(g_, i) + ")");
      } catch (const error& e) {
        throw error(std::string(e.what()) + " (" + node_text(g_, i) + ")", e.exit_code());
      }
    }
    if (constants) return;
    for (int i = 0; i + 1 < g_.gradients.size(); i += 2) {  // gradients that could not be written in place
      const int parameter = g_.gradients[i], grad = g_.gradients[i + 1];
      if (g_.nodes[parameter].kind != graph::op::parameter) continue;
      const int slot = slot_[std::size_t(parameter)];
      if (direct_gradient_[std::size_t(grad)] == slot) continue;
      const std::int64_t size = std::int64_t(b_->store().entries()[std::size_t(slot)].size);
      if (half && narrow_[std::size_t(grad)])
        convert_values(pointers_[std::size_t(grad)], true, b_->gradient(slot), size);
      else
        copy_values(stream(), static_cast<const float*>(pointers_[std::size_t(grad)]), b_->gradient(slot), size);
    }
  }
  void copy_narrow(int i) {
    convert<float, T>(stream(), static_cast<const float*>(pointers_[std::size_t(i)]), copies_[std::size_t(i)], plan_.extents[std::size_t(i)].size());
  }
  void run_node(int i) {
    const std::size_t u = std::size_t(i);
    if (skip_[u]) return;
    const graph::node& node = g_.nodes[i];
    const std::int64_t size = plan_.extents[u].size();
    if (is_view(g_, i, plan_.extents.data())) {
      const int in = g_.input_of(i, 0);
      const void* from = pointers_[std::size_t(in)];
      if (half && narrow_[std::size_t(in)] != narrow_[u])
        convert_values(from, narrow_[std::size_t(in)], pointers_[u], size);
      else if (from != pointers_[u])
        copy_bytes(stream(), pointers_[u], from, plan_.entries[u].bytes, "copy on the device");
      return;
    }
    if (node.kind == graph::op::noise)
      for (feed& f : noises_)
        if (f.node == i && f.given) {
          deliver_noise(f);
          return;
        }
    if (!row_runs(i)) return;
    unsigned char* at = arena_.data() + plan_.workspaces[u];
    unsigned char* workspace = at;
    void* inputs[64];
    if (node.input_count > 64) throw usage_error("cuda: more than 64 inputs");
    at += own_space(i, plan_.extents.data());
    for (int k = 0; k < node.input_count; ++k) {
      const std::size_t in = std::size_t(g_.input_of(i, k));
      inputs[k] = pointers_[in];
      if constexpr (half) {
        if (converts(i, k)) {
          const std::int64_t count = plan_.extents[in].size();
          convert_values(pointers_[in], narrow_[in], at, count);
          inputs[k] = at;
          at += padded(std::size_t(count) * (wants_narrow(i, k) ? sizeof(T) : 4));
        } else if (wants_narrow(i, k) && narrow_copy_[in]) {
          inputs[k] = copies_[in];
        }
      }
    }
    void* out = pointers_[u];
    const bool convert_result = gives_narrow(i) != bool(narrow_[u]) && half && node.type != graph::data_type::index;
    if (convert_result) out = at;
    const row_info& row = rows_[u];
    tile_statistics* const tiles = with_tiles_[u] ? &tiles_ : nullptr;
    if (half && on_narrow_[u])
      row.run_half(call<T>{&g_, i, plan_.extents.data(), inputs, out, workspace, tables_[u], b_->run(), &b_->context(), tiles});
    else
      row.run_float(call<float>{&g_, i, plan_.extents.data(), inputs, out, workspace, tables_[u], b_->run(), &b_->context(), tiles});
    if (convert_result) convert_values(out, gives_narrow(i), pointers_[u], size);
  }
  void deliver_noise(feed& f) {
    auto& s = *f.slot[f.next ^ 1];  // the one staged last
    s.copied.hold(stream());
    if (half && narrow_[std::size_t(f.node)])
      convert_values(s.device.data(), false, pointers_[std::size_t(f.node)], extent(f.node).size());
    else
      copy_bytes(stream(), pointers_[std::size_t(f.node)], s.device.data(), f.bytes, "deliver noise");
  }

  graph::graph g_;
  device_backend* b_;
  std::vector<int> slot_, direct_gradient_;
  std::vector<bool> skip_, with_tiles_, constant_, narrow_, on_narrow_, narrow_copy_;
  std::vector<row_info> rows_;
  std::vector<feed> inputs_, targets_, noises_;
  bool on_host_ = false, moves_statistics_ = false, planned_ = false, replayed_ = false;
  memory_plan plan_;
  std::vector<shape> planned_inputs_;
  std::size_t need_ = 0, tile_bytes_ = 0;
  tile_statistics tiles_;
  device_memory arena_, others_, read_, confusion_;
  feed truth_{-1};
  std::size_t confusion_classes_ = 0;
  std::vector<void*> pointers_;
  std::vector<T*> copies_;
  std::vector<const void*> tables_;
  captured_graph replay_;
  std::uint64_t runs_ = 0, runs_of_plan_ = 0, weights_version_ = 0;
  std::array<loss_slot, 64> losses_;
};

}  // namespace RSSEG_BACKEND_NS
}  // namespace rsseg::cuda
