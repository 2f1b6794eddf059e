// SPDX-License-Identifier: MIT
// Convolution in fp32 on CUDA cores: forward, data gradient, weight gradient. The readable version: a register-blocked matrix product (Volkov and
// Demmel, SC 2008) whose operands are gathered while they are loaded. Tile 128 x 128 x 8, 8 x 8 results per thread, 128-bit loads, the next
// slice fetched into registers while the present one is multiplied, one barrier per slice.
// Floor: 2 * multiply-adds / 67 TFLOP/s on an H100 (3x3 64->64 at 512 x 512: 288 us); 60 to 75 % of that is expected, not measured.
#pragma once
#include "conv_problem.cuh"

namespace rsseg::cuda {
inline namespace RSSEG_BACKEND_NS {

/// Tile of rows x columns, slices of depth; every thread makes per_row x per_column results, in groups of four.
template <int Rows, int Columns, int Depth, int PerRow, int PerColumn>
struct fp32_tile {
  static constexpr int rows = Rows, columns = Columns, depth = Depth, per_row = PerRow, per_column = PerColumn;
  static constexpr int threads = Rows / PerRow * (Columns / PerColumn);
  static constexpr int row_stride = Rows + 4, column_stride = Columns + 4;  // four floats of padding keep the transposing stores apart
  static constexpr int stage = Depth * (row_stride + column_stride);
  static constexpr std::size_t shared = 2 * stage * sizeof(float);
  static constexpr int row_chunks = Rows * Depth / 4 / threads > 0 ? Rows* Depth / 4 / threads : 1;
  static constexpr int column_chunks = Columns * Depth / 4 / threads > 0 ? Columns* Depth / 4 / threads : 1;
};
using fp32_large = fp32_tile<128, 128, 8, 8, 8>;
using fp32_medium = fp32_tile<64, 64, 16, 4, 4>;
using fp32_narrow = fp32_tile<128, 32, 8, 4, 4>;  // few output channels: class scores

/// Four neighbouring values, of which `valid` exist; the rest reads as zero.
template <bool Wide>
__device__ __forceinline__ pack<float, 4> load_four(const float* p, int valid) {
  pack<float, 4> v{};
  if (Wide) {
    if (valid > 0) v = load_pack<4>(p);
  } else {
    RSSEG_UNROLL
    for (int i = 0; i < 4; ++i)
      if (i < valid) v.v[i] = p[i];
  }
  return v;
}
/// Stores four values that follow each other in depth into a tile stored [depth][index].
__device__ __forceinline__ void store_transposed(float* tile, int stride, int depth, int index, const pack<float, 4>& v) {
  RSSEG_UNROLL
  for (int i = 0; i < 4; ++i) tile[(depth + i) * stride + index] = v.v[i];
}

/// Multiplies one slice: each thread's rows are groups of four, spread over the tile so that a warp's reads do not collide.
template <class Tile>
__device__ __forceinline__ void multiply_slice(const float* a, const float* b, int ty, int tx, float (&acc)[Tile::per_row][Tile::per_column]) {
  RSSEG_UNROLL
  for (int k = 0; k < Tile::depth; ++k) {
    float ra[Tile::per_row], rb[Tile::per_column];
    RSSEG_UNROLL
    for (int i = 0; i < Tile::per_row; i += 4) {
      const auto v = load_pack<4>(a + k * Tile::row_stride + i / 4 * (Tile::rows / (Tile::per_row / 4)) + ty * 4);
      RSSEG_UNROLL
      for (int j = 0; j < 4; ++j) ra[i + j] = v.v[j];
    }
    RSSEG_UNROLL
    for (int i = 0; i < Tile::per_column; i += 4) {
      const auto v = load_pack<4>(b + k * Tile::column_stride + i / 4 * (Tile::columns / (Tile::per_column / 4)) + tx * 4);
      RSSEG_UNROLL
      for (int j = 0; j < 4; ++j) rb[i + j] = v.v[j];
    }
    RSSEG_UNROLL
    for (int i = 0; i < Tile::per_row; ++i) {
      RSSEG_UNROLL
      for (int j = 0; j < Tile::per_column; ++j) acc[i][j] += ra[i] * rb[j];
    }
  }
}
template <class Tile>
__device__ __forceinline__ int row_of(int ty, int i) {
  return i / 4 * (Tile::rows / (Tile::per_row / 4)) + ty * 4 + i % 4;
}
template <class Tile>
__device__ __forceinline__ int column_of(int tx, int j) {
  return j / 4 * (Tile::columns / (Tile::per_column / 4)) + tx * 4 + j % 4;
}

/// The products of a tile of the forward or data pass, before the epilogue.
template <conv_pass Pass, class Tile, bool Wide>
__device__ __forceinline__ void conv_fp32_products(const conv_problem& p, const float* source, const float* weights, float* shared,
                                                   float (&acc)[Tile::per_row][Tile::per_column]) {
  const int t = int(threadIdx.x), tx = t % (Tile::columns / Tile::per_column), ty = t / (Tile::columns / Tile::per_column);
  const int group = int(blockIdx.z), first_column = int(blockIdx.y) * Tile::columns;

  // which rows and depths this thread fetches: chunks of four channels of one pixel
  constexpr int per_pixel = Tile::depth / 4;
  int n[Tile::row_chunks], y[Tile::row_chunks], x[Tile::row_chunks];
  bool exists[Tile::row_chunks];
  RSSEG_UNROLL
  for (int i = 0; i < Tile::row_chunks; ++i) exists[i] = p.pixel(int(blockIdx.x), (t + i * Tile::threads) / per_pixel, Tile::rows, n[i], y[i], x[i]);
  int pn = 0, py = 0, px = 0;
  const bool has_pixel = t < Tile::rows && p.pixel(int(blockIdx.x), t, Tile::rows, pn, py, px);
  depth_walk walk(p, Tile::depth, live_taps<Pass>(p, has_pixel, py, px));

  pack<float, 4> fetched_rows[Tile::row_chunks], fetched_columns[Tile::column_chunks];
  const auto fetch = [&] {
    RSSEG_UNROLL
    for (int i = 0; i < Tile::row_chunks; ++i) {
      const int c = walk.channel + (t + i * Tile::threads) % per_pixel * 4;
      int sy = 0, sx = 0;
      const bool meets = exists[i] && p.source<Pass>(y[i], x[i], walk.tap, sy, sx);
      fetched_rows[i] = load_four<Wide>(source + ((std::int64_t(n[i]) * p.source_h + sy) * p.source_w + sx) * p.source_c + group * p.depth + c,
                                        meets ? p.depth - c : 0);
    }
    RSSEG_UNROLL
    for (int i = 0; i < Tile::column_chunks; ++i) {
      const int chunk = t + i * Tile::threads;
      if constexpr (Pass == conv_pass::forward) {  // weights of one output channel: four input channels
        const int j = first_column + chunk / per_pixel, c = walk.channel + chunk % per_pixel * 4;
        fetched_columns[i] = load_four<Wide>(weights + p.weight_offset(group * p.columns + j, walk.tap) + c,
                                             chunk < Tile::columns * per_pixel && j < p.columns ? p.depth - c : 0);
      } else {  // of one output channel: four neighbouring columns
        const int c = walk.channel + chunk / (Tile::columns / 4), j = first_column + chunk % (Tile::columns / 4) * 4;
        fetched_columns[i] = load_four<Wide>(weights + p.weight_offset(group * p.depth + c, walk.tap) + j,
                                             chunk < Tile::columns * per_pixel && c < p.depth ? p.columns - j : 0);
      }
    }
  };
  const auto put = [&](float* stage) {
    float* columns = stage + Tile::depth * Tile::row_stride;
    RSSEG_UNROLL
    for (int i = 0; i < Tile::row_chunks; ++i) {
      const int chunk = t + i * Tile::threads;
      store_transposed(stage, Tile::row_stride, chunk % per_pixel * 4, chunk / per_pixel, fetched_rows[i]);
    }
    RSSEG_UNROLL
    for (int i = 0; i < Tile::column_chunks; ++i) {
      const int chunk = t + i * Tile::threads;
      if (chunk >= Tile::columns * per_pixel) break;
      if constexpr (Pass == conv_pass::forward)
        store_transposed(columns, Tile::column_stride, chunk % per_pixel * 4, chunk / per_pixel, fetched_columns[i]);
      else
        store_pack<4>(columns + chunk / (Tile::columns / 4) * Tile::column_stride + chunk % (Tile::columns / 4) * 4, fetched_columns[i]);
    }
  };

  int buffer = 0;
  if (!walk.done()) fetch(), put(shared);
  while (!walk.done()) {
    __syncthreads();
    walk.next();
    const bool more = !walk.done();
    if (more) fetch();
    const float* stage = shared + buffer * Tile::stage;
    multiply_slice<Tile>(stage, stage + Tile::depth * Tile::row_stride, ty, tx, acc);
    buffer ^= 1;
    if (more) put(shared + buffer * Tile::stage);
  }
}
/// Forward and data pass. Grid: row blocks, column blocks, groups.
template <conv_pass Pass, class Tile, bool Wide>
__global__ void __launch_bounds__(Tile::threads)
    conv_fp32_kernel(conv_problem p, const float* source, const float* weights, float* target, conv_epilogue<float> e) {
  RSSEG_DYN_SHARED(float, shared);
  const int t = int(threadIdx.x), tx = t % (Tile::columns / Tile::per_column), ty = t / (Tile::columns / Tile::per_column);
  const int group = int(blockIdx.z), first_column = int(blockIdx.y) * Tile::columns;
  float acc[Tile::per_row][Tile::per_column] = {};
  conv_fp32_products<Pass, Tile, Wide>(p, source, weights, shared, acc);
  RSSEG_UNROLL
  for (int i = 0; i < Tile::per_row; ++i) {
    int tn, qy, qx;
    if (!p.pixel(int(blockIdx.x), row_of<Tile>(ty, i), Tile::rows, tn, qy, qx)) continue;
    const std::int64_t at = ((std::int64_t(tn) * p.target_h + qy) * p.target_w + qx) * p.target_c + group * p.columns;
    RSSEG_UNROLL
    for (int j = 0; j < Tile::per_column; ++j) {
      const int c = first_column + column_of<Tile>(tx, j);
      if (c >= p.columns) continue;
      const int channel = group * p.columns + c;
      float v = acc[i][j] * (e.scale ? e.scale[channel] : 1.0f) + (e.shift ? e.shift[channel] : 0.0f);
      if (e.residual) v += e.residual[at + c];
      target[at + c] = activate(e.kind, v, e.slope);
    }
  }
}

/// Forward pass of a layer that batch normalisation follows: scale and shift, and the statistics of the results.
template <class Tile, bool Wide>
__global__ void __launch_bounds__(Tile::threads)
    conv_fp32_statistics_kernel(conv_problem p, const float* source, const float* weights, float* target, conv_epilogue<float> e, float* statistics) {
  RSSEG_DYN_SHARED(float, shared);
  const int t = int(threadIdx.x), tx = t % (Tile::columns / Tile::per_column), ty = t / (Tile::columns / Tile::per_column);
  const int group = int(blockIdx.z), first_column = int(blockIdx.y) * Tile::columns, block = int(blockIdx.x);
  float acc[Tile::per_row][Tile::per_column] = {};
  conv_fp32_products<conv_pass::forward, Tile, Wide>(p, source, weights, shared, acc);
  const int count = rows_in_tile(p, block, Tile::rows);
  float* out = target + (std::int64_t(block) * Tile::rows) * p.target_c + group * p.columns;
  RSSEG_UNROLL
  for (int i = 0; i < Tile::per_row; ++i) {
    RSSEG_UNROLL
    for (int j = 0; j < Tile::per_column; ++j) {
      const int row = row_of<Tile>(ty, i), c = first_column + column_of<Tile>(tx, j), channel = group * p.columns + c;
      if (row >= count || c >= p.columns) continue;
      acc[i][j] = acc[i][j] * (e.scale ? e.scale[channel] : 1.0f) + (e.shift ? e.shift[channel] : 0.0f);
      out[std::int64_t(row) * p.target_c + c] = acc[i][j];
    }
  }
  tile_moments<Tile::rows / Tile::per_row, Tile::columns, Tile::threads, Tile::per_row, Tile::per_column>(
      shared, t, ty, count, [&](int i, int j, float& v) { return v = acc[i][j], row_of<Tile>(ty, i) < count; },
      [&](int j) { return column_of<Tile>(tx, j); }, [] { __syncthreads(); },
      statistics + std::int64_t(block) * 2 * p.target_c + group * p.columns + first_column, p.columns - first_column, p.target_c);
}

/// Weight pass. Grid: output-channel blocks, taps x input-channel blocks, groups x splits.
template <class Tile, bool Wide>
__global__ void __launch_bounds__(Tile::threads)
    conv_fp32_weight_kernel(conv_geometry g, int splits, const float* x, const float* dy, float* partials) {
  RSSEG_DYN_SHARED(float, shared);
  const int t = int(threadIdx.x), tx = t % (Tile::columns / Tile::per_column), ty = t / (Tile::columns / Tile::per_column);
  const int rows = g.out_c / g.groups, columns = g.in_c / g.groups, column_blocks = ceil_div(columns, Tile::columns);
  const int group = int(blockIdx.z) / splits, split = int(blockIdx.z) % splits, tap = int(blockIdx.y) / column_blocks;
  const int first_row = int(blockIdx.x) * Tile::rows, first_column = int(blockIdx.y) % column_blocks * Tile::columns;
  const tap_rectangle r(g, tap);
  const int pixels = r.pixels(g.n), piece = round_up(ceil_div(imax(pixels, 1), splits), Tile::depth);
  const int first = imin(split * piece, pixels), last = imin(first + piece, pixels);
  const divider by_w(imax(r.w, 1)), by_h(imax(r.h, 1));

  pack<float, 4> fetched_rows[Tile::row_chunks], fetched_columns[Tile::column_chunks];
  const auto fetch = [&](int k0) {
    const auto place = [&](int k, int& n, int& oy, int& ox) {
      n = by_h.divide(by_w.divide(k, ox), oy);
      oy += r.y0, ox += r.x0;
    };
    RSSEG_UNROLL
    for (int i = 0; i < Tile::row_chunks; ++i) {
      const int chunk = t + i * Tile::threads, k = k0 + chunk / (Tile::rows / 4), c = first_row + chunk % (Tile::rows / 4) * 4;
      int n = 0, oy = 0, ox = 0;
      if (k < last) place(k, n, oy, ox);
      fetched_rows[i] = load_four<Wide>(dy + ((std::int64_t(n) * g.out_h + oy) * g.out_w + ox) * g.out_c + group * rows + c, k < last ? rows - c : 0);
    }
    RSSEG_UNROLL
    for (int i = 0; i < Tile::column_chunks; ++i) {
      const int chunk = t + i * Tile::threads, k = k0 + chunk / (Tile::columns / 4), c = first_column + chunk % (Tile::columns / 4) * 4;
      const bool in = k < last && chunk < Tile::columns * Tile::depth / 4;
      int n = 0, oy = 0, ox = 0;
      if (in) place(k, n, oy, ox);
      const int sy = in ? oy * g.stride_h + r.dy : 0, sx = in ? ox * g.stride_w + r.dx : 0;
      fetched_columns[i] = load_four<Wide>(x + ((std::int64_t(n) * g.in_h + sy) * g.in_w + sx) * g.in_c + group * columns + c, in ? columns - c : 0);
    }
  };
  const auto put = [&](float* stage) {
    float* tile = stage + Tile::depth * Tile::row_stride;
    RSSEG_UNROLL
    for (int i = 0; i < Tile::row_chunks; ++i) {
      const int chunk = t + i * Tile::threads;
      store_pack<4>(stage + chunk / (Tile::rows / 4) * Tile::row_stride + chunk % (Tile::rows / 4) * 4, fetched_rows[i]);
    }
    RSSEG_UNROLL
    for (int i = 0; i < Tile::column_chunks; ++i) {
      const int chunk = t + i * Tile::threads;
      if (chunk >= Tile::columns * Tile::depth / 4) break;
      store_pack<4>(tile + chunk / (Tile::columns / 4) * Tile::column_stride + chunk % (Tile::columns / 4) * 4, fetched_columns[i]);
    }
  };

  float acc[Tile::per_row][Tile::per_column] = {};
  int buffer = 0;
  if (first < last) fetch(first), put(shared);
  for (int k = first; k < last; k += Tile::depth) {
    __syncthreads();
    const bool more = k + Tile::depth < last;
    if (more) fetch(k + Tile::depth);
    const float* stage = shared + buffer * Tile::stage;
    multiply_slice<Tile>(stage, stage + Tile::depth * Tile::row_stride, ty, tx, acc);
    buffer ^= 1;
    if (more) put(shared + buffer * Tile::stage);
  }

  const int taps = g.kernel_h * g.kernel_w;
  float* out = partials + std::int64_t(split) * g.out_c * taps * columns;
  RSSEG_UNROLL
  for (int i = 0; i < Tile::per_row; ++i) {
    RSSEG_UNROLL
    for (int j = 0; j < Tile::per_column; ++j) {
      const int k = first_row + row_of<Tile>(ty, i), c = first_column + column_of<Tile>(tx, j);
      if (k < rows && c < columns) out[(std::int64_t(group * rows + k) * taps + tap) * columns + c] = acc[i][j];
    }
  }
}

/// True where 128-bit loads never straddle a group's channels.
inline bool conv_fp32_wide(const conv_geometry& g, conv_pass pass) {
  return g.in_c_per_group() % 4 == 0 && (pass == conv_pass::forward || g.out_c_per_group() % 4 == 0);
}
template <conv_pass Pass, class Tile>
inline void conv_fp32_run(stream_t s, const conv_geometry& g, const float* source, const float* weights, float* target,
                          const conv_epilogue<float>& e) {
  const conv_problem p(g, Pass, Tile::rows);
  auto kernel = conv_fp32_kernel<Pass, Tile, true>;
  if constexpr (Tile::per_column == 4)  // the large tile is kept to aligned channels: half as much code
    if (!conv_fp32_wide(g, Pass)) kernel = conv_fp32_kernel<Pass, Tile, false>;
  kernel_launch({Pass == conv_pass::forward ? "conv_fp32 forward" : "conv_fp32 data gradient",
                 dim3(unsigned(p.row_blocks()), unsigned(ceil_div(p.columns, Tile::columns)), unsigned(g.groups)), Tile::threads, Tile::shared, s},
                kernel, p, source, weights, target, e);
}
/// The tile: narrow for few columns, large where that still makes a block for each of a large device's processors, else medium.
template <conv_pass Pass>
inline void conv_fp32_choose(stream_t s, const conv_geometry& g, const float* source, const float* weights, float* target,
                             const conv_epilogue<float>& e) {
  const conv_problem p(g, Pass, fp32_large::rows);
  if (p.columns <= fp32_narrow::columns) return conv_fp32_run<Pass, fp32_narrow>(s, g, source, weights, target, e);
  if (std::int64_t(p.row_blocks()) * ceil_div(p.columns, fp32_large::columns) * g.groups >= 120 && p.columns > 64 && conv_fp32_wide(g, Pass))
    return conv_fp32_run<Pass, fp32_large>(s, g, source, weights, target, e);
  conv_fp32_run<Pass, fp32_medium>(s, g, source, weights, target, e);
}

template <class Tile>
inline int conv_fp32_statistics_run(stream_t s, const conv_geometry& g, const float* x, const float* w, float* y, const conv_epilogue<float>& e,
                                    float* statistics) {
  const conv_problem p(g, conv_pass::forward, Tile::rows);
  kernel_launch({"conv_fp32 forward with statistics",
                 dim3(unsigned(p.row_blocks()), unsigned(ceil_div(p.columns, Tile::columns)), unsigned(g.groups)), Tile::threads, Tile::shared, s},
                conv_fp32_wide(g, conv_pass::forward) ? conv_fp32_statistics_kernel<Tile, true> : conv_fp32_statistics_kernel<Tile, false>, p, x, w,
                y, e, statistics);
  return Tile::rows;
}
/// y = scale * (x * w) + shift, and the statistics of y for batch_norm_of_tiles; returns the pixels of a tile of statistics.
inline int conv_forward_statistics(stream_t s, const conv_geometry& g, const float* x, const float* w, float* y, const conv_epilogue<float>& e,
                                   float* statistics) {
  check_geometry("conv_forward_statistics", g);
  if (g.out_c_per_group() <= fp32_narrow::columns) return conv_fp32_statistics_run<fp32_narrow>(s, g, x, w, y, e, statistics);
  return conv_fp32_statistics_run<fp32_medium>(s, g, x, w, y, e, statistics);
}

/// y = epilogue(x * w). Any kernel, stride, dilation and groups (depthwise: depthwise.cuh is faster).
inline void conv_forward(stream_t s, const conv_geometry& g, const float* x, const float* w, float* y, const conv_epilogue<float>& e = {}) {
  check_geometry("conv_forward", g);
  conv_fp32_choose<conv_pass::forward>(s, g, x, w, y, e);
}
/// dx from dy; with an epilogue this is also the transposed convolution whose gradient geometry g describes (its input is dy, its output dx).
inline void conv_data_gradient(stream_t s, const conv_geometry& g, const float* dy, const float* w, float* dx, const conv_epilogue<float>& e = {}) {
  check_geometry("conv_data_gradient", g);
  conv_fp32_choose<conv_pass::data>(s, g, dy, w, dx, e);
}

template <class Tile>
inline int conv_fp32_weight_tiles(const conv_geometry& g) {
  return ceil_div(g.out_c_per_group(), Tile::rows) * ceil_div(g.in_c_per_group(), Tile::columns) * g.kernel_h * g.kernel_w * g.groups;
}
inline bool conv_fp32_weight_large(const conv_geometry& g) {
  return g.out_c_per_group() > 64 && g.in_c_per_group() > 64 && conv_fp32_wide(g, conv_pass::weight);
}
inline int conv_weight_splits(const conv_geometry& g) {
  return weight_splits(g, conv_fp32_weight_large(g) ? conv_fp32_weight_tiles<fp32_large>(g) : conv_fp32_weight_tiles<fp32_medium>(g));
}
/// Floats of workspace of conv_weight_gradient.
inline std::size_t conv_weight_workspace(const conv_geometry& g) { return std::size_t(conv_weight_splits(g)) * std::size_t(g.weights()); }

template <class Tile>
inline void conv_fp32_weight_run(stream_t s, const conv_geometry& g, int splits, const float* x, const float* dy, float* partials) {
  auto kernel = conv_fp32_weight_kernel<Tile, true>;
  if constexpr (Tile::per_column == 4)
    if (!conv_fp32_wide(g, conv_pass::weight)) kernel = conv_fp32_weight_kernel<Tile, false>;
  const dim3 grid(unsigned(ceil_div(g.out_c_per_group(), Tile::rows)),
                  unsigned(g.kernel_h * g.kernel_w * ceil_div(g.in_c_per_group(), Tile::columns)), unsigned(g.groups * splits));
  kernel_launch({"conv_fp32 weight gradient", grid, Tile::threads, Tile::shared, s}, kernel, g, splits, x, dy, partials);
}
/// dw (OHWI) from x and dy, or added to dw if accumulate. Deterministic: pieces of the pixels in a workspace, summed in order.
inline void conv_weight_gradient(stream_t s, const conv_geometry& g, const float* x, const float* dy, float* dw, float* workspace,
                                 bool accumulate = false) {
  check_geometry("conv_weight_gradient", g);
  const int splits = conv_weight_splits(g);
  float* partials = splits == 1 && !accumulate ? dw : workspace;
  if (conv_fp32_weight_large(g))
    conv_fp32_weight_run<fp32_large>(s, g, splits, x, dy, partials);
  else
    conv_fp32_weight_run<fp32_medium>(s, g, splits, x, dy, partials);
  if (partials != dw) sum_splits(s, workspace, dw, g.weights(), splits, accumulate);
}

}  // namespace RSSEG_BACKEND_NS
}  // namespace rsseg::cuda
