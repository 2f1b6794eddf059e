// SPDX-License-Identifier: MIT
// The words of CUDA C++ that the kernels use, for g++ and clang++ without CUDA: qualifiers, built-in variables, barriers, warp operations,
// atomics and a few intrinsics. Only what differs from plain CUDA in all of rsseg is RSSEG_DYN_SHARED, RSSEG_UNROLL and kernel_launch.
// There is no __shared__ here on purpose: AddressSanitizer cannot guard function-local statics of templates, so kernels take dynamic memory.
#pragma once
#include <bit>
#include <cmath>
#include <functional>
#include <tuple>
#include <type_traits>
#include <utility>

#include "engine.hpp"

#define RSSEG_EMULATED 1
#define RSSEG_BACKEND_NS emulated
#define RSSEG_KERNEL [[maybe_unused]] static
#define RSSEG_UNROLL
#define RSSEG_DYN_SHARED(T, name) T* name = static_cast<T*>(static_cast<void*>(::rsseg::emulation::the_engine().shared()))

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __grid_constant__

namespace rsseg::emulation {
/// While it points somewhere, launches and copies are recorded there instead of run: stream capture.
inline std::vector<std::function<void()>>*& recording() {
  static std::vector<std::function<void()>>* to = nullptr;
  return to;
}
template <class Work>
inline void submit(Work work) {
  if (recording())
    recording()->push_back(std::move(work));
  else
    work();
}
}  // namespace rsseg::emulation

namespace rsseg::cuda {
using stream_t = void*;

/// How a kernel starts: its name for messages, the grid, threads per block, bytes of dynamic shared memory, and the stream.
struct launch {
  const char* name;
  dim3 grid, block;
  std::size_t shared = 0;
  stream_t stream = {};
};

inline namespace RSSEG_BACKEND_NS {
/// Runs the kernel to its end. Every thread gets its own copy of the arguments, as on the device.
template <class... Parameters, class... Arguments>
inline void kernel_launch(const launch& l, void (*kernel)(Parameters...), Arguments&&... arguments) {
  auto bound = std::pair(kernel, std::tuple<std::remove_cv_t<Parameters>...>(static_cast<Parameters>(arguments)...));
  emulation::submit([l, bound]() mutable {
    emulation::the_engine().run(
        l.name, l.grid, l.block, l.shared,
        [](void* p) {
          auto& [function, values] = *static_cast<decltype(bound)*>(p);
          std::apply(function, values);
        },
        &bound);
  });
}
}  // namespace RSSEG_BACKEND_NS
}  // namespace rsseg::cuda

namespace rsseg::emulation {
enum operation { op_syncwarp = 1, op_shfl_down, op_shfl_up, op_shfl_xor, op_shfl, op_ballot, op_ldmatrix, op_mma, op_wgmma, op_setmaxnreg };

template <class T>
inline std::uint64_t to_bits(T v) {
  static_assert(sizeof(T) <= 8 && std::is_trivially_copyable_v<T>);
  std::uint64_t b = 0;
  std::memcpy(&b, &v, sizeof v);
  return b;
}
template <class T>
inline T from_bits(std::uint64_t b) {
  T v;
  std::memcpy(&v, &b, sizeof v);
  return v;
}

template <class T>
inline T shuffle(int kind, unsigned mask, T value, int argument, int width, const site& where) {
  engine& e = the_engine();
  thread_record& me = e.me();
  if (width < 1 || width > 32 || (width & (width - 1)) != 0) e.fault("shuffle at " + text(where) + ": width " + std::to_string(width));
  me.in = to_bits(value), me.arg0 = argument, me.arg1 = width;
  e.together(kind, 32, mask, where, [&](thread_record* lane) {
    for (int i = 0; i < 32; ++i) {
      if (!(me.mask >> i & 1u)) continue;
      const int w = lane[i].arg1, base = i & ~(w - 1), a = lane[i].arg0;
      int from = i;
      if (kind == op_shfl_down) from = i + a < base + w ? i + a : i;
      if (kind == op_shfl_up) from = i - a >= base ? i - a : i;
      if (kind == op_shfl_xor) from = (i ^ a) < base + w ? i ^ a : i;
      if (kind == op_shfl) from = base + (a & (w - 1));
      if (!(me.mask >> from & 1u)) e.fault("shuffle at " + text(where) + " reads lane " + std::to_string(from) + ", which is not in the mask");
      lane[i].out = lane[from].in;
    }
  });
  return from_bits<T>(me.out);
}
}  // namespace rsseg::emulation

#define RSSEG_SITE const rsseg::emulation::site& where = rsseg::emulation::site::current()
inline void __syncthreads(RSSEG_SITE) { rsseg::emulation::the_engine().barrier(0, 0, 0, where); }
inline int __syncthreads_count(int p, RSSEG_SITE) {
  auto& e = rsseg::emulation::the_engine();
  e.barrier(0, 0, p, where);
  return e.me().votes;
}
inline int __syncthreads_or(int p, RSSEG_SITE) { return __syncthreads_count(p, where) != 0; }
inline int __syncthreads_and(int p, RSSEG_SITE) {
  auto& e = rsseg::emulation::the_engine();
  e.barrier(0, 0, p, where);
  return e.me().votes == e.me().voters;
}
inline void __syncwarp(unsigned mask = ~0u, RSSEG_SITE) {
  rsseg::emulation::the_engine().together(rsseg::emulation::op_syncwarp, 32, mask, where, [](auto*) {});
}
template <class T>
inline T __shfl_down_sync(unsigned mask, T v, unsigned delta, int width = 32, RSSEG_SITE) {
  return rsseg::emulation::shuffle(rsseg::emulation::op_shfl_down, mask, v, int(delta), width, where);
}
template <class T>
inline T __shfl_up_sync(unsigned mask, T v, unsigned delta, int width = 32, RSSEG_SITE) {
  return rsseg::emulation::shuffle(rsseg::emulation::op_shfl_up, mask, v, int(delta), width, where);
}
template <class T>
inline T __shfl_xor_sync(unsigned mask, T v, int bits, int width = 32, RSSEG_SITE) {
  return rsseg::emulation::shuffle(rsseg::emulation::op_shfl_xor, mask, v, bits, width, where);
}
template <class T>
inline T __shfl_sync(unsigned mask, T v, int lane, int width = 32, RSSEG_SITE) {
  return rsseg::emulation::shuffle(rsseg::emulation::op_shfl, mask, v, lane, width, where);
}
inline unsigned __ballot_sync(unsigned mask, int p, RSSEG_SITE) {
  auto& e = rsseg::emulation::the_engine();
  e.me().in = p != 0;
  e.together(rsseg::emulation::op_ballot, 32, mask, where, [&](rsseg::emulation::thread_record* lane) {
    unsigned votes = 0;
    for (int i = 0; i < 32; ++i)
      if (e.me().mask >> i & 1u) votes |= unsigned(lane[i].in) << i;
    for (int i = 0; i < 32; ++i)
      if (e.me().mask >> i & 1u) lane[i].out = votes;
  });
  return unsigned(e.me().out);
}
inline int __any_sync(unsigned mask, int p, RSSEG_SITE) { return __ballot_sync(mask, p, where) != 0; }
inline int __all_sync(unsigned mask, int p, RSSEG_SITE) { return __ballot_sync(mask, !p, where) == 0; }
#undef RSSEG_SITE

inline void __threadfence() {}
inline void __threadfence_block() {}
template <class T>
inline T __ldg(const T* p) {
  return *p;
}
template <class T>
inline T atomicAdd(T* p, std::type_identity_t<T> v) {
  return std::exchange(*p, T(*p + v));
}
template <class T>
inline T atomicMax(T* p, std::type_identity_t<T> v) {
  return std::exchange(*p, *p < v ? v : *p);
}
template <class T>
inline T atomicMin(T* p, std::type_identity_t<T> v) {
  return std::exchange(*p, v < *p ? v : *p);
}
template <class T>
inline T atomicOr(T* p, std::type_identity_t<T> v) {
  return std::exchange(*p, T(*p | v));
}
template <class T>
inline T atomicExch(T* p, std::type_identity_t<T> v) {
  return std::exchange(*p, v);
}
template <class T>
inline T atomicCAS(T* p, std::type_identity_t<T> expected, std::type_identity_t<T> v) {
  return std::exchange(*p, *p == expected ? v : *p);
}
inline float __expf(float x) { return std::exp(x); }
inline float __logf(float x) { return std::log(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline int __popc(unsigned v) { return std::popcount(v); }
inline int __ffs(int v) { return v ? std::countr_zero(unsigned(v)) + 1 : 0; }
inline int __clz(int v) { return std::countl_zero(unsigned(v)); }
inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned(std::uint64_t(a) * b >> 32); }
inline int __float_as_int(float v) { return std::bit_cast<int>(v); }
inline float __int_as_float(int v) { return std::bit_cast<float>(v); }
inline unsigned __float_as_uint(float v) { return std::bit_cast<unsigned>(v); }
inline float __uint_as_float(unsigned v) { return std::bit_cast<float>(v); }
