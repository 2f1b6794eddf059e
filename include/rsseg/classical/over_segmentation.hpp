// SPDX-License-Identifier: MIT
// Over-segmentation, the start of region merging: SLIC superpixels (Achanta et al., PAMI 2012) and watersheds of the gradient (Vincent, Soille, PAMI
// 1991, flooding from minima by a priority queue). The third one, graph segmentation, is in region_merging.hpp. Images are (h, w, bands), in grey
// values (0..255) where constants are meant so; a region's id is its smallest pixel index. Nothing is random.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <queue>
#include <tuple>
#include <vector>

#include "rsseg/classical/region_merging.hpp"

namespace rsseg::classical {

namespace detail {

/// CIE L a b (D65) of an sRGB colour in 0..255.
inline void rgb_to_lab(double r, double g, double b, double* lab) {
  const auto linear = [](double v) {
    v = std::clamp(v / 255, 0.0, 1.0);
    return v <= 0.04045 ? v / 12.92 : std::pow((v + 0.055) / 1.055, 2.4);
  };
  r = linear(r), g = linear(g), b = linear(b);
  const auto f = [](double t) { return t > 0.008856451679 ? std::cbrt(t) : t * 7.787037037 + 16.0 / 116; };
  const double x = f((0.4124564 * r + 0.3575761 * g + 0.1804375 * b) / 0.95047), y = f(0.2126729 * r + 0.7151522 * g + 0.0721750 * b),
               z = f((0.0193339 * r + 0.1191920 * g + 0.9503041 * b) / 1.08883);
  lab[0] = 116 * y - 16, lab[1] = 500 * (x - y), lab[2] = 200 * (y - z);
}

/// Renames labels so that each connected part is a region named by its smallest pixel; parts below `least` pixels join the neighbour with the longest
/// border (the smallest id of equals).
inline std::vector<std::int32_t> connected_regions(const std::vector<std::int32_t>& label, int h, int w, std::int64_t least) {
  const std::int64_t pixels = std::int64_t(h) * w;
  std::vector<std::int32_t> part(static_cast<std::size_t>(pixels), -1);
  std::vector<std::int64_t> stack, members;
  for (std::int64_t start = 0; start < pixels; ++start) {
    if (part[std::size_t(start)] >= 0) continue;
    stack.assign(1, start), members.clear();
    part[std::size_t(start)] = std::int32_t(start);
    std::vector<std::pair<std::int32_t, std::int64_t>> border;  // finished neighbours
    while (!stack.empty()) {
      const std::int64_t i = stack.back(), x = i % w;
      stack.pop_back();
      members.push_back(i);
      for (const std::int64_t j : {x > 0 ? i - 1 : -1, x + 1 < w ? i + 1 : -1, i - w, i + w < pixels ? i + w : -1}) {
        if (j < 0) continue;
        if (label[std::size_t(j)] == label[std::size_t(i)]) {
          if (part[std::size_t(j)] < 0) part[std::size_t(j)] = std::int32_t(start), stack.push_back(j);
        } else if (part[std::size_t(j)] >= 0) {
          const auto hit = std::find_if(border.begin(), border.end(), [&](const auto& b) { return b.first == part[std::size_t(j)]; });
          if (hit == border.end())
            border.emplace_back(part[std::size_t(j)], 1);
          else
            ++hit->second;
        }
      }
    }
    if (std::int64_t(members.size()) >= least || border.empty()) continue;
    const auto best = std::max_element(border.begin(), border.end(),
                                       [](const auto& a, const auto& b) { return a.second != b.second ? a.second < b.second : a.first > b.first; });
    for (const std::int64_t i : members) part[std::size_t(i)] = best->first;
  }
  return part;
}

}  // namespace detail

struct slic_options {
  int side = 16;            ///< S, pixels between the first centres
  double compactness = 10;  ///< m: distance^2 = d_lab^2 + (d_xy / S)^2 m^2
  int iterations = 10;
};

/// Superpixels: k-means in (L, a, b, x, y), each centre looking 2 S far, then a connectivity pass (parts below S^2 / 4 pixels join a neighbour).
/// With other than three bands the bands themselves are the colour. Throws usage_error.
template <class T>
inline std::vector<std::int32_t> slic(const T* image, int h, int w, int bands, const slic_options& o = {}) {
  if (h < 1 || w < 1 || bands < 1 || o.side < 2 || !(o.compactness >= 0) || o.iterations < 0)
    throw usage_error("slic: expected a non-empty image, side >= 2 and compactness >= 0");
  const std::int64_t pixels = std::int64_t(h) * w;
  const std::size_t c = std::size_t(bands == 3 ? 3 : bands);
  std::vector<double> colour(std::size_t(pixels) * c);
  for (std::int64_t i = 0; i < pixels; ++i) {
    if (bands == 3)
      detail::rgb_to_lab(double(image[3 * i]), double(image[3 * i + 1]), double(image[3 * i + 2]), colour.data() + 3 * i);
    else
      for (std::size_t b = 0; b < c; ++b) colour[std::size_t(i) * c + b] = double(image[std::size_t(i) * c + b]);
  }
  const int across = std::max(1, w / o.side), down = std::max(1, h / o.side);
  const std::size_t width = c + 2;  // of a centre: colour, y, x
  std::vector<double> centre(std::size_t(across) * std::size_t(down) * width);
  for (int r = 0; r < down; ++r)
    for (int q = 0; q < across; ++q) {
      const int y = std::min(h - 1, (2 * r + 1) * h / (2 * down)), x = std::min(w - 1, (2 * q + 1) * w / (2 * across));
      double* to = centre.data() + (std::size_t(r) * std::size_t(across) + std::size_t(q)) * width;
      std::copy_n(colour.data() + (std::size_t(y) * std::size_t(w) + std::size_t(x)) * c, c, to);
      to[c] = y, to[c + 1] = x;
    }
  const double spatial = o.compactness * o.compactness / (double(o.side) * o.side);
  std::vector<std::int32_t> label(static_cast<std::size_t>(pixels), 0);
  std::vector<double> best(label.size());
  for (int round = 0; round < std::max(1, o.iterations); ++round) {
    std::fill(best.begin(), best.end(), std::numeric_limits<double>::infinity());
    for (std::size_t k = 0; k < centre.size() / width; ++k) {
      const double* m = centre.data() + k * width;
      const int y0 = std::max(0, int(m[c]) - 2 * o.side), y1 = std::min(h, int(m[c]) + 2 * o.side + 1);
      const int x0 = std::max(0, int(m[c + 1]) - 2 * o.side), x1 = std::min(w, int(m[c + 1]) + 2 * o.side + 1);
      for (int y = y0; y < y1; ++y)
        for (int x = x0; x < x1; ++x) {
          const std::size_t i = std::size_t(y) * std::size_t(w) + std::size_t(x);
          double d = spatial * ((y - m[c]) * (y - m[c]) + (x - m[c + 1]) * (x - m[c + 1]));
          for (std::size_t b = 0; b < c; ++b) d += (colour[i * c + b] - m[b]) * (colour[i * c + b] - m[b]);
          if (d < best[i]) best[i] = d, label[i] = std::int32_t(k);
        }
    }
    std::vector<double> sum(centre.size(), 0.0), count(centre.size() / width, 0.0);
    for (std::int64_t i = 0; i < pixels; ++i) {
      const std::size_t k = std::size_t(label[std::size_t(i)]);
      for (std::size_t b = 0; b < c; ++b) sum[k * width + b] += colour[std::size_t(i) * c + b];
      sum[k * width + c] += double(i / w), sum[k * width + c + 1] += double(i % w), count[k] += 1;
    }
    for (std::size_t k = 0; k < count.size(); ++k)
      for (std::size_t b = 0; b < width && count[k] > 0; ++b) centre[k * width + b] = sum[k * width + b] / count[k];
  }
  return detail::connected_regions(label, h, w, std::int64_t(o.side) * o.side / 4);
}

/// Watersheds of the gradient magnitude (central differences, largest band): each local minimum floods its surroundings, lowest pixels first, first
/// come first served among equals. Minima shallower than `depth` grey values start no region of their own. Every pixel belongs to a region.
template <class T>
inline std::vector<std::int32_t> watershed(const T* image, int h, int w, int bands, double depth = 4) {
  if (h < 1 || w < 1 || bands < 1 || !(depth >= 0)) throw usage_error("watershed: expected a non-empty image and depth >= 0");
  const std::int64_t pixels = std::int64_t(h) * w;
  std::vector<float> level(static_cast<std::size_t>(pixels), 0.0f);
  for (int y = 0; y < h; ++y)
    for (int x = 0; x < w; ++x)
      for (int b = 0; b < bands; ++b) {
        const auto at = [&](int r, int q) {
          return double(image[(std::int64_t(std::clamp(r, 0, h - 1)) * w + std::clamp(q, 0, w - 1)) * bands + b]);
        };
        const double gy = at(y + 1, x) - at(y - 1, x), gx = at(y, x + 1) - at(y, x - 1);
        float& v = level[std::size_t(std::int64_t(y) * w + x)];
        v = std::max(v, float(0.5 * std::sqrt(gx * gx + gy * gy)));
      }
  // Levels in steps of `depth`: a minimum that is not a step below its rim is none.
  std::vector<std::int32_t> step(level.size());
  for (std::size_t i = 0; i < level.size(); ++i)
    step[i] = std::int32_t(depth > 0 ? std::floor(double(level[i]) / depth) : std::floor(double(level[i]) * 1e4));
  const std::vector<std::int32_t> plateau = detail::connected_regions(step, h, w, 1);
  std::vector<char> minimum(level.size(), 1);  // by plateau
  const auto each_neighbour = [&](std::int64_t i, const auto& f) {
    const std::int64_t x = i % w;
    for (const std::int64_t j : {x > 0 ? i - 1 : -1, x + 1 < w ? i + 1 : -1, i - w, i + w < pixels ? i + w : -1})
      if (j >= 0) f(j);
  };
  for (std::int64_t i = 0; i < pixels; ++i)
    each_neighbour(i, [&](std::int64_t j) {
      if (step[std::size_t(j)] < step[std::size_t(i)]) minimum[std::size_t(plateau[std::size_t(i)])] = 0;
    });
  std::vector<std::int32_t> label(level.size(), -1);
  using entry = std::tuple<std::int32_t, std::int64_t, std::int64_t>;  // level, order of arrival, pixel
  std::priority_queue<entry, std::vector<entry>, std::greater<>> queue;
  std::int64_t order = 0;
  for (std::int64_t i = 0; i < pixels; ++i)
    if (minimum[std::size_t(plateau[std::size_t(i)])]) label[std::size_t(i)] = plateau[std::size_t(i)];
  for (std::int64_t i = 0; i < pixels; ++i)
    if (label[std::size_t(i)] >= 0) queue.emplace(step[std::size_t(i)], order++, i);
  while (!queue.empty()) {
    const auto [height, when, i] = queue.top();
    queue.pop();
    each_neighbour(i, [&, height = height, i = i](std::int64_t j) {
      if (label[std::size_t(j)] >= 0) return;
      label[std::size_t(j)] = label[std::size_t(i)];
      queue.emplace(std::max(height, step[std::size_t(j)]), order++, j);
    });
  }
  return detail::connected_regions(label, h, w, 1);
}

}  // namespace rsseg::classical
