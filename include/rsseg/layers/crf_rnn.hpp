// SPDX-License-Identifier: MIT
// CRF-RNN (Zheng et al., ICCV 2015) as a layer of a network: cpu/crf/crf_rnn.hpp behind a custom operator, trained with the rest. CPU only.
//   crf_rnn_layer (scores (N,K,H,W), guide (N,G,H,W) in 0..255) -> scores (N,K,H,W); parameters Ws, Wb, C (K x K, as 1x1 kernels), which start
//   as 3 I, 5 I (or what the options say) and I: neighbours of one colour attract the same class
// The gradient reaches the scores and the parameters, not the guide. One backward operator makes all four; the parts are taken from it.
#pragma once
#include <algorithm>
#include <vector>

#include "rsseg/cpu/crf/crf_rnn.hpp"
#include "rsseg/graph/custom.hpp"
#include "rsseg/layers/basic.hpp"

namespace rsseg {

struct crf_rnn_layer_options {
  double sigma_xy = 40, sigma_rgb = 13;  ///< bilateral kernel: pixels, units of the guide. (The paper's 160 and 3 are for photographs.)
  int iterations = 5;
  double spatial = 3, bilateral = 5;  ///< the kernels' weights in the beginning
};

namespace detail {

inline cpu::crf::crf_rnn_options crf_rnn_options_of(const graph::attributes& at) {
  cpu::crf::crf_rnn_options o;
  o.alpha = at.alpha, o.beta = at.beta, o.iterations = at.count;
  return o;
}
/// Rows below the map that hold the gradients of the parameters in the packed result.
constexpr int crf_rnn_rows(int classes, int width) { return (3 * classes + width - 1) / width; }

constexpr shape crf_rnn_extent(const graph::attributes&, const shape* in, int) { return in[0]; }
template <class T>
void crf_rnn_kernel(const custom_call<T>& c) {
  const shape s = c.in_extent[0], g = c.in_extent[1];
  const std::int64_t pixels = std::int64_t(s.h) * s.w;
  for (int n = 0; n < s.n; ++n) {
    cpu::crf::crf_rnn<T> field(c.in[1] + n * pixels * g.c, s.h, s.w, g.c, s.c, crf_rnn_options_of(*c.at));
    field.forward(c.in[0] + n * pixels * s.c, c.in[2], c.in[3], c.in[4], c.out + n * pixels * s.c);
  }
}
/// (dy, scores, guide, ws, wb, c) -> dscores with the parameters' gradients, image by image, in rows below.
constexpr shape crf_rnn_grad_extent(const graph::attributes&, const shape* in, int) {
  return {in[1].n, in[1].c, in[1].h + crf_rnn_rows(in[1].c, in[1].w), in[1].w};
}
template <class T>
void crf_rnn_grad_kernel(const custom_call<T>& c) {
  const shape s = c.in_extent[1], g = c.in_extent[2];
  const std::int64_t pixels = std::int64_t(s.h) * s.w, values = pixels * s.c, whole = std::int64_t(c.out_extent.h) * s.w * s.c,
                     square = std::int64_t(s.c) * s.c;
  std::vector<T> scratch(static_cast<std::size_t>(values));
  for (int n = 0; n < s.n; ++n) {
    cpu::crf::crf_rnn<T> field(c.in[2] + n * pixels * g.c, s.h, s.w, g.c, s.c, crf_rnn_options_of(*c.at));
    field.forward(c.in[1] + n * values, c.in[3], c.in[4], c.in[5], scratch.data());
    T* to = c.out + n * whole;
    std::fill(to + values, to + whole, T(0));
    field.backward(c.in[3], c.in[4], c.in[5], c.in[0] + n * values, to, to + values, to + values + square, to + values + 2 * square);
  }
}
/// (packed, like): the rows of the map.
constexpr shape crf_rnn_second_extent(const graph::attributes&, const shape* in, int) { return in[1]; }
template <class T>
void crf_rnn_scores_kernel(const custom_call<T>& c) {
  const shape p = c.in_extent[0], s = c.out_extent;
  const std::int64_t values = std::int64_t(s.h) * s.w * s.c, whole = std::int64_t(p.h) * p.w * p.c;
  for (int n = 0; n < s.n; ++n) std::copy_n(c.in[0] + n * whole, values, c.out + n * values);
}
/// (packed, like, scores): at.begin = which parameter.
template <class T>
void crf_rnn_parameter_kernel(const custom_call<T>& c) {
  const shape p = c.in_extent[0], s = c.in_extent[2];
  const std::int64_t square = std::int64_t(p.c) * p.c, whole = std::int64_t(p.h) * p.w * p.c,
                     first = std::int64_t(s.h) * s.w * s.c + c.at->begin * square;
  for (std::int64_t k = 0; k < square; ++k) {
    double sum = 0;
    for (int n = 0; n < p.n; ++n) sum += double(c.in[0][n * whole + first + k]);
    c.out[k] = T(sum);
  }
}
inline constexpr custom_op crf_rnn_scores_op{
    "crf_rnn_scores", &crf_rnn_second_extent, nullptr, &crf_rnn_scores_kernel<float>, &crf_rnn_scores_kernel<double>, nullptr};
inline constexpr custom_op crf_rnn_parameter_op{
    "crf_rnn_parameter", &crf_rnn_second_extent, nullptr, &crf_rnn_parameter_kernel<float>, &crf_rnn_parameter_kernel<double>, nullptr};
inline constexpr custom_op crf_rnn_grad_op{"crf_rnn_grad", &crf_rnn_grad_extent, nullptr, &crf_rnn_grad_kernel<float>, &crf_rnn_grad_kernel<double>,
                                           nullptr};

constexpr void crf_rnn_vjp(graph::tape& t, int node, int dy) {
  int in[5];
  for (int k = 0; k < 5; ++k) in[k] = t.g.input_of(node, k);
  const int channels = t.g.nodes[in[0]].channels;
  const int packed = append_custom(t.g, crf_rnn_grad_op, {dy, in[0], in[1], in[2], in[3], in[4]}, channels, t.g.nodes[node].at);
  if (t.wants(in[0])) t.give(in[0], append_custom(t.g, crf_rnn_scores_op, {packed, in[0]}, channels));
  for (int k = 2; k < 5; ++k) {
    graph::attributes at;
    at.begin = k - 2;
    if (t.wants(in[k])) t.give(in[k], append_custom(t.g, crf_rnn_parameter_op, {packed, in[k], in[0]}, channels, at));
  }
}
inline constexpr custom_op crf_rnn_op{"crf_rnn", &crf_rnn_extent, &crf_rnn_vjp, &crf_rnn_kernel<float>, &crf_rnn_kernel<double>, nullptr};

}  // namespace detail

/// Mean field over scores; parameters spatial_ker_weights, bilateral_ker_weights, compatibility_matrix.
constexpr value crf_rnn_layer(builder& b, value scores, value guide, const crf_rnn_layer_options& o = {}) {
  const int k = scores.channels;
  const auto matrix = [&](std::string_view name, double scale) { return b.parameter(name, {k, k, 1, 1}, graph::init::bilinear_upsample, scale); };
  const value ws = matrix("spatial_ker_weights", o.spatial), wb = matrix("bilateral_ker_weights", o.bilateral), c = matrix("compatibility_matrix", 1);
  graph::attributes at;
  at.alpha = o.sigma_xy, at.beta = o.sigma_rgb, at.count = o.iterations;
  return emit_custom(b, detail::crf_rnn_op, {scores, guide, ws, wb, c}, k, at);
}

}  // namespace rsseg
