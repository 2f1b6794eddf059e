// SPDX-License-Identifier: MIT
// Where every value of a graph lives, for one input size: one arena, offsets by lifetime, in-place operators and reshapes sharing
// their input's storage, parts of concatenations in the columns of the whole (sharing.hpp). Made once per size at run time (DESIGN: planning in
// constexpr costs the compiler too much). Offsets: greedy by size over overlapping lifetimes (Pisarchyk and Lee, "Efficient memory management for
// deep neural net inference", 2020, "greedy by size").
#pragma once
#include <cstddef>
#include <string>
#include <vector>

#include "rsseg/core/config.hpp"
#include "rsseg/core/error.hpp"
#include "rsseg/graph/infer.hpp"

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

/// Plans g for the given extents (inputs set, others inferred here). `external[id]`: the node's storage is given by the caller.
memory_plan plan_memory(const graph::graph& g, const std::vector<shape>& input_extents, const std::vector<bool>& external, const plan_rules& rules);

/// Bytes that concatenations and slices of channels copy when the graph runs once: those of the parts that are not in place.
struct column_traffic {
  std::size_t copied = 0, all = 0;
};
column_traffic column_traffic_of(const graph::graph& g, const memory_plan& p);

}  // namespace rsseg

#if !RSSEG_EXTERN_KERNELS
#include "rsseg/plan/memory_plan_impl.hpp"
#endif
