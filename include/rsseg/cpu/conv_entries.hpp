// SPDX-License-Identifier: MIT
// The convolution family's rows of the kernel table: from graph nodes to the calls of conv.hpp. Weights are packed in `prepare`.
#pragma once
#include "rsseg/cpu/call.hpp"
#include "rsseg/cpu/conv.hpp"
#include "rsseg/graph/ops/conv.hpp"

namespace rsseg::cpu {

namespace detail {
template <class T>
inline conv_epilogue<T> epilogue_of(const call<T>& c) {
  conv_epilogue<T> e;
  if (c.inputs() > 2) e.bias = c.in(2);
  if (c.inputs() > 3) e.residual = c.in(3), e.residual_pitch = int(c.in_pitch(3));
  if (c.at().relu) e.act = activation::relu;
  return e;
}
template <class T>
inline conv_geometry geometry_of(const call<T>& c) {
  conv_geometry g = graph::ops::geometry_of(*c.g, c.id, c.extents);
  switch (c.node().kind) {
    case graph::op::conv:
      g.in_pitch = int(c.in_pitch(0)), g.out_pitch = int(c.out_pitch());
      break;
    case graph::op::conv_backward_weights:
      g.in_pitch = int(c.in_pitch(0)), g.out_pitch = int(c.in_pitch(1));
      break;
    default:  // transposed convolution and data gradient
      g.in_pitch = int(c.out_pitch()), g.out_pitch = int(c.in_pitch(0));
  }
  return g;
}
}  // namespace detail

template <class T>
void run_conv(const call<T>& c) {
  conv_forward<T>(detail::geometry_of(c), c.in(0), static_cast<const T*>(c.prepared), c.out(), detail::epilogue_of(c), c.workspace);
}
template <class T>
void run_conv_transpose(const call<T>& c) {
  conv_backward_data<T>(detail::geometry_of(c), c.in(0), static_cast<const T*>(c.prepared), c.out(), detail::epilogue_of(c), c.workspace);
}
template <class T>
void run_conv_backward_data(const call<T>& c) {  // inputs[2] says the extent only
  conv_backward_data<T>(detail::geometry_of(c), c.in(0), static_cast<const T*>(c.prepared), c.out(), {}, c.workspace);
}
template <class T>
void run_conv_backward_weights(const call<T>& c) {
  conv_backward_weights<T>(detail::geometry_of(c), c.in(0), c.in(1), c.out(), c.workspace);
}

template <class T>
constexpr kernel_entry<T> conv_entry(graph::op kind) {
  using graph::op;
  using graph_t = graph::graph;
  switch (kind) {
    case op::conv:
      return {&run_conv<T>, [](const graph_t& g, int id, const shape* s) { return conv_workspace_size<T>(graph::ops::geometry_of(g, id, s)); },
              [](const graph_t& g, int id, const shape* s) { return sizeof(T) * conv_packed_size<T>(graph::ops::geometry_of(g, id, s)); },
              [](const call<T>& c, void* to) { conv_pack<T>(detail::geometry_of(c), c.in(1), static_cast<T*>(to)); }};
    case op::conv_transpose:
    case op::conv_backward_data:
      return {
          kind == op::conv_transpose ? &run_conv_transpose<T> : &run_conv_backward_data<T>,
          [](const graph_t& g, int id, const shape* s) { return conv_workspace_size_backward_data<T>(graph::ops::geometry_of(g, id, s)); },
          [](const graph_t& g, int id, const shape* s) { return sizeof(T) * conv_packed_size_backward_data<T>(graph::ops::geometry_of(g, id, s)); },
          [](const call<T>& c, void* to) { conv_pack_backward_data<T>(detail::geometry_of(c), c.in(1), static_cast<T*>(to)); }};
    case op::conv_backward_weights:
      return {&run_conv_backward_weights<T>,
              [](const graph_t& g, int id, const shape* s) { return conv_workspace_size_backward_weights<T>(graph::ops::geometry_of(g, id, s)); }};
    default:
      return {};
  }
}

}  // namespace rsseg::cpu
