// SPDX-License-Identifier: MIT
// Optimisers over a parameter store: SGD with momentum and Nesterov (Sutskever et al. 2013), Adam (Kingma and Ba 2015), AdamW
// (Loshchilov and Hutter 2019), RMSprop; update rules as PyTorch defines them. Per-tensor learning-rate and decay factors,
// clipping of the global gradient norm, exponential moving average of the weights.
// Element-wise over fixed chunks, so the result does not depend on the number of threads.
#pragma once
#include <cmath>
#include <string>
#include <vector>

#include "rsseg/core/parallel.hpp"
#include "rsseg/plan/parameter_store.hpp"

namespace rsseg::train {

enum class optimizer_kind { sgd, adam, adamw, rmsprop };

inline optimizer_kind optimizer_named(const std::string& name) {
  if (name == "sgd") return optimizer_kind::sgd;
  if (name == "adam") return optimizer_kind::adam;
  if (name == "adamw") return optimizer_kind::adamw;
  if (name == "rmsprop") return optimizer_kind::rmsprop;
  throw usage_error("optimizer \"" + name + "\": unknown; use sgd, adam, adamw or rmsprop");
}

struct optimizer_options {
  optimizer_kind kind = optimizer_kind::sgd;
  double momentum = 0.9;  ///< sgd, rmsprop; beta1 of Adam
  double beta2 = 0.999;   ///< of Adam; alpha of rmsprop is 0.99
  double epsilon = 1e-8;
  double weight_decay = 0;  ///< L2 in sgd, adam, rmsprop; decoupled in adamw
  bool nesterov = false;
  bool decay_norm_and_bias = true;  ///< false: tensors of one dimension are not decayed
  double clip_norm = 0;             ///< > 0: gradients are scaled so that their global L2 norm is at most this
  double ema = 0;                   ///< > 0: decay of the moving average of the weights, e.g. 0.999
};

template <class T>
class optimizer {
 public:
  optimizer(parameter_store<T>& store, const optimizer_options& options) : store_(&store), options_(options) {
    const std::size_t n = store.values().size();
    rate_.assign(store.entries().size(), 1.0);
    decay_.assign(store.entries().size(), 1.0);
    for (std::size_t e = 0; e < store.entries().size(); ++e)
      if (!options.decay_norm_and_bias && store.entries()[e].at.rank < 2) decay_[e] = 0;
    first_.assign(n, T(0));
    if (options.kind != optimizer_kind::sgd) second_.assign(n, T(0));
    if (options.ema > 0) average_ = store.values();
  }

  const optimizer_options& options() const { return options_; }
  /// Factor of the learning rate for every tensor for which choose(name) is true.
  template <class Choose>
  void scale_rate(double factor, const Choose& choose) {
    for (std::size_t e = 0; e < rate_.size(); ++e)
      if (choose(store_->entries()[e].name)) rate_[e] *= factor;
  }

  /// Factors of learning rate and decay, per tensor of the store.
  const std::vector<double>& rates() const { return rate_; }
  const std::vector<double>& decays() const { return decay_; }

  /// L2 norm of the gradients of all trained tensors.
  double norm(const std::vector<T>& gradients) const {
    double sum = 0;
    for (const stored_tensor& t : store_->entries())
      if (t.trained)
        for (std::size_t i = t.offset; i < t.offset + t.size; ++i) sum += double(gradients[i]) * double(gradients[i]);
    return std::sqrt(sum);
  }

  /// One update with learning rate lr. gradients: laid out like the store's values, multiplied by gradient_scale first.
  void step(const std::vector<T>& gradients, double lr, double gradient_scale = 1) {
    ++steps_;
    double scale = gradient_scale;
    if (options_.clip_norm > 0) {
      const double n = norm(gradients) * gradient_scale;
      if (n > options_.clip_norm) scale *= options_.clip_norm / (n + 1e-6);
    }
    const double beta1 = options_.momentum, beta2 = options_.kind == optimizer_kind::rmsprop ? 0.99 : options_.beta2;
    const double correct1 = 1 - std::pow(beta1, double(steps_)), correct2 = 1 - std::pow(beta2, double(steps_));
    T* const w = store_->values().data();
    const T* const grad = gradients.data();
    const auto& entries = store_->entries();
    parallel_for(std::int64_t(entries.size()), [&](std::int64_t k) {
      const stored_tensor& t = entries[std::size_t(k)];
      if (!t.trained) return;
      const T rate = T(lr * rate_[std::size_t(k)]), decay = T(options_.weight_decay * decay_[std::size_t(k)]);
      const T b1 = T(beta1), b2 = T(beta2), eps = T(options_.epsilon), s = T(scale);
      T* m = first_.data();
      T* v = second_.data();
      const std::size_t end = t.offset + t.size;
      switch (options_.kind) {
        case optimizer_kind::sgd:
          for (std::size_t i = t.offset; i < end; ++i) {
            T g = grad[i] * s + decay * w[i];
            m[i] = steps_ == 1 ? g : b1 * m[i] + g;
            if (b1 > T(0)) g = options_.nesterov ? g + b1 * m[i] : m[i];
            w[i] -= rate * g;
          }
          break;
        case optimizer_kind::rmsprop:
          for (std::size_t i = t.offset; i < end; ++i) {
            const T g = grad[i] * s + decay * w[i];
            v[i] = b2 * v[i] + (T(1) - b2) * g * g;
            m[i] = b1 * m[i] + g / (std::sqrt(v[i]) + eps);
            w[i] -= rate * m[i];
          }
          break;
        case optimizer_kind::adam:
        case optimizer_kind::adamw: {
          const bool decoupled = options_.kind == optimizer_kind::adamw;
          const T size = rate / T(correct1), root = T(1) / std::sqrt(T(correct2));
          for (std::size_t i = t.offset; i < end; ++i) {
            const T g = grad[i] * s + (decoupled ? T(0) : decay * w[i]);
            if (decoupled) w[i] -= rate * decay * w[i];
            m[i] = b1 * m[i] + (T(1) - b1) * g;
            v[i] = b2 * v[i] + (T(1) - b2) * g * g;
            w[i] -= size * m[i] / (std::sqrt(v[i]) * root + eps);
          }
          break;
        }
      }
    });
    if (!average_.empty()) {
      const T d = T(std::min(options_.ema, (1.0 + double(steps_)) / (10.0 + double(steps_))));  // a short memory at first
      const std::vector<T>& now = store_->values();
      for (std::size_t i = 0; i < average_.size(); ++i) average_[i] = d * average_[i] + (T(1) - d) * now[i];
    }
    store_->touch();
  }

  /// State to save: steps done, first and second moments, averaged weights (empty if not asked for).
  std::uint64_t& steps() { return steps_; }
  std::vector<T>& first() { return first_; }
  std::vector<T>& second() { return second_; }
  std::vector<T>& average() { return average_; }

 private:
  parameter_store<T>* store_;
  optimizer_options options_;
  std::vector<double> rate_, decay_;
  std::vector<T> first_, second_, average_;
  std::uint64_t steps_ = 0;
};

}  // namespace rsseg::train
