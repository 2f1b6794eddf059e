// SPDX-License-Identifier: MIT
// CRF as RNN: Zheng et al., "Conditional Random Fields as Recurrent Neural Networks", ICCV 2015. Mean field steps as a layer whose label
// compatibilities are learned: cur_{t+1} = C (Ws Ks q_t + Wb Kb q_t) + z, q_t = softmax(cur_t), cur_0 = z. Returns the last cur (logits).
// z, out (h, w, L) of one image; Ws, Wb, C are L x L, row major (row: label receiving). Loop over the images of a batch.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "rsseg/core/chunks.hpp"
#include "rsseg/core/error.hpp"
#include "rsseg/cpu/crf/crf_kernel.hpp"
#include "rsseg/cpu/crf/softmax.hpp"

namespace rsseg::cpu::crf {

struct crf_rnn_options {
  double alpha = 160;  ///< bilateral kernel, position (pixels)
  double beta = 3;     ///< bilateral kernel, colour (0..255)
  double gamma = 3;    ///< spatial kernel, position (pixels)
  int iterations = 5;  ///< 5 in training, 10 in testing
  crf_method method = crf_method::lattice;
};

/// Both kernels of one image, each divided by its row sums, and the states kept for the backward pass. Maps are T; the state is double, and
/// the L x L parameters may be (type P): unrolled steps amplify rounding, and near a change of labels a parameter like 5.1 rounded to
/// single precision moves gradients by 1e-5 of their size.
template <class T>
class crf_rnn {
 public:
  /// guide: (h, w, guide_channels), RGB in 0..255, not differentiated. Throws usage_error for wrong sizes or options.
  crf_rnn(const T* guide, int h, int w, int guide_channels, int labels, const crf_rnn_options& options)
      : pixels_(std::int64_t(h) * w),
        labels_(labels),
        steps_(options.iterations),
        spatial_(h, w, static_cast<const double*>(nullptr), 0, {options.gamma, options.gamma, 0, crf_normalization::after, options.method}),
        bilateral_(h, w, widened(guide, std::int64_t(h) * w * guide_channels).data(), guide_channels,
                   {options.alpha, options.alpha, options.beta, crf_normalization::after, options.method}) {
    if (h < 1 || w < 1 || labels < 1 || steps_ < 1) throw usage_error("CRF-RNN: expected a non-empty image, at least one label and one iteration");
    work_.resize(std::max(spatial_.workspace(labels), bilateral_.workspace(labels)));
    for (auto* buffer : {&s_, &b_, &ds_, &db_, &grad_, &current_}) buffer->resize(std::size_t(pixels_) * labels);
    q_.resize(std::size_t(steps_) * pixels_ * labels);
  }

  template <class P>
  void forward(const T* z, const P* ws, const P* wb, const P* c, T* out) {
    const std::int64_t values = pixels_ * labels_;
    for (int t = 0; t < steps_; ++t) {
      double* q = q_.data() + t * values;
      if (t == 0) std::copy(z, z + values, current_.begin());
      softmax(current_.data(), pixels_, labels_, q);
      filter(q);
      for_chunks(pixels_, 2048, [&](std::int64_t begin, std::int64_t end, std::int64_t) {
        std::vector<double> mix(static_cast<std::size_t>(labels_));
        for (std::int64_t i = begin; i < end; ++i) {
          mixed(i, ws, wb, mix.data());
          for (int k = 0; k < labels_; ++k) {
            double sum = z[i * labels_ + k];
            for (int l = 0; l < labels_; ++l) sum += double(c[k * labels_ + l]) * mix[std::size_t(l)];
            current_[std::size_t(i * labels_ + k)] = sum;
          }
        }
      });
    }
    for (std::int64_t i = 0; i < values; ++i) out[i] = T(current_[std::size_t(i)]);
  }

  /// After forward() with the same parameters: writes dz, dws, dwb, dc for the upstream gradient dout.
  template <class P>
  void backward(const P* ws, const P* wb, const P* c, const T* dout, T* dz, P* dws, P* dwb, P* dc) {
    const std::int64_t values = pixels_ * labels_, chunk = 2048, chunks = chunk_count(pixels_, chunk), square = std::int64_t(labels_) * labels_;
    std::vector<double> total(std::size_t(3 * square), 0.0), partial(std::size_t(3 * square * chunks));
    std::copy(dout, dout + values, grad_.begin());
    std::fill(current_.begin(), current_.end(), 0.0);  // now the sum of the gradients that reach z
    for (int t = steps_ - 1; t >= 0; --t) {
      const double* q = q_.data() + t * values;
      filter(q);
      std::fill(partial.begin(), partial.end(), 0.0);
      for_chunks(pixels_, chunk, [&](std::int64_t begin, std::int64_t end, std::int64_t index) {
        std::vector<double> mix(static_cast<std::size_t>(labels_)), dmix(static_cast<std::size_t>(labels_));
        double *pws = partial.data() + 3 * square * index, *pwb = pws + square, *pc = pwb + square;
        for (std::int64_t i = begin; i < end; ++i) {
          mixed(i, ws, wb, mix.data());
          const double *g = grad_.data() + i * labels_, *s = s_.data() + i * labels_, *b = b_.data() + i * labels_;
          for (int l = 0; l < labels_; ++l) {
            double sum = 0;
            for (int k = 0; k < labels_; ++k) {
              sum += double(c[k * labels_ + l]) * g[k];
              pc[k * labels_ + l] += g[k] * mix[std::size_t(l)];
            }
            dmix[std::size_t(l)] = sum;
          }
          for (int l = 0; l < labels_; ++l) {
            double to_s = 0, to_b = 0;
            for (int k = 0; k < labels_; ++k) {
              pws[k * labels_ + l] += dmix[std::size_t(k)] * s[l];
              pwb[k * labels_ + l] += dmix[std::size_t(k)] * b[l];
              to_s += double(ws[k * labels_ + l]) * dmix[std::size_t(k)];
              to_b += double(wb[k * labels_ + l]) * dmix[std::size_t(k)];
            }
            ds_[std::size_t(i * labels_ + l)] = to_s, db_[std::size_t(i * labels_ + l)] = to_b;
          }
          for (int k = 0; k < labels_; ++k) current_[std::size_t(i * labels_ + k)] += g[k];
        }
      });
      fold_chunks(partial.data(), chunks, 3 * square);
      for (std::int64_t k = 0; k < 3 * square; ++k) total[std::size_t(k)] += partial[std::size_t(k)];
      spatial_.apply(ds_.data(), ds_.data(), labels_, work_.data(), true);
      bilateral_.apply(db_.data(), db_.data(), labels_, work_.data(), true);
      for (std::int64_t i = 0; i < values; ++i) ds_[std::size_t(i)] += db_[std::size_t(i)];
      softmax_backward(q, ds_.data(), pixels_, labels_, grad_.data());
    }
    for (std::int64_t i = 0; i < values; ++i) dz[i] = T(current_[std::size_t(i)] + grad_[std::size_t(i)]);
    for (std::int64_t k = 0; k < square; ++k)
      dws[k] = P(total[std::size_t(k)]), dwb[k] = P(total[std::size_t(square + k)]), dc[k] = P(total[std::size_t(2 * square + k)]);
  }

 private:
  static std::vector<double> widened(const T* values, std::int64_t count) { return {values, values + count}; }

  void filter(const double* q) {
    spatial_.apply(q, s_.data(), labels_, work_.data());
    bilateral_.apply(q, b_.data(), labels_, work_.data());
  }
  /// mix = Ws s + Wb b at pixel i.
  template <class P>
  void mixed(std::int64_t i, const P* ws, const P* wb, double* mix) const {
    const double *s = s_.data() + i * labels_, *b = b_.data() + i * labels_;
    for (int k = 0; k < labels_; ++k) {
      double sum = 0;
      for (int l = 0; l < labels_; ++l) sum += double(ws[k * labels_ + l]) * s[l] + double(wb[k * labels_ + l]) * b[l];
      mix[k] = sum;
    }
  }

  std::int64_t pixels_;
  int labels_, steps_;
  crf_kernel<double> spatial_, bilateral_;
  std::vector<double> q_, s_, b_, ds_, db_, grad_, current_, work_;
};

}  // namespace rsseg::cpu::crf
