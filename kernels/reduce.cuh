// SPDX-License-Identifier: MIT
// Sums over the pixels of an NHWC array, per channel: gradients of biases and slopes, statistics of batch normalisation, image means.
// Deterministic in two passes: blocks sum chunks of pixels in a fixed order into partial sums, a second small kernel adds those in order, in double.
// Floor: one read of the input, e.g. 64 x 512 x 512 x 8 fp32: 179 us on an H100.
#pragma once
#include "common.cuh"

namespace rsseg::cuda {
inline namespace RSSEG_BACKEND_NS {

constexpr int reduce_threads = 256;

/// How the pixels are cut: a function of the sizes alone, so that results do not depend on the device.
struct reduce_shape {
  int lanes, rows_per_block;  // a block is lanes (channels) x rows_per_block (pixels in flight)
  int chunks;                 // blocks along the pixels
  std::int64_t chunk;         // pixels of one chunk
};
inline reduce_shape reduce_plan(std::int64_t pixels, int channels) {
  reduce_shape r{};
  r.lanes = 1;
  while (r.lanes < channels && r.lanes < 32) r.lanes *= 2;
  r.rows_per_block = reduce_threads / r.lanes;
  const std::int64_t most = ceil_div(std::int64_t(1024), std::int64_t(ceil_div(channels, r.lanes)));
  r.chunk = ceil_div(pixels, most);
  if (r.chunk < 4 * r.rows_per_block) r.chunk = 4 * r.rows_per_block;
  r.chunks = int(ceil_div(pixels, r.chunk));
  return r;
}
/// Floats of workspace that channel_sums<K> needs.
template <int K>
inline std::size_t channel_sums_workspace(std::int64_t pixels, int channels, int images = 1) {
  return std::size_t(reduce_plan(pixels, channels).chunks) * K * std::size_t(channels) * std::size_t(images);
}

/// F: void operator()(std::int64_t pixel, int channel, float (&sums)[K]) adds what the element contributes.
/// Grid: channels / lanes, chunks, images; pixel counts on through the images.
template <int K, class F>
__global__ void channel_partials_kernel(F f, std::int64_t pixels, int channels, std::int64_t chunk, float* partials) {
  RSSEG_DYN_SHARED(float, s);  // [K][rows][lanes]
  const int c = int(blockIdx.x * blockDim.x + threadIdx.x), rows = int(blockDim.y), lanes = int(blockDim.x);
  const std::int64_t first = std::int64_t(blockIdx.y) * chunk, last = first + chunk < pixels ? first + chunk : pixels;
  float sums[K] = {};
  if (c < channels)
    for (std::int64_t p = first + threadIdx.y; p < last; p += rows) f(std::int64_t(blockIdx.z) * pixels + p, c, sums);
  RSSEG_UNROLL
  for (int k = 0; k < K; ++k) s[(k * rows + int(threadIdx.y)) * lanes + int(threadIdx.x)] = sums[k];
  for (int half = rows / 2; half > 0; half /= 2) {  // rows is a power of two
    __syncthreads();
    if (int(threadIdx.y) < half) {
      RSSEG_UNROLL
      for (int k = 0; k < K; ++k) {
        float* here = s + (k * rows + int(threadIdx.y)) * lanes + int(threadIdx.x);
        *here += here[half * lanes];
      }
    }
  }
  if (threadIdx.y == 0 && c < channels) {
    RSSEG_UNROLL
    for (int k = 0; k < K; ++k)
      partials[((std::int64_t(blockIdx.z) * gridDim.y + blockIdx.y) * K + k) * channels + c] = s[k * rows * lanes + int(threadIdx.x)];
  }
}

/// G: void operator()(int image, int channel, const double (&sums)[K]) receives the totals.
template <int K, class G>
__global__ void channel_totals_kernel(G g, const float* partials, int channels, int chunks, int images) {
  const int i = int(blockIdx.x * blockDim.x + threadIdx.x);
  if (i >= channels * images) return;
  const int image = i / channels, c = i % channels;
  double sums[K] = {};
  for (int j = 0; j < chunks; ++j) {
    RSSEG_UNROLL
    for (int k = 0; k < K; ++k) sums[k] += double(partials[((std::int64_t(image) * chunks + j) * K + k) * channels + c]);
  }
  g(image, c, sums);
}

template <int K, class F, class G>
inline void channel_sums(stream_t stream, const char* name, F f, G g, std::int64_t pixels, int channels, float* workspace, int images = 1) {
  const reduce_shape r = reduce_plan(pixels, channels);
  kernel_launch({name, dim3(unsigned(ceil_div(channels, r.lanes)), unsigned(r.chunks), unsigned(images)),
                 dim3(unsigned(r.lanes), unsigned(r.rows_per_block)), std::size_t(K) * reduce_threads * sizeof(float), stream},
                channel_partials_kernel<K, F>, f, pixels, channels, r.chunk, workspace);
  kernel_launch({name, unsigned(ceil_div(channels * images, 64)), 64, 0, stream}, channel_totals_kernel<K, G>, g, workspace, channels, r.chunks,
                images);
}

// --- gradients of a bias, of PReLU's slopes, and of a per-image channel scale
template <class T>
struct sum_of {
  const T* x;
  int channels;
  __device__ void operator()(std::int64_t p, int c, float (&s)[1]) const { s[0] += to_float(x[p * channels + c]); }
};
template <class T>
struct sum_of_products {
  const T *a, *b;
  int channels;
  __device__ void operator()(std::int64_t p, int c, float (&s)[1]) const { s[0] += to_float(a[p * channels + c]) * to_float(b[p * channels + c]); }
};
template <class T>
struct prelu_slope_sum {
  const T *x, *dy;
  int channels;
  __device__ void operator()(std::int64_t p, int c, float (&s)[1]) const {
    const float v = to_float(x[p * channels + c]);
    if (v <= 0) s[0] += v * to_float(dy[p * channels + c]);
  }
};
struct store_sum {
  float* out;
  int channels;
  float scale;
  __device__ void operator()(int image, int c, const double (&s)[1]) const { out[image * channels + c] = float(s[0] * double(scale)); }
};
/// out[image][c] = scale * sum over pixels of x. images 1: over the whole batch (bias gradient); images N and scale 1/(H W): global average pooling.
template <class T>
inline void sum_pixels(stream_t s, const T* x, float* out, std::int64_t pixels, int channels, float* workspace, int images = 1, float scale = 1) {
  channel_sums<1>(s, "sum_pixels", sum_of<T>{x, channels}, store_sum{out, channels, scale}, pixels, channels, workspace, images);
}
/// out[image][c] = sum over pixels of a * b: the gradient of a per-image scale.
template <class T>
inline void dot_pixels(stream_t s, const T* a, const T* b, float* out, std::int64_t pixels, int channels, float* workspace, int images = 1) {
  channel_sums<1>(s, "dot_pixels", sum_of_products<T>{a, b, channels}, store_sum{out, channels, 1.0f}, pixels, channels, workspace, images);
}
/// Gradient of PReLU's slopes, one per channel.
template <class T>
inline void prelu_slope_gradient(stream_t s, const T* x, const T* dy, float* dslope, std::int64_t pixels, int channels, float* workspace) {
  channel_sums<1>(s, "prelu_slope_gradient", prelu_slope_sum<T>{x, dy, channels}, store_sum{dslope, channels, 1.0f}, pixels, channels, workspace);
}

}  // namespace RSSEG_BACKEND_NS
}  // namespace rsseg::cuda
