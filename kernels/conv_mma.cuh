// SPDX-License-Identifier: MIT
// Convolution on tensor cores of sm_80 and later (mma.sync): bf16, fp16 and tf32 operands, fp32 accumulation; forward, data gradient, weight
// gradient. Implicit GEMM with slices of 64 bytes of channels, a ring of three slices filled by cp.async, one barrier per slice (the structure of
// CUTLASS' multistage kernels), ldmatrix from rows padded by 16 bytes so that no two lanes share a bank. Floors (H100): 3x3 64->64 at 512 x 512: 24
// us bf16, 48 us tf32; ASPP 3x3 2048->256 at 64 x 64: 48 / 97 us per rate, less what tap skipping saves. mma.sync alone reaches perhaps two thirds of
// Hopper's rate: see conv_hopper.cuh.
#pragma once
#include "conv_problem.cuh"
#include "tensor_core.cuh"

namespace rsseg::cuda {
inline namespace RSSEG_BACKEND_NS {

/// How operand type T lies in memory, and the depth of one matrix instruction.
template <class T>
struct mma_operand {
  using stored = T;
  static constexpr int depth = 16;
};
template <>
struct mma_operand<tf32> {
  using stored = float;
  static constexpr int depth = 8;
};

/// A block's tile and its warps' tiles. Slices hold 64 bytes of depth.
template <class T, int Rows, int Columns, int WarpRows, int WarpColumns>
struct mma_tile {
  using operand = T;
  using stored = typename mma_operand<T>::stored;
  static constexpr int rows = Rows, columns = Columns, warp_rows = WarpRows, warp_columns = WarpColumns, stages = 3;
  static constexpr int chunk = 16 / int(sizeof(stored));  // values of one 16-byte copy
  static constexpr int depth = 4 * chunk;                 // of one slice
  static constexpr int warps_down = Rows / WarpRows, warps = warps_down * (Columns / WarpColumns), threads = 32 * warps;
  static constexpr int m = WarpRows / 16, n = WarpColumns / 8;  // instructions per warp and step
};

/// One operand's slice in shared memory, `Extent` rows (or columns) of the product by Tile::depth. DepthInner: consecutive depth lies together,
/// [extent][depth]; else consecutive rows do, [depth][extent], and fragments are transposed while they are loaded.
template <class Tile, int Extent, bool DepthInner>
struct mma_slice {
  using stored = typename Tile::stored;
  static constexpr bool half = sizeof(stored) == 2;
  static constexpr int stride = (DepthInner ? Tile::depth : Extent) + (half ? 8 : DepthInner ? 4 : 8);
  static constexpr int size = stride * (DepthInner ? Extent : Tile::depth);
  static constexpr int chunks = Extent * Tile::depth / Tile::chunk;
  static constexpr int per_thread = (chunks + Tile::threads - 1) / Tile::threads;
  /// Which values chunk i holds: index along the extent and along the depth, of its first.
  __device__ static void place(int i, int& extent, int& depth) {
    if constexpr (DepthInner)
      extent = i / (Tile::depth / Tile::chunk), depth = i % (Tile::depth / Tile::chunk) * Tile::chunk;
    else
      depth = i / (Extent / Tile::chunk), extent = i % (Extent / Tile::chunk) * Tile::chunk;
  }
  __device__ static int offset(int extent, int depth) { return DepthInner ? extent * stride + depth : depth * stride + extent; }

  /// Fragment of the left operand: 16 rows from `row`, one instruction's depth from k.
  __device__ static void left(unsigned (&a)[4], const stored* s, int row, int k, int lane) {
    if constexpr (half && DepthInner) {
      ldmatrix_x4(a, s + (row + (lane & 15)) * stride + k + (lane >> 4) * 8);
    } else if constexpr (half) {
      ldmatrix_x4_transposed(a, s + (k + (lane >> 4) * 8 + (lane & 7)) * stride + row + (lane >> 3 & 1) * 8);
    } else {
      const int g = lane >> 2, q = lane & 3;
      a[0] = round_tf32(s[offset(row + g, k + q)]), a[1] = round_tf32(s[offset(row + g + 8, k + q)]);
      a[2] = round_tf32(s[offset(row + g, k + q + 4)]), a[3] = round_tf32(s[offset(row + g + 8, k + q + 4)]);
    }
  }
  /// Fragments of the right operand for 16 columns from `column`: b[0], b[1] of the first eight, b[2], b[3] of the others.
  __device__ static void right(unsigned (&b)[4], const stored* s, int column, int k, int lane) {
    if constexpr (half && DepthInner) {
      ldmatrix_x4(b, s + (column + (lane & 7) + (lane >> 4) * 8) * stride + k + (lane >> 3 & 1) * 8);
    } else if constexpr (half) {
      ldmatrix_x4_transposed(b, s + (k + (lane & 15)) * stride + column + (lane >> 4) * 8);
    } else {
      const int g = lane >> 2, q = lane & 3;
      b[0] = round_tf32(s[offset(column + g, k + q)]), b[1] = round_tf32(s[offset(column + g, k + q + 4)]);
      b[2] = round_tf32(s[offset(column + 8 + g, k + q)]), b[3] = round_tf32(s[offset(column + 8 + g, k + q + 4)]);
    }
  }
};

/// Copies 16 bytes of which `valid` values exist. Aligned: asynchronously, valid is 0 or all. Else value by value.
template <bool Aligned, class Stored>
__device__ __forceinline__ void stage_chunk(Stored* to, const Stored* from, int valid) {
  constexpr int chunk = 16 / int(sizeof(Stored));
  if constexpr (Aligned) {
    cp_async16(to, from, valid > 0);
  } else {
    pack<Stored, chunk> v{};
    RSSEG_UNROLL
    for (int i = 0; i < chunk; ++i)
      if (i < valid) v.v[i] = from[i];
    store_pack<chunk>(to, v);
  }
}

/// Multiplies one slice into a warp's accumulators.
template <class Tile, class Left, class Right>
__device__ __forceinline__ void mma_slice_product(const typename Tile::stored* a, const typename Tile::stored* b, int row, int column, int lane,
                                                  float (&acc)[Tile::m][Tile::n][4]) {
  RSSEG_UNROLL
  for (int k = 0; k < Tile::depth; k += mma_operand<typename Tile::operand>::depth) {
    unsigned left[Tile::m][4], right[Tile::n / 2][4];
    RSSEG_UNROLL
    for (int i = 0; i < Tile::m; ++i) Left::left(left[i], a, row + i * 16, k, lane);
    RSSEG_UNROLL
    for (int j = 0; j < Tile::n / 2; ++j) Right::right(right[j], b, column + j * 16, k, lane);
    RSSEG_UNROLL
    for (int i = 0; i < Tile::m; ++i) {
      RSSEG_UNROLL
      for (int j = 0; j < Tile::n; ++j) {
        const unsigned two[2] = {right[j / 2][j % 2 * 2], right[j / 2][j % 2 * 2 + 1]};
        mma(acc[i][j], left[i], two, typename Tile::operand{});
      }
    }
  }
}

/// The products of a tile of the forward or data pass, before the epilogue.
template <conv_pass Pass, class Tile, bool Aligned>
__device__ __forceinline__ void conv_mma_products(const conv_problem& p, const typename Tile::stored* source, const typename Tile::stored* weights,
                                                  typename Tile::stored* shared, float (&acc)[Tile::m][Tile::n][4]) {
  using S = typename Tile::stored;
  using Left = mma_slice<Tile, Tile::rows, true>;
  using Right = mma_slice<Tile, Tile::columns, Pass == conv_pass::forward>;
  constexpr int stage = Left::size + Right::size;
  const int t = int(threadIdx.x), lane = t & 31, warp = t >> 5;
  const int row = warp % Tile::warps_down * Tile::warp_rows, column = warp / Tile::warps_down * Tile::warp_columns;
  const int group = int(blockIdx.z), first_column = int(blockIdx.y) * Tile::columns;

  int n[Left::per_thread], y[Left::per_thread], x[Left::per_thread];
  bool exists[Left::per_thread];
  RSSEG_UNROLL
  for (int i = 0; i < Left::per_thread; ++i) {
    int r, d;
    Left::place(t + i * Tile::threads, r, d);
    exists[i] = p.pixel(int(blockIdx.x), r, Tile::rows, n[i], y[i], x[i]);
  }
  int pn = 0, py = 0, px = 0;
  const bool has_pixel = t < Tile::rows && p.pixel(int(blockIdx.x), t, Tile::rows, pn, py, px);
  static_assert(Tile::threads >= Tile::rows);
  depth_walk walk(p, Tile::depth, live_taps<Pass>(p, has_pixel, py, px));

  const auto load = [&](S* to) {
    RSSEG_UNROLL
    for (int i = 0; i < Left::per_thread; ++i) {
      int r, d, sy = 0, sx = 0;
      Left::place(t + i * Tile::threads, r, d);
      const int c = walk.channel + d;
      const int valid = exists[i] && p.source<Pass>(y[i], x[i], walk.tap, sy, sx) ? p.depth - c : 0;
      stage_chunk<Aligned>(to + Left::offset(r, d),
                           source + ((std::int64_t(n[i]) * p.source_h + sy) * p.source_w + sx) * p.source_c + group * p.depth + c, valid);
    }
    RSSEG_UNROLL
    for (int i = 0; i < Right::per_thread; ++i) {
      if (Right::chunks % Tile::threads != 0 && t + i * Tile::threads >= Right::chunks) break;
      int j, d;
      Right::place(t + i * Tile::threads, j, d);
      const int c = walk.channel + d, k = first_column + j;
      if constexpr (Pass == conv_pass::forward)
        stage_chunk<Aligned>(to + Left::size + Right::offset(j, d), weights + p.weight_offset(group * p.columns + k, walk.tap) + c,
                             k < p.columns ? p.depth - c : 0);
      else
        stage_chunk<Aligned>(to + Left::size + Right::offset(j, d), weights + p.weight_offset(group * p.depth + c, walk.tap) + k,
                             c < p.depth ? p.columns - k : 0);
    }
  };

  int remaining = 0;  // slices loaded and not yet multiplied
  RSSEG_UNROLL
  for (int s = 0; s < Tile::stages - 1; ++s) {
    if (!walk.done()) load(shared + s * stage), walk.next(), ++remaining;
    cp_async_commit();
  }
  int reading = 0, writing = Tile::stages - 1;
  while (remaining > 0) {
    cp_async_wait<Tile::stages - 2>();
    __syncthreads();  // everybody's copies of this slice have landed, and nobody reads the slice that is overwritten next
    if (!walk.done()) load(shared + writing * stage), walk.next(), ++remaining;
    cp_async_commit();
    const S* s = shared + reading * stage;
    mma_slice_product<Tile, Left, Right>(s, s + Left::size, row, column, lane, acc);
    reading = reading + 1 == Tile::stages ? 0 : reading + 1, writing = writing + 1 == Tile::stages ? 0 : writing + 1;
    --remaining;
  }
}
/// Forward and data pass. Grid: row blocks, column blocks, groups.
template <conv_pass Pass, class Tile, bool Aligned>
__global__ void RSSEG_MMA_BOUNDS(Tile::threads)
    conv_mma_kernel(conv_problem p, const typename Tile::stored* source, const typename Tile::stored* weights, typename Tile::stored* target,
                    conv_epilogue<typename Tile::stored> e) {
  using S = typename Tile::stored;
  RSSEG_DYN_SHARED(S, shared);
  const int t = int(threadIdx.x), lane = t & 31, warp = t >> 5;
  const int row = warp % Tile::warps_down * Tile::warp_rows, column = warp / Tile::warps_down * Tile::warp_columns;
  const int group = int(blockIdx.z), first_column = int(blockIdx.y) * Tile::columns;
  float acc[Tile::m][Tile::n][4] = {};
  conv_mma_products<Pass, Tile, Aligned>(p, source, weights, shared, acc);
  RSSEG_UNROLL
  for (int i = 0; i < Tile::m; ++i) {
    RSSEG_UNROLL
    for (int h = 0; h < 2; ++h) {
      int tn, qy, qx;
      if (!p.pixel(int(blockIdx.x), row + i * 16 + (lane >> 2) + h * 8, Tile::rows, tn, qy, qx)) continue;
      const std::int64_t at = ((std::int64_t(tn) * p.target_h + qy) * p.target_w + qx) * p.target_c + group * p.columns;
      RSSEG_UNROLL
      for (int j = 0; j < Tile::n; ++j) {
        RSSEG_UNROLL
        for (int k = 0; k < 2; ++k) {
          const int c = first_column + column + j * 8 + (lane & 3) * 2 + k;
          if (c >= p.columns) continue;
          const int channel = group * p.columns + c;
          float v = acc[i][j][h * 2 + k] * (e.scale ? e.scale[channel] : 1.0f) + (e.shift ? e.shift[channel] : 0.0f);
          if (e.residual) v += to_float(e.residual[at + c]);
          target[at + c] = from_float<S>(activate(e.kind, v, e.slope));
        }
      }
    }
  }
}

/// Forward pass of a layer that batch normalisation follows: scale and shift, and the statistics of the results as they are stored.
template <class Tile, bool Aligned>
__global__ void __launch_bounds__(Tile::threads)
    conv_mma_statistics_kernel(conv_problem p, const typename Tile::stored* source, const typename Tile::stored* weights,
                               typename Tile::stored* target, conv_epilogue<typename Tile::stored> e, float* statistics) {
  using S = typename Tile::stored;
  RSSEG_DYN_SHARED(S, shared);
  const int t = int(threadIdx.x), lane = t & 31, warp = t >> 5, down = warp % Tile::warps_down;
  const int row = down * Tile::warp_rows + (lane >> 2), column = warp / Tile::warps_down * Tile::warp_columns + (lane & 3) * 2;
  const int group = int(blockIdx.z), first_column = int(blockIdx.y) * Tile::columns, block = int(blockIdx.x);
  float acc[Tile::m][Tile::n][4] = {};
  conv_mma_products<conv_pass::forward, Tile, Aligned>(p, source, weights, shared, acc);
  const int count = rows_in_tile(p, block, Tile::rows);
  S* out = target + (std::int64_t(block) * Tile::rows) * p.target_c + group * p.columns;
  RSSEG_UNROLL
  for (int i = 0; i < Tile::m; ++i) {
    RSSEG_UNROLL
    for (int j = 0; j < Tile::n; ++j) {
      RSSEG_UNROLL
      for (int k = 0; k < 4; ++k) {
        const int r = row + i * 16 + (k >> 1) * 8, c = first_column + column + j * 8 + (k & 1), channel = group * p.columns + c;
        if (r >= count || c >= p.columns) continue;
        const S v = from_float<S>(acc[i][j][k] * (e.scale ? e.scale[channel] : 1.0f) + (e.shift ? e.shift[channel] : 0.0f));
        out[std::int64_t(r) * p.target_c + c] = v, acc[i][j][k] = to_float(v);
      }
    }
  }
  cp_async_wait<0>();  // groups without copies: nothing is under way into what is used next
  tile_moments<Tile::warps_down * 8, Tile::columns, Tile::threads, Tile::m * 2, Tile::n * 2>(
      reinterpret_cast<float*>(shared), t, down * 8 + (lane >> 2), count,
      [&](int i, int j, float& v) { return v = acc[i / 2][j / 2][i % 2 * 2 + j % 2], row + i / 2 * 16 + i % 2 * 8 < count; },
      [&](int j) { return column + j / 2 * 8 + j % 2; }, [] { __syncthreads(); },
      statistics + std::int64_t(block) * 2 * p.target_c + group * p.columns + first_column, p.columns - first_column, p.target_c);
}

/// Weight pass. Grid: output-channel blocks, taps x input-channel blocks, groups x splits. Results in fp32, for fp32 master weights.
template <class Tile, bool Aligned>
__global__ void __launch_bounds__(Tile::threads)
    conv_mma_weight_kernel(conv_geometry g, int splits, const typename Tile::stored* x, const typename Tile::stored* dy, float* partials) {
  using S = typename Tile::stored;
  using Left = mma_slice<Tile, Tile::rows, false>;
  using Right = mma_slice<Tile, Tile::columns, false>;
  constexpr int stage = Left::size + Right::size;
  RSSEG_DYN_SHARED(S, shared);
  const int t = int(threadIdx.x), lane = t & 31, warp = t >> 5;
  const int row = warp % Tile::warps_down * Tile::warp_rows, column = warp / Tile::warps_down * Tile::warp_columns;
  const int rows = g.out_c / g.groups, columns = g.in_c / g.groups, column_blocks = ceil_div(columns, Tile::columns);
  const int group = int(blockIdx.z) / splits, split = int(blockIdx.z) % splits, tap = int(blockIdx.y) / column_blocks;
  const int first_row = int(blockIdx.x) * Tile::rows, first_column = int(blockIdx.y) % column_blocks * Tile::columns;
  const tap_rectangle r(g, tap);
  const int pixels = r.pixels(g.n), piece = round_up(ceil_div(imax(pixels, 1), splits), Tile::depth);
  int next = imin(split * piece, pixels);
  const int last = imin(next + piece, pixels);
  const divider by_w(imax(r.w, 1)), by_h(imax(r.h, 1));

  const auto load = [&](S* to) {
    const auto place = [&](int k, int& n, int& oy, int& ox) {
      n = by_h.divide(by_w.divide(k, ox), oy);
      oy += r.y0, ox += r.x0;
    };
    RSSEG_UNROLL
    for (int i = 0; i < Left::per_thread; ++i) {
      int c, d, n = 0, oy = 0, ox = 0;
      Left::place(t + i * Tile::threads, c, d);
      const bool in = next + d < last;
      if (in) place(next + d, n, oy, ox);
      stage_chunk<Aligned>(to + Left::offset(c, d), dy + ((std::int64_t(n) * g.out_h + oy) * g.out_w + ox) * g.out_c + group * rows + first_row + c,
                           in ? rows - first_row - c : 0);
    }
    RSSEG_UNROLL
    for (int i = 0; i < Right::per_thread; ++i) {
      if (Right::chunks % Tile::threads != 0 && t + i * Tile::threads >= Right::chunks) break;
      int c, d, n = 0, oy = 0, ox = 0;
      Right::place(t + i * Tile::threads, c, d);
      const bool in = next + d < last;
      if (in) place(next + d, n, oy, ox);
      const int sy = in ? oy * g.stride_h + r.dy : 0, sx = in ? ox * g.stride_w + r.dx : 0;
      stage_chunk<Aligned>(to + Left::size + Right::offset(c, d),
                           x + ((std::int64_t(n) * g.in_h + sy) * g.in_w + sx) * g.in_c + group * columns + first_column + c,
                           in ? columns - first_column - c : 0);
    }
    next += Tile::depth;
  };

  float acc[Tile::m][Tile::n][4] = {};
  int remaining = 0;
  RSSEG_UNROLL
  for (int s = 0; s < Tile::stages - 1; ++s) {
    if (next < last) load(shared + s * stage), ++remaining;
    cp_async_commit();
  }
  int reading = 0, writing = Tile::stages - 1;
  while (remaining > 0) {
    cp_async_wait<Tile::stages - 2>();
    __syncthreads();
    if (next < last) load(shared + writing * stage), ++remaining;
    cp_async_commit();
    const S* s = shared + reading * stage;
    mma_slice_product<Tile, Left, Right>(s, s + Left::size, row, column, lane, acc);
    reading = reading + 1 == Tile::stages ? 0 : reading + 1, writing = writing + 1 == Tile::stages ? 0 : writing + 1;
    --remaining;
  }

  const int taps = g.kernel_h * g.kernel_w;
  float* out = partials + std::int64_t(split) * g.out_c * taps * columns;
  RSSEG_UNROLL
  for (int i = 0; i < Tile::m; ++i) {
    RSSEG_UNROLL
    for (int j = 0; j < Tile::n; ++j) {
      RSSEG_UNROLL
      for (int k = 0; k < 4; ++k) {
        const int out_channel = first_row + row + i * 16 + (lane >> 2) + (k >> 1) * 8, c = first_column + column + j * 8 + (lane & 3) * 2 + (k & 1);
        if (out_channel < rows && c < columns) out[(std::int64_t(group * rows + out_channel) * taps + tap) * columns + c] = acc[i][j][k];
      }
    }
  }
}

template <class Tile, bool LeftInner, bool RightInner>
inline constexpr std::size_t mma_shared =
    Tile::stages *
    sizeof(typename Tile::stored) * std::size_t(mma_slice<Tile, Tile::rows, LeftInner>::size + mma_slice<Tile, Tile::columns, RightInner>::size);

template <class T>
using mma_large = mma_tile<T, 128, 128, 64, 32>;
template <class T>
using mma_medium = mma_tile<T, 64, 64, 32, 32>;

/// True where every 16-byte chunk lies within one pixel's (or weight's) channels of a group.
template <class T>
inline bool conv_mma_aligned(const conv_geometry& g, conv_pass pass) {
  constexpr int chunk = 16 / int(sizeof(typename mma_operand<T>::stored));
  return g.in_c_per_group() % chunk == 0 && (pass == conv_pass::forward || g.out_c_per_group() % chunk == 0);
}
template <conv_pass Pass, class Tile>
inline void conv_mma_run(stream_t s, const conv_geometry& g, const typename Tile::stored* source, const typename Tile::stored* weights,
                         typename Tile::stored* target, const conv_epilogue<typename Tile::stored>& e) {
  using T [[maybe_unused]] = typename Tile::operand;
  const conv_problem p(g, Pass, Tile::rows);
  auto kernel = conv_mma_kernel<Pass, Tile, true>;
  if constexpr (Tile::rows <= 64)  // the large tile is kept to aligned channels: half as much code
    if (!conv_mma_aligned<T>(g, Pass)) kernel = conv_mma_kernel<Pass, Tile, false>;
  kernel_launch({Pass == conv_pass::forward ? "conv_mma forward" : "conv_mma data gradient",
                 dim3(unsigned(p.row_blocks()), unsigned(ceil_div(p.columns, Tile::columns)), unsigned(g.groups)), Tile::threads,
                 mma_shared<Tile, true, Pass == conv_pass::forward>, s},
                kernel, p, source, weights, target, e);
}
template <conv_pass Pass, class T>
inline void conv_mma_choose(stream_t s, const conv_geometry& g, const typename mma_operand<T>::stored* source,
                            const typename mma_operand<T>::stored* weights, typename mma_operand<T>::stored* target,
                            const conv_epilogue<typename mma_operand<T>::stored>& e) {
  const conv_problem p(g, Pass, mma_large<T>::rows);
  const bool fills = std::int64_t(p.row_blocks()) * ceil_div(p.columns, mma_large<T>::columns) * g.groups >= 120;
  if (fills && p.columns > 64 && conv_mma_aligned<T>(g, Pass)) return conv_mma_run<Pass, mma_large<T>>(s, g, source, weights, target, e);
  conv_mma_run<Pass, mma_medium<T>>(s, g, source, weights, target, e);
}

/// y = epilogue(x * w) with operands of type T (bf16, f16; tf32: stored as float). Fast where channels per group are multiples of 8 (tf32: 4), else
/// correct.
template <class T>
inline void conv_mma_forward(stream_t s, const conv_geometry& g, const typename mma_operand<T>::stored* x, const typename mma_operand<T>::stored* w,
                             typename mma_operand<T>::stored* y, const conv_epilogue<typename mma_operand<T>::stored>& e = {}) {
  check_geometry("conv_mma_forward", g);
  conv_mma_choose<conv_pass::forward, T>(s, g, x, w, y, e);
}
template <class T>
inline void conv_mma_data_gradient(stream_t s, const conv_geometry& g, const typename mma_operand<T>::stored* dy,
                                   const typename mma_operand<T>::stored* w, typename mma_operand<T>::stored* dx,
                                   const conv_epilogue<typename mma_operand<T>::stored>& e = {}) {
  check_geometry("conv_mma_data_gradient", g);
  conv_mma_choose<conv_pass::data, T>(s, g, dy, w, dx, e);
}

template <class Tile>
inline int conv_mma_statistics_run(stream_t s, const conv_geometry& g, const typename Tile::stored* x, const typename Tile::stored* w,
                                   typename Tile::stored* y, const conv_epilogue<typename Tile::stored>& e, float* statistics) {
  const conv_problem p(g, conv_pass::forward, Tile::rows);
  auto kernel = conv_mma_statistics_kernel<Tile, true>;
  if constexpr (Tile::rows <= 64)
    if (!conv_mma_aligned<typename Tile::operand>(g, conv_pass::forward)) kernel = conv_mma_statistics_kernel<Tile, false>;
  kernel_launch({"conv_mma forward with statistics", dim3(unsigned(p.row_blocks()), unsigned(ceil_div(p.columns, Tile::columns)), unsigned(g.groups)),
                 Tile::threads, mma_shared<Tile, true, true>, s},
                kernel, p, x, w, y, e, statistics);
  return Tile::rows;
}
/// y = scale * (x * w) + shift, and the statistics of y for batch_norm_of_tiles; returns the pixels of a tile of statistics.
template <class T>
inline int conv_mma_forward_statistics(stream_t s, const conv_geometry& g, const typename mma_operand<T>::stored* x,
                                       const typename mma_operand<T>::stored* w, typename mma_operand<T>::stored* y,
                                       const conv_epilogue<typename mma_operand<T>::stored>& e, float* statistics) {
  check_geometry("conv_mma_forward_statistics", g);
  const conv_problem p(g, conv_pass::forward, mma_large<T>::rows);
  const bool fills = std::int64_t(p.row_blocks()) * ceil_div(p.columns, mma_large<T>::columns) * g.groups >= 120;
  if (fills && p.columns > 64 && conv_mma_aligned<T>(g, conv_pass::forward))
    return conv_mma_statistics_run<mma_large<T>>(s, g, x, w, y, e, statistics);
  return conv_mma_statistics_run<mma_medium<T>>(s, g, x, w, y, e, statistics);
}

template <class Tile>
inline int conv_mma_weight_tiles(const conv_geometry& g) {
  return ceil_div(g.out_c_per_group(), Tile::rows) * ceil_div(g.in_c_per_group(), Tile::columns) * g.kernel_h * g.kernel_w * g.groups;
}
template <class T>
inline bool conv_mma_weight_large(const conv_geometry& g) {
  return g.out_c_per_group() > 64 && g.in_c_per_group() > 64 && conv_mma_aligned<T>(g, conv_pass::weight);
}
template <class T>
inline int conv_mma_weight_splits(const conv_geometry& g) {
  return weight_splits(g, conv_mma_weight_large<T>(g) ? conv_mma_weight_tiles<mma_large<T>>(g) : conv_mma_weight_tiles<mma_medium<T>>(g));
}
/// Floats of workspace of conv_mma_weight_gradient.
template <class T>
inline std::size_t conv_mma_weight_workspace(const conv_geometry& g) {
  return std::size_t(conv_mma_weight_splits<T>(g)) * std::size_t(g.weights());
}
template <class Tile>
inline void conv_mma_weight_run(stream_t s, const conv_geometry& g, int splits, const typename Tile::stored* x, const typename Tile::stored* dy,
                                float* partials) {
  auto kernel = conv_mma_weight_kernel<Tile, true>;
  if constexpr (Tile::rows <= 64)
    if (!conv_mma_aligned<typename Tile::operand>(g, conv_pass::weight)) kernel = conv_mma_weight_kernel<Tile, false>;
  const dim3 grid(unsigned(ceil_div(g.out_c_per_group(), Tile::rows)),
                  unsigned(g.kernel_h * g.kernel_w * ceil_div(g.in_c_per_group(), Tile::columns)), unsigned(g.groups * splits));
  kernel_launch({"conv_mma weight gradient", grid, Tile::threads, mma_shared<Tile, false, false>, s}, kernel, g, splits, x, dy, partials);
}
/// dw in fp32 from x and dy of type T; deterministic.
template <class T>
inline void conv_mma_weight_gradient(stream_t s, const conv_geometry& g, const typename mma_operand<T>::stored* x,
                                     const typename mma_operand<T>::stored* dy, float* dw, float* workspace, bool accumulate = false) {
  check_geometry("conv_mma_weight_gradient", g);
  const int splits = conv_mma_weight_splits<T>(g);
  float* partials = splits == 1 && !accumulate ? dw : workspace;
  if (conv_mma_weight_large<T>(g))
    conv_mma_weight_run<mma_large<T>>(s, g, splits, x, dy, partials);
  else
    conv_mma_weight_run<mma_medium<T>>(s, g, splits, x, dy, partials);
  if (partials != dw) sum_splits(s, workspace, dw, g.weights(), splits, accumulate);
}

}  // namespace RSSEG_BACKEND_NS
}  // namespace rsseg::cuda
