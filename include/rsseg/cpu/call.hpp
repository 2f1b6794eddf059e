// SPDX-License-Identifier: MIT
// What a CPU kernel of one graph node is called with. Kernels are free functions `void name(const call<T>&)`, listed in table.hpp.
#pragma once
#include <cstddef>
#include <cstdint>

#include "rsseg/graph/graph.hpp"

namespace rsseg::cpu {

/// State of a run that some operators read.
struct run_state {
  std::uint64_t seed = 0;
  std::uint64_t step = 0;  ///< dropout and noise draw from (seed, step, node)
};

/// One node to run. Tensors are NHWC; index tensors are int32. Kernels allocate nothing and do not throw.
/// A tensor may be columns of a wider one (a part of a concatenation, in the concatenation's own memory): then its pixels are `pitch` elements apart.
/// That happens only to operands that takes_pitch (pitched.hpp) allows; all other kernels may take their tensors to be dense.
template <class T>
struct call {
  const graph::graph* g;
  int id;
  const shape* extents;   // of every node
  void* const* pointers;  // of every node
  void* workspace;        // as large as the operator's workspace function said
  const void* prepared;   // packed weights, if the operator prepares any
  const run_state* state;
  const int* pitches = nullptr;  // of every node, 0: dense; null: all are
  void* folded = nullptr;        // in run_in_pieces: room for a piece of the weights, which are those of a fold node that has not run; null: it has

  const graph::node& node() const { return g->nodes[id]; }
  const graph::attributes& at() const { return g->nodes[id].at; }
  int inputs() const { return g->nodes[id].input_count; }
  int input_id(int k) const { return g->input_of(id, k); }
  const T* in(int k) const { return static_cast<const T*>(pointers[input_id(k)]); }
  const std::int32_t* index_in(int k) const { return static_cast<const std::int32_t*>(pointers[input_id(k)]); }
  const shape& in_extent(int k) const { return extents[input_id(k)]; }
  T* out() const { return static_cast<T*>(pointers[id]); }
  std::int32_t* index_out() const { return static_cast<std::int32_t*>(pointers[id]); }
  const shape& extent() const { return extents[id]; }
  std::int64_t pitch_of(int node_id) const { return pitches != nullptr && pitches[node_id] > 0 ? pitches[node_id] : extents[node_id].c; }
  std::int64_t in_pitch(int k) const { return pitch_of(input_id(k)); }
  std::int64_t out_pitch() const { return pitch_of(id); }
  bool dense(int node_id) const { return pitch_of(node_id) == extents[node_id].c; }
};

/// How to run an operator. Null functions: nothing to do.
template <class T>
struct kernel_entry {
  void (*run)(const call<T>&) = nullptr;
  std::size_t (*workspace_bytes)(const graph::graph&, int id, const shape* extents) = nullptr;
  /// Weights brought into the kernel's own order: once per weight change in inference, before every run in training.
  std::size_t (*prepared_bytes)(const graph::graph&, int id, const shape* extents) = nullptr;
  void (*prepare)(const call<T>&, void* prepared) = nullptr;
  /// For weights that are not kept: bytes of the pieces that they can be packed in, and a run that packs piece by piece.
  struct pieces {
    std::size_t packed = 0, plain = 0;
  };
  pieces (*piece_bytes)(const graph::graph&, int id, const shape* extents) = nullptr;
  void (*run_in_pieces)(const call<T>&, void* piece) = nullptr;
};

}  // namespace rsseg::cpu
