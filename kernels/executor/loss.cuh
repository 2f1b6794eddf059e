// SPDX-License-Identifier: MIT
// Entries of the losses (graph/ops/loss.hpp), in the definitions of rsseg/loss/. Cross entropy has kernels of its own (cross_entropy.cuh); the
// others are sums per pixel or per class, and two of them (Lovasz, hard example mining) sort. Labels that are no class count as ignored. The value
// and the gradient of a loss share no state: each makes its sums anew. Sums are joined in double and in a fixed order.
#pragma once
#include "../cross_entropy.cuh"
#include "../reduce.cuh"
#include "../sort.cuh"
#include "call.cuh"
#include "rsseg/graph/ops/loss.hpp"

namespace rsseg::cuda {
inline namespace RSSEG_BACKEND_NS {

/// Logits and labels of a loss node or its gradient.
template <class T>
struct loss_job {
  const T* logits;
  const std::int32_t* target;
  const float* weights;  // per class, or null
  std::int64_t pixels;
  int classes, limit, ignore;
  __device__ int label(std::int64_t i) const {
    const int t = target[i];
    return t == ignore || t < 0 || t >= limit ? -1 : t;
  }
  __device__ float weight(int label) const { return weights ? weights[label] : 1.0f; }
  __device__ float log_sum(std::int64_t i) const {
    const T* z = logits + i * classes;
    float top = to_float(z[0]), sum = 0;
    for (int c = 1; c < classes; ++c) top = fmaxf(top, to_float(z[c]));
    for (int c = 0; c < classes; ++c) sum += expf(to_float(z[c]) - top);
    return top + logf(sum);
  }
  __device__ float probability(std::int64_t i, int c, float log_sum) const { return expf(to_float(logits[i * classes + c]) - log_sum); }
};
template <class T>
inline loss_job<T> loss_job_of(const call<T>& c, int first) {
  const shape s = c.in_extent(first);
  const auto kind = graph::loss_kind(c.at().mode);
  const bool binary = kind == graph::loss_kind::binary_cross_entropy || kind == graph::loss_kind::balanced_binary;
  const int limit = binary ? 2 : kind == graph::loss_kind::squared_error ? graph::soft_one + 1 : s.c;
  return {c.in(first), c.index_in(first + 1), c.count() > first + 2 ? c.wide(first + 2) : nullptr, s.pixels(), s.c, limit, c.at().begin};
}

/// Sums over all pixels: F as channel_sums wants it, for one channel.
template <int K>
struct store_doubles {
  double* to;
  int channels;
  __device__ void operator()(int, int c, const double (&s)[K]) const {
    RSSEG_UNROLL
    for (int k = 0; k < K; ++k) to[k * channels + c] = s[k];
  }
};
struct divide_sums {
  const double* sums;
  float* out;
  __device__ void operator()(std::int64_t) const { *out = sums[1] > 0 ? float(sums[0] / sums[1]) : 0.0f; }
};

// --- cross entropy with label smoothing: the target is (1 - smoothing) one-hot + smoothing / K, every class with its own weight
template <class T>
struct smooth_sums {  // loss, weights of the targets
  loss_job<T> j;
  float smoothing;
  __device__ void operator()(std::int64_t i, int, float (&s)[2]) const {
    const int t = j.label(i);
    if (t < 0) return;
    const T* z = j.logits + i * j.classes;
    const float log_sum = j.log_sum(i);
    float uniform = 0;
    for (int k = 0; k < j.classes; ++k) uniform += j.weight(k) * (log_sum - to_float(z[k]));
    s[0] += (1 - smoothing) * j.weight(t) * (log_sum - to_float(z[t])) + smoothing / float(j.classes) * uniform, s[1] += j.weight(t);
  }
};
template <class T>
struct smooth_gradient {
  loss_job<T> j;
  float smoothing;
  const double* sums;
  const float* factor;
  T* dz;
  __device__ void operator()(std::int64_t i) const {
    const int t = j.label(i);
    const float log_sum = t < 0 ? 0.0f : j.log_sum(i), scale = t >= 0 && sums[1] > 0 ? float(double(*factor) / sums[1]) : 0.0f;
    const float hit = t < 0 ? 0.0f : (1 - smoothing) * j.weight(t), uniform = smoothing / float(j.classes);
    float mass = hit;
    for (int k = 0; k < j.classes; ++k) mass += uniform * j.weight(k);
    for (int k = 0; k < j.classes; ++k) {
      const float v = t < 0 ? 0.0f : mass * j.probability(i, k, log_sum) - uniform * j.weight(k) - (k == t ? hit : 0.0f);
      dz[i * j.classes + k] = from_float<T>(scale * v);
    }
  }
};
// --- binary cross entropy of channel 0. Balanced (Xie and Tu, HED, ICCV 2015): both targets weigh half; without one of them the loss is 0
template <class T>
struct binary_sums {  // loss and number of target 0, then of target 1
  loss_job<T> j;
  __device__ void operator()(std::int64_t i, int, float (&s)[4]) const {
    const int t = j.label(i);
    if (t < 0) return;
    const float z = to_float(j.logits[i * j.classes]), loss = fmaxf(z, 0.0f) - z * float(t) + log1pf(expf(-fabsf(z)));
    if (t == 0)
      s[0] += loss, s[1] += 1;
    else
      s[2] += loss, s[3] += 1;
  }
};
/// Weights of both targets behind the sums, and the loss.
struct binary_finish {
  double* sums;
  bool balanced;
  float* out;
  __device__ void operator()(std::int64_t) const {
    const double zeros = sums[1], ones = sums[3], all = zeros + ones;
    const bool both = zeros > 0 && ones > 0;
    sums[4] = balanced ? (both ? 0.5 / zeros : 0.0) : all > 0 ? 1 / all : 0.0;
    sums[5] = balanced ? (both ? 0.5 / ones : 0.0) : all > 0 ? 1 / all : 0.0;
    if (out) *out = float(sums[4] * sums[0] + sums[5] * sums[2]);
  }
};
template <class T>
struct binary_gradient {
  loss_job<T> j;
  const double* sums;
  const float* factor;
  T* dz;
  __device__ void operator()(std::int64_t i) const {
    const int t = j.label(i);
    const float scale = t < 0 ? 0.0f : float(double(*factor) * sums[4 + t]);
    for (int k = 1; k < j.classes; ++k) dz[i * j.classes + k] = from_float<T>(0.0f);
    dz[i * j.classes] = from_float<T>(t < 0 ? 0.0f : scale * (sigmoid(to_float(j.logits[i * j.classes])) - float(t)));
  }
};
// --- squared error of channel 0 against fixed-point targets
template <class T>
struct squared_sums {
  loss_job<T> j;
  __device__ void operator()(std::int64_t i, int, float (&s)[2]) const {
    const int t = j.label(i);
    if (t < 0) return;
    const float d = to_float(j.logits[i * j.classes]) - float(t) / float(graph::soft_one);
    s[0] += d * d / 2, s[1] += 1;
  }
};
template <class T>
struct squared_gradient {
  loss_job<T> j;
  const double* sums;
  const float* factor;
  T* dz;
  __device__ void operator()(std::int64_t i) const {
    const int t = j.label(i);
    const float scale = sums[1] > 0 ? float(double(*factor) / sums[1]) : 0.0f;
    for (int k = 1; k < j.classes; ++k) dz[i * j.classes + k] = from_float<T>(0.0f);
    dz[i * j.classes] = from_float<T>(t < 0 ? 0.0f : scale * (to_float(j.logits[i * j.classes]) - float(t) / float(graph::soft_one)));
  }
};
// --- focal
template <class T>
struct focal_sums {
  loss_job<T> j;
  float gamma;
  __device__ void operator()(std::int64_t i, int, float (&s)[2]) const {
    const int t = j.label(i);
    if (t < 0) return;
    const float log_p = fminf(0.0f, to_float(j.logits[i * j.classes + t]) - j.log_sum(i));
    s[0] -= j.weight(t) * powf(-expm1f(log_p), gamma) * log_p, s[1] += 1;
  }
};
template <class T>
struct focal_gradient {
  loss_job<T> j;
  float gamma;
  const double* sums;
  const float* factor;
  T* dz;
  __device__ void operator()(std::int64_t i) const {
    const int t = j.label(i);
    float a = 0, log_sum = 0;
    if (t >= 0) {
      log_sum = j.log_sum(i);
      const float log_p = fminf(0.0f, to_float(j.logits[i * j.classes + t]) - log_sum), p = expf(log_p), rest = -expm1f(log_p);
      const float slope = -powf(rest, gamma) + (rest > 0 && gamma != 0 ? gamma * p * powf(rest, gamma - 1) * log_p : 0.0f);
      a = (sums[1] > 0 ? float(double(*factor) / sums[1]) : 0.0f) * j.weight(t) * slope;
    }
    for (int k = 0; k < j.classes; ++k)
      dz[i * j.classes + k] = from_float<T>(t < 0 ? 0.0f : a * ((k == t ? 1.0f : 0.0f) - j.probability(i, k, log_sum)));
  }
};
// --- dice, jaccard, tversky: I = sum p g, P = sum p, G = sum g per class
struct overlap_shape {
  double false_positive, false_negative, smooth;
};
template <class T>
struct store_log_sum {
  loss_job<T> j;
  float* to;
  __device__ void operator()(std::int64_t i) const { to[i] = j.log_sum(i); }
};
template <class T>
struct overlap_sums {
  loss_job<T> j;
  const float* log_sums;
  __device__ void operator()(std::int64_t i, int c, float (&s)[3]) const {
    const int t = j.label(i);
    if (t < 0) return;
    const float p = j.probability(i, c, log_sums[i]);
    s[1] += p;
    if (c == t) s[0] += p, s[2] += 1;
  }
};
/// value, then the slopes with respect to I and P of every class.
struct overlap_finish {
  const double* sums;
  overlap_shape o;
  int classes;
  bool present_only;
  const float* weights;  // per class, of the mean over classes, or null
  double* slopes;
  float* value;
  __device__ void operator()(std::int64_t) const {
    double total = 0, counted = 0, loss = 0;
    for (int k = 0; k < classes; ++k) total += sums[2 * classes + k];
    for (int k = 0; k < classes; ++k)
      if (!present_only || sums[2 * classes + k] > 0) counted += weights ? double(weights[k]) : 1.0;
    for (int k = 0; k < classes; ++k) {
      slopes[k] = slopes[classes + k] = 0;
      if (!(total > 0) || !(counted > 0) || (present_only && !(sums[2 * classes + k] > 0))) continue;
      const double share = (weights ? double(weights[k]) : 1.0) / counted;
      const double top = sums[k] + o.smooth;
      const double bottom = top + o.false_positive * (sums[classes + k] - sums[k]) + o.false_negative * (sums[2 * classes + k] - sums[k]);
      const double miss = bottom > 0 ? 1 - top / bottom : 0;
      loss += share * (miss > 0 ? miss : 0);
      if (!(bottom > 0)) continue;
      slopes[k] = -(bottom - top * (1 - o.false_positive - o.false_negative)) / (bottom * bottom) * share;
      slopes[classes + k] = top * o.false_positive / (bottom * bottom) * share;
    }
    if (value) *value = float(loss);
  }
};
template <class T>
struct overlap_gradient {
  loss_job<T> j;
  const float* log_sums;
  const double* slopes;
  const float* factor;
  T* dz;
  __device__ void operator()(std::int64_t i) const {
    const int t = j.label(i);
    float mean = 0;
    const auto slope = [&](int k) { return float(slopes[j.classes + k] + (k == t ? slopes[k] : 0.0)); };
    if (t >= 0)
      for (int k = 0; k < j.classes; ++k) mean += j.probability(i, k, log_sums[i]) * slope(k);
    for (int k = 0; k < j.classes; ++k)
      dz[i * j.classes + k] = from_float<T>(t < 0 ? 0.0f : *factor * j.probability(i, k, log_sums[i]) * (slope(k) - mean));
  }
};
// --- online hard example mining: pixels with p_t below max(threshold, the min_kept-th smallest p_t)
template <class T>
struct true_class_probability {
  loss_job<T> j;
  float* p;
  std::uint32_t* keys;
  int* values;
  __device__ void operator()(std::int64_t i) const {
    const int t = j.label(i);
    p[i] = t < 0 ? 2.0f : j.probability(i, t, j.log_sum(i));
    keys[i] = ascending_key(p[i]), values[i] = int(i);
  }
};
template <class T>
struct count_valid {
  loss_job<T> j;
  __device__ void operator()(std::int64_t i, int, float (&s)[1]) const { s[0] += j.label(i) >= 0 ? 1.0f : 0.0f; }
};
struct ohem_threshold {
  const double* valid;
  const float* p;
  const int* order;
  float threshold;
  int min_kept;
  double min_share;  // of the valid pixels
  float* out;
  __device__ void operator()(std::int64_t) const {
    const std::int64_t n = std::int64_t(valid[0]), share = std::int64_t(min_share * valid[0]);
    const std::int64_t least = min_kept < 0 ? 0 : min_kept, k = least > share ? least : share;
    *out = n > 0 ? fmaxf(threshold, p[order[k < n - 1 ? k : n - 1]]) : threshold;
  }
};
template <class T>
struct ohem_sums {
  loss_job<T> j;
  const float *p, *threshold;
  __device__ void operator()(std::int64_t i, int, float (&s)[2]) const {
    const int t = j.label(i);
    if (t < 0 || !(p[i] < *threshold)) return;
    s[0] += j.weight(t) * (j.log_sum(i) - to_float(j.logits[i * j.classes + t])), s[1] += 1;
  }
};
template <class T>
struct ohem_gradient {
  loss_job<T> j;
  const float *p, *threshold;
  const double* sums;
  const float* factor;
  T* dz;
  __device__ void operator()(std::int64_t i) const {
    const int t = j.label(i);
    const bool kept = t >= 0 && p[i] < *threshold;
    const float log_sum = kept ? j.log_sum(i) : 0.0f, w = kept && sums[1] > 0 ? float(double(*factor) / sums[1]) * j.weight(t) : 0.0f;
    for (int k = 0; k < j.classes; ++k)
      dz[i * j.classes + k] = from_float<T>(kept ? w * (j.probability(i, k, log_sum) - (k == t ? 1.0f : 0.0f)) : 0.0f);
  }
};
// --- Lovasz-softmax: per class the errors in decreasing order, dotted with the increments of the Jaccard index. A problem is one class of one
// image, or of the whole batch: pixels [first, first + part).
template <class T>
struct lovasz_errors {
  loss_job<T> j;
  const float* log_sums;
  std::int64_t first;
  int k;
  float* error;
  std::uint32_t* keys;
  int* values;
  __device__ void operator()(std::int64_t i) const {
    const int t = j.label(first + i);
    const float p = t < 0 ? 0.0f : j.probability(first + i, k, log_sums[first + i]);
    error[i] = t < 0 ? -1.0f : t == k ? 1 - p : p;  // ignored pixels come last
    keys[i] = descending_key(error[i]), values[i] = int(i);
  }
};
template <class T>
struct lovasz_foreground {
  loss_job<T> j;
  std::int64_t first;
  int k;
  const int* order;
  int* hit;
  __device__ void operator()(std::int64_t i) const { hit[i] = j.label(first + order[i]) == k; }
};
/// After the prefix sums: increments, to their pixels, and their products with the errors.
template <class T>
struct lovasz_increments {
  loss_job<T> j;
  std::int64_t first;
  int k;
  bool absent, weighted;  // classes without pixels count, too; class weights are those of the mean over classes
  const int *order, *seen_before, *foreground;
  const float* error;
  float *increment, *product;
  __device__ void operator()(std::int64_t i) const {
    const int pixel = order[i], t = j.label(first + pixel);
    const double all = double(*foreground), before = double(seen_before[i]), now = before + (t == k ? 1 : 0);
    const double last = i == 0 ? 0.0 : 1 - (all - before) / (all + double(i) - before), jaccard = 1 - (all - now) / (all + double(i + 1) - now);
    const bool counts = t >= 0 && (absent || *foreground > 0);
    const float step = counts ? float(jaccard - last) : 0.0f, w = weighted ? j.weight(k) : 1.0f;
    product[i] = counts ? fmaxf(error[pixel], 0.0f) * step : 0.0f;
    increment[(first + pixel) * j.classes + k] = w * (t == k ? -step : step);
  }
};
struct sum_products {
  const float* x;
  __device__ void operator()(std::int64_t i, int, float (&s)[1]) const { s[0] += x[i]; }
};
/// group: sum over the classes of this image (or batch), weight of the classes that count.
struct lovasz_add {
  double* group;
  const int* foreground;
  const float* weights;
  int k;
  bool absent;
  __device__ void operator()(int, int, const double (&s)[1]) const {
    if (!absent && !(*foreground > 0)) return;
    const double w = weights ? double(weights[k]) : 1.0;
    group[0] += w * s[0], group[1] += w;
  }
};
/// All images: the mean of their means.
struct lovasz_finish {
  double* sums;
  int groups;
  float* value;
  __device__ void operator()(std::int64_t) const {
    double loss = 0;
    for (int n = 0; n < groups; ++n) {
      if (sums[2 * n + 1] > 0) loss += sums[2 * n] / sums[2 * n + 1];
      sums[2 * n + 1] = sums[2 * n + 1] > 0 ? 1 / (sums[2 * n + 1] * groups) : 0.0;
    }
    if (value) *value = float(loss / groups);
  }
};
template <class T>
struct lovasz_gradient {
  loss_job<T> j;
  const float *log_sums, *increment;
  const double* sums;
  std::int64_t part;  // pixels of a group
  const float* factor;
  T* dz;
  __device__ void operator()(std::int64_t i) const {
    const int t = j.label(i);
    const float scale = t >= 0 ? float(double(*factor) * sums[2 * (i / part) + 1]) : 0.0f;
    float dot = 0;
    if (t >= 0)
      for (int k = 0; k < j.classes; ++k) dot += j.probability(i, k, log_sums[i]) * increment[i * j.classes + k];
    for (int k = 0; k < j.classes; ++k)
      dz[i * j.classes + k] = from_float<T>(t < 0 ? 0.0f : scale * j.probability(i, k, log_sums[i]) * (increment[i * j.classes + k] - dot));
  }
};

/// Pieces of a workspace, one after the other.
class workspace_cutter {
 public:
  explicit workspace_cutter(unsigned char* at) : at_(at) {}
  template <class U>
  U* take(std::size_t count) {
    U* p = reinterpret_cast<U*>(at_ + used_);
    used_ += padded(count * sizeof(U));
    return p;
  }
  std::size_t used() const { return used_; }

 private:
  unsigned char* at_;
  std::size_t used_ = 0;
};
/// Cross entropy of logits that are brought to the target's extent on the way.
inline resize_geometry upsampling(const graph::attributes& a, const shape& logits, const shape& target) {
  return {logits.n, logits.c, logits.h, logits.w, target.h, target.w, a.flag2};
}
/// Everything any loss keeps; the same walk gives the size and the places.
struct loss_space_layout {
  double* sums = nullptr;
  float *log_sums = nullptr, *reduce = nullptr, *p = nullptr, *increment = nullptr, *scalar = nullptr;
  std::uint32_t* keys = nullptr;
  int *values = nullptr, *hits = nullptr, *sort = nullptr, *count = nullptr;
  cross_entropy_result* result = nullptr;
  std::size_t bytes = 0;
  loss_space_layout(unsigned char* at, const graph::attributes& a, const shape& s, const shape& target) {
    const graph::loss_kind kind = graph::loss_kind(a.mode);
    workspace_cutter cut(at);
    const std::size_t pixels = std::size_t(s.pixels()), classes = std::size_t(s.c);
    using graph::loss_kind;
    if (kind == loss_kind::cross_entropy && a.alpha == 0) {
      reduce = cut.take<float>(a.flag ? upsampled_cross_entropy_workspace(upsampling(a, s, target)) : cross_entropy_workspace()),
      result = cut.take<cross_entropy_result>(1);
    } else {
      sums = cut.take<double>(5 * classes + 8 + 2 * std::size_t(s.n)), scalar = cut.take<float>(4);
      const std::size_t one = channel_sums_workspace<4>(s.pixels(), 1), all = channel_sums_workspace<3>(s.pixels(), s.c);
      reduce = cut.take<float>(one > all ? one : all);
      const bool sorts = kind == loss_kind::ohem || kind == loss_kind::lovasz;
      if (kind != loss_kind::focal && kind != loss_kind::binary_cross_entropy && kind != loss_kind::balanced_binary &&
          kind != loss_kind::squared_error && kind != loss_kind::cross_entropy)
        log_sums = cut.take<float>(pixels);
      if (sorts) {
        p = cut.take<float>(2 * pixels), keys = cut.take<std::uint32_t>(pixels), values = cut.take<int>(pixels);
        sort = cut.take<int>(sort_workspace(s.pixels())), count = cut.take<int>(1);
      }
      if (kind == loss_kind::lovasz) hits = cut.take<int>(pixels), increment = cut.take<float>(pixels * classes);
    }
    bytes = cut.used();
  }
};

/// value and dz: one of them null. factor: the gradient that reaches the loss, in device memory.
template <class T>
void any_loss(const call<T>& c, const loss_job<T>& j, const shape& s, const shape& target, float* value, T* dz, const float* factor) {
  using graph::loss_kind;
  const loss_kind kind = loss_kind(c.at().mode);
  const stream_t stream = c.stream();
  const graph::attributes& a = c.at();
  const loss_space_layout w(c.workspace, a, s, target);
  switch (kind) {
    case loss_kind::cross_entropy: {
      if (a.alpha != 0) {
        channel_sums<2>(stream, "smoothed cross entropy", smooth_sums<T>{j, float(a.alpha)}, store_doubles<2>{w.sums, 1}, j.pixels, 1, w.reduce);
        if (value) each(stream, "loss", 1, divide_sums{w.sums, value});
        if (dz) each(stream, "smoothed cross entropy gradient", j.pixels, smooth_gradient<T>{j, float(a.alpha), w.sums, factor, dz});
        return;
      }
      cross_entropy_target<std::int32_t> t{j.target, j.weights, j.ignore};
      if (a.flag)
        upsampled_cross_entropy<T>(stream, upsampling(a, s, target), j.logits, t, dz, 1, w.reduce, w.result, factor);
      else
        cross_entropy<T>(stream, j.logits, t, dz, nullptr, 1, j.pixels, j.classes, w.reduce, w.result, factor);
      if (value) copy_values(stream, static_cast<const float*>(&w.result->loss), value, 1);
      return;
    }
    case loss_kind::binary_cross_entropy:
    case loss_kind::balanced_binary:
      channel_sums<4>(stream, "binary cross entropy", binary_sums<T>{j}, store_doubles<4>{w.sums, 1}, j.pixels, 1, w.reduce);
      each(stream, "binary weights", 1, binary_finish{w.sums, kind == loss_kind::balanced_binary, value});
      if (dz) each(stream, "binary cross entropy gradient", j.pixels, binary_gradient<T>{j, w.sums, factor, dz});
      return;
    case loss_kind::squared_error:
      channel_sums<2>(stream, "squared error", squared_sums<T>{j}, store_doubles<2>{w.sums, 1}, j.pixels, 1, w.reduce);
      if (value) each(stream, "loss", 1, divide_sums{w.sums, value});
      if (dz) each(stream, "squared error gradient", j.pixels, squared_gradient<T>{j, w.sums, factor, dz});
      return;
    case loss_kind::focal:
      channel_sums<2>(stream, "focal loss", focal_sums<T>{j, float(a.alpha)}, store_doubles<2>{w.sums, 1}, j.pixels, 1, w.reduce);
      if (value) each(stream, "loss", 1, divide_sums{w.sums, value});
      if (dz) each(stream, "focal gradient", j.pixels, focal_gradient<T>{j, float(a.alpha), w.sums, factor, dz});
      return;
    case loss_kind::ohem: {
      channel_sums<1>(stream, "valid pixels", count_valid<T>{j}, store_doubles<1>{w.sums + 2, 1}, j.pixels, 1, w.reduce);
      each(stream, "true class probability", j.pixels, true_class_probability<T>{j, w.p, w.keys, w.values});
      sort_pairs(stream, w.keys, w.values, j.pixels, w.sort);
      each(stream, "ohem threshold", 1, ohem_threshold{w.sums + 2, w.p, w.values, float(a.alpha), a.count, a.beta, w.scalar});
      channel_sums<2>(stream, "ohem", ohem_sums<T>{j, w.p, w.scalar}, store_doubles<2>{w.sums, 1}, j.pixels, 1, w.reduce);
      if (value) each(stream, "loss", 1, divide_sums{w.sums, value});
      if (dz) each(stream, "ohem gradient", j.pixels, ohem_gradient<T>{j, w.p, w.scalar, w.sums, factor, dz});
      return;
    }
    case loss_kind::lovasz: {
      const int groups = a.flag ? s.n : 1;
      const std::int64_t part = j.pixels / groups;
      each(stream, "log sums", j.pixels, store_log_sum<T>{j, w.log_sums});
      set_bytes(stream, w.sums, 0, 2 * std::size_t(groups) * sizeof(double));
      for (int n = 0; n < groups; ++n)
        for (int k = 0; k < j.classes; ++k) {
          const std::int64_t first = n * part;
          each(stream, "lovasz errors", part, lovasz_errors<T>{j, w.log_sums, first, k, w.p, w.keys, w.values});
          sort_pairs(stream, w.keys, w.values, part, w.sort);
          each(stream, "lovasz foreground", part, lovasz_foreground<T>{j, first, k, w.values, w.hits});
          prefix_sums(stream, w.hits, w.hits, part, w.sort, w.count);
          each(stream, "lovasz increments", part,
               lovasz_increments<T>{j, first, k, a.flag2, j.weights != nullptr, w.values, w.hits, w.count, w.p, w.increment, w.p + part});
          channel_sums<1>(stream, "lovasz", sum_products{w.p + part}, lovasz_add{w.sums + 2 * n, w.count, j.weights, k, a.flag2}, part, 1, w.reduce);
        }
      each(stream, "lovasz mean", 1, lovasz_finish{w.sums, groups, value});
      if (dz) each(stream, "lovasz gradient", j.pixels, lovasz_gradient<T>{j, w.log_sums, w.increment, w.sums, part, factor, dz});
      return;
    }
    case loss_kind::dice:
    case loss_kind::jaccard:
    case loss_kind::tversky: {
      const overlap_shape o = kind == loss_kind::dice      ? overlap_shape{0.5, 0.5, a.alpha / 2}
                              : kind == loss_kind::jaccard ? overlap_shape{1, 1, a.alpha}
                                                           : overlap_shape{a.alpha, a.beta, a.gamma};
      each(stream, "log sums", j.pixels, store_log_sum<T>{j, w.log_sums});
      channel_sums<3>(stream, "overlap", overlap_sums<T>{j, w.log_sums}, store_doubles<3>{w.sums, j.classes}, j.pixels, j.classes, w.reduce);
      each(stream, "overlap slopes", 1, overlap_finish{w.sums, o, j.classes, a.flag, j.weights, w.sums + 3 * j.classes, value});
      if (dz) each(stream, "overlap gradient", j.pixels, overlap_gradient<T>{j, w.log_sums, w.sums + 3 * j.classes, factor, dz});
      return;
    }
  }
  throw usage_error("cuda: loss number " + std::to_string(int(kind)) + " has no kernel; train on the CPU or choose another loss");
}

inline std::size_t loss_space(const graph::graph& g, int id, const shape* s, const executor_context&) {
  return loss_space_layout(nullptr, g.nodes[id].at, s[g.input_of(id, 0)], s[g.input_of(id, 1)]).bytes;
}
inline std::size_t loss_grad_space(const graph::graph& g, int id, const shape* s, const executor_context&) {
  return loss_space_layout(nullptr, g.nodes[id].at, s[id], s[g.input_of(id, 2)]).bytes;
}
template <class T>
void loss(const call<T>& c) {
  any_loss<T>(c, loss_job_of(c, 0), c.in_extent(0), c.in_extent(1), c.wide_out(), nullptr, nullptr);
}
/// (d loss, logits, target [, weights]) -> d logits.
template <class T>
void loss_grad(const call<T>& c) {
  any_loss<T>(c, loss_job_of(c, 1), c.extent(), c.in_extent(2), nullptr, c.out(), c.wide(0));
}

}  // namespace RSSEG_BACKEND_NS
}  // namespace rsseg::cuda
