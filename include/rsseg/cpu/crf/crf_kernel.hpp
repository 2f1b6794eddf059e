// SPDX-License-Identifier: MIT
// The Gaussian kernels of a fully connected CRF (Kraehenbuehl, Koltun, NIPS 2011, eq. 3) with their normalisation: linear maps over the
// pixels of one image, exact (brute force, O(N^2), for teaching and tests) or by the permutohedral lattice.
#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "rsseg/core/chunks.hpp"
#include "rsseg/core/error.hpp"
#include "rsseg/cpu/crf/permutohedral.hpp"

namespace rsseg::cpu::crf {

/// With s_i = sum_j k(i, j), self term included: what k(i, j) is multiplied by.
enum class crf_normalization {
  symmetric,  ///< 1 / sqrt(s_i s_j), the default
  after,      ///< 1 / s_i
  before,     ///< 1 / s_j
  none,       ///< N / sum s: one factor for all
  raw         ///< 1: the kernel as it is, with whatever constant the filter has
};

enum class crf_method { lattice, brute_force };

/// k(i, j) = exp(-|f_i - f_j|^2 / 2) with f = (x / sigma_x, y / sigma_y) and, when sigma_guide > 0, the guide's channels / sigma_guide.
struct crf_kernel_options {
  double sigma_x = 3, sigma_y = 3;  ///< pixels
  double sigma_guide = 0;           ///< units of the guide image (0..255 usually); 0: no guide, the smoothness kernel
  crf_normalization normalization = crf_normalization::symmetric;
  crf_method method = crf_method::lattice;
};

/// out = D_out K D_in in over the pixels of an h x w image, any number of channels.
template <class T>
class crf_kernel {
 public:
  /// guide is (h, w, guide_channels), read only here; may be null when sigma_guide is 0. (x0, y0) are the coordinates of the first
  /// pixel, so that tiles of a scene share one lattice. Throws usage_error for sigmas that are not positive.
  crf_kernel(int h, int w, const T* guide, int guide_channels, const crf_kernel_options& options, int x0 = 0, int y0 = 0)
      : count_(std::int64_t(h) * w), d_(options.sigma_guide > 0 ? 2 + guide_channels : 2), options_(options) {
    if (!(options.sigma_x > 0) || !(options.sigma_y > 0) || !(options.sigma_guide >= 0))
      throw usage_error("dense CRF: sigmas must be positive (sigma_guide 0 for the spatial kernel)");
    if (d_ > 2 && !guide) throw usage_error("dense CRF: the bilateral kernel needs a guide image");
    const auto feature = [=, &options](std::int64_t i, double* f) {
      f[0] = double(i % w + x0) / options.sigma_x;
      f[1] = double(i / w + y0) / options.sigma_y;
      if (options.sigma_guide > 0)
        for (int c = 0; c < guide_channels; ++c) f[2 + c] = double(guide[std::size_t(i) * guide_channels + c]) / options.sigma_guide;
    };
    if (options.method == crf_method::lattice) {
      lattice_ = permutohedral_lattice<T>(count_, d_, feature);
    } else {
      features_.resize(std::size_t(count_) * d_);
      for (std::int64_t i = 0; i < count_; ++i) feature(i, features_.data() + i * d_);
    }
    normalize();
  }

  std::int64_t points() const { return count_; }
  std::size_t bytes() const { return lattice_.bytes() + features_.capacity() * 8 + norm_.capacity() * sizeof(T); }
  std::size_t workspace(int channels) const {
    return std::size_t(count_) * channels + (options_.method == crf_method::lattice ? lattice_.workspace(channels) : 0);
  }
  /// k(i, i) after normalisation, as the exact kernel has it; for messages that leave the pixel itself out.
  T self(std::int64_t i) const {
    if (options_.normalization == crf_normalization::symmetric) return norm_[std::size_t(i)] * norm_[std::size_t(i)];
    return norm_.empty() ? T(factor_) : norm_[std::size_t(i)];
  }

  /// in, out: (points, channels), in may be out; work: workspace(channels) values. transpose gives the exact transpose.
  void apply(const T* in, T* out, int channels, T* work, bool transpose = false) const {
    const auto way = options_.normalization;
    const bool sym = way == crf_normalization::symmetric;
    const bool scale_in = sym || (way == (transpose ? crf_normalization::after : crf_normalization::before));
    const bool scale_out = sym || (way == (transpose ? crf_normalization::before : crf_normalization::after));
    T* scaled = work;
    T* rest = work + std::size_t(count_) * channels;
    for_chunks(count_, 8192, [&](std::int64_t begin, std::int64_t end, std::int64_t) {
      for (std::int64_t i = begin; i < end; ++i)
        for (int k = 0; k < channels; ++k) scaled[i * channels + k] = in[i * channels + k] * (scale_in ? norm_[std::size_t(i)] : T(1));
    });
    plain(scaled, out, channels, rest, transpose);
    if (!scale_out && factor_ == 1) return;
    for_chunks(count_, 8192, [&](std::int64_t begin, std::int64_t end, std::int64_t) {
      for (std::int64_t i = begin; i < end; ++i)
        for (int k = 0; k < channels; ++k) out[i * channels + k] *= scale_out ? norm_[std::size_t(i)] : T(factor_);
    });
  }

 private:
  void plain(const T* in, T* out, int channels, T* work, bool transpose) const {
    if (options_.method == crf_method::lattice) return lattice_.filter(in, out, channels, work, transpose);
    for_chunks(count_, 16, [&](std::int64_t begin, std::int64_t end, std::int64_t) {
      std::vector<double> sum(std::size_t(channels), 0.0);
      for (std::int64_t i = begin; i < end; ++i) {
        for (double& s : sum) s = 0;
        for (std::int64_t j = 0; j < count_; ++j) {
          double distance = 0;
          for (int k = 0; k < d_; ++k) {
            const double delta = features_[std::size_t(i * d_ + k)] - features_[std::size_t(j * d_ + k)];
            distance += delta * delta;
          }
          const double weight = std::exp(-0.5 * distance);
          for (int k = 0; k < channels; ++k) sum[std::size_t(k)] += weight * in[j * channels + k];
        }
        for (int k = 0; k < channels; ++k) out[i * channels + k] = T(sum[std::size_t(k)]);
      }
    });
  }

  void normalize() {
    if (options_.normalization == crf_normalization::raw || count_ == 0) return;
    std::vector<T> work(options_.method == crf_method::lattice ? lattice_.workspace(1) : 0), ones(std::size_t(count_), T(1));
    norm_.resize(std::size_t(count_));
    plain(ones.data(), norm_.data(), 1, work.data(), false);
    if (options_.normalization == crf_normalization::none) {
      double sum = 0;
      for (const T s : norm_) sum += s;
      factor_ = double(count_) / sum;
      norm_ = {};
      return;
    }
    constexpr double tiny = 1e-20;  // s_i >= self term > 0; keeps the quotient finite should it underflow
    for (T& s : norm_) s = T(1 / (options_.normalization == crf_normalization::symmetric ? std::sqrt(double(s) + tiny) : double(s) + tiny));
  }

  std::int64_t count_;
  int d_;
  crf_kernel_options options_;
  permutohedral_lattice<T> lattice_;
  std::vector<double> features_;
  std::vector<T> norm_;
  double factor_ = 1;
};

}  // namespace rsseg::cpu::crf
