// SPDX-License-Identifier: MIT
// Batch, group and L2 normalisation (graph/ops/norm.hpp has the formulas' sources). Statistics are tensors of two rows: mean, variance.
// With M the pixels per channel (batch: N*H*W; group: H*W*C/G), xhat = (x - mean) / sqrt(var + eps):
//   dx = gamma/sqrt(var+eps) * (dy - sum(dy)/M - xhat * sum(dy*xhat)/M)
// which per element is a*dy + b*(x - mean) + c with a, b, c per channel: the kernels first make these rows, then pass over the pixels once.
#pragma once
#include <cmath>

#include "rsseg/cpu/call.hpp"
#include "rsseg/cpu/columns.hpp"

namespace rsseg::cpu {

namespace detail {
/// Elements between the pixels of the tensors that a loop passes over.
struct pitches {
  std::int64_t a, b, c;
};
/// Calls f(offset of the element in each tensor, image * lane_count + lane) for every element.
template <class T, class F>
inline void per_channel(int images, std::int64_t rows, int channels, const pitches& pitch, const F& f) {
  const bool dense = pitch.a == channels && pitch.b == channels && pitch.c == channels;
  // Vector rows: several pixels where these lie side by side, else one. To an element that is the same.
  const std::int64_t lanes = lane_count(channels), length = dense ? lanes : channels, size = rows * channels;
  const std::int64_t vectors = (size + length - 1) / length, each = items_per_chunk(length), chunks = (vectors + each - 1) / each;
  const pitches step = dense ? pitches{lanes, lanes, lanes} : pitch, first{rows * pitch.a, rows * pitch.b, rows * pitch.c};
  sweep<T>(images * chunks, 1, [=](std::int64_t begin, std::int64_t end) RSSEG_INLINE_BODY {
    for (std::int64_t item = begin; item < end; ++item) {
      const std::int64_t image = item / chunks, from = item % chunks * each, to = from + each < vectors ? from + each : vectors;
      for (std::int64_t v = from; v < to; ++v) {
        const std::int64_t a = image * first.a + v * step.a, b = image * first.b + v * step.b, c = image * first.c + v * step.c;
        const std::int64_t n = size - v * length < length ? size - v * length : length, lane = image * lanes;
        RSSEG_INDEPENDENT
        for (std::int64_t j = 0; j < n; ++j) f(a + j, b + j, c + j, lane + j);
      }
    }
  });
}

/// Rows of per-channel numbers in the workspace, each repeated over the lanes.
template <class T>
struct lane_rows {
  T* data;
  std::int64_t size;  // images * lane_count
  int channels, lanes;
  T* row(int k) const { return data + k * size; }
  void set(int k, int image, int channel, double value) const {
    for (int j = channel; j < lanes; j += channels) row(k)[std::int64_t(image) * lanes + j] = T(value);
  }
};
template <class T>
inline lane_rows<T> lanes_at(void* memory, int images, int channels) {
  return {static_cast<T*>(memory), std::int64_t(images) * lane_count(channels), channels, lane_count(channels)};
}
template <class T>
constexpr std::size_t lane_bytes(int images, int channels, int rows) {
  return sizeof(T) * std::size_t(images) * std::size_t(lane_count(channels)) * std::size_t(rows);
}
inline column_cut batch_cut(const shape& s) { return cut_columns(1, s.pixels(), s.c); }
inline column_cut image_cut(const shape& s) { return cut_columns(s.n, std::int64_t(s.h) * s.w, s.c); }
}  // namespace detail

// --- statistics ------------------------------------------------------------------------------------------------------------------

inline std::size_t bn_stats_space(const graph::graph& g, int id, const shape* s) {
  return sizeof(double) * std::size_t(column_space(detail::batch_cut(s[g.input_of(id, 0)]), 2));
}
template <class T>
void bn_stats(const call<T>& c) {
  const shape s = c.in_extent(0);
  double* partial = static_cast<double*>(c.workspace);
  column_moments(detail::batch_cut(s), c.in(0), c.in_pitch(0), partial);
  for (int k = 0; k < s.c; ++k) c.out()[k] = T(partial[k]), c.out()[s.c + k] = T(partial[s.c + k] / double(s.pixels()));
}

template <class T>
void bn_pair(const call<T>& c) {
  const int channels = c.extent().c;
  for (int k = 0; k < channels; ++k) c.out()[k] = c.in(0)[k], c.out()[channels + k] = c.in(1)[k];
}

/// The running variance takes the unbiased estimate; with one value per channel, which has none, the biased one (0).
template <class T>
void bn_update(const call<T>& c) {
  const T* stats = c.in(0);
  T* mean = static_cast<T*>(c.pointers[c.input_id(1)]);
  T* var = static_cast<T*>(c.pointers[c.input_id(2)]);
  const int channels = c.in_extent(0).c;
  const double count = double(c.in_extent(3).pixels()), unbias = count > 1 ? count / (count - 1) : 1, m = c.at().beta;
  for (int k = 0; k < channels; ++k) {
    mean[k] = T((1 - m) * double(mean[k]) + m * double(stats[k]));
    var[k] = T((1 - m) * double(var[k]) + m * unbias * double(stats[channels + k]));
  }
}

inline std::size_t group_stats_space(const graph::graph& g, int id, const shape* s) {
  return sizeof(double) * std::size_t(column_space(detail::image_cut(s[g.input_of(id, 0)]), 2));
}
template <class T>
void group_stats(const call<T>& c) {
  const shape s = c.in_extent(0);
  const column_cut cut = detail::image_cut(s);
  double* partial = static_cast<double*>(c.workspace);
  column_moments(cut, c.in(0), c.in_pitch(0), partial);
  const int groups = c.at().count, each = s.c / groups;
  for (int n = 0; n < s.n; ++n)
    for (int g = 0; g < groups; ++g) {
      const double* mean = partial + column_at(cut, 2, n, 0) + g * each;
      const double* m2 = partial + column_at(cut, 2, n, 1) + g * each;
      double count = 0, m = 0, d = 0;
      for (int k = 0; k < each; ++k) join_moments(count, m, d, double(cut.rows), mean[k], m2[k]);
      T* to = c.out() + std::int64_t(n) * 2 * groups;
      to[g] = T(m), to[groups + g] = T(d / count);
    }
}

// --- application -----------------------------------------------------------------------------------------------------------------

template <class T>
std::size_t bn_apply_space(const graph::graph&, int id, const shape* s) {
  return detail::lane_bytes<T>(1, s[id].c, 3);
}
template <class T>
std::size_t group_apply_space(const graph::graph&, int id, const shape* s) {
  return detail::lane_bytes<T>(s[id].n, s[id].c, 3);
}
namespace detail {
/// y = (x - mean) * a + beta [, relu] with the statistics of `groups` groups of `images` images.
template <class T>
inline void normalise(const call<T>& c, int images, int groups) {
  const shape s = c.extent();
  const lane_rows<T> p = lanes_at<T>(c.workspace, images, s.c);
  const int each = s.c / groups;
  for (int n = 0; n < images; ++n)
    for (int k = 0; k < s.c; ++k) {
      const T* stats = c.in(1) + std::int64_t(n) * 2 * groups + k / each;
      p.set(0, n, k, double(stats[0]));
      p.set(1, n, k, double(c.in(2)[k]) / std::sqrt(double(stats[groups]) + c.at().alpha));
      p.set(2, n, k, double(c.in(3)[k]));
    }
  const T* x = c.in(0);
  T* y = c.out();
  const T *mean = p.row(0), *a = p.row(1), *beta = p.row(2);
  const pitches pitch{c.in_pitch(0), c.out_pitch(), c.out_pitch()};
  if (c.at().relu)
    per_channel<T>(images, s.pixels() / images, s.c, pitch, [=](std::int64_t i, std::int64_t o, std::int64_t, std::int64_t j) RSSEG_INLINE_BODY {
      const T v = (x[i] - mean[j]) * a[j] + beta[j];
      y[o] = v < 0 ? T(0) : v;
    });
  else
    per_channel<T>(images, s.pixels() / images, s.c, pitch,
                   [=](std::int64_t i, std::int64_t o, std::int64_t, std::int64_t j) RSSEG_INLINE_BODY { y[o] = (x[i] - mean[j]) * a[j] + beta[j]; });
}
}  // namespace detail
template <class T>
void bn_apply(const call<T>& c) {
  detail::normalise(c, 1, c.extent().c);
}
template <class T>
void group_apply(const call<T>& c) {
  detail::normalise(c, c.extent().n, c.in_extent(1).c);
}

// --- gradients -------------------------------------------------------------------------------------------------------------------

template <class T>
std::size_t bn_reduce_space(const graph::graph& g, int id, const shape* s) {
  const shape x = s[g.input_of(id, 1)];
  return sizeof(double) * std::size_t(column_space(detail::batch_cut(x), 2)) + detail::lane_bytes<T>(1, x.c, 2);
}
template <class T>
std::size_t group_reduce_space(const graph::graph& g, int id, const shape* s) {
  const shape x = s[g.input_of(id, 1)];
  // one image after the other, so that the terms need one image's statistics only
  return sizeof(double) * std::size_t(column_space(cut_columns(1, std::int64_t(x.h) * x.w, x.c), 2)) + detail::lane_bytes<T>(1, x.c, 2);
}
namespace detail {
template <class T>
inline void reduce_gradient(const call<T>& c, int images, int groups) {
  const shape s = c.in_extent(1);
  const column_cut cut = cut_columns(1, s.pixels() / images, s.c);
  double* partial = static_cast<double*>(c.workspace);
  const lane_rows<T> p = lanes_at<T>(partial + column_space(cut, 2), 1, s.c);
  const int each = s.c / groups;
  for (int n = 0; n < images; ++n) {
    for (int k = 0; k < s.c; ++k) {
      const T* stats = c.in(2) + std::int64_t(n) * 2 * groups + k / each;
      p.set(0, 0, k, double(stats[0]));
      p.set(1, 0, k, 1 / std::sqrt(double(stats[groups]) + c.at().alpha));
    }
    const T* dy = c.in(0) + n * cut.rows * c.in_pitch(0);
    const T* x = c.in(1) + n * cut.rows * c.in_pitch(1);
    const T *mean = p.row(0), *inverse = p.row(1);
    sum_columns<T, 2>(cut, partial, c.in_pitch(0), c.in_pitch(1), [=](std::int64_t i, std::int64_t k, int j, T* t) RSSEG_INLINE_BODY {
      t[0] = dy[i];
      t[1] = dy[i] * ((x[k] - mean[j]) * inverse[j]);
    });
    for (int k = 0; k < 2 * s.c; ++k) c.out()[std::int64_t(n) * 2 * s.c + k] = T(partial[k]);
  }
}
}  // namespace detail
template <class T>
void bn_reduce(const call<T>& c) {
  detail::reduce_gradient(c, 1, c.in_extent(1).c);
}
template <class T>
void group_reduce(const call<T>& c) {
  detail::reduce_gradient(c, c.in_extent(1).n, c.in_extent(2).c);
}

template <class T>
std::size_t bn_grad_space(const graph::graph&, int id, const shape* s) {
  return detail::lane_bytes<T>(1, s[id].c, 4);
}
template <class T>
std::size_t group_grad_space(const graph::graph&, int id, const shape* s) {
  return detail::lane_bytes<T>(s[id].n, s[id].c, 4);
}
namespace detail {
template <class T>
inline void input_gradient(const call<T>& c, const lane_rows<T>& p, int images, std::int64_t rows, int channels) {
  const T *dy = c.in(0), *x = c.in(1);
  T* dx = c.out();
  const T *mean = p.row(0), *a = p.row(1), *b = p.row(2), *d = p.row(3);
  per_channel<T>(images, rows, channels, {c.in_pitch(0), c.in_pitch(1), c.out_pitch()},
                 [=](std::int64_t i, std::int64_t k, std::int64_t o, std::int64_t j)
                     RSSEG_INLINE_BODY { dx[o] = a[j] * dy[i] + (b[j] * (x[k] - mean[j]) + d[j]); });
}
}  // namespace detail
/// (dy, x, stats, gamma [, reduced]); without `reduced`, or with flag, the statistics are constants.
template <class T>
void bn_grad(const call<T>& c) {
  const shape s = c.extent();
  const detail::lane_rows<T> p = detail::lanes_at<T>(c.workspace, 1, s.c);
  const bool constants = c.at().flag || c.inputs() < 5;
  const double count = double(s.pixels());
  for (int k = 0; k < s.c; ++k) {
    const double inverse = 1 / std::sqrt(double(c.in(2)[s.c + k]) + c.at().alpha), a = double(c.in(3)[k]) * inverse;
    p.set(0, 0, k, double(c.in(2)[k]));
    p.set(1, 0, k, a);
    p.set(2, 0, k, constants ? 0 : -a * inverse * double(c.in(4)[s.c + k]) / count);
    p.set(3, 0, k, constants ? 0 : -a * double(c.in(4)[k]) / count);
  }
  if (constants) {
    const T* dy = c.in(0);
    T* dx = c.out();
    const T* a = p.row(1);
    return detail::per_channel<T>(1, s.pixels(), s.c, {c.in_pitch(0), c.out_pitch(), c.out_pitch()},
                                  [=](std::int64_t i, std::int64_t o, std::int64_t, std::int64_t j) RSSEG_INLINE_BODY { dx[o] = a[j] * dy[i]; });
  }
  detail::input_gradient(c, p, 1, s.pixels(), s.c);
}
template <class T>
void group_grad(const call<T>& c) {
  const shape s = c.extent();
  const detail::lane_rows<T> p = detail::lanes_at<T>(c.workspace, s.n, s.c);
  const int groups = c.in_extent(2).c, each = s.c / groups;
  const double count = double(s.h) * s.w * each;
  for (int n = 0; n < s.n; ++n)
    for (int g = 0; g < groups; ++g) {
      const T* stats = c.in(2) + std::int64_t(n) * 2 * groups + g;
      const T* sums = c.in(4) + std::int64_t(n) * 2 * s.c;
      const double inverse = 1 / std::sqrt(double(stats[groups]) + c.at().alpha);
      double plain = 0, weighted = 0;  // sums of gamma * dy and gamma * dy * xhat over the group
      for (int k = g * each; k < (g + 1) * each; ++k)
        plain += double(c.in(3)[k]) * double(sums[k]), weighted += double(c.in(3)[k]) * double(sums[s.c + k]);
      for (int k = g * each; k < (g + 1) * each; ++k) {
        p.set(0, n, k, double(stats[0]));
        p.set(1, n, k, double(c.in(3)[k]) * inverse);
        p.set(2, n, k, -inverse * inverse * weighted / count);
        p.set(3, n, k, -inverse * plain / count);
      }
    }
  detail::input_gradient(c, p, s.n, std::int64_t(s.h) * s.w, s.c);
}

/// Row `begin` of the sums, added over the images.
template <class T>
void bn_row(const call<T>& c) {
  const shape s = c.in_extent(0);
  for (int k = 0; k < s.c; ++k) {
    double sum = 0;
    for (int n = 0; n < s.n; ++n) sum += double(c.in(0)[(std::int64_t(n) * 2 + c.at().begin) * s.c + k]);
    c.out()[k] = T(sum);
  }
}

// --- L2 over channels --------------------------------------------------------------------------------------------------------------

namespace detail {
/// Sum of a[i] * b[i] in eight interleaved sums, joined in double precision.
template <class T>
RSSEG_ALWAYS_INLINE double dot(const T* a, const T* b, int count) {
  T part[8] = {};
  int i = 0;
  for (; i + 8 <= count; i += 8)
    for (int k = 0; k < 8; ++k) part[k] += a[i + k] * b[i + k];
  double sum = 0;
  for (; i < count; ++i) sum += double(a[i]) * double(b[i]);
  for (int k = 0; k < 8; ++k) sum += double(part[k]);
  return sum;
}
}  // namespace detail

template <class T>
void l2_normalize(const call<T>& c) {
  const T* x = c.in(0);
  T* y = c.out();
  const int channels = c.extent().c;
  const std::int64_t xp = c.in_pitch(0), yp = c.out_pitch();
  const double eps = c.at().alpha;
  sweep<T>(c.extent().pixels(), items_per_chunk(channels), [=](std::int64_t b, std::int64_t e) RSSEG_INLINE_BODY {
    for (std::int64_t i = b; i < e; ++i) {
      const T* from = x + i * xp;
      const double norm = std::sqrt(detail::dot(from, from, channels));
      const T factor = T(1 / (norm > eps ? norm : eps));
      for (int k = 0; k < channels; ++k) y[i * yp + k] = from[k] * factor;
    }
  });
}
/// dx = (dy - y (y . dy)) / ||x||, or dy / eps where the norm is below eps.
template <class T>
void l2_normalize_grad(const call<T>& c) {
  const T *dy = c.in(0), *x = c.in(1);
  T* dx = c.out();
  const int channels = c.extent().c;
  const std::int64_t dyp = c.in_pitch(0), xp = c.in_pitch(1), dxp = c.out_pitch();
  const double eps = c.at().alpha;
  sweep<T>(c.extent().pixels(), items_per_chunk(channels), [=](std::int64_t b, std::int64_t e) RSSEG_INLINE_BODY {
    for (std::int64_t i = b; i < e; ++i) {
      const T* from = x + i * xp;
      const T* g = dy + i * dyp;
      const double norm = std::sqrt(detail::dot(from, from, channels));
      const T factor = T(1 / (norm > eps ? norm : eps));
      const T along = norm > eps ? T(detail::dot(from, g, channels) / (norm * norm)) : T(0);
      for (int k = 0; k < channels; ++k) dx[i * dxp + k] = (g[k] - from[k] * along) * factor;
    }
  });
}

}  // namespace rsseg::cpu
