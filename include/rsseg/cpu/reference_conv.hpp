// SPDX-License-Identifier: MIT
// The convolution family as the formula says it: seven nested loops. The tests hold the fast kernels against these, and a port to a new
// machine starts from them. Shapes as in core/conv_geometry.hpp: big is (N, in_c, in_h, in_w), small is (N, out_c, out_h, out_w), NHWC.
#pragma once
#include "rsseg/core/conv_geometry.hpp"
#include "rsseg/core/parallel.hpp"
#include "rsseg/cpu/call.hpp"
#include "rsseg/graph/ops/conv.hpp"

namespace rsseg::cpu {

/// small = conv(big, w) + bias + residual, then relu; bias and residual may be null.
template <class T>
void reference_conv_forward(const conv_geometry& g, const T* big, const T* w, const T* bias, const T* residual, bool relu, T* small) {
  const int ic = g.in_c_per_group(), oc = g.out_c_per_group();
  parallel_for(std::int64_t(g.n) * g.out_h, [&](std::int64_t row) {
    const std::int64_t n = row / g.out_h, oy = row % g.out_h;
    for (int ox = 0; ox < g.out_w; ++ox)
      for (int o = 0; o < g.out_c; ++o) {
        T sum = bias ? bias[o] : T(0);
        for (int ky = 0; ky < g.kernel_h; ++ky)
          for (int kx = 0; kx < g.kernel_w; ++kx) {
            const std::int64_t iy = oy * g.stride_h - g.pad_top + ky * g.dilation_h,
                               ix = std::int64_t(ox) * g.stride_w - g.pad_left + kx * g.dilation_w;
            if (iy < 0 || iy >= g.in_h || ix < 0 || ix >= g.in_w) continue;
            const T* x = big + ((n * g.in_h + iy) * g.in_w + ix) * g.in_c + (o / oc) * ic;
            const T* v = w + ((std::int64_t(o) * g.kernel_h + ky) * g.kernel_w + kx) * ic;
            for (int i = 0; i < ic; ++i) sum += x[i] * v[i];
          }
        const std::int64_t at = (row * g.out_w + ox) * g.out_c + o;
        if (residual) sum += residual[at];
        small[at] = relu && sum < 0 ? T(0) : sum;
      }
  });
}

/// big = the adjoint of the convolution applied to small, + bias (per channel of big), then relu.
template <class T>
void reference_conv_data(const conv_geometry& g, const T* small, const T* w, const T* bias, bool relu, T* big) {
  const int ic = g.in_c_per_group(), oc = g.out_c_per_group();
  parallel_for(std::int64_t(g.n) * g.in_h, [&](std::int64_t row) {
    const std::int64_t n = row / g.in_h, iy = row % g.in_h;
    T* line = big + row * g.in_w * g.in_c;
    for (std::int64_t i = 0; i < std::int64_t(g.in_w) * g.in_c; ++i) line[i] = bias ? bias[i % g.in_c] : T(0);
    for (int ky = 0; ky < g.kernel_h; ++ky) {
      const std::int64_t sy = iy + g.pad_top - ky * g.dilation_h;
      if (sy < 0 || sy % g.stride_h != 0 || sy / g.stride_h >= g.out_h) continue;
      for (int kx = 0; kx < g.kernel_w; ++kx)
        for (int ix = 0; ix < g.in_w; ++ix) {
          const int sx = ix + g.pad_left - kx * g.dilation_w;
          if (sx < 0 || sx % g.stride_w != 0 || sx / g.stride_w >= g.out_w) continue;
          const T* s = small + ((n * g.out_h + sy / g.stride_h) * g.out_w + sx / g.stride_w) * g.out_c;
          for (int o = 0; o < g.out_c; ++o) {
            const T* v = w + ((std::int64_t(o) * g.kernel_h + ky) * g.kernel_w + kx) * ic;
            T* to = line + std::int64_t(ix) * g.in_c + (o / oc) * ic;
            for (int i = 0; i < ic; ++i) to[i] += s[o] * v[i];
          }
        }
    }
    if (relu)
      for (std::int64_t i = 0; i < std::int64_t(g.in_w) * g.in_c; ++i) line[i] = line[i] < 0 ? T(0) : line[i];
  });
}

/// w = sum over images and pixels of small * big.
template <class T>
void reference_conv_weights(const conv_geometry& g, const T* big, const T* small, T* w) {
  const int ic = g.in_c_per_group(), oc = g.out_c_per_group();
  parallel_for(g.out_c, [&](std::int64_t o) {
    for (int ky = 0; ky < g.kernel_h; ++ky)
      for (int kx = 0; kx < g.kernel_w; ++kx) {
        T* to = w + ((o * g.kernel_h + ky) * g.kernel_w + kx) * ic;
        for (int i = 0; i < ic; ++i) to[i] = 0;
        for (std::int64_t n = 0; n < g.n; ++n)
          for (std::int64_t oy = 0; oy < g.out_h; ++oy) {
            const std::int64_t iy = oy * g.stride_h - g.pad_top + ky * g.dilation_h;
            if (iy < 0 || iy >= g.in_h) continue;
            for (int ox = 0; ox < g.out_w; ++ox) {
              const std::int64_t ix = std::int64_t(ox) * g.stride_w - g.pad_left + kx * g.dilation_w;
              if (ix < 0 || ix >= g.in_w) continue;
              const T s = small[((n * g.out_h + oy) * g.out_w + ox) * g.out_c + o];
              const T* x = big + ((n * g.in_h + iy) * g.in_w + ix) * g.in_c + (o / oc) * ic;
              for (int i = 0; i < ic; ++i) to[i] += s * x[i];
            }
          }
      }
  });
}

template <class T>
void reference_conv(const call<T>& c) {
  const conv_geometry g = graph::ops::geometry_of(*c.g, c.id, c.extents);
  reference_conv_forward(g, c.in(0), c.in(1), c.inputs() > 2 ? c.in(2) : nullptr, c.inputs() > 3 ? c.in(3) : nullptr, c.at().relu, c.out());
}
template <class T>
void reference_conv_transpose(const call<T>& c) {
  reference_conv_data(graph::ops::geometry_of(*c.g, c.id, c.extents), c.in(0), c.in(1), c.inputs() > 2 ? c.in(2) : nullptr, c.at().relu, c.out());
}
template <class T>
void reference_conv_backward_data(const call<T>& c) {
  reference_conv_data<T>(graph::ops::geometry_of(*c.g, c.id, c.extents), c.in(0), c.in(1), nullptr, false, c.out());
}
template <class T>
void reference_conv_backward_weights(const call<T>& c) {
  reference_conv_weights(graph::ops::geometry_of(*c.g, c.id, c.extents), c.in(0), c.in(1), c.out());
}

}  // namespace rsseg::cpu
