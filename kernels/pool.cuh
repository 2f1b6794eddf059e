// SPDX-License-Identifier: MIT
// Pooling. Max pooling keeps the winner's place inside its window as one byte (an eighth of PyTorch's int64), so that its gradient and SegNet's
// unpooling (Badrinarayanan et al., TPAMI 2017) are gathers: each output reads its windows; no memset, no atomics.
// Pyramid pooling (Zhao et al., CVPR 2017) reads its input once for all bin counts: sums over the cells of the bins' common refinement, then tiny
// sums. Floors (H100, fp32): max pool 64 x 360 x 480 x 8 155 us, the same for unpool; bins 1,2,3,6 over 2048 x 60 x 60 x 8 80 us.
#pragma once
#include "common.cuh"
#include "rsseg/core/conv_geometry.hpp"

namespace rsseg::cuda {
inline namespace RSSEG_BACKEND_NS {

/// Place of thread work item i in an NHWC array of packs: image, row, column and first channel.
struct pixel_splitter {
  divider c, w, h;
  int step;
  pixel_splitter(int height, int width, int channels, int pack_size) : c(channels / pack_size), w(width), h(height), step(pack_size) {}
  RSSEG_HD void operator()(std::int64_t i, int& n, int& y, int& x, int& channel) const {
    n = h.divide(w.divide(c.divide(int(i), channel), x), y);
    channel *= step;
  }
};
inline std::int64_t checked_packs(const char* name, std::int64_t n) {
  if (n > 2147483647)
    throw memory_error(std::string("cuda: ") + name + ": " + std::to_string(n) +
                       " elements in one launch, at most 2147483647; use a smaller batch or tile");
  return n;
}

template <class T, int V>
__global__ void max_pool_kernel(conv_geometry g, pixel_splitter split, const T* x, T* y, std::uint8_t* index, std::int64_t packs) {
  for (std::int64_t i = grid_start(); i < packs; i += grid_stride()) {
    int n, oy, ox, c;
    split(i, n, oy, ox, c);
    pack<T, V> best;
    pack<std::uint8_t, V> place;
    float value[V];
    RSSEG_UNROLL
    for (int k = 0; k < V; ++k) value[k] = -INFINITY, place.v[k] = 255, best.v[k] = from_float<T>(0.0f);
    for (int ky = 0; ky < g.kernel_h; ++ky) {
      const int iy = oy * g.stride_h - g.pad_top + ky * g.dilation_h;
      if (iy < 0 || iy >= g.in_h) continue;
      for (int kx = 0; kx < g.kernel_w; ++kx) {
        const int ix = ox * g.stride_w - g.pad_left + kx * g.dilation_w;
        if (ix < 0 || ix >= g.in_w) continue;
        const pack<T, V> v = load_pack<V>(x + ((std::int64_t(n) * g.in_h + iy) * g.in_w + ix) * g.in_c + c);
        RSSEG_UNROLL
        for (int k = 0; k < V; ++k) {
          const float f = to_float(v.v[k]);
          if (f > value[k] || f != f || place.v[k] == 255) value[k] = f, best.v[k] = v.v[k], place.v[k] = std::uint8_t(ky * g.kernel_w + kx);
        }
      }
    }
    store_pack<V>(y + i * V, best);
    if (index) store_pack<V>(index + i * V, place);
  }
}
/// y and (unless null) index, both of the output's extent. Windows of at most 255 places; ties go to the first, NaN wins.
template <class T>
inline void max_pool(stream_t s, const conv_geometry& g, const T* x, T* y, std::uint8_t* index) {
  if (g.kernel_h * g.kernel_w > 255)
    throw usage_error("cuda: max_pool: window of " + std::to_string(g.kernel_h * g.kernel_w) + " places, at most 255");
  constexpr int V = full_pack<T>;
  const bool wide = g.in_c % V == 0;
  const int step = wide ? V : 1;
  const std::int64_t packs = checked_packs("max_pool", std::int64_t(g.n) * g.out_h * g.out_w * (g.in_c / step));
  kernel_launch({"max_pool", grid_for(packs, 256), 256, 0, s}, wide ? max_pool_kernel<T, V> : max_pool_kernel<T, 1>, g,
                pixel_splitter(g.out_h, g.out_w, g.in_c, step), x, y, index, packs);
}

/// What sends values from windows back to places: for every element of the large map the sum over the windows whose index names it.
template <class T, int V>
__global__ void from_windows_kernel(conv_geometry g, pixel_splitter split, const T* small, const std::uint8_t* index, T* large, std::int64_t packs) {
  for (std::int64_t i = grid_start(); i < packs; i += grid_stride()) {
    int n, iy, ix, c;
    split(i, n, iy, ix, c);
    float sum[V] = {};
    for (int ky = 0; ky < g.kernel_h; ++ky) {
      const int sy = iy + g.pad_top - ky * g.dilation_h;
      if (sy < 0 || sy % g.stride_h != 0 || sy / g.stride_h >= g.out_h) continue;
      for (int kx = 0; kx < g.kernel_w; ++kx) {
        const int sx = ix + g.pad_left - kx * g.dilation_w;
        if (sx < 0 || sx % g.stride_w != 0 || sx / g.stride_w >= g.out_w) continue;
        const std::int64_t at = ((std::int64_t(n) * g.out_h + sy / g.stride_h) * g.out_w + sx / g.stride_w) * g.in_c + c;
        const pack<std::uint8_t, V> place = load_pack<V>(index + at);
        const pack<T, V> v = load_pack<V>(small + at);
        RSSEG_UNROLL
        for (int k = 0; k < V; ++k)
          if (place.v[k] == ky * g.kernel_w + kx) sum[k] += to_float(v.v[k]);
      }
    }
    pack<T, V> out;
    RSSEG_UNROLL
    for (int k = 0; k < V; ++k) out.v[k] = from_float<T>(sum[k]);
    store_pack<V>(large + i * V, out);
  }
}
/// The gradient of max_pool, and equally SegNet's unpooling: large(input extent) from small(output extent). g: the pooling's geometry.
template <class T>
inline void unpool(stream_t s, const conv_geometry& g, const T* small, const std::uint8_t* index, T* large) {
  constexpr int V = full_pack<T>;
  const bool wide = g.in_c % V == 0;
  const int step = wide ? V : 1;
  const std::int64_t packs = checked_packs("unpool", std::int64_t(g.n) * g.in_h * g.in_w * (g.in_c / step));
  kernel_launch({"unpool", grid_for(packs, 256), 256, 0, s}, wide ? from_windows_kernel<T, V> : from_windows_kernel<T, 1>, g,
                pixel_splitter(g.in_h, g.in_w, g.in_c, step), small, index, large, packs);
}
/// The gradient of unpool: small(oy, ox) = large at the place the index names.
template <class T>
__global__ void to_windows_kernel(conv_geometry g, pixel_splitter split, const T* large, const std::uint8_t* index, T* small, std::int64_t size) {
  for (std::int64_t i = grid_start(); i < size; i += grid_stride()) {
    int n, oy, ox, c;
    split(i, n, oy, ox, c);
    const int place = index[i];
    const int iy = oy * g.stride_h - g.pad_top + place / g.kernel_w * g.dilation_h,
              ix = ox * g.stride_w - g.pad_left + place % g.kernel_w * g.dilation_w;
    const bool inside = place != 255 && iy >= 0 && iy < g.in_h && ix >= 0 && ix < g.in_w;
    small[i] = inside ? large[((std::int64_t(n) * g.in_h + iy) * g.in_w + ix) * g.in_c + c] : from_float<T>(0.0f);
  }
}
template <class T>
inline void unpool_backward(stream_t s, const conv_geometry& g, const T* large, const std::uint8_t* index, T* small) {
  const std::int64_t size = checked_packs("unpool_backward", std::int64_t(g.n) * g.out_h * g.out_w * g.in_c);
  kernel_launch({"unpool_backward", grid_for(size, 256), 256, 0, s}, to_windows_kernel<T>, g, pixel_splitter(g.out_h, g.out_w, g.in_c, 1), large,
                index, small, size);
}

// --- average pooling
/// Elements an average divides by, in one axis.
RSSEG_HD constexpr int average_extent(int o, int stride, int pad, int kernel, int in, bool count_padding) {
  const int first = o * stride - pad, last = first + kernel;
  if (count_padding) return imin(last, in + pad) - first;
  return imin(last, in) - imax(first, 0);
}
template <class T>
__global__ void average_pool_kernel(conv_geometry g, pixel_splitter split, bool count_padding, const T* x, T* y, std::int64_t size) {
  for (std::int64_t i = grid_start(); i < size; i += grid_stride()) {
    int n, oy, ox, c;
    split(i, n, oy, ox, c);
    float sum = 0;
    for (int ky = 0; ky < g.kernel_h; ++ky) {
      const int iy = oy * g.stride_h - g.pad_top + ky;
      if (iy < 0 || iy >= g.in_h) continue;
      for (int kx = 0; kx < g.kernel_w; ++kx) {
        const int ix = ox * g.stride_w - g.pad_left + kx;
        if (ix >= 0 && ix < g.in_w) sum += to_float(x[((std::int64_t(n) * g.in_h + iy) * g.in_w + ix) * g.in_c + c]);
      }
    }
    y[i] = from_float<T>(sum / float(average_extent(oy, g.stride_h, g.pad_top, g.kernel_h, g.in_h, count_padding) *
                                     average_extent(ox, g.stride_w, g.pad_left, g.kernel_w, g.in_w, count_padding)));
  }
}
template <class T>
__global__ void average_pool_backward_kernel(conv_geometry g, pixel_splitter split, bool count_padding, const T* dy, T* dx, std::int64_t size) {
  for (std::int64_t i = grid_start(); i < size; i += grid_stride()) {
    int n, iy, ix, c;
    split(i, n, iy, ix, c);
    float sum = 0;
    for (int ky = 0; ky < g.kernel_h; ++ky) {
      const int sy = iy + g.pad_top - ky, oy = sy / g.stride_h;
      if (sy < 0 || sy % g.stride_h != 0 || oy >= g.out_h) continue;
      for (int kx = 0; kx < g.kernel_w; ++kx) {
        const int sx = ix + g.pad_left - kx, ox = sx / g.stride_w;
        if (sx < 0 || sx % g.stride_w != 0 || ox >= g.out_w) continue;
        sum += to_float(dy[((std::int64_t(n) * g.out_h + oy) * g.out_w + ox) * g.in_c + c]) /
               float(average_extent(oy, g.stride_h, g.pad_top, g.kernel_h, g.in_h, count_padding) *
                     average_extent(ox, g.stride_w, g.pad_left, g.kernel_w, g.in_w, count_padding));
      }
    }
    dx[i] = from_float<T>(sum);
  }
}
template <class T>
inline void average_pool(stream_t s, const conv_geometry& g, bool count_padding, const T* x, T* y) {
  const std::int64_t size = checked_packs("average_pool", std::int64_t(g.n) * g.out_h * g.out_w * g.in_c);
  kernel_launch({"average_pool", grid_for(size, 256), 256, 0, s}, average_pool_kernel<T>, g, pixel_splitter(g.out_h, g.out_w, g.in_c, 1),
                count_padding, x, y, size);
}
template <class T>
inline void average_pool_backward(stream_t s, const conv_geometry& g, bool count_padding, const T* dy, T* dx) {
  const std::int64_t size = checked_packs("average_pool_backward", std::int64_t(g.n) * g.in_h * g.in_w * g.in_c);
  kernel_launch({"average_pool_backward", grid_for(size, 256), 256, 0, s}, average_pool_backward_kernel<T>, g,
                pixel_splitter(g.in_h, g.in_w, g.in_c, 1), count_padding, dy, dx, size);
}

// --- adaptive average pooling to several grids at once
/// Up to six bin counts (PSPNet: 1, 2, 3, 6). Outputs lie one after the other: [level][n][bin][bin][c].
struct pyramid {
  static constexpr int most_levels = 6, most_cuts = 64;
  int n, h, w, c, levels;
  int bins[most_levels];
  int rows, columns;                              // cells of the common refinement
  int row_cut[most_cuts], column_cut[most_cuts];  // their borders
};
RSSEG_HD constexpr int bin_begin(int i, int extent, int bins) { return int(std::int64_t(i) * extent / bins); }
RSSEG_HD constexpr int bin_end(int i, int extent, int bins) { return int((std::int64_t(i + 1) * extent + bins - 1) / bins); }
inline pyramid make_pyramid(int n, int h, int w, int c, const int* bins, int levels) {
  if (levels < 1 || levels > pyramid::most_levels) throw usage_error("cuda: adaptive pooling: 1 to 6 levels");
  pyramid p{};
  p.n = n, p.h = h, p.w = w, p.c = c, p.levels = levels;
  auto cuts = [&](int extent, int* out) {
    int count = 0;
    for (int y = 0; y <= extent; ++y) {
      bool cut = y == 0 || y == extent;
      for (int l = 0; l < levels && !cut; ++l)
        for (int i = 0; i < bins[l] && !cut; ++i) cut = y == bin_begin(i, extent, bins[l]) || y == bin_end(i, extent, bins[l]);
      if (!cut) continue;
      if (count == pyramid::most_cuts)
        throw usage_error("cuda: adaptive pooling: the bins cut the map into more than 63 parts; split the levels over two calls");
      out[count++] = y;
    }
    return count - 1;
  };
  for (int l = 0; l < levels; ++l) p.bins[l] = bins[l];
  p.rows = cuts(h, p.row_cut), p.columns = cuts(w, p.column_cut);
  return p;
}
inline std::size_t pyramid_workspace(const pyramid& p) { return std::size_t(p.n) * std::size_t(p.rows) * std::size_t(p.columns) * std::size_t(p.c); }

/// One block per cell and 32 channels; 8 threads share a channel's pixels.
template <class T>
__global__ void pyramid_cells_kernel(pyramid p, const T* x, float* cells) {
  RSSEG_DYN_SHARED(float, s);
  const int cell = int(blockIdx.x), r = cell / p.columns, q = cell % p.columns, c = int(blockIdx.y) * 32 + int(threadIdx.x), n = int(blockIdx.z);
  const int y0 = p.row_cut[r], x0 = p.column_cut[q], width = p.column_cut[q + 1] - x0, count = (p.row_cut[r + 1] - y0) * width;
  float sum = 0;
  if (c < p.c)
    for (int i = int(threadIdx.y); i < count; i += int(blockDim.y))
      sum += to_float(x[((std::int64_t(n) * p.h + y0 + i / width) * p.w + x0 + i % width) * p.c + c]);
  s[threadIdx.y * 32 + threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || c >= p.c) return;
  for (int k = 1; k < int(blockDim.y); ++k) sum += s[k * 32 + int(threadIdx.x)];
  cells[(std::int64_t(n) * p.rows * p.columns + cell) * p.c + c] = sum;
}
template <class T>
__global__ void pyramid_bins_kernel(pyramid p, int bins, const float* cells, T* y) {
  const std::int64_t size = std::int64_t(p.n) * bins * bins * p.c;
  for (std::int64_t i = grid_start(); i < size; i += grid_stride()) {
    const int c = int(i % p.c), bx = int(i / p.c % bins), by = int(i / p.c / bins % bins), n = int(i / p.c / bins / bins);
    const int y0 = bin_begin(by, p.h, bins), y1 = bin_end(by, p.h, bins), x0 = bin_begin(bx, p.w, bins), x1 = bin_end(bx, p.w, bins);
    float sum = 0;
    for (int r = 0; r < p.rows; ++r) {
      if (p.row_cut[r] < y0 || p.row_cut[r] >= y1) continue;
      for (int q = 0; q < p.columns; ++q)
        if (p.column_cut[q] >= x0 && p.column_cut[q] < x1) sum += cells[((std::int64_t(n) * p.rows + r) * p.columns + q) * p.c + c];
    }
    y[i] = from_float<T>(sum / float((y1 - y0) * (x1 - x0)));
  }
}
/// ys[l]: output of level l, (n, bins, bins, c). workspace: pyramid_workspace floats.
template <class T>
inline void pyramid_pool(stream_t s, const pyramid& p, const T* x, T* const* ys, float* workspace) {
  kernel_launch({"pyramid_pool cells", dim3(unsigned(p.rows * p.columns), unsigned(ceil_div(p.c, 32)), unsigned(p.n)), dim3(32, 8), 1024, s},
                pyramid_cells_kernel<T>, p, x, workspace);
  for (int l = 0; l < p.levels; ++l)
    kernel_launch({"pyramid_pool bins", grid_for(std::int64_t(p.n) * p.bins[l] * p.bins[l] * p.c, 128), 128, 0, s}, pyramid_bins_kernel<T>, p,
                  p.bins[l], workspace, ys[l]);
}

template <class T>
struct pyramid_gradients {
  const T* dy[pyramid::most_levels];
};
/// All pixels of a cell have the same gradient: the sum over levels and bins that hold it.
template <class T>
__global__ void pyramid_backward_kernel(pyramid p, pyramid_gradients<T> g, T* dx) {
  const int cell = int(blockIdx.x), r = cell / p.columns, q = cell % p.columns, c = int(blockIdx.y) * 32 + int(threadIdx.x), n = int(blockIdx.z);
  if (c >= p.c) return;
  const int y0 = p.row_cut[r], x0 = p.column_cut[q], width = p.column_cut[q + 1] - x0, count = (p.row_cut[r + 1] - y0) * width;
  float sum = 0;
  RSSEG_UNROLL
  for (int l = 0; l < pyramid::most_levels; ++l) {  // unrolled, so that the lists stay in constant memory
    if (l >= p.levels) break;
    const int b = p.bins[l];
    for (int by = 0; by < b; ++by) {
      if (y0 < bin_begin(by, p.h, b) || y0 >= bin_end(by, p.h, b)) continue;
      for (int bx = 0; bx < b; ++bx) {
        if (x0 < bin_begin(bx, p.w, b) || x0 >= bin_end(bx, p.w, b)) continue;
        const int area = (bin_end(by, p.h, b) - bin_begin(by, p.h, b)) * (bin_end(bx, p.w, b) - bin_begin(bx, p.w, b));
        sum += to_float(g.dy[l][((std::int64_t(n) * b + by) * b + bx) * p.c + c]) / float(area);
      }
    }
  }
  const T value = from_float<T>(sum);
  for (int i = int(threadIdx.y); i < count; i += int(blockDim.y))
    dx[((std::int64_t(n) * p.h + y0 + i / width) * p.w + x0 + i % width) * p.c + c] = value;
}
template <class T>
inline void pyramid_pool_backward(stream_t s, const pyramid& p, const T* const* dys, T* dx) {
  pyramid_gradients<T> g{};
  for (int l = 0; l < p.levels; ++l) g.dy[l] = dys[l];
  kernel_launch({"pyramid_pool_backward", dim3(unsigned(p.rows * p.columns), unsigned(ceil_div(p.c, 32)), unsigned(p.n)), dim3(32, 8), 0, s},
                pyramid_backward_kernel<T>, p, g, dx);
}

}  // namespace RSSEG_BACKEND_NS
}  // namespace rsseg::cuda
