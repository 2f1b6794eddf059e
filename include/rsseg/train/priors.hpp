// SPDX-License-Identifier: MIT
// Prior knowledge as penalties in training: the functions of loss/priors.hpp on the softmax of a network's first output, added to the graph of
// training as a custom operator. What a penalty needs beyond numbers (pairs of classes, bounds) is kept for the life of the program.
//   tv          neighbouring pixels of alike colour have alike probabilities
//   neighbours  pairs of classes that never touch
//   area        least and largest share of an image per class
//   boundary    distance of the prediction from the labelled region (Kervadec et al., MIDL 2019); needs the input "distance", see distance_input()
#pragma once
#include <deque>
#include <vector>

#include "rsseg/core/tensor.hpp"
#include "rsseg/graph/custom.hpp"
#include "rsseg/graph/graph.hpp"
#include "rsseg/loss/priors.hpp"

namespace rsseg::train {

struct prior {
  enum class kind { tv, neighbours, area, boundary } what = kind::tv;
  double weight = 0.05;
  double sigma = 0.3;               ///< tv: of the normalised image; contrast at which the weight has fallen to 1 / e
  std::vector<double> forbid;       ///< neighbours: K x K
  std::vector<double> least, most;  ///< area: K shares
};

namespace detail {

inline std::deque<prior>& kept_priors() {
  static std::deque<prior> all;
  return all;
}

/// Penalty of p (N,K,H,W); other: the image (tv) or the distances (boundary).
template <class T>
double evaluate_prior(const prior& q, const T* p, shape s, const T* other, shape other_extent, T* dp) {
  switch (q.what) {
    case prior::kind::tv:
      return loss::total_variation(p, s, other, other_extent.c, q.sigma, dp);
    case prior::kind::neighbours:
      return loss::forbidden_neighbours(p, s, q.forbid.data(), dp);
    case prior::kind::area:
      return loss::area_bounds(p, s, q.least.data(), q.most.data(), dp);
    default:
      return loss::boundary(p, s, other, dp);
  }
}

template <class T>
void prior_kernel(const custom_call<T>& c) {
  c.out[0] = T(evaluate_prior<T>(kept_priors()[std::size_t(c.at->begin)], c.in[0], c.in_extent[0], c.in[1], c.in_extent[1], nullptr));
}
/// (dy, p, other).
template <class T>
void prior_grad_kernel(const custom_call<T>& c) {
  evaluate_prior<T>(kept_priors()[std::size_t(c.at->begin)], c.in[1], c.in_extent[1], c.in[2], c.in_extent[2], c.out);
  const T dy = c.in[0][0];
  for (std::int64_t i = 0; i < c.out_extent.size(); ++i) c.out[i] *= dy;
}
constexpr shape prior_extent(const graph::attributes&, const shape*, int) { return {1, 1, 1, 1}; }
constexpr shape prior_grad_extent(const graph::attributes&, const shape* in, int) { return in[1]; }
inline constexpr custom_op prior_grad_op{"prior_grad", &prior_grad_extent, nullptr, &prior_grad_kernel<float>, &prior_grad_kernel<double>, nullptr};
constexpr void prior_vjp(graph::tape& t, int node, int dy) {
  const int p = t.g.input_of(node, 0), other = t.g.input_of(node, 1);
  if (t.wants(p)) t.give(p, append_custom(t.g, prior_grad_op, {dy, p, other}, t.g.nodes[p].channels, t.g.nodes[node].at));
}
inline constexpr custom_op prior_op{"prior", &prior_extent, &prior_vjp, &prior_kernel<float>, &prior_kernel<double>, nullptr};

}  // namespace detail

/// Adds weight * penalty to a graph lowered for training. The first output must have the input's extent (scores of a strided network are
/// brought to it). Throws usage_error when sizes of matrices and classes differ.
inline void add_prior(graph::graph& g, const prior& q) {
  if (g.outputs.size() == 0) throw usage_error("--prior: the network has no output");
  const int logits = g.outputs[0].node, classes = g.nodes[logits].channels;
  const auto want = [&](std::size_t have, std::size_t expected) {
    if (have != expected) throw usage_error("--prior: expected " + std::to_string(expected) + " values for " + std::to_string(classes) + " classes");
  };
  if (q.what == prior::kind::neighbours) want(q.forbid.size(), std::size_t(classes) * std::size_t(classes));
  if (q.what == prior::kind::area) want(q.least.size(), std::size_t(classes)), want(q.most.size(), std::size_t(classes));
  int image = -1, distance = -1;
  for (int i = 0; i < g.nodes.size(); ++i)
    if (g.nodes[i].kind == graph::op::input) {
      if (image < 0) image = i;
      if (g.name_of(i) == "distance") distance = i;
    }
  graph::attributes like;
  like.mode = int(graph::interpolation::bilinear), like.flag = g.outputs[0].align_corners, like.count = int(graph::ops::resize_rule::like);
  const int full = g.append(graph::op::resize, {logits, image}, classes, like);
  const int p = g.append(graph::op::softmax, {full}, classes);
  if (q.what == prior::kind::boundary && distance < 0) {
    distance = g.append(graph::op::input, {}, classes);
    const int begin = g.text.size();
    for (const char c : std::string_view("distance")) g.text.push_back(c);
    g.nodes[distance].name = begin, g.nodes[distance].name_length = g.text.size() - begin;
  }
  graph::attributes at;
  at.begin = int(detail::kept_priors().size());
  detail::kept_priors().push_back(q);
  graph::penalty penalty;
  penalty.node = append_custom(g, detail::prior_op, {p, q.what == prior::kind::boundary ? distance : image}, 1, at);
  penalty.weight = q.weight;
  g.penalties.push_back(penalty);
}

/// The input "distance" of a batch: signed distances of the labels' regions divided by `scale` pixels, (N,K,H,W).
inline tensor<float> distance_input(const tensor<std::int32_t>& labels, int classes, int ignore, double scale = 32) {
  const shape s = labels.extent();
  tensor<float> d(shape{s.n, classes, s.h, s.w});
  loss::signed_distance(labels.data(), d.extent(), d.data(), ignore);
  for (float& v : d) v = float(v / scale);
  return d;
}

}  // namespace rsseg::train
