// SPDX-License-Identifier: MIT
// Gaussian filtering in D dimensions on the permutohedral lattice (Adams, Baek and Davis, Eurographics 2010): the message passing of dense CRFs.
// Building: every point brings its D + 1 corners; a corner finds its place in an open-addressed table by compare-and-swap. Who comes first there
// depends on timing, so a lattice point is named by its smallest contribution, and numbered by a prefix sum over those: the same numbers in every
// run, and the CPU's. Filtering: the splat is a gather over contributions sorted by lattice point (no float atomics), then D + 1 blurs, then the
// slice. Floor (H100, D = 5, 512 x 512 points, 21 channels, all points apart): 6 splats, 6 blurs and 6 slices of 88 MB each way, about 0.5 ms per
// filtering.
#pragma once
#include "sort.cuh"

namespace rsseg::cuda {

/// Sizes of a lattice over `points` points: contributions, and slots of the table (a power of two, at most half full).
template <int D>
struct lattice_sizes {
  std::int64_t points, contributions, slots;
  explicit lattice_sizes(std::int64_t count) : points(count), contributions(count * (D + 1)), slots(1024) {
    if (count < 1 || contributions * (D + 1) > 2147483647)
      throw usage_error("cuda: permutohedral lattice: " + std::to_string(count) + " points are none or too many in " + std::to_string(D) +
                        " dimensions; filter the image in tiles");
    while (slots < 2 * contributions) slots *= 2;
  }
};
/// Where the lattice lies in device memory. `info`: number of lattice points, and how many points had features that are not finite or too large.
template <int D>
struct lattice {
  lattice_sizes<D> sizes;
  int *info, *corner, *start, *source, *near, *keys, *slot_of, *table, *smallest, *id, *scratch;
  float* weight;
  static std::size_t workspace(const lattice_sizes<D>& z) {
    const std::size_t t = std::size_t(z.contributions);
    return 16 + t * (2 * (D + 1) + D + 7) + 1 + 2 * std::size_t(z.slots) + 2 * t + 16 * (t / 2048 + 1);
  }
  /// memory: workspace(z) values of 4 bytes.
  lattice(const lattice_sizes<D>& z, int* memory) : sizes(z) {
    const std::int64_t t = z.contributions;
    info = memory, memory += 16;
    corner = memory, memory += t;
    start = memory, memory += t + 1;
    source = memory, memory += t;
    near = memory, memory += t * (D + 1) * 2;
    keys = memory, memory += t * D;
    weight = reinterpret_cast<float*>(memory), memory += t;
    slot_of = memory, memory += t;
    id = memory, memory += t;
    scratch = memory, memory += 3 * t + 16 * (t / 2048 + 1);  // of sorting; its first t values double as flags and keys
    table = memory, memory += z.slots;
    smallest = memory;
  }
};

inline namespace RSSEG_BACKEND_NS {

template <int D>
__device__ __forceinline__ int lattice_slot(const int* key, std::int64_t slots) {
  std::uint64_t h = 0;
  RSSEG_UNROLL
  for (int i = 0; i < D; ++i) h = (h ^ std::uint32_t(key[i])) * 0x9E3779B97F4A7C15ull, h ^= h >> 29;
  return int(h & std::uint64_t(slots - 1));
}
template <int D>
__device__ __forceinline__ bool same_key(const int* a, const int* b) {
  bool same = true;
  RSSEG_UNROLL
  for (int i = 0; i < D; ++i) same = same && a[i] == b[i];
  return same;
}

RSSEG_KERNEL void lattice_clear_kernel(int* table, int* smallest, std::int64_t slots, int* info) {
  for (std::int64_t i = grid_start(); i < slots; i += grid_stride()) table[i] = 0, smallest[i] = 2147483647;
  if (grid_start() < 2) info[grid_start()] = 0;
}
/// The simplex around each feature: D + 1 keys of D coordinates, barycentric weights. In double, so that it is the CPU's simplex.
template <int D>
__global__ void lattice_simplex_kernel(const float* features, std::int64_t points, int* keys, float* weight, int* info) {
  double scale[D];
  RSSEG_UNROLL
  for (int i = 0; i < D; ++i) scale[i] = sqrt(2.0 / 3.0) * (D + 1) / sqrt(double(i + 1) * (i + 2));
  for (std::int64_t p = grid_start(); p < points; p += grid_stride()) {
    double e[D + 1], rem[D + 1], sum = 0, b[D + 2] = {};
    int rank[D + 1], excess = 0;
    bool valid = true;
    RSSEG_UNROLL
    for (int j = D; j > 0; --j) {
      const double c = double(features[p * D + j - 1]) * scale[j - 1];
      e[j] = sum - j * c;
      sum += c;
    }
    e[0] = sum;
    RSSEG_UNROLL
    for (int i = 0; i <= D; ++i) {
      if (!(fabs(e[i]) < 1e9)) valid = false, e[i] = 0;
      const double v = e[i] / (D + 1), up = ceil(v), down = floor(v), nearest = up - v < v - down ? up : down;
      rem[i] = nearest * (D + 1), excess += int(nearest), rank[i] = 0;
    }
    if (!valid) atomicAdd(&info[1], 1);
    RSSEG_UNROLL
    for (int i = 0; i < D; ++i) {
      RSSEG_UNROLL
      for (int j = i + 1; j <= D; ++j) {
        const bool before = e[i] - rem[i] < e[j] - rem[j];
        rank[i] += before, rank[j] += !before;
      }
    }
    RSSEG_UNROLL
    for (int i = 0; i <= D; ++i) {
      rank[i] += valid ? excess : 0;
      if (rank[i] < 0)
        rank[i] += D + 1, rem[i] += D + 1;
      else if (rank[i] > D)
        rank[i] -= D + 1, rem[i] -= D + 1;
    }
    RSSEG_UNROLL
    for (int i = 0; i <= D; ++i) {
      const double v = (e[i] - rem[i]) / (D + 1);
      RSSEG_UNROLL
      for (int k = 0; k <= D + 1; ++k) b[k] += (k == D - rank[i] ? v : 0) - (k == D + 1 - rank[i] ? v : 0);  // no indexing by rank: registers
    }
    b[0] += 1 + b[D + 1];
    RSSEG_UNROLL
    for (int r = 0; r <= D; ++r) {
      weight[p * (D + 1) + r] = valid ? float(b[r]) : 0.0f;
      RSSEG_UNROLL
      for (int i = 0; i < D; ++i) keys[(p * (D + 1) + r) * D + i] = valid ? int(rem[i]) + (rank[i] <= D - r ? r : r - (D + 1)) : 0;
    }
  }
}
/// Every contribution finds its slot: an empty one that it takes, or the one of an equal key.
template <int D>
__global__ void lattice_insert_kernel(const int* keys, std::int64_t contributions, int* table, int* smallest, std::int64_t slots, int* slot_of) {
  for (std::int64_t i = grid_start(); i < contributions; i += grid_stride()) {
    int at = lattice_slot<D>(keys + i * D, slots);
    for (;; at = int((at + 1) & (slots - 1))) {
      const int owner = atomicCAS(&table[at], 0, int(i) + 1);
      if (owner == 0 || same_key<D>(keys + std::int64_t(owner - 1) * D, keys + i * D)) break;
    }
    slot_of[i] = at;
    atomicMin(&smallest[at], int(i));
  }
}
RSSEG_KERNEL void lattice_flags_kernel(const int* slot_of, const int* smallest, int* flag, std::int64_t contributions) {
  for (std::int64_t i = grid_start(); i < contributions; i += grid_stride()) flag[i] = smallest[slot_of[i]] == int(i);
}
/// Number of each contribution's lattice point, and of its two neighbours along every axis (0: none; else number + 1).
template <int D>
__global__ void lattice_numbers_kernel(lattice<D> l, std::uint32_t* sorted) {
  const std::int64_t total = l.sizes.contributions, slots = l.sizes.slots;
  for (std::int64_t i = grid_start(); i < total; i += grid_stride()) {
    const int first = l.smallest[l.slot_of[i]], m = l.id[first];
    l.corner[i] = m, l.source[i] = int(i), sorted[i] = std::uint32_t(m);
    if (first != int(i)) continue;
    for (int axis = 0; axis <= D; ++axis)
      for (int side = 0; side < 2; ++side) {
        int key[D], found = 0;
        RSSEG_UNROLL
        for (int k = 0; k < D; ++k) key[k] = l.keys[i * D + k] + (k == axis ? (side ? -D : D) : (side ? 1 : -1));
        for (int at = lattice_slot<D>(key, slots);; at = int((at + 1) & (slots - 1))) {
          const int owner = l.table[at];
          if (owner == 0) break;
          if (same_key<D>(l.keys + std::int64_t(owner - 1) * D, key)) {
            found = l.id[l.smallest[at]] + 1;
            break;
          }
        }
        l.near[(axis * total + m) * 2 + side] = found;
      }
  }
}
RSSEG_KERNEL void lattice_starts_kernel(const std::uint32_t* sorted, std::int64_t contributions, int* start) {
  for (std::int64_t i = grid_start(); i < contributions; i += grid_stride()) {
    if (i == 0 || sorted[i] != sorted[i - 1]) start[sorted[i]] = int(i);
    if (i == contributions - 1) start[sorted[i] + 1] = int(contributions);
  }
}
/// features: (points, D) in units of the Gaussian's standard deviation. Afterwards l.info[0] is the number of lattice points; l.info[1] must be 0.
template <int D>
inline void build_lattice(stream_t s, const lattice<D>& l, const float* features) {
  const std::int64_t t = l.sizes.contributions;
  auto* sorted = reinterpret_cast<std::uint32_t*>(l.scratch);
  kernel_launch({"lattice clear", grid_for(l.sizes.slots, 256), 256, 0, s}, lattice_clear_kernel, l.table, l.smallest, l.sizes.slots, l.info);
  kernel_launch({"lattice simplex", grid_for(l.sizes.points, 128), 128, 0, s}, lattice_simplex_kernel<D>, features, l.sizes.points, l.keys, l.weight,
                l.info);
  kernel_launch({"lattice insert", grid_for(t, 256), 256, 0, s}, lattice_insert_kernel<D>, l.keys, t, l.table, l.smallest, l.sizes.slots, l.slot_of);
  kernel_launch({"lattice flags", grid_for(t, 256), 256, 0, s}, lattice_flags_kernel, l.slot_of, l.smallest, l.scratch, t);
  prefix_sums(s, l.scratch, l.id, t, l.scratch + t, l.info);
  kernel_launch({"lattice numbers", grid_for(t, 128), 128, 0, s}, lattice_numbers_kernel<D>, l, sorted);
  sort_pairs(s, sorted, l.source, t, l.scratch + t);
  kernel_launch({"lattice starts", grid_for(t, 256), 256, 0, s}, lattice_starts_kernel, sorted, t, l.start);
}

/// One warp per lattice point; row 0 stands for absent neighbours.
template <int D>
__global__ void lattice_splat_kernel(lattice<D> l, const float* in, float* rows, int channels) {
  const int lane = int(threadIdx.x) & 31, count = l.info[0];
  const std::int64_t warps = std::int64_t(gridDim.x) * (blockDim.x / 32), warp = std::int64_t(blockIdx.x) * (blockDim.x / 32) + threadIdx.x / 32;
  if (warp == 0)
    for (int c = lane; c < channels; c += 32) rows[c] = 0;
  for (std::int64_t m = warp; m < count; m += warps) {
    const int begin = l.start[m], end = l.start[m + 1];
    for (int c = 0; c < channels; ++c) {
      float sum = 0;
      for (int k = begin + lane; k < end; k += 32) {
        const int from = l.source[k];
        sum += l.weight[from] * in[std::int64_t(from / (D + 1)) * channels + c];
      }
      sum = warp_sum(sum);
      if (lane == 0) rows[(m + 1) * channels + c] = sum;
    }
  }
}
template <int D>
__global__ void lattice_blur_kernel(lattice<D> l, int axis, const float* from, float* to, int channels) {
  const std::int64_t size = std::int64_t(l.info[0]) * channels;
  for (std::int64_t i = grid_start(); i < size + channels; i += grid_stride()) {
    if (i < channels) {
      to[i] = 0;
      continue;
    }
    const std::int64_t m = i / channels - 1;
    const int c = int(i % channels);
    const int* near = l.near + (axis * l.sizes.contributions + m) * 2;
    to[i] = from[i] + 0.5f * (from[std::int64_t(near[0]) * channels + c] + from[std::int64_t(near[1]) * channels + c]);
  }
}
template <int D>
__global__ void lattice_slice_kernel(lattice<D> l, const float* rows, float* out, int channels, float alpha) {
  for (std::int64_t i = grid_start(); i < l.sizes.points * channels; i += grid_stride()) {
    const std::int64_t p = i / channels;
    float sum = 0;
    RSSEG_UNROLL
    for (int r = 0; r <= D; ++r) {
      const std::int64_t at = p * (D + 1) + r;
      sum += l.weight[at] * alpha * rows[(std::int64_t(l.corner[at]) + 1) * channels + i % channels];
    }
    out[i] = sum;
  }
}
template <int D>
inline std::size_t lattice_filter_workspace(const lattice_sizes<D>& z, int channels) {
  return 2 * std::size_t(z.contributions + 1) * std::size_t(channels);
}
/// out = slice(blur(splat(in))) / (1 + 2^-D), both (points, channels); in may be out. transpose: the blurs in reverse, which is the exact transpose.
template <int D>
inline void lattice_filter(stream_t s, const lattice<D>& l, const float* in, float* out, int channels, float* workspace, bool transpose = false) {
  float *from = workspace, *to = workspace + (l.sizes.contributions + 1) * channels;
  kernel_launch({"lattice splat", grid_for(l.sizes.contributions, 8), 256, 0, s}, lattice_splat_kernel<D>, l, in, from, channels);
  for (int pass = 0; pass <= D; ++pass) {
    kernel_launch({"lattice blur", grid_for(l.sizes.contributions * channels, 256), 256, 0, s}, lattice_blur_kernel<D>, l,
                  transpose ? D - pass : pass, static_cast<const float*>(from), to, channels);
    std::swap(from, to);
  }
  kernel_launch({"lattice slice", grid_for(l.sizes.points * channels, 256), 256, 0, s}, lattice_slice_kernel<D>, l, static_cast<const float*>(from),
                out, channels, 1.0f / (1.0f + 1.0f / float(1 << D)));
}

}  // namespace RSSEG_BACKEND_NS
}  // namespace rsseg::cuda
