// SPDX-License-Identifier: MIT
// What is known about labels: a hierarchy of classes, and noise of weak maps (OpenStreetMap and the like). Conventions: loss_base.hpp.
#pragma once
#include "rsseg/loss/loss_base.hpp"

namespace rsseg::loss {

namespace detail {

/// Mean over valid pixels of -ln sum_k share(k, t) p_k, for shares >= 0: with e = softmax, dz_k = p_k (1 - share(k, t) / sum).
template <class T, class Share>
inline loss_value mixture_cross_entropy(const T* z, const std::int32_t* t, shape s, std::int32_t ignore, double weight, bool add, const Share& share,
                                        T* dz) {
  const std::int64_t chunks = chunk_count(s.pixels(), chunk), pixels = s.pixels() - std::count(t, t + s.pixels(), ignore);
  const double scale = weight * reciprocal(double(pixels));
  std::vector<double> partial(std::size_t(chunks) + 1, 0.0);
  for_chunks(s.pixels(), chunk, [&](std::int64_t begin, std::int64_t end, std::int64_t index) {
    double value = 0;
    for (std::int64_t i = begin; i < end; ++i) {
      const T* zi = z + i * s.c;
      T* di = dz ? dz + i * s.c : nullptr;
      if (t[i] == ignore) {
        if (di && !add) std::fill(di, di + s.c, T(0));
        continue;
      }
      const double total = log_sum_exp(zi, s.c);
      // In logarithms relative to the largest contributing logit: no underflow for improbable targets.
      double top = -1e300, sum = 0;
      for (int k = 0; k < s.c; ++k)
        if (share(k, t[i]) > 0) top = std::max(top, double(zi[k]));
      for (int k = 0; k < s.c; ++k) sum += share(k, t[i]) > 0 ? share(k, t[i]) * std::exp(zi[k] - top) : 0.0;
      value += total - top - std::log(sum);
      if (!di) continue;
      for (int k = 0; k < s.c; ++k) {
        const double g = scale * (std::exp(zi[k] - total) - (share(k, t[i]) > 0 ? share(k, t[i]) * std::exp(zi[k] - top) / sum : 0.0));
        di[k] = add ? T(di[k] + g) : T(g);
      }
    }
    partial[std::size_t(index)] = value;
  });
  fold_chunks(partial.data(), chunks, 1);
  return {partial[0] * scale, pixels};
}

}  // namespace detail

struct hierarchy_options {
  const std::int32_t* parent = nullptr;  ///< K entries: the coarse class of each fine class, in [0, coarse)
  int coarse = 0;
  double coarse_weight = 1;
  std::int32_t ignore = default_ignore;
};

/// CE on fine classes + coarse_weight * CE on coarse classes, whose probability is the sum of their children's. coarse_target (same size as
/// t, or null: the parents of t) lets pixels be labelled at the coarse level alone: t ignored, coarse_target not.
template <class T>
inline loss_value hierarchical_cross_entropy(const T* z, const std::int32_t* t, const std::int32_t* coarse_target, shape s,
                                             const hierarchy_options& o, T* dz) {
  detail::check_targets(t, s, o.ignore);
  if (!o.parent || o.coarse < 1) throw usage_error("hierarchical_cross_entropy: expected a parent for each class");
  for (int k = 0; k < s.c; ++k)
    if (o.parent[k] < 0 || o.parent[k] >= o.coarse)
      throw usage_error("hierarchical_cross_entropy: parent of class " + std::to_string(k) + " is not a coarse class");
  std::vector<std::int32_t> own;
  if (!coarse_target) {
    for (std::int64_t i = 0; i < s.pixels(); ++i) own.push_back(t[i] == o.ignore ? o.ignore : o.parent[t[i]]);
    coarse_target = own.data();
  }
  detail::check_targets(coarse_target, {s.n, o.coarse, s.h, s.w}, o.ignore);
  for (std::int64_t i = 0; i < s.pixels(); ++i)
    if (coarse_target[i] != o.ignore && std::count(o.parent, o.parent + s.c, coarse_target[i]) == 0)
      throw usage_error("hierarchical_cross_entropy: coarse class " + std::to_string(coarse_target[i]) + " has no fine class");
  auto fine = detail::mixture_cross_entropy(
      z, t, s, o.ignore, 1, false, [](int k, std::int32_t label) { return k == label ? 1.0 : 0.0; }, dz);
  const auto coarse = detail::mixture_cross_entropy(
      z, coarse_target, s, o.ignore, o.coarse_weight, true, [&](int k, std::int32_t label) { return o.parent[k] == label ? 1.0 : 0.0; }, dz);
  return {fine.value + coarse.value, std::max(fine.pixels, coarse.pixels)};
}

/// Forward correction (Patrini et al., CVPR 2017): mean of -ln (M^T p)_t, where M[i, j] (K x K, row major, rows sum to 1) is the probability
/// that a pixel of class i is labelled j. Throws usage_error when a row does not sum to 1 or a label that occurs is impossible under M.
template <class T>
inline loss_value forward_corrected_cross_entropy(const T* z, const std::int32_t* t, shape s, const double* noise, std::int32_t ignore, T* dz) {
  detail::check_targets(t, s, ignore);
  std::vector<double> column(std::size_t(s.c), 0.0);
  for (int i = 0; i < s.c; ++i) {
    double row = 0;
    for (int j = 0; j < s.c; ++j) {
      if (!(noise[i * s.c + j] >= 0)) throw usage_error("forward correction: the noise matrix must not be negative");
      row += noise[i * s.c + j], column[std::size_t(j)] += noise[i * s.c + j];
    }
    if (std::abs(row - 1) > 1e-6) throw usage_error("forward correction: row " + std::to_string(i) + " of the noise matrix does not sum to 1");
  }
  for (std::int64_t i = 0; i < s.pixels(); ++i)
    if (t[i] != ignore && !(column[std::size_t(t[i])] > 0))
      throw usage_error("forward correction: label " + std::to_string(t[i]) + " is impossible under the noise matrix");
  return detail::mixture_cross_entropy(
      z, t, s, ignore, 1, false, [&](int k, std::int32_t label) { return noise[k * s.c + label]; }, dz);
}

}  // namespace rsseg::loss
