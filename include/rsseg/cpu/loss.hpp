// SPDX-License-Identifier: MIT
// Losses over class scores and their gradients to the logits (graph/ops/loss.hpp). Cross entropy, which every training runs, has its own
// kernels here; the other losses are the functions of rsseg/loss/, which say where they come from. Pixels are cut into chunks by size;
// each leaves its sums in the workspace, joined first to last. Loss and gradient share no state: the gradient makes the sums again.
#pragma once
#include <algorithm>
#include <cmath>

#include "rsseg/cpu/call.hpp"
#include "rsseg/cpu/exp.hpp"
#include "rsseg/cpu/loops.hpp"
#include "rsseg/graph/ops/loss.hpp"
#include "rsseg/loss/cross_entropy.hpp"
#include "rsseg/loss/lovasz.hpp"
#include "rsseg/loss/overlap.hpp"

namespace rsseg::cpu {

namespace detail {

/// A loss node or its gradient, unpacked.
template <class T>
struct loss_job {
  const T* logits;
  const std::int32_t* target;
  const T* weights;  // per class, or null
  shape extent;      // of the logits
  int limit, ignore;
  double* partial;  // [chunks][2]

  /// Class of pixel i, or -1 if it counts nowhere: the ignore id, or (which the data layer refuses) an id without a class.
  RSSEG_ALWAYS_INLINE int label(std::int64_t i) const {
    const int t = target[i];
    return t == ignore || t < 0 || t >= limit ? -1 : t;
  }
  RSSEG_ALWAYS_INLINE double weight(int label) const { return weights ? double(weights[label]) : 1.0; }
};

/// At most 64 chunks, none below 1024 pixels.
constexpr std::int64_t loss_chunk(std::int64_t pixels) { return pixels / 64 + 1 > 1024 ? pixels / 64 + 1 : 1024; }

template <class T>
inline loss_job<T> loss_job_of(const call<T>& c, int first) {
  const shape s = c.in_extent(first);
  const auto kind = graph::loss_kind(c.at().mode);
  const bool binary = kind == graph::loss_kind::binary_cross_entropy || kind == graph::loss_kind::balanced_binary;
  return {c.in(first),
          c.index_in(first + 1),
          c.inputs() > first + 2 ? c.in(first + 2) : nullptr,
          s,
          binary                                    ? 2
          : kind == graph::loss_kind::squared_error ? graph::soft_one + 1
                                                    : s.c,
          c.at().begin,
          static_cast<double*>(c.workspace)};
}

/// Runs body(pixel begin, end, sums of the chunk) and joins the sums.
struct two_sums {
  double first, second;
};
template <class T, class Body>
inline two_sums loss_chunks(const loss_job<T>& j, const Body& body) {
  const std::int64_t pixels = j.extent.pixels(), chunk = loss_chunk(pixels), chunks = chunk_count(pixels, chunk);
  double* partial = j.partial;
  sweep<T>(pixels, chunk, [&body, partial, chunk](std::int64_t b, std::int64_t e) RSSEG_INLINE_BODY {
    double sums[2] = {0, 0};  // not in `partial` itself: four chunks share a cache line, and threads would take it from each other
    body(b, e, sums);
    std::copy_n(sums, 2, partial + b / chunk * 2);
  });
  fold_chunks(partial, chunks, 2);
  return {partial[0], partial[1]};
}
/// Sum of the weights of the pixels that count, and their number.
template <class T>
inline two_sums count_pixels(const loss_job<T>& j) {
  return loss_chunks(j, [&j](std::int64_t b, std::int64_t e, double* sums) RSSEG_INLINE_BODY {
    for (std::int64_t i = b; i < e; ++i)
      if (const int t = j.label(i); t >= 0) sums[0] += j.weight(t), sums[1] += 1;
  });
}

template <class T>
inline double cross_entropy_value(const loss_job<T>& j) {
  const two_sums s = loss_chunks(j, [&j](std::int64_t b, std::int64_t e, double* sums) RSSEG_INLINE_BODY {
    const int classes = j.extent.c;
    T top[exp_block], total[exp_block];
    for (std::int64_t i = b; i < e;) {
      const int n = exp_pixels<T>(j.logits + i * classes, classes, e - i, top, total);
      for (int k = 0; k < n; ++k, ++i) {
        const int t = j.label(i);
        if (t < 0) continue;
        const double w = j.weight(t);
        sums[0] += w * (std::log(double(total[k])) - (double(j.logits[i * classes + t]) - double(top[k]))), sums[1] += w;
      }
    }
  });
  return s.second > 0 ? s.first / s.second : 0;
}
template <class T>
inline void cross_entropy_gradient(const loss_job<T>& j, double scale, T* dz) {
  const double sum = count_pixels(j).first, factor = sum > 0 ? scale / sum : 0;
  const std::int64_t pixels = j.extent.pixels();
  sweep<T>(pixels, loss_chunk(pixels), [&j, factor, dz](std::int64_t b, std::int64_t e) RSSEG_INLINE_BODY {
    const int classes = j.extent.c;
    T top[exp_block], total[exp_block];
    for (std::int64_t i = b; i < e;) {
      const int n = exp_pixels<T>(j.logits + i * classes, classes, e - i, top, total, dz + i * classes);
      for (int k = 0; k < n; ++k, ++i) {
        const int t = j.label(i);
        const T w = t < 0 ? T(0) : T(j.weight(t) * factor), share = w / total[k];
        T* to = dz + i * classes;
        for (int c = 0; c < classes; ++c) to[c] *= share;
        if (t >= 0) to[t] -= w;
      }
    }
  });
}

/// Weights of targets 0 and 1 in a binary loss, already divided by their sum over the pixels that count. Balanced (HED): both targets have
/// the same sum, half of the whole; nothing is learnt from a batch that has only one of them.
struct binary_weights {
  double of[2];
};
template <class T>
inline binary_weights binary_weights_of(const loss_job<T>& j, bool balanced) {
  const two_sums s = loss_chunks(j, [&j](std::int64_t b, std::int64_t e, double* sums) RSSEG_INLINE_BODY {
    for (std::int64_t i = b; i < e; ++i)
      if (const int t = j.label(i); t >= 0) sums[t] += 1;
  });
  const double all = s.first + s.second;
  if (!(all > 0) || (balanced && !(s.first > 0 && s.second > 0))) return {{0, 0}};
  if (balanced) return {{0.5 / s.first, 0.5 / s.second}};
  return {{1 / all, 1 / all}};
}
/// Channel 0 against targets 0 and 1.
template <class T>
inline double binary_value(const loss_job<T>& j, bool balanced) {
  const binary_weights w = binary_weights_of(j, balanced);
  return loss_chunks(j,
                     [&j, w](std::int64_t b, std::int64_t e, double* sums) RSSEG_INLINE_BODY {
                       for (std::int64_t i = b; i < e; ++i) {
                         const int t = j.label(i);
                         if (t < 0) continue;
                         const double z = double(j.logits[i * j.extent.c]);
                         sums[0] += w.of[t] * ((z > 0 ? z : 0) - z * t + std::log1p(std::exp(z > 0 ? -z : z)));
                       }
                     })
      .first;
}
template <class T>
inline void binary_gradient(const loss_job<T>& j, bool balanced, double scale, T* dz) {
  const binary_weights w = binary_weights_of(j, balanced);
  sweep<T>(j.extent.pixels(), 4096, [&j, w, scale, dz](std::int64_t b, std::int64_t e) RSSEG_INLINE_BODY {
    const int classes = j.extent.c;
    for (std::int64_t i = b; i < e; ++i) {
      const int t = j.label(i);
      for (int k = 1; k < classes; ++k) dz[i * classes + k] = 0;
      dz[i * classes] = t < 0 ? T(0) : T(scale * w.of[t] * (1 / (1 + std::exp(-double(j.logits[i * classes]))) - t));
    }
  });
}

/// Channel 0 against fixed-point targets: mean over the pixels that count of (value - target)^2 / 2.
template <class T>
inline double squared_value(const loss_job<T>& j) {
  const two_sums s = loss_chunks(j, [&j](std::int64_t b, std::int64_t e, double* sums) RSSEG_INLINE_BODY {
    for (std::int64_t i = b; i < e; ++i) {
      if (j.label(i) < 0) continue;
      const double d = double(j.logits[i * j.extent.c]) - double(j.target[i]) / graph::soft_one;
      sums[0] += d * d / 2, sums[1] += 1;
    }
  });
  return s.second > 0 ? s.first / s.second : 0;
}
template <class T>
inline void squared_gradient(const loss_job<T>& j, double scale, T* dz) {
  const double count = count_pixels(j).second, factor = count > 0 ? scale / count : 0;
  sweep<T>(j.extent.pixels(), 4096, [&j, factor, dz](std::int64_t b, std::int64_t e) RSSEG_INLINE_BODY {
    const int classes = j.extent.c;
    for (std::int64_t i = b; i < e; ++i) {
      for (int k = 1; k < classes; ++k) dz[i * classes + k] = 0;
      const double d = double(j.logits[i * classes]) - double(j.target[i]) / graph::soft_one;
      dz[i * classes] = j.label(i) < 0 ? T(0) : T(factor * d);
    }
  });
}

/// The losses of rsseg/loss/; dz may be null. The workspace starts with the class weights in double precision.
template <class T>
inline double other_loss(const graph::attributes& a, const loss_job<T>& j, T* dz) {
  using graph::loss_kind;
  double* work = j.partial;
  const double* weights = nullptr;
  if (j.weights) {
    for (int k = 0; k < j.extent.c; ++k) work[k] = double(j.weights[k]);
    weights = work;
    work += j.extent.c;
  }
  switch (loss_kind(a.mode)) {
    case loss_kind::cross_entropy:
      return rsseg::loss::cross_entropy(j.logits, j.target, j.extent, {.weight = weights, .smoothing = a.alpha, .ignore = j.ignore}, dz, work).value;
    case loss_kind::focal:
      return rsseg::loss::focal(j.logits, j.target, j.extent, {.gamma = a.alpha, .alpha = weights, .ignore = j.ignore}, dz, work).value;
    case loss_kind::ohem:
      return rsseg::loss::ohem(j.logits, j.target, j.extent,
                               {.threshold = a.alpha, .min_kept = a.count, .min_share = a.beta, .weight = weights, .ignore = j.ignore}, dz, work)
          .value;
    case loss_kind::lovasz:
      return rsseg::loss::lovasz_softmax(j.logits, j.target, j.extent,
                                         {.classes = a.flag2 ? rsseg::loss::lovasz_classes::all : rsseg::loss::lovasz_classes::present,
                                          .per_image = a.flag,
                                          .weight = weights,
                                          .ignore = j.ignore},
                                         dz, work)
          .value;
    default: {
      rsseg::loss::overlap_options o = loss_kind(a.mode) == loss_kind::dice      ? rsseg::loss::dice_options(a.alpha)
                                       : loss_kind(a.mode) == loss_kind::jaccard ? rsseg::loss::jaccard_options(a.alpha)
                                                                                 : rsseg::loss::tversky_options(a.alpha, a.beta, a.gamma);
      o.ignore = j.ignore, o.weight = weights, o.present_only = a.flag;
      return rsseg::loss::overlap(j.logits, j.target, j.extent, o, dz, work).value;
    }
  }
}
inline std::size_t loss_bytes(const graph::attributes& a, const shape& s) {
  using graph::loss_kind;
  std::size_t doubles = 2 * std::size_t(chunk_count(s.pixels(), loss_chunk(s.pixels())));
  switch (loss_kind(a.mode)) {
    case loss_kind::cross_entropy:
      if (a.alpha != 0) doubles = rsseg::loss::cross_entropy_workspace(s);
      break;
    case loss_kind::binary_cross_entropy:
    case loss_kind::balanced_binary:
    case loss_kind::squared_error:
      break;
    case loss_kind::focal:
      doubles = rsseg::loss::focal_workspace(s);
      break;
    case loss_kind::ohem:
      doubles = rsseg::loss::ohem_workspace(s);
      break;
    case loss_kind::lovasz:
      doubles = rsseg::loss::lovasz_workspace(s);
      break;
    default:
      doubles = rsseg::loss::overlap_workspace(s);
      break;
  }
  return (doubles + std::size_t(s.c)) * sizeof(double);
}
}  // namespace detail

inline std::size_t loss_space(const graph::graph& g, int id, const shape* s) { return detail::loss_bytes(g.nodes[id].at, s[g.input_of(id, 0)]); }
inline std::size_t loss_grad_space(const graph::graph& g, int id, const shape* s) { return detail::loss_bytes(g.nodes[id].at, s[id]); }

template <class T>
void loss(const call<T>& c) {
  const detail::loss_job<T> j = detail::loss_job_of(c, 0);
  const auto kind = graph::loss_kind(c.at().mode);
  if (kind == graph::loss_kind::cross_entropy && c.at().alpha == 0)
    *c.out() = T(detail::cross_entropy_value(j));
  else if (kind == graph::loss_kind::binary_cross_entropy || kind == graph::loss_kind::balanced_binary)
    *c.out() = T(detail::binary_value(j, kind == graph::loss_kind::balanced_binary));
  else if (kind == graph::loss_kind::squared_error)
    *c.out() = T(detail::squared_value(j));
  else
    *c.out() = T(detail::other_loss<T>(c.at(), j, nullptr));
}

/// (d loss, logits, target [, weights]) -> d logits.
template <class T>
void loss_grad(const call<T>& c) {
  const detail::loss_job<T> j = detail::loss_job_of(c, 1);
  const double scale = double(*c.in(0));
  const auto kind = graph::loss_kind(c.at().mode);
  if (kind == graph::loss_kind::cross_entropy && c.at().alpha == 0) return detail::cross_entropy_gradient(j, scale, c.out());
  if (kind == graph::loss_kind::binary_cross_entropy || kind == graph::loss_kind::balanced_binary)
    return detail::binary_gradient(j, kind == graph::loss_kind::balanced_binary, scale, c.out());
  if (kind == graph::loss_kind::squared_error) return detail::squared_gradient(j, scale, c.out());
  detail::other_loss(c.at(), j, c.out());
  if (scale != 1) map(c.extent().size(), static_cast<const T*>(c.out()), c.out(), [s = T(scale)](T v) RSSEG_INLINE_BODY { return s * v; });
}

}  // namespace rsseg::cpu
