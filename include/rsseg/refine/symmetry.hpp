// SPDX-License-Identifier: MIT
// The eight symmetries of the square (D4): overhead images have no canonical up. For consistency penalties and for averaging predictions.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "rsseg/core/chunks.hpp"
#include "rsseg/core/error.hpp"
#include "rsseg/core/shape.hpp"

namespace rsseg::refine {

/// Symmetry op in [0, 8): bit 0 mirrors left-right, bit 1 mirrors top-bottom, bit 2 then transposes.
constexpr shape d4_shape(shape s, int op) { return (op & 4) ? shape{s.n, s.c, s.w, s.h} : s; }
/// The symmetry that undoes op.
constexpr int d4_inverse(int op) { return (op & 4) ? (4 | ((op & 1) << 1) | ((op & 2) >> 1)) : op; }

/// out (d4_shape(s, op)) = op applied to in (s), NHWC; out must not be in.
template <class T>
inline void d4_apply(const T* in, shape s, int op, T* out) {
  const shape o = d4_shape(s, op);
  parallel_for(std::int64_t(o.n) * o.h, [&](std::int64_t row) {
    const std::int64_t n = row / o.h;
    const int oy = int(row % o.h);
    for (int ox = 0; ox < o.w; ++ox) {
      int y = (op & 4) ? ox : oy, x = (op & 4) ? oy : ox;
      if (op & 1) x = s.w - 1 - x;
      if (op & 2) y = s.h - 1 - y;
      const T* from = in + ((n * s.h + y) * s.w + x) * s.c;
      T* to = out + (row * o.w + ox) * s.c;
      for (int c = 0; c < s.c; ++c) to[c] = from[c];
    }
  });
}

/// Mean over symmetries of predict(transformed image, its shape, result): test-time averaging. ops is a bit set of symmetries (255: all
/// eight, 1: none but the identity). predict writes channels per pixel at the input's extent. Returns (n, h, w, channels).
template <class T, class Predict>
inline std::vector<T> d4_average(const T* image, shape s, int channels, unsigned ops, const Predict& predict) {
  if ((ops & 255u) == 0) throw usage_error("d4_average: no symmetry chosen");
  const shape out{s.n, channels, s.h, s.w};
  std::vector<T> mean(std::size_t(out.size()), T(0)), turned(std::size_t(s.size())), result(mean.size()), back(mean.size());
  int used = 0;
  for (int op = 0; op < 8; ++op) {
    if (!(ops >> op & 1u)) continue;
    d4_apply(image, s, op, turned.data());
    predict(static_cast<const T*>(turned.data()), d4_shape(s, op), result.data());
    d4_apply(result.data(), d4_shape(out, op), d4_inverse(op), back.data());
    for (std::size_t i = 0; i < mean.size(); ++i) mean[i] += back[i];
    ++used;
  }
  for (T& v : mean) v /= T(used);
  return mean;
}

}  // namespace rsseg::refine
