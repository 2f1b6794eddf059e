// SPDX-License-Identifier: MIT
// The optimiser's step over a whole parameter store in one launch: SGD, Adam, AdamW, RMSprop as train/optimizer.hpp defines them, with factors per
// tensor, clipping of the global norm, moving average, and the loss scale of fp16. What changes from step to step lies in device memory.
#pragma once
#include "../elementwise.cuh"
#include "../reduce.cuh"
#include "call.cuh"
#include "rsseg/cuda/backend.hpp"

namespace rsseg::cuda {

/// Numbers of one optimiser step, written by the host as launch arguments, completed on the device.
struct update_numbers {
  float scale = 1;     ///< gradients are multiplied by this
  int skip = 0;        ///< an overflow: leave everything as it is
  int good_steps = 0;  ///< since the loss scale changed last
  int steps = 0;       ///< done; those that were skipped do not count
};

/// The tensors of a store lie at multiples of 16 values: piece i / 16 belongs to tensor[i / 16], or to none that is trained (-1).
struct update_tables {
  const int* tensor;
  const float *rate, *decay;
};

inline namespace RSSEG_BACKEND_NS {

struct squares_and_overflows {
  const float* g;
  const int* tensor;
  __device__ void operator()(std::int64_t i, int, float (&s)[2]) const {
    if (tensor[i / 16] < 0) return;
    const float v = g[i];
    if (v - v != 0.0f)
      s[1] += 1;
    else
      s[0] += v * v;
  }
};
/// Turns the sums into the step's numbers; adapts the loss scale.
struct finish_numbers {
  run_numbers* run;
  update_numbers* now;
  double gradient_scale, clip;
  bool adaptive;
  __device__ void operator()(int, int, const double (&s)[2]) const {
    const double unscale = gradient_scale / double(run->loss_scale);
    double scale = unscale;
    const double norm = sqrt(s[0]) * unscale;
    if (clip > 0 && norm > clip) scale *= clip / (norm + 1e-6);
    now->scale = float(scale);
    now->skip = adaptive && s[1] > 0;
    if (!now->skip) ++now->steps;
    if (!adaptive) return;
    if (now->skip) {
      run->loss_scale = fmaxf(run->loss_scale * 0.5f, 1.0f), now->good_steps = 0;
    } else if (++now->good_steps == 2000) {
      run->loss_scale = fminf(run->loss_scale * 2.0f, 16777216.0f), now->good_steps = 0;
    }
  }
};
/// Without clipping and loss scale there is nothing to sum.
struct plain_numbers {
  update_numbers* now;
  float scale;
  __device__ void operator()(std::int64_t) const { now->scale = scale, now->skip = 0, ++now->steps; }
};

struct update_values {
  update_options::rule kind;
  float *w, *first, *second, *average;
  const float* g;
  update_tables t;
  const update_numbers* now;
  float learning_rate, momentum, beta2, epsilon, weight_decay, ema;
  bool nesterov;
  __device__ void operator()(std::int64_t i) const {
    if (now->skip) return;
    const int tensor = t.tensor[i / 16];
    float value = w[i];
    if (tensor >= 0) {
      const float rate = learning_rate * t.rate[tensor], decay = weight_decay * t.decay[tensor], b1 = momentum, b2 = beta2;
      const bool decoupled = kind == update_options::rule::adamw;
      float d = g[i] * now->scale;
      if (!decoupled) d += decay * value;
      if (kind == update_options::rule::sgd) {
        const float v = first[i] = b1 * first[i] + d;
        if (b1 > 0) d = nesterov ? d + b1 * v : v;
        value -= rate * d;
      } else if (kind == update_options::rule::rmsprop) {
        const float v = second[i] = 0.99f * second[i] + (1 - 0.99f) * d * d;
        const float m = first[i] = b1 * first[i] + d / (sqrtf(v) + epsilon);
        value -= rate * m;
      } else {
        const double n = double(now->steps);
        const float correct1 = float(1 - pow(double(b1), n)), root = 1.0f / sqrtf(float(1 - pow(double(b2), n)));
        if (decoupled) value -= rate * decay * value;
        const float m = first[i] = b1 * first[i] + (1 - b1) * d, v = second[i] = b2 * second[i] + (1 - b2) * d * d;
        value -= rate / correct1 * m / (sqrtf(v) * root + epsilon);
      }
      w[i] = value;
    }
    if (average) {  // buffers are averaged, too, as on the CPU; a short memory at first
      const float n = float(now->steps), e = fminf(ema, (1 + n) / (10 + n));
      average[i] = e * average[i] + (1 - e) * value;
    }
  }
};
struct accumulate_values {
  const float* g;
  float* sum;
  bool first;
  __device__ void operator()(std::int64_t i) const { sum[i] = first ? g[i] : sum[i] + g[i]; }
};

}  // namespace RSSEG_BACKEND_NS
}  // namespace rsseg::cuda
