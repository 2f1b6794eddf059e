// SPDX-License-Identifier: MIT
// The convolution family's rows of the kernel table: from graph nodes to the calls of conv.hpp. Weights are packed in `prepare`.
#pragma once
#include "rsseg/cpu/call.hpp"
#include "rsseg/cpu/conv.hpp"
#include "rsseg/cpu/fold.hpp"
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
/// The convolution to output channels [from, from + count) of g.
inline conv_geometry piece_of(conv_geometry g, int from, int count) {
  g.out_pitch = int(g.y_pitch()), g.out_c = std::min(count, g.out_c - from);
  return g;
}
/// Output channels per piece where weights are packed in front of every use: packed weights of about 16 MiB, which the third-level cache holds.
template <class T>
inline int piece_channels(const conv_geometry& g) {
  if (g.groups != 1) return g.out_c;
  constexpr std::size_t room = std::size_t(16) << 20;
  int count = g.out_c;
  for (int tries = 0; tries < 2; ++tries) {  // a piece may be computed in another way than the whole, with packed weights of another size
    const std::size_t each = sizeof(T) * conv_packed_size<T>(piece_of(g, 0, count)) / std::size_t(count) + 1;
    if (each * std::size_t(count) <= room) break;
    const int most = int(std::max<std::size_t>(64, (room / each + (tries ? 32 : 0)) / 64 * 64)), pieces = (g.out_c + most - 1) / most;
    count = std::min(g.out_c, ((g.out_c + pieces - 1) / pieces + 63) / 64 * 64);
  }
  return count;
}
template <class T, class Use>
void each_piece(const conv_geometry& g, const Use& use) {
  for (int from = 0, count = piece_channels<T>(g); from < g.out_c; from += count) use(from, piece_of(g, from, count));
}
}  // namespace detail

/// Folds (if that is left to do), packs and runs piece after piece.
template <class T>
void run_conv_in_pieces(const call<T>& c, void* packed) {
  const conv_geometry g = detail::geometry_of(c);
  const conv_epilogue<T> whole = detail::epilogue_of(c);
  const std::ptrdiff_t each = std::ptrdiff_t(g.kernel_h) * g.kernel_w * g.in_c_per_group();
  call<T> fold = c;
  fold.id = c.input_id(1);
  detail::each_piece<T>(g, [&](int from, const conv_geometry& piece) {
    conv_epilogue<T> e = whole;
    if (e.bias != nullptr) e.bias += from;
    if (e.residual != nullptr) e.residual += from;
    T* const folded = static_cast<T*>(c.folded);
    if (folded != nullptr) fold_rows(fold, from, piece.out_c, folded);
    conv_pack<T>(piece, folded != nullptr ? folded : c.in(1) + from * each, static_cast<T*>(packed));
    conv_forward<T>(piece, c.in(0), static_cast<const T*>(packed), c.out() + from, e, c.workspace);
  });
}

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
      return {&run_conv<T>,
              [](const graph_t& g, int id, const shape* s) {
                const conv_geometry whole = graph::ops::geometry_of(g, id, s);
                std::size_t bytes = conv_workspace_size<T>(whole);
                detail::each_piece<T>(whole, [&](int, const conv_geometry& piece) { bytes = std::max(bytes, conv_workspace_size<T>(piece)); });
                return bytes;
              },
              [](const graph_t& g, int id, const shape* s) { return sizeof(T) * conv_packed_size<T>(graph::ops::geometry_of(g, id, s)); },
              [](const call<T>& c, void* to) { conv_pack<T>(detail::geometry_of(c), c.in(1), static_cast<T*>(to)); },
              [](const graph_t& g, int id, const shape* s) {
                const conv_geometry whole = graph::ops::geometry_of(g, id, s);
                typename kernel_entry<T>::pieces most;
                detail::each_piece<T>(whole, [&](int, const conv_geometry& piece) {
                  most.packed = std::max(most.packed, sizeof(T) * conv_packed_size<T>(piece));
                  most.plain = std::max(most.plain, sizeof(T) * piece.out_c * piece.kernel_h * piece.kernel_w * piece.in_c_per_group());
                });
                return most;
              },
              &run_conv_in_pieces<T>};
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
