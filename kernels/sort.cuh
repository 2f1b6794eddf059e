// SPDX-License-Identifier: MIT
// A stable radix sort of (key, value) pairs, and prefix sums: what losses over sorted errors (Lovasz), hard example mining and the choice of the
// least certain pixels need. Least significant digit first, four bits at a time (Satish, Harris, Garland, IPDPS 2009): each block counts the digits
// of its tile, one scan over (digit, block) gives every block its places, and the block writes in order. Deterministic: no atomics. A stable sort by
// one key orders equal keys by their old place.
#pragma once
#include "common.cuh"

namespace rsseg::cuda {
inline namespace RSSEG_BACKEND_NS {

constexpr int sort_threads = 256, sort_items = 8, sort_tile = sort_threads * sort_items;

/// Unsigned keys in the order of floats.
RSSEG_HD inline std::uint32_t ascending_key(float v) {
  const std::uint32_t b = float_bits(v);
  return b & 0x80000000u ? ~b : b | 0x80000000u;
}
RSSEG_HD inline std::uint32_t descending_key(float v) { return ~ascending_key(v); }

// --- exclusive prefix sums of ints
RSSEG_KERNEL void scan_tiles_kernel(const int* x, int* sums, std::int64_t size) {
  RSSEG_DYN_SHARED(int, s);
  const int t = int(threadIdx.x);
  const std::int64_t first = std::int64_t(blockIdx.x) * sort_tile + std::int64_t(t) * sort_items;
  int sum = 0;
  for (int k = 0; k < sort_items; ++k)
    if (first + k < size) sum += x[first + k];
  s[t] = sum;
  for (int half = sort_threads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (t < half) s[t] += s[t + half];
  }
  if (t == 0) sums[blockIdx.x] = s[0];
}
/// One block: sums become their exclusive prefix sums; *total, unless null, the sum of all.
RSSEG_KERNEL void scan_sums_kernel(int* sums, std::int64_t count, int* total) {
  RSSEG_DYN_SHARED(int, s);
  const int t = int(threadIdx.x), threads = int(blockDim.x);
  const std::int64_t piece = (count + threads - 1) / threads, begin = t * piece, end = begin + piece < count ? begin + piece : count;
  int sum = 0;
  for (std::int64_t i = begin; i < end; ++i) sum += sums[i];
  s[t] = sum;
  __syncthreads();
  int before = 0;
  for (int i = 0; i < t; ++i) before += s[i];
  for (std::int64_t i = begin; i < end; ++i) {
    const int v = sums[i];
    sums[i] = before;
    before += v;
  }
  if (t == threads - 1 && total) *total = before;
}
RSSEG_KERNEL void scan_apply_kernel(const int* x, const int* sums, int* y, std::int64_t size) {
  RSSEG_DYN_SHARED(int, s);
  const int t = int(threadIdx.x);
  const std::int64_t first = std::int64_t(blockIdx.x) * sort_tile + std::int64_t(t) * sort_items;
  int v[sort_items], sum = 0;
  RSSEG_UNROLL
  for (int k = 0; k < sort_items; ++k) v[k] = first + k < size ? x[first + k] : 0, sum += v[k];
  s[t] = sum;
  __syncthreads();
  int before = sums[blockIdx.x];
  for (int i = 0; i < t; ++i) before += s[i];
  RSSEG_UNROLL
  for (int k = 0; k < sort_items; ++k) {
    if (first + k < size) y[first + k] = before;
    before += v[k];
  }
}
inline std::size_t scan_workspace(std::int64_t size) { return std::size_t(ceil_div(size, std::int64_t(sort_tile))); }
/// y[i] = x[0] + ... + x[i - 1]; y may be x. *total (device memory, may be null): the sum of all. workspace: scan_workspace ints.
inline void prefix_sums(stream_t stream, const int* x, int* y, std::int64_t size, int* workspace, int* total = nullptr) {
  const unsigned blocks = unsigned(ceil_div(size, std::int64_t(sort_tile)));
  kernel_launch({"prefix sums of tiles", blocks, sort_threads, sort_threads * 4, stream}, scan_tiles_kernel, x, workspace, size);
  kernel_launch({"prefix sums of sums", 1, sort_threads, sort_threads * 4, stream}, scan_sums_kernel, workspace, std::int64_t(blocks), total);
  kernel_launch({"prefix sums", blocks, sort_threads, sort_threads * 4, stream}, scan_apply_kernel, x, static_cast<const int*>(workspace), y, size);
}

// --- sort
/// Counts of (digit, thread) in shared memory become exclusive sums over the threads; returns nothing, totals[digit] the block's count.
__device__ __forceinline__ void count_digits(const std::uint32_t* keys, std::int64_t first, std::int64_t size, int shift, int* counts, int* totals) {
  const int t = int(threadIdx.x);
  RSSEG_UNROLL
  for (int d = 0; d < 16; ++d) counts[d * sort_threads + t] = 0;
  for (int k = 0; k < sort_items; ++k)
    if (first + k < size) ++counts[int(keys[first + k] >> shift & 15u) * sort_threads + t];
  __syncthreads();
  if (t < 16) {
    int sum = 0;
    for (int i = 0; i < sort_threads; ++i) {
      const int v = counts[t * sort_threads + i];
      counts[t * sort_threads + i] = sum;
      sum += v;
    }
    totals[t] = sum;
  }
  __syncthreads();
}
RSSEG_KERNEL void sort_count_kernel(const std::uint32_t* keys, std::int64_t size, int shift, int* table) {
  RSSEG_DYN_SHARED(int, s);  // counts [16][threads], totals [16]
  int* totals = s + 16 * sort_threads;
  count_digits(keys, std::int64_t(blockIdx.x) * sort_tile + std::int64_t(threadIdx.x) * sort_items, size, shift, s, totals);
  if (threadIdx.x < 16) table[threadIdx.x * gridDim.x + blockIdx.x] = totals[threadIdx.x];
}
RSSEG_KERNEL void sort_write_kernel(const std::uint32_t* keys, const int* values, std::uint32_t* out_keys, int* out_values, std::int64_t size,
                                    int shift, const int* table) {
  RSSEG_DYN_SHARED(int, s);
  const std::int64_t first = std::int64_t(blockIdx.x) * sort_tile + std::int64_t(threadIdx.x) * sort_items;
  count_digits(keys, first, size, shift, s, s + 16 * sort_threads);
  for (int k = 0; k < sort_items; ++k) {
    if (first + k >= size) break;
    const std::uint32_t key = keys[first + k];
    const int digit = int(key >> shift & 15u);
    const int to = table[digit * int(gridDim.x) + int(blockIdx.x)] + s[digit * sort_threads + int(threadIdx.x)]++;
    out_keys[to] = key, out_values[to] = values[first + k];
  }
}
/// Ints of workspace of sort_pairs.
inline std::size_t sort_workspace(std::int64_t size) { return 2 * std::size_t(size) + 16 * std::size_t(ceil_div(size, std::int64_t(sort_tile))); }
/// Sorts by ascending key, equal keys in their old order; at most 2^31 - 1 pairs.
inline void sort_pairs(stream_t stream, std::uint32_t* keys, int* values, std::int64_t size, int* workspace) {
  if (size <= 0) return;
  std::uint32_t* other_keys = reinterpret_cast<std::uint32_t*>(workspace);
  int *other_values = workspace + size, *table = other_values + size;
  const unsigned blocks = unsigned(ceil_div(size, std::int64_t(sort_tile)));
  const std::size_t shared = (16 * sort_threads + 16) * sizeof(int);
  for (int shift = 0; shift < 32; shift += 4) {  // eight passes: the result is where it started
    kernel_launch({"sort counts", blocks, sort_threads, shared, stream}, sort_count_kernel, static_cast<const std::uint32_t*>(keys), size, shift,
                  table);
    kernel_launch({"sort places", 1, sort_threads, sort_threads * 4, stream}, scan_sums_kernel, table, std::int64_t(16) * blocks, nullptr);
    kernel_launch({"sort", blocks, sort_threads, shared, stream}, sort_write_kernel, static_cast<const std::uint32_t*>(keys),
                  static_cast<const int*>(values), other_keys, other_values, size, shift, static_cast<const int*>(table));
    std::swap(keys, other_keys), std::swap(values, other_values);
  }
}

}  // namespace RSSEG_BACKEND_NS
}  // namespace rsseg::cuda
