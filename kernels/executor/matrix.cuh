// SPDX-License-Identifier: MIT
// Entries of convolutions, matrix products and softmax (graph/ops/conv.hpp, matrix.hpp). A tensor is N matrices of H*W rows and C columns.
#pragma once
#include "../cross_entropy.cuh"
#include "../matmul.cuh"
#include "../tensor_ops.cuh"
#include "call.cuh"
#include "cudnn.cuh"
#include "rsseg/graph/ops/conv.hpp"

namespace rsseg::cuda {
inline namespace RSSEG_BACKEND_NS {

template <class T>
inline conv_epilogue<T> epilogue_of(const call<T>& c) {
  conv_epilogue<T> e;
  if (c.count() > 2) e.shift = c.wide(2);
  if (c.count() > 3) e.residual = c.in(3);
  if (c.at().relu) e.kind = activation::relu;
  return e;
}
template <class T>
inline conv_geometry geometry_of(const call<T>& c) {
  return graph::ops::geometry_of(*c.g, c.id, c.extents);
}
template <class T>
std::size_t conv_space(const graph::graph& g, int id, const shape* s, const executor_context& x) {
  return cudnn_workspace<T>(x, conv_pass::forward, graph::ops::geometry_of(g, id, s));
}
template <class T>
void conv(const call<T>& c) {
  const conv_geometry g = geometry_of(c);
  if (cudnn_convolve<T>(*c.context, conv_pass::forward, g, c.in(0), c.in(1), c.out(), c.workspace, epilogue_of(c))) return;
  convolve<T>(c.context->facts, c.stream(), c.context->math, g, c.in(0), c.in(1), c.out(), epilogue_of(c));
}
template <class T>
std::size_t conv_data_space(const graph::graph& g, int id, const shape* s, const executor_context& x) {
  const conv_geometry geometry = graph::ops::geometry_of(g, id, s);
  const std::size_t own = convolve_data_workspace<T>(x.facts, geometry), other = cudnn_workspace<T>(x, conv_pass::data, geometry);
  return own > other ? own : other;
}
template <class T>
void conv_data(const call<T>& c, const conv_epilogue<T>& e) {
  const conv_geometry g = geometry_of(c);
  if (cudnn_convolve<T>(*c.context, conv_pass::data, g, c.in(0), c.in(1), c.out(), c.workspace, e)) return;
  convolve_data<T>(c.context->facts, c.stream(), c.context->math, g, c.in(0), c.in(1), c.out(), c.workspace, e);
}
template <class T>
void conv_transpose(const call<T>& c) {
  conv_data(c, epilogue_of(c));
}
template <class T>
void conv_backward_data(const call<T>& c) {  // inputs[2] says the extent only
  conv_data(c, {});
}
template <class T>
std::size_t conv_weights_space(const graph::graph& g, int id, const shape* s, const executor_context& x) {
  const conv_geometry geometry = graph::ops::geometry_of(g, id, s);
  const std::size_t own = sizeof(float) * convolve_weights_workspace<T>(x.facts, x.math, geometry);
  const std::size_t other = cudnn_workspace<T>(x, conv_pass::weight, geometry);
  return own > other ? own : other;
}
template <class T>
void conv_backward_weights(const call<T>& c) {
  const conv_geometry g = geometry_of(c);
  if (cudnn_weights<T>(*c.context, g, c.in(0), c.in(1), c.wide_out(), c.workspace)) return;
  convolve_weights<T>(c.context->facts, c.stream(), c.context->math, g, c.in(0), c.in(1), c.wide_out(), c.template work<float>());
}

/// fp32 only: halves come converted.
inline void matmul_entry(const call<float>& c) {
  const shape a = c.in_extent(0), b = c.in_extent(1), o = c.extent();
  matmul_shape p;
  p.transpose_a = c.at().flag, p.transpose_b = c.at().flag2;
  p.rows = o.h * o.w, p.columns = o.c, p.depth = p.transpose_a ? a.h * a.w : a.c, p.batch = o.n;
  p.stride_a = a.c, p.stride_b = b.c, p.stride_c = o.c;
  p.batch_a = std::int64_t(a.h) * a.w * a.c, p.batch_b = std::int64_t(b.h) * b.w * b.c, p.batch_c = std::int64_t(p.rows) * p.columns;
  p.alpha = float(c.at().alpha);
  matmul(c.stream(), p, c.in(0), c.in(1), c.out());
}
template <class T>
void transpose(const call<T>& c) {
  const shape s = c.in_extent(0);
  const std::int64_t rows = std::int64_t(s.h) * s.w;
  strided_copy<T>(c.stream(), {s.n, int(rows), s.c, 1}, {0, {rows * s.c, 1, 0, s.c}}, {0, {rows * s.c, rows, 0, 1}}, c.in(0), c.out());
}
template <class T>
void softmax_entry(const call<T>& c) {
  softmax<T>(c.stream(), c.in(0), c.out(), c.extent().pixels(), c.extent().c, false);
}
template <class T>
void log_softmax_entry(const call<T>& c) {
  softmax<T>(c.stream(), c.in(0), c.out(), c.extent().pixels(), c.extent().c, true);
}
template <class T>
void softmax_grad(const call<T>& c) {
  softmax_backward<T>(c.stream(), c.in(1), c.in(0), c.out(), c.extent().pixels(), c.extent().c);
}
/// dx = dy - exp(y) * sum of dy; one warp per pixel.
template <class T>
__global__ void log_softmax_backward_kernel(const T* y, const T* dy, T* dx, std::int64_t pixels, int classes) {
  const int lane = int(threadIdx.x) & 31;
  for (std::int64_t p = std::int64_t(blockIdx.x) * (blockDim.x / 32) + threadIdx.x / 32; p < pixels;
       p += std::int64_t(gridDim.x) * (blockDim.x / 32)) {
    float sum = 0;
    for (int k = lane; k < classes; k += 32) sum += to_float(dy[p * classes + k]);
    sum = warp_sum(sum);
    for (int k = lane; k < classes; k += 32)
      dx[p * classes + k] = from_float<T>(to_float(dy[p * classes + k]) - expf(to_float(y[p * classes + k])) * sum);
  }
}
template <class T>
void log_softmax_grad(const call<T>& c) {
  kernel_launch({"log_softmax gradient", grid_for(c.extent().pixels(), 4), 128, 0, c.stream()}, log_softmax_backward_kernel<T>, c.in(1), c.in(0),
                c.out(), c.extent().pixels(), c.extent().c);
}
template <class T>
void diagonal(const call<T>& c) {
  const std::int64_t side = c.in_extent(0).c;
  strided_copy<T>(c.stream(), {c.extent().n, 1, int(side), 1}, {0, {side * side, side + 1, 0, 0}}, {0, {side, 1, 0, 0}}, c.in(0), c.out());
}
template <class T>
void add_diagonal(const call<T>& c) {
  const shape o = c.extent();
  const std::int64_t side = o.c;
  copy_values(c.stream(), c.in(0), c.out(), o.size());
  strided_copy<T>(c.stream(), {o.n, 1, int(side), 1}, {0, {side, 1, 0, 0}}, {0, {side * side, side + 1, 0, 0}}, c.in(1), c.out(), true);
}

}  // namespace RSSEG_BACKEND_NS
}  // namespace rsseg::cuda
