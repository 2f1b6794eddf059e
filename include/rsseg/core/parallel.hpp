// SPDX-License-Identifier: MIT
// Threads for the CPU backend: one static loop over independent chunks. Results never depend on the number of threads, since no
// chunk boundary depends on it: callers cut the work into chunks by size alone.
#pragma once
#include <cstdint>
#if defined(_OPENMP)
#include <omp.h>
#endif

namespace rsseg {

/// Sets how many threads rsseg's kernels use from now on (>= 1); 0 = what OpenMP gives (OMP_NUM_THREADS, or all cores).
inline int& thread_setting() {
  static int threads = 0;
  return threads;
}
inline void set_threads(int threads) { thread_setting() = threads < 0 ? 0 : threads; }
/// Threads a kernel started now would use: 1 inside a caller's own parallel region, so that nothing is oversubscribed.
inline int threads() {
#if defined(_OPENMP)
  if (omp_in_parallel()) return 1;
  return thread_setting() > 0 ? thread_setting() : omp_get_max_threads();
#else
  return 1;
#endif
}

/// Calls body(i) for i in [0, count), chunks handed out dynamically. body must write only what belongs to i, and must not throw.
template <class Body>
inline void parallel_for(std::int64_t count, const Body& body) {
#if defined(_OPENMP)
  const int use = threads();
  if (use > 1 && count > 1) {
#pragma omp parallel for schedule(dynamic) num_threads(use)
    for (std::int64_t i = 0; i < count; ++i) body(i);
    return;
  }
#endif
  for (std::int64_t i = 0; i < count; ++i) body(i);
}

}  // namespace rsseg
