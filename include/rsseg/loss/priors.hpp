// SPDX-License-Identifier: MIT
// Prior knowledge as differentiable penalties on class probabilities p (N, H, W, K): the survey's first open problem (section 5). Added to
// the main loss with a small weight (0.01 to 0.1). Each function returns the penalty and writes d penalty / d p to dp (null: no gradient);
// refine::softmax_backward() carries dp to logits. Constraints at inference: refine/constraints.hpp.
#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "rsseg/loss/loss_base.hpp"

namespace rsseg::loss {

namespace detail {

/// Sum of body(row) over the n * h rows, rows in parallel, added in order.
template <class Body>
inline double sum_rows(shape s, const Body& body) {
  std::vector<double> row(std::size_t(s.n) * s.h);
  parallel_for(std::int64_t(row.size()), [&](std::int64_t r) { row[std::size_t(r)] = body(int(r / s.h), int(r % s.h)); });
  double total = 0;
  for (const double v : row) total += v;
  return total;
}

/// Unordered 4-neighbour pairs of the batch.
inline double pair_count(shape s) { return double(s.n) * (double(s.h) * (s.w - 1) + double(s.h - 1) * s.w); }

/// Calls visit(j) for the 4-neighbours j of pixel (n, y, x), as flat pixel indices.
template <class Visit>
inline void neighbours(shape s, int n, int y, int x, const Visit& visit) {
  const std::int64_t i = (std::int64_t(n) * s.h + y) * s.w + x;
  if (x > 0) visit(i - 1);
  if (x + 1 < s.w) visit(i + 1);
  if (y > 0) visit(i - s.w);
  if (y + 1 < s.h) visit(i + s.w);
}

}  // namespace detail

/// Forbidden neighbours: mean over 4-neighbour pairs of sum_ab forbid[a, b] p_i(a) p_j(b). forbid is K x K, >= 0; its symmetric part counts.
template <class T>
inline double forbidden_neighbours(const T* p, shape s, const double* forbid, T* dp) {
  const double pairs = detail::pair_count(s), scale = detail::reciprocal(pairs);
  return 0.5 * detail::sum_rows(s, [&](int n, int y) {
           double loss = 0;
           std::vector<double> around(static_cast<std::size_t>(s.c));
           for (int x = 0; x < s.w; ++x) {
             const std::int64_t i = (std::int64_t(n) * s.h + y) * s.w + x;
             std::fill(around.begin(), around.end(), 0.0);
             detail::neighbours(s, n, y, x, [&](std::int64_t j) {
               for (int k = 0; k < s.c; ++k) around[std::size_t(k)] += p[j * s.c + k];
             });
             for (int a = 0; a < s.c; ++a) {
               double slope = 0;
               for (int b = 0; b < s.c; ++b) slope += 0.5 * (forbid[a * s.c + b] + forbid[b * s.c + a]) * around[std::size_t(b)];
               loss += scale * slope * p[i * s.c + a];
               if (dp) dp[i * s.c + a] = T(scale * slope);
             }
           }
           return loss;
         });
}

/// A class where it should not be: mean over pixels of p(cls) * cost, cost (N, H, W) >= 0, e.g. max(0, 2.5 m - height) for buildings.
template <class T>
inline double misplaced_class(const T* p, shape s, int cls, const T* cost, T* dp) {
  if (cls < 0 || cls >= s.c) throw usage_error("misplaced_class: class " + std::to_string(cls) + " does not exist");
  const double scale = detail::reciprocal(double(s.pixels()));
  return detail::sum_rows(s, [&](int n, int y) {
    double loss = 0;
    for (std::int64_t i = (std::int64_t(n) * s.h + y) * s.w, end = i + s.w; i < end; ++i) {
      loss += scale * p[i * s.c + cls] * cost[i];
      if (dp)
        for (int k = 0; k < s.c; ++k) dp[i * s.c + k] = T(k == cls ? scale * cost[i] : 0.0);
    }
    return loss;
  });
}

/// Area shares: mean over images of sum_c max(0, A_c - most_c)^2 + max(0, least_c - A_c)^2 with A_c the mean of p(c) (after Kervadec et al.,
/// Medical Image Analysis 2019). least and most: K values in [0, 1].
template <class T>
inline double area_bounds(const T* p, shape s, const double* least, const double* most, T* dp) {
  const std::int64_t area = std::int64_t(s.h) * s.w;
  double loss = 0;
  for (int n = 0; n < s.n && area > 0; ++n) {
    const T* image = p + n * area * s.c;
    const std::int64_t chunks = chunk_count(area, detail::chunk);
    std::vector<double> sum(std::size_t(chunks * s.c), 0.0), slope(std::size_t(s.c), 0.0);
    for_chunks(area, detail::chunk, [&](std::int64_t begin, std::int64_t end, std::int64_t index) {
      for (std::int64_t i = begin; i < end; ++i)
        for (int k = 0; k < s.c; ++k) sum[std::size_t(index * s.c + k)] += image[i * s.c + k];
    });
    fold_chunks(sum.data(), chunks, s.c);
    for (int k = 0; k < s.c; ++k) {
      const double share = sum[std::size_t(k)] / double(area), over = std::max(0.0, share - most[k]), under = std::max(0.0, least[k] - share);
      loss += (over * over + under * under) / s.n;
      slope[std::size_t(k)] = 2 * (over - under) / (double(area) * s.n);
    }
    if (dp)
      for_chunks(area * s.c, detail::chunk * 4, [&](std::int64_t begin, std::int64_t end, std::int64_t) {
        for (std::int64_t i = begin; i < end; ++i) dp[n * area * s.c + i] = T(slope[std::size_t(i % s.c)]);
      });
  }
  return loss;
}

/// Contrast-sensitive total variation: mean over 4-neighbour pairs of exp(-|I_i - I_j| / sigma) sum_k |p_i(k) - p_j(k)|. guide (N, H, W, bands)
/// or null: weight 1. The subgradient at equal values is 0.
template <class T>
inline double total_variation(const T* p, shape s, const T* guide, int bands, double sigma, T* dp) {
  if (guide && !(sigma > 0)) throw usage_error("total_variation: expected sigma > 0");
  const double scale = detail::reciprocal(detail::pair_count(s));
  return 0.5 * detail::sum_rows(s, [&](int n, int y) {
           double loss = 0;
           std::vector<double> slope(static_cast<std::size_t>(s.c));
           for (int x = 0; x < s.w; ++x) {
             const std::int64_t i = (std::int64_t(n) * s.h + y) * s.w + x;
             std::fill(slope.begin(), slope.end(), 0.0);
             detail::neighbours(s, n, y, x, [&](std::int64_t j) {
               double square = 0;
               for (int c = 0; guide && c < bands; ++c) {
                 const double d = double(guide[i * bands + c]) - double(guide[j * bands + c]);
                 square += d * d;
               }
               const double weight = scale * (guide ? std::exp(-std::sqrt(square) / sigma) : 1.0);
               for (int k = 0; k < s.c; ++k) {
                 const double d = double(p[i * s.c + k]) - double(p[j * s.c + k]);
                 loss += weight * std::abs(d);
                 slope[std::size_t(k)] += d > 0 ? weight : d < 0 ? -weight : 0;
               }
             });
             if (dp)
               for (int k = 0; k < s.c; ++k) dp[i * s.c + k] = T(slope[std::size_t(k)]);
           }
           return loss;
         });
}

/// Boundary loss (Kervadec et al., MIDL 2019): mean over pixels of sum_k p(k) distance(k), with signed_distance() of the target.
template <class T>
inline double boundary(const T* p, shape s, const T* distance, T* dp) {
  const double scale = detail::reciprocal(double(s.pixels()));
  return detail::sum_rows(s, [&](int n, int y) {
    double loss = 0;
    for (std::int64_t i = (std::int64_t(n) * s.h + y) * s.w * s.c, end = i + std::int64_t(s.w) * s.c; i < end; ++i) {
      loss += scale * p[i] * distance[i];
      if (dp) dp[i] = T(scale * distance[i]);
    }
    return loss;
  });
}

/// mean (a - b)^2 over count values, e.g. of f(T x) brought back and f(x) (refine/symmetry.hpp); da and db are minus each other.
template <class T>
inline double consistency(const T* a, const T* b, std::int64_t count, T* da, T* db) {
  const double scale = detail::reciprocal(double(count));
  const std::int64_t chunks = chunk_count(count, detail::chunk);
  std::vector<double> partial(std::size_t(chunks) + 1, 0.0);
  for_chunks(count, detail::chunk, [&](std::int64_t begin, std::int64_t end, std::int64_t index) {
    double value = 0;
    for (std::int64_t i = begin; i < end; ++i) {
      const double d = double(a[i]) - double(b[i]);
      value += scale * d * d;
      if (da) da[i] = T(2 * scale * d);
      if (db) db[i] = T(-2 * scale * d);
    }
    partial[std::size_t(index)] = value;
  });
  fold_chunks(partial.data(), chunks, 1);
  return partial[0];
}

namespace detail {

/// Exact squared Euclidean distance to the nearest zero of f, one line (Felzenszwalb, Huttenlocher, Theory of Computing 2012): the lower
/// envelope of parabolas rooted at (i, f[i]). at and cut: scratch of n and n + 1.
inline void distance_line(const double* f, int n, double* out, int* at, double* cut) {
  const double inf = std::numeric_limits<double>::infinity();
  int k = -1;
  for (int q = 0; q < n; ++q) {
    if (f[q] == inf) continue;
    double s = -inf;
    while (k >= 0) {
      s = ((f[q] + double(q) * q) - (f[at[k]] + double(at[k]) * at[k])) / (2.0 * (q - at[k]));
      if (s > cut[k]) break;
      --k;
    }
    if (k < 0) s = -inf;
    at[++k] = q, cut[k] = s, cut[k + 1] = inf;
  }
  for (int q = 0, j = 0; q < n; ++q) {
    if (k < 0) {
      out[q] = inf;
      continue;
    }
    while (cut[j + 1] < q) ++j;
    out[q] = double(q - at[j]) * (q - at[j]) + f[at[j]];
  }
}

/// Distances in pixels to the nearest marked pixel of an h x w plane; infinity when there is none.
inline std::vector<double> distance_to(const std::vector<char>& marked, int h, int w) {
  std::vector<double> plane(marked.size());
  for (std::size_t i = 0; i < marked.size(); ++i) plane[i] = marked[i] ? 0 : std::numeric_limits<double>::infinity();
  const int longest = std::max(h, w);
  std::vector<double> in(static_cast<std::size_t>(longest)), out(in.size()), cut(in.size() + 1);
  std::vector<int> at(in.size());
  for (int x = 0; x < w; ++x) {
    for (int y = 0; y < h; ++y) in[std::size_t(y)] = plane[std::size_t(y) * w + x];
    distance_line(in.data(), h, out.data(), at.data(), cut.data());
    for (int y = 0; y < h; ++y) plane[std::size_t(y) * w + x] = out[std::size_t(y)];
  }
  for (int y = 0; y < h; ++y) {
    std::copy_n(plane.data() + std::size_t(y) * w, w, in.begin());
    distance_line(in.data(), w, out.data(), at.data(), cut.data());
    for (int x = 0; x < w; ++x) plane[std::size_t(y) * w + x] = std::sqrt(out[std::size_t(x)]);
  }
  return plane;
}

}  // namespace detail

/// distance (N, H, W, K): per class, how far outside (positive) or inside (negative) its region a pixel lies, in pixels; pixels inside are
/// -(distance to the outside - 1), so both sides of a border are 1 and 0 away. 0 everywhere for classes that fill or miss an image.
/// Ignored pixels belong to no class and get 0.
template <class T>
inline void signed_distance(const std::int32_t* t, shape s, T* distance, std::int32_t ignore = default_ignore) {
  const std::int64_t area = std::int64_t(s.h) * s.w;
  parallel_for(std::int64_t(s.n) * s.c, [&](std::int64_t task) {
    const int n = int(task / s.c), k = int(task % s.c);
    std::vector<char> inside(static_cast<std::size_t>(area)), outside(inside.size());
    std::int64_t in = 0, out = 0;
    for (std::int64_t i = 0; i < area; ++i) {
      const std::int32_t label = t[n * area + i];
      in += inside[std::size_t(i)] = label == k;
      out += outside[std::size_t(i)] = label != k && label != ignore;
    }
    const bool both = in > 0 && out > 0;
    const auto to_inside = both ? detail::distance_to(inside, s.h, s.w) : std::vector<double>(std::size_t(area), 0.0);
    const auto to_outside = both ? detail::distance_to(outside, s.h, s.w) : to_inside;
    for (std::int64_t i = 0; i < area; ++i) {
      const double d = !both || t[n * area + i] == ignore ? 0 : inside[std::size_t(i)] ? 1 - to_outside[std::size_t(i)] : to_inside[std::size_t(i)];
      distance[(n * area + i) * s.c + k] = T(d);
    }
  });
}

}  // namespace rsseg::loss
