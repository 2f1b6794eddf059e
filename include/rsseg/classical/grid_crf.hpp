// SPDX-License-Identifier: MIT
// Grid CRF: 4-neighbour Potts model with contrast weights, E(x) = sum_i U_i(x_i) + weight sum_{i~j} exp(-|I_i - I_j|^2 / 2 s^2) [x_i != x_j],
// minimised by iterated conditional modes (Besag 1986) or alpha-expansion (Boykov, Veksler, Zabih, PAMI 2001).
// unary (h, w, labels), guide (h, w, bands) or null, label h x w.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "rsseg/classical/grid_cut.hpp"
#include "rsseg/core/chunks.hpp"
#include "rsseg/core/error.hpp"

namespace rsseg::classical {

enum class grid_crf_method { icm, alpha_expansion };

struct grid_crf_options {
  double weight = 1;          ///< >= 0
  double contrast_sigma = 0;  ///< units of the guide; 0: plain Potts
  int iterations = 10;        ///< sweeps at most; stops when nothing changes
  grid_crf_method method = grid_crf_method::alpha_expansion;
};

namespace detail {

/// Weights of the edges to the right and below, (pixels, 2).
template <class T>
inline std::vector<double> grid_weights(const T* guide, int h, int w, int bands, const grid_crf_options& o) {
  std::vector<double> out(std::size_t(h) * w * 2, 0.0);
  const double factor = o.contrast_sigma > 0 && guide ? 0.5 / (o.contrast_sigma * o.contrast_sigma) : 0;
  for_chunks(h, 16, [&](std::int64_t begin, std::int64_t end, std::int64_t) {
    for (std::int64_t y = begin; y < end; ++y)
      for (int x = 0; x < w; ++x)
        for (int d = 0; d < 2; ++d) {
          if (d == 0 ? x + 1 >= w : y + 1 >= h) continue;
          const std::int64_t i = y * w + x, j = d == 0 ? i + 1 : i + w;
          double square = 0;
          for (int c = 0; factor > 0 && c < bands; ++c) {
            const double delta = double(guide[i * bands + c]) - double(guide[j * bands + c]);
            square += delta * delta;
          }
          out[std::size_t(2 * i + d)] = o.weight * std::exp(-factor * square);
        }
  });
  return out;
}

template <class T>
inline double grid_energy(const T* unary, int h, int w, int labels, const std::vector<double>& edge, const std::int32_t* x) {
  double energy = 0;
  for (std::int64_t i = 0; i < std::int64_t(h) * w; ++i) {
    energy += double(unary[i * labels + x[i]]);
    if (i % w + 1 < w && x[i] != x[i + 1]) energy += edge[std::size_t(2 * i)];
    if (i / w + 1 < h && x[i] != x[i + w]) energy += edge[std::size_t(2 * i + 1)];
  }
  return energy;
}

/// One sweep over the pixels of each chequerboard colour: neighbours are of the other colour, so a colour is one parallel step.
template <class T>
inline bool icm_sweep(const T* unary, int h, int w, int labels, const std::vector<double>& edge, std::int32_t* x) {
  std::vector<char> changed(std::size_t(h), 0);
  for (int color = 0; color < 2; ++color)
    parallel_for(h, [&](std::int64_t y) {
      for (int column = int((y + color) % 2); column < w; column += 2) {
        const std::int64_t i = y * w + column;
        const auto energy = [&](std::int32_t k) {
          double e = double(unary[i * labels + k]);
          if (column + 1 < w && x[i + 1] != k) e += edge[std::size_t(2 * i)];
          if (column > 0 && x[i - 1] != k) e += edge[std::size_t(2 * (i - 1))];
          if (y + 1 < h && x[i + w] != k) e += edge[std::size_t(2 * i + 1)];
          if (y > 0 && x[i - w] != k) e += edge[std::size_t(2 * (i - w) + 1)];
          return e;
        };
        std::int32_t best = x[i];
        double least = energy(best);
        for (std::int32_t k = 0; k < labels; ++k)
          if (const double e = energy(k); e < least) least = e, best = k;
        if (best != x[i]) x[i] = best, changed[std::size_t(y)] = 1;
      }
    });
  for (const char c : changed)
    if (c) return true;
  return false;
}

/// Best move in which any pixels switch to alpha.
template <class T>
inline void expand(const T* unary, int h, int w, int labels, const std::vector<double>& edge, std::int32_t alpha, grid_cut& cut, std::int32_t* x) {
  cut.reset();
  const std::int64_t pixels = std::int64_t(h) * w;
  // Source side: keeps its label; sink side: becomes alpha. Pair (i, j) with edge weight v: keep/keep costs v [x_i != x_j], keep/alpha
  // v [x_i != alpha], alpha/keep v [x_j != alpha], alpha/alpha 0.
  for (std::int64_t i = 0; i < pixels; ++i) {
    cut.add_terminal(i, double(unary[i * labels + alpha]) - double(unary[i * labels + x[i]]));
    for (int d = 0; d < 2; ++d) {
      if (d == 0 ? i % w + 1 >= w : i / w + 1 >= h) continue;
      const std::int64_t j = d == 0 ? i + 1 : i + w;
      const double v = edge[std::size_t(2 * i + d)], both = x[i] != x[j] ? v : 0, first = x[i] != alpha ? v : 0, second = x[j] != alpha ? v : 0;
      // E(keep, keep) = both, E(keep, alpha) = first, E(alpha, keep) = second: linear parts to the terminals, the rest on the edge i -> j.
      cut.add_terminal(i, second - both);
      cut.add_terminal(j, -second);
      cut.add_edge(i, 2 * d, first + second - both);
    }
  }
  cut.solve();
  for (std::int64_t i = 0; i < pixels; ++i)
    if (!cut.on_source(i)) x[i] = alpha;
}

}  // namespace detail

/// label: minimises the energy from the unaries' argmin. Returns the energy reached. Deterministic for any number of threads.
/// Throws usage_error for wrong options or unaries that are not finite.
template <class T>
inline double grid_crf(const T* unary, int h, int w, int labels, const T* guide, int bands, const grid_crf_options& o, std::int32_t* label) {
  const std::int64_t pixels = std::int64_t(h) * w;
  if (h < 1 || w < 1 || labels < 1 || !(o.weight >= 0) || o.iterations < 0)
    throw usage_error("grid CRF: expected a non-empty image, at least one label, weight >= 0 and iterations >= 0");
  for (std::int64_t i = 0; i < pixels; ++i) {
    label[i] = 0;
    for (int k = 0; k < labels; ++k) {
      if (!std::isfinite(double(unary[i * labels + k]))) throw usage_error("grid CRF: the unary energies are not all finite");
      if (unary[i * labels + k] < unary[i * labels + label[i]]) label[i] = k;
    }
  }
  const auto edge = detail::grid_weights(guide, h, w, bands, o);
  if (o.method == grid_crf_method::icm) {
    for (int sweep = 0; sweep < o.iterations && detail::icm_sweep(unary, h, w, labels, edge, label); ++sweep) {
    }
    return detail::grid_energy(unary, h, w, labels, edge, label);
  }
  grid_cut cut(h, w);
  double energy = detail::grid_energy(unary, h, w, labels, edge, label);
  std::vector<std::int32_t> trial(static_cast<std::size_t>(pixels));
  for (int sweep = 0; sweep < o.iterations; ++sweep) {
    const double before = energy;
    for (std::int32_t alpha = 0; alpha < labels; ++alpha) {
      trial.assign(label, label + pixels);
      detail::expand(unary, h, w, labels, edge, alpha, cut, trial.data());
      const double moved = detail::grid_energy(unary, h, w, labels, edge, trial.data());
      if (moved < energy) energy = moved, std::copy(trial.begin(), trial.end(), label);
    }
    if (!(energy < before - 1e-9 * std::abs(before))) break;
  }
  return energy;
}

}  // namespace rsseg::classical
