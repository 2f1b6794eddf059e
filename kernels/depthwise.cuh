// SPDX-License-Identifier: MIT
// Depthwise convolution (Howard et al., MobileNets, 2017), any kernel, stride and dilation, including the asymmetric 5x1 and 1x5 of ENet's kind, with
// bias or folded batch normalisation, activation and residual in the same pass; data and weight gradient.
// Bound by memory. A thread makes a strip of four neighbouring outputs for a pack of 16 bytes of channels; at stride and dilation 1 the strip's
// inputs are read into registers once per kernel row; the block's weights sit in shared memory, [tap][channel]. Floors (H100): 3x3, 128 channels, 128
// x 128, batch 8: 22 us bf16, 45 us fp32; 32 channels, 512 x 512: 90 / 179 us.
#pragma once
#include "conv_problem.cuh"
#include "reduce.cuh"

namespace rsseg::cuda {
inline namespace RSSEG_BACKEND_NS {

constexpr int depthwise_strip = 4;

/// KW: the kernel's width where the sliding window applies (stride 1, dilation 1), else 0. Mirrored: taps in reverse (data gradient at stride 1).
/// Block: packs of channels x strips. Grid: strip blocks, channel blocks.
template <conv_pass Pass, class T, int V, int KW>
__global__ void depthwise_kernel(conv_problem p, divider by_strips, divider by_height, int strips, const T* source, const T* weights, T* target,
                                 conv_epilogue<T> e) {
  RSSEG_DYN_SHARED(float, w);  // [taps][blockDim.x * V]
  const int width = int(blockDim.x) * V, first = int(blockIdx.y) * width, channels = p.g.in_c;
  const int t = int(threadIdx.y * blockDim.x + threadIdx.x), threads = int(blockDim.x * blockDim.y);
  for (int i = t; i < p.taps * width; i += threads) {
    const int c = first + i / p.taps, tap = i % p.taps;  // weights are [channel][tap]
    w[tap * width + i / p.taps] = c < channels ? to_float(weights[std::int64_t(c) * p.taps + tap]) : 0.0f;
  }
  __syncthreads();
  const int strip = int(blockIdx.x * blockDim.y + threadIdx.y), c = first + int(threadIdx.x) * V;
  if (strip >= strips || c >= channels) return;
  int y, x0;
  const int n = by_height.divide(by_strips.divide(strip, x0), y);
  x0 *= depthwise_strip;
  const float* wc = w + int(threadIdx.x) * V;
  const T* image = source + std::int64_t(n) * p.source_h * p.source_w * channels + c;

  float acc[depthwise_strip][V] = {};
  if constexpr (KW > 0) {
    constexpr bool mirrored = Pass == conv_pass::data;
    const int left = mirrored ? KW - 1 - p.g.pad_left : p.g.pad_left, top = mirrored ? p.g.kernel_h - 1 - p.g.pad_top : p.g.pad_top;
    for (int ky = 0; ky < p.g.kernel_h; ++ky) {
      const int sy = y - top + ky;
      if (sy < 0 || sy >= p.source_h) continue;
      float window[depthwise_strip + KW - 1][V];
      RSSEG_UNROLL
      for (int i = 0; i < depthwise_strip + KW - 1; ++i) {
        const int sx = x0 - left + i;
        pack<T, V> v{};
        if (sx >= 0 && sx < p.source_w) v = load_pack<V>(image + (std::int64_t(sy) * p.source_w + sx) * channels);
        RSSEG_UNROLL
        for (int k = 0; k < V; ++k) window[i][k] = to_float(v.v[k]);
      }
      RSSEG_UNROLL
      for (int kx = 0; kx < KW; ++kx) {
        const int tap = mirrored ? (p.g.kernel_h - 1 - ky) * KW + KW - 1 - kx : ky * KW + kx;
        RSSEG_UNROLL
        for (int k = 0; k < V; ++k) {
          const float f = wc[tap * width + k];
          RSSEG_UNROLL
          for (int i = 0; i < depthwise_strip; ++i) acc[i][k] += f * window[i + kx][k];
        }
      }
    }
  } else {
    for (int tap = 0; tap < p.taps; ++tap) {
      RSSEG_UNROLL
      for (int i = 0; i < depthwise_strip; ++i) {
        int sy, sx;
        if (!p.source<Pass>(y, x0 + i, tap, sy, sx)) continue;
        const pack<T, V> v = load_pack<V>(image + (std::int64_t(sy) * p.source_w + sx) * channels);
        RSSEG_UNROLL
        for (int k = 0; k < V; ++k) acc[i][k] += wc[tap * width + k] * to_float(v.v[k]);
      }
    }
  }
  RSSEG_UNROLL
  for (int i = 0; i < depthwise_strip; ++i) {
    if (x0 + i >= p.target_w) break;
    const std::int64_t at = ((std::int64_t(n) * p.target_h + y) * p.target_w + x0 + i) * channels + c;
    pack<T, V> r{}, out;
    if (e.residual) r = load_pack<V>(e.residual + at);
    RSSEG_UNROLL
    for (int k = 0; k < V; ++k) {
      const float v = acc[i][k] * (e.scale ? e.scale[c + k] : 1.0f) + (e.shift ? e.shift[c + k] : 0.0f) + to_float(r.v[k]);
      out.v[k] = from_float<T>(activate(e.kind, v, e.slope));
    }
    store_pack<V>(target + at, out);
  }
}

template <conv_pass Pass, class T, int V>
inline void depthwise_run(stream_t s, const conv_geometry& g, const T* source, const T* weights, T* target, const conv_epilogue<T>& e) {
  const conv_problem p(g, Pass, 1);
  const int packs = g.in_c / V;
  int lanes = 1;
  while (lanes < packs && lanes < 32) lanes *= 2;
  const int rows = 128 / lanes, strips_per_row = ceil_div(p.target_w, depthwise_strip), strips = g.n * p.target_h * strips_per_row;
  const bool window = g.stride_h == 1 && g.stride_w == 1 && g.dilation_h == 1 && g.dilation_w == 1;
  auto kernel = depthwise_kernel<Pass, T, V, 0>;
  if (window && g.kernel_w == 1) kernel = depthwise_kernel<Pass, T, V, 1>;
  if (window && g.kernel_w == 3) kernel = depthwise_kernel<Pass, T, V, 3>;
  if (window && g.kernel_w == 5) kernel = depthwise_kernel<Pass, T, V, 5>;
  // strips along grid.x, which is not limited to 65535
  kernel_launch({Pass == conv_pass::forward ? "depthwise forward" : "depthwise data gradient",
                 dim3(unsigned(ceil_div(strips, rows)), unsigned(ceil_div(packs, lanes))), dim3(unsigned(lanes), unsigned(rows)),
                 std::size_t(p.taps) * std::size_t(lanes * V) * sizeof(float), s},
                kernel, p, divider(strips_per_row), divider(p.target_h), strips, source, weights, target, e);
}
inline void check_depthwise(const char* who, const conv_geometry& g) {
  check_geometry(who, g);
  if (g.groups != g.in_c || g.groups != g.out_c)
    throw usage_error(std::string("cuda: ") + who + ": expected as many groups as input and output channels, got " + std::to_string(g.groups) + ", " +
                      std::to_string(g.in_c) + ", " + std::to_string(g.out_c));
}
/// y = epilogue(x * w), w: (channels, kernel_h, kernel_w).
template <class T>
inline void depthwise_forward(stream_t s, const conv_geometry& g, const T* x, const T* w, T* y, const conv_epilogue<T>& e = {}) {
  check_depthwise("depthwise_forward", g);
  if (g.in_c % full_pack<T> == 0) return depthwise_run<conv_pass::forward, T, full_pack<T>>(s, g, x, w, y, e);
  depthwise_run<conv_pass::forward, T, 1>(s, g, x, w, y, e);
}
template <class T>
inline void depthwise_data_gradient(stream_t s, const conv_geometry& g, const T* dy, const T* w, T* dx, const conv_epilogue<T>& e = {}) {
  check_depthwise("depthwise_data_gradient", g);
  if (g.in_c % full_pack<T> == 0) return depthwise_run<conv_pass::data, T, full_pack<T>>(s, g, dy, w, dx, e);
  depthwise_run<conv_pass::data, T, 1>(s, g, dy, w, dx, e);
}

/// One pixel's products for K taps beginning at `first`.
template <class T, int K>
struct depthwise_weight_sum {
  conv_geometry g;
  divider by_w, by_h;
  int first;
  const T *x, *dy;
  __device__ void operator()(std::int64_t pixel, int c, float (&s)[K]) const {
    int oy, ox;
    const int n = by_h.divide(by_w.divide(int(pixel), ox), oy);
    const float d = to_float(dy[pixel * g.in_c + c]);
    RSSEG_UNROLL
    for (int k = 0; k < K; ++k) {
      const int iy = oy * g.stride_h - g.pad_top + (first + k) / g.kernel_w * g.dilation_h,
                ix = ox * g.stride_w - g.pad_left + (first + k) % g.kernel_w * g.dilation_w;
      if (iy >= 0 && iy < g.in_h && ix >= 0 && ix < g.in_w) s[k] += d * to_float(x[((std::int64_t(n) * g.in_h + iy) * g.in_w + ix) * g.in_c + c]);
    }
  }
};
template <int K>
struct store_depthwise_weights {
  float* dw;
  int taps, first;
  bool accumulate;
  __device__ void operator()(int, int c, const double (&s)[K]) const {
    RSSEG_UNROLL
    for (int k = 0; k < K; ++k) {
      float* out = dw + std::int64_t(c) * taps + first + k;
      *out = float(s[k]) + (accumulate ? *out : 0.0f);
    }
  }
};
template <class T, int K>
inline void depthwise_weight_run(stream_t s, const conv_geometry& g, int first, const T* x, const T* dy, float* dw, float* workspace,
                                 bool accumulate) {
  channel_sums<K>(s, "depthwise weight gradient", depthwise_weight_sum<T, K>{g, divider(g.out_w), divider(g.out_h), first, x, dy},
                  store_depthwise_weights<K>{dw, g.kernel_h * g.kernel_w, first, accumulate}, std::int64_t(g.n) * g.out_h * g.out_w, g.in_c,
                  workspace);
}
inline std::size_t depthwise_weight_workspace(const conv_geometry& g) {
  return channel_sums_workspace<9>(std::int64_t(g.n) * g.out_h * g.out_w, g.in_c);
}
/// dw in fp32; deterministic two-pass sums, nine taps (or five, or the rest one by one) in one read of dy.
template <class T>
inline void depthwise_weight_gradient(stream_t s, const conv_geometry& g, const T* x, const T* dy, float* dw, float* workspace,
                                      bool accumulate = false) {
  check_depthwise("depthwise_weight_gradient", g);
  const int taps = g.kernel_h * g.kernel_w;
  int first = 0;
  for (; taps - first >= 9; first += 9) depthwise_weight_run<T, 9>(s, g, first, x, dy, dw, workspace, accumulate);
  for (; taps - first >= 5; first += 5) depthwise_weight_run<T, 5>(s, g, first, x, dy, dw, workspace, accumulate);
  for (; first < taps; ++first) depthwise_weight_run<T, 1>(s, g, first, x, dy, dw, workspace, accumulate);
}

}  // namespace RSSEG_BACKEND_NS
}  // namespace rsseg::cuda
