// SPDX-License-Identifier: MIT
// Fully connected CRF by mean field: Kraehenbuehl, Koltun, "Efficient Inference in Fully Connected CRFs with Gaussian Edge Potentials",
// NIPS 2011, Algorithm 1. E(x) = sum_i U_i(x_i) + sum_{i<j} sum_m mu_m(x_i, x_j) k_m(f_i, f_j). Nothing is learned.
// Arrays are NHWC with N = 1: unary and Q (h, w, labels), guide (h, w, channels), usually RGB in 0..255.
#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "rsseg/core/chunks.hpp"
#include "rsseg/core/error.hpp"
#include "rsseg/refine/crf_kernel.hpp"
#include "rsseg/refine/softmax.hpp"

namespace rsseg::refine {

/// One pairwise term: a kernel and its label compatibility.
struct crf_term {
  crf_kernel_options kernel;
  double potts = 3;                   ///< positive: neighbours of the kernel's kind attract the same label
  std::vector<double> compatibility;  ///< empty: Potts. Else labels x labels, row major, mu(l, l') >= 0 for dissimilar labels: added to the energy
};

struct dense_crf_options {
  std::vector<crf_term> terms;
  int iterations = 5;
  bool subtract_self = false;  ///< the paper's form, j != i (exact for brute force); the usual programs keep the self term
  int x0 = 0, y0 = 0;          ///< coordinates of the first pixel, for tiles of one scene
};

/// The usual two-term model: smoothness (3 px, weight 3) and appearance (sigma_xy px, sigma_rgb grey values, weight).
inline dense_crf_options usual_dense_crf(double sigma_xy = 80, double sigma_rgb = 13, double weight = 10, int iterations = 5) {
  dense_crf_options options;
  options.iterations = iterations;
  options.terms.resize(2);
  options.terms[0].potts = 3;
  options.terms[1].kernel.sigma_x = options.terms[1].kernel.sigma_y = sigma_xy;
  options.terms[1].kernel.sigma_guide = sigma_rgb;
  options.terms[1].potts = weight;
  return options;
}

/// U = -ln max(p, floor), elementwise; u may be p.
template <class T>
inline void unary_from_probabilities(const T* p, std::int64_t values, T* u, double floor = 1e-5) {
  for_chunks(values, 16384, [&](std::int64_t begin, std::int64_t end, std::int64_t) {
    for (std::int64_t i = begin; i < end; ++i) u[i] = T(-std::log(std::max(double(p[i]), floor)));
  });
}

/// U from a hard map: -ln p for the given label, -ln((1 - p) / (labels - 1)) for the others, -ln(1 / labels) for all where the label is
/// outside [0, labels) (unsure, ignored). gt_probability in (0, 1). Throws usage_error.
template <class T>
inline void unary_from_labels(const std::int32_t* label, std::int64_t pixels, int labels, double gt_probability, T* u) {
  if (!(gt_probability > 0 && gt_probability < 1) || labels < 2)
    throw usage_error("unary_from_labels: expected a probability in (0, 1) and at least 2 labels");
  const T hit = T(-std::log(gt_probability)), miss = T(-std::log((1 - gt_probability) / (labels - 1))), unsure = T(std::log(double(labels)));
  for (std::int64_t i = 0; i < pixels; ++i)
    for (int k = 0; k < labels; ++k) u[i * labels + k] = label[i] < 0 || label[i] >= labels ? unsure : k == label[i] ? hit : miss;
}

/// First of the largest values per pixel.
template <class T>
inline void argmax(const T* q, std::int64_t pixels, int labels, std::int32_t* label) {
  for (std::int64_t i = 0; i < pixels; ++i) {
    int best = 0;
    for (int k = 1; k < labels; ++k)
      if (q[i * labels + k] > q[i * labels + best]) best = k;
    label[i] = best;
  }
}

/// A caller's hook that does nothing; see dense_crf().
struct no_crf_hook {
  template <class T>
  void operator()(int, const T*) const {}
};

/// q = mean field marginals after options.iterations steps; q_0 = softmax(-unary). hook(t, q) is called after step t = 1, 2, ...
/// Same bits for any number of threads. Memory: about pixels * (4 labels + 12 d) values, d = 2 + guide channels; for scenes see
/// dense_crf_tiled(). A 1 x 1 image works. Throws usage_error for wrong options and unaries that are NaN.
template <class T, class Hook = no_crf_hook>
inline void dense_crf(const T* unary, int h, int w, int labels, const T* guide, int guide_channels, const dense_crf_options& options, T* q,
                      const Hook& hook = {}) {
  if (h < 1 || w < 1 || labels < 1) throw usage_error("dense CRF: expected a non-empty image and at least one label");
  if (options.iterations < 0) throw usage_error("dense CRF: iterations must not be negative");
  const std::int64_t pixels = std::int64_t(h) * w, values = pixels * labels;
  for (std::int64_t i = 0; i < values; ++i)
    if (std::isnan(double(unary[i]))) throw usage_error("dense CRF: the unary energies contain NaN; check the network's output");
  std::vector<crf_kernel<T>> kernels;
  std::size_t work_size = 0;
  for (const crf_term& term : options.terms) {
    if (!term.compatibility.empty() && term.compatibility.size() != std::size_t(labels) * labels)
      throw usage_error("dense CRF: expected a compatibility matrix of " + std::to_string(labels) + " x " + std::to_string(labels) + " values, got " +
                        std::to_string(term.compatibility.size()));
    kernels.emplace_back(h, w, guide, guide_channels, term.kernel, options.x0, options.y0);
    work_size = std::max(work_size, kernels.back().workspace(labels));
  }
  const std::size_t total = std::size_t(values);
  std::vector<T> work(work_size), message(total), energy(total);
  softmax(unary, pixels, labels, q, -1);
  for (int step = 1; step <= options.iterations; ++step) {
    std::copy(unary, unary + values, energy.begin());
    for (std::size_t m = 0; m < kernels.size(); ++m) {
      kernels[m].apply(q, message.data(), labels, work.data());
      const crf_term& term = options.terms[m];
      for_chunks(pixels, 4096, [&](std::int64_t begin, std::int64_t end, std::int64_t) {
        for (std::int64_t i = begin; i < end; ++i) {
          T* from = message.data() + i * labels;
          T* to = energy.data() + i * labels;
          if (options.subtract_self)
            for (int k = 0; k < labels; ++k) from[k] -= kernels[m].self(i) * q[i * labels + k];
          for (int k = 0; k < labels; ++k) {
            if (term.compatibility.empty()) {
              to[k] -= T(term.potts) * from[k];
              continue;
            }
            double sum = 0;
            for (int l = 0; l < labels; ++l) sum += term.compatibility[std::size_t(k) * labels + l] * from[l];
            to[k] = T(to[k] + sum);
          }
        }
      });
    }
    softmax(energy.data(), pixels, labels, q, -1);
    hook(step, static_cast<const T*>(q));
  }
}

/// Bytes dense_crf() needs beside its arguments, at most: every corner of every pixel a lattice point of its own.
template <class T>
inline std::size_t dense_crf_bytes(int h, int w, int labels, int guide_channels, const dense_crf_options& options) {
  const std::size_t pixels = std::size_t(h) * w;
  std::size_t kernels = 0, work = 0;
  for (const crf_term& term : options.terms) {
    const std::size_t d = term.kernel.sigma_guide > 0 ? 2 + std::size_t(guide_channels) : 2, corners = pixels * (d + 1);
    kernels += corners * (8 + sizeof(T) + 8 * (d + 1)) + pixels * sizeof(T);
    work = std::max(work, (pixels + 2 * corners) * labels * sizeof(T));
  }
  return kernels + work + 2 * pixels * labels * sizeof(T);
}

/// The same over tiles of a scene in bounded memory: tiles of side `tile` with `overlap` pixels on each side, whose marginals are blended
/// with a linear ramp, so that no seam shows. The mean field is global, so the result approximates dense_crf() on the whole: the closer the
/// larger the overlap (2 to 3 of the largest sigma covers the direct messages). An image that fits in one tile gives the same bits.
template <class T>
inline void dense_crf_tiled(const T* unary, int h, int w, int labels, const T* guide, int guide_channels, const dense_crf_options& options, int tile,
                            int overlap, T* q) {
  if (tile < 1 || overlap < 0) throw usage_error("dense CRF: expected a tile side of at least 1 and an overlap of at least 0");
  const std::int64_t pixels = std::int64_t(h) * w;
  if (h <= tile + 2 * overlap && w <= tile + 2 * overlap) return dense_crf(unary, h, w, labels, guide, guide_channels, options, q);
  std::vector<double> total(std::size_t(pixels), 0.0);
  std::fill(q, q + pixels * labels, T(0));
  for (int ty = 0; ty < h; ty += tile)
    for (int tx = 0; tx < w; tx += tile) {
      const int top = std::max(0, ty - overlap), left = std::max(0, tx - overlap);
      const int bottom = std::min(h, ty + tile + overlap), right = std::min(w, tx + tile + overlap), th = bottom - top, tw = right - left;
      std::vector<T> u(std::size_t(th) * tw * labels), g(guide ? std::size_t(th) * tw * guide_channels : 0), part(u.size());
      for (int y = 0; y < th; ++y) {
        const std::size_t from = std::size_t(top + y) * w + left, to = std::size_t(y) * tw;
        std::copy_n(unary + from * labels, std::size_t(tw) * labels, u.data() + to * labels);
        if (guide) std::copy_n(guide + from * guide_channels, std::size_t(tw) * guide_channels, g.data() + to * guide_channels);
      }
      dense_crf_options here = options;
      here.x0 += left, here.y0 += top;
      dense_crf(u.data(), th, tw, labels, guide ? g.data() : nullptr, guide_channels, here, part.data());
      // The ramp falls from 1 to 0 over the overlap towards a cut, and stays 1 towards the scene's border.
      const auto ramp = [&](int at, int begin, int end, int extent) {
        double weight = 1;
        if (begin > 0) weight = std::min(weight, (at - begin + 0.5) / (2 * overlap + 1.0));
        if (end < extent) weight = std::min(weight, (end - at - 0.5) / (2 * overlap + 1.0));
        return weight;
      };
      for (int y = 0; y < th; ++y)
        for (int x = 0; x < tw; ++x) {
          const double weight = ramp(top + y, top, bottom, h) * ramp(left + x, left, right, w);
          const std::size_t at = std::size_t(top + y) * w + left + x;
          total[at] += weight;
          for (int k = 0; k < labels; ++k) q[at * labels + k] += T(weight * part[(std::size_t(y) * tw + x) * labels + k]);
        }
    }
  for_chunks(pixels, 8192, [&](std::int64_t begin, std::int64_t end, std::int64_t) {
    for (std::int64_t i = begin; i < end; ++i)
      for (int k = 0; k < labels; ++k) q[i * labels + k] = T(q[i * labels + k] / total[std::size_t(i)]);
  });
}

}  // namespace rsseg::refine
