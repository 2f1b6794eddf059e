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
  const bool binary = graph::loss_kind(c.at().mode) == graph::loss_kind::binary_cross_entropy;
  return {c.in(first), c.index_in(first + 1), c.count() > first + 2 ? c.wide(first + 2) : nullptr, s.pixels(), s.c, binary ? 2 : s.c, c.at().begin};
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

// --- binary cross entropy of channel 0
template <class T>
struct binary_sums {
  loss_job<T> j;
  __device__ void operator()(std::int64_t i, int, float (&s)[2]) const {
    const int t = j.label(i);
    if (t < 0) return;
    const float z = to_float(j.logits[i * j.classes]);
    s[0] += fmaxf(z, 0.0f) - z * float(t) + log1pf(expf(-fabsf(z))), s[1] += 1;
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
    const float scale = sums[1] > 0 ? float(double(*factor) / sums[1]) : 0.0f;
    for (int k = 1; k < j.classes; ++k) dz[i * j.classes + k] = from_float<T>(0.0f);
    dz[i * j.classes] = from_float<T>(t < 0 ? 0.0f : scale * (sigmoid(to_float(j.logits[i * j.classes])) - float(t)));
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
  double* slopes;
  float* value;
  __device__ void operator()(std::int64_t) const {
    double total = 0, loss = 0;
    for (int k = 0; k < classes; ++k) total += sums[2 * classes + k];
    for (int k = 0; k < classes; ++k) {
      slopes[k] = slopes[classes + k] = 0;
      if (!(total > 0)) continue;
      const double top = sums[k] + o.smooth;
      const double bottom = top + o.false_positive * (sums[classes + k] - sums[k]) + o.false_negative * (sums[2 * classes + k] - sums[k]);
      const double miss = bottom > 0 ? 1 - top / bottom : 0;
      loss += (miss > 0 ? miss : 0) / classes;
      if (!(bottom > 0)) continue;
      slopes[k] = -(bottom - top * (1 - o.false_positive - o.false_negative)) / (bottom * bottom) / classes;
      slopes[classes + k] = top * o.false_positive / (bottom * bottom) / classes;
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
  float* out;
  __device__ void operator()(std::int64_t) const {
    const std::int64_t n = std::int64_t(valid[0]);
    const std::int64_t k = min_kept < 0 ? 0 : min_kept;
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
// --- Lovasz-softmax: per class the errors in decreasing order, dotted with the increments of the Jaccard index
template <class T>
struct lovasz_errors {
  loss_job<T> j;
  const float* log_sums;
  int k;
  float* error;
  std::uint32_t* keys;
  int* values;
  __device__ void operator()(std::int64_t i) const {
    const int t = j.label(i);
    const float p = t < 0 ? 0.0f : j.probability(i, k, log_sums[i]);
    error[i] = t < 0 ? -1.0f : t == k ? 1 - p : p;  // ignored pixels come last
    keys[i] = descending_key(error[i]), values[i] = int(i);
  }
};
template <class T>
struct lovasz_foreground {
  loss_job<T> j;
  int k;
  const int* order;
  int* hit;
  __device__ void operator()(std::int64_t i) const { hit[i] = j.label(order[i]) == k; }
};
/// After the prefix sums: increments, to their pixels, and their products with the errors.
template <class T>
struct lovasz_increments {
  loss_job<T> j;
  int k;
  const int *order, *seen_before, *foreground;
  const float* error;
  float *increment, *product;
  __device__ void operator()(std::int64_t i) const {
    const int pixel = order[i], t = j.label(pixel);
    const double all = double(*foreground), before = double(seen_before[i]), now = before + (t == k ? 1 : 0);
    const double last = i == 0 ? 0.0 : 1 - (all - before) / (all + double(i) - before), jaccard = 1 - (all - now) / (all + double(i + 1) - now);
    const bool counts = t >= 0 && *foreground > 0;  // a class without pixels counts nowhere
    const float step = counts ? float(jaccard - last) : 0.0f;
    product[i] = counts ? fmaxf(error[pixel], 0.0f) * step : 0.0f;
    increment[std::int64_t(pixel) * j.classes + k] = t == k ? -step : step;
  }
};
struct sum_products {
  const float* x;
  __device__ void operator()(std::int64_t i, int, float (&s)[1]) const { s[0] += x[i]; }
};
struct lovasz_add {
  double *total, *present;
  const int* foreground;
  __device__ void operator()(int, int, const double (&s)[1]) const {
    if (*foreground > 0) *total += s[0], *present += 1;
  }
};
template <class T>
struct lovasz_gradient {
  loss_job<T> j;
  const float *log_sums, *increment;
  const double* present;
  const float* factor;
  T* dz;
  __device__ void operator()(std::int64_t i) const {
    const int t = j.label(i);
    const float scale = t >= 0 && *present > 0 ? float(double(*factor) / *present) : 0.0f;
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
/// Everything any loss keeps; the same walk gives the size and the places.
struct loss_space_layout {
  double* sums = nullptr;
  float *log_sums = nullptr, *reduce = nullptr, *p = nullptr, *increment = nullptr, *scalar = nullptr;
  std::uint32_t* keys = nullptr;
  int *values = nullptr, *hits = nullptr, *sort = nullptr, *count = nullptr;
  cross_entropy_result* result = nullptr;
  std::size_t bytes = 0;
  loss_space_layout(unsigned char* at, graph::loss_kind kind, const shape& s) {
    workspace_cutter cut(at);
    const std::size_t pixels = std::size_t(s.pixels()), classes = std::size_t(s.c);
    using graph::loss_kind;
    if (kind == loss_kind::cross_entropy) {
      reduce = cut.take<float>(cross_entropy_workspace()), result = cut.take<cross_entropy_result>(1);
    } else {
      sums = cut.take<double>(5 * classes + 4), scalar = cut.take<float>(4);
      const std::size_t one = channel_sums_workspace<3>(s.pixels(), 1), all = channel_sums_workspace<3>(s.pixels(), s.c);
      reduce = cut.take<float>(one > all ? one : all);
      const bool sorts = kind == loss_kind::ohem || kind == loss_kind::lovasz;
      if (kind != loss_kind::focal && kind != loss_kind::binary_cross_entropy) log_sums = cut.take<float>(pixels);
      if (sorts) {
        p = cut.take<float>(2 * pixels), keys = cut.take<std::uint32_t>(pixels), values = cut.take<int>(pixels);
        sort = cut.take<int>(sort_workspace(s.pixels())), count = cut.take<int>(1);
      }
      if (kind == loss_kind::lovasz) hits = cut.take<int>(pixels), increment = cut.take<float>(pixels * classes);
    }
    bytes = cut.used();
  }
};

/// Losses and options of losses that only the CPU has: refused, never left out silently.
inline void refuse_loss(const graph::attributes& a, bool weighted) {
  using graph::loss_kind;
  const char* what = nullptr;
  switch (loss_kind(a.mode)) {
    case loss_kind::cross_entropy:
      if (a.alpha != 0) what = "label smoothing";
      break;
    case loss_kind::ohem:
      if (a.beta != 0) what = "a least share of hard pixels";
      break;
    case loss_kind::lovasz:
      if (a.flag || a.flag2 || weighted) what = "Lovasz-softmax image by image, over absent classes or with class weights";
      break;
    case loss_kind::dice:
    case loss_kind::jaccard:
    case loss_kind::tversky:
      if (a.flag || weighted) what = "an overlap loss with class weights or over present classes only";
      break;
    case loss_kind::balanced_binary:
      what = "balanced binary cross entropy";
      break;
    case loss_kind::squared_error:
      what = "the squared error";
      break;
    case loss_kind::focal:
    case loss_kind::binary_cross_entropy:
      break;
  }
  if (what) throw usage_error(std::string("cuda: ") + what + " has no kernel; train on the CPU or choose another loss");
}

/// value and dz: one of them null. factor: the gradient that reaches the loss, in device memory.
template <class T>
void any_loss(const call<T>& c, const loss_job<T>& j, const shape& s, float* value, T* dz, const float* factor) {
  using graph::loss_kind;
  const loss_kind kind = loss_kind(c.at().mode);
  const stream_t stream = c.stream();
  const loss_space_layout w(c.workspace, kind, s);
  const graph::attributes& a = c.at();
  refuse_loss(a, j.weights != nullptr);
  switch (kind) {
    case loss_kind::balanced_binary:
    case loss_kind::squared_error:
      break;  // refused
    case loss_kind::cross_entropy: {
      cross_entropy_target<std::int32_t> t{j.target, j.weights, j.ignore};
      cross_entropy<T>(stream, j.logits, t, dz, nullptr, 1, j.pixels, j.classes, w.reduce, w.result, factor);
      if (value) copy_values(stream, static_cast<const float*>(&w.result->loss), value, 1);
      return;
    }
    case loss_kind::binary_cross_entropy:
      channel_sums<2>(stream, "binary cross entropy", binary_sums<T>{j}, store_doubles<2>{w.sums, 1}, j.pixels, 1, w.reduce);
      if (value) each(stream, "loss", 1, divide_sums{w.sums, value});
      if (dz) each(stream, "binary cross entropy gradient", j.pixels, binary_gradient<T>{j, w.sums, factor, dz});
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
      each(stream, "ohem threshold", 1, ohem_threshold{w.sums + 2, w.p, w.values, float(a.alpha), a.count, w.scalar});
      channel_sums<2>(stream, "ohem", ohem_sums<T>{j, w.p, w.scalar}, store_doubles<2>{w.sums, 1}, j.pixels, 1, w.reduce);
      if (value) each(stream, "loss", 1, divide_sums{w.sums, value});
      if (dz) each(stream, "ohem gradient", j.pixels, ohem_gradient<T>{j, w.p, w.scalar, w.sums, factor, dz});
      return;
    }
    case loss_kind::lovasz: {
      each(stream, "log sums", j.pixels, store_log_sum<T>{j, w.log_sums});
      set_bytes(stream, w.sums, 0, 2 * sizeof(double));  // total, classes present
      for (int k = 0; k < j.classes; ++k) {
        each(stream, "lovasz errors", j.pixels, lovasz_errors<T>{j, w.log_sums, k, w.p, w.keys, w.values});
        sort_pairs(stream, w.keys, w.values, j.pixels, w.sort);
        each(stream, "lovasz foreground", j.pixels, lovasz_foreground<T>{j, k, w.values, w.hits});
        prefix_sums(stream, w.hits, w.hits, j.pixels, w.sort, w.count);
        each(stream, "lovasz increments", j.pixels, lovasz_increments<T>{j, k, w.values, w.hits, w.count, w.p, w.increment, w.p + j.pixels});
        channel_sums<1>(stream, "lovasz", sum_products{w.p + j.pixels}, lovasz_add{w.sums, w.sums + 1, w.count}, j.pixels, 1, w.reduce);
      }
      if (value) each(stream, "loss", 1, divide_sums{w.sums, value});
      if (dz) each(stream, "lovasz gradient", j.pixels, lovasz_gradient<T>{j, w.log_sums, w.increment, w.sums + 1, factor, dz});
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
      each(stream, "overlap slopes", 1, overlap_finish{w.sums, o, j.classes, w.sums + 3 * j.classes, value});
      if (dz) each(stream, "overlap gradient", j.pixels, overlap_gradient<T>{j, w.log_sums, w.sums + 3 * j.classes, factor, dz});
      return;
    }
  }
  throw usage_error("cuda: loss number " + std::to_string(int(kind)) + " has no kernel; train on the CPU or choose another loss");
}

inline std::size_t loss_space(const graph::graph& g, int id, const shape* s, const executor_context&) {
  return loss_space_layout(nullptr, graph::loss_kind(g.nodes[id].at.mode), s[g.input_of(id, 0)]).bytes;
}
inline std::size_t loss_grad_space(const graph::graph& g, int id, const shape* s, const executor_context&) {
  return loss_space_layout(nullptr, graph::loss_kind(g.nodes[id].at.mode), s[id]).bytes;
}
template <class T>
void loss(const call<T>& c) {
  any_loss<T>(c, loss_job_of(c, 0), c.in_extent(0), c.wide_out(), nullptr, nullptr);
}
/// (d loss, logits, target [, weights]) -> d logits.
template <class T>
void loss_grad(const call<T>& c) {
  any_loss<T>(c, loss_job_of(c, 1), c.extent(), nullptr, c.out(), c.wide(0));
}

}  // namespace RSSEG_BACKEND_NS
}  // namespace rsseg::cuda
