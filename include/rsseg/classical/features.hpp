// SPDX-License-Identifier: MIT
// Hand-made features per pixel for the classical learners: bands, local mean and deviation, hue-saturation-value, spectral indices,
// co-occurrence, local binary patterns, Gabor magnitudes. Image (h, w, bands), features (rows, w, count) as float.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "rsseg/classical/texture.hpp"
#include "rsseg/core/error.hpp"
#include "rsseg/refine/box_filter.hpp"

namespace rsseg::classical {

/// Which features. Band indices below 0 mean: not there.
struct feature_options {
  bool local = true;        ///< mean and standard deviation of each band in the window
  bool hsv = true;          ///< when red, green and blue are there
  bool glcm = true;         ///< the seven features of the luminance, mean over four offsets
  bool lbp = true;          ///< ten shares of riu2 patterns of the luminance
  bool gabor = false;       ///< scales * orientations magnitudes of the luminance
  int radius = 5;           ///< windows are (2 radius + 1)^2
  int levels = 8;           ///< grey levels of the co-occurrence
  double lo = 0, hi = 256;  ///< range of the values; fixed, so that tiles of a scene agree
  int red = 0, green = 1, blue = 2, near_infrared = -1;
  gabor_options gabor_bank;
};

/// (a - b) / (a + b), 0 where the sum is 0. NDVI: near infrared and red; NDWI: green and near infrared.
inline double normalized_difference(double a, double b) { return a + b != 0 ? (a - b) / (a + b) : 0.0; }

/// Hue, saturation, value of colours scaled to [0, 1]; hue in [0, 1), 0 for grey.
inline void rgb_to_hsv(double r, double g, double b, double* hsv) {
  const double top = std::max({r, g, b}), low = std::min({r, g, b}), span = top - low;
  double hue = 0;
  if (span > 0) hue = top == r ? (g - b) / span : top == g ? 2 + (b - r) / span : 4 + (r - g) / span;
  hsv[0] = (hue < 0 ? hue + 6 : hue) / 6, hsv[1] = top > 0 ? span / top : 0, hsv[2] = top;
}

/// Names in the order of the features. Throws usage_error when a band index is not below bands.
inline std::vector<std::string> feature_names(int bands, const feature_options& o) {
  // Grey images are fine with the usual colour indices: colour features are left out.
  for (const int band : {bands > 2 ? o.red : -1, bands > 2 ? o.green : -1, bands > 2 ? o.blue : -1, o.near_infrared})
    if (band >= bands) throw usage_error("features: band " + std::to_string(band) + " asked for, the image has " + std::to_string(bands));
  std::vector<std::string> names;
  const auto add = [&](const std::string& kind, int count) {
    for (int k = 0; k < count; ++k) names.push_back(kind + std::to_string(k));
  };
  const auto has = [&](int band) { return band >= 0 && band < bands; };
  add("band", bands);
  if (o.local) add("mean", bands), add("deviation", bands);
  if (o.hsv && has(o.red) && has(o.green) && has(o.blue)) names.insert(names.end(), {"hue", "saturation", "value"});
  if (has(o.near_infrared) && has(o.red)) names.push_back("ndvi");
  if (has(o.near_infrared) && has(o.green)) names.push_back("ndwi");
  if (o.glcm) names.insert(names.end(), {"contrast", "dissimilarity", "homogeneity", "asm", "energy", "correlation", "entropy"});
  if (o.lbp) add("lbp", 10);
  if (o.gabor) add("gabor", o.gabor_bank.scales * o.gabor_bank.orientations);
  return names;
}

/// Rows around a strip that its features depend on.
inline int feature_halo(const feature_options& o) {
  int halo = o.local || o.glcm || o.lbp ? o.radius + 1 : 0;
  if (o.gabor) halo = std::max(halo, int(std::ceil(3 * o.gabor_bank.bandwidth * o.gabor_bank.first_wavelength * std::exp2(o.gabor_bank.scales - 1))));
  return halo;
}

/// Features of rows [y0, y1) to out (y1 - y0, w, count). Reads feature_halo() rows more on each side. Throws usage_error.
template <class T>
inline void extract_features(const T* image, int h, int w, int bands, const feature_options& o, int y0, int y1, float* out) {
  if (h < 1 || w < 1 || bands < 1 || y0 < 0 || y1 > h || y0 >= y1) throw usage_error("features: expected a non-empty image and rows inside it");
  if (o.radius < 1 || !(o.hi > o.lo)) throw usage_error("features: expected radius >= 1 and hi > lo");
  const int count = int(feature_names(bands, o).size()), halo = feature_halo(o), top = std::max(0, y0 - halo), bottom = std::min(h, y1 + halo);
  const int rows = bottom - top;
  const std::int64_t pixels = std::int64_t(rows) * w, first = std::int64_t(y0 - top) * w, kept = std::int64_t(y1 - y0) * w;
  const T* strip = image + std::int64_t(top) * w * bands;
  const auto has = [&](int band) { return band >= 0 && band < bands; };
  const double range = o.hi - o.lo;
  int at = 0;
  const auto put = [&](auto&& value) {
    for (std::int64_t i = 0; i < kept; ++i) {
      const double v = value(first + i);
      out[i * count + at] = std::isfinite(v) ? float(v) : 0.0f;
    }
    ++at;
  };
  for (int c = 0; c < bands; ++c) put([&](std::int64_t i) { return double(strip[i * bands + c]); });
  if (o.local) {
    std::vector<double> mean(static_cast<std::size_t>(pixels)), square(mean.size()), scratch(mean.size());
    std::vector<float> deviation(std::size_t(kept) * bands);
    for (int c = 0; c < bands; ++c) {
      for (std::int64_t i = 0; i < pixels; ++i) {
        const double v = double(strip[i * bands + c]);
        mean[std::size_t(i)] = std::isfinite(v) ? v - o.lo : 0, square[std::size_t(i)] = mean[std::size_t(i)] * mean[std::size_t(i)];
      }
      refine::box_mean(mean.data(), rows, w, o.radius, scratch.data());
      refine::box_mean(square.data(), rows, w, o.radius, scratch.data());
      put([&](std::int64_t i) { return mean[std::size_t(i)] + o.lo; });
      for (std::int64_t i = 0; i < kept; ++i) {
        const double m = mean[std::size_t(first + i)];
        deviation[std::size_t(i * bands + c)] = float(std::sqrt(std::max(0.0, square[std::size_t(first + i)] - m * m)));
      }
    }
    for (int c = 0; c < bands; ++c) put([&](std::int64_t i) { return double(deviation[std::size_t((i - first) * bands + c)]); });
  }
  const bool color = has(o.red) && has(o.green) && has(o.blue);
  const auto unit = [&](std::int64_t i, int band) { return (double(strip[i * bands + band]) - o.lo) / range; };
  if (o.hsv && color)
    for (int k = 0; k < 3; ++k)
      put([&](std::int64_t i) {
        double hsv[3];
        rgb_to_hsv(unit(i, o.red), unit(i, o.green), unit(i, o.blue), hsv);
        return hsv[k];
      });
  if (has(o.near_infrared) && has(o.red)) put([&](std::int64_t i) { return normalized_difference(unit(i, o.near_infrared), unit(i, o.red)); });
  if (has(o.near_infrared) && has(o.green)) put([&](std::int64_t i) { return normalized_difference(unit(i, o.green), unit(i, o.near_infrared)); });
  if (!o.glcm && !o.lbp && !o.gabor) return;
  std::vector<float> luminance(static_cast<std::size_t>(pixels));
  for (std::int64_t i = 0; i < pixels; ++i) {
    double v = 0;
    if (color) {
      v = 0.299 * double(strip[i * bands + o.red]) + 0.587 * double(strip[i * bands + o.green]) + 0.114 * double(strip[i * bands + o.blue]);
    } else {
      for (int c = 0; c < bands; ++c) v += double(strip[i * bands + c]) / bands;
    }
    luminance[std::size_t(i)] = std::isfinite(v) ? float(v) : float(o.lo);
  }
  std::vector<float> map;
  const auto put_map = [&](int width) {
    for (int k = 0; k < width; ++k) put([&](std::int64_t i) { return double(map[std::size_t(i * width + k)]); });
  };
  if (o.glcm) {
    const auto q = quantize(luminance.data(), pixels, o.levels, o.lo, o.hi);
    map.resize(std::size_t(pixels) * glcm_features::count);
    glcm_map(q.data(), rows, w, o.levels, o.radius, {usual_offsets.begin(), usual_offsets.end()}, map.data());
    put_map(glcm_features::count);
  }
  if (o.lbp) {
    map.resize(std::size_t(pixels) * 10);
    lbp_histogram_map(luminance.data(), rows, w, o.radius, map.data());
    put_map(10);
  }
  if (o.gabor) {
    const int filters = o.gabor_bank.scales * o.gabor_bank.orientations;
    map.resize(std::size_t(pixels) * filters);
    gabor_map(luminance.data(), rows, w, o.gabor_bank, map.data());
    put_map(filters);
  }
}

}  // namespace rsseg::classical
