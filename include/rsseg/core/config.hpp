// SPDX-License-Identifier: MIT
// Version, compiler canaries and the few macros of rsseg. Everything includes this header; it includes nothing.
#pragma once

#define RSSEG_VERSION_MAJOR 0
#define RSSEG_VERSION_MINOR 1
#define RSSEG_VERSION_PATCH 0
#define RSSEG_VERSION "0.1.0"

#if defined(__CUDACC__)
#define RSSEG_HD __host__ __device__  ///< callable from kernels, too
#else
#define RSSEG_HD
#endif

/// Inlines even at -O0: for bodies that must take over the instruction set of their caller.
#define RSSEG_ALWAYS_INLINE inline __attribute__((always_inline))

/// Compiled mode: -DRSSEG_COMPILED keeps the kernel instantiations out of the user's translation units and takes them from librsseg.
/// librsseg itself defines RSSEG_BUILDING. Without either, everything is inline (header-only mode).
#if defined(RSSEG_COMPILED) && !defined(RSSEG_BUILDING)
#define RSSEG_EXTERN_KERNELS 1
#else
#define RSSEG_EXTERN_KERNELS 0
#endif

namespace rsseg::detail {
struct designated_canary {
  int a = 1, b = 2, c = 3;
};
// nvcc with clang as host compiler silently zeroes skipped members here.
static_assert(designated_canary{.c = 9}.a == 1, "this compiler miscompiles designated initialisers; with nvcc use g++ as host compiler");
}  // namespace rsseg::detail
