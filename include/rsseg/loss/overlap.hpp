// SPDX-License-Identifier: MIT
// Losses on the overlap of soft prediction and target: Dice, Jaccard, Tversky (Salehi et al. 2017), focal Tversky. Per class over the whole
// batch, from I = sum p g, P = sum p, G = sum g; ignored pixels are left out of all sums. Conventions: loss_base.hpp.
#pragma once
#include "rsseg/loss/loss_base.hpp"

namespace rsseg::loss {

/// 1 - (I + smooth) / (I + false_positive (P - I) + false_negative (G - I) + smooth), to the power `exponent`, mean over classes.
struct overlap_options {
  double false_positive = 0.5, false_negative = 0.5;
  double smooth = 0.5;
  double exponent = 1;
  bool squared = false;            ///< P = sum p^2 (V-Net)
  bool present_only = false;       ///< mean over the classes that occur in the target; else over all
  const double* weight = nullptr;  ///< per class, of the mean over classes; null: all 1
  std::int32_t ignore = default_ignore;
};
/// 1 - (2 I + s) / (P + G + s).
inline overlap_options dice_options(double s = 1) { return {.smooth = s / 2}; }
/// 1 - (I + s) / (P + G - I + s).
inline overlap_options jaccard_options(double s = 1) { return {.false_positive = 1, .false_negative = 1, .smooth = s}; }
inline overlap_options tversky_options(double false_positive, double false_negative, double s = 1) {
  return {.false_positive = false_positive, .false_negative = false_negative, .smooth = s};
}

inline std::size_t overlap_workspace(shape s) { return (3 * std::size_t(chunk_count(s.pixels(), detail::chunk)) + 2) * std::size_t(s.c); }

template <class T>
inline loss_value overlap(const T* z, const std::int32_t* t, shape s, const overlap_options& o, T* dz, double* work = nullptr) {
  detail::check_targets(t, s, o.ignore);
  const int classes = s.c;
  const std::int64_t chunks = chunk_count(s.pixels(), detail::chunk), width = 3 * classes;
  detail::scratch buffer(work, overlap_workspace(s));
  double *sums = buffer.data(), *slope_i = sums + width * chunks, *slope_p = slope_i + classes;
  std::fill(sums, sums + width * chunks, 0.0);
  for_chunks(s.pixels(), detail::chunk, [&](std::int64_t begin, std::int64_t end, std::int64_t index) {
    double *inter = sums + width * index, *predicted = inter + classes, *truth = predicted + classes;
    for (std::int64_t i = begin; i < end; ++i) {
      if (t[i] == o.ignore) continue;
      const double total = detail::log_sum_exp(z + i * classes, classes);
      for (int k = 0; k < classes; ++k) {
        const double p = std::exp(z[i * classes + k] - total);
        predicted[k] += o.squared ? p * p : p;
        if (k == t[i]) inter[k] += p, truth[k] += 1;
      }
    }
  });
  fold_chunks(sums, chunks, width);
  loss_value result{0, s.pixels() - std::count(t, t + s.pixels(), o.ignore)};
  const auto weight = [&](int k) { return o.weight ? o.weight[k] : 1.0; };
  double counted = 0;
  for (int k = 0; chunks > 0 && k < classes; ++k) counted += !o.present_only || sums[2 * classes + k] > 0 ? weight(k) : 0.0;
  for (int k = 0; k < classes; ++k) {
    slope_i[k] = slope_p[k] = 0;
    if (result.pixels == 0 || !(counted > 0) || (o.present_only && !(sums[2 * classes + k] > 0))) continue;
    const double share = weight(k) / counted;
    const double inter = sums[k], top = inter + o.smooth;
    const double bottom = top + o.false_positive * (sums[classes + k] - inter) + o.false_negative * (sums[2 * classes + k] - inter);
    const double miss = bottom > 0 ? std::max(0.0, 1 - top / bottom) : 0.0;
    result.value += share * std::pow(miss, o.exponent);
    if (!(bottom > 0)) continue;
    const double outer = (o.exponent == 1 ? 1.0 : miss > 0 ? o.exponent * std::pow(miss, o.exponent - 1) : 0.0) * share;
    slope_i[k] = -outer * (bottom - top * (1 - o.false_positive - o.false_negative)) / (bottom * bottom);
    slope_p[k] = outer * top * o.false_positive / (bottom * bottom);
  }
  if (dz)
    detail::gradient_through_softmax(
        z, t, s, o.ignore, dz, [&](int label, int k, double p) { return slope_p[k] * (o.squared ? 2 * p : 1.0) + (k == label ? slope_i[k] : 0.0); });
  return result;
}

/// Running state of adaptive class weighting: pass the same object to every step of a training run (checkpoint it with the optimizer).
struct adaptive_weight_state {
  std::vector<double> frequency;  ///< running mean of the batches' class frequencies
  std::int64_t iteration = 0;
};

struct adaptive_weight_options {
  double eps = 1e-5;
  std::int32_t ignore = default_ignore;
};

inline std::size_t adaptive_weight_workspace(shape s) { return (4 * std::size_t(chunk_count(s.pixels(), detail::chunk)) + 3) * std::size_t(s.c); }

/// Adaptive class weighting (Liu et al., MSCG-Net, 2020): pixel weight (1 + p + g) m_c with m from the running class frequencies (normalised
/// to sum 1, then clamped to [0.001, 1]); mean over all pixels (ignored ones count 0) of sum_c weight (e - ln((1 - e + eps) / (1 + e + eps))),
/// e = (g - p)^2, minus ln of the mean soft Dice. Advances the state by one step; an all-ignored batch leaves it alone.
template <class T>
inline loss_value adaptive_class_weight(const T* z, const std::int32_t* t, shape s, const adaptive_weight_options& o, adaptive_weight_state& state,
                                        T* dz, double* work = nullptr) {
  detail::check_targets(t, s, o.ignore);
  const int classes = s.c;
  const std::int64_t chunks = chunk_count(s.pixels(), detail::chunk), width = 4 * classes;
  detail::scratch buffer(work, adaptive_weight_workspace(s));
  double *sums = buffer.data(), *weight = sums + width * chunks, *slope_i = weight + classes, *slope_p = slope_i + classes;
  loss_value result{0, s.pixels() - std::count(t, t + s.pixels(), o.ignore)};
  if (result.pixels == 0) {
    if (dz) std::fill(dz, dz + s.size(), T(0));
    return result;
  }
  std::fill(sums, sums + width * chunks, 0.0);
  for (std::int64_t i = 0; i < s.pixels(); ++i)
    if (t[i] != o.ignore) sums[3 * classes + t[i]] += 1;
  state.frequency.resize(std::size_t(classes), 0.0);
  ++state.iteration;
  double mean = 0, total_weight = 0;
  for (int k = 0; k < classes; ++k) {
    double& f = state.frequency[std::size_t(k)];
    f = (f * double(state.iteration - 1) + sums[3 * classes + k] / double(result.pixels)) / double(state.iteration);
    mean += f / classes;
    sums[3 * classes + k] = 0;
  }
  for (int k = 0; k < classes; ++k) total_weight += weight[k] = mean / (state.frequency[std::size_t(k)] + o.eps);
  for (int k = 0; k < classes; ++k) weight[k] = std::clamp(weight[k] / total_weight, 0.001, 1.0);
  const double scale = 1.0 / double(s.pixels());
  // First pass: the sums of I, P, G per class and of the pixel terms; second pass: gradients.
  for_chunks(s.pixels(), detail::chunk, [&](std::int64_t begin, std::int64_t end, std::int64_t index) {
    double *inter = sums + width * index, *predicted = inter + classes, *truth = predicted + classes, *loss = truth + classes;
    for (std::int64_t i = begin; i < end; ++i) {
      if (t[i] == o.ignore) continue;
      const double total = detail::log_sum_exp(z + i * classes, classes);
      for (int k = 0; k < classes; ++k) {
        const double p = std::exp(z[i * classes + k] - total), g = k == t[i], e = (g - p) * (g - p);
        predicted[k] += p, truth[k] += g, inter[k] += g * p;
        loss[k] += weight[k] * (1 + p + g) * (e - std::log((1 - e + o.eps) / (1 + e + o.eps)));
      }
    }
  });
  fold_chunks(sums, chunks, width);
  double dice = 0;
  for (int k = 0; k < classes; ++k) {
    const double top = 2 * sums[k] + o.eps, bottom = sums[classes + k] + sums[2 * classes + k] + o.eps;
    dice += top / bottom / classes;
    slope_i[k] = 2 / bottom / classes, slope_p[k] = -top / (bottom * bottom) / classes;
    result.value += scale * sums[3 * classes + k];
  }
  result.value -= std::log(dice);
  if (dz)
    detail::gradient_through_softmax(z, t, s, o.ignore, dz, [&](int label, int k, double p) {
      const double g = k == label, e = (g - p) * (g - p), de = -2 * (g - p);
      const double term = e - std::log((1 - e + o.eps) / (1 + e + o.eps)), dterm = 1 + 1 / (1 - e + o.eps) + 1 / (1 + e + o.eps);
      return scale * weight[k] * (term + (1 + p + g) * dterm * de) - (slope_p[k] + g * slope_i[k]) / dice;
    });
  return result;
}

}  // namespace rsseg::loss
