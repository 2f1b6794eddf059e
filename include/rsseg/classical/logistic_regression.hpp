// SPDX-License-Identifier: MIT
// Multinomial logistic regression with an L2 penalty, trained to convergence by L-BFGS (Liu and Nocedal, Math. Programming 45, 1989):
//   mean over samples of -ln softmax(W x + b)_y + l2 / 2 |W|^2      (b is free)
// The problem is convex, so the answer does not depend on the start. It is solved in centred and scaled features, where it is well
// conditioned, with the penalty of the original ones. Sums run in double and in fixed chunks: the same bits for any number of threads.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "rsseg/core/chunks.hpp"
#include "rsseg/core/error.hpp"

namespace rsseg::classical {

struct logistic_options {
  double l2 = 1e-4;
  int iterations = 1000;    ///< at most
  double tolerance = 1e-6;  ///< largest element of the gradient at which it ends
};

struct logistic_fit {
  std::vector<double> weight;  ///< (classes, features)
  std::vector<double> bias;    ///< (classes)
  double loss = 0;             ///< with the penalty
  double gradient = 0;         ///< largest element
  int iterations = 0;
  bool converged = false;  ///< the gradient is within the tolerance, or no step lowers the loss any more
};

namespace detail {

/// The objective in scaled features; w is (classes, features + 1), the last column the bias.
class logistic_problem {
 public:
  logistic_problem(const float* x, const std::int32_t* y, std::int64_t n, int features, int classes, double l2)
      : x_(x), y_(y), n_(n), d_(features), k_(classes), l2_(l2), mean_(std::size_t(features)), scale_(std::size_t(features)) {
    std::vector<double> square(mean_.size());
    for (std::int64_t i = 0; i < n; ++i)
      for (int f = 0; f < features; ++f) mean_[std::size_t(f)] += double(x[i * features + f]) / double(n);
    for (std::int64_t i = 0; i < n; ++i)
      for (int f = 0; f < features; ++f) {
        const double v = double(x[i * features + f]) - mean_[std::size_t(f)];
        square[std::size_t(f)] += v * v / double(n);
      }
    for (std::size_t f = 0; f < square.size(); ++f) scale_[f] = square[f] > 1e-20 ? 1 / std::sqrt(square[f]) : 0;  // 0: a constant feature
  }
  std::size_t size() const { return std::size_t(k_) * std::size_t(d_ + 1); }

  /// Value and gradient.
  double operator()(const std::vector<double>& w, std::vector<double>& g) const {
    constexpr std::int64_t chunk = 512;
    const std::int64_t chunks = chunk_count(n_, chunk), width = std::int64_t(size()) + 1;
    std::vector<double> sums(std::size_t(chunks * width), 0.0);
    for_chunks(n_, chunk, [&](std::int64_t begin, std::int64_t end, std::int64_t index) {
      double* sum = sums.data() + index * width;
      std::vector<double> row(std::size_t(d_ + 1), 1.0), p(static_cast<std::size_t>(k_));
      for (std::int64_t i = begin; i < end; ++i) {
        for (int f = 0; f < d_; ++f) row[std::size_t(f)] = (double(x_[i * d_ + f]) - mean_[std::size_t(f)]) * scale_[std::size_t(f)];
        double top = -1e300, total = 0;
        for (int k = 0; k < k_; ++k) {
          const double* wk = w.data() + std::size_t(k) * std::size_t(d_ + 1);
          double z = 0;
          for (int f = 0; f <= d_; ++f) z += wk[f] * row[std::size_t(f)];
          p[std::size_t(k)] = z, top = std::max(top, z);
        }
        const double own = p[std::size_t(y_[i])] - top;
        for (double& v : p) total += v = std::exp(v - top);
        sum[width - 1] += (std::log(total) - own) / double(n_);
        for (int k = 0; k < k_; ++k) {
          const double slope = (p[std::size_t(k)] / total - (k == y_[i])) / double(n_);
          double* gk = sum + std::size_t(k) * std::size_t(d_ + 1);
          for (int f = 0; f <= d_; ++f) gk[f] += slope * row[std::size_t(f)];
        }
      }
    });
    fold_chunks(sums.data(), chunks, width);
    double value = sums[std::size_t(width - 1)];
    g.assign(sums.begin(), sums.begin() + (width - 1));
    for (int k = 0; k < k_; ++k)
      for (int f = 0; f < d_; ++f) {
        const std::size_t at = std::size_t(k) * std::size_t(d_ + 1) + std::size_t(f);
        const double s = scale_[std::size_t(f)], original = w[at] * s;
        value += l2_ / 2 * original * original;
        g[at] = s > 0 ? g[at] + l2_ * original * s : 0;
      }
    return value;
  }
  /// Back to the original features.
  void unscale(const std::vector<double>& w, logistic_fit& fit) const {
    fit.weight.assign(std::size_t(k_) * std::size_t(d_), 0.0), fit.bias.assign(std::size_t(k_), 0.0);
    for (int k = 0; k < k_; ++k) {
      const double* wk = w.data() + std::size_t(k) * std::size_t(d_ + 1);
      double b = wk[d_];
      for (int f = 0; f < d_; ++f) {
        const double v = wk[f] * scale_[std::size_t(f)];
        fit.weight[std::size_t(k) * std::size_t(d_) + std::size_t(f)] = v;
        b -= v * mean_[std::size_t(f)];
      }
      fit.bias[std::size_t(k)] = b;
    }
  }

 private:
  const float* x_;
  const std::int32_t* y_;
  std::int64_t n_;
  int d_, k_;
  double l2_;
  std::vector<double> mean_, scale_;
};

inline double dot(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}
inline double largest(const std::vector<double>& v) {
  double m = 0;
  for (const double x : v) m = std::max(m, std::abs(x));
  return m;
}

}  // namespace detail

/// x: (n, features), y: n labels in [0, classes). Throws usage_error without samples or for a label outside.
inline logistic_fit fit_logistic(const float* x, const std::int32_t* y, std::int64_t n, int features, int classes, const logistic_options& o = {}) {
  if (n < 1 || features < 1 || classes < 2) throw usage_error("logistic regression: expected samples, features and at least two classes");
  for (std::int64_t i = 0; i < n; ++i)
    if (y[i] < 0 || y[i] >= classes)
      throw usage_error("logistic regression: label " + std::to_string(y[i]) + " of sample " + std::to_string(i) + " is no class below " +
                        std::to_string(classes));
  const detail::logistic_problem f(x, y, n, features, classes, o.l2);
  constexpr std::size_t memory = 12;
  std::vector<double> w(f.size(), 0.0), g, next, next_g, direction;
  std::vector<std::vector<double>> s, t;  // steps and changes of the gradient, newest last
  logistic_fit fit;
  fit.loss = f(w, g);
  while (fit.iterations < o.iterations && !(fit.converged = detail::largest(g) <= o.tolerance)) {
    direction = g;
    std::vector<double> alpha(s.size());
    for (std::size_t j = s.size(); j-- > 0;) {
      alpha[j] = detail::dot(s[j], direction) / detail::dot(s[j], t[j]);
      for (std::size_t i = 0; i < w.size(); ++i) direction[i] -= alpha[j] * t[j][i];
    }
    const double first = s.empty() ? 1 : detail::dot(s.back(), t.back()) / detail::dot(t.back(), t.back());
    for (double& v : direction) v *= first;
    for (std::size_t j = 0; j < s.size(); ++j) {
      const double beta = detail::dot(t[j], direction) / detail::dot(s[j], t[j]);
      for (std::size_t i = 0; i < w.size(); ++i) direction[i] += (alpha[j] - beta) * s[j][i];
    }
    const double slope = -detail::dot(g, direction);
    double step = 1, value = 0;
    bool lower = false;
    for (int halvings = 0; halvings < 40 && !lower; ++halvings, step /= 2) {
      next = w;
      for (std::size_t i = 0; i < w.size(); ++i) next[i] -= step * direction[i];
      value = f(next, next_g);
      lower = value <= fit.loss + 1e-4 * step * slope && value < fit.loss;
    }
    if (!lower) {  // the limit of double precision, or a direction gone stale
      fit.converged = s.empty();
      if (fit.converged) break;
      s.clear(), t.clear();
      continue;
    }
    std::vector<double> ds(w.size()), dg(w.size());
    for (std::size_t i = 0; i < w.size(); ++i) ds[i] = next[i] - w[i], dg[i] = next_g[i] - g[i];
    if (detail::dot(ds, dg) > 1e-14 * detail::dot(dg, dg)) {
      s.push_back(std::move(ds)), t.push_back(std::move(dg));
      if (s.size() > memory) s.erase(s.begin()), t.erase(t.begin());
    }
    w.swap(next), g.swap(next_g), fit.loss = value;
    ++fit.iterations;
  }
  fit.gradient = detail::largest(g);
  f.unscale(w, fit);
  return fit;
}

}  // namespace rsseg::classical
