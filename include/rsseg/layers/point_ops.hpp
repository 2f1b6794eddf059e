// SPDX-License-Identifier: MIT
// Reading and writing feature maps at points inside a network (PointRend, Kirillov, Wu, He, Girshick, CVPR 2020, Sec. 3): operators of
// graph/custom.hpp over the plain functions of cpu/point_sampling.hpp. CPU only. Points are (N,2,P,1) = (x, y) in [0, 1]^2.
//   sample_at       (x, points) -> (N,C,P,1), bilinear, zeros outside; differentiable in x
//   uncertain_cells (scores (N,K,H,W)) -> centres of the `count` pixels whose two largest scores are closest
//   random_cells    (scores, noise (N,1,H,W)) -> P = H W / share pixels: three quarters the most uncertain of 3 P random ones, the rest random
//   place_at        (base, points, values (N,C,P,1)) -> base with the pixels under the points replaced; differentiable in values only
#pragma once
#include <algorithm>
#include <vector>

#include "rsseg/cpu/point_sampling.hpp"
#include "rsseg/graph/custom.hpp"

namespace rsseg {

namespace detail {

template <class T>
void sample_at_kernel(const custom_call<T>& c) {
  const shape p = c.in_extent[1];
  cpu::sample_bilinear(c.in[0], c.in_extent[0], c.in[1], p.h * p.w, c.out);
}
/// (dy, points, x).
template <class T>
void sample_at_grad_kernel(const custom_call<T>& c) {
  const shape p = c.in_extent[1];
  std::fill(c.out, c.out + c.out_extent.size(), T(0));
  cpu::sample_bilinear_backward(c.in[2], c.in_extent[2], c.in[1], p.h * p.w, c.in[0], c.out, static_cast<T*>(nullptr));
}
constexpr shape extent_at_points(const graph::attributes&, const shape* in, int) { return {in[0].n, in[0].c, in[1].h, in[1].w}; }
constexpr shape extent_of_third(const graph::attributes&, const shape* in, int) { return in[2]; }
constexpr shape extent_of_first(const graph::attributes&, const shape* in, int) { return in[0]; }

/// at.count = number of points, 0: at.begin = pixels per point.
constexpr shape extent_of_cells(const graph::attributes& at, const shape* in, int) {
  const int cells = in[0].h * in[0].w;
  return {in[0].n, 2, at.count > 0 ? std::min(at.count, cells) : std::max(1, cells / at.begin), 1};
}
template <class T>
void cells_kernel(const custom_call<T>& c) {
  const shape s = c.in_extent[0];
  const std::int64_t cells = std::int64_t(s.h) * s.w, count = c.out_extent.h;
  std::vector<T> score(static_cast<std::size_t>(cells));
  std::vector<std::int32_t> chosen;
  for (int n = 0; n < s.n; ++n) {
    cpu::uncertainty(c.in[0] + n * cells * s.c, cells, s.c, score.data());
    if (c.inputs == 1) {
      chosen = cpu::largest_indices(score.data(), cells, count);
    } else {  // the pixels of the largest noise are a random subset; those below them another
      const T* noise = c.in[1] + n * cells;
      std::vector<std::int32_t> order(score.size());
      for (std::size_t i = 0; i < order.size(); ++i) order[i] = std::int32_t(i);
      std::sort(order.begin(), order.end(), [&](std::int32_t a, std::int32_t b) { return noise[a] != noise[b] ? noise[a] > noise[b] : a < b; });
      const std::int64_t pool = std::min(3 * count, cells), hard = std::min((3 * count + 3) / 4, pool);
      std::vector<T> of_pool;
      for (std::int64_t i = 0; i < pool; ++i) of_pool.push_back(score[std::size_t(order[std::size_t(i)])]);
      chosen.clear();
      std::vector<bool> taken(order.size());
      for (const std::int32_t i : cpu::largest_indices(of_pool.data(), pool, hard))
        chosen.push_back(order[std::size_t(i)]), taken[std::size_t(i)] = true;
      for (std::size_t i = order.size(); i-- > 0 && std::int64_t(chosen.size()) < count;)
        if (!taken[i]) chosen.push_back(order[i]);
    }
    cpu::grid_points(chosen.data(), count, s.h, s.w, c.out + n * count * 2);
  }
}
template <class T>
void place_at_kernel(const custom_call<T>& c) {
  const shape s = c.in_extent[0];
  const int count = c.in_extent[1].h * c.in_extent[1].w;
  std::copy(c.in[0], c.in[0] + s.size(), c.out);
  for (std::int64_t i = 0; i < std::int64_t(s.n) * count; ++i) {
    const int x = int(c.in[1][2 * i] * s.w), y = int(c.in[1][2 * i + 1] * s.h);
    if (x < 0 || y < 0 || x >= s.w || y >= s.h) continue;
    std::copy(c.in[2] + i * s.c, c.in[2] + (i + 1) * s.c, c.out + ((i / count * s.h + y) * s.w + x) * s.c);
  }
}
/// (dy, points).
template <class T>
void take_at_kernel(const custom_call<T>& c) {
  const shape p = c.in_extent[1];
  cpu::sample_nearest(c.in[0], c.in_extent[0], c.in[1], p.h * p.w, c.out);
}

inline constexpr custom_op sample_at_grad_op{
    "sample_at_grad", &extent_of_third, nullptr, &sample_at_grad_kernel<float>, &sample_at_grad_kernel<double>, nullptr};
constexpr void sample_at_vjp(graph::tape& t, int node, int dy) {
  const int x = t.g.input_of(node, 0), points = t.g.input_of(node, 1);
  if (t.wants(x)) t.give(x, append_custom(t.g, sample_at_grad_op, {dy, points, x}, t.g.nodes[x].channels));
}
inline constexpr custom_op sample_at_op{"sample_at", &extent_at_points, &sample_at_vjp, &sample_at_kernel<float>, &sample_at_kernel<double>, nullptr};
inline constexpr custom_op cells_op{"cells", &extent_of_cells, nullptr, &cells_kernel<float>, &cells_kernel<double>, nullptr};
inline constexpr custom_op take_at_op{"take_at", &extent_at_points, nullptr, &take_at_kernel<float>, &take_at_kernel<double>, nullptr};
constexpr void place_at_vjp(graph::tape& t, int node, int dy) {
  const int points = t.g.input_of(node, 1), values = t.g.input_of(node, 2);
  if (t.wants(values)) t.give(values, append_custom(t.g, take_at_op, {dy, points}, t.g.nodes[values].channels));
}
inline constexpr custom_op place_at_op{"place_at", &extent_of_first, &place_at_vjp, &place_at_kernel<float>, &place_at_kernel<double>, nullptr};

}  // namespace detail

constexpr value sample_at(builder& b, value x, value points) { return emit_custom(b, detail::sample_at_op, {x, points}, x.channels); }
constexpr value uncertain_cells(builder& b, value scores, int count) {
  graph::attributes at;
  at.count = count;
  return emit_custom(b, detail::cells_op, {scores}, 2, at);
}
constexpr value random_cells(builder& b, value scores, value noise, int share) {
  graph::attributes at;
  at.begin = share;
  return emit_custom(b, detail::cells_op, {scores, noise}, 2, at);
}
/// No gradient reaches base: pass it through stop_gradient.
constexpr value place_at(builder& b, value base, value points, value values) {
  return emit_custom(b, detail::place_at_op, {base, points, values}, base.channels);
}

}  // namespace rsseg
