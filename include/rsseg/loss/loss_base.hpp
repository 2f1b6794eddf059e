// SPDX-License-Identifier: MIT
// What all losses share. A loss is a function (logits z, target t, shape, options, dz, work) -> loss_value: z is NHWC (N, H, W, K), t holds
// N * H * W labels, dz (null: no gradient) is overwritten with d value / d z, and is exactly zero at ignored pixels.
// work may be null (the function allocates) or hold <loss>_workspace(shape) doubles. Sums run in double, in chunks of fixed size and in
// order: the same bits for any number of threads. An all-ignored target gives 0 and a zero gradient, never NaN.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "rsseg/core/chunks.hpp"
#include "rsseg/core/error.hpp"
#include "rsseg/core/shape.hpp"

namespace rsseg::loss {

/// Label of pixels that count for nothing.
constexpr std::int32_t default_ignore = 255;

struct loss_value {
  double value = 0;
  std::int64_t pixels = 0;  ///< pixels that took part
};

namespace detail {

constexpr std::int64_t chunk = 4096;

/// The caller's doubles, or own ones.
class scratch {
 public:
  scratch(double* given, std::size_t count) : at_(given) {
    if (!at_) own_.resize(count), at_ = own_.data();
  }
  double* data() { return at_; }

 private:
  std::vector<double> own_;
  double* at_;
};

/// Throws usage_error unless every target is the ignore label or in [0, classes).
inline void check_targets(const std::int32_t* t, shape s, std::int32_t ignore) {
  if (s.c < 1) throw usage_error("loss: expected at least one class");
  for (std::int64_t i = 0; i < s.pixels(); ++i)
    if (t[i] != ignore && (t[i] < 0 || t[i] >= s.c))
      throw usage_error("loss: target " + std::to_string(t[i]) + " at pixel " + std::to_string(i) + " is neither a class below " +
                        std::to_string(s.c) + " nor the ignore label " + std::to_string(ignore) + "; check the dataset's class count and palette");
}

/// ln sum exp of one pixel's logits.
template <class T>
inline double log_sum_exp(const T* z, int k) {
  double top = z[0], sum = 0;
  for (int i = 1; i < k; ++i) top = std::max(top, double(z[i]));
  for (int i = 0; i < k; ++i) sum += std::exp(z[i] - top);
  return top + std::log(sum);
}

/// From slopes to probabilities to the gradient of the logits: dz_k = p_k (slope_k - sum_j p_j slope_j), slope_k = slope(label, k, p_k); 0 at
/// ignored pixels.
template <class T, class Slope>
inline void gradient_through_softmax(const T* z, const std::int32_t* t, shape s, std::int32_t ignore, T* dz, const Slope& slope) {
  for_chunks(s.pixels(), chunk, [&](std::int64_t begin, std::int64_t end, std::int64_t) {
    for (std::int64_t i = begin; i < end; ++i) {
      const T* zi = z + i * s.c;
      T* di = dz + i * s.c;
      if (t[i] == ignore) {
        std::fill(di, di + s.c, T(0));
        continue;
      }
      const double total = log_sum_exp(zi, s.c);
      double mean = 0;
      for (int k = 0; k < s.c; ++k) {
        const double p = std::exp(zi[k] - total);
        mean += p * slope(t[i], k, p);
      }
      for (int k = 0; k < s.c; ++k) {
        const double p = std::exp(zi[k] - total);
        di[k] = T(p * (slope(t[i], k, p) - mean));
      }
    }
  });
}

/// 1 / x, or 0 where nothing was counted.
inline double reciprocal(double x) { return x > 0 ? 1 / x : 0; }

}  // namespace detail
}  // namespace rsseg::loss
