// SPDX-License-Identifier: MIT
// Losses over class scores and their gradients to the logits (graph/ops/loss.hpp). Pixels are cut into chunks by size; each leaves its sums
// in the workspace, joined first to last. The gradient kernels make the sums again, so that loss and gradient share no state.
// Per class, with p = softmax, g = 1 where the target is the class: I = sum p g, P = sum p, G = sum g over the pixels that count.
#pragma once
#include <algorithm>
#include <cmath>

#include "rsseg/cpu/call.hpp"
#include "rsseg/cpu/loops.hpp"
#include "rsseg/graph/ops/loss.hpp"

namespace rsseg::cpu {

namespace detail {

/// A loss node or its gradient, unpacked.
template <class T>
struct loss_job {
  graph::loss_kind kind;
  const T* logits;
  const std::int32_t* target;
  const T* weights;  // per class, or null
  std::int64_t pixels, chunk, chunks;
  int classes, ignore, sums;  // sums per chunk
  double alpha, beta;
  std::int64_t count;
  double* partial;  // [chunks][sums]
  T* scratch;       // [chunks][classes]
  char* rest;

  /// Class of pixel i, or -1 if it counts nowhere.
  RSSEG_ALWAYS_INLINE int label(std::int64_t i) const {
    const int t = target[i];
    return t == ignore || t < 0 || t >= limit() ? -1 : t;
  }
  RSSEG_ALWAYS_INLINE int limit() const { return kind == graph::loss_kind::binary_cross_entropy ? 2 : classes; }
  RSSEG_ALWAYS_INLINE double weight(int label) const { return weights ? double(weights[label]) : 1.0; }
};

constexpr bool region_loss(graph::loss_kind k) {
  return k == graph::loss_kind::dice || k == graph::loss_kind::jaccard || k == graph::loss_kind::tversky;
}
constexpr int loss_sums(graph::loss_kind k, int classes) { return region_loss(k) ? 3 * classes : 2; }
constexpr std::int64_t loss_chunk(std::int64_t pixels) { return pixels / 64 + 1 > 1024 ? pixels / 64 + 1 : 1024; }

/// Probabilities of the classes; returns ln p[label].
template <class T>
RSSEG_ALWAYS_INLINE T softmax_at(const T* z, int classes, int label, T* p) {
  T top = z[0];
  for (int k = 1; k < classes; ++k) top = z[k] > top ? z[k] : top;
  T sum = 0;
  for (int k = 0; k < classes; ++k) sum += p[k] = std::exp(z[k] - top);
  const T factor = T(1) / sum;
  for (int k = 0; k < classes; ++k) p[k] *= factor;
  return z[label] - top - std::log(sum);
}

inline std::size_t loss_bytes(graph::loss_kind kind, const shape& logits, std::size_t element, bool gradient) {
  const std::int64_t pixels = logits.pixels(), chunk = loss_chunk(pixels), chunks = (pixels + chunk - 1) / chunk;
  std::size_t bytes = std::size_t(chunks) * (std::size_t(loss_sums(kind, logits.c)) * sizeof(double) + std::size_t(logits.c + 1) * element) + 64;
  if (kind == graph::loss_kind::ohem) bytes += std::size_t(pixels) * 2 * element;
  if (kind == graph::loss_kind::lovasz) bytes += std::size_t(pixels) * (sizeof(std::int32_t) + std::size_t(logits.c) * element);
  (void)gradient;
  return bytes;
}

template <class T>
inline loss_job<T> loss_job_of(const call<T>& c, int first_input) {
  const shape s = c.in_extent(first_input);
  loss_job<T> j{};
  j.kind = graph::loss_kind(c.at().mode);
  j.logits = c.in(first_input), j.target = c.index_in(first_input + 1);
  j.weights = c.inputs() > first_input + 2 ? c.in(first_input + 2) : nullptr;
  j.pixels = s.pixels(), j.chunk = loss_chunk(j.pixels), j.chunks = (j.pixels + j.chunk - 1) / j.chunk;
  j.classes = s.c, j.ignore = c.at().begin, j.sums = loss_sums(j.kind, s.c);
  j.alpha = c.at().alpha, j.beta = c.at().beta, j.count = c.at().count;
  j.partial = static_cast<double*>(c.workspace);
  j.scratch = reinterpret_cast<T*>(j.partial + j.chunks * j.sums);
  const std::size_t used = std::size_t(j.chunks) * (std::size_t(j.sums) * sizeof(double) + std::size_t(j.classes + 1) * sizeof(T));
  j.rest = static_cast<char*>(c.workspace) + (used + 15) / 16 * 16;
  return j;
}

/// Runs body(pixel begin, end, sums of the chunk, scratch row) and joins the sums into partial[0 ... sums).
template <class T, class Body>
inline void loss_chunks(const loss_job<T>& j, const Body& body) {
  sweep<T>(j.chunks, 1, [=, &j](std::int64_t b, std::int64_t e) RSSEG_INLINE_BODY {
    for (std::int64_t i = b; i < e; ++i) {
      double* sums = j.partial + i * j.sums;
      for (int k = 0; k < j.sums; ++k) sums[k] = 0;
      body(i * j.chunk, (i + 1) * j.chunk < j.pixels ? (i + 1) * j.chunk : j.pixels, sums, j.scratch + i * j.classes);
    }
  });
  for (std::int64_t i = 1; i < j.chunks; ++i)
    for (int k = 0; k < j.sums; ++k) j.partial[k] += j.partial[i * j.sums + k];
}

/// Sum of weights of the pixels that count, and their number, without looking at the logits.
template <class T>
inline void count_pixels(const loss_job<T>& j, double& weight, double& pixels) {
  loss_chunks(j, [&j](std::int64_t b, std::int64_t e, double* sums, T*) RSSEG_INLINE_BODY {
    for (std::int64_t i = b; i < e; ++i)
      if (const int t = j.label(i); t >= 0) sums[0] += j.weight(t), sums[1] += 1;
  });
  weight = j.partial[0], pixels = j.partial[1];
}

/// Overlap measure of a class and its derivatives by I and P.
struct overlap {
  double ratio, by_i, by_p;
};
template <class T>
inline overlap overlap_of(const loss_job<T>& j, int k) {
  const double i = j.partial[k], p = j.partial[j.classes + k], g = j.partial[2 * j.classes + k], s = j.alpha;
  if (j.kind == graph::loss_kind::dice) {
    const double d = p + g + s, n = 2 * i + s;
    return d > 0 ? overlap{n / d, 2 / d, -n / (d * d)} : overlap{1, 0, 0};
  }
  if (j.kind == graph::loss_kind::jaccard) {
    const double d = p + g - i + s, n = i + s;
    return d > 0 ? overlap{n / d, 1 / d + n / (d * d), -n / (d * d)} : overlap{1, 0, 0};
  }
  const double d = i + j.alpha * (p - i) + j.beta * (g - i);
  return d > 0 ? overlap{i / d, 1 / d - i * (1 - j.alpha - j.beta) / (d * d), -i * j.alpha / (d * d)} : overlap{1, 0, 0};
}
template <class T>
inline void region_sums(const loss_job<T>& j) {
  loss_chunks(j, [&j](std::int64_t b, std::int64_t e, double* sums, T* p) RSSEG_INLINE_BODY {
    for (std::int64_t i = b; i < e; ++i) {
      const int t = j.label(i);
      if (t < 0) continue;
      softmax_at(j.logits + i * j.classes, j.classes, t, p);
      sums[t] += double(p[t]), sums[2 * j.classes + t] += 1;
      for (int k = 0; k < j.classes; ++k) sums[j.classes + k] += double(p[k]);
    }
  });
}

/// Fills probabilities of the right class (2 where a pixel does not count) and returns the threshold below which a pixel is hard.
template <class T>
inline T hard_threshold(const loss_job<T>& j, T* right) {
  loss_chunks(j, [&j, right](std::int64_t b, std::int64_t e, double* sums, T* p) RSSEG_INLINE_BODY {
    for (std::int64_t i = b; i < e; ++i) {
      const int t = j.label(i);
      right[i] = T(2);
      if (t < 0) continue;
      softmax_at(j.logits + i * j.classes, j.classes, t, p);
      right[i] = p[t];
      sums[0] += 1;
    }
  });
  const std::int64_t valid = std::int64_t(j.partial[0]);
  if (valid == 0) return 0;
  T* sorted = right + j.pixels;
  std::copy(right, right + j.pixels, sorted);
  const std::int64_t k = std::min<std::int64_t>(j.count, valid - 1);  // ignored pixels (2) are above all others
  std::nth_element(sorted, sorted + k, sorted + j.pixels);
  return std::max(T(j.alpha), sorted[k]);
}

/// Lovasz-softmax: sum over the present classes; with `gradient` (pixels x classes) also d loss / d p before the division by their number.
/// Returns the number of present classes in `present`.
template <class T>
inline double lovasz_sum(const loss_job<T>& j, T* probabilities, std::int32_t* order, T* gradient, int& present) {
  sweep<T>(j.chunks, 1, [=, &j](std::int64_t b, std::int64_t e) RSSEG_INLINE_BODY {
    for (std::int64_t i = b * j.chunk; i < e * j.chunk && i < j.pixels; ++i)
      softmax_at(j.logits + i * j.classes, j.classes, 0, probabilities + i * j.classes);
  });
  double total = 0;
  present = 0;
  for (int k = 0; k < j.classes; ++k) {
    std::int64_t valid = 0, members = 0;
    for (std::int64_t i = 0; i < j.pixels; ++i)
      if (const int t = j.label(i); t >= 0) order[valid++] = std::int32_t(i), members += t == k;
    if (gradient)
      for (std::int64_t i = 0; i < j.pixels; ++i) gradient[i * j.classes + k] = 0;
    if (members == 0) continue;
    ++present;
    const auto mistake = [&j, probabilities, k](std::int32_t i) {
      const T p = probabilities[std::int64_t(i) * j.classes + k];
      return j.target[i] == k ? T(1) - p : p;
    };
    std::sort(order, order + valid, [&](std::int32_t a, std::int32_t b) {
      const T x = mistake(a), y = mistake(b);
      return x > y || (x == y && a < b);
    });
    double hits = 0, misses = 0, before = 0;  // among the pixels seen so far: of the class, not of the class
    for (std::int64_t r = 0; r < valid; ++r) {
      const bool member = j.target[order[r]] == k;
      (member ? hits : misses) += 1;
      const double jaccard = 1 - (double(members) - hits) / (double(members) + misses), step = jaccard - before;
      before = jaccard;
      total += double(mistake(order[r])) * step;
      if (gradient) gradient[std::int64_t(order[r]) * j.classes + k] = T(member ? -step : step);
    }
  }
  return total;
}
}  // namespace detail

template <class T>
std::size_t loss_space(const graph::graph& g, int id, const shape* s) {
  return detail::loss_bytes(graph::loss_kind(g.nodes[id].at.mode), s[g.input_of(id, 0)], sizeof(T), false);
}
template <class T>
std::size_t loss_grad_space(const graph::graph& g, int id, const shape* s) {
  return detail::loss_bytes(graph::loss_kind(g.nodes[id].at.mode), s[id], sizeof(T), true);
}

template <class T>
void loss(const call<T>& c) {
  using graph::loss_kind;
  const detail::loss_job<T> j = detail::loss_job_of(c, 0);
  T& result = *c.out();
  result = 0;
  switch (j.kind) {
    case loss_kind::cross_entropy:
    case loss_kind::focal:
      detail::loss_chunks(j, [&j](std::int64_t b, std::int64_t e, double* sums, T* p) RSSEG_INLINE_BODY {
        for (std::int64_t i = b; i < e; ++i) {
          const int t = j.label(i);
          if (t < 0) continue;
          const double log_p = double(detail::softmax_at(j.logits + i * j.classes, j.classes, t, p)), w = j.weight(t);
          if (j.kind == loss_kind::focal)
            sums[0] -= w * std::pow(1 - double(p[t]), j.alpha) * log_p, sums[1] += 1;
          else
            sums[0] -= w * log_p, sums[1] += w;
        }
      });
      if (j.partial[1] > 0) result = T(j.partial[0] / j.partial[1]);
      return;
    case loss_kind::binary_cross_entropy:
      detail::loss_chunks(j, [&j](std::int64_t b, std::int64_t e, double* sums, T*) RSSEG_INLINE_BODY {
        for (std::int64_t i = b; i < e; ++i) {
          const int t = j.label(i);
          if (t < 0) continue;
          const double z = double(j.logits[i * j.classes]);
          sums[0] += (z > 0 ? z : 0) - z * t + std::log1p(std::exp(z > 0 ? -z : z));
          sums[1] += 1;
        }
      });
      if (j.partial[1] > 0) result = T(j.partial[0] / j.partial[1]);
      return;
    case loss_kind::dice:
    case loss_kind::jaccard:
    case loss_kind::tversky: {
      detail::region_sums(j);
      double ratios = 0, pixels = 0;
      for (int k = 0; k < j.classes; ++k) ratios += detail::overlap_of(j, k).ratio, pixels += j.partial[2 * j.classes + k];
      if (pixels > 0) result = T(1 - ratios / j.classes);
      return;
    }
    case loss_kind::ohem: {
      T* right = reinterpret_cast<T*>(j.rest);
      const T threshold = detail::hard_threshold(j, right);
      detail::loss_chunks(j, [&j, right, threshold](std::int64_t b, std::int64_t e, double* sums, T* p) RSSEG_INLINE_BODY {
        for (std::int64_t i = b; i < e; ++i) {
          if (!(right[i] < threshold) || right[i] > 1) continue;
          const int t = j.target[i];
          sums[0] -= j.weight(t) * double(detail::softmax_at(j.logits + i * j.classes, j.classes, t, p)), sums[1] += 1;
        }
      });
      if (j.partial[1] > 0) result = T(j.partial[0] / j.partial[1]);
      return;
    }
    case loss_kind::lovasz: {
      T* probabilities = reinterpret_cast<T*>(j.rest);
      int present = 0;
      const double sum =
          detail::lovasz_sum<T>(j, probabilities, reinterpret_cast<std::int32_t*>(probabilities + j.pixels * j.classes), nullptr, present);
      if (present > 0) result = T(sum / present);
      return;
    }
  }
}

/// (d loss, logits, target [, weights]) -> d logits.
template <class T>
void loss_grad(const call<T>& c) {
  using graph::loss_kind;
  const detail::loss_job<T> j = detail::loss_job_of(c, 1);
  const double scale = double(*c.in(0));
  T* dz = c.out();
  const int classes = j.classes;
  // One pass over the pixels; at(pixel, label, p, dz of the pixel, ln p[label]) is called for those that count, the others get zeros.
  const auto each_pixel = [&](const auto& at) {
    sweep<T>(j.chunks, 1, [=, &j, &at](std::int64_t b, std::int64_t e) RSSEG_INLINE_BODY {
      for (std::int64_t i = b * j.chunk; i < e * j.chunk && i < j.pixels; ++i) {
        const int t = j.label(i);
        T* to = dz + i * classes;
        if (t < 0) {
          for (int k = 0; k < classes; ++k) to[k] = 0;
        } else {
          const T log_p = detail::softmax_at(j.logits + i * classes, classes, t, to);
          at(i, t, to, log_p);
        }
      }
    });
  };
  switch (j.kind) {
    case loss_kind::cross_entropy:
    case loss_kind::focal: {
      double weight, pixels;
      detail::count_pixels(j, weight, pixels);
      const double sum = j.kind == loss_kind::focal ? pixels : weight, factor = sum > 0 ? scale / sum : 0;
      if (j.kind == loss_kind::cross_entropy)
        return each_pixel([&j, factor, classes](std::int64_t, int t, T* to, T) RSSEG_INLINE_BODY {
          const T w = T(j.weight(t) * factor);
          for (int k = 0; k < classes; ++k) to[k] *= w;
          to[t] -= w;
        });
      return each_pixel([&j, factor, classes](std::int64_t, int t, T* to, T log_p) RSSEG_INLINE_BODY {
        const double p = double(to[t]), q = 1 - p;  // d loss / d ln p
        const double slope = -std::pow(q, j.alpha) + (q > 0 && j.alpha > 0 ? j.alpha * p * std::pow(q, j.alpha - 1) * double(log_p) : 0);
        const T w = T(-slope * j.weight(t) * factor);
        for (int k = 0; k < classes; ++k) to[k] *= w;
        to[t] -= w;
      });
    }
    case loss_kind::binary_cross_entropy: {
      double weight, pixels;
      detail::count_pixels(j, weight, pixels);
      const double factor = pixels > 0 ? scale / pixels : 0;
      sweep<T>(j.pixels, 4096, [=, &j](std::int64_t b, std::int64_t e) RSSEG_INLINE_BODY {
        for (std::int64_t i = b; i < e; ++i) {
          const int t = j.label(i);
          const double z = double(j.logits[i * classes]);
          for (int k = 1; k < classes; ++k) dz[i * classes + k] = 0;
          dz[i * classes] = t < 0 ? T(0) : T(factor * (1 / (1 + std::exp(-z)) - t));
        }
      });
      return;
    }
    case loss_kind::dice:
    case loss_kind::jaccard:
    case loss_kind::tversky: {
      detail::region_sums(j);
      double* by_i = j.partial;  // the sums become the derivatives
      double* by_p = j.partial + classes;
      for (int k = 0; k < classes; ++k) {
        const detail::overlap o = detail::overlap_of(j, k);
        by_i[k] = -scale * o.by_i / classes, by_p[k] = -scale * o.by_p / classes;
      }
      return each_pixel([by_i, by_p, classes](std::int64_t, int t, T* to, T) RSSEG_INLINE_BODY {
        double along = by_i[t] * double(to[t]);
        for (int k = 0; k < classes; ++k) along += by_p[k] * double(to[k]);
        for (int k = 0; k < classes; ++k) to[k] *= T(by_p[k] + (k == t ? by_i[k] : 0) - along);
      });
    }
    case loss_kind::ohem: {
      T* right = reinterpret_cast<T*>(j.rest);
      const T threshold = detail::hard_threshold(j, right);
      detail::loss_chunks(j, [right, threshold](std::int64_t b, std::int64_t e, double* sums, T*) RSSEG_INLINE_BODY {
        for (std::int64_t i = b; i < e; ++i) sums[0] += right[i] < threshold && right[i] <= 1;
      });
      const double factor = j.partial[0] > 0 ? scale / j.partial[0] : 0;
      return each_pixel([&j, right, threshold, factor, classes](std::int64_t i, int t, T* to, T) RSSEG_INLINE_BODY {
        const T w = right[i] < threshold ? T(j.weight(t) * factor) : T(0);
        for (int k = 0; k < classes; ++k) to[k] *= w;
        to[t] -= w;
      });
    }
    case loss_kind::lovasz: {
      T* probabilities = reinterpret_cast<T*>(j.rest);
      int present = 0;
      detail::lovasz_sum(j, probabilities, reinterpret_cast<std::int32_t*>(probabilities + j.pixels * classes), dz, present);
      const T factor = present > 0 ? T(scale / present) : T(0);
      sweep<T>(j.pixels, items_per_chunk(classes), [=](std::int64_t b, std::int64_t e) RSSEG_INLINE_BODY {
        for (std::int64_t i = b * classes; i < e * classes; i += classes) {
          T along = 0;
          for (int k = 0; k < classes; ++k) along += dz[i + k] * probabilities[i + k];
          for (int k = 0; k < classes; ++k) dz[i + k] = factor * probabilities[i + k] * (dz[i + k] - along);
        }
      });
      return;
    }
  }
}

}  // namespace rsseg::cpu
