// SPDX-License-Identifier: MIT
// Region merging: a region adjacency graph whose cheapest pair is merged again and again. Costs: mean spectral difference, Ward, colour
// and shape heterogeneity of Baatz and Schaepe (2000). Texture features join as further bands. Graph segmentation of Felzenszwalb and
// Huttenlocher (2004) for a fast start. Images are (h, w, bands); region ids are the smallest pixel (or start region) index in them.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "rsseg/core/error.hpp"

namespace rsseg::classical {

enum class merge_criterion {
  mean_difference,  ///< |mean_a - mean_b|, weighted over bands
  ward,             ///< n_a n_b / (n_a + n_b) |mean_a - mean_b|^2
  heterogeneity     ///< color * sum_c w_c (n sd_c growth) + (1 - color) * shape growth (Baatz, Schaepe)
};

struct merge_options {
  merge_criterion criterion = merge_criterion::heterogeneity;
  double threshold = 400;           ///< merging stops when the cheapest cost reaches this (scale^2 for heterogeneity)
  std::int64_t min_regions = 1;     ///< or when so few regions are left
  std::vector<double> band_weight;  ///< empty: 1 / bands each
  double color = 0.9;               ///< weight of colour against shape, heterogeneity only; 1: no shape
  double compactness = 0.5;         ///< within shape: compactness l / sqrt(n) against smoothness l / (bounding box perimeter)
  double tie = 1e-12;               ///< costs this close count as equal; then the smallest pair of ids wins
  bool mutual = false;              ///< rounds in which all pairs that are each other's cheapest merge, instead of the cheapest pair of all
};

struct merge_step {
  std::int32_t kept, gone;
  double cost;
};
struct merge_result {
  std::vector<std::int32_t> label;  ///< per pixel: id of its region
  std::int64_t regions = 0;
  std::vector<merge_step> steps;  ///< in order
};

namespace detail {

struct region {
  double n = 0, perimeter = 0;
  int top = 0, left = 0, bottom = 0, right = 0;
};

/// The graph under merging: global best first, exact and reproducible. O(E log E) with short neighbour lists.
class region_graph {
 public:
  struct link {
    std::int32_t to;
    double border, cost;
  };

  region_graph(std::int32_t regions, int bands, const merge_options& o)
      : o_(o), bands_(bands), region_(std::size_t(regions)), sum_(std::size_t(regions) * bands, 0.0), square_(sum_), links_(std::size_t(regions)) {
    weight_ = o.band_weight.empty() ? std::vector<double>(std::size_t(bands), 1.0 / bands) : o.band_weight;
  }

  void add_pixel(std::int32_t id, const double* value, int y, int x) {
    region& r = region_[std::size_t(id)];
    if (r.n == 0) r.top = r.bottom = y, r.left = r.right = x;
    r.n += 1, r.perimeter += 4;
    r.top = std::min(r.top, y), r.bottom = std::max(r.bottom, y), r.left = std::min(r.left, x), r.right = std::max(r.right, x);
    for (int c = 0; c < bands_; ++c) sum_[at(id, c)] += value[c], square_[at(id, c)] += value[c] * value[c];
  }
  /// One pixel edge between a and b, or inside a.
  void add_edge(std::int32_t a, std::int32_t b) {
    if (a == b) {
      region_[std::size_t(a)].perimeter -= 2;
      return;
    }
    touch(a, b), touch(b, a);
  }

  /// Merges until the options say stop; step(kept, gone, cost) per merge. Returns the number of regions left.
  template <class Step>
  std::int64_t run(const Step& step) {
    std::int64_t alive = start();
    if (o_.mutual) return rounds(alive, step);
    while (!queue_.empty() && alive > std::max<std::int64_t>(o_.min_regions, 1)) {
      auto best = queue_.begin();
      const double least = std::get<0>(*best);
      // Among costs within the tie width the smallest pair; pairs of one cost are sorted already, so each cost is looked at once.
      for (auto next = queue_.upper_bound({least, last, last}); next != queue_.end() && std::get<0>(*next) <= least + o_.tie;
           next = queue_.upper_bound({std::get<0>(*next), last, last}))
        if (std::make_pair(std::get<1>(*next), std::get<2>(*next)) < std::make_pair(std::get<1>(*best), std::get<2>(*best))) best = next;
      const auto [price, a, b] = *best;
      if (!(price < o_.threshold)) break;
      step(a, b, price);
      merge(a, b);
      --alive;
    }
    return alive;
  }

 private:
  /// All costs. Returns the number of regions.
  std::int64_t start() {
    std::int64_t alive = 0;
    for (std::int32_t a = 0; a < std::int32_t(region_.size()); ++a) {
      alive += region_[std::size_t(a)].n > 0;
      for (link& l : links_[std::size_t(a)]) {
        if (l.to < a) continue;
        l.cost = cost(a, l.to, l.border);
        find(l.to, a)->cost = l.cost;
        queue_.insert({l.cost, a, l.to});
      }
    }
    return alive;
  }

  /// Mutual best neighbours (Baatz, Schaepe 2000): in each round, pairs that are each other's cheapest neighbour merge. They are disjoint, so the
  /// order within a round does not matter.
  template <class Step>
  std::int64_t rounds(std::int64_t alive, const Step& step) {
    std::vector<std::int32_t> best(region_.size());
    for (bool again = true; again && alive > std::max<std::int64_t>(o_.min_regions, 1);) {
      again = false;
      for (std::int32_t a = 0; a < std::int32_t(region_.size()); ++a) {
        best[std::size_t(a)] = -1;
        double least = o_.threshold;
        for (const link& l : links_[std::size_t(a)])
          if (l.cost < least - o_.tie || (best[std::size_t(a)] < 0 && l.cost < least)) least = l.cost, best[std::size_t(a)] = l.to;
      }
      for (std::int32_t a = 0; a < std::int32_t(region_.size()) && alive > std::max<std::int64_t>(o_.min_regions, 1); ++a) {
        const std::int32_t b = best[std::size_t(a)];
        if (b <= a || best[std::size_t(b)] != a) continue;
        step(a, b, find(a, b)->cost);
        merge(a, b);
        --alive, again = true;
      }
    }
    return alive;
  }

  static constexpr std::int32_t last = std::numeric_limits<std::int32_t>::max();
  std::size_t at(std::int32_t id, int c) const { return std::size_t(id) * bands_ + c; }

  // Neighbour lists are sorted by id.
  std::vector<link>::iterator lower(std::int32_t a, std::int32_t b) {
    auto& list = links_[std::size_t(a)];
    return std::lower_bound(list.begin(), list.end(), b, [](const link& l, std::int32_t id) { return l.to < id; });
  }
  link* find(std::int32_t a, std::int32_t b) {
    const auto it = lower(a, b);
    return it != links_[std::size_t(a)].end() && it->to == b ? &*it : nullptr;
  }
  void touch(std::int32_t a, std::int32_t b) {
    const auto it = lower(a, b);
    if (it != links_[std::size_t(a)].end() && it->to == b) {
      it->border += 1;
    } else {
      links_[std::size_t(a)].insert(it, {b, 1, 0});
    }
  }

  double deviation(double n, double sum, double square) const {  // n * population standard deviation
    const double mean = sum / n;
    return n * std::sqrt(std::max(0.0, square / n - mean * mean));
  }

  double cost(std::int32_t a, std::int32_t b, double border) const {
    const region &ra = region_[std::size_t(a)], &rb = region_[std::size_t(b)];
    if (o_.criterion != merge_criterion::heterogeneity) {
      double square = 0;
      for (int c = 0; c < bands_; ++c) {
        const double d = sum_[at(a, c)] / ra.n - sum_[at(b, c)] / rb.n;
        square += weight_[std::size_t(c)] * d * d;
      }
      return o_.criterion == merge_criterion::ward ? ra.n * rb.n / (ra.n + rb.n) * square : std::sqrt(square);
    }
    double color = 0;
    const double n = ra.n + rb.n;
    for (int c = 0; c < bands_; ++c) {
      const std::size_t i = at(a, c), j = at(b, c);
      color += weight_[std::size_t(c)] * (deviation(n, sum_[i] + sum_[j], square_[i] + square_[j]) - deviation(ra.n, sum_[i], square_[i]) -
                                          deviation(rb.n, sum_[j], square_[j]));
    }
    if (o_.color >= 1) return color;
    const auto box = [](int top, int left, int bottom, int right) { return 2.0 * (bottom - top + 1 + right - left + 1); };
    const double length = ra.perimeter + rb.perimeter - 2 * border;
    const double whole = box(std::min(ra.top, rb.top), std::min(ra.left, rb.left), std::max(ra.bottom, rb.bottom), std::max(ra.right, rb.right));
    const double compact = n * length / std::sqrt(n) - ra.n * ra.perimeter / std::sqrt(ra.n) - rb.n * rb.perimeter / std::sqrt(rb.n);
    const double smooth = n * length / whole - ra.n * ra.perimeter / box(ra.top, ra.left, ra.bottom, ra.right) -
                          rb.n * rb.perimeter / box(rb.top, rb.left, rb.bottom, rb.right);
    return o_.color * color + (1 - o_.color) * (o_.compactness * compact + (1 - o_.compactness) * smooth);
  }

  void unqueue(std::int32_t a, std::int32_t b, double price) { queue_.erase({price, std::min(a, b), std::max(a, b)}); }

  void merge(std::int32_t a, std::int32_t b) {
    const double border = find(a, b)->border;
    for (const link& l : links_[std::size_t(a)]) unqueue(a, l.to, l.cost);
    for (const link& l : links_[std::size_t(b)])
      if (l.to != a) unqueue(b, l.to, l.cost);
    region &ra = region_[std::size_t(a)], &rb = region_[std::size_t(b)];
    ra.n += rb.n, ra.perimeter += rb.perimeter - 2 * border;
    ra.top = std::min(ra.top, rb.top), ra.left = std::min(ra.left, rb.left);
    ra.bottom = std::max(ra.bottom, rb.bottom), ra.right = std::max(ra.right, rb.right);
    rb.n = 0;
    for (int c = 0; c < bands_; ++c) sum_[at(a, c)] += sum_[at(b, c)], square_[at(a, c)] += square_[at(b, c)];
    std::vector<link> joined;
    const auto &la = links_[std::size_t(a)], &lb = links_[std::size_t(b)];
    auto i = la.begin(), j = lb.begin();
    while (i != la.end() || j != lb.end()) {
      link l = j == lb.end() || (i != la.end() && i->to <= j->to) ? *i : *j;
      if (i != la.end() && j != lb.end() && i->to == j->to) l.border += j->border;
      if (i != la.end() && i->to == l.to) ++i;
      if (j != lb.end() && j->to == l.to) ++j;
      if (l.to != a && l.to != b) joined.push_back(l);
    }
    for (link& l : joined) {
      const auto gone = lower(l.to, b);
      if (gone != links_[std::size_t(l.to)].end() && gone->to == b) links_[std::size_t(l.to)].erase(gone);
      l.cost = cost(a, l.to, l.border);
      const auto back = lower(l.to, a);
      if (back != links_[std::size_t(l.to)].end() && back->to == a) {
        *back = {a, l.border, l.cost};
      } else {
        links_[std::size_t(l.to)].insert(back, {a, l.border, l.cost});
      }
      queue_.insert({l.cost, std::min(a, l.to), std::max(a, l.to)});
    }
    links_[std::size_t(b)] = {};
    links_[std::size_t(a)] = std::move(joined);
  }

  const merge_options& o_;
  int bands_;
  std::vector<region> region_;
  std::vector<double> sum_, square_, weight_;
  std::vector<std::vector<link>> links_;
  std::set<std::tuple<double, std::int32_t, std::int32_t>> queue_;
};

inline std::int32_t find_root(std::vector<std::int32_t>& parent, std::int32_t i) {
  while (parent[std::size_t(i)] != i) i = parent[std::size_t(i)] = parent[std::size_t(parent[std::size_t(i)])];
  return i;
}

}  // namespace detail

/// Merges 4-neighbour regions of image (h, w, bands), starting from single pixels or from `start` (h x w ids in [0, h * w)). The smaller id
/// survives each merge. Memory about 300 bytes per start region. Throws usage_error for wrong options or values that are not finite.
template <class T>
inline merge_result merge_regions(const T* image, int h, int w, int bands, const merge_options& o, const std::int32_t* start = nullptr) {
  const std::int64_t pixels = std::int64_t(h) * w;
  if (h < 1 || w < 1 || bands < 1 || pixels > std::numeric_limits<std::int32_t>::max())
    throw usage_error("merge_regions: expected a non-empty image below 2^31 pixels");
  if (!o.band_weight.empty() && o.band_weight.size() != std::size_t(bands))
    throw usage_error("merge_regions: expected " + std::to_string(bands) + " band weights, got " + std::to_string(o.band_weight.size()));
  // A whole number near the mean is subtracted: keeps sums of squares small, and sums of integers exact.
  std::vector<double> shift(std::size_t(bands), 0.0), value(static_cast<std::size_t>(bands));
  for (std::int64_t i = 0; i < pixels * bands; ++i) {
    if (!std::isfinite(double(image[i]))) throw usage_error("merge_regions: the image has values that are not finite");
    shift[std::size_t(i % bands)] += double(image[i]) / double(pixels);
  }
  for (double& s : shift) s = std::round(s);
  std::int32_t count = start ? 0 : std::int32_t(pixels);
  for (std::int64_t i = 0; start && i < pixels; ++i) {
    if (start[i] < 0 || start[i] >= pixels) throw usage_error("merge_regions: start labels must be in [0, pixels)");
    count = std::max(count, start[i] + 1);
  }
  detail::region_graph graph(count, bands, o);
  const auto id = [&](std::int64_t i) { return start ? start[i] : std::int32_t(i); };
  for (int y = 0; y < h; ++y)
    for (int x = 0; x < w; ++x) {
      const std::int64_t i = std::int64_t(y) * w + x;
      for (int c = 0; c < bands; ++c) value[std::size_t(c)] = double(image[i * bands + c]) - shift[std::size_t(c)];
      graph.add_pixel(id(i), value.data(), y, x);
    }
  for (int y = 0; y < h; ++y)
    for (int x = 0; x < w; ++x) {
      const std::int64_t i = std::int64_t(y) * w + x;
      if (x + 1 < w) graph.add_edge(id(i), id(i + 1));
      if (y + 1 < h) graph.add_edge(id(i), id(i + w));
    }
  merge_result result;
  std::vector<std::int32_t> parent(static_cast<std::size_t>(count));
  std::iota(parent.begin(), parent.end(), 0);
  result.regions = graph.run([&](std::int32_t kept, std::int32_t gone, double cost) {
    result.steps.push_back({kept, gone, cost});
    parent[std::size_t(gone)] = kept;
  });
  result.label.resize(std::size_t(pixels));
  for (std::int64_t i = 0; i < pixels; ++i) result.label[std::size_t(i)] = detail::find_root(parent, id(i));
  return result;
}

/// Graph segmentation (Felzenszwalb, Huttenlocher, IJCV 2004): edges by weight, merged while weight <= min(Int(a) + k / |a|, Int(b) + k / |b|);
/// then regions below min_size join their cheapest neighbour. Near-linear: the start for merge_regions on large images.
template <class T>
inline merge_result graph_segmentation(const T* image, int h, int w, int bands, double k, std::int64_t min_size = 20) {
  const std::int64_t pixels = std::int64_t(h) * w;
  if (h < 1 || w < 1 || bands < 1 || pixels > std::numeric_limits<std::int32_t>::max() / 2)
    throw usage_error("graph_segmentation: expected a non-empty image");
  struct edge {
    float weight;
    std::int32_t a, b;
  };
  std::vector<edge> edges;
  edges.reserve(std::size_t(2 * pixels));
  const auto link = [&](std::int64_t a, std::int64_t b) {
    double square = 0;
    for (int c = 0; c < bands; ++c) {
      const double d = double(image[a * bands + c]) - double(image[b * bands + c]);
      square += d * d;
    }
    edges.push_back({float(std::sqrt(square)), std::int32_t(a), std::int32_t(b)});
  };
  for (int y = 0; y < h; ++y)
    for (int x = 0; x < w; ++x) {
      const std::int64_t i = std::int64_t(y) * w + x;
      if (x + 1 < w) link(i, i + 1);
      if (y + 1 < h) link(i, i + w);
    }
  std::sort(edges.begin(), edges.end(), [](const edge& p, const edge& q) { return std::tie(p.weight, p.a, p.b) < std::tie(q.weight, q.a, q.b); });
  std::vector<std::int32_t> parent(static_cast<std::size_t>(pixels));
  std::iota(parent.begin(), parent.end(), 0);
  std::vector<double> size(std::size_t(pixels), 1.0), inner(std::size_t(pixels), 0.0);
  merge_result result;
  result.regions = pixels;
  for (const bool small : {false, true})
    for (const edge& e : edges) {
      std::int32_t a = detail::find_root(parent, e.a), b = detail::find_root(parent, e.b);
      if (a == b) continue;
      const double na = size[std::size_t(a)], nb = size[std::size_t(b)];
      if (small ? std::min(na, nb) >= double(min_size) : e.weight > std::min(inner[std::size_t(a)] + k / na, inner[std::size_t(b)] + k / nb))
        continue;
      if (b < a) std::swap(a, b);
      parent[std::size_t(b)] = a;
      size[std::size_t(a)] = na + nb;
      inner[std::size_t(a)] = std::max({inner[std::size_t(a)], inner[std::size_t(b)], double(e.weight)});
      --result.regions;
    }
  result.label.resize(std::size_t(pixels));
  for (std::int64_t i = 0; i < pixels; ++i) result.label[std::size_t(i)] = detail::find_root(parent, std::int32_t(i));
  return result;
}

/// Gives each region the most frequent class of its pixels (the smallest of equals; pixels outside [0, classes) do not vote), in place.
/// Regions without a vote keep their pixels as they are.
inline void majority_per_region(const std::vector<std::int32_t>& region, int classes, std::vector<std::int32_t>& label) {
  if (region.size() != label.size()) throw usage_error("majority_per_region: regions and labels differ in size");
  std::int32_t count = 0;
  for (const std::int32_t r : region) count = std::max(count, r + 1);
  std::vector<std::int32_t> dense(std::size_t(count), -1);
  std::int32_t used = 0;
  for (const std::int32_t r : region)
    if (dense[std::size_t(r)] < 0) dense[std::size_t(r)] = used++;
  std::vector<std::int32_t> votes(std::size_t(used) * classes, 0);
  for (std::size_t i = 0; i < label.size(); ++i)
    if (label[i] >= 0 && label[i] < classes) ++votes[std::size_t(dense[std::size_t(region[i])]) * classes + label[i]];
  for (std::size_t i = 0; i < label.size(); ++i) {
    const std::int32_t* v = votes.data() + std::size_t(dense[std::size_t(region[i])]) * classes;
    const std::int32_t* best = std::max_element(v, v + classes);
    if (*best > 0) label[i] = std::int32_t(best - v);
  }
}

}  // namespace rsseg::classical
