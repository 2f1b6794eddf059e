// SPDX-License-Identifier: MIT
// What a graph of layers needs besides the big operators: copies between strided views (transpose, rotate, flip, broadcast, slices of a batch,
// diagonals), sums and products with broadcasting, reductions over any axes, maxima of several maps, normalisation of each pixel's vector to unit
// length. All bound by memory: floor = bytes moved / 3.0 TB/s on an H100.
#pragma once
#include "reduce.cuh"
#include "rsseg/core/shape.hpp"

namespace rsseg::cuda {

/// Element (n, h, w, c) of a box lies at offset + n * step[0] + h * step[1] + w * step[2] + c * step[3]. Steps may be negative (flips) or 0
/// (broadcast).
struct strided_view {
  std::int64_t offset = 0;
  std::int64_t step[4] = {0, 0, 0, 0};
};

inline namespace RSSEG_BACKEND_NS {

/// The view of a packed NHWC array of this shape; axes of extent 1 repeat.
inline strided_view view_of(const shape& s) {
  strided_view v;
  v.step[3] = s.c == 1 ? 0 : 1, v.step[2] = s.w == 1 ? 0 : s.c, v.step[1] = s.h == 1 ? 0 : std::int64_t(s.w) * s.c;
  v.step[0] = s.n == 1 ? 0 : std::int64_t(s.h) * s.w * s.c;
  return v;
}
struct box_index {
  std::int64_t size;
  int h, w, c;
  explicit box_index(const shape& s) : size(s.size()), h(s.h), w(s.w), c(s.c) {}
  RSSEG_HD std::int64_t at(const strided_view& v, std::int64_t i) const {
    return v.offset + i % c * v.step[3] + i / c % w * v.step[2] + i / c / w % h * v.step[1] + i / c / w / h * v.step[0];
  }
};

template <class T>
__global__ void strided_copy_kernel(box_index box, strided_view from, strided_view to, const T* x, T* y, bool accumulate) {
  for (std::int64_t i = grid_start(); i < box.size; i += grid_stride()) {
    T* out = y + box.at(to, i);
    const T v = x[box.at(from, i)];
    *out = accumulate ? from_float<T>(to_float(*out) + to_float(v)) : v;
  }
}
/// y[to] = x[from] (or +=) for every element of the box. No two elements may have the same target.
template <class T>
inline void strided_copy(stream_t s, const shape& box, const strided_view& from, const strided_view& to, const T* x, T* y, bool accumulate = false) {
  kernel_launch({"strided_copy", grid_for(box.size(), 256), 256, 0, s}, strided_copy_kernel<T>, box_index(box), from, to, x, y, accumulate);
}

enum class binary : int { sum, product, maximum };
template <class T>
__global__ void broadcast_kernel(binary kind, box_index box, strided_view va, strided_view vb, const T* a, const T* b, T* y) {
  for (std::int64_t i = grid_start(); i < box.size; i += grid_stride()) {
    const float p = to_float(a[box.at(va, i)]), q = to_float(b[box.at(vb, i)]);
    y[i] = from_float<T>(kind == binary::sum ? p + q : kind == binary::product ? p * q : fmaxf(p, q));
  }
}
/// y (packed, of the larger extents) = a o b, each axis equal or 1.
template <class T>
inline void broadcast(stream_t s, binary kind, const shape& sa, const shape& sb, const T* a, const T* b, T* y) {
  const shape out{imax(sa.n, sb.n), imax(sa.c, sb.c), imax(sa.h, sb.h), imax(sa.w, sb.w)};
  kernel_launch({"broadcast", grid_for(out.size(), 256), 256, 0, s}, broadcast_kernel<T>, kind, box_index(out), view_of(sa), view_of(sb), a, b, y);
}

/// One block per result; its threads share the elements in a fixed pattern.
template <class T, class Out>
__global__ void reduce_axes_kernel(box_index kept, box_index gone, strided_view kept_view, strided_view gone_view, const T* x, Out* y, float scale) {
  RSSEG_DYN_SHARED(float, scratch);
  for (std::int64_t o = blockIdx.x; o < kept.size; o += gridDim.x) {
    const T* first = x + kept.at(kept_view, o);
    float sum = 0;
    for (std::int64_t i = threadIdx.x; i < gone.size; i += blockDim.x) sum += to_float(first[gone.at(gone_view, i)]);
    sum = block_sum(sum, scratch);
    if (threadIdx.x == 0) y[o] = from_float<Out>(sum * scale);
  }
}
/// y = scale * sum of x over the axes where `out` has extent 1. (Sums that keep the channels only: sum_pixels is faster.)
template <class T, class Out = T>
inline void reduce_axes(stream_t s, const shape& in, const shape& out, const T* x, Out* y, float scale = 1) {
  const strided_view all = view_of(in);
  strided_view kept = all, gone = all;
  const int extents[4] = {out.n, out.h, out.w, out.c};
  for (int k = 0; k < 4; ++k) (extents[k] == 1 ? kept : gone).step[k] = 0;
  const shape rest{out.n == 1 ? in.n : 1, out.c == 1 ? in.c : 1, out.h == 1 ? in.h : 1, out.w == 1 ? in.w : 1};
  const unsigned threads = rest.size() >= 128 ? 128 : 32;
  kernel_launch({"reduce_axes", unsigned(out.size() < 65535 ? out.size() : 65535), threads, 128, s}, reduce_axes_kernel<T, Out>, box_index(out),
                box_index(rest), kept, gone, x, y, scale);
}

/// y = x / max(|x|, epsilon) over each pixel's channels; one warp per pixel. dy null: forward. Else out = the gradient to x.
template <class T>
__global__ void unit_length_kernel(const T* x, const T* dy, T* out, std::int64_t pixels, int channels, float epsilon) {
  const int lane = int(threadIdx.x) & 31;
  for (std::int64_t p = std::int64_t(blockIdx.x) * (blockDim.x / 32) + threadIdx.x / 32; p < pixels;
       p += std::int64_t(gridDim.x) * (blockDim.x / 32)) {
    float square = 0, dot = 0;
    for (int c = lane; c < channels; c += 32) {
      const float v = to_float(x[p * channels + c]);
      square += v * v;
      if (dy) dot += v * to_float(dy[p * channels + c]);
    }
    square = warp_sum(square), dot = warp_sum(dot);
    const float length = sqrtf(square), inverse = 1.0f / fmaxf(length, epsilon);
    const float along = length > epsilon ? dot * inverse * inverse * inverse : 0.0f;
    for (int c = lane; c < channels; c += 32) {
      const float v = to_float(x[p * channels + c]);
      out[p * channels + c] = from_float<T>(dy ? to_float(dy[p * channels + c]) * inverse - v * along : v * inverse);
    }
  }
}
template <class T>
inline void unit_length(stream_t s, const T* x, const T* dy, T* out, std::int64_t pixels, int channels, float epsilon) {
  kernel_launch({"unit_length", grid_for(pixels, 4), 128, 0, s}, unit_length_kernel<T>, x, dy, out, pixels, channels, epsilon);
}

/// Gradient of the maximum of several maps to number `which`: dy where it is the first of the largest.
template <class T>
struct map_list {
  static constexpr int most = 8;
  const T* x[most];
  int count;
};
template <class T>
__global__ void maximum_gradient_kernel(map_list<T> maps, int which, const T* dy, T* dx, std::int64_t size) {
  for (std::int64_t i = grid_start(); i < size; i += grid_stride()) {
    int best = 0;
    float top = to_float(maps.x[0][i]);
    RSSEG_UNROLL
    for (int k = 1; k < map_list<T>::most; ++k)  // unrolled, so that the list stays in constant memory
      if (k < maps.count && to_float(maps.x[k][i]) > top) best = k, top = to_float(maps.x[k][i]);
    dx[i] = best == which ? dy[i] : from_float<T>(0.0f);
  }
}
template <class T>
inline void maximum_gradient(stream_t s, const map_list<T>& maps, int which, const T* dy, T* dx, std::int64_t size) {
  kernel_launch({"maximum_gradient", grid_for(size, 256), 256, 0, s}, maximum_gradient_kernel<T>, maps, which, dy, dx, size);
}

}  // namespace RSSEG_BACKEND_NS
}  // namespace rsseg::cuda
