// SPDX-License-Identifier: MIT
// What the CUDA entry of one graph node is called with: the counterpart of cpu/call.hpp. An entry launches kernels on a stream; it never waits
// and reads nothing of the device, so that a whole pass can be captured as a CUDA graph.
//   T: how maps lie in memory (float, bf16, f16). Statistics, gradients of parameters, losses and parameters are float in any case.
#pragma once
#include "../conv.cuh"
#include "rsseg/graph/infer.hpp"
#include "runtime.cuh"

namespace rsseg::cuda {

/// What changes from step to step, in device memory: a captured step reads it anew at every replay.
struct run_numbers {
  std::uint64_t seed = 0, step = 0;
  float loss_scale = 1;  ///< the gradient of the loss starts as this
};

struct executor_context {
  device_facts facts;
  stream_t stream = {};
  conv_math math = conv_math::fp32;
  void* cudnn = nullptr;   ///< the other engine of convolutions (executor/cudnn.cuh), or null
  void* cublas = nullptr;  ///< and of matrix products (executor/cublas.cuh)
};

/// Statistics of a convolution's tiles on their way to the bn_stats node that follows.
struct tile_statistics {
  float* values = nullptr;
  int rows = 0;  ///< pixels of a tile
};

template <class T>
struct call {
  const graph::graph* g;
  int id;
  const shape* extents;  // of every node
  void* const* inputs;   // of this node, in the type the entry asks for
  void* output;
  unsigned char* workspace;
  const void* table;           // what fill_table wrote, in device memory
  const run_numbers* numbers;  // in device memory
  const executor_context* context;
  tile_statistics* tiles = nullptr;  // conv: leave statistics there; bn_stats: take them from there

  const graph::attributes& at() const { return g->nodes[id].at; }
  int count() const { return g->nodes[id].input_count; }
  int input_id(int k) const { return g->input_of(id, k); }
  const T* in(int k) const { return static_cast<const T*>(inputs[k]); }
  const float* wide(int k) const { return static_cast<const float*>(inputs[k]); }
  const std::int32_t* index_in(int k) const { return static_cast<const std::int32_t*>(inputs[k]); }
  const shape& in_extent(int k) const { return extents[input_id(k)]; }
  T* out() const { return static_cast<T*>(output); }
  float* wide_out() const { return static_cast<float*>(output); }
  std::int32_t* index_out() const { return static_cast<std::int32_t*>(output); }
  const shape& extent() const { return extents[id]; }
  stream_t stream() const { return context->stream; }
  template <class U>
  U* work(std::size_t offset_bytes = 0) const {
    return reinterpret_cast<U*>(workspace + offset_bytes);
  }
};

/// Which values of an entry are maps (stored as T); the others are float (or int32). Bit k: input k; bit 31: the result.
using map_mask = unsigned;
inline constexpr map_mask result_map = 1u << 31, all_maps = ~0u;

/// How to run an operator. run null: nothing to do. A node whose operator has no entry at all is an error that names it.
template <class T>
struct kernel_entry {
  void (*run)(const call<T>&) = nullptr;
  map_mask maps = 0;
  std::size_t (*workspace_bytes)(const graph::graph&, int id, const shape* extents, const executor_context&) = nullptr;
  /// Numbers that depend on extents only: computed on the host when a size is planned, kept in device memory.
  std::size_t (*table_bytes)(const graph::graph&, int id, const shape* extents) = nullptr;
  void (*fill_table)(const graph::graph&, int id, const shape* extents, void* to) = nullptr;
};

inline namespace RSSEG_BACKEND_NS {

/// y[i] = f(i) over a flat range. F: void operator()(std::int64_t i) const, stores by itself.
template <class F>
__global__ void each_kernel(F f, std::int64_t size) {
  for (std::int64_t i = grid_start(); i < size; i += grid_stride()) f(i);
}
template <class F>
inline void each(stream_t s, const char* name, std::int64_t size, const F& f) {
  if (size > 0) kernel_launch({name, grid_for(size, 256), 256, 0, s}, each_kernel<F>, f, size);
}
/// Bytes rounded up so that the next piece of a workspace is aligned.
constexpr std::size_t padded(std::size_t bytes) { return (bytes + 63) / 64 * 64; }

/// (n, h, w, c) of element i of an NHWC array.
struct place_of {
  int n, h, w, c;
  RSSEG_HD place_of(std::int64_t i, const shape& s) {
    c = int(i % s.c);
    i /= s.c;
    w = int(i % s.w);
    i /= s.w;
    h = int(i % s.h), n = int(i / s.h);
  }
};
RSSEG_HD inline std::int64_t offset_of(const shape& s, int n, int h, int w, int c) { return ((std::int64_t(n) * s.h + h) * s.w + w) * s.c + c; }

template <class T>
inline void copy_values(stream_t s, const T* from, T* to, std::int64_t size) {
  if (from != to) copy_bytes(s, to, from, std::size_t(size) * sizeof(T), "copy on the device");
}

}  // namespace RSSEG_BACKEND_NS
}  // namespace rsseg::cuda
