// SPDX-License-Identifier: MIT
// Losses that are sums over pixels: cross entropy (class weights, label smoothing), focal loss (Lin et al., ICCV 2017), online hard
// example mining, binary cross entropy. Conventions: loss_base.hpp.
#pragma once
#include "rsseg/loss/loss_base.hpp"

namespace rsseg::loss {

enum class reduction {
  weighted_mean,  ///< divided by the sum of the targets' weights (PyTorch's convention)
  pixel_mean,     ///< divided by the number of valid pixels
  sum
};

struct cross_entropy_options {
  const double* weight = nullptr;  ///< per class, or null: all 1
  double smoothing = 0;            ///< the target becomes (1 - smoothing) one-hot + smoothing / K
  reduction reduce = reduction::weighted_mean;
  std::int32_t ignore = default_ignore;
};

inline std::size_t cross_entropy_workspace(shape s) { return 3 * std::size_t(chunk_count(s.pixels(), detail::chunk)); }

/// sum_i w_{t_i} ce_i, reduced.
template <class T>
inline loss_value cross_entropy(const T* z, const std::int32_t* t, shape s, const cross_entropy_options& o, T* dz, double* work = nullptr) {
  detail::check_targets(t, s, o.ignore);
  const int classes = s.c;
  const std::int64_t chunks = chunk_count(s.pixels(), detail::chunk);
  detail::scratch buffer(work, cross_entropy_workspace(s));
  double* partial = buffer.data();
  const auto weight = [&](int k) { return o.weight ? o.weight[k] : 1.0; };
  double all_weights = 0;
  for (int k = 0; k < classes; ++k) all_weights += weight(k);
  double norm = 0;
  std::int64_t pixels = 0;
  for (std::int64_t i = 0; i < s.pixels(); ++i)
    if (t[i] != o.ignore) norm += weight(t[i]), ++pixels;
  const double scale = o.reduce == reduction::sum ? 1 : detail::reciprocal(o.reduce == reduction::pixel_mean ? double(pixels) : norm);
  const double uniform = o.smoothing / classes;
  for_chunks(s.pixels(), detail::chunk, [&](std::int64_t begin, std::int64_t end, std::int64_t index) {
    double loss = 0;
    for (std::int64_t i = begin; i < end; ++i) {
      const T* zi = z + i * classes;
      T* di = dz ? dz + i * classes : nullptr;
      if (t[i] == o.ignore) {
        if (di) std::fill(di, di + classes, T(0));
        continue;
      }
      const double total = detail::log_sum_exp(zi, classes), hit = (1 - o.smoothing) * weight(t[i]);
      loss += hit * (total - zi[t[i]]);
      if (uniform != 0)
        for (int k = 0; k < classes; ++k) loss += uniform * weight(k) * (total - zi[k]);
      if (!di) continue;
      const double mass = hit + uniform * all_weights;
      for (int k = 0; k < classes; ++k) di[k] = T(scale * (mass * std::exp(zi[k] - total) - uniform * weight(k) - (k == t[i] ? hit : 0.0)));
    }
    partial[index] = loss;
  });
  fold_chunks(partial, chunks, 1);
  return {chunks ? partial[0] * scale : 0.0, pixels};
}

struct focal_options {
  double gamma = 2;
  const double* alpha = nullptr;  ///< per class factor, or null: all 1. The sum is divided by the number of valid pixels in either case
  std::int32_t ignore = default_ignore;
};

inline std::size_t focal_workspace(shape s) { return std::size_t(chunk_count(s.pixels(), detail::chunk)); }

/// mean of -alpha_t (1 - p_t)^gamma ln p_t.
template <class T>
inline loss_value focal(const T* z, const std::int32_t* t, shape s, const focal_options& o, T* dz, double* work = nullptr) {
  detail::check_targets(t, s, o.ignore);
  const int classes = s.c;
  const std::int64_t chunks = chunk_count(s.pixels(), detail::chunk), pixels = s.pixels() - std::count(t, t + s.pixels(), o.ignore);
  const double scale = detail::reciprocal(double(pixels));
  detail::scratch buffer(work, focal_workspace(s));
  double* partial = buffer.data();
  for_chunks(s.pixels(), detail::chunk, [&](std::int64_t begin, std::int64_t end, std::int64_t index) {
    double loss = 0;
    for (std::int64_t i = begin; i < end; ++i) {
      const T* zi = z + i * classes;
      T* di = dz ? dz + i * classes : nullptr;
      if (t[i] == o.ignore) {
        if (di) std::fill(di, di + classes, T(0));
        continue;
      }
      const double total = detail::log_sum_exp(zi, classes), log_p = std::min(0.0, zi[t[i]] - total), p = std::exp(log_p), rest = -std::expm1(log_p);
      const double alpha = o.alpha ? o.alpha[t[i]] : 1.0, factor = std::pow(rest, o.gamma);
      loss -= alpha * factor * log_p;
      if (!di) continue;
      // d/d ln p of -(1 - p)^g ln p; its second term vanishes as p -> 1, for every g > 0.
      const double slope = -factor + (rest > 0 && o.gamma != 0 ? o.gamma * p * std::pow(rest, o.gamma - 1) * log_p : 0.0);
      for (int k = 0; k < classes; ++k) di[k] = T(scale * alpha * slope * ((k == t[i]) - std::exp(zi[k] - total)));
    }
    partial[index] = loss;
  });
  fold_chunks(partial, chunks, 1);
  return {chunks ? partial[0] * scale : 0.0, pixels};
}

struct ohem_options {
  double threshold = 0.7;          ///< pixels whose true class has less probability than this are hard
  std::int64_t min_kept = 100000;  ///< the threshold is raised until about this many are
  double min_share = 0;            ///< and this share of the valid pixels (BiSeNet: 1/16)
  const double* weight = nullptr;  ///< per class; the mean is over the kept pixels' number
  std::int32_t ignore = default_ignore;
};

inline std::size_t ohem_workspace(shape s) { return 2 * std::size_t(s.pixels()) + std::size_t(chunk_count(s.pixels(), detail::chunk)); }

/// Online hard example mining: the mean cross entropy of pixels with p_t < max(threshold, the min_kept-th smallest p_t), strictly.
template <class T>
inline loss_value ohem(const T* z, const std::int32_t* t, shape s, const ohem_options& o, T* dz, double* work = nullptr) {
  detail::check_targets(t, s, o.ignore);
  const int classes = s.c;
  const std::int64_t all = s.pixels(), chunks = chunk_count(all, detail::chunk);
  detail::scratch buffer(work, ohem_workspace(s));
  double *p = buffer.data(), *sorted = p + all, *partial = sorted + all;
  for_chunks(all, detail::chunk, [&](std::int64_t begin, std::int64_t end, std::int64_t) {
    for (std::int64_t i = begin; i < end; ++i)
      p[i] = t[i] == o.ignore ? 2.0 : std::exp(z[i * classes + t[i]] - detail::log_sum_exp(z + i * classes, classes));
  });
  std::int64_t valid = 0;
  for (std::int64_t i = 0; i < all; ++i)
    if (t[i] != o.ignore) sorted[valid++] = p[i];
  double threshold = o.threshold;
  if (valid > 0) {
    double* cut = sorted + std::min(std::max({o.min_kept, std::int64_t(o.min_share * double(valid)), std::int64_t(0)}), valid - 1);
    std::nth_element(sorted, cut, sorted + valid);
    threshold = std::max(threshold, *cut);
  }
  std::int64_t kept = 0;
  for (std::int64_t i = 0; i < all; ++i) kept += p[i] < threshold && t[i] != o.ignore;
  const double scale = detail::reciprocal(double(kept));
  for_chunks(all, detail::chunk, [&](std::int64_t begin, std::int64_t end, std::int64_t index) {
    double loss = 0;
    for (std::int64_t i = begin; i < end; ++i) {
      const T* zi = z + i * classes;
      if (t[i] == o.ignore || !(p[i] < threshold)) {
        if (dz) std::fill(dz + i * classes, dz + (i + 1) * classes, T(0));
        continue;
      }
      const double total = detail::log_sum_exp(zi, classes), weight = o.weight ? o.weight[t[i]] : 1.0;
      loss += weight * (total - zi[t[i]]);
      if (dz)
        for (int k = 0; k < classes; ++k) dz[i * classes + k] = T(scale * weight * (std::exp(zi[k] - total) - (k == t[i])));
    }
    partial[index] = loss;
  });
  fold_chunks(partial, chunks, 1);
  return {chunks ? partial[0] * scale : 0.0, kept};
}

struct binary_options {
  double positive_weight = 1;  ///< factor of the label-1 term; the mean stays over pixels
  bool balanced = false;       ///< see below; positive_weight is not used then
  std::int32_t ignore = default_ignore;
};

inline std::size_t binary_cross_entropy_workspace(shape s) { return std::size_t(chunk_count(s.size(), detail::chunk)); }

/// Mean of -(w y ln sigma(z) + (1 - y) ln(1 - sigma(z))) over all values that are not ignored; t holds one label 0 or 1 per value of z.
/// Balanced (Xie and Tu, HED, ICCV 2015): label 1 weighs beta = share of label 0, label 0 weighs 1 - beta, and the sum is divided by the sum
/// of the weights, so both count half whatever their number; beta is that of the batch. Without one of the two the loss is 0, as in HED.
template <class T>
inline loss_value binary_cross_entropy(const T* z, const std::int32_t* t, shape s, const binary_options& o, T* dz, double* work = nullptr) {
  const std::int64_t all = s.size(), chunks = chunk_count(all, detail::chunk), valid = all - std::count(t, t + all, o.ignore);
  detail::check_targets(t, {1, 2, 1, int(all)}, o.ignore);
  const std::int64_t ones = std::count(t, t + all, 1);
  const double share = detail::reciprocal(double(valid));
  const double positive = o.balanced ? double(valid - ones) * share : o.positive_weight, negative = o.balanced ? double(ones) * share : 1;
  const double scale = o.balanced ? detail::reciprocal(2 * double(ones) * positive) : share;
  detail::scratch buffer(work, binary_cross_entropy_workspace(s));
  double* partial = buffer.data();
  for_chunks(all, detail::chunk, [&](std::int64_t begin, std::int64_t end, std::int64_t index) {
    double loss = 0;
    for (std::int64_t i = begin; i < end; ++i) {
      if (t[i] == o.ignore) {
        if (dz) dz[i] = T(0);
        continue;
      }
      const double v = z[i], e = std::log1p(std::exp(-std::abs(v)));  // ln(1 + exp(-|v|)): no overflow
      const double minus_log = e + std::max(-v, 0.0), minus_log_other = e + std::max(v, 0.0), sigma = std::exp(-minus_log);
      loss += t[i] == 1 ? positive * minus_log : negative * minus_log_other;
      if (dz) dz[i] = T(scale * (t[i] == 1 ? positive * (sigma - 1) : negative * sigma));
    }
    partial[index] = loss;
  });
  fold_chunks(partial, chunks, 1);
  return {chunks ? partial[0] * scale : 0.0, valid};
}

}  // namespace rsseg::loss
