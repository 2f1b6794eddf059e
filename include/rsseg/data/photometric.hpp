// SPDX-License-Identifier: MIT
// Changes of colour, sharpness and noise on a crop in [0, 1] units, (h,w,bands). The order is fixed: brightness, contrast,
// saturation, hue (three bands) or gain and offset (any other count), then blur, then noise.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>
#include <vector>

#include "rsseg/core/error.hpp"
#include "rsseg/core/random.hpp"

namespace rsseg::data {

/// Strengths; 0 switches a change off.
struct colour_jitter {
  double brightness = 0;                          ///< RGB: factor uniform in 1 +- this
  double contrast = 0;                            ///< RGB: factor about the crop's mean luminance, uniform in 1 +- this
  double saturation = 0;                          ///< RGB: factor about each pixel's luminance, uniform in 1 +- this
  double hue = 0;                                 ///< RGB: turn of the chroma plane, uniform in +- this, in full circles (0.5 = opposite colour)
  double gain = 0, offset = 0;                    ///< other band counts: x * (1 +- gain) +- offset, drawn per band
  double blur_probability = 0, blur_sigma = 1.5;  ///< Gaussian of a deviation uniform in 0.1 .. blur_sigma pixels
  double noise = 0;                               ///< deviation of added Gaussian noise, uniform in 0 .. this

  void check() const {
    for (const double v : {brightness, contrast, saturation, hue, gain, offset, blur_probability, noise})
      if (!(v >= 0 && v <= 1)) throw usage_error("augmentation: colour changes, probabilities and noise must be in 0 .. 1");
    if (blur_probability > 0 && !(blur_sigma >= 0.1 && blur_sigma <= 50)) throw usage_error("augmentation: blur sigma must be in 0.1 .. 50 pixels");
  }
};

namespace detail {

inline float luminance(const float* p) { return 0.299f * p[0] + 0.587f * p[1] + 0.114f * p[2]; }

inline void gaussian_blur(float* v, int height, int width, int bands, double sigma) {
  const int radius = std::max(1, int(std::ceil(3 * sigma)));
  std::vector<float> kernel(std::size_t(2 * radius + 1));
  double sum = 0;
  for (int k = -radius; k <= radius; ++k) sum += std::exp(-k * k / (2 * sigma * sigma));
  for (int k = -radius; k <= radius; ++k) kernel[std::size_t(k + radius)] = float(std::exp(-k * k / (2 * sigma * sigma)) / sum);
  std::vector<float> line;
  // lines of `n` pixels `step` floats apart; border pixels repeat
  const auto along = [&](float* first, int n, std::size_t step) {
    line.resize(std::size_t(n) * std::size_t(bands));
    for (int i = 0; i < n; ++i)
      std::copy(first + std::size_t(i) * step, first + std::size_t(i) * step + bands, line.data() + std::size_t(i) * std::size_t(bands));
    for (int i = 0; i < n; ++i)
      for (int b = 0; b < bands; ++b) {
        float acc = 0;
        for (int k = -radius; k <= radius; ++k)
          acc += kernel[std::size_t(k + radius)] * line[std::size_t(std::clamp(i + k, 0, n - 1)) * std::size_t(bands) + std::size_t(b)];
        first[std::size_t(i) * step + std::size_t(b)] = acc;
      }
  };
  const std::size_t pixel = std::size_t(bands), row = pixel * std::size_t(width);
  for (int y = 0; y < height; ++y) along(v + std::size_t(y) * row, width, pixel);
  for (int x = 0; x < width; ++x) along(v + std::size_t(x) * pixel, height, row);
}

}  // namespace detail

/// Applies one draw to v (height, width, bands) in place. clamp: keep within [0, 1], as integer samples are.
inline void apply_colours(const colour_jitter& o, int height, int width, int bands, bool clamp, random_stream& random, float* v) {
  const std::size_t n = std::size_t(height) * std::size_t(width), step = std::size_t(bands);
  bool changed = false;
  if (bands == 3 && (o.brightness > 0 || o.contrast > 0 || o.saturation > 0 || o.hue > 0)) {
    const float bright = float(1 + random.uniform(-o.brightness, o.brightness)), contrast = float(1 + random.uniform(-o.contrast, o.contrast));
    const float saturation = float(1 + random.uniform(-o.saturation, o.saturation));
    const double turn = random.uniform(-o.hue, o.hue) * 6.283185307179586476925;
    double mean = 0;
    for (std::size_t i = 0; i < n; ++i) mean += double(detail::luminance(v + 3 * i));
    const float middle = float(mean / double(n)) * bright;
    // Hue: rotation of (I, Q) in the YIQ colour space.
    const float c = float(std::cos(turn)), s = float(std::sin(turn));
    for (std::size_t i = 0; i < n; ++i) {
      float* p = v + 3 * i;
      for (int b = 0; b < 3; ++b) p[b] = (p[b] * bright - middle) * contrast + middle;
      const float y = detail::luminance(p);
      for (int b = 0; b < 3; ++b) p[b] = y + (p[b] - y) * saturation;
      if (o.hue > 0) {
        const float I = 0.595716f * p[0] - 0.274453f * p[1] - 0.321263f * p[2], Q = 0.211456f * p[0] - 0.522591f * p[1] + 0.311135f * p[2];
        const float i2 = c * I - s * Q, q2 = s * I + c * Q;
        p[0] = y + 0.9563f * i2 + 0.6210f * q2, p[1] = y - 0.2721f * i2 - 0.6474f * q2, p[2] = y - 1.1070f * i2 + 1.7046f * q2;
      }
    }
    changed = true;
  } else if (bands != 3 && (o.gain > 0 || o.offset > 0)) {
    for (std::size_t b = 0; b < step; ++b) {
      const float gain = float(1 + random.uniform(-o.gain, o.gain)), offset = float(random.uniform(-o.offset, o.offset));
      for (std::size_t i = 0; i < n; ++i) v[i * step + b] = v[i * step + b] * gain + offset;
    }
    changed = true;
  }
  if (o.blur_probability > 0) {
    const bool blur = random.uniform() < o.blur_probability;
    const double sigma = random.uniform(0.1, o.blur_sigma);
    if (blur) detail::gaussian_blur(v, height, width, bands, sigma);
  }
  if (o.noise > 0) {
    const float deviation = float(random.uniform(0, o.noise));
    for (std::size_t i = 0; i < n * step; ++i) v[i] += deviation * float(random.normal());
    changed = true;
  }
  if (clamp && changed)
    for (std::size_t i = 0; i < n * step; ++i) v[i] = std::clamp(v[i], 0.0f, 1.0f);
}

}  // namespace rsseg::data
