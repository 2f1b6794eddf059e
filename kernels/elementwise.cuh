// SPDX-License-Identifier: MIT
// Elementwise operators: activations, sums, products, scaling per channel, channel slices (concat, split, crop, pad) and dropout, forward and
// backward. All are bound by memory: the floor is (bytes read + bytes written) / 3.0 TB/s on an H100, e.g. 64 x 512 x 512 x 8 in fp32, ReLU: 358 us.
// Each thread moves packs of 16 bytes where the sizes allow. Values are computed in float whatever the storage type.
#pragma once
#include "common.cuh"
#include "rsseg/core/random.hpp"

namespace rsseg::cuda {
inline namespace RSSEG_BACKEND_NS {

constexpr int elementwise_threads = 256;

/// y[i] = f(i, x[i]...) over flat arrays of equal size. F: float operator()(float a, float b, float c); absent inputs are 0.
template <class F, class T, int V>
__global__ void map_kernel(F f, const T* a, const T* b, const T* c, T* y, std::int64_t packs) {
  for (std::int64_t i = grid_start(); i < packs; i += grid_stride()) {
    pack<T, V> pa{}, pb{}, pc{}, r;
    if (a) pa = load_pack<V>(a + i * V);
    if (b) pb = load_pack<V>(b + i * V);
    if (c) pc = load_pack<V>(c + i * V);
    RSSEG_UNROLL
    for (int k = 0; k < V; ++k) r.v[k] = from_float<T>(f(to_float(pa.v[k]), to_float(pb.v[k]), to_float(pc.v[k])));
    store_pack<V>(y + i * V, r);
  }
}
template <class T, class F>
inline void map(stream_t stream, const char* name, F f, const T* a, const T* b, const T* c, T* y, std::int64_t size) {
  constexpr int V = full_pack<T>;
  if (size == 0) return;
  const auto wide = [](const T* p) { return reinterpret_cast<std::uintptr_t>(p) % 16 == 0; };
  const std::int64_t whole = wide(a) && wide(b) && wide(c) && wide(y) ? size / V : 0, rest = size - whole * V;
  if (whole > 0)
    kernel_launch({name, grid_for(whole, elementwise_threads), elementwise_threads, 0, stream}, map_kernel<F, T, V>, f, a, b, c, y, whole);
  const auto at = [&](const T* p) { return p ? p + whole * V : p; };
  if (rest > 0)
    kernel_launch({name, grid_for(rest, elementwise_threads), elementwise_threads, 0, stream}, map_kernel<F, T, 1>, f, at(a), at(b), at(c),
                  y + whole * V, rest);
}

struct activation_forward_op {
  activation kind;
  float slope;
  __device__ float operator()(float x, float, float) const { return activate(kind, x, slope); }
};
struct activation_backward_op {  // a: output (or input), b: dy
  activation kind;
  float slope;
  __device__ float operator()(float v, float dy, float) const { return dy * activation_slope(kind, v, slope); }
};
struct sum_op {  // alpha a + beta b, activated
  float alpha, beta;
  activation kind;
  float slope;
  __device__ float operator()(float a, float b, float) const { return activate(kind, alpha * a + beta * b, slope); }
};
struct product_op {
  __device__ float operator()(float a, float b, float) const { return a * b; }
};
struct fill_op {
  float value;
  __device__ float operator()(float, float, float) const { return value; }
};

/// y = activate(x). slope: of leaky_relu, or the alpha of elu.
template <class T>
inline void activation_forward(stream_t s, activation kind, float slope, const T* x, T* y, std::int64_t size) {
  map<T>(s, "activation_forward", activation_forward_op{kind, slope}, x, nullptr, nullptr, y, size);
}
/// dx = dy * activate'(x). kept: the output y, or the input x where slope_needs_input(kind).
template <class T>
inline void activation_backward(stream_t s, activation kind, float slope, const T* kept, const T* dy, T* dx, std::int64_t size) {
  map<T>(s, "activation_backward", activation_backward_op{kind, slope}, kept, dy, nullptr, dx, size);
}
/// y = activate(alpha a + beta b). In place (y == a) is fine: gradient accumulation is add(1, dx, 1, g, dx).
template <class T>
inline void add(stream_t s, float alpha, const T* a, float beta, const T* b, T* y, std::int64_t size, activation kind = activation::none,
                float slope = 0) {
  map<T>(s, "add", sum_op{alpha, beta, kind, slope}, a, b, nullptr, y, size);
}
template <class T>
inline void multiply(stream_t s, const T* a, const T* b, T* y, std::int64_t size) {
  map<T>(s, "multiply", product_op{}, a, b, nullptr, y, size);
}
template <class T>
inline void fill(stream_t s, float value, T* y, std::int64_t size) {
  map<T>(s, "fill", fill_op{value}, nullptr, nullptr, nullptr, y, size);
}

/// Converts between storage types.
template <class A, class B>
__global__ void convert_kernel(const A* x, B* y, std::int64_t size) {
  for (std::int64_t i = grid_start(); i < size; i += grid_stride()) y[i] = from_float<B>(to_float(x[i]));
}
template <class A, class B>
inline void convert(stream_t s, const A* x, B* y, std::int64_t size) {
  if (size > 0) kernel_launch({"convert", grid_for(size, elementwise_threads), elementwise_threads, 0, s}, convert_kernel<A, B>, x, y, size);
}

// --- per channel: y = activate(x * scale[c] + shift[c]), with scale and shift per image too where `per_image` (squeeze and excitation, attention
// gates)
template <class T>
__global__ void scale_channels_kernel(const T* x, const float* scale, const float* shift, T* y, std::int64_t size, int channels, std::int64_t image,
                                      activation kind, float slope) {
  for (std::int64_t i = grid_start(); i < size; i += grid_stride()) {
    const std::int64_t c = i % channels + (image > 0 ? i / image * channels : 0);
    const float v = to_float(x[i]) * (scale ? scale[c] : 1.0f) + (shift ? shift[c] : 0.0f);
    y[i] = from_float<T>(activate(kind, v, slope));
  }
}
template <class T>
inline void scale_channels(stream_t s, const T* x, const float* scale, const float* shift, T* y, int images, std::int64_t pixels, int channels,
                           bool per_image, activation kind = activation::none, float slope = 0) {
  const std::int64_t size = images * pixels * channels;
  kernel_launch({"scale_channels", grid_for(size, elementwise_threads), elementwise_threads, 0, s}, scale_channels_kernel<T>, x, scale, shift, y,
                size, channels, per_image ? pixels * channels : 0, kind, slope);
}

/// PReLU with one slope per channel (or one in all: channels 1). Backward to x; the slope's gradient is a channel sum (reduce.cuh).
template <class T>
__global__ void prelu_kernel(const T* x, const float* slope, const T* dy, T* out, std::int64_t size, int channels) {
  for (std::int64_t i = grid_start(); i < size; i += grid_stride()) {
    const float v = to_float(x[i]), a = slope[i % channels];
    out[i] = from_float<T>(dy ? to_float(dy[i]) * (v > 0 ? 1.0f : a) : (v > 0 ? v : a * v));
  }
}
/// dy null: out = prelu(x). Else out = dy * prelu'(x).
template <class T>
inline void prelu(stream_t s, const T* x, const float* slope, const T* dy, T* out, std::int64_t size, int channels) {
  kernel_launch({"prelu", grid_for(size, elementwise_threads), elementwise_threads, 0, s}, prelu_kernel<T>, x, slope, dy, out, size, channels);
}

// --- windows: copies a box of pixels and channels between two NHWC arrays. Concat, split, crop, pad and their gradients are all this.
struct window_copy {
  int n = 1, h = 1, w = 1, c = 1;                ///< size of the box
  int from_h = 1, from_w = 1, from_c = 1;        ///< extent of the source ...
  int from_y = 0, from_x = 0, from_channel = 0;  ///< ... and where the box begins in it; what lies outside reads as 0
  int to_h = 1, to_w = 1, to_c = 1, to_y = 0, to_x = 0, to_channel = 0;
  bool accumulate = false;  ///< add to what is there
};
template <class T, int V>
__global__ void copy_window_kernel(window_copy p, divider by_c, divider by_w, divider by_h, const T* from, T* to, std::int64_t packs) {
  for (std::int64_t i = grid_start(); i < packs; i += grid_stride()) {
    int c, x, y;
    const int n = by_h.divide(by_w.divide(by_c.divide(int(i), c), x), y);
    c *= V;
    const int fy = y + p.from_y, fx = x + p.from_x;
    pack<T, V> v{};
    if (fy >= 0 && fy < p.from_h && fx >= 0 && fx < p.from_w)
      v = load_pack<V>(from + ((std::int64_t(n) * p.from_h + fy) * p.from_w + fx) * p.from_c + p.from_channel + c);
    T* out = to + ((std::int64_t(n) * p.to_h + y + p.to_y) * p.to_w + x + p.to_x) * p.to_c + p.to_channel + c;
    if (p.accumulate) {
      const pack<T, V> old = load_pack<V>(out);
      RSSEG_UNROLL
      for (int k = 0; k < V; ++k) v.v[k] = from_float<T>(to_float(v.v[k]) + to_float(old.v[k]));
    }
    store_pack<V>(out, v);
  }
}
template <class T>
inline void copy_window(stream_t s, const window_copy& p, const T* from, T* to) {
  constexpr int V = full_pack<T>;
  const bool wide = p.c % V == 0 && p.from_c % V == 0 && p.to_c % V == 0 && p.from_channel % V == 0 && p.to_channel % V == 0;
  const int step = wide ? V : 1;
  const std::int64_t packs = std::int64_t(p.n) * p.h * p.w * (p.c / step);
  if (packs == 0) return;
  if (packs > 2147483647)
    throw memory_error("cuda: copy_window: " + std::to_string(packs) + " packs, at most 2147483647; use a smaller batch or tile");
  kernel_launch({"copy_window", grid_for(packs, elementwise_threads), elementwise_threads, 0, s},
                wide ? copy_window_kernel<T, V> : copy_window_kernel<T, 1>, p, divider(p.c / step), divider(p.w), divider(p.h), from, to, packs);
}

/// Dropout: element i is kept when word i % 4 of philox(seed, stream, i / 4) is at least rate; what is kept is scaled by 1 / (1 - rate).
/// The backward pass is the same call on dy: no mask is stored. whole_channels: one draw per image and channel (Dropout2d).
template <class T>
__global__ void dropout_kernel(const T* x, T* y, std::int64_t size, float rate, std::uint64_t seed, std::uint64_t stream, int channels,
                               std::int64_t image) {
  const float scale = 1.0f / (1.0f - rate);
  for (std::int64_t i = grid_start(); i < (size + 3) / 4; i += grid_stride()) {
    philox_block words{};
    if (image == 0) words = philox(seed, stream, std::uint64_t(i));
    RSSEG_UNROLL
    for (int k = 0; k < 4; ++k) {
      const std::int64_t e = 4 * i + k;
      if (e >= size) break;
      std::uint32_t word = words.v[k];
      if (image > 0) {
        const std::int64_t d = e / image * channels + e % channels;
        const philox_block b = philox(seed, stream, std::uint64_t(d >> 2));
        word = d & 2 ? (d & 1 ? b.v[3] : b.v[2]) : (d & 1 ? b.v[1] : b.v[0]);  // no indexing: words stay in registers
      }
      y[e] = from_float<T>(unit_float(word) < rate ? 0.0f : to_float(x[e]) * scale);
    }
  }
}
template <class T>
inline void dropout(stream_t s, const T* x, T* y, int images, std::int64_t pixels, int channels, float rate, std::uint64_t seed, std::uint64_t stream,
                    bool whole_channels = false) {
  const std::int64_t size = images * pixels * channels;
  kernel_launch({"dropout", grid_for((size + 3) / 4, elementwise_threads), elementwise_threads, 0, s}, dropout_kernel<T>, x, y, size, rate, seed,
                stream, channels, whole_channels ? pixels * channels : 0);
}

}  // namespace RSSEG_BACKEND_NS
}  // namespace rsseg::cuda
