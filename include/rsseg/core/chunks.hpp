// SPDX-License-Identifier: MIT
// Loops and sums over many small items, cut into chunks by size alone, so that results do not depend on the number of threads.
#pragma once
#include <algorithm>
#include <cstdint>

#include "rsseg/core/parallel.hpp"

namespace rsseg {

constexpr std::int64_t chunk_count(std::int64_t count, std::int64_t chunk) { return (count + chunk - 1) / chunk; }

/// Calls body(begin, end, index) for each chunk of [0, count); body must not throw and must write only what belongs to its items.
template <class Body>
inline void for_chunks(std::int64_t count, std::int64_t chunk, const Body& body) {
  parallel_for(chunk_count(count, chunk), [&](std::int64_t i) { body(i * chunk, std::min(count, (i + 1) * chunk), i); });
}

/// Adds `width` partial sums of each chunk, first chunk first: partial[chunk * width + k] -> partial[k].
inline void fold_chunks(double* partial, std::int64_t chunks, std::int64_t width) {
  for (std::int64_t i = 1; i < chunks; ++i)
    for (std::int64_t k = 0; k < width; ++k) partial[k] += partial[i * width + k];
}

}  // namespace rsseg
