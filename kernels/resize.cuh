// SPDX-License-Identifier: MIT
// Bilinear and nearest resizing of NHWC maps, and their gradients. The gradient of a bilinear resize is written as a gather: each pixel of the small
// map collects from the few pixels of the large one that read it, instead of scattering with atomics as PyTorch does: deterministic, and one
// write per element (the scatter -> gather change was measured 20x elsewhere, pytorch PR 164572).
// Floors (H100): x4, 19 classes, 128x256 -> 512x1024: 7 us bf16, 14 us fp32.
#pragma once
#include "pool.cuh"

namespace rsseg::cuda {

/// From (in_h, in_w) to (out_h, out_w). align_corners as in PyTorch: corner pixels coincide, else pixel areas do.
struct resize_geometry {
  int n = 1, c = 1, in_h = 1, in_w = 1, out_h = 1, out_w = 1;
  bool align_corners = false;
};

inline namespace RSSEG_BACKEND_NS {

/// Where output o reads from: first = i0, second = i1 with weight f, i0 with weight 1 - f.
struct axis_map {
  int in, out;
  bool align_corners;
  float scale;
  axis_map(int input, int output, bool align)
      : in(input),
        out(output),
        align_corners(align),
        scale(align ? (output > 1 ? float(input - 1) / float(output - 1) : 0.0f) : float(input) / float(output)) {}
  RSSEG_HD void operator()(int o, int& i0, int& i1, float& f) const {
    float at = align_corners ? float(o) * scale : (float(o) + 0.5f) * scale - 0.5f;
    if (at < 0) at = 0;
    i0 = int(at);
    if (i0 > in - 1) i0 = in - 1;
    i1 = i0 < in - 1 ? i0 + 1 : i0;
    f = at - float(i0);
  }
  /// Weight with which output o reads input i.
  RSSEG_HD float weight(int o, int i) const {
    int i0, i1;
    float f;
    (*this)(o, i0, i1, f);
    return (i0 == i ? 1.0f - f : 0.0f) + (i1 == i ? f : 0.0f);
  }
  /// Outputs [first, last] hold all that read an input in [low, high]; a few of them may not.
  RSSEG_HD void readers(int low, int high, int& first, int& last) const {
    if (scale <= 0 || in == 1) {
      first = 0, last = out - 1;
      return;
    }
    const float shift = align_corners ? 0.0f : 0.5f;
    const float a = (float(low) - 1.0f + shift) / scale - shift, b = (float(high) + 1.0f + shift) / scale - shift;
    first = imax(0, int(floorf(a)));
    last = high >= in - 1 ? out - 1 : imin(out - 1, int(ceilf(b)));
    if (low <= 0) first = 0;
  }
};

template <class T, int V>
__global__ void bilinear_kernel(resize_geometry g, axis_map ym, axis_map xm, pixel_splitter split, const T* x, T* y, std::int64_t packs) {
  for (std::int64_t i = grid_start(); i < packs; i += grid_stride()) {
    int n, oy, ox, c, y0, y1, x0, x1;
    float fy, fx;
    split(i, n, oy, ox, c);
    ym(oy, y0, y1, fy), xm(ox, x0, x1, fx);
    const auto at = [&](int yy, int xx) { return load_pack<V>(x + ((std::int64_t(n) * g.in_h + yy) * g.in_w + xx) * g.c + c); };
    const pack<T, V> a = at(y0, x0), b = at(y0, x1), d = at(y1, x0), e = at(y1, x1);
    pack<T, V> out;
    RSSEG_UNROLL
    for (int k = 0; k < V; ++k)
      out.v[k] = from_float<T>((1 - fy) * ((1 - fx) * to_float(a.v[k]) + fx * to_float(b.v[k])) +
                               fy * ((1 - fx) * to_float(d.v[k]) + fx * to_float(e.v[k])));
    store_pack<V>(y + i * V, out);
  }
}
template <class T, int V>
__global__ void bilinear_backward_kernel(resize_geometry g, axis_map ym, axis_map xm, pixel_splitter split, const T* dy, T* dx, std::int64_t packs) {
  for (std::int64_t i = grid_start(); i < packs; i += grid_stride()) {
    int n, iy, ix, c, y0, y1, x0, x1;
    split(i, n, iy, ix, c);
    ym.readers(iy, iy, y0, y1), xm.readers(ix, ix, x0, x1);
    float sum[V] = {};
    for (int oy = y0; oy <= y1; ++oy) {
      const float wy = ym.weight(oy, iy);
      if (wy == 0) continue;
      for (int ox = x0; ox <= x1; ++ox) {
        const float w = wy * xm.weight(ox, ix);
        if (w == 0) continue;
        const pack<T, V> v = load_pack<V>(dy + ((std::int64_t(n) * g.out_h + oy) * g.out_w + ox) * g.c + c);
        RSSEG_UNROLL
        for (int k = 0; k < V; ++k) sum[k] += w * to_float(v.v[k]);
      }
    }
    pack<T, V> out;
    RSSEG_UNROLL
    for (int k = 0; k < V; ++k) out.v[k] = from_float<T>(sum[k]);
    store_pack<V>(dx + i * V, out);
  }
}
template <class T>
inline void bilinear(stream_t s, const resize_geometry& g, const T* x, T* y) {
  constexpr int V = full_pack<T>;
  const bool wide = g.c % V == 0;
  const int step = wide ? V : 1;
  const std::int64_t packs = checked_packs("bilinear", std::int64_t(g.n) * g.out_h * g.out_w * (g.c / step));
  kernel_launch({"bilinear", grid_for(packs, 256), 256, 0, s}, wide ? bilinear_kernel<T, V> : bilinear_kernel<T, 1>, g,
                axis_map(g.in_h, g.out_h, g.align_corners), axis_map(g.in_w, g.out_w, g.align_corners), pixel_splitter(g.out_h, g.out_w, g.c, step),
                x, y, packs);
}
/// dx (the input's extent) from dy (the output's).
template <class T>
inline void bilinear_backward(stream_t s, const resize_geometry& g, const T* dy, T* dx) {
  constexpr int V = full_pack<T>;
  const bool wide = g.c % V == 0;
  const int step = wide ? V : 1;
  const std::int64_t packs = checked_packs("bilinear_backward", std::int64_t(g.n) * g.in_h * g.in_w * (g.c / step));
  kernel_launch({"bilinear_backward", grid_for(packs, 256), 256, 0, s}, wide ? bilinear_backward_kernel<T, V> : bilinear_backward_kernel<T, 1>, g,
                axis_map(g.in_h, g.out_h, g.align_corners), axis_map(g.in_w, g.out_w, g.align_corners), pixel_splitter(g.in_h, g.in_w, g.c, step), dy,
                dx, packs);
}

/// Nearest: output o reads input floor(o * in / out). Exact in integers.
RSSEG_HD constexpr int nearest_source(int o, int in, int out) { return imin(int(std::int64_t(o) * in / out), in - 1); }
template <class T>
__global__ void nearest_kernel(resize_geometry g, pixel_splitter split, const T* x, T* y, std::int64_t size) {
  for (std::int64_t i = grid_start(); i < size; i += grid_stride()) {
    int n, oy, ox, c;
    split(i, n, oy, ox, c);
    y[i] = x[((std::int64_t(n) * g.in_h + nearest_source(oy, g.in_h, g.out_h)) * g.in_w + nearest_source(ox, g.in_w, g.out_w)) * g.c + c];
  }
}
template <class T>
__global__ void nearest_backward_kernel(resize_geometry g, pixel_splitter split, const T* dy, T* dx, std::int64_t size) {
  for (std::int64_t i = grid_start(); i < size; i += grid_stride()) {
    int n, iy, ix, c;
    split(i, n, iy, ix, c);
    const auto first = [](int in_index, int in, int out) { return int((std::int64_t(in_index) * out + in - 1) / in); };
    float sum = 0;
    for (int oy = first(iy, g.in_h, g.out_h); oy < g.out_h && nearest_source(oy, g.in_h, g.out_h) == iy; ++oy)
      for (int ox = first(ix, g.in_w, g.out_w); ox < g.out_w && nearest_source(ox, g.in_w, g.out_w) == ix; ++ox)
        sum += to_float(dy[((std::int64_t(n) * g.out_h + oy) * g.out_w + ox) * g.c + c]);
    dx[i] = from_float<T>(sum);
  }
}
template <class T>
inline void nearest(stream_t s, const resize_geometry& g, const T* x, T* y) {
  const std::int64_t size = checked_packs("nearest", std::int64_t(g.n) * g.out_h * g.out_w * g.c);
  kernel_launch({"nearest", grid_for(size, 256), 256, 0, s}, nearest_kernel<T>, g, pixel_splitter(g.out_h, g.out_w, g.c, 1), x, y, size);
}
template <class T>
inline void nearest_backward(stream_t s, const resize_geometry& g, const T* dy, T* dx) {
  const std::int64_t size = checked_packs("nearest_backward", std::int64_t(g.n) * g.in_h * g.in_w * g.c);
  kernel_launch({"nearest_backward", grid_for(size, 256), 256, 0, s}, nearest_backward_kernel<T>, g, pixel_splitter(g.in_h, g.in_w, g.c, 1), dy, dx,
                size);
}

}  // namespace RSSEG_BACKEND_NS
}  // namespace rsseg::cuda
