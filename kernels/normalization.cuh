// SPDX-License-Identifier: MIT
// Batch normalisation (Ioffe and Szegedy, ICML 2015), training and inference, forward and backward, with the ReLU (or another activation) and the
// residual sum of ResNets fused in; group normalisation (Wu and He, ECCV 2018).
// Floors (64 channels, 512 x 512, batch 8, H100): forward 2 reads + 1 write 268 us bf16 / 537 us fp32; backward 447 / 895 us.
// Statistics are summed relative to the first pixel's value, so that a large mean costs no precision, and combined in double.
#pragma once
#include "reduce.cuh"

namespace rsseg::cuda {
inline namespace RSSEG_BACKEND_NS {

/// Per-channel state of a batch normalisation; null pointers are allowed where said.
struct batch_norm_state {
  const float *gamma = nullptr, *beta = nullptr;               ///< null: 1 and 0
  float *mean = nullptr, *inverse_deviation = nullptr;         ///< of the batch: written by the forward pass, read by the backward pass
  float *running_mean = nullptr, *running_variance = nullptr;  ///< null: not tracked
  float momentum = 0.1f, epsilon = 1e-5f;
};

template <class T>
struct shifted_moments {
  const T* x;
  int channels;
  __device__ void operator()(std::int64_t p, int c, float (&s)[2]) const {
    const float v = to_float(x[p * channels + c]) - to_float(x[c]);
    s[0] += v, s[1] += v * v;
  }
};
template <class T>
struct finish_moments {
  const T* x;
  batch_norm_state b;
  double count;
  __device__ void operator()(int, int c, const double (&s)[2]) const {
    const double shift = s[0] / count, mean = double(to_float(x[c])) + shift;
    double variance = s[1] / count - shift * shift;
    if (variance < 0) variance = 0;
    b.mean[c] = float(mean);
    b.inverse_deviation[c] = float(1.0 / sqrt(variance + double(b.epsilon)));
    if (b.running_mean) {  // PyTorch's convention: the running variance is the unbiased one
      const double m = double(b.momentum), unbiased = count > 1 ? variance * count / (count - 1) : variance;
      b.running_mean[c] = float((1 - m) * double(b.running_mean[c]) + m * mean);
      b.running_variance[c] = float((1 - m) * double(b.running_variance[c]) + m * unbiased);
    }
  }
};

/// y = activate((x - mean) * inverse_deviation * gamma + beta + residual). Groups of `per_group` channels and images share statistics in group norm:
/// statistics are looked up at image * stride + c / per_group.
template <class T, int V>
__global__ void normalize_kernel(const T* x, const T* residual, T* y, const float* mean, const float* inverse, const float* gamma, const float* beta,
                                 std::int64_t packs, int channels, int per_group, std::int64_t image_packs, int stride, activation kind,
                                 float slope) {
  for (std::int64_t i = grid_start(); i < packs; i += grid_stride()) {
    const std::int64_t image = image_packs > 0 ? i / image_packs : 0;
    const int c0 = int(i % (channels / V)) * V;
    const pack<T, V> px = load_pack<V>(x + i * V);
    pack<T, V> pr{}, py;
    if (residual) pr = load_pack<V>(residual + i * V);
    RSSEG_UNROLL
    for (int k = 0; k < V; ++k) {
      const int c = c0 + k;
      const std::int64_t g = image * stride + c / per_group;
      float v = (to_float(px.v[k]) - mean[g]) * inverse[g];
      v = v * (gamma ? gamma[c] : 1.0f) + (beta ? beta[c] : 0.0f) + to_float(pr.v[k]);
      py.v[k] = from_float<T>(activate(kind, v, slope));
    }
    store_pack<V>(y + i * V, py);
  }
}
template <class T>
inline void normalize(stream_t s, const char* name, const T* x, const T* residual, T* y, const float* mean, const float* inverse, const float* gamma,
                      const float* beta, std::int64_t size, int channels, int per_group, std::int64_t image, int stride, activation kind,
                      float slope) {
  constexpr int V = full_pack<T>;
  const bool wide = channels % V == 0;
  const int step = wide ? V : 1;
  kernel_launch({name, grid_for(size / step, 256), 256, 0, s}, wide ? normalize_kernel<T, V> : normalize_kernel<T, 1>, x, residual, y, mean, inverse,
                gamma, beta, size / step, channels, per_group, image / step, stride, kind, slope);
}

/// Floats of workspace of the training passes.
inline std::size_t batch_norm_workspace(std::int64_t pixels, int channels) {
  return channel_sums_workspace<2>(pixels, channels) + 2 * std::size_t(channels);
}

/// Training: batch statistics into b.mean and b.inverse_deviation, running statistics updated, then y. residual may be null.
template <class T>
inline void batch_norm_train(stream_t s, const batch_norm_state& b, const T* x, const T* residual, T* y, std::int64_t pixels, int channels,
                             activation kind, float* workspace, float slope = 0) {
  channel_sums<2>(s, "batch_norm statistics", shifted_moments<T>{x, channels}, finish_moments<T>{x, b, double(pixels)}, pixels, channels, workspace);
  normalize<T>(s, "batch_norm_train", x, residual, y, b.mean, b.inverse_deviation, b.gamma, b.beta, pixels * channels, channels, 1, 0, 0, kind,
               slope);
}

/// A tile's mean and squared deviations (conv_problem.cuh, tile_moments) as sums around the first tile's mean.
struct moments_of_tiles {
  const float* statistics;  // [tile][2][channels]
  int channels, rows;
  std::int64_t pixels;
  __device__ void operator()(std::int64_t tile, int c, float (&s)[2]) const {
    const float* here = statistics + tile * 2 * channels + c;
    const std::int64_t left = pixels - tile * rows;
    const float count = float(left < rows ? left : rows), d = here[0] - statistics[c];
    s[0] += count * d, s[1] += here[channels] + count * d * d;
  }
};
/// Training, after a convolution that left statistics of tiles of `rows` pixels of x: one read of x less than batch_norm_train.
template <class T>
inline void batch_norm_of_tiles(stream_t s, const batch_norm_state& b, const float* statistics, int rows, const T* x, const T* residual, T* y,
                                std::int64_t pixels, int channels, activation kind, float* workspace, float slope = 0) {
  channel_sums<2>(s, "batch_norm of tiles", moments_of_tiles{statistics, channels, rows, pixels},
                  finish_moments<float>{statistics, b, double(pixels)}, ceil_div(pixels, std::int64_t(rows)), channels, workspace);
  normalize<T>(s, "batch_norm_train", x, residual, y, b.mean, b.inverse_deviation, b.gamma, b.beta, pixels * channels, channels, 1, 0, 0, kind,
               slope);
}

/// scale and shift such that y = x * scale + shift is the inference pass; also what folding into a convolution's epilogue takes.
RSSEG_KERNEL void fold_batch_norm_kernel(batch_norm_state b, const float* bias, float* scale, float* shift, int channels) {
  const int c = int(blockIdx.x * blockDim.x + threadIdx.x);
  if (c >= channels) return;
  const float k = (b.gamma ? b.gamma[c] : 1.0f) * (1.0f / sqrtf(b.running_variance[c] + b.epsilon));
  scale[c] = k;
  shift[c] = (b.beta ? b.beta[c] : 0.0f) + ((bias ? bias[c] : 0.0f) - b.running_mean[c]) * k;
}
inline void fold_batch_norm(stream_t s, const batch_norm_state& b, const float* bias, float* scale, float* shift, int channels) {
  kernel_launch({"fold_batch_norm", unsigned(ceil_div(channels, 128)), 128, 0, s}, fold_batch_norm_kernel, b, bias, scale, shift, channels);
}

// --- backward. g = dy * activate'(y); dgamma = sum g xhat, dbeta = sum g, dx = gamma * inv * (g - dbeta/P - xhat * dgamma/P), dresidual = g
template <class T>
struct backward_sums {
  const T *x, *y, *dy;  // y null: no activation
  const float *mean, *inverse;
  int channels;
  activation kind;
  float slope;
  __device__ void operator()(std::int64_t p, int c, float (&s)[2]) const {
    const std::int64_t i = p * channels + c;
    const float g = to_float(dy[i]) * (y ? activation_slope(kind, to_float(y[i]), slope) : 1.0f);
    s[0] += g, s[1] += g * (to_float(x[i]) - mean[c]) * inverse[c];
  }
};
struct store_backward_sums {
  float *dgamma, *dbeta;  // may be null
  float* means;           // [2][channels]: dbeta / P and dgamma / P
  int channels;
  double count;
  __device__ void operator()(int, int c, const double (&s)[2]) const {
    if (dbeta) dbeta[c] = float(s[0]);
    if (dgamma) dgamma[c] = float(s[1]);
    means[c] = float(s[0] / count), means[channels + c] = float(s[1] / count);
  }
};
template <class T>
__global__ void batch_norm_backward_kernel(const T* x, const T* y, const T* dy, T* dx, T* dresidual, batch_norm_state b, const float* means,
                                           std::int64_t size, int channels, activation kind, float slope) {
  for (std::int64_t i = grid_start(); i < size; i += grid_stride()) {
    const int c = int(i % channels);
    const float g = to_float(dy[i]) * (y ? activation_slope(kind, to_float(y[i]), slope) : 1.0f);
    const float xhat = (to_float(x[i]) - b.mean[c]) * b.inverse_deviation[c];
    dx[i] = from_float<T>((b.gamma ? b.gamma[c] : 1.0f) * b.inverse_deviation[c] * (g - means[c] - xhat * means[channels + c]));
    if (dresidual) dresidual[i] = from_float<T>(g);
  }
}
/// Backward of batch_norm_train. y: its output, null when kind is none; dresidual, dgamma, dbeta may be null. dx may be dy.
template <class T>
inline void batch_norm_backward(stream_t s, const batch_norm_state& b, const T* x, const T* y, const T* dy, T* dx, T* dresidual, float* dgamma,
                                float* dbeta, std::int64_t pixels, int channels, activation kind, float* workspace, float slope = 0) {
  float* means = workspace + channel_sums_workspace<2>(pixels, channels);
  const T* kept = kind == activation::none ? nullptr : y;
  channel_sums<2>(s, "batch_norm_backward sums", backward_sums<T>{x, kept, dy, b.mean, b.inverse_deviation, channels, kind, slope},
                  store_backward_sums{dgamma, dbeta, means, channels, double(pixels)}, pixels, channels, workspace);
  kernel_launch({"batch_norm_backward", grid_for(pixels * channels, 256), 256, 0, s}, batch_norm_backward_kernel<T>, x, kept, dy, dx, dresidual, b,
                means, pixels * channels, channels, kind, slope);
}

// --- group normalisation: statistics per image and group of channels. One block per (group, image).
template <class T>
__global__ void group_norm_statistics_kernel(const T* x, float* mean, float* inverse, std::int64_t pixels, int channels, int per_group,
                                             float epsilon) {
  RSSEG_DYN_SHARED(float, scratch);
  const T* first = x + std::int64_t(blockIdx.y) * pixels * channels + std::int64_t(blockIdx.x) * per_group;
  const std::int64_t count = pixels * per_group;
  const float shift = to_float(first[0]);
  float s0 = 0, s1 = 0;
  for (std::int64_t i = threadIdx.x; i < count; i += blockDim.x) {
    const float v = to_float(first[i / per_group * channels + i % per_group]) - shift;
    s0 += v, s1 += v * v;
  }
  s0 = block_sum(s0, scratch) / float(count);
  s1 = block_sum(s1, scratch) / float(count);
  if (threadIdx.x == 0) {
    mean[blockIdx.y * gridDim.x + blockIdx.x] = shift + s0;
    inverse[blockIdx.y * gridDim.x + blockIdx.x] = rsqrtf(fmaxf(s1 - s0 * s0, 0.0f) + epsilon);
  }
}
/// mean and inverse: [images][groups], kept for the backward pass.
template <class T>
inline void group_norm(stream_t s, const T* x, T* y, const float* gamma, const float* beta, float* mean, float* inverse, int images,
                       std::int64_t pixels, int channels, int groups, float epsilon, activation kind = activation::none, float slope = 0) {
  const int per_group = channels / groups;
  kernel_launch({"group_norm statistics", dim3(unsigned(groups), unsigned(images)), 256, 128, s}, group_norm_statistics_kernel<T>, x, mean, inverse,
                pixels, channels, per_group, epsilon);
  normalize<T>(s, "group_norm", x, nullptr, y, mean, inverse, gamma, beta, images * pixels * channels, channels, per_group, pixels * channels, groups,
               kind, slope);
}
template <class T>
struct group_backward_sums {  // per image and channel: sum of dy and of dy * xhat
  const T *x, *dy;
  const float *mean, *inverse;
  std::int64_t pixels;
  int channels, per_group;
  __device__ void operator()(std::int64_t p, int c, float (&s)[2]) const {
    const std::int64_t i = p * channels + c, g = p / pixels * (channels / per_group) + c / per_group;
    const float d = to_float(dy[i]);
    s[0] += d, s[1] += d * (to_float(x[i]) - mean[g]) * inverse[g];
  }
};
struct store_pairs {
  float* out;
  int channels;
  __device__ void operator()(int image, int c, const double (&s)[2]) const {
    out[(image * channels + c) * 2] = float(s[0]), out[(image * channels + c) * 2 + 1] = float(s[1]);
  }
};
/// Parameter gradients, and per image and group the two means that dx needs.
RSSEG_KERNEL void group_norm_combine_kernel(const float* pairs, const float* gamma, float* dgamma, float* dbeta, float* means, int images,
                                            int channels, int per_group, float count) {
  const int i = int(blockIdx.x * blockDim.x + threadIdx.x), groups = channels / per_group;
  if (i < channels && (dgamma || dbeta)) {
    float a = 0, b = 0;
    for (int n = 0; n < images; ++n) a += pairs[(n * channels + i) * 2], b += pairs[(n * channels + i) * 2 + 1];
    if (dbeta) dbeta[i] = a;
    if (dgamma) dgamma[i] = b;
  }
  if (i < images * groups) {
    float a = 0, b = 0;
    for (int k = 0; k < per_group; ++k) {
      const int c = i % groups * per_group + k;
      const float w = gamma ? gamma[c] : 1.0f;
      a += w * pairs[(i / groups * channels + c) * 2], b += w * pairs[(i / groups * channels + c) * 2 + 1];
    }
    means[2 * i] = a / count, means[2 * i + 1] = b / count;
  }
}
template <class T>
__global__ void group_norm_backward_kernel(const T* x, const T* dy, T* dx, const float* gamma, const float* mean, const float* inverse,
                                           const float* means, std::int64_t size, std::int64_t image, int channels, int per_group) {
  for (std::int64_t i = grid_start(); i < size; i += grid_stride()) {
    const int c = int(i % channels);
    const std::int64_t g = i / image * (channels / per_group) + c / per_group;
    const float xhat = (to_float(x[i]) - mean[g]) * inverse[g];
    dx[i] = from_float<T>(inverse[g] * (to_float(dy[i]) * (gamma ? gamma[c] : 1.0f) - means[2 * g] - xhat * means[2 * g + 1]));
  }
}
inline std::size_t group_norm_workspace(int images, std::int64_t pixels, int channels) {
  return channel_sums_workspace<2>(pixels, channels, images) + 4 * std::size_t(images) * std::size_t(channels);
}
/// Backward of group_norm without activation. dgamma and dbeta may be null.
template <class T>
inline void group_norm_backward(stream_t s, const T* x, const T* dy, T* dx, const float* gamma, const float* mean, const float* inverse,
                                float* dgamma, float* dbeta, int images, std::int64_t pixels, int channels, int groups, float* workspace) {
  const int per_group = channels / groups;
  float* pairs = workspace + channel_sums_workspace<2>(pixels, channels, images);
  float* means = pairs + 2 * std::size_t(images) * std::size_t(channels);
  channel_sums<2>(s, "group_norm_backward sums", group_backward_sums<T>{x, dy, mean, inverse, pixels, channels, per_group},
                  store_pairs{pairs, channels}, pixels, channels, workspace, images);
  kernel_launch({"group_norm_combine", unsigned(ceil_div(imax(channels, images * groups), 64)), 64, 0, s}, group_norm_combine_kernel, pairs, gamma,
                dgamma, dbeta, means, images, channels, per_group, float(pixels * per_group));
  kernel_launch({"group_norm_backward", grid_for(images * pixels * channels, 256), 256, 0, s}, group_norm_backward_kernel<T>, x, dy, dx, gamma, mean,
                inverse, means, images * pixels * channels, pixels * channels, channels, per_group);
}

}  // namespace RSSEG_BACKEND_NS
}  // namespace rsseg::cuda
