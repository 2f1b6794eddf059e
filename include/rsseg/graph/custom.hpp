// SPDX-License-Identifier: MIT
// The public way to bring an operator of one's own: its shape rule, its rule of differentiation and its CPU kernels,
// in user code. samples/custom_operator.cpp shows one; gradcheck tests it like any other.
#pragma once
#include <cstddef>

#include "rsseg/graph/builder.hpp"
#include "rsseg/graph/tape.hpp"

namespace rsseg {

/// What a kernel is called with; T is float or double. Tensors are dense NHWC.
template <class T>
struct custom_call {
  const graph::attributes* at;
  const T* const* in;  ///< inputs in the order given to emit
  const shape* in_extent;
  int inputs;
  T* out;
  shape out_extent;
  void* workspace = nullptr;  ///< CUDA only: device memory, as much as custom_op::cuda_workspace said
};

/// An operator brought by the user. Define one `inline constexpr custom_op` per operator and pass it to emit_custom.
struct custom_op {
  const char* name;
  /// Extent of the result from those of the inputs.
  shape (*extent)(const graph::attributes& at, const shape* in, int inputs);
  /// Appends the gradient: t.give(input, t.g.append(...)) for each wanted input; usually another custom operator. Null: not differentiable.
  void (*vjp)(graph::tape& t, int node, int dy);
  void (*forward_float)(const custom_call<float>&);
  void (*forward_double)(const custom_call<double>&);
  /// Multiply-adds, for `describe`; may be null.
  std::int64_t (*macs)(const graph::attributes& at, const shape* in, int inputs);
  /// Launches the operator's CUDA kernels on a stream (a cudaStream_t); all pointers are device memory, and it must not wait. Null: the CUDA
  /// executor copies to the host and calls forward_float.
  void (*forward_cuda)(const custom_call<float>&, void* stream) = nullptr;
  /// Bytes of device memory that forward_cuda wants; may be null.
  std::size_t (*cuda_workspace)(const graph::attributes& at, const shape* in, int inputs) = nullptr;
};

/// Appends a custom operator to a network under construction.
constexpr value emit_custom(builder& b, const custom_op& op, std::initializer_list<value> inputs, int channels, graph::attributes at = {}) {
  graph::list<int> ids;
  for (const value& v : inputs) ids.push_back(v.id);
  at.custom = &op;
  const value first = *inputs.begin();
  return b.emit(graph::op::custom, ids.begin(), ids.size(), channels, first.scale, at, first.exact);
}
/// The same inside a rule of differentiation.
constexpr int append_custom(graph::graph& g, const custom_op& op, std::initializer_list<int> inputs, int channels, graph::attributes at = {}) {
  at.custom = &op;
  return g.append(graph::op::custom, inputs, channels, at);
}

}  // namespace rsseg
