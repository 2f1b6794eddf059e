// SPDX-License-Identifier: MIT
// What sm_90a adds: mbarriers, tensor-memory-accelerator loads (plain boxes and im2col), and warp-group matrix products (wgmma) that read both
// operands from shared memory. Two bodies each: PTX, and a model at the level of tiles:
//   * a TMA load poisons its destination when issued; the data lands when somebody waits for its mbarrier's phase: a missing wait shows as NaN
//   * wgmma runs when it is waited for, with what shared memory holds then; until then the accumulator is poisoned, so that using it early shows, and
//     so does giving a buffer back to the producer too soon
// The packing of the 64-bit descriptors and the proxy fences have no model: they are in this file alone, to be confirmed on a device.
#pragma once
#include "tensor_core.cuh"

#if !RSSEG_EMULATED
#include <cuda.h>
#endif

namespace rsseg::cuda {
inline namespace RSSEG_BACKEND_NS {

constexpr int swizzle_row = 128;  // bytes of a tile's row: 64 halves; tiles begin at multiples of 1024 bytes
/// Where 16-byte chunk `chunk` of row `row` lies in a tile with 128-byte swizzle: eight rows mix their chunks so that columns meet all banks.
RSSEG_HD constexpr int swizzled(int row, int chunk) { return row * swizzle_row + ((chunk ^ (row & 7)) * 16); }

constexpr int transposed_box = 64 * swizzle_row;  // bytes of a box whose rows are the product's depth

/// im2col view of an NHWC tensor of halves: pixel (ox, oy) of the output reads (ox * stride + corner + offset), zeros outside.
struct im2col_view {
  const void* data;
  int n, h, w, c;
  int out_h, out_w, stride_h, stride_w, corner_h, corner_w;  // corners: minus the padding
  int pixels;                                                // of one load
};
/// Row-major matrix of halves; loads take boxes of 64 columns by box_rows rows.
struct matrix_view {
  const void* data;
  std::int64_t rows, columns;
  int box_rows;
};

#if !RSSEG_EMULATED

#if defined(__CUDA_ARCH__) && !defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define RSSEG_SM90A(...) __trap()  // launchers refuse other devices
#else
#define RSSEG_SM90A(...) __VA_ARGS__
#endif

using tensor_map = CUtensorMap;

/// The driver's encoders, found at run time so that nothing links against libcuda.
template <class Function>
inline Function driver_function(const char* name) {
  void* f = nullptr;
  cudaDriverEntryPointQueryResult found{};
  check(cudaGetDriverEntryPointByVersion(name, &f, 12000, cudaEnableDefault, &found), name);
  if (found != cudaDriverEntryPointSuccess || f == nullptr)
    throw error(std::string("cuda: the driver has no ") + name + "; update it to 525 or later");
  return reinterpret_cast<Function>(f);
}
inline tensor_map make_map(const im2col_view& v) {
  using encode =
      CUresult (*)(CUtensorMap*, CUtensorMapDataType, cuuint32_t, void*, const cuuint64_t*, const cuuint64_t*, const int*, const int*, cuuint32_t,
                   cuuint32_t, const cuuint32_t*, CUtensorMapInterleave, CUtensorMapSwizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill);
  static const auto f = driver_function<encode>("cuTensorMapEncodeIm2col");
  const cuuint64_t extent[4] = {cuuint64_t(v.c), cuuint64_t(v.w), cuuint64_t(v.h), cuuint64_t(v.n)};
  const cuuint64_t strides[3] = {2ull * v.c, 2ull * v.c * v.w, 2ull * v.c * v.w * v.h};
  const int lower[2] = {v.corner_w, v.corner_h};
  const int upper[2] = {v.corner_w + (v.out_w - 1) * v.stride_w - (v.w - 1), v.corner_h + (v.out_h - 1) * v.stride_h - (v.h - 1)};
  const cuuint32_t steps[4] = {1, cuuint32_t(v.stride_w), cuuint32_t(v.stride_h), 1};
  tensor_map m{};
  const CUresult r =
      f(&m, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 4, const_cast<void*>(v.data), extent, strides, lower, upper, 64, cuuint32_t(v.pixels), steps,
        CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (r != CUDA_SUCCESS) throw error("cuda: cuTensorMapEncodeIm2col refused the convolution's input (error " + std::to_string(int(r)) + ")");
  return m;
}
inline tensor_map make_map(const matrix_view& v) {
  using encode = CUresult (*)(CUtensorMap*, CUtensorMapDataType, cuuint32_t, void*, const cuuint64_t*, const cuuint64_t*, const cuuint32_t*,
                              const cuuint32_t*, CUtensorMapInterleave, CUtensorMapSwizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill);
  static const auto f = driver_function<encode>("cuTensorMapEncodeTiled");
  const cuuint64_t extent[2] = {cuuint64_t(v.columns), cuuint64_t(v.rows)}, strides[1] = {2ull * cuuint64_t(v.columns)};
  const cuuint32_t box[2] = {64, cuuint32_t(v.box_rows)}, steps[2] = {1, 1};
  tensor_map m{};
  const CUresult r = f(&m, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, const_cast<void*>(v.data), extent, strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
                       CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (r != CUDA_SUCCESS) throw error("cuda: cuTensorMapEncodeTiled refused the weights (error " + std::to_string(int(r)) + ")");
  return m;
}

/// By one thread, before a __syncthreads; count: arrivals that complete a phase.
__device__ __forceinline__ void mbarrier_init(std::uint64_t* b, int count) {
  RSSEG_SM90A(asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;\n" ::"r"(shared_address(b)), "r"(count) : "memory"));
}
/// After the last mbarrier_init: makes the barriers visible to the asynchronous proxy.
__device__ __forceinline__ void mbarrier_init_done() {
  RSSEG_SM90A(asm volatile("fence.mbarrier_init.release.cluster;\nfence.proxy.async;\n" ::: "memory"));
}
/// Arrives and announces bytes that TMA loads will bring in this phase.
__device__ __forceinline__ void mbarrier_expect(std::uint64_t* b, int bytes) {
  RSSEG_SM90A(asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;\n" ::"r"(shared_address(b)), "r"(bytes) : "memory"));
}
__device__ __forceinline__ void mbarrier_arrive(std::uint64_t* b) {
  RSSEG_SM90A(asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];\n" ::"r"(shared_address(b)) : "memory"));
}
/// Waits until the phase of this parity has completed; the first phase has parity 0, the one "before" it parity 1.
__device__ __forceinline__ void mbarrier_wait(std::uint64_t* b, unsigned parity) {
  RSSEG_SM90A(asm volatile(
      "{\n.reg .pred done;\nagain:\nmbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n@!done bra again;\n}\n" ::"r"(shared_address(b)),
      "r"(parity)
      : "memory"));
}
/// Loads a box of a matrix: columns from x, rows from y. By one thread.
__device__ __forceinline__ void tma_load(void* to, const tensor_map* map, int x, int y, std::uint64_t* b) {
  RSSEG_SM90A(asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], [%4];\n" ::"r"(shared_address(to)), "l"(map),
      "r"(x), "r"(y), "r"(shared_address(b))
      : "memory"));
}
/// Loads 64 channels from `c` of consecutive output pixels from (n, oy, ox), displaced by a tap's offset.
__device__ __forceinline__ void tma_load_im2col(void* to, const tensor_map* map, int c, int x, int y, int n, int offset_x, int offset_y,
                                                std::uint64_t* b) {
  RSSEG_SM90A(asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.im2col.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, %4, %5}], [%6], {%7, %8};\n" ::"r"(
          shared_address(to)),
      "l"(map), "r"(c), "r"(x), "r"(y), "r"(n), "r"(shared_address(b)), "h"(std::uint16_t(offset_x)), "h"(std::uint16_t(offset_y))
      : "memory"));
}
using matrix_descriptor = std::uint64_t;
/// Of a tile of 128-byte rows with 128-byte swizzle, beginning at 16-deep step `step`: address / 16, stride of eight rows 1024 / 16, swizzle mode 1.
__device__ __forceinline__ matrix_descriptor describe_tile(const void* tile, int step) {
  return (std::uint64_t(shared_address(tile) + unsigned(step) * 32u) >> 4 & 0x3FFFu) | std::uint64_t(1) << 16 | std::uint64_t(64) << 32 |
         std::uint64_t(1) << 62;
}
/// Of boxes of 64 rows (the product's depth) x 64 values, 128-byte swizzle, one box after the other along the extent: beginning at the 16 rows of
/// step `step`. Stride between boxes 8192 / 16, between eight rows 1024 / 16.
__device__ __forceinline__ matrix_descriptor describe_transposed_tile(const void* tile, int step) {
  return (std::uint64_t(shared_address(tile) + unsigned(step) * 16u * swizzle_row) >> 4 & 0x3FFFu) | std::uint64_t(transposed_box / 16) << 16 |
         std::uint64_t(64) << 32 | std::uint64_t(1) << 62;
}
__device__ __forceinline__ void wgmma_fence() { RSSEG_SM90A(asm volatile("wgmma.fence.sync.aligned;\n" ::: "memory")); }
__device__ __forceinline__ void wgmma_commit() { RSSEG_SM90A(asm volatile("wgmma.commit_group.sync.aligned;\n" ::: "memory")); }
template <int N>
__device__ __forceinline__ void wgmma_wait() {
  RSSEG_SM90A(asm volatile("wgmma.wait_group.sync.aligned %0;\n" ::"n"(N) : "memory"));
}
#include "wgmma.inc"

#else

#include "emulation/hopper_model.inc"

#endif

}  // namespace RSSEG_BACKEND_NS
}  // namespace rsseg::cuda
