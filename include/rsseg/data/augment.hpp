// SPDX-License-Identifier: MIT
// Augmentation: one crop of a sample, scaled, flipped, turned and recoloured, as network input (h,w,bands) and targets (h,w).
// All geometry is one affine map and therefore one resampling; every choice is drawn from the caller's random stream, so that a
// crop is a function of (seed, epoch, draw number) and of nothing else.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "rsseg/core/error.hpp"
#include "rsseg/core/random.hpp"
#include "rsseg/data/normalize.hpp"
#include "rsseg/data/photometric.hpp"
#include "rsseg/data/pixels.hpp"

namespace rsseg::data {

struct augment_options {
  int crop_height = 0, crop_width = 0;            ///< pixels of the result; 0: those of the image
  double scale_min = 1, scale_max = 1;            ///< random zoom, uniform in its logarithm; 2 shows things twice as large
  double flip_horizontal = 0, flip_vertical = 0;  ///< probabilities
  bool quarter_turns = false;                     ///< 0, 90, 180, 270 degrees alike (without a crop size: 0 and 180, unless the image is square)
  double rotate_degrees = 0;                      ///< uniform in +- this
  colour_jitter colours;

  /// No change at all: the whole image, for evaluation.
  static augment_options none() { return {}; }
  /// Pictures from above have no up: all eight symmetries, mild zoom and colour changes.
  static augment_options aerial(int crop) {
    augment_options o;
    o.crop_height = o.crop_width = crop;
    o.scale_min = 0.75, o.scale_max = 1.5;
    o.flip_horizontal = 0.5;
    o.quarter_turns = true;
    o.colours.brightness = o.colours.contrast = o.colours.saturation = 0.2;
    o.colours.gain = 0.1, o.colours.offset = 0.02;
    return o;
  }
  /// Pictures from the street or of the whole body keep their up: mirror and zoom only.
  static augment_options upright(int crop_h, int crop_w) {
    augment_options o;
    o.crop_height = crop_h, o.crop_width = crop_w;
    o.scale_min = 0.5, o.scale_max = 2;
    o.flip_horizontal = 0.5;
    o.colours.brightness = o.colours.contrast = o.colours.saturation = 0.3;
    return o;
  }

  /// Throws usage_error on values without meaning.
  void check() const {
    const auto want = [](bool ok, const std::string& what) {
      if (!ok) throw usage_error("augmentation: " + what);
    };
    want(crop_height >= 0 && crop_width >= 0 && (crop_height == 0) == (crop_width == 0), "crop height and width must both be 0 or both be above 0");
    want(scale_min > 0 && scale_max >= scale_min, "scale needs 0 < minimum <= maximum");
    want(flip_horizontal >= 0 && flip_horizontal <= 1 && flip_vertical >= 0 && flip_vertical <= 1, "flip probabilities must be in 0 .. 1");
    want(rotate_degrees >= 0 && rotate_degrees <= 180, "rotation must be in 0 .. 180 degrees");
    colours.check();
  }
};

/// A pixel of the source image that the crop should contain; x < 0: none.
struct focus_point {
  int x = -1, y = -1;
};

/// Result pixel centre (X + 0.5, Y + 0.5) -> source position (xx*X + xy*Y + x0, yx*X + yy*Y + y0), in pixels from the image's corner.
struct crop_placement {
  int height = 0, width = 0;
  double xx = 1, xy = 0, x0 = 0, yx = 0, yy = 1, y0 = 0;
  /// True if every result pixel is exactly one source pixel.
  bool exact() const {
    const auto whole = [](double v) { return v == std::floor(v); };
    return (std::abs(xx) == 1 || std::abs(xy) == 1) && std::abs(xx) + std::abs(xy) == 1 && std::abs(yx) + std::abs(yy) == 1 && whole(x0) && whole(y0);
  }
};

/// Draws where a crop of an image of in_h x in_w lies. An image smaller than the crop lies wholly inside it, at a random place.
inline crop_placement draw_placement(const augment_options& o, int in_h, int in_w, random_stream& random, focus_point focus = {}) {
  crop_placement p;
  p.height = o.crop_height ? o.crop_height : in_h, p.width = o.crop_width ? o.crop_width : in_w;
  const double scale = std::exp(random.uniform(std::log(o.scale_min), std::log(o.scale_max)));
  const bool mirror_x = random.uniform() < o.flip_horizontal, mirror_y = random.uniform() < o.flip_vertical;
  int turns = int(random.below(4));
  if (!o.quarter_turns) turns = 0;
  if (o.crop_height == 0 && in_h != in_w) turns &= 2;
  const double angle = random.uniform(-o.rotate_degrees, o.rotate_degrees) * (3.14159265358979323846 / 180);

  // The crop before turning, on the zoomed image.
  const int h = turns & 1 ? p.width : p.height, w = turns & 1 ? p.height : p.width;
  const int zoomed_h = std::max(1, int(std::lround(in_h * scale))), zoomed_w = std::max(1, int(std::lround(in_w * scale)));
  const auto place = [&](int extent, int crop, int in, int wanted) {
    int lo = std::min(0, extent - crop), hi = std::max(0, extent - crop);
    if (wanted >= 0 && extent > crop) {
      const int at = int((wanted + 0.5) * extent / in);  // every position that shows the point, as far as the image reaches
      lo = std::clamp(at - crop + 1, lo, hi), hi = std::clamp(at, lo, hi);
    }
    return lo + int(random.below(std::uint32_t(hi - lo + 1)));
  };
  const int left = place(zoomed_w, w, in_w, focus.x), top = place(zoomed_h, h, in_h, focus.y);

  // result -> centred -> turned back -> mirrored back -> zoomed image -> image
  constexpr int cos4[4] = {1, 0, -1, 0}, sin4[4] = {0, 1, 0, -1};
  double c = cos4[turns], s = sin4[turns];
  if (o.rotate_degrees > 0) c = std::cos(angle + turns * 1.57079632679489661923), s = std::sin(angle + turns * 1.57079632679489661923);
  const double mx = mirror_x ? -1 : 1, my = mirror_y ? -1 : 1;
  const double fx = double(in_w) / zoomed_w, fy = double(in_h) / zoomed_h;
  p.xx = fx * mx * c, p.xy = fx * mx * -s, p.yx = fy * my * s, p.yy = fy * my * c;
  const double cx = fx * (left + w * 0.5), cy = fy * (top + h * 0.5);
  p.x0 = cx - p.xx * p.width * 0.5 - p.xy * p.height * 0.5;
  p.y0 = cy - p.yx * p.width * 0.5 - p.yy * p.height * 0.5;
  return p;
}

namespace detail {

/// Image bilinear (edge pixels reach to the image's edge), mask nearest; outside: fill[] and ignore.
template <class T>
void resample(const std::vector<T>& image, const sample& s, const crop_placement& p, float scale, const float* fill, std::int32_t ignore, float* out,
              std::int32_t* target) {
  const int W = s.image.width, H = s.image.height;
  const std::size_t bands = std::size_t(s.image.bands);
  const bool exact = p.exact();
  for (int Y = 0; Y < p.height; ++Y)
    for (int X = 0; X < p.width; ++X, out += bands, ++target) {
      const double sx = p.xx * (X + 0.5) + p.xy * (Y + 0.5) + p.x0, sy = p.yx * (X + 0.5) + p.yy * (Y + 0.5) + p.y0;
      if (!(sx >= 0 && sx < W && sy >= 0 && sy < H)) {
        std::copy(fill, fill + bands, out);
        *target = ignore;
        continue;
      }
      const int nx = int(sx), ny = int(sy);
      *target = s.labels.at(ny, nx);
      if (exact) {
        const T* in = image.data() + (std::size_t(ny) * std::size_t(W) + std::size_t(nx)) * bands;
        for (std::size_t b = 0; b < bands; ++b) out[b] = float(in[b]) * scale;
        continue;
      }
      const double ux = std::clamp(sx - 0.5, 0.0, W - 1.0), uy = std::clamp(sy - 0.5, 0.0, H - 1.0);
      const int x0 = int(ux), y0 = int(uy), x1 = std::min(x0 + 1, W - 1), y1 = std::min(y0 + 1, H - 1);
      const float ax = float(ux - x0), ay = float(uy - y0);
      const T* r0 = image.data() + std::size_t(y0) * std::size_t(W) * bands;
      const T* r1 = image.data() + std::size_t(y1) * std::size_t(W) * bands;
      const std::size_t i0 = std::size_t(x0) * bands, i1 = std::size_t(x1) * bands;
      for (std::size_t b = 0; b < bands; ++b) {
        const float upper = float(r0[i0 + b]) + ax * (float(r0[i1 + b]) - float(r0[i0 + b]));
        const float lower = float(r1[i0 + b]) + ax * (float(r1[i1 + b]) - float(r1[i0 + b]));
        out[b] = (upper + ay * (lower - upper)) * scale;
      }
    }
}

}  // namespace detail

/// Draws one crop of s. out: (height, width, bands) normalised floats, target: (height, width) ids, both of the placement's size
/// (the crop size, or the image's where that is 0). Outside the image: the mean (0 after normalisation) and ignore_id.
/// Samples that are not finite (no-data in float rasters) become the mean and are ignored, too.
inline void augment_into(const sample& s, const augment_options& options, const normalization& norm, int ignore_id, random_stream& random, float* out,
                         std::int32_t* target, focus_point focus = {}) {
  const crop_placement p = draw_placement(options, s.image.height, s.image.width, random, focus);
  const std::size_t bands = std::size_t(s.image.bands), n = std::size_t(p.height) * std::size_t(p.width);
  std::vector<float> fill(bands);
  for (std::size_t b = 0; b < bands; ++b) fill[b] = norm.mean_of(int(b));
  std::visit([&](const auto& v) { detail::resample(v, s, p, s.image.unit_scale(), fill.data(), ignore_id, out, target); }, s.image.values);
  if (s.image.values.index() == 2)
    for (std::size_t i = 0; i < n; ++i)
      for (std::size_t b = 0; b < bands; ++b)
        if (!std::isfinite(out[i * bands + b])) out[i * bands + b] = fill[b], target[i] = ignore_id;
  apply_colours(options.colours, p.height, p.width, int(bands), s.image.values.index() != 2, random, out);
  std::vector<float> inverse(bands);
  for (std::size_t b = 0; b < bands; ++b) inverse[b] = 1.0f / norm.std_of(int(b));
  // What lies outside the image is the mean again, whatever the colours did to it.
  for (int y = 0; y < p.height; ++y)
    for (int x = 0; x < p.width; ++x, out += bands) {
      const double sx = p.xx * (x + 0.5) + p.xy * (y + 0.5) + p.x0, sy = p.yx * (x + 0.5) + p.yy * (y + 0.5) + p.y0;
      const bool inside = sx >= 0 && sx < s.image.width && sy >= 0 && sy < s.image.height;
      for (std::size_t b = 0; b < bands; ++b) out[b] = inside ? (out[b] - fill[b]) * inverse[b] : 0.0f;
    }
}

}  // namespace rsseg::data
