// SPDX-License-Identifier: MIT
// Entries of convolutions, matrix products and softmax (graph/ops/conv.hpp, matrix.hpp). A tensor is N matrices of H*W rows and C columns.
#pragma once
#include "../cross_entropy.cuh"
#include "../matmul.cuh"
#include "../tensor_ops.cuh"
#include "call.cuh"
#include "cublas.cuh"
#include "cudnn.cuh"
#include "rsseg/graph/ops/conv.hpp"

namespace rsseg::cuda {
inline namespace RSSEG_BACKEND_NS {

// Convolutions are compiled, and held to their budgets, by themselves; what compiles the rest of the executor for its budgets leaves them out.
#ifndef RSSEG_WITHOUT_CONVOLUTIONS
#define RSSEG_WITHOUT_CONVOLUTIONS 0
#endif
inline constexpr bool with_convolutions = !RSSEG_WITHOUT_CONVOLUTIONS;

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
  if constexpr (!with_convolutions)
    return;
  else if (c.tiles)
    c.tiles->rows =
        convolve_with_statistics<T>(c.context->facts, c.stream(), c.context->math, g, c.in(0), c.in(1), c.out(), epilogue_of(c), c.tiles->values);
  else
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
  if constexpr (with_convolutions) convolve_data<T>(c.context->facts, c.stream(), c.context->math, g, c.in(0), c.in(1), c.out(), c.workspace, e);
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
  if constexpr (with_convolutions)
    convolve_weights<T>(c.context->facts, c.stream(), c.context->math, g, c.in(0), c.in(1), c.wide_out(), c.template work<float>());
}

/// alpha * op(a) * op(b) of every batch entry. Float on CUDA cores: matmul.cuh. On tensor cores (tf32, bf16, fp16) a product is a convolution of one
/// tap: a * b^T its forward pass, a * b the data pass, a^T * b the weight pass (a^T * b^T: a is transposed first).
template <class T>
inline bool matmul_on_tensor_cores(const executor_context& x) {
  return !std::is_same_v<T, float> || (x.math == conv_math::tf32 && x.facts.async_copies());
}
inline conv_geometry product_geometry(int pixels, int in, int out) {
  conv_geometry g;
  g.in_h = g.out_h = pixels, g.in_c = in, g.out_c = out;
  return g;
}
struct matmul_plan {
  int rows, columns, depth, batch;
  bool transpose_a, transpose_b;
  conv_geometry geometry;
  matmul_plan(const graph::attributes& at, const shape& a, const shape& o)
      : rows(o.h * o.w), columns(o.c), depth(at.flag ? a.h * a.w : a.c), batch(o.n), transpose_a(at.flag), transpose_b(at.flag2) {
    geometry = transpose_b    ? product_geometry(rows, depth, columns)
               : !transpose_a ? product_geometry(rows, columns, depth)
                              : product_geometry(depth, columns, rows);
  }
};
template <class T>
std::size_t matmul_space(const graph::graph& g, int id, const shape* s, const executor_context& x) {
  if (!matmul_on_tensor_cores<T>(x)) return 0;
  const matmul_plan p(g.nodes[id].at, s[g.input_of(id, 0)], s[id]);
  std::size_t bytes = padded(std::size_t(p.columns) * sizeof(float));  // alpha, per column
  if (p.transpose_a && p.transpose_b) bytes += padded(std::size_t(p.rows) * std::size_t(p.depth) * sizeof(T));
  if (p.transpose_a && !p.transpose_b)
    bytes += padded(sizeof(float) * convolve_weights_workspace<T>(x.facts, x.math, p.geometry)) +
             sizeof(float) * std::size_t(p.rows) * std::size_t(p.columns);
  if (!p.transpose_a && !p.transpose_b) bytes += convolve_data_workspace<T>(x.facts, p.geometry);
  return bytes;
}
struct fill_number {
  float* to;
  float v;
  __device__ void operator()(std::int64_t i) const { to[i] = v; }
};
template <class T>
struct scaled_copy {
  const float* from;
  T* to;
  float factor;
  __device__ void operator()(std::int64_t i) const { to[i] = from_float<T>(factor * from[i]); }
};
template <class T>
void matmul_entry(const call<T>& c) {
  const shape a = c.in_extent(0), b = c.in_extent(1), o = c.extent();
  const matmul_plan m(c.at(), a, o);
  const float alpha = float(c.at().alpha);
  const stream_t s = c.stream();
  matmul_shape p;
  p.transpose_a = m.transpose_a, p.transpose_b = m.transpose_b;
  p.rows = m.rows, p.columns = m.columns, p.depth = m.depth, p.batch = m.batch;
  p.stride_a = a.c, p.stride_b = b.c, p.stride_c = o.c;
  p.batch_a = std::int64_t(a.h) * a.w * a.c, p.batch_b = std::int64_t(b.h) * b.w * b.c, p.batch_c = std::int64_t(p.rows) * p.columns;
  p.alpha = alpha;
  if (cublas_product(*c.context, p, c.in(0), c.in(1), c.out())) return;
  if constexpr (std::is_same_v<T, float>)
    if (!matmul_on_tensor_cores<T>(*c.context)) return matmul(s, p, c.in(0), c.in(1), c.out());
  const executor_context& x = *c.context;
  float* factors = c.template work<float>();
  unsigned char* rest = c.workspace + padded(std::size_t(m.columns) * sizeof(float));
  conv_epilogue<T> e;
  if (alpha != 1 && !(m.transpose_a && !m.transpose_b)) {
    each(s, "matmul factor", m.columns, fill_number{factors, alpha});
    e.scale = factors;
  }
  for (int n = 0; n < m.batch; ++n) {
    const T *left = c.in(0) + std::int64_t(n) * a.h * a.w * a.c, *right = c.in(1) + std::int64_t(n) * b.h * b.w * b.c;
    T* out = c.out() + std::int64_t(n) * m.rows * m.columns;
    if (m.transpose_b) {
      if (m.transpose_a) {
        strided_copy<T>(s, {1, m.depth, m.rows, 1}, {0, {0, 1, 0, m.rows}}, {0, {0, m.depth, 0, 1}}, left, reinterpret_cast<T*>(rest));
        left = reinterpret_cast<const T*>(rest);
      }
      if constexpr (with_convolutions) convolve<T>(x.facts, s, x.math, m.geometry, left, right, out, e);
    } else if (!m.transpose_a) {
      if constexpr (with_convolutions) convolve_data<T>(x.facts, s, x.math, m.geometry, left, right, out, rest, e);
    } else {
      const std::size_t own = padded(sizeof(float) * convolve_weights_workspace<T>(x.facts, x.math, m.geometry));
      float* product = reinterpret_cast<float*>(rest + own);
      if constexpr (with_convolutions) convolve_weights<T>(x.facts, s, x.math, m.geometry, right, left, product, reinterpret_cast<float*>(rest));
      each(s, "matmul result", std::int64_t(m.rows) * m.columns, scaled_copy<T>{product, out, alpha});
    }
  }
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
