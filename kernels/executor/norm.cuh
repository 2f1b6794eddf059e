// SPDX-License-Identifier: MIT
// Entries of the normalisations (graph/ops/norm.hpp): statistics, application and gradients are nodes of their own. Statistics are float tensors of
// two rows, mean and variance. Sums over pixels go through reduce.cuh: deterministic, joined in double.
#pragma once
#include "../normalization.cuh"
#include "../tensor_ops.cuh"
#include "call.cuh"

namespace rsseg::cuda {
inline namespace RSSEG_BACKEND_NS {

/// Where per-channel numbers of (image, channel) lie in statistics of `groups` groups: rows of an image one after the other.
struct statistics_view {
  const float* stats;
  int groups, per_group;
  std::int64_t image;  // elements of an image; 0: one set of statistics for the batch
  float epsilon;
  __device__ void at(std::int64_t i, int c, float& mean, float& inverse) const {
    const float* s = stats + (image > 0 ? i / image * 2 * groups : 0) + c / per_group;
    mean = s[0], inverse = 1.0f / sqrtf(s[groups] + epsilon);
  }
};

template <class T>
struct store_moments {
  const T* x;
  float* stats;
  int channels;
  double count;
  __device__ void operator()(int, int c, const double (&s)[2]) const {
    const double shift = s[0] / count, variance = s[1] / count - shift * shift;
    stats[c] = float(double(to_float(x[c])) + shift);
    stats[channels + c] = float(variance > 0 ? variance : 0);
  }
};
inline std::size_t bn_stats_space(const graph::graph& g, int id, const shape* s, const executor_context&) {
  const shape x = s[g.input_of(id, 0)];
  const std::size_t map = channel_sums_workspace<2>(x.pixels(), x.c), least = channel_sums_workspace<2>(ceil_div(x.pixels(), std::int64_t(64)), x.c),
                    most = channel_sums_workspace<2>(ceil_div(x.pixels(), std::int64_t(128)), x.c);
  return sizeof(float) * (map > least ? (map > most ? map : most) : least > most ? least : most);
}
/// From the statistics of the tiles; the sums are around the first tile's mean.
struct store_tile_moments {
  const float* tiles;
  float* stats;
  int channels;
  double count;
  __device__ void operator()(int, int c, const double (&s)[2]) const {
    const double shift = s[0] / count, variance = s[1] / count - shift * shift;
    stats[c] = float(double(tiles[c]) + shift), stats[channels + c] = float(variance > 0 ? variance : 0);
  }
};
template <class T>
void bn_stats(const call<T>& c) {
  const shape s = c.in_extent(0);
  if (c.tiles)
    return channel_sums<2>(c.stream(), "batch_norm of tiles", moments_of_tiles{c.tiles->values, s.c, c.tiles->rows, s.pixels()},
                           store_tile_moments{c.tiles->values, c.wide_out(), s.c, double(s.pixels())},
                           ceil_div(s.pixels(), std::int64_t(c.tiles->rows)), s.c, c.template work<float>());
  channel_sums<2>(c.stream(), "batch_norm statistics", shifted_moments<T>{c.in(0), s.c},
                  store_moments<T>{c.in(0), c.wide_out(), s.c, double(s.pixels())}, s.pixels(), s.c, c.template work<float>());
}
template <class T>
void bn_pair(const call<T>& c) {
  copy_values(c.stream(), c.wide(0), c.wide_out(), c.extent().c);
  copy_values(c.stream(), c.wide(1), c.wide_out() + c.extent().c, c.extent().c);
}
struct move_statistics {
  const float* stats;
  float *mean, *variance;
  int channels;
  double momentum, unbias;
  __device__ void operator()(std::int64_t c) const {
    mean[c] = float((1 - momentum) * double(mean[c]) + momentum * double(stats[c]));
    variance[c] = float((1 - momentum) * double(variance[c]) + momentum * unbias * double(stats[channels + c]));
  }
};
template <class T>
void bn_update(const call<T>& c) {
  const double count = double(c.in_extent(3).pixels());
  each(c.stream(), "batch_norm running statistics", c.in_extent(0).c,
       move_statistics{c.wide(0), const_cast<float*>(c.wide(1)), const_cast<float*>(c.wide(2)), c.in_extent(0).c, c.at().beta,
                       count > 1 ? count / (count - 1) : 1});
}
struct copy_row_sum {
  const float* x;
  float* y;
  int images, channels, row;
  __device__ void operator()(std::int64_t c) const {
    double sum = 0;
    for (int n = 0; n < images; ++n) sum += double(x[(std::int64_t(n) * 2 + row) * channels + c]);
    y[c] = float(sum);
  }
};
template <class T>
void bn_row(const call<T>& c) {
  const shape s = c.in_extent(0);
  each(c.stream(), "batch_norm row", s.c, copy_row_sum{c.wide(0), c.wide_out(), s.n, s.c, c.at().begin});
}

template <class T, int V>
struct apply_norm {
  const T* x;
  T* y;
  statistics_view s;
  const float *gamma, *beta;
  int channels;
  bool relu;
  __device__ void operator()(std::int64_t pack_index) const {
    const std::int64_t i = pack_index * V;
    const pack<T, V> in = load_pack<V>(x + i);
    pack<T, V> out;
    const int c0 = int(i % channels);
    RSSEG_UNROLL
    for (int k = 0; k < V; ++k) {
      float mean, inverse;
      s.at(i, c0 + k, mean, inverse);
      const float v = (to_float(in.v[k]) - mean) * (gamma[c0 + k] * inverse) + beta[c0 + k];
      out.v[k] = from_float<T>(relu && v < 0 ? 0.0f : v);
    }
    store_pack<V>(y + i, out);
  }
};
template <class T>
void apply_statistics(const call<T>& c, int groups, bool per_image) {
  const shape s = c.extent();
  const statistics_view v{c.wide(1), groups, s.c / groups, per_image ? std::int64_t(s.h) * s.w * s.c : 0, float(c.at().alpha)};
  constexpr int V = full_pack<T>;
  if (s.c % V == 0)
    each(c.stream(), "normalise", s.size() / V, apply_norm<T, V>{c.in(0), c.out(), v, c.wide(2), c.wide(3), s.c, c.at().relu});
  else
    each(c.stream(), "normalise", s.size(), apply_norm<T, 1>{c.in(0), c.out(), v, c.wide(2), c.wide(3), s.c, c.at().relu});
}
template <class T>
void bn_apply(const call<T>& c) {
  apply_statistics(c, c.extent().c, false);
}
template <class T>
void group_apply(const call<T>& c) {
  apply_statistics(c, c.in_extent(1).c, true);
}

/// Mean and variance of one group of one image per block, relative to its first value.
template <class T>
__global__ void group_moments_kernel(const T* x, float* stats, std::int64_t pixels, int channels, int per_group) {
  RSSEG_DYN_SHARED(float, scratch);
  const T* first = x + std::int64_t(blockIdx.y) * pixels * channels + std::int64_t(blockIdx.x) * per_group;
  const std::int64_t count = pixels * per_group;
  const float shift = to_float(first[0]);
  float s0 = 0, s1 = 0;
  for (std::int64_t i = threadIdx.x; i < count; i += blockDim.x) {
    const float v = to_float(first[i / per_group * channels + i % per_group]) - shift;
    s0 += v, s1 += v * v;
  }
  s0 = block_sum(s0, scratch), s1 = block_sum(s1, scratch);
  if (threadIdx.x != 0) return;
  const double mean = double(s0) / double(count), variance = double(s1) / double(count) - mean * mean;
  float* to = stats + std::int64_t(blockIdx.y) * 2 * gridDim.x + blockIdx.x;
  to[0] = float(double(shift) + mean), to[gridDim.x] = float(variance > 0 ? variance : 0);
}
template <class T>
void group_stats(const call<T>& c) {
  const shape s = c.in_extent(0);
  const int groups = c.at().count;
  kernel_launch({"group_norm statistics", dim3(unsigned(groups), unsigned(s.n)), 256, 128, c.stream()}, group_moments_kernel<T>, c.in(0),
                c.wide_out(), std::int64_t(s.h) * s.w, s.c, s.c / groups);
}

template <class T>
struct gradient_sums {  // sum dy, sum dy * xhat
  const T *dy, *x;
  statistics_view s;
  int channels;
  __device__ void operator()(std::int64_t p, int c, float (&sums)[2]) const {
    const std::int64_t i = p * channels + c;
    float mean, inverse;
    s.at(i, c, mean, inverse);
    const float d = to_float(dy[i]);
    sums[0] += d, sums[1] += d * ((to_float(x[i]) - mean) * inverse);
  }
};
struct store_rows {
  float* out;
  int channels;
  __device__ void operator()(int image, int c, const double (&s)[2]) const {
    float* to = out + std::int64_t(image) * 2 * channels + c;
    to[0] = float(s[0]), to[channels] = float(s[1]);
  }
};
inline std::size_t bn_reduce_space(const graph::graph& g, int id, const shape* s, const executor_context&) {
  const shape x = s[g.input_of(id, 1)];
  return sizeof(float) * channel_sums_workspace<2>(x.pixels(), x.c);
}
inline std::size_t group_reduce_space(const graph::graph& g, int id, const shape* s, const executor_context&) {
  const shape x = s[g.input_of(id, 1)];
  return sizeof(float) * channel_sums_workspace<2>(std::int64_t(x.h) * x.w, x.c, x.n);
}
template <class T>
void reduce_gradient(const call<T>& c, int groups, int images) {
  const shape s = c.in_extent(1);
  const statistics_view v{c.wide(2), groups, s.c / groups, images > 1 || groups != s.c ? std::int64_t(s.h) * s.w * s.c : 0, float(c.at().alpha)};
  channel_sums<2>(c.stream(), "normalisation gradient sums", gradient_sums<T>{c.in(0), c.in(1), v, s.c}, store_rows{c.wide_out(), s.c},
                  s.pixels() / images, s.c, c.template work<float>(), images);
}
template <class T>
void bn_reduce(const call<T>& c) {
  reduce_gradient(c, c.in_extent(1).c, 1);
}
template <class T>
void group_reduce(const call<T>& c) {
  reduce_gradient(c, c.in_extent(2).c, c.in_extent(1).n);
}

template <class T>
struct bn_input_gradient {
  const T *dy, *x;
  T* dx;
  statistics_view s;
  const float *gamma, *reduced;  // reduced null: the statistics are constants
  int channels;
  float per_count;
  __device__ void operator()(std::int64_t i) const {
    const int c = int(i % channels);
    float mean, inverse;
    s.at(i, c, mean, inverse);
    float g = to_float(dy[i]);
    if (reduced) g -= per_count * (reduced[c] + (to_float(x[i]) - mean) * inverse * reduced[channels + c]);
    dx[i] = from_float<T>(gamma[c] * inverse * g);
  }
};
/// (dy, x, stats, gamma [, reduced]); without `reduced`, or with flag, the statistics are constants.
template <class T>
void bn_grad(const call<T>& c) {
  const shape s = c.extent();
  const bool constants = c.at().flag || c.count() < 5;
  each(c.stream(), "batch_norm gradient", s.size(),
       bn_input_gradient<T>{c.in(0),
                            c.in(1),
                            c.out(),
                            {c.wide(2), s.c, 1, 0, float(c.at().alpha)},
                            c.wide(3),
                            constants ? nullptr : c.wide(4),
                            s.c,
                            float(1 / double(s.pixels()))});
}
/// Per image and group the means of gamma dy and gamma dy xhat.
struct group_means {
  const float *gamma, *sums;
  float* means;
  int channels, groups;
  double per_count;
  __device__ void operator()(std::int64_t i) const {
    const int n = int(i / groups), g = int(i % groups), each = channels / groups;
    const float* row = sums + std::int64_t(n) * 2 * channels;
    double plain = 0, weighted = 0;
    for (int k = g * each; k < (g + 1) * each; ++k)
      plain += double(gamma[k]) * double(row[k]), weighted += double(gamma[k]) * double(row[channels + k]);
    means[2 * i] = float(plain * per_count), means[2 * i + 1] = float(weighted * per_count);
  }
};
template <class T>
struct group_input_gradient {
  const T *dy, *x;
  T* dx;
  statistics_view s;
  const float *gamma, *means;
  int channels;
  __device__ void operator()(std::int64_t i) const {
    const int c = int(i % channels);
    const std::int64_t g = i / s.image * s.groups + c / s.per_group;
    float mean, inverse;
    s.at(i, c, mean, inverse);
    dx[i] = from_float<T>(inverse * (gamma[c] * to_float(dy[i]) - means[2 * g] - (to_float(x[i]) - mean) * inverse * means[2 * g + 1]));
  }
};
inline std::size_t group_grad_space(const graph::graph& g, int id, const shape* s, const executor_context&) {
  return sizeof(float) * 2 * std::size_t(s[id].n) * std::size_t(s[g.input_of(id, 2)].c);
}
template <class T>
void group_grad(const call<T>& c) {
  const shape s = c.extent();
  const int groups = c.in_extent(2).c;
  float* means = c.template work<float>();
  each(c.stream(), "group_norm means", std::int64_t(s.n) * groups,
       group_means{c.wide(3), c.wide(4), means, s.c, groups, 1 / (double(s.h) * s.w * (s.c / groups))});
  each(c.stream(), "group_norm gradient", s.size(),
       group_input_gradient<T>{
           c.in(0), c.in(1), c.out(), {c.wide(2), groups, s.c / groups, std::int64_t(s.h) * s.w * s.c, float(c.at().alpha)}, c.wide(3), means, s.c});
}

template <class T>
void l2_normalize(const call<T>& c) {
  unit_length<T>(c.stream(), c.in(0), nullptr, c.out(), c.extent().pixels(), c.extent().c, float(c.at().alpha));
}
template <class T>
void l2_normalize_grad(const call<T>& c) {
  unit_length<T>(c.stream(), c.in(1), c.in(0), c.out(), c.extent().pixels(), c.extent().c, float(c.at().alpha));
}

// --- folding of constant statistics into a convolution
struct fold_weights_op {
  const float *w, *variance, *gamma;
  float* out;
  double epsilon;
  std::int64_t each;  // elements of an output channel; 0: the output channel is the fastest axis
  int channels;
  __device__ void operator()(std::int64_t i) const {
    const std::int64_t o = each > 0 ? i / each : i % channels;
    out[i] = float(double(w[i]) * double(gamma[o]) / sqrt(double(variance[o]) + epsilon));
  }
};
template <class T>
void fold_weights(const call<T>& c) {
  const shape s = c.extent();
  each(c.stream(), "fold weights", s.size(),
       fold_weights_op{c.wide(0), c.wide(1) + c.in_extent(1).c, c.wide(2), c.wide_out(), c.at().alpha,
                       c.at().flag ? 0 : std::int64_t(s.h) * s.w * s.c, s.c});
}
struct fold_bias_op {
  const float *bias, *mean, *variance, *gamma, *beta;
  float* out;
  double epsilon;
  __device__ void operator()(std::int64_t k) const {
    const double b = bias ? double(bias[k]) : 0;
    out[k] = float(double(beta[k]) + (b - double(mean[k])) * double(gamma[k]) / sqrt(double(variance[k]) + epsilon));
  }
};
template <class T>
void fold_bias(const call<T>& c) {
  const int first = c.count() == 4 ? 1 : 0, channels = c.extent().c;
  const float* mean = c.wide(first);
  each(c.stream(), "fold bias", channels,
       fold_bias_op{first ? c.wide(0) : nullptr, mean, mean + channels, c.wide(first + 1), c.wide(first + 2), c.wide_out(), c.at().alpha});
}

}  // namespace RSSEG_BACKEND_NS
}  // namespace rsseg::cuda
