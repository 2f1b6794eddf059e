// SPDX-License-Identifier: MIT
// Windows of one map at places that are known when the network runs: an operator of graph/custom.hpp. CPU only.
//   window_at (x (1,C,H,W), where (Q,1,4,1) = first row, first column, rows, columns, like (Q,*,h,w)) -> (Q,C,h,w): each window resized
//   bilinearly (half-pixel centres, clamped to the window); differentiable in x.
// crop_window of graph/ops/arrange.hpp is the same for a place that is part of the network.
#pragma once
#include <algorithm>

#include "rsseg/graph/custom.hpp"

namespace rsseg {

namespace detail {

/// Calls f(out row, out column, source row pair, source column pair, weights) for the pixels of a window resized to h x w.
template <class T, class F>
void for_window_pixels(const T* where, int height, int width, int h, int w, const F& f) {
  const int top = std::clamp(int(where[0]), 0, height - 1), left = std::clamp(int(where[1]), 0, width - 1);
  const int rows = std::clamp(int(where[2]), 1, height - top), columns = std::clamp(int(where[3]), 1, width - left);
  const auto axis = [](int i, int out, int in, int& a, int& b, T& t) {
    const T s = std::max(T(0), (T(i) + T(0.5)) * T(in) / T(out) - T(0.5));
    a = std::min(int(s), in - 1), b = std::min(a + 1, in - 1), t = s - T(a);
  };
  for (int y = 0; y < h; ++y) {
    int ya, yb, xa, xb;
    T fy, fx;
    axis(y, h, rows, ya, yb, fy);
    for (int x = 0; x < w; ++x) {
      axis(x, w, columns, xa, xb, fx);
      f(y, x, top + ya, top + yb, left + xa, left + xb, fy, fx);
    }
  }
}
template <class T>
void window_at_kernel(const custom_call<T>& c) {
  const shape x = c.in_extent[0], o = c.out_extent;
  for (int q = 0; q < o.n; ++q)
    for_window_pixels(c.in[1] + 4 * q, x.h, x.w, o.h, o.w, [&](int i, int j, int ya, int yb, int xa, int xb, T fy, T fx) {
      const auto at = [&](int r, int s) { return c.in[0] + (std::int64_t(r) * x.w + s) * x.c; };
      const T *p = at(ya, xa), *u = at(ya, xb), *v = at(yb, xa), *z = at(yb, xb);
      T* to = c.out + ((std::int64_t(q) * o.h + i) * o.w + j) * o.c;
      for (int k = 0; k < o.c; ++k) to[k] = (1 - fy) * ((1 - fx) * p[k] + fx * u[k]) + fy * ((1 - fx) * v[k] + fx * z[k]);
    });
}
/// (dy, where, x).
template <class T>
void window_at_grad_kernel(const custom_call<T>& c) {
  const shape d = c.in_extent[0], x = c.out_extent;
  std::fill(c.out, c.out + x.size(), T(0));
  for (int q = 0; q < d.n; ++q)
    for_window_pixels(c.in[1] + 4 * q, x.h, x.w, d.h, d.w, [&](int i, int j, int ya, int yb, int xa, int xb, T fy, T fx) {
      const auto at = [&](int r, int s) { return c.out + (std::int64_t(r) * x.w + s) * x.c; };
      T *p = at(ya, xa), *u = at(ya, xb), *v = at(yb, xa), *z = at(yb, xb);
      const T* g = c.in[0] + ((std::int64_t(q) * d.h + i) * d.w + j) * d.c;
      for (int k = 0; k < d.c; ++k) {
        p[k] += (1 - fy) * (1 - fx) * g[k], u[k] += (1 - fy) * fx * g[k];
        v[k] += fy * (1 - fx) * g[k], z[k] += fy * fx * g[k];
      }
    });
}
constexpr shape extent_of_window_at(const graph::attributes&, const shape* in, int) { return {in[2].n, in[0].c, in[2].h, in[2].w}; }
constexpr shape extent_of_window_source(const graph::attributes&, const shape* in, int) { return in[2]; }

inline constexpr custom_op window_at_grad_op{
    "window_at_grad", &extent_of_window_source, nullptr, &window_at_grad_kernel<float>, &window_at_grad_kernel<double>, nullptr};
constexpr void window_at_vjp(graph::tape& t, int node, int dy) {
  const int x = t.g.input_of(node, 0), where = t.g.input_of(node, 1);
  if (t.wants(x)) t.give(x, append_custom(t.g, window_at_grad_op, {dy, where, x}, t.g.nodes[x].channels));
}
inline constexpr custom_op window_at_op{"window_at", &extent_of_window_at, &window_at_vjp, &window_at_kernel<float>, &window_at_kernel<double>,
                                        nullptr};
}  // namespace detail

constexpr value window_at(builder& b, value x, value where, value like) {
  value v = emit_custom(b, detail::window_at_op, {x, where, like}, x.channels);
  v.scale = like.scale, v.exact = false;
  return v;
}

}  // namespace rsseg
