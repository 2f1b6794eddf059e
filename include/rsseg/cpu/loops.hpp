// SPDX-License-Identifier: MIT
// Loops of the element-wise kernels: cut into chunks by size, spread over the threads, and compiled for AVX2 beside the portable
// version, whatever the flags of the includer are. (Wider registers gain nothing here: these loops wait for memory.)
// The inner loops are plain scalar code in lambdas that are inlined into a function with the target attribute and vectorised there.
#pragma once
#include <bit>
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
template <class T>
struct bits_of;
template <>
struct bits_of<float> {
  using type = std::uint32_t;
};
template <>
struct bits_of<double> {
  using type = std::uint64_t;
};
}  // namespace detail

/// condition ? a : b without a branch. g++ moves what only one side of a choice needs into it, and then neither loads nor products, which might trap,
/// can be made for a whole vector: the loop stays scalar, with a branch that is often mispredicted.
template <class T>
RSSEG_ALWAYS_INLINE T choose(bool condition, T a, T b) {
  using U = typename detail::bits_of<T>::type;
  const U mask = U(0) - U(condition);
  return std::bit_cast<T>((std::bit_cast<U>(a) & mask) | (std::bit_cast<U>(b) & ~mask));
}
/// condition ? a : 0, likewise.
template <class T>
RSSEG_ALWAYS_INLINE T keep_if(bool condition, T a) {
  using U = typename detail::bits_of<T>::type;
  return std::bit_cast<T>(std::bit_cast<U>(a) & (U(0) - U(condition)));
}

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

/// The elements of up to three tensors of one extent as rows: pieces of flat_chunk elements where all of them are dense, pixels where one is
/// columns of a wider tensor. Element-wise results do not depend on the cut.
struct element_rows {
  std::int64_t rows = 0, width = 1, last = 0;  // the last row may be shorter
  std::int64_t chunk = 1;                      // rows per chunk
  std::int64_t step[3] = {};                   // elements between rows, of each tensor

  std::int64_t width_of(std::int64_t row) const { return row + 1 == rows ? last : width; }
};
inline element_rows flat_rows(std::int64_t count) {
  element_rows r;
  r.rows = (count + flat_chunk - 1) / flat_chunk, r.width = flat_chunk, r.last = count - (r.rows - 1) * flat_chunk;
  r.step[0] = r.step[1] = r.step[2] = flat_chunk;
  return r;
}
/// pitch_0, ...: elements between the tensors' pixels.
inline element_rows rows_of(std::int64_t pixels, int channels, std::int64_t pitch_0, std::int64_t pitch_1, std::int64_t pitch_2) {
  if (pitch_0 == channels && pitch_1 == channels && pitch_2 == channels) return flat_rows(pixels * channels);
  return {pixels, channels, channels, items_per_chunk(channels), {pitch_0, pitch_1, pitch_2}};
}
inline element_rows rows_of(std::int64_t pixels, int channels, std::int64_t pitch_0, std::int64_t pitch_1) {
  return rows_of(pixels, channels, pitch_0, pitch_1, channels);
}

/// y[i] = f(x[i]); y may be x. Tensors 0 and 1 of r.
template <class T, class F>
inline void map(const element_rows& r, const T* x, T* y, const F& f) {
  sweep<T>(r.rows, r.chunk, [=](std::int64_t b, std::int64_t e) RSSEG_INLINE_BODY {
    for (std::int64_t row = b; row < e; ++row) {
      const T* p = x + row * r.step[0];
      T* q = y + row * r.step[1];
      const std::int64_t n = r.width_of(row);
      RSSEG_INDEPENDENT
      for (std::int64_t i = 0; i < n; ++i) q[i] = f(p[i]);
    }
  });
}
/// z[i] = f(x[i], y[i]); z may be x or y. Tensors 0, 1 and 2 of r.
template <class T, class F>
inline void map(const element_rows& r, const T* x, const T* y, T* z, const F& f) {
  sweep<T>(r.rows, r.chunk, [=](std::int64_t b, std::int64_t e) RSSEG_INLINE_BODY {
    for (std::int64_t row = b; row < e; ++row) {
      const T *p = x + row * r.step[0], *q = y + row * r.step[1];
      T* to = z + row * r.step[2];
      const std::int64_t n = r.width_of(row);
      RSSEG_INDEPENDENT
      for (std::int64_t i = 0; i < n; ++i) to[i] = f(p[i], q[i]);
    }
  });
}
template <class T, class F>
inline void map(std::int64_t count, const T* x, T* y, const F& f) {
  map(flat_rows(count), x, y, f);
}

/// Tensor 0 of r.
template <class T>
inline void fill(const element_rows& r, T* y, T value) {
  sweep<T>(r.rows, 4 * r.chunk, [=](std::int64_t b, std::int64_t e) RSSEG_INLINE_BODY {
    for (std::int64_t row = b; row < e; ++row) {
      T* q = y + row * r.step[0];
      const std::int64_t n = r.width_of(row);
      for (std::int64_t i = 0; i < n; ++i) q[i] = value;
    }
  });
}
template <class T>
inline void fill(std::int64_t count, T* y, T value) {
  fill(flat_rows(count), y, value);
}
/// Tensors 0 and 1 of r. Nothing to do where y is x, which then has the same rows.
template <class T>
inline void copy(const element_rows& r, const T* x, T* y) {
  if (x == y && r.step[0] == r.step[1]) return;
  sweep<T>(r.rows, 4 * r.chunk, [=](std::int64_t b, std::int64_t e) RSSEG_INLINE_BODY {
    for (std::int64_t row = b; row < e; ++row) {
      const T* p = x + row * r.step[0];
      T* q = y + row * r.step[1];
      const std::int64_t n = r.width_of(row);
      RSSEG_INDEPENDENT
      for (std::int64_t i = 0; i < n; ++i) q[i] = p[i];
    }
  });
}
template <class T>
inline void copy(std::int64_t count, const T* x, T* y) {
  copy(flat_rows(count), x, y);
}

}  // namespace rsseg::cpu
