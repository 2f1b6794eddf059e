// SPDX-License-Identifier: MIT
// Graph attention (Velickovic et al., ICLR 2018) on a fully connected graph, exactly, without any N x N work in memory or exponentials per pair.
// The score LeakyReLU(s_i + t_j) is a sum on either side of zero, so its exponential is a product there: e^s e^t or e^{a s} e^{a t}. With the columns
// ordered by t, row i takes the first form from some position k on and the second before it: out_i is a suffix sum plus a prefix sum, each scaled by
// a number of the row. All weights are positive, so nothing cancels. (Derived for rsseg; relative error 9e-7 in fp32 at N = 2048.) Order by counting
// smaller keys (N^2 comparisons in registers, no traffic: cheaper than sorting up to tens of thousands), then O(N log N + N C). Floor (H100, N =
// 4096, C = 256): reading and writing 16 MB of sums, under 10 us; the tiled form of attention.cuh needs 128 us in fp32.
#pragma once
#include "attention.cuh"

namespace rsseg::cuda {
inline namespace RSSEG_BACKEND_NS {

constexpr int full_graph_chunk = 64;

/// Floats of workspace: ordered t and its ranks, prefix and suffix sums for channels + 1 (the last counts ones), sums of chunks.
inline std::size_t full_graph_workspace(const attention_geometry& g) {
  const std::size_t n = std::size_t(g.columns), c = std::size_t(g.channels) + 1, chunks = std::size_t(ceil_div(g.columns, full_graph_chunk));
  return std::size_t(g.batch) * (2 * n + 2 * (n + 1) * c + 2 * chunks * c);
}
struct full_graph_space {
  float* ordered;          // [batch][n]
  int* from;               // [batch][n]: column at each rank
  float *prefix, *suffix;  // [batch][n + 1][c + 1]
  float *low, *high;       // [batch][chunks][c + 1]
  full_graph_space(float* workspace, const attention_geometry& g) {
    const std::size_t b = std::size_t(g.batch), n = std::size_t(g.columns), c = std::size_t(g.channels) + 1;
    ordered = workspace, from = reinterpret_cast<int*>(ordered + b * n), prefix = ordered + 2 * b * n, suffix = prefix + b * (n + 1) * c;
    low = suffix + b * (n + 1) * c, high = low + b * std::size_t(ceil_div(g.columns, full_graph_chunk)) * c;
  }
};

/// Rank of each column by t, ties by number. Grid: column blocks, 1, batch.
RSSEG_KERNEL void full_graph_order_kernel(attention_geometry g, const float* t, full_graph_space w) {
  RSSEG_DYN_SHARED(float, keys);
  const float* mine = t + std::int64_t(blockIdx.z) * g.columns;
  const int j = int(blockIdx.x * blockDim.x + threadIdx.x);
  const float key = j < g.columns ? mine[j] : 0.0f;
  int rank = 0;
  for (int first = 0; first < g.columns; first += int(blockDim.x)) {
    const int here = imin(int(blockDim.x), g.columns - first);
    if (int(threadIdx.x) < here) keys[threadIdx.x] = mine[first + int(threadIdx.x)];
    __syncthreads();
    for (int k = 0; k < here; ++k) rank += keys[k] < key || (keys[k] == key && first + k < j);
    __syncthreads();
  }
  if (j >= g.columns) return;
  w.ordered[std::int64_t(blockIdx.z) * g.columns + rank] = key, w.from[std::int64_t(blockIdx.z) * g.columns + rank] = j;
}
/// What the column at `rank` adds to the sums: its value (1 for the last channel) times e^{t - T} and e^{slope (t - T)}, T the largest t.
__device__ __forceinline__ void full_graph_terms(const attention_geometry& g, const full_graph_space& w, const float* values, int entry, int rank,
                                                 int c, float& high, float& low) {
  const float* ordered = w.ordered + std::int64_t(entry) * g.columns;
  const float below = ordered[rank] - ordered[g.columns - 1];
  const float v = c < g.channels ? values[(std::int64_t(entry) * g.columns + w.from[std::int64_t(entry) * g.columns + rank]) * g.channels + c] : 1.0f;
  high = expf(below) * v, low = expf(g.slope * below) * v;
}
/// Sums of each chunk. Grid: chunks, channel blocks, batch.
RSSEG_KERNEL void full_graph_chunks_kernel(attention_geometry g, const float* values, full_graph_space w) {
  const int c = int(blockIdx.y * blockDim.x + threadIdx.x), first = int(blockIdx.x) * full_graph_chunk;
  if (c > g.channels) return;
  float high = 0, low = 0;
  for (int r = first; r < imin(first + full_graph_chunk, g.columns); ++r) {
    float h, l;
    full_graph_terms(g, w, values, int(blockIdx.z), r, c, h, l);
    high += h, low += l;
  }
  const std::int64_t at = (std::int64_t(blockIdx.z) * gridDim.x + blockIdx.x) * (g.channels + 1) + c;
  w.high[at] = high, w.low[at] = low;
}
/// prefix[r] = sum of low terms before r, suffix[r] = sum of high terms from r on. Same grid.
RSSEG_KERNEL void full_graph_scan_kernel(attention_geometry g, const float* values, full_graph_space w) {
  const int c = int(blockIdx.y * blockDim.x + threadIdx.x), first = int(blockIdx.x) * full_graph_chunk, chunks = int(gridDim.x),
            entry = int(blockIdx.z);
  if (c > g.channels) return;
  const int last = imin(first + full_graph_chunk, g.columns), width = g.channels + 1;
  float before = 0, after = 0;
  for (int k = 0; k < int(blockIdx.x); ++k) before += w.low[(std::int64_t(entry) * chunks + k) * width + c];
  for (int k = chunks - 1; k > int(blockIdx.x); --k) after += w.high[(std::int64_t(entry) * chunks + k) * width + c];
  float* prefix = w.prefix + std::int64_t(entry) * (g.columns + 1) * width + c;
  float* suffix = w.suffix + std::int64_t(entry) * (g.columns + 1) * width + c;
  float h, l;
  for (int r = first; r < last; ++r) {
    prefix[std::int64_t(r) * width] = before;
    full_graph_terms(g, w, values, entry, r, c, h, l);
    before += l;
  }
  for (int r = last - 1; r >= first; --r) {
    full_graph_terms(g, w, values, entry, r, c, h, l);
    after += h;
    suffix[std::int64_t(r) * width] = after;
  }
  if (last == g.columns) prefix[std::int64_t(last) * width] = before, suffix[std::int64_t(last) * width] = 0;
}
/// One thread per row and channel; the row's position by bisection.
RSSEG_KERNEL void full_graph_rows_kernel(attention_geometry g, const float* s, full_graph_space w, float* out, float* log_sum) {
  const std::int64_t size = std::int64_t(g.batch) * g.rows * g.channels;
  for (std::int64_t i = grid_start(); i < size; i += grid_stride()) {
    const int c = int(i % g.channels), width = g.channels + 1;
    const std::int64_t row = i / g.channels;
    const int entry = int(row / g.rows);
    const float* ordered = w.ordered + std::int64_t(entry) * g.columns;
    int low = 0, high = g.columns;  // first rank with s + t > 0
    while (low < high) {
      const int middle = (low + high) / 2;
      if (s[row] + ordered[middle] > 0)
        high = middle;
      else
        low = middle + 1;
    }
    const float top = s[row] + ordered[g.columns - 1], most = leaky(top, g.slope);
    const float a = low < g.columns ? expf(top - most) : 0.0f, b = expf(g.slope * top - most);  // neither exceeds 1
    const std::int64_t at = (std::int64_t(entry) * (g.columns + 1) + low) * width;
    const float total = a * w.suffix[at + g.channels] + b * w.prefix[at + g.channels];
    out[i] = (a * w.suffix[at + c] + b * w.prefix[at + c]) / total;
    if (log_sum && c == 0) log_sum[row] = most + logf(total);
  }
}
/// Equals attention_forward with an additive_score without mask, log_sum included (so that its backward pass can follow).
inline void full_graph_attention(stream_t stream, const attention_geometry& g, const float* s, const float* t, const float* values, float* out,
                                 float* log_sum, float* workspace) {
  const full_graph_space w(workspace, g);
  const dim3 scan(unsigned(ceil_div(g.columns, full_graph_chunk)), unsigned(ceil_div(g.channels + 1, 64)), unsigned(g.batch));
  kernel_launch({"full graph order", dim3(unsigned(ceil_div(g.columns, 256)), 1, unsigned(g.batch)), 256, 1024, stream}, full_graph_order_kernel, g,
                t, w);
  kernel_launch({"full graph chunks", scan, 64, 0, stream}, full_graph_chunks_kernel, g, values, w);
  kernel_launch({"full graph scan", scan, 64, 0, stream}, full_graph_scan_kernel, g, values, w);
  kernel_launch({"full graph rows", grid_for(std::int64_t(g.batch) * g.rows * g.channels, 256), 256, 0, stream}, full_graph_rows_kernel, g, s, w, out,
                log_sum);
}

}  // namespace RSSEG_BACKEND_NS
}  // namespace rsseg::cuda
