// SPDX-License-Identifier: MIT
// Reading feature maps at points and in boxes: the gather side of PointRend (Kirillov et al., CVPR 2020) and MagNet (Huynh et al.,
// CVPR 2021). Maps are NHWC; points are (x, y) in [0, 1]^2 of the whole map, pixel position p * extent - 0.5, zeros outside.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <string>
#include <vector>

#include "rsseg/core/chunks.hpp"
#include "rsseg/core/error.hpp"
#include "rsseg/core/shape.hpp"

namespace rsseg::cpu {

namespace detail {

/// The four taps of a bilinear read: flat pixel index (-1 outside) and weight.
struct bilinear_taps {
  std::int64_t at[4];
  double weight[4], fx, fy;

  bilinear_taps(double px, double py, int h, int w) {
    // Far outside (or not a number) nothing is read; the bound also keeps the conversion to int defined.
    if (!(px > -2 && px < w + 1.0 && py > -2 && py < h + 1.0)) {
      for (int i = 0; i < 4; ++i) at[i] = -1, weight[i] = 0;
      fx = fy = 0;
      return;
    }
    const double left = std::floor(px), top = std::floor(py);
    fx = px - left, fy = py - top;
    for (int i = 0; i < 4; ++i) {
      const int x = int(left) + (i & 1), y = int(top) + (i >> 1);
      at[i] = x >= 0 && x < w && y >= 0 && y < h ? std::int64_t(y) * w + x : -1;
      weight[i] = ((i & 1) ? fx : 1 - fx) * ((i >> 1) ? fy : 1 - fy);
    }
  }
};

}  // namespace detail

/// out (N, points, C) = bilinear reads of x at points (N, points, 2), align_corners = false, zeros outside.
template <class T>
inline void sample_bilinear(const T* x, shape s, const T* points, int count, T* out) {
  for_chunks(std::int64_t(s.n) * count, 256, [&](std::int64_t begin, std::int64_t end, std::int64_t) {
    for (std::int64_t i = begin; i < end; ++i) {
      const T* map = x + i / count * (std::int64_t(s.h) * s.w * s.c);
      const detail::bilinear_taps taps(double(points[2 * i]) * s.w - 0.5, double(points[2 * i + 1]) * s.h - 0.5, s.h, s.w);
      for (int c = 0; c < s.c; ++c) {
        double sum = 0;
        for (int k = 0; k < 4; ++k)
          if (taps.at[k] >= 0) sum += taps.weight[k] * map[taps.at[k] * s.c + c];
        out[i * s.c + c] = T(sum);
      }
    }
  });
}

/// For upstream g (N, points, C): adds to dx (same shape as x) and writes dpoints (N, points, 2); either may be null.
template <class T>
inline void sample_bilinear_backward(const T* x, shape s, const T* points, int count, const T* g, T* dx, T* dpoints) {
  // Points of one image may share pixels: one image is one task, points in order.
  parallel_for(s.n, [&](std::int64_t n) {
    const std::int64_t offset = n * s.h * s.w * s.c;
    for (std::int64_t i = n * count; i < (n + 1) * count; ++i) {
      const detail::bilinear_taps taps(double(points[2 * i]) * s.w - 0.5, double(points[2 * i + 1]) * s.h - 0.5, s.h, s.w);
      double along_x = 0, along_y = 0;
      for (int k = 0; k < 4; ++k) {
        if (taps.at[k] < 0) continue;
        double dot = 0;
        for (int c = 0; c < s.c; ++c) {
          const std::int64_t at = offset + taps.at[k] * s.c + c;
          dot += double(g[i * s.c + c]) * x[at];
          if (dx) dx[at] = T(dx[at] + taps.weight[k] * g[i * s.c + c]);
        }
        along_x += dot * ((k & 1) ? 1 : -1) * ((k >> 1) ? taps.fy : 1 - taps.fy);
        along_y += dot * ((k >> 1) ? 1 : -1) * ((k & 1) ? taps.fx : 1 - taps.fx);
      }
      if (dpoints) dpoints[2 * i] = T(along_x * s.w), dpoints[2 * i + 1] = T(along_y * s.h);
    }
  });
}

/// out (N, points, C) = the pixel nearest to each point, position p * extent - 0.5 rounded half to even, zero outside. T: any scalar, so
/// that label maps can be read (C = 1).
template <class T, class Point>
inline void sample_nearest(const T* x, shape s, const Point* points, int count, T* out, T outside = T(0)) {
  const auto pick = [](double position, int extent) {  // -1: outside
    // Half to even without depending on the rounding mode.
    if (!(position > -2 && position < extent + 1.0)) return -1;
    const double base = std::floor(position), rest = position - base;
    const int up = int(base) + (rest > 0.5 || (rest == 0.5 && (int(base) & 1)) ? 1 : 0);
    return up >= 0 && up < extent ? up : -1;
  };
  for (std::int64_t i = 0; i < std::int64_t(s.n) * count; ++i) {
    const int px = pick(double(points[2 * i]) * s.w - 0.5, s.w), py = pick(double(points[2 * i + 1]) * s.h - 0.5, s.h);
    for (int c = 0; c < s.c; ++c) out[i * s.c + c] = px < 0 || py < 0 ? outside : x[((i / count * s.h + py) * s.w + px) * s.c + c];
  }
}

/// u (pixels) = second largest minus largest logit, <= 0; larger is less certain. With one channel: minus its absolute value.
template <class T>
inline void uncertainty(const T* logits, std::int64_t pixels, int channels, T* u) {
  for_chunks(pixels, 8192, [&](std::int64_t begin, std::int64_t end, std::int64_t) {
    for (std::int64_t i = begin; i < end; ++i) {
      const T* z = logits + i * channels;
      if (channels == 1) {
        u[i] = -std::abs(z[0]);
        continue;
      }
      T first = std::max(z[0], z[1]), second = std::min(z[0], z[1]);
      for (int k = 2; k < channels; ++k) {
        second = std::max(second, std::min(first, z[k]));
        first = std::max(first, z[k]);
      }
      u[i] = second - first;
    }
  });
}

/// Indices of the min(k, count) largest values, ascending; among equal values at the cut the lowest indices win.
template <class T>
inline std::vector<std::int32_t> largest_indices(const T* value, std::int64_t count, std::int64_t k) {
  std::vector<std::int32_t> index(static_cast<std::size_t>(count));
  std::iota(index.begin(), index.end(), 0);
  k = std::clamp<std::int64_t>(k, 0, count);
  if (k < count)
    std::nth_element(index.begin(), index.begin() + k, index.end(),
                     [&](std::int32_t a, std::int32_t b) { return value[a] != value[b] ? value[a] > value[b] : a < b; });
  index.resize(std::size_t(k));
  std::sort(index.begin(), index.end());
  return index;
}

/// Cell centres of flat indices on an h x w grid, as (x, y) in [0, 1]^2, rounded to single precision for every T: which pixels
/// are refined must not depend on the precision of the network.
template <class T>
inline void grid_points(const std::int32_t* index, std::int64_t count, int h, int w, T* points) {
  for (std::int64_t i = 0; i < count; ++i) {
    // volatile: g++ 12 at -O2 drops the rounding of double(float(x)) when it vectorises this loop.
    const volatile float x = float((index[i] % w + 0.5) / w), y = float((index[i] / w + 0.5) / h);
    points[2 * i] = T(x);
    points[2 * i + 1] = T(y);
  }
}

/// RoI align (He et al., Mask R-CNN, ICCV 2017) as used for MagNet's crops.
struct roi_align_options {
  int out_h = 1, out_w = 1;
  double spatial_scale = 1;  ///< box coordinates times this are pixels of x
  int sampling_ratio = -1;   ///< samples per bin and axis; <= 0: ceil(box extent / bins)
  bool aligned = false;      ///< true: boxes shifted by half a pixel, no minimum extent of 1
};

namespace detail {

/// Calls visit(bin pixel index, sample weight, taps) for each sample of one box; samples beyond a one-pixel rim count but read nothing.
template <class T, class Visit>
inline void roi_samples(const T* box, shape s, const roi_align_options& o, const Visit& visit) {
  const double shift = o.aligned ? 0.5 : 0, left = box[0] * o.spatial_scale - shift, top = box[1] * o.spatial_scale - shift;
  double width = box[2] * o.spatial_scale - shift - left, height = box[3] * o.spatial_scale - shift - top;
  if (!o.aligned) width = std::max(width, 1.0), height = std::max(height, 1.0);
  const double bin_w = width / o.out_w, bin_h = height / o.out_h;
  const int nx = o.sampling_ratio > 0 ? o.sampling_ratio : int(std::ceil(bin_w)),
            ny = o.sampling_ratio > 0 ? o.sampling_ratio : int(std::ceil(bin_h));
  const double weight = 1.0 / std::max(1, nx * ny);
  for (int by = 0; by < o.out_h; ++by)
    for (int bx = 0; bx < o.out_w; ++bx)
      for (int iy = 0; iy < ny; ++iy)
        for (int ix = 0; ix < nx; ++ix) {
          double y = top + by * bin_h + (iy + 0.5) * bin_h / ny, x = left + bx * bin_w + (ix + 0.5) * bin_w / nx;
          if (!(y >= -1 && y <= s.h && x >= -1 && x <= s.w)) continue;
          // Within the rim the border pixel is repeated.
          y = std::clamp(y, 0.0, s.h - 1.0), x = std::clamp(x, 0.0, s.w - 1.0);
          visit(std::int64_t(by) * o.out_w + bx, weight, bilinear_taps(x, y, s.h, s.w));
        }
}

}  // namespace detail

/// out (boxes, out_h, out_w, C): each bin is the mean of its bilinear samples. boxes (count, 4) = x0, y0, x1, y1; image (count) is the batch
/// index of each box, null: all 0. Throws usage_error for a batch index out of range or boxes that are not finite.
template <class T>
inline void roi_align(const T* x, shape s, const T* boxes, const std::int32_t* image, int count, const roi_align_options& o, T* out) {
  const std::int64_t values = std::int64_t(o.out_h) * o.out_w * s.c;
  for (int b = 0; b < count; ++b) {
    if (image && (image[b] < 0 || image[b] >= s.n)) throw usage_error("roi_align: box " + std::to_string(b) + " names an image outside the batch");
    for (int k = 0; k < 4; ++k)
      if (!(std::abs(double(boxes[4 * b + k])) < 1e6)) throw usage_error("roi_align: box " + std::to_string(b) + " is not finite");
  }
  parallel_for(count, [&](std::int64_t b) {
    const T* map = x + (image ? std::int64_t(image[b]) : 0) * s.h * s.w * s.c;
    T* to = out + b * values;
    std::vector<double> sum(std::size_t(values), 0.0);
    detail::roi_samples(boxes + 4 * b, s, o, [&](std::int64_t bin, double weight, const detail::bilinear_taps& taps) {
      for (int k = 0; k < 4; ++k)
        if (taps.at[k] >= 0)
          for (int c = 0; c < s.c; ++c) sum[std::size_t(bin * s.c + c)] += weight * taps.weight[k] * map[taps.at[k] * s.c + c];
    });
    for (std::int64_t i = 0; i < values; ++i) to[i] = T(sum[std::size_t(i)]);
  });
}

/// Adds the gradient for upstream g (boxes, out_h, out_w, C) to dx, box by box in order.
template <class T>
inline void roi_align_backward(shape s, const T* boxes, const std::int32_t* image, int count, const roi_align_options& o, const T* g, T* dx) {
  const std::int64_t values = std::int64_t(o.out_h) * o.out_w * s.c;
  for (int b = 0; b < count; ++b) {
    T* map = dx + (image ? std::int64_t(image[b]) : 0) * s.h * s.w * s.c;
    detail::roi_samples(boxes + 4 * b, s, o, [&](std::int64_t bin, double weight, const detail::bilinear_taps& taps) {
      for (int k = 0; k < 4; ++k)
        if (taps.at[k] >= 0)
          for (int c = 0; c < s.c; ++c)
            map[taps.at[k] * s.c + c] = T(map[taps.at[k] * s.c + c] + weight * taps.weight[k] * g[b * values + bin * s.c + c]);
    });
  }
}

}  // namespace rsseg::cpu
