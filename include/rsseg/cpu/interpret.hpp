// SPDX-License-Identifier: MIT
// The simplest executor: every node has memory of its own, and nodes run one after the other in the order of the graph. For teaching and
// for tests, which hold the planned executor (engine.hpp) against it.
#pragma once
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "rsseg/core/error.hpp"
#include "rsseg/core/tensor.hpp"
#include "rsseg/cpu/table.hpp"
#include "rsseg/graph/infer.hpp"

namespace rsseg::cpu {

/// Runs a graph node by node in precision T (float or double). The graph must outlive it.
/// Set the inputs, parameters and buffers (all start as zeros), run, read any node.
template <class T>
class interpreter {
 public:
  run_state state;

  /// `inputs` are the extents of the input nodes, in the order of the graph.
  /// Throws usage_error when the graph does not fit these extents.
  interpreter(const graph::graph& g, const std::vector<shape>& inputs) : g_(g) {
    const std::size_t n = std::size_t(g.nodes.size());
    extents_.resize(n);
    std::size_t next = 0;
    for (std::size_t i = 0; i < n; ++i)
      if (g.nodes[int(i)].kind == graph::op::input) {
        if (next == inputs.size()) throw usage_error("interpreter: the graph has more inputs than the " + std::to_string(next) + " extents given");
        extents_[i] = inputs[next++];
      }
    const graph::graph_error e = graph::infer(g, extents_.data());
    if (e.what != graph::fault::none)
      throw usage_error("interpreter: node " + std::to_string(e.node) + " does not fit: expected " + std::to_string(e.expected) + ", got " +
                        std::to_string(e.given) + " (fault " + std::to_string(int(e.what)) + ")");
    values_.resize(n), pointers_.resize(n);
    for (std::size_t i = 0; i < n; ++i) {
      values_[i].resize(std::size_t(extents_[i].size()) + 1);  // int32 elements fit as well
      pointers_[i] = values_[i].data();
    }
  }
  interpreter(const interpreter&) = delete;
  interpreter& operator=(const interpreter&) = delete;

  const shape& extent(int id) const { return extents_[std::size_t(id)]; }
  T* data(int id) { return values_[std::size_t(id)].data(); }
  std::int32_t* index_data(int id) { return static_cast<std::int32_t*>(pointers_[std::size_t(id)]); }
  /// Normal noise fed by the caller instead of drawn: the node is left alone.
  void feed(int id) {
    fed_.resize(values_.size());
    fed_[std::size_t(id)] = 1;
  }

  /// Runs all nodes.
  void run() {
    for (int id = 0; id < g_.nodes.size(); ++id) run_node(id);
  }
  /// Runs one node on what is there.
  void run_node(int id) {
    if (!fed_.empty() && fed_[std::size_t(id)]) return;
    const kernel_entry<T>& entry = entry_of<T>(g_.nodes[id].kind);
    if (entry.run == nullptr) return;
    call<T> c{&g_, id, extents_.data(), pointers_.data(), nullptr, nullptr, &state};
    if (entry.workspace_bytes) c.workspace = memory(workspace_, entry.workspace_bytes(g_, id, extents_.data()));
    if (entry.prepare) {
      void* packed = memory(prepared_, entry.prepared_bytes(g_, id, extents_.data()));
      entry.prepare(c, packed);
      c.prepared = packed;
    }
    entry.run(c);
  }

 private:
  struct alignas(64) line {
    unsigned char bytes[64];
  };
  static void* memory(std::vector<line>& m, std::size_t bytes) {
    m.resize((bytes + 63) / 64 + 1);
    return m.data();
  }

  const graph::graph& g_;
  std::vector<shape> extents_;
  std::vector<std::vector<T>> values_;
  std::vector<void*> pointers_;
  std::vector<unsigned char> fed_;
  std::vector<line> workspace_, prepared_;
};

}  // namespace rsseg::cpu
