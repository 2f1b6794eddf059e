// SPDX-License-Identifier: MIT
// Lovasz-softmax and Lovasz hinge: Berman, Triki, Blaschko, "The Lovasz-Softmax loss", CVPR 2018. The convex extension of the Jaccard loss:
// errors sorted in decreasing order, dotted with the increments of the Jaccard index. Conventions: loss_base.hpp.
#pragma once
#include "rsseg/loss/loss_base.hpp"

namespace rsseg::loss {

enum class lovasz_classes { present, all };

struct lovasz_options {
  lovasz_classes classes = lovasz_classes::present;  ///< mean over the classes in the target, or over all
  bool per_image = false;                            ///< mean over images instead of one flattened batch
  const double* weight = nullptr;                    ///< per class, of the mean over classes; null: all 1
  std::int32_t ignore = default_ignore;
};

namespace detail {

/// One error of a sorted problem. Equal errors: the lower index first, which decides the gradient, not the loss.
struct lovasz_item {
  double error;
  std::int32_t index;  // of the pixel; the sign bit tells foreground
};

inline void lovasz_sort(lovasz_item* items, std::int64_t m) {
  const auto before = [](const lovasz_item& a, const lovasz_item& b) {
    return a.error != b.error ? a.error > b.error : (a.index & 0x7fffffff) < (b.index & 0x7fffffff);
  };
  // Runs are sorted in parallel and merged pairwise; a total order has one result only.
  constexpr std::int64_t run = 65536;
  for_chunks(m, run, [&](std::int64_t begin, std::int64_t end, std::int64_t) { std::sort(items + begin, items + end, before); });
  for (std::int64_t width = run; width < m; width *= 2)
    for_chunks(m, 2 * width, [&](std::int64_t begin, std::int64_t end, std::int64_t) {
      if (begin + width < end) std::inplace_merge(items + begin, items + begin + width, items + end, before);
    });
}

/// Sum of error * increment over the sorted items; step(item, increment) is called for each, in order.
template <class Step>
inline double lovasz_sum(const lovasz_item* items, std::int64_t m, double foreground, const Step& step) {
  double loss = 0, last = 0, seen = 0;
  for (std::int64_t j = 0; j < m; ++j) {
    seen += items[j].index < 0;
    const double jaccard = 1 - (foreground - seen) / (foreground + (double(j + 1) - seen));
    step(items[j], jaccard - last);
    loss += std::max(items[j].error, 0.0) * (jaccard - last);
    last = jaccard;
  }
  return loss;
}

}  // namespace detail

inline std::size_t lovasz_workspace(shape s) { return std::size_t(s.pixels()) * std::size_t(s.c + 2); }

/// Per class, errors |g - p_c| over valid pixels. Throws usage_error for batches of 2^31 pixels and more.
template <class T>
inline loss_value lovasz_softmax(const T* z, const std::int32_t* t, shape s, const lovasz_options& o, T* dz, double* work = nullptr) {
  detail::check_targets(t, s, o.ignore);
  if (s.pixels() >= 0x7fffffff) throw usage_error("lovasz_softmax: too many pixels in one batch");
  const int classes = s.c, groups = o.per_image ? s.n : 1;
  const std::int64_t all = s.pixels(), part = o.per_image ? std::int64_t(s.h) * s.w : all;
  detail::scratch buffer(work, lovasz_workspace(s));
  double* p = buffer.data();
  static_assert(sizeof(detail::lovasz_item) == 2 * sizeof(double));
  auto* items = reinterpret_cast<detail::lovasz_item*>(p + all * classes);
  for_chunks(all, detail::chunk, [&](std::int64_t begin, std::int64_t end, std::int64_t) {
    for (std::int64_t i = begin; i < end; ++i) {
      const double total = detail::log_sum_exp(z + i * classes, classes);
      for (int k = 0; k < classes; ++k) p[i * classes + k] = std::exp(z[i * classes + k] - total);
    }
  });
  if (dz) std::fill(dz, dz + s.size(), T(0));
  loss_value result{0, all - std::count(t, t + all, o.ignore)};
  std::vector<char> present(static_cast<std::size_t>(classes));
  for (int group = 0; group < groups; ++group) {
    const std::int64_t begin = group * part, end = begin + part;
    std::fill(present.begin(), present.end(), 0);
    for (std::int64_t i = begin; i < end; ++i)
      if (t[i] != o.ignore) present[std::size_t(t[i])] = 1;
    double counted = 0;
    for (int k = 0; k < classes; ++k)
      if (o.classes == lovasz_classes::all || present[std::size_t(k)]) counted += o.weight ? o.weight[k] : 1.0;
    if (!(counted > 0)) continue;
    for (int k = 0; k < classes; ++k) {
      if (o.classes == lovasz_classes::present && !present[std::size_t(k)]) continue;
      const double scale = (o.weight ? o.weight[k] : 1.0) / (counted * groups);
      std::int64_t m = 0, foreground = 0;
      for (std::int64_t i = begin; i < end; ++i) {
        if (t[i] == o.ignore) continue;
        const bool hit = t[i] == k;
        foreground += hit;
        items[m++] = {hit ? 1 - p[i * classes + k] : p[i * classes + k], std::int32_t(i) | (hit ? std::int32_t(0x80000000u) : 0)};
      }
      if (m == 0) continue;
      detail::lovasz_sort(items, m);
      result.value += scale * detail::lovasz_sum(items, m, double(foreground), [&](const detail::lovasz_item& item, double increment) {
                        const std::int64_t i = item.index & 0x7fffffff;
                        if (dz) dz[i * classes + k] = T(scale * (item.index < 0 ? -increment : increment));
                      });
    }
  }
  if (!dz) return result;
  for_chunks(all, detail::chunk, [&](std::int64_t begin, std::int64_t end, std::int64_t) {
    for (std::int64_t i = begin; i < end; ++i) {
      T* di = dz + i * classes;
      if (t[i] == o.ignore) continue;
      double dot = 0;
      for (int k = 0; k < classes; ++k) dot += p[i * classes + k] * di[k];
      for (int k = 0; k < classes; ++k) di[k] = T(p[i * classes + k] * (di[k] - dot));
    }
  });
  return result;
}

inline std::size_t lovasz_hinge_workspace(shape s) { return 2 * std::size_t(s.pixels()); }

/// Binary form on one logit per pixel (s.c == 1), labels 0 and 1: errors 1 - z (2 y - 1), relu(error) . increment. Throws usage_error.
template <class T>
inline loss_value lovasz_hinge(const T* z, const std::int32_t* t, shape s, const lovasz_options& o, T* dz, double* work = nullptr) {
  if (s.c != 1) throw usage_error("lovasz_hinge: expected one logit per pixel, got " + std::to_string(s.c));
  if (s.pixels() >= 0x7fffffff) throw usage_error("lovasz_hinge: too many pixels in one batch");
  detail::check_targets(t, {s.n, 2, s.h, s.w}, o.ignore);
  const std::int64_t all = s.pixels(), part = o.per_image ? std::int64_t(s.h) * s.w : all;
  const int groups = o.per_image ? s.n : 1;
  detail::scratch buffer(work, lovasz_hinge_workspace(s));
  auto* items = reinterpret_cast<detail::lovasz_item*>(buffer.data());
  if (dz) std::fill(dz, dz + all, T(0));
  loss_value result{0, all - std::count(t, t + all, o.ignore)};
  for (int group = 0; group < groups; ++group) {
    std::int64_t m = 0, foreground = 0;
    for (std::int64_t i = group * part; i < (group + 1) * part; ++i) {
      if (t[i] == o.ignore) continue;
      foreground += t[i];
      items[m++] = {1 - double(z[i]) * (2 * t[i] - 1), std::int32_t(i) | (t[i] ? std::int32_t(0x80000000u) : 0)};
    }
    if (m == 0) continue;
    detail::lovasz_sort(items, m);
    const double scale = 1.0 / groups;
    result.value += scale * detail::lovasz_sum(items, m, double(foreground), [&](const detail::lovasz_item& item, double increment) {
                      if (dz && item.error > 0) dz[item.index & 0x7fffffff] = T(scale * (item.index < 0 ? -increment : increment));
                    });
  }
  return result;
}

}  // namespace rsseg::loss
