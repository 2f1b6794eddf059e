// SPDX-License-Identifier: MIT
// Loops of the element-wise kernels: cut into chunks by size, spread over the threads, and compiled for AVX2 beside the portable
// version, whatever the flags of the includer are. (Wider registers gain nothing here: these loops wait for memory.)
// The inner loops are plain scalar code in lambdas that are inlined into a function with the target attribute and vectorised there.
#pragma once
#include <cstdint>
#include <type_traits>

#include "rsseg/core/config.hpp"
#include "rsseg/core/parallel.hpp"
#include "rsseg/cpu/isa.hpp"

/// Behind the parameter list of a lambda that is passed to the loops below: its body takes over the caller's instruction set.
#define RSSEG_INLINE_BODY __attribute__((always_inline))

/// Before an inner loop that may run in place: an element depends on no other element, although the pointers may be equal.
#if defined(__clang__)
#define RSSEG_INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#define RSSEG_VECTORISE
#elif defined(__GNUC__)
#define RSSEG_INDEPENDENT _Pragma("GCC ivdep")
#define RSSEG_VECTORISE __attribute__((optimize("O3")))
#else
#define RSSEG_INDEPENDENT
#define RSSEG_VECTORISE
#endif

namespace rsseg::cpu {

namespace detail {
template <class Body>
RSSEG_VECTORISE __attribute__((noinline)) void run_portable(const Body& body, std::int64_t begin, std::int64_t end) {
  body(begin, end);
}
#if RSSEG_X86
template <class Body>
RSSEG_VECTORISE __attribute__((noinline, target("avx2,fma"))) void run_avx2(const Body& body, std::int64_t begin, std::int64_t end) {
  body(begin, end);
}
#endif
}  // namespace detail

/// Calls body(begin, end) for chunks of [0, count) on all threads. The chunks depend on the sizes only.
/// Single precision runs the AVX2 version where there is one; double precision, which checks and teaches, the portable one.
template <class T, class Body>
inline void sweep(std::int64_t count, std::int64_t chunk, const Body& body) {
  const std::int64_t chunks = (count + chunk - 1) / chunk;
  auto run = &detail::run_portable<Body>;
#if RSSEG_X86
  if constexpr (std::is_same_v<T, float>)
    if (current_isa() != isa::portable) run = &detail::run_avx2<Body>;
#endif
  parallel_for(chunks, [&](std::int64_t i) { run(body, i * chunk, (i + 1) * chunk < count ? (i + 1) * chunk : count); });
}

inline constexpr std::int64_t flat_chunk = 16384;  ///< elements per chunk of an element-wise loop

/// Items of `cost` elements each, about flat_chunk elements per chunk.
constexpr std::int64_t items_per_chunk(std::int64_t cost) { return cost >= flat_chunk ? 1 : cost < 1 ? flat_chunk : flat_chunk / cost; }

/// y[i] = f(x[i]); y may be x.
template <class T, class F>
inline void map(std::int64_t count, const T* x, T* y, const F& f) {
  sweep<T>(count, flat_chunk, [=](std::int64_t b, std::int64_t e) RSSEG_INLINE_BODY {
    RSSEG_INDEPENDENT
    for (std::int64_t i = b; i < e; ++i) y[i] = f(x[i]);
  });
}
/// z[i] = f(x[i], y[i]); z may be x or y.
template <class T, class F>
inline void map(std::int64_t count, const T* x, const T* y, T* z, const F& f) {
  sweep<T>(count, flat_chunk, [=](std::int64_t b, std::int64_t e) RSSEG_INLINE_BODY {
    RSSEG_INDEPENDENT
    for (std::int64_t i = b; i < e; ++i) z[i] = f(x[i], y[i]);
  });
}

template <class T>
inline void fill(std::int64_t count, T* y, T value) {
  sweep<T>(count, 4 * flat_chunk, [=](std::int64_t b, std::int64_t e) RSSEG_INLINE_BODY {
    for (std::int64_t i = b; i < e; ++i) y[i] = value;
  });
}
template <class T>
inline void copy(std::int64_t count, const T* x, T* y) {
  if (x == y) return;
  sweep<T>(count, 4 * flat_chunk, [=](std::int64_t b, std::int64_t e) RSSEG_INLINE_BODY {
    RSSEG_INDEPENDENT
    for (std::int64_t i = b; i < e; ++i) y[i] = x[i];
  });
}

}  // namespace rsseg::cpu
