// SPDX-License-Identifier: MIT
// Convolution for Hopper (sm_90a): operands arrive by TMA, the input through its im2col mode (a tap with any dilation is just the instruction's
// offset), and warp-group instructions multiply from shared memory. One warp loads, two warp groups multiply 64 rows each; a ring of slices connects
// them with two mbarriers per slice, so that loading never waits for arithmetic nor the reverse (the warp-specialised design of CUTLASS 3). Forward,
// the data gradient at stride 1 (which is a forward pass with mirrored weights), and the weight gradient (both operands transposed: pixels are the
// depth; split over pixels, summed in fixed order); bf16 and fp16; taps in the padding are skipped. Floors (H100):
// 3x3 64->64 at 512 x 512: 24 us; ASPP 3x3 2048->256 at 64 x 64, batch 8: 387 us per rate; 70 to 95 % of cuDNN is expected, not measured.
#pragma once
#include "conv_problem.cuh"
#include "hopper.cuh"

namespace rsseg::cuda {
inline namespace RSSEG_BACKEND_NS {

template <class T, int Columns>
struct hopper_tile {
  using stored = T;
  static constexpr int rows = 128, columns = Columns, depth = 64, stages = Columns <= 128 ? 5 : 4;
  static constexpr int consumers = 256, threads = consumers + 32;
  static constexpr int row_bytes = rows * swizzle_row, column_bytes = columns * swizzle_row, stage_bytes = row_bytes + column_bytes;
  static constexpr std::size_t shared = std::size_t(stages) * stage_bytes + 1024;  // slices, then the barriers
};

/// Grid: row blocks (128 consecutive output pixels), column blocks. Groups: 1.
template <class Tile>
__global__ void __launch_bounds__(Tile::threads, 1)
    conv_hopper_kernel(conv_problem p, const __grid_constant__ tensor_map input, const __grid_constant__ tensor_map weights,
                       typename Tile::stored* target, conv_epilogue<typename Tile::stored> e) {
  using T = typename Tile::stored;
  RSSEG_DYN_SHARED(char, shared);
  auto* full = reinterpret_cast<std::uint64_t*>(shared + Tile::stages * Tile::stage_bytes);
  std::uint64_t* empty = full + Tile::stages;
  const int t = int(threadIdx.x), first_column = int(blockIdx.y) * Tile::columns;
  if (t == 0) {
    for (int i = 0; i < Tile::stages; ++i) mbarrier_init(full + i, 1), mbarrier_init(empty + i, Tile::consumers / 128);
    mbarrier_init_done();
  }
  int n = 0, y = 0, x = 0;
  const bool has_pixel = t < Tile::rows && p.pixel(int(blockIdx.x), t, Tile::rows, n, y, x);
  depth_walk walk(p, Tile::depth, live_taps<conv_pass::forward>(p, has_pixel, y, x));
  __syncthreads();

  if (t >= Tile::consumers) {  // the loading warp: one thread of it
    if (t == Tile::consumers) {
      p.pixel(int(blockIdx.x), 0, Tile::rows, n, y, x);
      for (int i = 0; !walk.done(); ++i, walk.next()) {
        const int stage = i % Tile::stages;
        char* slice = shared + stage * Tile::stage_bytes;
        mbarrier_wait(empty + stage, unsigned(i / Tile::stages & 1) ^ 1u);
        mbarrier_expect(full + stage, Tile::stage_bytes);
        tma_load_im2col(slice, &input, walk.channel, x * p.g.stride_w - p.g.pad_left, y * p.g.stride_h - p.g.pad_top, n,
                        walk.tap % p.g.kernel_w * p.g.dilation_w, walk.tap / p.g.kernel_w * p.g.dilation_h, full + stage);
        // weights beyond the tap's last channel belong to the next tap; they meet zeros of the input
        tma_load(slice + Tile::row_bytes, &weights, walk.tap * p.depth + walk.channel, first_column, full + stage);
      }
    }
    return;
  }

  const int group = t / 128;
  float acc[Tile::columns / 2] = {};
  int i = 0;
  for (; !walk.done(); ++i, walk.next()) {
    const int stage = i % Tile::stages;
    const char* slice = shared + stage * Tile::stage_bytes;
    mbarrier_wait(full + stage, unsigned(i / Tile::stages & 1));
    wgmma_fence();
    RSSEG_UNROLL
    for (int k = 0; k < Tile::depth / 16; ++k)
      wgmma(acc, describe_tile(slice + group * 64 * swizzle_row, k), describe_tile(slice + Tile::row_bytes, k), T{});
    wgmma_commit();
    wgmma_wait<1>();  // the products of the slice before are done: it may be overwritten
    if (i > 0 && t % 128 == 0) mbarrier_arrive(empty + (i - 1) % Tile::stages);
  }
  wgmma_wait<0>();

  const int warp = t % 128 / 32, lane = t & 31;
  RSSEG_UNROLL
  for (int h = 0; h < 2; ++h) {
    if (!p.pixel(int(blockIdx.x), group * 64 + warp * 16 + lane / 4 + h * 8, Tile::rows, n, y, x)) continue;
    const std::int64_t at = ((std::int64_t(n) * p.target_h + y) * p.target_w + x) * p.target_c;
    RSSEG_UNROLL
    for (int j = 0; j < Tile::columns / 8; ++j) {
      RSSEG_UNROLL
      for (int k = 0; k < 2; ++k) {
        const int c = first_column + j * 8 + lane % 4 * 2 + k;
        if (c >= p.columns) continue;
        float v = acc[j * 4 + h * 2 + k] * (e.scale ? e.scale[c] : 1.0f) + (e.shift ? e.shift[c] : 0.0f);
        if (e.residual) v += to_float(e.residual[at + c]);
        target[at + c] = from_float<T>(activate(e.kind, v, e.slope));
      }
    }
  }
}

/// True where none of the 64 output pixels from `first` meets an input pixel at the tap of r.
RSSEG_HD inline bool dead_pixels(const conv_geometry& g, const tap_rectangle& r, int first) {
  const int row0 = first / g.out_w, last = imin(first + 64, g.n * g.out_h * g.out_w) - 1, row1 = last / g.out_w;
  if (row0 / g.out_h != row1 / g.out_h) return r.h == 0 || r.w == 0;
  const int y0 = row0 % g.out_h, y1 = row1 % g.out_h;
  if (y1 < r.y0 || y0 >= r.y0 + r.h) return true;
  return row0 == row1 && (last % g.out_w < r.x0 || first % g.out_w >= r.x0 + r.w);
}
/// Weight pass. Grid: output-channel blocks, taps x input-channel blocks, splits. A split takes every splits-th run of 64 pixels.
template <class Tile>
__global__ void __launch_bounds__(Tile::threads, 1)
    conv_hopper_weight_kernel(conv_geometry g, int splits, const __grid_constant__ tensor_map gradient, const __grid_constant__ tensor_map input,
                              float* partials) {
  using T = typename Tile::stored;
  RSSEG_DYN_SHARED(char, shared);
  auto* full = reinterpret_cast<std::uint64_t*>(shared + Tile::stages * Tile::stage_bytes);
  std::uint64_t* empty = full + Tile::stages;
  const int t = int(threadIdx.x), column_blocks = ceil_div(g.in_c, Tile::columns), tap = int(blockIdx.y) / column_blocks;
  const int first_row = int(blockIdx.x) * Tile::rows, first_column = int(blockIdx.y) % column_blocks * Tile::columns;
  const int runs = ceil_div(g.n * g.out_h * g.out_w, Tile::depth);
  const tap_rectangle r(g, tap);
  if (t == 0) {
    for (int i = 0; i < Tile::stages; ++i) mbarrier_init(full + i, 1), mbarrier_init(empty + i, Tile::consumers / 128);
    mbarrier_init_done();
  }
  __syncthreads();

  if (t >= Tile::consumers) {
    if (t == Tile::consumers) {
      int i = 0;
      for (int run = int(blockIdx.z); run < runs; run += splits) {
        const int first = run * Tile::depth;
        if (dead_pixels(g, r, first)) continue;
        const int stage = i % Tile::stages, row = first / g.out_w;
        char* slice = shared + stage * Tile::stage_bytes;
        mbarrier_wait(empty + stage, unsigned(i / Tile::stages & 1) ^ 1u);
        mbarrier_expect(full + stage, Tile::stage_bytes);
        for (int j = 0; j < Tile::rows / 64; ++j) tma_load(slice + j * transposed_box, &gradient, first_row + 64 * j, first, full + stage);
        for (int j = 0; j < Tile::columns / 64; ++j)
          tma_load_im2col(slice + Tile::row_bytes + j * transposed_box, &input, first_column + 64 * j, first % g.out_w * g.stride_w - g.pad_left,
                          row % g.out_h * g.stride_h - g.pad_top, row / g.out_h, tap % g.kernel_w * g.dilation_w, tap / g.kernel_w * g.dilation_h,
                          full + stage);
        ++i;
      }
    }
    return;
  }

  const int group = t / 128;
  float acc[Tile::columns / 2] = {};
  int i = 0;
  for (int run = int(blockIdx.z); run < runs; run += splits) {
    if (dead_pixels(g, r, run * Tile::depth)) continue;
    const int stage = i % Tile::stages;
    const char* slice = shared + stage * Tile::stage_bytes;
    mbarrier_wait(full + stage, unsigned(i / Tile::stages & 1));
    wgmma_fence();
    RSSEG_UNROLL
    for (int k = 0; k < Tile::depth / 16; ++k)
      wgmma<1>(acc, describe_transposed_tile(slice + group * transposed_box, k), describe_transposed_tile(slice + Tile::row_bytes, k), T{});
    wgmma_commit();
    wgmma_wait<1>();
    if (i > 0 && t % 128 == 0) mbarrier_arrive(empty + (i - 1) % Tile::stages);
    ++i;
  }
  wgmma_wait<0>();

  const int warp = t % 128 / 32, lane = t & 31, taps = g.kernel_h * g.kernel_w;
  float* out = partials + std::int64_t(blockIdx.z) * g.out_c * taps * g.in_c;
  RSSEG_UNROLL
  for (int j = 0; j < Tile::columns / 8; ++j) {
    RSSEG_UNROLL
    for (int k = 0; k < 4; ++k) {
      const int row = first_row + group * 64 + warp * 16 + lane / 4 + k / 2 * 8, c = first_column + j * 8 + lane % 4 * 2 + k % 2;
      if (row < g.out_c && c < g.in_c) out[(std::int64_t(row) * taps + tap) * g.in_c + c] = acc[j * 4 + k];
    }
  }
}

/// True where conv_hopper_forward applies; otherwise use conv_mma.cuh. The limits are those of TMA's im2col mode.
inline bool conv_hopper_supports(const conv_geometry& g) {
  const int upper_x = -g.pad_left + (g.out_w - 1) * g.stride_w - (g.in_w - 1), upper_y = -g.pad_top + (g.out_h - 1) * g.stride_h - (g.in_h - 1);
  const auto corner = [](int v) { return v >= -128 && v <= 127; };
  return g.groups == 1 && g.in_c % 8 == 0 && corner(-g.pad_left) && corner(-g.pad_top) && corner(upper_x) && corner(upper_y) && g.stride_h <= 8 &&
         g.stride_w <= 8 && (g.kernel_w - 1) * g.dilation_w <= 255 && (g.kernel_h - 1) * g.dilation_h <= 255;
}
template <class Tile>
inline void conv_hopper_run(stream_t s, const conv_geometry& g, const typename Tile::stored* x, const typename Tile::stored* w,
                            typename Tile::stored* y, const conv_epilogue<typename Tile::stored>& e) {
  const conv_problem p(g, conv_pass::forward, Tile::rows);
  const tensor_map input =
      make_map(im2col_view{x, g.n, g.in_h, g.in_w, g.in_c, g.out_h, g.out_w, g.stride_h, g.stride_w, -g.pad_top, -g.pad_left, Tile::rows});
  const tensor_map weights = make_map(matrix_view{w, g.out_c, std::int64_t(p.taps) * g.in_c, Tile::columns});
  kernel_launch({"conv_hopper", dim3(unsigned(p.row_blocks()), unsigned(ceil_div(p.columns, Tile::columns))), Tile::threads, Tile::shared, s},
                conv_hopper_kernel<Tile>, p, input, weights, y, e);
}
/// y = epilogue(x * w) for geometries that conv_hopper_supports; T: bf16 or f16. Weights and input begin at multiples of 16 bytes.
template <class T>
inline void conv_hopper_forward(stream_t s, const conv_geometry& g, const T* x, const T* w, T* y, const conv_epilogue<T>& e = {}) {
  check_geometry("conv_hopper_forward", g);
  if (!conv_hopper_supports(g))
    throw usage_error("cuda: conv_hopper_forward: needs one group and input channels divisible by 8; use conv_mma_forward");
  const std::int64_t rows = ceil_div(std::int64_t(g.n) * g.out_h * g.out_w, std::int64_t(128));
  if (g.out_c > 128 && rows * ceil_div(g.out_c, 256) >= 120) return conv_hopper_run<hopper_tile<T, 256>>(s, g, x, w, y, e);
  if (g.out_c > 64) return conv_hopper_run<hopper_tile<T, 128>>(s, g, x, w, y, e);
  conv_hopper_run<hopper_tile<T, 64>>(s, g, x, w, y, e);
}

/// out[ci][last tap - tap][co] = w[co][tap][ci]: the weights with which the data gradient at stride 1 is a forward pass.
template <class T>
__global__ void mirror_weights_kernel(const T* w, T* out, int out_c, int taps, int in_c) {
  const std::int64_t size = std::int64_t(out_c) * taps * in_c;
  for (std::int64_t i = grid_start(); i < size; i += grid_stride()) {
    const int co = int(i % out_c), tap = int(i / out_c % taps), ci = int(i / out_c / taps);
    out[i] = w[(std::int64_t(co) * taps + taps - 1 - tap) * in_c + ci];
  }
}
/// The forward geometry of the data gradient at stride 1.
inline conv_geometry mirrored(const conv_geometry& g) {
  conv_geometry m = g;
  m.in_h = g.out_h, m.in_w = g.out_w, m.in_c = g.out_c, m.out_h = g.in_h, m.out_w = g.in_w, m.out_c = g.in_c;
  m.pad_top = (g.kernel_h - 1) * g.dilation_h - g.pad_top, m.pad_left = (g.kernel_w - 1) * g.dilation_w - g.pad_left;
  return m;
}
inline bool conv_hopper_supports_data(const conv_geometry& g) { return g.stride_h == 1 && g.stride_w == 1 && conv_hopper_supports(mirrored(g)); }
/// dx from dy. mirrored_weights: g.weights() values of workspace.
template <class T>
inline void conv_hopper_data_gradient(stream_t s, const conv_geometry& g, const T* dy, const T* w, T* dx, T* mirrored_weights,
                                      const conv_epilogue<T>& e = {}) {
  check_geometry("conv_hopper_data_gradient", g);
  if (!conv_hopper_supports_data(g))
    throw usage_error("cuda: conv_hopper_data_gradient: needs stride 1, one group and output channels divisible by 8; use conv_mma_data_gradient");
  kernel_launch({"mirror_weights", grid_for(g.weights(), 256), 256, 0, s}, mirror_weights_kernel<T>, w, mirrored_weights, g.out_c,
                g.kernel_h * g.kernel_w, g.in_c);
  conv_hopper_forward<T>(s, mirrored(g), dy, mirrored_weights, dx, e);
}

inline bool conv_hopper_supports_weights(const conv_geometry& g) { return conv_hopper_supports(g) && g.out_c % 8 == 0; }
inline int conv_hopper_weight_splits(const conv_geometry& g) {
  return weight_splits(g, ceil_div(g.out_c, 128) * ceil_div(g.in_c, g.in_c > 64 ? 128 : 64) * g.kernel_h * g.kernel_w);
}
/// Floats of workspace of conv_hopper_weight_gradient.
inline std::size_t conv_hopper_weight_workspace(const conv_geometry& g) {
  return std::size_t(conv_hopper_weight_splits(g)) * std::size_t(g.weights());
}
template <class Tile>
inline void conv_hopper_weight_run(stream_t s, const conv_geometry& g, int splits, const typename Tile::stored* x, const typename Tile::stored* dy,
                                   float* partials) {
  const tensor_map gradient = make_map(matrix_view{dy, std::int64_t(g.n) * g.out_h * g.out_w, g.out_c, Tile::depth});
  const tensor_map input =
      make_map(im2col_view{x, g.n, g.in_h, g.in_w, g.in_c, g.out_h, g.out_w, g.stride_h, g.stride_w, -g.pad_top, -g.pad_left, Tile::depth});
  const dim3 grid(unsigned(ceil_div(g.out_c, Tile::rows)), unsigned(g.kernel_h * g.kernel_w * ceil_div(g.in_c, Tile::columns)), unsigned(splits));
  kernel_launch({"conv_hopper weight gradient", grid, Tile::threads, Tile::shared, s}, conv_hopper_weight_kernel<Tile>, g, splits, gradient, input,
                partials);
}
/// dw in fp32 from x and dy; deterministic.
template <class T>
inline void conv_hopper_weight_gradient(stream_t s, const conv_geometry& g, const T* x, const T* dy, float* dw, float* workspace,
                                        bool accumulate = false) {
  check_geometry("conv_hopper_weight_gradient", g);
  if (!conv_hopper_supports_weights(g))
    throw usage_error("cuda: conv_hopper_weight_gradient: needs one group and channels divisible by 8; use conv_mma_weight_gradient");
  const int splits = conv_hopper_weight_splits(g);
  float* partials = splits == 1 && !accumulate ? dw : workspace;
  if (g.in_c > 64)
    conv_hopper_weight_run<hopper_tile<T, 128>>(s, g, splits, x, dy, partials);
  else
    conv_hopper_weight_run<hopper_tile<T, 64>>(s, g, splits, x, dy, partials);
  if (partials != dw) sum_splits(s, workspace, dw, g.weights(), splits, accumulate);
}

}  // namespace RSSEG_BACKEND_NS
}  // namespace rsseg::cuda
