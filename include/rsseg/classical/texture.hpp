// SPDX-License-Identifier: MIT
// Texture features: grey-level co-occurrence (Haralick, Shanmugam, Dinstein 1973), local binary patterns with the rotation-invariant uniform
// form (Ojala, Pietikainen, Maenpaa 2002), Gabor magnitudes. Images are single planes of h x w values, row major; maps are (h, w, features).
#pragma once
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "rsseg/core/chunks.hpp"
#include "rsseg/core/error.hpp"

namespace rsseg::classical {

/// Displacement from the first to the second pixel of a pair.
struct pixel_offset {
  int dy = 0, dx = 1;
};
/// 0, 45, 90 and 135 degrees at distance 1.
constexpr std::array<pixel_offset, 4> usual_offsets{{{0, 1}, {-1, 1}, {-1, 0}, {-1, -1}}};

/// floor((v - lo) * levels / (hi - lo)), clamped to [0, levels). For 8-bit images: lo 0, hi 256. NaN becomes 0. levels in [2, 256].
template <class T>
inline std::vector<std::uint8_t> quantize(const T* v, std::int64_t count, int levels, double lo, double hi) {
  if (levels < 2 || levels > 256 || !(hi > lo)) throw usage_error("quantize: expected 2 to 256 levels and hi > lo");
  std::vector<std::uint8_t> out(static_cast<std::size_t>(count));
  for (std::int64_t i = 0; i < count; ++i) {
    const double q = std::floor((double(v[i]) - lo) * levels / (hi - lo));
    out[std::size_t(i)] = std::uint8_t(q > 0 ? std::min(q, levels - 1.0) : 0.0);
  }
  return out;
}

/// Co-occurrence of quantised values over the pairs inside the image: symmetric (C + C^T), normalised to sum 1 (all 0 without a pair).
/// Returns levels x levels. Throws usage_error for values >= levels.
inline std::vector<double> glcm(const std::uint8_t* q, int h, int w, int levels, pixel_offset o) {
  std::vector<double> p(std::size_t(levels) * levels, 0.0);
  double pairs = 0;
  for (int y = std::max(0, -o.dy); y < std::min(h, h - o.dy); ++y)
    for (int x = std::max(0, -o.dx); x < std::min(w, w - o.dx); ++x) {
      const int a = q[std::size_t(y) * w + x], b = q[std::size_t(y + o.dy) * w + x + o.dx];
      if (a >= levels || b >= levels) throw usage_error("glcm: a value is not below " + std::to_string(levels) + "; quantize first");
      p[std::size_t(a) * levels + b] += 1, p[std::size_t(b) * levels + a] += 1;
      pairs += 2;
    }
  if (pairs > 0)
    for (double& v : p) v /= pairs;
  return p;
}

/// The seven features used, in this order in maps.
struct glcm_features {
  double contrast = 0;       ///< sum p (i - j)^2
  double dissimilarity = 0;  ///< sum p |i - j|
  double homogeneity = 0;    ///< sum p / (1 + (i - j)^2)
  double asm_ = 0;           ///< sum p^2, angular second moment
  double energy = 0;         ///< its root
  double correlation = 0;    ///< 1 for a constant image
  double entropy = 0;        ///< -sum p ln p
  static constexpr int count = 7;
  std::array<double, count> values() const { return {contrast, dissimilarity, homogeneity, asm_, energy, correlation, entropy}; }
};

/// Features of a symmetric, normalised matrix. weight(k) is entry k times `scale`.
template <class P>
inline glcm_features features_of_glcm(const P* p, int levels, double scale = 1) {
  glcm_features f;
  double mean = 0, square = 0, product = 0;
  for (int i = 0; i < levels; ++i)
    for (int j = 0; j < levels; ++j) {
      const double v = p[i * levels + j] * scale;
      if (v == 0) continue;
      const double d = i - j;
      f.contrast += v * d * d, f.dissimilarity += v * std::abs(d), f.homogeneity += v / (1 + d * d), f.asm_ += v * v, f.entropy -= v * std::log(v);
      mean += v * i, square += v * i * i, product += v * i * j;
    }
  f.energy = std::sqrt(f.asm_);
  const double variance = square - mean * mean;
  f.correlation = variance > 1e-15 ? (product - mean * mean) / variance : 1;
  return f;
}

/// out (h, w, 7): features of the co-occurrence in the (2 radius + 1)^2 window around each pixel, clipped at the border, mean over the
/// offsets. Counts slide along a row, so the cost is O(radius + levels^2) per pixel and offset; rows in parallel. Throws usage_error.
template <class T>
inline void glcm_map(const std::uint8_t* q, int h, int w, int levels, int radius, const std::vector<pixel_offset>& offsets, T* out) {
  if (radius < 1 || levels < 2 || offsets.empty()) throw usage_error("glcm_map: expected radius >= 1, levels >= 2 and at least one offset");
  for (std::int64_t i = 0; i < std::int64_t(h) * w; ++i)
    if (q[i] >= levels) throw usage_error("glcm_map: a value is not below " + std::to_string(levels) + "; quantize first");
  parallel_for(h, [&](std::int64_t row) {
    const int y = int(row), top = std::max(0, y - radius), bottom = std::min(h - 1, y + radius);
    std::vector<int> counts(std::size_t(levels) * levels);
    std::vector<double> sum(std::size_t(w) * glcm_features::count, 0.0);
    for (const pixel_offset& o : offsets) {
      std::fill(counts.begin(), counts.end(), 0);
      int pairs = 0;
      // Adds or removes the pairs whose first pixel is in column x; the second is in x + o.dx.
      const auto column = [&](int x, int step) {
        for (int v = std::max(top, top - o.dy); v <= std::min(bottom, bottom - o.dy); ++v) {
          const int a = q[std::size_t(v) * w + x], b = q[std::size_t(v + o.dy) * w + x + o.dx];
          counts[std::size_t(a * levels + b)] += step, counts[std::size_t(b * levels + a)] += step;
          pairs += 2 * step;
        }
      };
      int from = 0, to = 0;  // columns of first pixels now counted: [from, to)
      for (int x = 0; x < w; ++x) {
        const int left = std::max(0, x - radius), right = std::min(w - 1, x + radius);
        const int begin = std::max(left, left - o.dx), end = std::max(begin, std::min(right, right - o.dx) + 1);
        if (to <= begin) {  // nothing in common: start again
          for (; from < to; ++from) column(from, -1);
          from = to = begin;
        }
        for (; from < begin; ++from) column(from, -1);
        for (; to < end; ++to) column(to, 1);
        const auto f = features_of_glcm(counts.data(), levels, pairs > 0 ? 1.0 / pairs : 0.0).values();
        for (int k = 0; k < glcm_features::count; ++k) sum[std::size_t(x * glcm_features::count + k)] += f[std::size_t(k)];
      }
    }
    T* to = out + row * w * glcm_features::count;
    for (std::size_t i = 0; i < sum.size(); ++i) to[i] = T(sum[i] / double(offsets.size()));
  });
}

/// Bit k of the code is set where neighbour k (counter-clockwise from the right: E, NE, N, NW, W, SW, S, SE) >= centre; coordinates beyond
/// the border are clamped.
template <class T>
inline std::uint8_t lbp_code(const T* v, int h, int w, int y, int x) {
  constexpr int dy[8] = {0, -1, -1, -1, 0, 1, 1, 1}, dx[8] = {1, 1, 0, -1, -1, -1, 0, 1};
  const T centre = v[std::size_t(y) * w + x];
  unsigned code = 0;
  for (int k = 0; k < 8; ++k) {
    const int ny = std::clamp(y + dy[k], 0, h - 1), nx = std::clamp(x + dx[k], 0, w - 1);
    code |= unsigned(v[std::size_t(ny) * w + nx] >= centre) << k;
  }
  return std::uint8_t(code);
}

/// Rotation-invariant uniform pattern: the number of ones if the circle has at most two transitions, else 9.
constexpr int lbp_riu2(std::uint8_t code) {
  const std::uint8_t turned = std::rotl(code, 1);
  return std::popcount(std::uint8_t(code ^ turned)) <= 2 ? std::popcount(code) : 9;
}

/// Codes of the whole image, h x w.
template <class T>
inline std::vector<std::uint8_t> lbp(const T* v, int h, int w) {
  std::vector<std::uint8_t> out(std::size_t(h) * w);
  parallel_for(h, [&](std::int64_t y) {
    for (int x = 0; x < w; ++x) out[std::size_t(y) * w + x] = lbp_code(v, h, w, int(y), x);
  });
  return out;
}

/// out (h, w, 10): share of each riu2 pattern in the (2 radius + 1)^2 window, clipped at the border.
template <class T, class Out>
inline void lbp_histogram_map(const T* v, int h, int w, int radius, Out* out) {
  const auto codes = lbp(v, h, w);
  parallel_for(h, [&](std::int64_t row) {
    const int top = std::max(0, int(row) - radius), bottom = std::min(h - 1, int(row) + radius);
    int counts[10] = {}, pixels = 0;
    const auto column = [&](int x, int step) {
      for (int y = top; y <= bottom; ++y) counts[lbp_riu2(codes[std::size_t(y) * w + x])] += step, pixels += step;
    };
    for (int x = 0; x < std::min(radius, w); ++x) column(x, 1);
    for (int x = 0; x < w; ++x) {
      if (x + radius < w) column(x + radius, 1);
      if (x - radius - 1 >= 0) column(x - radius - 1, -1);
      for (int k = 0; k < 10; ++k) out[(row * w + x) * 10 + k] = Out(double(counts[k]) / pixels);
    }
  });
}

struct gabor_options {
  int scales = 4, orientations = 6;
  double first_wavelength = 4;  ///< pixels; doubles with each scale
  double bandwidth = 0.56;      ///< sigma = bandwidth * wavelength (0.56: one octave)
};

/// out (h, w, scales * orientations): magnitude of complex Gabor responses without their mean (a flat image gives 0), border repeated.
/// The envelope is round, so each filter is separable: O(wavelength) per pixel.
template <class T, class Out>
inline void gabor_map(const T* v, int h, int w, const gabor_options& o, Out* out) {
  if (o.scales < 1 || o.orientations < 1 || !(o.first_wavelength >= 2) || !(o.bandwidth > 0))
    throw usage_error("gabor_map: expected at least one scale and orientation, wavelength >= 2 pixels and bandwidth > 0");
  const int filters = o.scales * o.orientations;
  constexpr double pi = 3.14159265358979323846;
  parallel_for(filters, [&](std::int64_t filter) {
    const double wavelength = o.first_wavelength * std::exp2(double(filter / o.orientations)), sigma = o.bandwidth * wavelength;
    const double angle = pi * double(filter % o.orientations) / o.orientations, kx = 2 * pi / wavelength * std::cos(angle),
                 ky = 2 * pi / wavelength * std::sin(angle);
    const int r = int(std::ceil(3 * sigma));
    // One complex 1-D filter per axis, and the envelope alone, to take the mean response out.
    std::vector<double> xr, xi, yr, yi, env;
    double norm = 0;
    for (int t = -r; t <= r; ++t) env.push_back(std::exp(-0.5 * t * t / (sigma * sigma))), norm += env.back();
    double sxr = 0, sxi = 0, syr = 0, syi = 0;
    for (int t = -r; t <= r; ++t) {
      double& e = env[std::size_t(t + r)];
      e /= norm;
      xr.push_back(e * std::cos(kx * t)), xi.push_back(e * std::sin(kx * t)), yr.push_back(e * std::cos(ky * t)), yi.push_back(e * std::sin(ky * t));
      sxr += xr.back(), sxi += xi.back(), syr += yr.back(), syi += yi.back();
    }
    const double mean_r = sxr * syr - sxi * syi, mean_i = sxr * syi + sxi * syr;
    // Rows first, kept in a ring of 2 r + 1 rows.
    const std::size_t ring = std::size_t(2 * r + 1);
    std::vector<double> rr(ring * w), ri(ring * w), re(ring * w);
    int ready = 0;
    const auto make_row = [&](int y) {
      const T* row = v + std::size_t(y) * w;
      double *a = rr.data() + std::size_t(y) % ring * w, *b = ri.data() + std::size_t(y) % ring * w, *c = re.data() + std::size_t(y) % ring * w;
      for (int x = 0; x < w; ++x) {
        double sr = 0, si = 0, se = 0;
        for (int t = -r; t <= r; ++t) {
          const double value = double(row[std::clamp(x + t, 0, w - 1)]);
          sr += xr[std::size_t(t + r)] * value, si += xi[std::size_t(t + r)] * value, se += env[std::size_t(t + r)] * value;
        }
        a[x] = sr, b[x] = si, c[x] = se;
      }
    };
    for (int y = 0; y < h; ++y) {
      for (; ready <= std::min(h - 1, y + r); ++ready) make_row(ready);
      for (int x = 0; x < w; ++x) {
        double sr = 0, si = 0, se = 0;
        for (int t = -r; t <= r; ++t) {
          const std::size_t at = std::size_t(std::clamp(y + t, 0, h - 1)) % ring * w + x, k = std::size_t(t + r);
          sr += yr[k] * rr[at] - yi[k] * ri[at], si += yr[k] * ri[at] + yi[k] * rr[at], se += env[k] * re[at];
        }
        sr -= mean_r * se, si -= mean_i * se;
        out[(std::int64_t(y) * w + x) * filters + filter] = Out(std::sqrt(sr * sr + si * si));
      }
    }
  });
}

}  // namespace rsseg::classical
