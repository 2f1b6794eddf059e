// SPDX-License-Identifier: MIT
// Batched matrix products in fp32 for what is no convolution: linear attention (Katharopoulos et al., ICML 2020; Shen et al., "Efficient Attention",
// WACV 2021: context = softmax(K)^T V, output = softmax(Q) context), graph products, affinity maps. Tile 64 x 64 x 16, 4 x 4 results per thread.
// Floor: 2 * rows * columns * depth / 67 TFLOP/s on an H100, or three passes over memory where the matrices are thin.
#pragma once
#include "common.cuh"

namespace rsseg::cuda {

/// c = alpha * op(a) * op(b) + beta * c, for each of `batch` matrices. Row-major; a transposed operand is stored as (depth, rows) or (columns,
/// depth).
struct matmul_shape {
  int rows = 1, columns = 1, depth = 1, batch = 1;
  bool transpose_a = false, transpose_b = false;
  int stride_a = 0, stride_b = 0, stride_c = 0;        ///< between stored rows; 0: packed
  std::int64_t batch_a = 0, batch_b = 0, batch_c = 0;  ///< between batch entries
  float alpha = 1, beta = 0;
};

inline namespace RSSEG_BACKEND_NS {

RSSEG_KERNEL void __launch_bounds__(256) matmul_kernel(matmul_shape p, const float* a, const float* b, float* c) {
  constexpr int tile = 64, slice = 16, stride = tile + 4;
  RSSEG_DYN_SHARED(float, shared);  // [2][slice][stride]
  float *sa = shared, *sb = shared + slice * stride;
  const int t = int(threadIdx.x), ty = t / 16 * 4, tx = t % 16 * 4, row0 = int(blockIdx.x) * tile, column0 = int(blockIdx.y) * tile;
  a += blockIdx.z * p.batch_a, b += blockIdx.z * p.batch_b, c += blockIdx.z * p.batch_c;
  float acc[4][4] = {};
  for (int k0 = 0; k0 < p.depth; k0 += slice) {
    for (int i = t; i < tile * slice; i += 256) {  // neighbouring threads follow the stored direction
      const int k = p.transpose_a ? i / tile : i % slice, r = p.transpose_a ? i % tile : i / slice;
      const bool in = k0 + k < p.depth && row0 + r < p.rows;
      sa[k * stride + r] = in ? a[p.transpose_a ? std::int64_t(k0 + k) * p.stride_a + row0 + r : std::int64_t(row0 + r) * p.stride_a + k0 + k] : 0.0f;
    }
    for (int i = t; i < tile * slice; i += 256) {
      const int k = p.transpose_b ? i % slice : i / tile, j = p.transpose_b ? i / slice : i % tile;
      const bool in = k0 + k < p.depth && column0 + j < p.columns;
      sb[k * stride + j] =
          in ? b[p.transpose_b ? std::int64_t(column0 + j) * p.stride_b + k0 + k : std::int64_t(k0 + k) * p.stride_b + column0 + j] : 0.0f;
    }
    __syncthreads();
    RSSEG_UNROLL
    for (int k = 0; k < slice; ++k) {
      const pack<float, 4> pa = load_pack<4>(sa + k * stride + ty), pb = load_pack<4>(sb + k * stride + tx);
      RSSEG_UNROLL
      for (int i = 0; i < 4; ++i) {
        RSSEG_UNROLL
        for (int j = 0; j < 4; ++j) acc[i][j] += pa.v[i] * pb.v[j];
      }
    }
    __syncthreads();
  }
  RSSEG_UNROLL
  for (int i = 0; i < 4; ++i) {
    RSSEG_UNROLL
    for (int j = 0; j < 4; ++j) {
      if (row0 + ty + i >= p.rows || column0 + tx + j >= p.columns) continue;
      float* out = c + std::int64_t(row0 + ty + i) * p.stride_c + column0 + tx + j;
      *out = p.alpha * acc[i][j] + (p.beta != 0 ? p.beta * *out : 0.0f);
    }
  }
}
inline void matmul(stream_t s, matmul_shape p, const float* a, const float* b, float* c) {
  if (p.stride_a == 0) p.stride_a = p.transpose_a ? p.rows : p.depth;
  if (p.stride_b == 0) p.stride_b = p.transpose_b ? p.depth : p.columns;
  if (p.stride_c == 0) p.stride_c = p.columns;
  kernel_launch(
      {"matmul", dim3(unsigned(ceil_div(p.rows, 64)), unsigned(ceil_div(p.columns, 64)), unsigned(p.batch)), 256, 2 * 16 * 68 * sizeof(float), s},
      matmul_kernel, p, a, b, c);
}
/// Linear attention with features q (n, rows, d), k (n, columns, d) already made positive or normalised: out = q (k^T v). context: n x d x channels.
inline void linear_attention(stream_t s, int n, int rows, int columns, int d, int channels, const float* q, const float* k, const float* v,
                             float* context, float* out) {
  matmul(s, {d, channels, columns, n, true, false, 0, 0, 0, std::int64_t(columns) * d, std::int64_t(columns) * channels, std::int64_t(d) * channels},
         k, v, context);
  matmul(s, {rows, channels, d, n, false, false, 0, 0, 0, std::int64_t(rows) * d, std::int64_t(d) * channels, std::int64_t(rows) * channels}, q,
         context, out);
}

}  // namespace RSSEG_BACKEND_NS
}  // namespace rsseg::cuda
