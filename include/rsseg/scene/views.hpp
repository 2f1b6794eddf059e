// SPDX-License-Identifier: MIT
// What systems of several networks look at: a region of a scene (or of a training crop) down-sampled, a part of it at full resolution, and
// the grid of patches over it. Down-sampling averages areas, up-sampling is bilinear; both are one set of weights per axis, and a scene is
// read in bands of rows, so that memory does not grow with it.
#pragma once
#include <algorithm>
#include <cstring>
#include <span>
#include <vector>

#include "rsseg/graph/ops/arrange.hpp"
#include "rsseg/scene/predictor.hpp"
#include "rsseg/scene/tile_grid.hpp"

namespace rsseg::scene {

/// For each of `out` positions along an axis of `in`: where its support begins, and weights that sum to one.
struct axis_weights {
  std::vector<int> first;
  std::vector<std::vector<float>> weights;
  axis_weights(int in, int out) {
    for (int o = 0; o < out; ++o) {
      if (out < in) {  // areas
        const double lo = double(o) * in / out, hi = double(o + 1) * in / out;
        const int a = int(lo), b = std::min(in, int(std::ceil(hi - 1e-9)));
        std::vector<float> w;
        for (int i = a; i < b; ++i) w.push_back(float((std::min(hi, i + 1.0) - std::max(lo, double(i))) / (hi - lo)));
        first.push_back(a), weights.push_back(std::move(w));
      } else {  // bilinear, half-pixel centres
        const double s = std::max(0.0, (o + 0.5) * in / out - 0.5);
        const int a = std::min(int(s), in - 1), b = std::min(a + 1, in - 1);
        const float t = float(s - a);
        first.push_back(a), weights.push_back(a == b ? std::vector<float>{1.0f} : std::vector<float>{1 - t, t});
      }
    }
  }
};

/// Resizes rows as they come: add() every input row in order, the result is then in `out` (h,w,c).
class row_resizer {
 public:
  row_resizer(int in_h, int in_w, int out_h, int out_w, int channels, float* out)
      : rows_(in_h, out_h), columns_(in_w, out_w), channels_(channels), out_(out), row_(std::size_t(out_w) * std::size_t(channels)) {
    std::fill(out, out + std::size_t(out_h) * row_.size(), 0.0f);
  }
  void add(int y, const float* in) {
    const std::size_t c = std::size_t(channels_);
    for (std::size_t o = 0; o < columns_.first.size(); ++o)
      for (std::size_t k = 0; k < c; ++k) {
        float sum = 0;
        const float* from = in + std::size_t(columns_.first[o]) * c + k;
        for (const float w : columns_.weights[o]) sum += w * *from, from += c;
        row_[o * c + k] = sum;
      }
    while (begin_ < rows_.first.size() && rows_.first[begin_] + int(rows_.weights[begin_].size()) <= y) ++begin_;
    for (std::size_t r = begin_; r < rows_.first.size() && rows_.first[r] <= y; ++r) {
      const std::size_t at = std::size_t(y - rows_.first[r]);
      if (at >= rows_.weights[r].size()) continue;
      const float w = rows_.weights[r][at];
      float* to = out_ + r * row_.size();
      for (std::size_t i = 0; i < row_.size(); ++i) to[i] += w * row_[i];
    }
  }

 private:
  axis_weights rows_, columns_;
  int channels_;
  float* out_;
  std::vector<float> row_;
  std::size_t begin_ = 0;
};

/// A region of the scene, which may reach outside (mirrored), normalised and resized to (1,bands,h,w). Holds 64 rows of it at most.
inline tensor<float> resized_view(io::raster_source& scene, const window& region, int h, int w, const data::normalization& norm) {
  const int bands = scene.info().bands;
  tensor<float> out(shape{1, bands, h, w});
  row_resizer resize(region.height, region.width, h, w, bands, out.data());
  std::vector<float> scratch;
  for (int y = 0; y < region.height; y += 64) {
    tensor<float> rows(shape{1, bands, std::min(64, region.height - y), region.width});
    detail::read_normalised(scene, region.x, region.y + y, norm, rows, 0, scratch);
    const std::size_t pitch = std::size_t(region.width) * std::size_t(bands);
    for (int r = 0; r < rows.extent().h; ++r) resize.add(y + r, rows.data() + std::size_t(r) * pitch);
  }
  return out;
}
/// The same for each image of a batch in memory.
inline tensor<float> resized(const tensor<float>& x, int h, int w) {
  const shape s = x.extent();
  tensor<float> out(shape{s.n, s.c, h, w});
  for (int n = 0; n < s.n; ++n) {
    row_resizer resize(s.h, s.w, h, w, s.c, out.data() + std::size_t(n) * std::size_t(h) * std::size_t(w) * std::size_t(s.c));
    for (int y = 0; y < s.h; ++y)
      resize.add(y, x.data() + (std::size_t(n) * std::size_t(s.h) + std::size_t(y)) * std::size_t(s.w) * std::size_t(s.c));
  }
  return out;
}

/// Rows [y, y+h), columns [x, x+w) of image n, which must hold them; into image `to` of out.
template <class T>
void copy_part(const tensor<T>& from, int n, int y, int x, tensor<T>& out, int to) {
  const shape s = from.extent(), o = out.extent();
  const std::size_t row = std::size_t(o.w) * std::size_t(o.c);
  for (int r = 0; r < o.h; ++r)
    std::memcpy(out.data() + (std::size_t(to) * std::size_t(o.h) + std::size_t(r)) * row,
                from.data() + ((std::size_t(n) * std::size_t(s.h) + std::size_t(y + r)) * std::size_t(s.w) + std::size_t(x)) * std::size_t(s.c),
                row * sizeof(T));
}
template <class T>
tensor<T> part_of(const tensor<T>& from, int n, int y, int x, int h, int w) {
  tensor<T> out(shape{1, from.extent().c, h, w});
  copy_part(from, n, y, x, out, 0);
  return out;
}

/// Where patches of `patch` pixels begin along an axis: as few as overlap by `overlap` at least, evenly spread, the last one flush with the
/// end; multiples of `grid` but for the last. One patch if the axis is not longer.
inline std::vector<int> even_starts(int length, int patch, int overlap, int grid = 1) {
  if (length <= patch) return {0};
  if (overlap >= patch)
    throw usage_error("an overlap of " + std::to_string(overlap) + " pixels leaves nothing of patches of " + std::to_string(patch));
  int n = 2;
  while ((std::int64_t(n) * patch - length) < std::int64_t(overlap) * (n - 1)) ++n;
  std::vector<int> out;
  for (int i = 0; i < n; ++i) out.push_back(int(std::int64_t(i) * (length - patch) / (n - 1)) / grid * grid);
  out.back() = length - patch;
  return out;
}
/// The same as windows of a scene, each kept up to the middle of its overlaps.
inline std::vector<span_1d> even_cut(int length, int patch, int overlap) {
  const std::vector<int> starts = even_starts(length, patch, overlap);
  std::vector<span_1d> out;
  for (std::size_t i = 0; i < starts.size(); ++i) {
    const int end = i + 1 < starts.size() ? (starts[i] + patch + starts[i + 1]) / 2 : length;
    out.push_back({starts[i], i ? out.back().keep_end : 0, end});
  }
  return out;
}

/// The part of a map of `extent` that belongs to [begin, begin + size) of an axis of `length`: both rounded half to even, as crop_window does.
struct map_span {
  int begin, count;
  map_span(int extent, int at, int size, int length)
      : begin(graph::ops::round_even(double(at) / length * extent)), count(std::max(1, graph::ops::round_even(double(extent) * size / length))) {
    begin = std::min(begin, extent - 1), count = std::min(count, extent - begin);
  }
};

}  // namespace rsseg::scene
