// SPDX-License-Identifier: MIT
// A convolution as a matrix product (implicit GEMM; Chetlur et al., "cuDNN", 2014), shared by the CUDA-core, tensor-core and Hopper kernels.
//   forward: rows = output pixels, columns = output channels, depth = taps x input channels
//   data   : rows = input pixels,  columns = input channels,  depth = taps x output channels      (a transposed convolution is this pass)
//   weight : rows = output channels, columns = taps x input channels, depth = pixels
// Two ideas save work that only multiplies zeros:
//   * forward, data: a tap that lies in the padding for every pixel of a tile is skipped (rate 18 on 64 x 64: a third of all products). With a
//   stride,
//     the data pass orders input pixels by their remainder modulo the stride, so that each tile meets only the taps that reach it.
//   * weight: a tap's pixels form a rectangle, known in closed form; the depth runs over exactly that.
#pragma once
#include "common.cuh"
#include "rsseg/core/conv_geometry.hpp"

namespace rsseg::cuda {

enum class conv_pass { forward, data, weight };

/// What happens to a result on its way to memory: activate(scale[c] * v + shift[c] + residual). Null: left out.
/// Bias: shift. Folded batch normalisation: scale and shift. The residual may be the output itself (accumulation).
template <class T>
struct conv_epilogue {
  const float* scale = nullptr;
  const float* shift = nullptr;
  const T* residual = nullptr;
  activation kind = activation::none;
  float slope = 0;
};

inline namespace RSSEG_BACKEND_NS {

/// Checks a geometry once, on the host. Throws usage_error.
inline void check_geometry(const char* who, const conv_geometry& g) {
  const bool positive = g.n > 0 && g.in_h > 0 && g.in_w > 0 && g.in_c > 0 && g.out_h > 0 && g.out_w > 0 && g.out_c > 0 && g.kernel_h > 0 &&
                        g.kernel_w > 0 && g.stride_h > 0 && g.stride_w > 0 && g.dilation_h > 0 && g.dilation_w > 0 && g.groups > 0;
  if (!positive || g.in_c % g.groups != 0 || g.out_c % g.groups != 0)
    throw usage_error(std::string("cuda: ") + who + ": impossible convolution: extents must be positive and channels divisible by the groups, got " +
                      std::to_string(g.in_c) + " -> " + std::to_string(g.out_c) + " channels in " + std::to_string(g.groups) + " groups");
  if (g.x_pitch() != g.in_c || g.y_pitch() != g.out_c)
    throw usage_error(std::string("cuda: ") + who + ": dense tensors expected, got columns of wider ones (pitch " + std::to_string(g.x_pitch()) +
                      " for " + std::to_string(g.in_c) + " channels, " + std::to_string(g.y_pitch()) + " for " + std::to_string(g.out_c) + ")");
  if (std::int64_t(g.n) * imax(g.in_h * g.in_w, g.out_h * g.out_w) > 2147483647 / 2)
    throw memory_error(std::string("cuda: ") + who + ": more than 2^30 pixels in one call; use a smaller batch or tile");
}

/// Geometry seen from one pass, with the divisors that decoding indices needs.
struct conv_problem {
  conv_geometry g;
  int source_h, source_w, source_c;  // what rows gather from (forward: x, data: dy)
  int target_h, target_w, target_c;  // what rows are pixels of
  int depth, columns;                // per group: channels summed over, channels produced
  int taps;
  // data pass with strides: classes of target pixels by remainder, each an evenly spaced grid of grid_h x grid_w per image
  int classes_h, classes_w, grid_h, grid_w, blocks_per_class;
  divider by_grid_h, by_grid_w, by_kernel_w;

  conv_problem(const conv_geometry& geometry, conv_pass pass, int tile_rows) : g(geometry) {
    const bool data = pass == conv_pass::data;
    source_h = data ? g.out_h : g.in_h, source_w = data ? g.out_w : g.in_w, source_c = data ? g.out_c : g.in_c;
    target_h = data ? g.in_h : g.out_h, target_w = data ? g.in_w : g.out_w, target_c = data ? g.in_c : g.out_c;
    depth = source_c / g.groups, columns = target_c / g.groups, taps = g.kernel_h * g.kernel_w;
    classes_h = data ? g.stride_h : 1, classes_w = data ? g.stride_w : 1;
    grid_h = ceil_div(target_h, classes_h), grid_w = ceil_div(target_w, classes_w);
    blocks_per_class = ceil_div(g.n * grid_h * grid_w, tile_rows);
    by_grid_h = divider(grid_h), by_grid_w = divider(grid_w), by_kernel_w = divider(g.kernel_w);
  }
  int row_blocks() const { return blocks_per_class * classes_h * classes_w; }

  /// Target pixel of a row of a tile; false beyond the end.
  RSSEG_HD bool pixel(int block, int row, int tile_rows, int& n, int& y, int& x) const {
    const int cls = block / blocks_per_class, i = (block - cls * blocks_per_class) * tile_rows + row;
    int gy, gx;
    n = by_grid_h.divide(by_grid_w.divide(i, gx), gy);
    y = gy * classes_h + cls / classes_w, x = gx * classes_w + cls % classes_w;
    return n < g.n && y < target_h && x < target_w;
  }
  /// Source pixel that target (y, x) meets at a tap; false where there is none.
  template <conv_pass Pass>
  RSSEG_HD bool source(int y, int x, int tap, int& sy, int& sx) const {
    int kx;
    const int ky = by_kernel_w.divide(tap, kx);
    if constexpr (Pass == conv_pass::forward) {
      sy = y * g.stride_h - g.pad_top + ky * g.dilation_h, sx = x * g.stride_w - g.pad_left + kx * g.dilation_w;
      return sy >= 0 && sy < source_h && sx >= 0 && sx < source_w;
    } else {
      const int ty = y + g.pad_top - ky * g.dilation_h, tx = x + g.pad_left - kx * g.dilation_w;
      if (ty < 0 || tx < 0) return false;
      sy = ty / g.stride_h, sx = tx / g.stride_w;
      return sy * g.stride_h == ty && sx * g.stride_w == tx && sy < source_h && sx < source_w;
    }
  }
  /// Offset of the weights of (output channel, tap, input channel 0 of the group).
  RSSEG_HD std::int64_t weight_offset(int out_channel, int tap) const { return (std::int64_t(out_channel) * taps + tap) * (g.in_c / g.groups); }
};

/// The taps that at least one of the tile's pixels meets, as a bit mask. Every thread brings one pixel (or none); up to 64 taps.
template <conv_pass Pass>
__device__ __forceinline__ std::uint64_t live_taps(const conv_problem& p, bool has_pixel, int y, int x) {
  if (p.taps > 64) return ~std::uint64_t(0);
  std::uint64_t mask = 0;
  for (int tap = 0; tap < p.taps; ++tap) {
    int sy, sx;
    if (__syncthreads_or(has_pixel && p.source<Pass>(y, x, tap, sy, sx))) mask |= std::uint64_t(1) << tap;
  }
  return mask;
}

/// Walks over (tap, first channel) in steps of `width` channels, leaving out dead taps.
struct depth_walk {
  int taps, depth, width;
  std::uint64_t live;
  int tap = 0, channel = 0;
  __device__ depth_walk(const conv_problem& p, int step, std::uint64_t mask) : taps(p.taps), depth(p.depth), width(step), live(mask) { skip(); }
  __device__ bool done() const { return tap >= taps; }
  __device__ void next() {
    channel += width;
    if (channel >= depth) channel = 0, ++tap, skip();
  }

 private:
  __device__ void skip() {
    while (tap < taps && taps <= 64 && !(live >> tap & 1u)) ++tap;
  }
};

/// Mean, and sum of squared deviations from it, of each column of a tile of results: what batch normalisation needs, taken while the results are
/// still in registers. Two passes within the tile, so that a large mean costs no precision. Thread: Rows x Columns results; value(i, j, v) is false
/// where there is none; slot tells apart the threads that share a column. shared: (Slots + 1) * Width floats. out: means of `left` columns,
/// `channels` further on the squared deviations.
template <int Slots, int Width, int Threads, int Rows, int Columns, class Value, class Place, class Barrier>
__device__ __forceinline__ void tile_moments(float* shared, int t, int slot, int count, Value value, Place place, Barrier barrier, float* out,
                                             int left, int channels) {
  float* means = shared + Slots * Width;
  for (int pass = 0; pass < 2; ++pass) {
    barrier();  // before: others may still read shared memory; later: means are there
    RSSEG_UNROLL
    for (int j = 0; j < Columns; ++j) {
      const float center = pass == 0 ? 0.0f : means[place(j)];
      float sum = 0;
      RSSEG_UNROLL
      for (int i = 0; i < Rows; ++i) {
        float v;
        if (value(i, j, v)) sum += pass == 0 ? v : (v - center) * (v - center);
      }
      shared[slot * Width + place(j)] = sum;
    }
    barrier();
    for (int c = t; c < Width; c += Threads) {
      float sum = 0;
      for (int k = 0; k < Slots; ++k) sum += shared[k * Width + c];
      if (pass == 0) means[c] = sum / float(count);
      if (c < left) out[pass * channels + c] = pass == 0 ? means[c] : sum;
    }
  }
}
/// Rows of tile `block` of a forward pass.
RSSEG_HD inline int rows_in_tile(const conv_problem& p, int block, int rows) { return imin(rows, p.g.n * p.target_h * p.target_w - block * rows); }
/// Floats that the statistics of a convolution's result take: [tile][mean, squared deviations][channel], tiles of at least 64 pixels.
inline std::size_t conv_statistics_size(const conv_geometry& g) {
  return std::size_t(ceil_div(std::int64_t(g.n) * g.out_h * g.out_w, std::int64_t(64))) * 2 * std::size_t(g.out_c);
}

/// The output pixels that meet a tap: all (n, oy, ox) with oy in [y0, y0 + h), ox in [x0, x0 + w). The depth of the weight pass.
struct tap_rectangle {
  int y0, x0, h, w, dy, dx;  // source pixel = (oy * stride + dy, ox * stride + dx)
  RSSEG_HD static void axis(int out, int in, int stride, int offset, int& first, int& count) {
    first = offset >= 0 ? 0 : (-offset + stride - 1) / stride;
    const int last = in - 1 - offset < 0 ? -1 : imin(out - 1, (in - 1 - offset) / stride);
    count = last >= first ? last - first + 1 : 0;
  }
  RSSEG_HD tap_rectangle(const conv_geometry& g, int tap) {
    dy = tap / g.kernel_w * g.dilation_h - g.pad_top, dx = tap % g.kernel_w * g.dilation_w - g.pad_left;
    axis(g.out_h, g.in_h, g.stride_h, dy, y0, h);
    axis(g.out_w, g.in_w, g.stride_w, dx, x0, w);
  }
  RSSEG_HD int pixels(int n) const { return n * h * w; }
};

/// Pieces into which the weight pass cuts its pixels: enough blocks for a large device, at least 512 pixels each. A function of the sizes alone.
inline int weight_splits(const conv_geometry& g, int tiles) {
  const std::int64_t pixels = std::int64_t(g.n) * g.out_h * g.out_w;
  const std::int64_t wanted = ceil_div(std::int64_t(264), std::int64_t(tiles)), most = ceil_div(pixels, std::int64_t(512));
  const std::int64_t s = wanted < most ? wanted : most;
  return int(s < 1 ? 1 : s > 256 ? 256 : s);
}

/// out = (accumulate ? out : 0) + partial[0] + partial[1] + ..., always in this order: the second half of a deterministic split.
RSSEG_KERNEL void sum_splits_kernel(const float* partials, float* out, std::int64_t size, int splits, bool accumulate) {
  for (std::int64_t i = grid_start(); i < size; i += grid_stride()) {
    float sum = accumulate ? out[i] : 0.0f;
    for (int s = 0; s < splits; ++s) sum += partials[s * size + i];
    out[i] = sum;
  }
}
inline void sum_splits(stream_t s, const float* partials, float* out, std::int64_t size, int splits, bool accumulate) {
  kernel_launch({"sum_splits", grid_for(size, 256), 256, 0, s}, sum_splits_kernel, partials, out, size, splits, accumulate);
}

}  // namespace RSSEG_BACKEND_NS
}  // namespace rsseg::cuda
