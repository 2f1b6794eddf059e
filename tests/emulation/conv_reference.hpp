// SPDX-License-Identifier: MIT
// A convolution and its two gradients in double, by the definition, and the geometries that every convolution kernel must get right.
#pragma once
#include <vector>

#include "emulation_test.hpp"
#include "rsseg/core/conv_geometry.hpp"

namespace rsseg::test {

struct conv_case {
  const char* what;
  conv_geometry g;
};
inline conv_geometry geometry(int n, int h, int w, int c, int k, int kernel_h, int kernel_w, int stride = 1, int dilation = 1, int groups = 1,
                              int pad = -1) {
  conv_geometry g;
  g.n = n, g.in_h = h, g.in_w = w, g.in_c = c, g.out_c = k, g.kernel_h = kernel_h, g.kernel_w = kernel_w, g.groups = groups;
  g.stride_h = g.stride_w = stride, g.dilation_h = g.dilation_w = dilation;
  g.pad_top = pad >= 0 ? pad : dilation * (kernel_h - 1) / 2, g.pad_left = pad >= 0 ? pad : dilation * (kernel_w - 1) / 2;
  g.out_h = conv_out(h, kernel_h, stride, 2 * g.pad_top, dilation), g.out_w = conv_out(w, kernel_w, stride, 2 * g.pad_left, dilation);
  return g;
}

struct conv_reference {
  std::vector<double> y, dx, dw;
};
/// y from x and w; dx from dy and w; dw from x and dy.
template <class X, class W, class G>
inline conv_reference reference_conv(const conv_geometry& g, const std::vector<X>& x, const std::vector<W>& w, const std::vector<G>& dy) {
  conv_reference r{std::vector<double>(dy.size()), std::vector<double>(x.size()), std::vector<double>(w.size())};
  const int cg = g.in_c / g.groups, kg = g.out_c / g.groups;
  for (int n = 0; n < g.n; ++n)
    for (int oy = 0; oy < g.out_h; ++oy)
      for (int ox = 0; ox < g.out_w; ++ox)
        for (int ky = 0; ky < g.kernel_h; ++ky)
          for (int kx = 0; kx < g.kernel_w; ++kx) {
            const int iy = oy * g.stride_h - g.pad_top + ky * g.dilation_h, ix = ox * g.stride_w - g.pad_left + kx * g.dilation_w;
            if (iy < 0 || iy >= g.in_h || ix < 0 || ix >= g.in_w) continue;
            for (int k = 0; k < g.out_c; ++k)
              for (int c = 0; c < cg; ++c) {
                const std::size_t i = ((std::size_t(n) * g.in_h + iy) * g.in_w + ix) * g.in_c + k / kg * cg + c;
                const std::size_t o = ((std::size_t(n) * g.out_h + oy) * g.out_w + ox) * g.out_c + k;
                const std::size_t j = ((std::size_t(k) * g.kernel_h + ky) * g.kernel_w + kx) * cg + c;
                r.y[o] += double(x[i]) * double(w[j]), r.dx[i] += double(dy[o]) * double(w[j]), r.dw[j] += double(x[i]) * double(dy[o]);
              }
          }
  return r;
}

}  // namespace rsseg::test
