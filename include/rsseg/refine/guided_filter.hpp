// SPDX-License-Identifier: MIT
// Guided image filter: He, Sun, Tang, ECCV 2010 / TPAMI 2013; fast form: He, Sun 2015 in the variant of Deep Guided Filter (Wu et al.,
// CVPR 2018). Locally q = a . I + b with (a, b) fitted to p by ridge regression in each window. O(pixels) for any radius.
// guide (h, w, bands): 1 = gray, 3 = colour, any number of bands works; p and q (h, w, channels): usually class probabilities.
// Moments are taken in double around a local constant, so that eps = 1e-8 works for float images, too.
#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "rsseg/core/chunks.hpp"
#include "rsseg/core/error.hpp"
#include "rsseg/refine/box_filter.hpp"

namespace rsseg::refine {

struct guided_filter_options {
  int radius = 8;     ///< windows are (2 radius + 1)^2, clipped at the border and divided by their true pixel count
  double eps = 1e-2;  ///< ridge, in squared units of the guide (scaled to [0, 1] by convention)
};

namespace detail {

constexpr int max_guide_bands = 16;

inline void check_guided(int h, int w, int bands, int channels, const guided_filter_options& o) {
  if (h < 1 || w < 1 || channels < 1) throw usage_error("guided filter: expected a non-empty image");
  if (bands < 1 || bands > max_guide_bands)
    throw usage_error("guided filter: expected 1 to " + std::to_string(max_guide_bands) + " guide bands, got " + std::to_string(bands));
  if (o.radius < 0 || !(o.eps > 0)) throw usage_error("guided filter: expected radius >= 0 and eps > 0");
}

/// The guide's side of the regression on one rectangle: centred guide planes, window means and Cholesky factors of Sigma + eps Id.
struct guide_model {
  int h, w, g, r;
  std::vector<double> guide, mean, factor, scratch;  // planes: g, g, g (g + 1) / 2 (rows of the lower factor, reciprocal diagonal)
  std::vector<double> centre;

  template <class T>
  guide_model(const T* image, std::size_t row_stride, int height, int width, int bands, const guided_filter_options& o)
      : h(height), w(width), g(bands), r(o.radius), scratch(std::size_t(height) * width), centre(std::size_t(bands), 0.0) {
    const std::size_t plane = std::size_t(h) * w;
    guide.resize(plane * g), mean.resize(plane * g), factor.resize(plane * g * (g + 1) / 2);
    for (int c = 0; c < g; ++c) {
      double sum = 0;
      for (int y = 0; y < h; ++y)
        for (int x = 0; x < w; ++x) sum += image[y * row_stride + std::size_t(x) * g + c];
      centre[std::size_t(c)] = sum / double(plane);
      for (int y = 0; y < h; ++y)
        for (int x = 0; x < w; ++x)
          guide[c * plane + std::size_t(y) * w + x] = image[y * row_stride + std::size_t(x) * g + c] - centre[std::size_t(c)];
      std::copy_n(guide.data() + c * plane, plane, mean.data() + c * plane);
      box_mean(mean.data() + c * plane, h, w, r, scratch.data());
    }
    for (int i = 0, at = 0; i < g; ++i)
      for (int j = 0; j <= i; ++j, ++at) {
        double* f = factor.data() + at * plane;
        for (std::size_t k = 0; k < plane; ++k) f[k] = guide[i * plane + k] * guide[j * plane + k];
        box_mean(f, h, w, r, scratch.data());
        for (std::size_t k = 0; k < plane; ++k) f[k] = f[k] - mean[i * plane + k] * mean[j * plane + k] + (i == j ? o.eps : 0.0);
      }
    for (std::size_t k = 0; k < plane; ++k) {
      double l[max_guide_bands][max_guide_bands];
      for (int i = 0, at = 0; i < g; ++i)
        for (int j = 0; j <= i; ++j, ++at) {
          double v = factor[at * plane + k];
          for (int m = 0; m < j; ++m) v -= l[i][m] * l[j][m];
          // On the diagonal v >= eps but for rounding; l keeps 1 / sqrt there.
          factor[at * plane + k] = l[i][j] = i == j ? 1 / std::sqrt(std::max(v, o.eps * 1e-3)) : v * l[j][j];
        }
    }
  }

  /// x = (Sigma + eps Id)^-1 x at pixel k.
  void solve(std::size_t k, double* x) const {
    const std::size_t plane = std::size_t(h) * w;
    const auto l = [&](int i, int j) { return factor[std::size_t(i * (i + 1) / 2 + j) * plane + k]; };
    for (int i = 0; i < g; ++i) {
      for (int j = 0; j < i; ++j) x[i] -= l(i, j) * x[j];
      x[i] *= l(i, i);
    }
    for (int i = g - 1; i >= 0; --i) {
      for (int j = i + 1; j < g; ++j) x[i] -= l(j, i) * x[j];
      x[i] *= l(i, i);
    }
  }

  /// For one input plane p: a (g planes) and b before the second box mean. b belongs to the centred guide. mean_p is filled, too.
  void fit(const double* p, double* a, double* b, double* mean_p) {
    const std::size_t plane = std::size_t(h) * w;
    std::copy_n(p, plane, mean_p);
    box_mean(mean_p, h, w, r, scratch.data());
    for (int c = 0; c < g; ++c) {
      double* ac = a + c * plane;
      for (std::size_t k = 0; k < plane; ++k) ac[k] = guide[c * plane + k] * p[k];
      box_mean(ac, h, w, r, scratch.data());
      for (std::size_t k = 0; k < plane; ++k) ac[k] -= mean[c * plane + k] * mean_p[k];
    }
    for (std::size_t k = 0; k < plane; ++k) {
      double x[max_guide_bands], value = mean_p[k];
      for (int c = 0; c < g; ++c) x[c] = a[c * plane + k];
      solve(k, x);
      for (int c = 0; c < g; ++c) a[c * plane + k] = x[c], value -= x[c] * mean[c * plane + k];
      b[k] = value;
    }
  }
};

}  // namespace detail

/// q = guided filter of p; q may not be p. Rectangles of at least 384 pixels a side are filtered independently (parallel, exact: each reads
/// a rim of 2 radius), so memory beside the arguments stays below about 40 MB per thread for small radii. Throws usage_error.
template <class T>
inline void guided_filter(const T* guide, int bands, const T* p, int channels, int h, int w, const guided_filter_options& o, T* q) {
  detail::check_guided(h, w, bands, channels, o);
  const int r = std::min(o.radius, std::max(h, w)), tile = std::max(384, 8 * r);
  const int across = (w + tile - 1) / tile, down = (h + tile - 1) / tile;
  parallel_for(std::int64_t(across) * down, [&](std::int64_t t) {
    const int y0 = int(t / across) * tile, x0 = int(t % across) * tile, y1 = std::min(h, y0 + tile), x1 = std::min(w, x0 + tile);
    const int top = std::max(0, y0 - 2 * r), left = std::max(0, x0 - 2 * r), th = std::min(h, y1 + 2 * r) - top, tw = std::min(w, x1 + 2 * r) - left;
    const std::size_t plane = std::size_t(th) * tw, first = std::size_t(top) * w + left;
    detail::guide_model model(guide + first * bands, std::size_t(w) * bands, th, tw, bands, {r, o.eps});
    std::vector<double> in(plane), a(plane * bands), b(plane), mean_p(plane);
    for (int k = 0; k < channels; ++k) {
      for (int y = 0; y < th; ++y)
        for (int x = 0; x < tw; ++x) in[std::size_t(y) * tw + x] = p[(first + std::size_t(y) * w + x) * channels + k];
      model.fit(in.data(), a.data(), b.data(), mean_p.data());
      for (int c = 0; c < bands; ++c) box_mean(a.data() + c * plane, th, tw, r, model.scratch.data());
      box_mean(b.data(), th, tw, r, model.scratch.data());
      for (int y = y0; y < y1; ++y)
        for (int x = x0; x < x1; ++x) {
          const std::size_t at = std::size_t(y - top) * tw + (x - left);
          double value = b[at];
          for (int c = 0; c < bands; ++c) value += a[c * plane + at] * model.guide[c * plane + at];
          q[(std::size_t(y) * w + x) * channels + k] = T(value);
        }
    }
  });
}

/// Given dq, writes d_guide (h, w, bands) and dp (h, w, channels); either may be null. Whole image at once, in double:
/// about 8 * (4 bands + bands^2 / 2 + 6) bytes per pixel.
template <class T>
inline void guided_filter_backward(const T* guide, int bands, const T* p, int channels, int h, int w, const guided_filter_options& o, const T* dq,
                                   T* d_guide, T* dp) {
  detail::check_guided(h, w, bands, channels, o);
  const int r = std::min(o.radius, std::max(h, w));
  const std::size_t plane = std::size_t(h) * w;
  detail::guide_model model(guide, std::size_t(w) * bands, h, w, bands, {r, o.eps});
  double* scratch = model.scratch.data();
  std::vector<double> in(plane), a(plane * bands), b(plane), mean_p(plane), up(plane), db(plane), da(plane * bands), dmean_p(plane);
  std::vector<double> dguide(plane * bands, 0.0), dmean(plane * bands, 0.0), dsigma(plane * bands * (bands + 1) / 2, 0.0), blurred(plane);
  for (int k = 0; k < channels; ++k) {
    for (std::size_t i = 0; i < plane; ++i) in[i] = p[i * channels + k], up[i] = dq[i * channels + k];
    model.fit(in.data(), a.data(), b.data(), mean_p.data());
    // q = mean(a) . I + mean(b)
    for (int c = 0; c < bands; ++c) {
      const double* image = model.guide.data() + c * plane;
      std::copy_n(a.data() + c * plane, plane, blurred.data());
      box_mean(blurred.data(), h, w, r, scratch);
      double* dac = da.data() + c * plane;
      for (std::size_t i = 0; i < plane; ++i) dguide[c * plane + i] += up[i] * blurred[i], dac[i] = up[i] * image[i];
      box_mean_transpose(dac, h, w, r, scratch);
    }
    db = up;
    box_mean_transpose(db.data(), h, w, r, scratch);
    // b = mean(p) - a . mean(I); a = S^-1 cov, so dcov = S^-1 da and dS = -dcov a^T (symmetrised)
    for (std::size_t i = 0; i < plane; ++i) {
      double x[detail::max_guide_bands];
      for (int c = 0; c < bands; ++c) {
        x[c] = da[c * plane + i] - db[i] * model.mean[c * plane + i];
        dmean[c * plane + i] -= db[i] * a[c * plane + i];
      }
      model.solve(i, x);
      dmean_p[i] = db[i];
      for (int c = 0, at = 0; c < bands; ++c) {
        da[c * plane + i] = x[c];  // now d cov, which is also the gradient of mean(I p)
        dmean_p[i] -= x[c] * model.mean[c * plane + i];
        dmean[c * plane + i] -= x[c] * mean_p[i];
        for (int e = 0; e <= c; ++e, ++at)
          dsigma[at * plane + i] -= c == e ? x[c] * a[c * plane + i] : x[c] * a[e * plane + i] + x[e] * a[c * plane + i];
      }
    }
    box_mean_transpose(dmean_p.data(), h, w, r, scratch);
    for (int c = 0; c < bands; ++c) {
      double* dcov = da.data() + c * plane;
      box_mean_transpose(dcov, h, w, r, scratch);
      for (std::size_t i = 0; i < plane; ++i) {
        dguide[c * plane + i] += dcov[i] * in[i];
        dmean_p[i] += dcov[i] * model.guide[c * plane + i];
      }
    }
    if (dp)
      for (std::size_t i = 0; i < plane; ++i) dp[i * channels + k] = T(dmean_p[i]);
  }
  if (!d_guide) return;
  // Sigma_ce = mean(I_c I_e) - mean(I_c) mean(I_e)
  for (int c = 0, at = 0; c < bands; ++c)
    for (int e = 0; e <= c; ++e, ++at) {
      double* ds = dsigma.data() + at * plane;
      for (std::size_t i = 0; i < plane; ++i) {
        dmean[c * plane + i] -= ds[i] * model.mean[e * plane + i];
        dmean[e * plane + i] -= ds[i] * model.mean[c * plane + i];
      }
      box_mean_transpose(ds, h, w, r, scratch);
      for (std::size_t i = 0; i < plane; ++i) {
        dguide[c * plane + i] += ds[i] * model.guide[e * plane + i];
        dguide[e * plane + i] += ds[i] * model.guide[c * plane + i];
      }
    }
  for (int c = 0; c < bands; ++c) {
    box_mean_transpose(dmean.data() + c * plane, h, w, r, scratch);
    for (std::size_t i = 0; i < plane; ++i) d_guide[i * bands + c] = T(dguide[c * plane + i] + dmean[c * plane + i]);
  }
}

/// Fast form: (a, b) fitted on a small pair, low guide (lh, lw, bands) and low p (lh, lw, channels), resized bilinearly (corners aligned)
/// to the full guide (h, w, bands) without a second box mean; q (h, w, channels). Throws usage_error.
template <class T>
inline void fast_guided_filter(const T* low_guide, const T* low_p, int lh, int lw, const T* guide, int h, int w, int bands, int channels,
                               const guided_filter_options& o, T* q) {
  detail::check_guided(lh, lw, bands, channels, o);
  detail::check_guided(h, w, bands, channels, o);
  const int r = std::min(o.radius, std::max(lh, lw));
  const std::size_t plane = std::size_t(lh) * lw;
  detail::guide_model model(low_guide, std::size_t(lw) * bands, lh, lw, bands, {r, o.eps});
  std::vector<double> in(plane), ab(plane * (bands + 1)), mean_p(plane);
  for (int k = 0; k < channels; ++k) {
    for (std::size_t i = 0; i < plane; ++i) in[i] = low_p[i * channels + k];
    model.fit(in.data(), ab.data(), ab.data() + bands * plane, mean_p.data());
    for_chunks(h, 16, [&](std::int64_t begin, std::int64_t end, std::int64_t) {
      for (int y = int(begin); y < int(end); ++y) {
        const double sy = h > 1 ? double(y) * (lh - 1) / (h - 1) : 0;
        const int ya = int(sy), yb = std::min(ya + 1, lh - 1);
        for (int x = 0; x < w; ++x) {
          const double sx = w > 1 ? double(x) * (lw - 1) / (w - 1) : 0;
          const int xa = int(sx), xb = std::min(xa + 1, lw - 1);
          const auto at = [&](int c) {
            const double* f = ab.data() + c * plane;
            const double upper = f[ya * lw + xa] + (sx - xa) * (f[ya * lw + xb] - f[ya * lw + xa]);
            const double lower = f[yb * lw + xa] + (sx - xa) * (f[yb * lw + xb] - f[yb * lw + xa]);
            return upper + (sy - ya) * (lower - upper);
          };
          const std::size_t pixel = std::size_t(y) * w + x;
          double value = at(bands);
          for (int c = 0; c < bands; ++c) value += at(c) * (double(guide[pixel * bands + c]) - model.centre[std::size_t(c)]);
          q[pixel * channels + k] = T(value);
        }
      }
    });
  }
}

}  // namespace rsseg::refine
