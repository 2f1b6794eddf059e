// SPDX-License-Identifier: MIT
// Entries of pooling (graph/ops/pool.hpp). In graphs, maximum pooling that needs its indices is three operators around an int32 tensor of flat
// indices: argmax_pool, pick, place. `place` gathers where the windows are known, so that repeated indices add up in a fixed order.
#pragma once
#include "../pool.cuh"
#include "call.cuh"
#include "rsseg/graph/ops/pool.hpp"

namespace rsseg::cuda {
inline namespace RSSEG_BACKEND_NS {

struct pool_window {
  int kernel_h, kernel_w, stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w;
};
inline pool_window window_of(const graph::attributes& a, const shape& x) {
  pool_window p{a.kernel_h, a.kernel_w, a.stride_h, a.stride_w, a.pad_top, a.pad_left, a.dilation_h, a.dilation_w};
  if (a.count == 1) p.kernel_h = p.stride_h = x.h / a.bins_h, p.kernel_w = p.stride_w = x.w / a.bins_w;
  return p;
}
/// Number of taps of the window at `start` inside [0, size).
RSSEG_HD inline int taps_inside(int start, int kernel, int dilation, int size) {
  const int first = start >= 0 ? 0 : (-start + dilation - 1) / dilation;
  int last = start >= size ? 0 : (size - 1 - start) / dilation + 1;
  if (last > kernel) last = kernel;
  return last > first ? last - first : 0;
}

/// Maximum of a window; index: flat place y * W + x of the first one. Either may be null.
template <class T>
struct max_window {
  shape s, o;
  pool_window p;
  const T* x;
  T* y;
  std::int32_t* index;
  __device__ void operator()(std::int64_t i) const {
    const place_of at(i, o);
    float best = -INFINITY;
    std::int32_t where = 0;
    bool first = true;
    for (int ky = 0; ky < p.kernel_h; ++ky) {
      const int iy = at.h * p.stride_h - p.pad_top + ky * p.dilation_h;
      if (iy < 0 || iy >= s.h) continue;
      for (int kx = 0; kx < p.kernel_w; ++kx) {
        const int ix = at.w * p.stride_w - p.pad_left + kx * p.dilation_w;
        if (ix < 0 || ix >= s.w) continue;
        const float v = to_float(x[offset_of(s, at.n, iy, ix, at.c)]);
        if (first || v > best) best = v, where = iy * s.w + ix;
        first = false;
      }
    }
    if (y) y[i] = from_float<T>(best);
    if (index) index[i] = where;
  }
};
template <class T>
void max_pool_entry(const call<T>& c) {
  each(c.stream(), "max_pool", c.extent().size(),
       max_window<T>{c.in_extent(0), c.extent(), window_of(c.at(), c.in_extent(0)), c.in(0), c.out(), nullptr});
}
template <class T>
void argmax_pool_entry(const call<T>& c) {
  each(c.stream(), "argmax_pool", c.extent().size(),
       max_window<T>{c.in_extent(0), c.extent(), window_of(c.at(), c.in_extent(0)), c.in(0), nullptr, c.index_out()});
}
template <class T>
struct pick_values {
  shape s, o;
  const T* x;
  const std::int32_t* index;
  T* y;
  __device__ void operator()(std::int64_t i) const {
    const std::int64_t pixels = std::int64_t(s.h) * s.w, at = index[i];
    const std::int64_t image = i / (std::int64_t(o.h) * o.w * o.c);
    y[i] = at >= 0 && at < pixels ? x[(image * pixels + at) * s.c + i % o.c] : from_float<T>(0.0f);
  }
};
template <class T>
void pick(const call<T>& c) {
  each(c.stream(), "pick", c.extent().size(), pick_values<T>{c.in_extent(0), c.extent(), c.in(0), c.index_in(1), c.out()});
}

/// Each element of the large map adds up the windows whose index names it, in row-major order.
template <class T>
struct place_gather {
  shape s, o;  // of the windows, of the map
  pool_window p;
  const T* y;
  const std::int32_t* index;
  T* x;
  __device__ void operator()(std::int64_t i) const {
    const place_of at(i, o);
    const int flat = at.h * o.w + at.w;
    float sum = 0;
    const int low_y = at.h + p.pad_top - p.dilation_h * (p.kernel_h - 1), low_x = at.w + p.pad_left - p.dilation_w * (p.kernel_w - 1);
    const int first_y = low_y <= 0 ? 0 : (low_y + p.stride_h - 1) / p.stride_h, first_x = low_x <= 0 ? 0 : (low_x + p.stride_w - 1) / p.stride_w;
    const int last_y = imin((at.h + p.pad_top) / p.stride_h, s.h - 1), last_x = imin((at.w + p.pad_left) / p.stride_w, s.w - 1);
    for (int oy = first_y; oy <= last_y; ++oy)
      for (int ox = first_x; ox <= last_x; ++ox) {
        const std::int64_t from = offset_of(s, at.n, oy, ox, at.c);
        if (index[from] == flat) sum += to_float(y[from]);
      }
    x[i] = from_float<T>(sum);
  }
};
/// Indices of unknown origin: one thread per image and channel writes them in order. Slow, and the same bits in every run.
template <class T>
struct place_in_order {
  shape s, o;
  const T* y;
  const std::int32_t* index;
  T* x;
  __device__ void operator()(std::int64_t i) const {
    const std::int64_t n = i / s.c, c = i % s.c, pixels = std::int64_t(o.h) * o.w, each = std::int64_t(s.h) * s.w;
    for (std::int64_t k = 0; k < pixels; ++k) x[(n * pixels + k) * o.c + c] = from_float<T>(0.0f);
    for (std::int64_t k = 0; k < each; ++k) {
      const std::int64_t from = (n * each + k) * s.c + c, at = index[from];
      if (at < 0 || at >= pixels) continue;
      T* to = x + (n * pixels + at) * o.c + c;
      *to = from_float<T>(to_float(*to) + to_float(y[from]));
    }
  }
};
template <class T>
void place(const call<T>& c) {
  const shape s = c.in_extent(0), o = c.extent();
  const int maker = c.input_id(1);
  if (c.g->nodes[maker].kind == graph::op::argmax_pool) {
    const shape pooled = c.extents[c.g->input_of(maker, 0)];
    if (pooled.h == o.h && pooled.w == o.w)
      return each(c.stream(), "place", o.size(), place_gather<T>{s, o, window_of(c.g->nodes[maker].at, pooled), c.in(0), c.index_in(1), c.out()});
  }
  each(c.stream(), "place in order", std::int64_t(s.n) * s.c, place_in_order<T>{s, o, c.in(0), c.index_in(1), c.out()});
}

template <class T>
struct average_window {
  shape s, o;
  pool_window p;
  bool inside;  // divide by the taps inside the map
  const T* x;
  T* y;
  __device__ void operator()(std::int64_t i) const {
    const place_of at(i, o);
    float sum = 0;
    int count = 0;
    for (int ky = 0; ky < p.kernel_h; ++ky) {
      const int iy = at.h * p.stride_h - p.pad_top + ky * p.dilation_h;
      if (iy < 0 || iy >= s.h) continue;
      for (int kx = 0; kx < p.kernel_w; ++kx) {
        const int ix = at.w * p.stride_w - p.pad_left + kx * p.dilation_w;
        if (ix < 0 || ix >= s.w) continue;
        sum += to_float(x[offset_of(s, at.n, iy, ix, at.c)]), ++count;
      }
    }
    if (!inside) count = p.kernel_h * p.kernel_w;
    y[i] = from_float<T>(sum / float(count > 0 ? count : 1));
  }
};
template <class T>
void avg_pool(const call<T>& c) {
  each(c.stream(), "avg_pool", c.extent().size(),
       average_window<T>{c.in_extent(0), c.extent(), window_of(c.at(), c.in_extent(0)), c.at().flag2, c.in(0), c.out()});
}
template <class T>
struct average_window_gradient {
  shape s, o;  // of the map, of the windows
  pool_window p;
  bool inside;
  const T* dy;
  T* dx;
  __device__ void operator()(std::int64_t i) const {
    const place_of at(i, s);
    float sum = 0;
    for (int ky = p.kernel_h - 1; ky >= 0; --ky) {  // windows in ascending order
      const int ty = at.h + p.pad_top - ky * p.dilation_h, oy = ty / p.stride_h;
      if (ty < 0 || ty % p.stride_h != 0 || oy >= o.h) continue;
      for (int kx = p.kernel_w - 1; kx >= 0; --kx) {
        const int tx = at.w + p.pad_left - kx * p.dilation_w, ox = tx / p.stride_w;
        if (tx < 0 || tx % p.stride_w != 0 || ox >= o.w) continue;
        const int count = inside ? taps_inside(oy * p.stride_h - p.pad_top, p.kernel_h, p.dilation_h, s.h) *
                                       taps_inside(ox * p.stride_w - p.pad_left, p.kernel_w, p.dilation_w, s.w)
                                 : p.kernel_h * p.kernel_w;
        sum += to_float(dy[offset_of(o, at.n, oy, ox, at.c)]) / float(count);
      }
    }
    dx[i] = from_float<T>(sum);
  }
};
template <class T>
void avg_pool_grad(const call<T>& c) {
  each(c.stream(), "avg_pool gradient", c.extent().size(),
       average_window_gradient<T>{c.extent(), c.in_extent(0), window_of(c.at(), c.extent()), c.at().flag2, c.in(0), c.out()});
}

/// One block per bin and 32 channels; eight threads share a channel's pixels.
template <class T>
__global__ void adaptive_bins_kernel(shape s, shape o, const T* x, T* y) {
  RSSEG_DYN_SHARED(float, shared);
  const int bin = int(blockIdx.x), by = bin / o.w, bx = bin % o.w, c = int(blockIdx.y) * 32 + int(threadIdx.x), n = int(blockIdx.z);
  const int y0 = bin_begin(by, s.h, o.h), x0 = bin_begin(bx, s.w, o.w), width = bin_end(bx, s.w, o.w) - x0;
  const int count = (bin_end(by, s.h, o.h) - y0) * width;
  float sum = 0;
  if (c < s.c)
    for (int i = int(threadIdx.y); i < count; i += int(blockDim.y)) sum += to_float(x[offset_of(s, n, y0 + i / width, x0 + i % width, c)]);
  shared[threadIdx.y * 32 + threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || c >= s.c) return;
  for (int k = 1; k < int(blockDim.y); ++k) sum += shared[k * 32 + int(threadIdx.x)];
  y[offset_of(o, n, by, bx, c)] = from_float<T>(sum / float(count));
}
template <class T>
void adaptive_avg_pool(const call<T>& c) {
  const shape s = c.in_extent(0), o = c.extent();
  kernel_launch({"adaptive_avg_pool", dim3(unsigned(o.h * o.w), unsigned(ceil_div(s.c, 32)), unsigned(s.n)), dim3(32, 8), 1024, c.stream()},
                adaptive_bins_kernel<T>, s, o, c.in(0), c.out());
}
template <class T>
struct adaptive_gradient {
  shape s, o;  // of the map, of the bins
  const T* dy;
  T* dx;
  __device__ void operator()(std::int64_t i) const {
    const place_of at(i, s);
    const auto first = [](int k, int bins, int extent) { return int(std::int64_t(k) * bins / extent); };
    const auto last = [](int k, int bins, int extent) { return int((std::int64_t(k + 1) * bins + extent - 1) / extent); };
    float sum = 0;
    for (int oy = first(at.h, o.h, s.h); oy < last(at.h, o.h, s.h); ++oy)
      for (int ox = first(at.w, o.w, s.w); ox < last(at.w, o.w, s.w); ++ox) {
        const int area = (bin_end(oy, s.h, o.h) - bin_begin(oy, s.h, o.h)) * (bin_end(ox, s.w, o.w) - bin_begin(ox, s.w, o.w));
        sum += to_float(dy[offset_of(o, at.n, oy, ox, at.c)]) / float(area);
      }
    dx[i] = from_float<T>(sum);
  }
};
template <class T>
void adaptive_avg_pool_grad(const call<T>& c) {
  each(c.stream(), "adaptive_avg_pool gradient", c.extent().size(), adaptive_gradient<T>{c.extent(), c.in_extent(0), c.in(0), c.out()});
}

}  // namespace RSSEG_BACKEND_NS
}  // namespace rsseg::cuda
