// SPDX-License-Identifier: MIT
// One kernel text, two backends. Under nvcc this is CUDA; under g++ or clang++ alone it is the host emulation, on which every kernel is tested,
// debugged and sanitised without a GPU. A kernel may use plain CUDA C++ except for four spellings:
//   kernel_launch(launch{"name", grid, block, bytes, stream}, kernel, arguments...)   instead of <<<>>>
//   RSSEG_DYN_SHARED(T, name)                                                         instead of __shared__ / extern __shared__
//   RSSEG_UNROLL                                                                      instead of #pragma unroll
//   RSSEG_KERNEL                                                                      before a kernel that is no template
// and everything sits in `inline namespace RSSEG_BACKEND_NS`: nvcc's host stub and g++'s emulated body would otherwise share a mangled name,
// and a program that holds both would silently get one of them.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>

#include "rsseg/core/config.hpp"
#include "rsseg/core/error.hpp"

#if !defined(__CUDACC__)
#include "emulation/cuda.hpp"
#else
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdlib>

#define RSSEG_EMULATED 0
#define RSSEG_BACKEND_NS device
#define RSSEG_KERNEL static __global__
#define RSSEG_UNROLL _Pragma("unroll")
#define RSSEG_DYN_SHARED(T, name)                                         \
  extern __shared__ __align__(1024) unsigned char rsseg_dynamic_shared[]; \
  T* name = reinterpret_cast<T*>(rsseg_dynamic_shared)

namespace rsseg::cuda {
using stream_t = cudaStream_t;

struct launch {
  const char* name;
  dim3 grid, block;
  std::size_t shared = 0;
  stream_t stream = {};
};

inline namespace RSSEG_BACKEND_NS {
/// Throws rsseg::error with the doing's name when CUDA reports a failure. An error of an earlier kernel is sticky and surfaces here, too.
inline void check(cudaError_t status, const char* doing) {
  if (status == cudaSuccess) return;
  const std::string what = std::string("cuda: ") + doing + ": " + cudaGetErrorName(status) + " (" + cudaGetErrorString(status) + ")";
  if (status == cudaErrorMemoryAllocation) throw memory_error(what + "; use a smaller batch or tile");
  if (status == cudaErrorNoKernelImageForDevice) throw error(what + "; rebuild with this device's architecture in -Dgpu_archs");
  throw error(what);
}

/// The kernel launched last by this thread, for errors that surface later.
inline const char*& last_kernel() {
  static thread_local const char* name = "none";
  return name;
}
/// RSSEG_CUDA_SYNC=1 in the environment: every launch is waited for, so that an error names its own kernel. Graphs are not captured then.
inline bool synchronous() {
  static const bool on = [] {
    const char* v = std::getenv("RSSEG_CUDA_SYNC");
    return v && *v && *v != '0';
  }();
  return on;
}
/// For waits: the error belongs to some kernel that was launched before.
inline void check_late(cudaError_t status, const char* doing) {
  if (status != cudaSuccess)
    check(status, (std::string(doing) + " (an earlier kernel failed; the last one launched was " + last_kernel() +
                   (synchronous() ? ")" : "; run again with RSSEG_CUDA_SYNC=1 to learn which)"))
                      .c_str());
}

template <class... Parameters, class... Arguments>
inline void kernel_launch(const launch& l, void (*kernel)(Parameters...), Arguments&&... arguments) {
  last_kernel() = l.name;
  if (l.shared > 48 * 1024)  // beyond what every device grants unasked
    check(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize, int(l.shared)), l.name);
  cudaLaunchConfig_t config{};
  config.gridDim = l.grid, config.blockDim = l.block, config.dynamicSmemBytes = l.shared, config.stream = l.stream;
  check(cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...), l.name);
  check(cudaGetLastError(), l.name);
  if (synchronous()) check(cudaStreamSynchronize(l.stream), l.name);
}
}  // namespace RSSEG_BACKEND_NS
}  // namespace rsseg::cuda
#endif
