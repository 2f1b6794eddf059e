// SPDX-License-Identifier: MIT
// What all kernels share: storage types and their conversion, vectors of up to 16 bytes, division by a constant of the launch, reductions of a warp
// and of a block in a fixed order, and the activations that may be fused into an epilogue.
#pragma once
#include "backend.cuh"

namespace rsseg::cuda {

// --- storage types. Arithmetic is always float; these only say how a value lies in memory.
struct bf16 {
  std::uint16_t bits;
};
struct f16 {
  std::uint16_t bits;
};
/// Stored as float, multiplied with 10 bits of mantissa by the tensor cores.
struct tf32 {
  float value;
};

enum class activation : int { none, relu, leaky_relu, elu, sigmoid, tanh, relu6, hard_swish, silu };

inline namespace RSSEG_BACKEND_NS {

RSSEG_HD constexpr int imin(int a, int b) { return b < a ? b : a; }
RSSEG_HD constexpr int imax(int a, int b) { return a < b ? b : a; }
RSSEG_HD constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }
RSSEG_HD constexpr int ceil_div(int a, int b) { return (a + b - 1) / b; }
RSSEG_HD constexpr int round_up(int a, int b) { return (a + b - 1) / b * b; }

RSSEG_HD inline std::uint32_t float_bits(float v) {
#if defined(__CUDA_ARCH__)
  return __float_as_uint(v);
#else
  return __builtin_bit_cast(std::uint32_t, v);
#endif
}
RSSEG_HD inline float bits_float(std::uint32_t v) {
#if defined(__CUDA_ARCH__)
  return __uint_as_float(v);
#else
  return __builtin_bit_cast(float, v);
#endif
}

RSSEG_HD inline float to_float(float v) { return v; }
RSSEG_HD inline float to_float(tf32 v) { return v.value; }
RSSEG_HD inline float to_float(bf16 v) { return bits_float(std::uint32_t(v.bits) << 16); }
RSSEG_HD inline float to_float(f16 v) {
#if defined(__CUDA_ARCH__)
  return __half2float(__ushort_as_half(v.bits));
#else
  const std::uint32_t sign = std::uint32_t(v.bits & 0x8000u) << 16, body = v.bits & 0x7FFFu;
  if (body >= 0x7C00u) return bits_float(sign | 0x7F800000u | ((body & 0x3FFu) << 13));
  if (body >= 0x0400u) return bits_float(sign | ((body << 13) + (112u << 23)));
  const float small = float(body) * 5.9604644775390625e-8f;  // subnormal: units of 2^-24
  return sign ? -small : small;
#endif
}
template <class T>
RSSEG_HD inline T from_float(float v);
template <>
RSSEG_HD inline float from_float<float>(float v) {
  return v;
}
template <>
RSSEG_HD inline tf32 from_float<tf32>(float v) {
  return {v};
}
template <>
RSSEG_HD inline bf16 from_float<bf16>(float v) {  // to nearest, ties to even
  const std::uint32_t b = float_bits(v);
  if ((b & 0x7FFFFFFFu) > 0x7F800000u) return {std::uint16_t(b >> 16 | 0x40u)};
  return {std::uint16_t((b + 0x7FFFu + (b >> 16 & 1u)) >> 16)};
}
template <>
RSSEG_HD inline f16 from_float<f16>(float v) {
#if defined(__CUDA_ARCH__)
  return {__half_as_ushort(__float2half_rn(v))};
#else
  const std::uint32_t b = float_bits(v), sign = b >> 16 & 0x8000u, mag = b & 0x7FFFFFFFu;
  if (mag > 0x7F800000u) return {std::uint16_t(sign | 0x7E00u | (mag >> 13 & 0x3FFu))};
  if (mag >= 0x477FF000u) return {std::uint16_t(sign | 0x7C00u)};  // rounds to more than 65504: infinity
  if (mag < 0x38800000u) {                                         // subnormal: adding 0.5 leaves multiples of 2^-24 in the low bits
    return {std::uint16_t(sign | (float_bits(bits_float(mag) + 0.5f) - 0x3F000000u))};
  }
  return {std::uint16_t(sign | ((mag + 0xC8000FFFu + (mag >> 13 & 1u)) >> 13))};
#endif
}

/// N values loaded or stored at once.
template <class T, int N>
struct alignas(sizeof(T) * N) pack {
  T v[N];
};
template <int N, class T>
__device__ __forceinline__ pack<T, N> load_pack(const T* p) {
  return *reinterpret_cast<const pack<T, N>*>(p);
}
template <int N, class T>
__device__ __forceinline__ void store_pack(T* p, const pack<T, N>& v) {
  *reinterpret_cast<pack<T, N>*>(p) = v;
}
/// The widest pack of 16 bytes that divides the channels: 4 floats or 8 halves, else single values.
template <class T>
inline constexpr int full_pack = int(16 / sizeof(T));

/// n / d by multiplication (Granlund and Montgomery, PLDI 1994), exact for 0 <= n < 2^31. Integer division would cost more than a resize kernel's
/// arithmetic.
struct divider {
  std::uint32_t d = 1, multiplier = 0, shift = 0;
  divider() = default;
  RSSEG_HD explicit divider(int divisor) : d(std::uint32_t(divisor)) {
    while ((1u << shift) < d) ++shift;
    multiplier = std::uint32_t(((std::uint64_t(1) << 32) * ((std::uint64_t(1) << shift) - d)) / d + 1);
  }
  RSSEG_HD int divide(int n) const {
#if defined(__CUDA_ARCH__)
    const std::uint32_t high = __umulhi(std::uint32_t(n), multiplier);
#else
    const std::uint32_t high = std::uint32_t(std::uint64_t(std::uint32_t(n)) * multiplier >> 32);
#endif
    return int((high + std::uint32_t(n)) >> shift);
  }
  RSSEG_HD int divide(int n, int& rest) const {
    const int q = divide(n);
    rest = n - q * int(d);
    return q;
  }
};

// --- reductions. The order of the additions is fixed by the lane numbers, so results repeat bit by bit.
__device__ __forceinline__ float warp_sum(float v) {
  RSSEG_UNROLL
  for (int d = 16; d > 0; d >>= 1) v += __shfl_xor_sync(0xFFFFFFFFu, v, d);
  return v;
}
__device__ __forceinline__ float warp_max(float v) {
  RSSEG_UNROLL
  for (int d = 16; d > 0; d >>= 1) v = fmaxf(v, __shfl_xor_sync(0xFFFFFFFFu, v, d));
  return v;
}
/// Sum over a block of a multiple of 32 threads; every thread gets it. scratch: 32 floats of shared memory, reusable after the call.
__device__ __forceinline__ float block_sum(float v, float* scratch) {
  const int lane = int(threadIdx.x) & 31, warp = int(threadIdx.x) >> 5, warps = int(blockDim.x) >> 5;
  v = warp_sum(v);
  if (lane == 0) scratch[warp] = v;
  __syncthreads();
  v = warp_sum(lane < warps ? scratch[lane] : 0.0f);
  __syncthreads();
  return v;
}

// --- activations and their derivatives. The derivative is a function of the output where that suffices, so that the input need not be kept.
__device__ __forceinline__ float sigmoid(float v) { return 1.0f / (1.0f + expf(-v)); }
__device__ __forceinline__ float activate(activation kind, float v, float slope) {
  switch (kind) {
    case activation::relu:
      return v < 0 ? 0.0f : v;  // a NaN stays visible
    case activation::leaky_relu:
      return v > 0 ? v : slope * v;
    case activation::elu:
      return v > 0 ? v : slope * expm1f(v);
    case activation::sigmoid:
      return sigmoid(v);
    case activation::tanh:
      return tanhf(v);
    case activation::relu6:
      return fminf(fmaxf(v, 0.0f), 6.0f);
    case activation::hard_swish:
      return v * fminf(fmaxf(v + 3.0f, 0.0f), 6.0f) * (1.0f / 6.0f);
    case activation::silu:
      return v * sigmoid(v);
    default:
      return v;
  }
}
/// True where activation_slope needs the input instead of the output.
RSSEG_HD constexpr bool slope_needs_input(activation kind) { return kind == activation::hard_swish || kind == activation::silu; }
/// d activate(x) / dx, given the output (or the input, see slope_needs_input).
__device__ __forceinline__ float activation_slope(activation kind, float v, float slope) {
  switch (kind) {
    case activation::relu:
      return v > 0 ? 1.0f : 0.0f;
    case activation::leaky_relu:
      return v > 0 ? 1.0f : slope;
    case activation::elu:
      return v > 0 ? 1.0f : v + slope;
    case activation::sigmoid:
      return v * (1.0f - v);
    case activation::tanh:
      return 1.0f - v * v;
    case activation::relu6:
      return v > 0 && v < 6.0f ? 1.0f : 0.0f;
    case activation::hard_swish:
      return v <= -3.0f ? 0.0f : v >= 3.0f ? 1.0f : (2.0f * v + 3.0f) * (1.0f / 6.0f);
    case activation::silu: {
      const float s = sigmoid(v);
      return s * (1.0f + v * (1.0f - s));
    }
    default:
      return 1.0f;
  }
}

/// Blocks for a loop over `items` in steps of the whole grid: enough to fill the largest device, never more than there is work.
inline unsigned grid_for(std::int64_t items, int threads) {
  const std::int64_t blocks = ceil_div(items, std::int64_t(threads));
  return unsigned(blocks < 1 ? 1 : blocks > 8192 ? 8192 : blocks);
}
/// First index and stride of this thread in such a loop.
__device__ __forceinline__ std::int64_t grid_start() { return std::int64_t(blockIdx.x) * blockDim.x + threadIdx.x; }
__device__ __forceinline__ std::int64_t grid_stride() { return std::int64_t(gridDim.x) * blockDim.x; }

}  // namespace RSSEG_BACKEND_NS
}  // namespace rsseg::cuda
