// SPDX-License-Identifier: MIT
// Prior knowledge as constraints at inference, on the probabilities (h, w, labels) or the label map of one image: classes that cannot be
// somewhere, shares of area, forbidden neighbours, least sizes. The differentiable counterparts: loss/priors.hpp.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "rsseg/core/chunks.hpp"
#include "rsseg/core/error.hpp"

namespace rsseg::refine {

/// Takes class cls out where forbidden(i) is true and renormalises; a pixel that was certain of it becomes uniform over the others.
template <class T, class Forbidden>
inline void forbid_class(T* p, std::int64_t pixels, int labels, int cls, const Forbidden& forbidden) {
  if (cls < 0 || cls >= labels || labels < 2) throw usage_error("forbid_class: class " + std::to_string(cls) + " does not exist, or is the only one");
  for_chunks(pixels, 8192, [&](std::int64_t begin, std::int64_t end, std::int64_t) {
    for (std::int64_t i = begin; i < end; ++i) {
      if (!forbidden(i)) continue;
      T* q = p + i * labels;
      double rest = 0;
      for (int k = 0; k < labels; ++k) rest += k == cls ? 0.0 : double(q[k]);
      for (int k = 0; k < labels; ++k) q[k] = T(k == cls ? 0.0 : rest > 0 ? double(q[k]) / rest : 1.0 / (labels - 1));
    }
  });
}

/// Labels from spectral indices, for pseudo-labels: vegetation where NDVI > its threshold, else water where NDWI > its threshold, else
/// `otherwise`. image (pixels, bands).
struct index_rule {
  int red = 0, green = 1, near_infrared = 3;
  double vegetation_above = 0.3, water_above = 0.1;
  std::int32_t vegetation = 1, water = 2, otherwise = 255;
};
template <class T>
inline std::vector<std::int32_t> labels_from_indices(const T* image, std::int64_t pixels, int bands, const index_rule& o) {
  for (const int band : {o.red, o.green, o.near_infrared})
    if (band < 0 || band >= bands) throw usage_error("labels_from_indices: band " + std::to_string(band) + " does not exist");
  std::vector<std::int32_t> label(static_cast<std::size_t>(pixels));
  for (std::int64_t i = 0; i < pixels; ++i) {
    const double r = double(image[i * bands + o.red]), g = double(image[i * bands + o.green]), n = double(image[i * bands + o.near_infrared]);
    const double ndvi = n + r != 0 ? (n - r) / (n + r) : 0, ndwi = g + n != 0 ? (g - n) / (g + n) : 0;
    label[std::size_t(i)] = ndvi > o.vegetation_above ? o.vegetation : ndwi > o.water_above ? o.water : o.otherwise;
  }
  return label;
}

/// p = factor * p, normalised per pixel; factor: one per class.
template <class T>
inline void apply_class_factors(T* p, std::int64_t pixels, int labels, const std::vector<double>& factor) {
  for_chunks(pixels, 8192, [&](std::int64_t begin, std::int64_t end, std::int64_t) {
    for (std::int64_t i = begin; i < end; ++i) {
      double sum = 0;
      for (int k = 0; k < labels; ++k) sum += factor[std::size_t(k)] * double(p[i * labels + k]);
      for (int k = 0; k < labels; ++k) p[i * labels + k] = T(sum > 0 ? factor[std::size_t(k)] * double(p[i * labels + k]) / sum : 1.0 / labels);
    }
  });
}

/// Common factors of the classes' probabilities (then each pixel is normalised) that bring each class's mean into [least, most] to 1e-4, searched
/// for 200 rounds at most. Returns whether the bounds were met; they cannot be when sum least > 1 or sum most < 1.
template <class T>
inline bool area_factors(const T* p, std::int64_t pixels, int labels, const std::vector<double>& least, const std::vector<double>& most,
                         std::vector<double>& factor) {
  if (least.size() != std::size_t(labels) || most.size() != std::size_t(labels)) throw usage_error("enforce_area: expected one bound per class");
  factor.assign(std::size_t(labels), 1.0);
  const std::int64_t chunk = 8192, chunks = chunk_count(pixels, chunk);
  std::vector<double> partial(std::size_t(std::max<std::int64_t>(chunks, 1) * labels));
  const auto weighted = [&](std::int64_t i, double* q) {
    double sum = 0;
    for (int k = 0; k < labels; ++k) sum += q[k] = factor[std::size_t(k)] * double(p[i * labels + k]);
    for (int k = 0; k < labels; ++k) q[k] = sum > 0 ? q[k] / sum : 1.0 / labels;
  };
  bool met = false;
  for (int round = 0; round < 200 && !met && pixels > 0; ++round) {
    std::fill(partial.begin(), partial.end(), 0.0);
    for_chunks(pixels, chunk, [&](std::int64_t begin, std::int64_t end, std::int64_t index) {
      std::vector<double> q(static_cast<std::size_t>(labels));
      for (std::int64_t i = begin; i < end; ++i) {
        weighted(i, q.data());
        for (int k = 0; k < labels; ++k) partial[std::size_t(index * labels + k)] += q[std::size_t(k)] / double(pixels);
      }
    });
    fold_chunks(partial.data(), chunks, labels);
    met = true;
    for (int k = 0; k < labels; ++k) {
      const double s = partial[std::size_t(k)], to = std::clamp(s, least[std::size_t(k)], most[std::size_t(k)]);
      if (std::abs(s - to) <= 1e-4) continue;
      met = false;
      // Multiplicative step on the odds, as if the other classes stood still.
      const double odds = std::max(to, 1e-9) / std::max(1 - to, 1e-9) * std::max(1 - s, 1e-9) / std::max(s, 1e-9);
      factor[std::size_t(k)] = std::clamp(factor[std::size_t(k)] * odds, 1e-30, 1e30);
    }
  }
  return met;
}

/// Both: brings the classes' shares within bounds.
template <class T>
inline bool enforce_area(T* p, std::int64_t pixels, int labels, const std::vector<double>& least, const std::vector<double>& most) {
  std::vector<double> factor;
  const bool met = area_factors(p, pixels, labels, least, most, factor);
  apply_class_factors(p, pixels, labels, factor);
  return met;
}

/// Relabels pixels of forbidden 4-neighbour pairs, the least sure first, each to the label of least -ln p + penalty * forbid[a, b] towards its
/// neighbours (iterated conditional modes; forbid K x K, its symmetric part counts). Returns the number of forbidden pairs left.
template <class T>
inline std::int64_t resolve_forbidden_neighbours(const T* p, int h, int w, int labels, const std::vector<double>& forbid, double penalty,
                                                 std::int32_t* label, int sweeps = 20) {
  if (forbid.size() != std::size_t(labels) * labels) throw usage_error("resolve_forbidden_neighbours: expected a labels x labels matrix");
  const auto cost = [&](std::int32_t a, std::int32_t b) {
    if (a < 0 || a >= labels || b < 0 || b >= labels) return 0.0;
    return 0.5 * (forbid[std::size_t(a) * labels + b] + forbid[std::size_t(b) * labels + a]);
  };
  const auto around = [&](std::int64_t i, std::int32_t k) {
    const std::int64_t x = i % w, y = i / w;
    return (x > 0 ? cost(k, label[i - 1]) : 0) + (x + 1 < w ? cost(k, label[i + 1]) : 0) + (y > 0 ? cost(k, label[i - w]) : 0) +
           (y + 1 < h ? cost(k, label[i + w]) : 0);
  };
  std::vector<std::int64_t> conflict;
  for (int sweep = 0; sweep < sweeps; ++sweep) {
    conflict.clear();
    for (std::int64_t i = 0; i < std::int64_t(h) * w; ++i)
      if (around(i, label[i]) > 0) conflict.push_back(i);
    const auto sure = [&](std::int64_t i) { return p[i * labels + label[i]]; };
    std::stable_sort(conflict.begin(), conflict.end(), [&](std::int64_t a, std::int64_t b) { return sure(a) < sure(b); });
    bool changed = false;
    for (const std::int64_t i : conflict) {
      const auto energy = [&](std::int32_t k) { return -std::log(std::max(double(p[i * labels + k]), 1e-12)) + penalty * around(i, k); };
      std::int32_t best = label[i];
      double least = energy(best);
      for (std::int32_t k = 0; k < labels && around(i, label[i]) > 0; ++k)
        if (const double e = energy(k); e < least) least = e, best = k;
      if (best != label[i]) label[i] = best, changed = true;
    }
    if (!changed) break;
  }
  std::int64_t left = 0;
  for (int y = 0; y < h; ++y)
    for (int x = 0; x < w; ++x) {
      const std::int64_t i = std::int64_t(y) * w + x;
      left += (x + 1 < w && cost(label[i], label[i + 1]) > 0) + (y + 1 < h && cost(label[i], label[i + w]) > 0);
    }
  return left;
}

/// Components (4-connected) of fewer than least[label] pixels take the label that borders them most (the smallest of equals), smallest
/// components first, until none is left that can. Labels outside [0, labels) are neither changed nor taken over. Returns pixels changed.
inline std::int64_t remove_small_components(std::int32_t* label, int h, int w, const std::vector<std::int64_t>& least) {
  const int labels = int(least.size());
  const std::int64_t pixels = std::int64_t(h) * w;
  std::int64_t changed = 0;
  std::vector<std::int32_t> component(static_cast<std::size_t>(pixels));
  for (bool again = true; again;) {
    again = false;
    std::fill(component.begin(), component.end(), -1);
    std::vector<std::vector<std::int64_t>> members;
    for (std::int64_t start = 0; start < pixels; ++start) {
      if (component[std::size_t(start)] >= 0 || label[start] < 0 || label[start] >= labels) continue;
      const auto id = std::int32_t(members.size());
      members.emplace_back(1, start);
      component[std::size_t(start)] = id;
      auto& list = members.back();
      for (std::size_t next = 0; next < list.size(); ++next) {
        const std::int64_t i = list[next], x = i % w;
        for (const std::int64_t j : {x > 0 ? i - 1 : -1, x + 1 < w ? i + 1 : -1, i - w, i + w < pixels ? i + w : -1})
          if (j >= 0 && component[std::size_t(j)] < 0 && label[j] == label[start]) component[std::size_t(j)] = id, list.push_back(j);
      }
    }
    std::vector<std::size_t> order;
    for (std::size_t c = 0; c < members.size(); ++c)
      if (std::int64_t(members[c].size()) < least[std::size_t(label[members[c][0]])]) order.push_back(c);
    std::sort(order.begin(), order.end(),
              [&](std::size_t a, std::size_t b) { return members[a].size() != members[b].size() ? members[a].size() < members[b].size() : a < b; });
    std::vector<char> touched(members.size(), 0);
    for (const std::size_t c : order) {
      if (touched[c]) continue;  // a neighbour joined it in this round: count again first
      std::vector<std::int64_t> border(std::size_t(labels), 0);
      std::vector<std::size_t> around;
      for (const std::int64_t i : members[c]) {
        const std::int64_t x = i % w;
        for (const std::int64_t j : {x > 0 ? i - 1 : -1, x + 1 < w ? i + 1 : -1, i - w, i + w < pixels ? i + w : -1})
          if (j >= 0 && label[j] != label[i] && label[j] >= 0 && label[j] < labels)
            ++border[std::size_t(label[j])], around.push_back(std::size_t(component[std::size_t(j)]));
      }
      const auto best = std::max_element(border.begin(), border.end());
      if (border.empty() || *best == 0) continue;
      for (const std::size_t a : around) touched[a] = 1;
      for (const std::int64_t i : members[c]) label[i] = std::int32_t(best - border.begin());
      changed += std::int64_t(members[c].size());
      again = true;
    }
  }
  return changed;
}

}  // namespace rsseg::refine
