// SPDX-License-Identifier: MIT
// Attention without the N x N matrix in memory (FlashAttention: Dao et al., NeurIPS 2022), for two kinds of score:
//   dot      : scale * q_i . k_j                     non-local networks, DANet, transformers
//   additive : LeakyReLU(s_i + t_j)                  graph attention (Velickovic et al., ICLR 2018), with an optional adjacency mask
// A block owns 64 rows and 64 columns of the result and walks over the other side in tiles of 64; a running maximum and sum rescale what is
// accumulated. The backward pass recomputes the probabilities from the stored logarithms of the sums; every result has one owner, so nothing is
// atomic. Floors (H100, N = 4096, C = 256, 4 heads, fp32): 128 us; with the N x N matrix written and read it would be 182 us plus 1 GB. For a full
// graph without mask there is an exact O(N log N) form: graph_attention_full.cuh.
#pragma once
#include "common.cuh"

namespace rsseg::cuda {

/// Shapes: queries (batch, rows, key_channels), keys (batch, columns, key_channels), values (batch, columns, channels), output (batch, rows,
/// channels). Strides in floats between tokens, so that heads may lie interleaved; a batch entry (image or head) begins at its own offset.
struct attention_geometry {
  int batch = 1, rows = 1, columns = 1, key_channels = 1, channels = 1;
  float scale = 1;     ///< dot
  float slope = 0.2f;  ///< additive: of LeakyReLU
};

inline namespace RSSEG_BACKEND_NS {

constexpr int attention_tile = 64, attention_slice = 16, attention_threads = 256, attention_stride = attention_tile + 4;

/// What a score needs: q and k for dot; s (batch, rows), t (batch, columns) and mask (batch, rows, columns) bytes or null for additive.
struct dot_score {
  const float *q, *k;
};
struct additive_score {
  const float *s, *t;
  const std::uint8_t* mask;
};

struct attention_shared {
  float slice[2][attention_slice * attention_stride];
  float score[attention_tile * attention_stride];
  float row_max[attention_tile], row_sum[attention_tile], row_scale[attention_tile], row_extra[attention_tile];
};

/// Loads 64 tokens x 16 channels, transposed to [channel][token].
__device__ __forceinline__ void load_slice(float* slice, const float* tokens, int first, int count, int channels, int channel) {
  for (int i = int(threadIdx.x); i < attention_tile * attention_slice; i += attention_threads) {
    const int c = i % attention_slice, r = i / attention_slice;
    slice[c * attention_stride + r] = first + r < count && channel + c < channels ? tokens[std::int64_t(first + r) * channels + channel + c] : 0.0f;
  }
}
/// acc[i][j] += sum over channels of a[row i] * b[row j]; rows 4 * (t / 16) + i of a, 4 * (t % 16) + j of b.
__device__ __forceinline__ void multiply_tokens(attention_shared& m, const float* a, int first_a, int count_a, const float* b, int first_b,
                                                int count_b, int channels, float (&acc)[4][4]) {
  const int ty = int(threadIdx.x) / 16 * 4, tx = int(threadIdx.x) % 16 * 4;
  for (int c = 0; c < channels; c += attention_slice) {
    load_slice(m.slice[0], a, first_a, count_a, channels, c);
    load_slice(m.slice[1], b, first_b, count_b, channels, c);
    __syncthreads();
    RSSEG_UNROLL
    for (int k = 0; k < attention_slice; ++k) {
      const pack<float, 4> pa = load_pack<4>(m.slice[0] + k * attention_stride + ty), pb = load_pack<4>(m.slice[1] + k * attention_stride + tx);
      RSSEG_UNROLL
      for (int i = 0; i < 4; ++i) {
        RSSEG_UNROLL
        for (int j = 0; j < 4; ++j) acc[i][j] += pa.v[i] * pb.v[j];
      }
    }
    __syncthreads();
  }
}
/// acc[i][j] += sum over the tile's 64 tokens k of m.score(row i, k) * b(k, column j); Transposed: of m.score(k, row i).
template <bool Transposed>
__device__ __forceinline__ void multiply_score(attention_shared& m, const float* b, int first_b, int count_b, int channels, int channel,
                                               float (&acc)[4][4]) {
  const int ty = int(threadIdx.x) / 16 * 4, tx = int(threadIdx.x) % 16 * 4;
  for (int k0 = 0; k0 < attention_tile; k0 += attention_slice) {
    for (int i = int(threadIdx.x); i < attention_slice * attention_tile; i += attention_threads) {
      const int k = i / attention_tile, c = i % attention_tile;
      m.slice[0][k * attention_stride + c] =
          first_b + k0 + k < count_b && channel + c < channels ? b[std::int64_t(first_b + k0 + k) * channels + channel + c] : 0.0f;
    }
    __syncthreads();
    RSSEG_UNROLL
    for (int k = 0; k < attention_slice; ++k) {
      const pack<float, 4> pb = load_pack<4>(m.slice[0] + k * attention_stride + tx);
      RSSEG_UNROLL
      for (int i = 0; i < 4; ++i) {
        const float s = Transposed ? m.score[(k0 + k) * attention_stride + ty + i] : m.score[(ty + i) * attention_stride + k0 + k];
        RSSEG_UNROLL
        for (int j = 0; j < 4; ++j) acc[i][j] += s * pb.v[j];
      }
    }
    __syncthreads();
  }
}

__device__ __forceinline__ float leaky(float v, float slope) { return v > 0 ? v : slope * v; }
/// The thread's 4 x 4 scores of a tile; minus infinity where there is no pair.
__device__ __forceinline__ void tile_scores(attention_shared& m, const attention_geometry& g, const dot_score& in, int entry, int row0, int column0,
                                            float (&s)[4][4]) {
  float acc[4][4] = {};
  multiply_tokens(m, in.q + std::int64_t(entry) * g.rows * g.key_channels, row0, g.rows, in.k + std::int64_t(entry) * g.columns * g.key_channels,
                  column0, g.columns, g.key_channels, acc);
  const int ty = int(threadIdx.x) / 16 * 4, tx = int(threadIdx.x) % 16 * 4;
  RSSEG_UNROLL
  for (int i = 0; i < 4; ++i) {
    RSSEG_UNROLL
    for (int j = 0; j < 4; ++j) s[i][j] = row0 + ty + i < g.rows && column0 + tx + j < g.columns ? g.scale * acc[i][j] : -INFINITY;
  }
}
__device__ __forceinline__ void tile_scores(attention_shared&, const attention_geometry& g, const additive_score& in, int entry, int row0,
                                            int column0, float (&s)[4][4]) {
  const int ty = int(threadIdx.x) / 16 * 4, tx = int(threadIdx.x) % 16 * 4;
  RSSEG_UNROLL
  for (int i = 0; i < 4; ++i) {
    RSSEG_UNROLL
    for (int j = 0; j < 4; ++j) {
      const int r = row0 + ty + i, c = column0 + tx + j;
      const bool pair = r < g.rows && c < g.columns && (!in.mask || in.mask[(std::int64_t(entry) * g.rows + r) * g.columns + c]);
      s[i][j] = pair ? leaky(in.s[std::int64_t(entry) * g.rows + r] + in.t[std::int64_t(entry) * g.columns + c], g.slope) : -INFINITY;
    }
  }
}
/// Reduces over the 16 threads that share rows (half a warp), in fixed order.
__device__ __forceinline__ float row_max16(float v) {
  RSSEG_UNROLL
  for (int d = 8; d > 0; d >>= 1) v = fmaxf(v, __shfl_xor_sync(0xFFFFFFFFu, v, d));
  return v;
}
__device__ __forceinline__ float row_sum16(float v) {
  RSSEG_UNROLL
  for (int d = 8; d > 0; d >>= 1) v += __shfl_xor_sync(0xFFFFFFFFu, v, d);
  return v;
}
__device__ __forceinline__ void put_scores(attention_shared& m, const float (&s)[4][4]) {
  const int ty = int(threadIdx.x) / 16 * 4, tx = int(threadIdx.x) % 16 * 4;
  RSSEG_UNROLL
  for (int i = 0; i < 4; ++i) {
    pack<float, 4> v;
    RSSEG_UNROLL
    for (int j = 0; j < 4; ++j) v.v[j] = s[i][j];
    store_pack<4>(m.score + (ty + i) * attention_stride + tx, v);
  }
}
__device__ __forceinline__ void store_tile(float* out, const float (&acc)[4][4], int row0, int rows, int column0, int columns,
                                           const float (&factor)[4]) {
  const int ty = int(threadIdx.x) / 16 * 4, tx = int(threadIdx.x) % 16 * 4;
  RSSEG_UNROLL
  for (int i = 0; i < 4; ++i) {
    RSSEG_UNROLL
    for (int j = 0; j < 4; ++j)
      if (row0 + ty + i < rows && column0 + tx + j < columns) out[std::int64_t(row0 + ty + i) * columns + column0 + tx + j] = factor[i] * acc[i][j];
  }
}

/// Grid: row tiles, channel tiles, batch. log_sum: (batch, rows), for the backward pass. A row without any pair gives 0.
template <class Score>
__global__ void __launch_bounds__(attention_threads, 2)
    attention_kernel(attention_geometry g, Score in, const float* values, float* out, float* log_sum) {
  RSSEG_DYN_SHARED(attention_shared, m);
  const int entry = int(blockIdx.z), row0 = int(blockIdx.x) * attention_tile, channel0 = int(blockIdx.y) * attention_tile,
            ty = int(threadIdx.x) / 16 * 4;
  float acc[4][4] = {}, top[4], sum[4];
  RSSEG_UNROLL
  for (int i = 0; i < 4; ++i) top[i] = -INFINITY, sum[i] = 0;
  for (int column0 = 0; column0 < g.columns; column0 += attention_tile) {
    float s[4][4];
    tile_scores(*m, g, in, entry, row0, column0, s);
    RSSEG_UNROLL
    for (int i = 0; i < 4; ++i) {
      const float here = row_max16(fmaxf(fmaxf(s[i][0], s[i][1]), fmaxf(s[i][2], s[i][3]))), next = fmaxf(top[i], here);
      const float old = next == -INFINITY ? 0.0f : expf(top[i] - next);
      float part = 0;
      RSSEG_UNROLL
      for (int j = 0; j < 4; ++j) {
        s[i][j] = next == -INFINITY ? 0.0f : expf(s[i][j] - next);
        part += s[i][j], acc[i][j] *= old;
      }
      sum[i] = sum[i] * old + row_sum16(part), top[i] = next;
    }
    put_scores(*m, s);
    __syncthreads();
    multiply_score<false>(*m, values + std::int64_t(entry) * g.columns * g.channels, column0, g.columns, g.channels, channel0, acc);
  }
  float inverse[4];
  RSSEG_UNROLL
  for (int i = 0; i < 4; ++i) {
    inverse[i] = sum[i] > 0 ? 1.0f / sum[i] : 0.0f;
    if (log_sum && blockIdx.y == 0 && threadIdx.x % 16 == 0 && row0 + ty + i < g.rows)
      log_sum[std::int64_t(entry) * g.rows + row0 + ty + i] = sum[i] > 0 ? top[i] + logf(sum[i]) : INFINITY;
  }
  store_tile(out + std::int64_t(entry) * g.rows * g.channels, acc, row0, g.rows, channel0, g.channels, inverse);
}

/// delta[row] = dout . out: one warp per row.
RSSEG_KERNEL void attention_delta_kernel(const float* out, const float* dout, float* delta, int rows, int channels) {
  const int row = int(blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32), lane = int(threadIdx.x) & 31;
  if (row >= rows) return;
  float sum = 0;
  for (int c = lane; c < channels; c += 32) sum += out[std::int64_t(row) * channels + c] * dout[std::int64_t(row) * channels + c];
  sum = warp_sum(sum);
  if (lane == 0) delta[row] = sum;
}
/// Probabilities of a tile (from scores and stored log sums), and unless only those are wanted the gradient of the scores: p * (dout . v - delta).
template <bool Gradient, class Score>
__device__ __forceinline__ void tile_gradients(attention_shared& m, const attention_geometry& g, const Score& in, const float* values,
                                               const float* dout, const float* log_sum, const float* delta, int entry, int row0, int column0,
                                               float (&s)[4][4]) {
  tile_scores(m, g, in, entry, row0, column0, s);
  float d[4][4] = {};
  if constexpr (Gradient)
    multiply_tokens(m, dout + std::int64_t(entry) * g.rows * g.channels, row0, g.rows, values + std::int64_t(entry) * g.columns * g.channels, column0,
                    g.columns, g.channels, d);
  const int ty = int(threadIdx.x) / 16 * 4;
  RSSEG_UNROLL
  for (int i = 0; i < 4; ++i) {
    const bool row = row0 + ty + i < g.rows;
    const float l = row ? log_sum[std::int64_t(entry) * g.rows + row0 + ty + i] : INFINITY;
    const float k = Gradient && row ? delta[std::int64_t(entry) * g.rows + row0 + ty + i] : 0.0f;
    RSSEG_UNROLL
    for (int j = 0; j < 4; ++j) {
      const float p = expf(s[i][j] - l);
      if constexpr (std::is_same_v<Score, dot_score>)
        s[i][j] = Gradient ? p * (d[i][j] - k) * g.scale : p;
      else  // LeakyReLU keeps the sign, so the score itself tells which branch it took
        s[i][j] = Gradient ? p * (d[i][j] - k) * (s[i][j] > 0 ? 1.0f : g.slope) : p;
    }
  }
}
/// dvalues (Gradient false: P^T dout) or dk (Gradient true: dS^T q). Grid: column tiles, channel tiles, batch.
template <bool Gradient, class Score>
__global__ void __launch_bounds__(attention_threads, 2)
    attention_columns_kernel(attention_geometry g, Score in, const float* values, const float* dout, const float* log_sum, const float* delta,
                             const float* right, int channels, float* result) {
  RSSEG_DYN_SHARED(attention_shared, m);
  const int entry = int(blockIdx.z), column0 = int(blockIdx.x) * attention_tile, channel0 = int(blockIdx.y) * attention_tile;
  float acc[4][4] = {};
  for (int row0 = 0; row0 < g.rows; row0 += attention_tile) {
    float s[4][4];
    tile_gradients<Gradient>(*m, g, in, values, dout, log_sum, delta, entry, row0, column0, s);
    put_scores(*m, s);
    __syncthreads();
    multiply_score<true>(*m, right + std::int64_t(entry) * g.rows * channels, row0, g.rows, channels, channel0, acc);
  }
  const float one[4] = {1, 1, 1, 1};
  store_tile(result + std::int64_t(entry) * g.columns * channels, acc, column0, g.columns, channel0, channels, one);
}
/// dq = dS k. Grid: row tiles, channel tiles, batch.
RSSEG_KERNEL void __launch_bounds__(attention_threads, 2)
    attention_rows_kernel(attention_geometry g, dot_score in, const float* values, const float* dout, const float* log_sum, const float* delta,
                          float* dq) {
  RSSEG_DYN_SHARED(attention_shared, m);
  const int entry = int(blockIdx.z), row0 = int(blockIdx.x) * attention_tile, channel0 = int(blockIdx.y) * attention_tile;
  float acc[4][4] = {};
  for (int column0 = 0; column0 < g.columns; column0 += attention_tile) {
    float s[4][4];
    tile_gradients<true>(*m, g, in, values, dout, log_sum, delta, entry, row0, column0, s);
    put_scores(*m, s);
    __syncthreads();
    multiply_score<false>(*m, in.k + std::int64_t(entry) * g.columns * g.key_channels, column0, g.columns, g.key_channels, channel0, acc);
  }
  const float one[4] = {1, 1, 1, 1};
  store_tile(dq + std::int64_t(entry) * g.rows * g.key_channels, acc, row0, g.rows, channel0, g.key_channels, one);
}
/// Additive: ds = row sums of dS, dt = column sums. Grid: row (column) tiles, 1, batch.
template <bool Rows>
__global__ void __launch_bounds__(attention_threads, 2)
    attention_sums_kernel(attention_geometry g, additive_score in, const float* values, const float* dout, const float* log_sum, const float* delta,
                          float* result) {
  RSSEG_DYN_SHARED(attention_shared, m);
  const int entry = int(blockIdx.z), fixed = int(blockIdx.x) * attention_tile, extent = Rows ? g.rows : g.columns;
  float sum = 0;
  for (int other = 0; other < (Rows ? g.columns : g.rows); other += attention_tile) {
    float s[4][4];
    tile_gradients<true>(*m, g, in, values, dout, log_sum, delta, entry, Rows ? fixed : other, Rows ? other : fixed, s);
    put_scores(*m, s);
    __syncthreads();
    if (threadIdx.x < attention_tile)
      for (int k = 0; k < attention_tile; ++k)
        sum += Rows ? m->score[threadIdx.x * attention_stride + k] : m->score[k * attention_stride + threadIdx.x];
    __syncthreads();
  }
  if (threadIdx.x < attention_tile && fixed + int(threadIdx.x) < extent) result[std::int64_t(entry) * extent + fixed + threadIdx.x] = sum;
}

inline dim3 attention_grid(int tokens, int channels, int batch) {
  return dim3(unsigned(ceil_div(tokens, attention_tile)), unsigned(ceil_div(channels, attention_tile)), unsigned(batch));
}
/// log_sum: batch x rows floats, kept for the backward pass; null in inference.
template <class Score>
inline void attention_forward(stream_t s, const attention_geometry& g, const Score& in, const float* values, float* out, float* log_sum) {
  kernel_launch({"attention", attention_grid(g.rows, g.channels, g.batch), attention_threads, sizeof(attention_shared), s}, attention_kernel<Score>,
                g, in, values, out, log_sum);
}
/// Floats of workspace of the backward passes.
inline std::size_t attention_workspace(const attention_geometry& g) { return std::size_t(g.batch) * std::size_t(g.rows); }
template <class Score>
inline void attention_values_gradient(stream_t s, const attention_geometry& g, const Score& in, const float* values, const float* out,
                                      const float* dout, const float* log_sum, float* dvalues, float* delta) {
  kernel_launch({"attention delta", unsigned(ceil_div(g.batch * g.rows, 8)), 256, 0, s}, attention_delta_kernel, out, dout, delta, g.batch * g.rows,
                g.channels);
  kernel_launch({"attention dvalues", attention_grid(g.columns, g.channels, g.batch), attention_threads, sizeof(attention_shared), s},
                attention_columns_kernel<false, Score>, g, in, values, dout, log_sum, static_cast<const float*>(delta), dout, g.channels, dvalues);
}
/// Self attention: dq, dk, dvalues from dout.
inline void attention_backward(stream_t s, const attention_geometry& g, const dot_score& in, const float* values, const float* out, const float* dout,
                               const float* log_sum, float* dq, float* dk, float* dvalues, float* delta) {
  attention_values_gradient(s, g, in, values, out, dout, log_sum, dvalues, delta);
  kernel_launch({"attention dq", attention_grid(g.rows, g.key_channels, g.batch), attention_threads, sizeof(attention_shared), s},
                attention_rows_kernel, g, in, values, dout, log_sum, static_cast<const float*>(delta), dq);
  kernel_launch({"attention dk", attention_grid(g.columns, g.key_channels, g.batch), attention_threads, sizeof(attention_shared), s},
                attention_columns_kernel<true, dot_score>, g, in, values, dout, log_sum, static_cast<const float*>(delta), in.q, g.key_channels, dk);
}
/// Graph attention: ds, dt, dvalues from dout.
inline void attention_backward(stream_t s, const attention_geometry& g, const additive_score& in, const float* values, const float* out,
                               const float* dout, const float* log_sum, float* ds, float* dt, float* dvalues, float* delta) {
  attention_values_gradient(s, g, in, values, out, dout, log_sum, dvalues, delta);
  kernel_launch({"attention ds", attention_grid(g.rows, 1, g.batch), attention_threads, sizeof(attention_shared), s}, attention_sums_kernel<true>, g,
                in, values, dout, log_sum, static_cast<const float*>(delta), ds);
  kernel_launch({"attention dt", attention_grid(g.columns, 1, g.batch), attention_threads, sizeof(attention_shared), s}, attention_sums_kernel<false>,
                g, in, values, dout, log_sum, static_cast<const float*>(delta), dt);
}

}  // namespace RSSEG_BACKEND_NS
}  // namespace rsseg::cuda
