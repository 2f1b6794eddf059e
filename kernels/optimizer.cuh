// SPDX-License-Identifier: MIT
// SGD with momentum, and AdamW (Loshchilov and Hutter, ICLR 2019), on flat fp32 parameter ranges; gradient norm, unscaling and the overflow test of
// fp16 training. What changes from step to step (learning rate, bias corrections, loss scale) is read from device memory, so that a training step
// captured as a CUDA graph can be replayed. Floors: SGD 5 passes, AdamW 7 passes over the parameters (31 M: 207 / 290 us on an H100).
#pragma once
#include "common.cuh"

namespace rsseg::cuda {

/// Lives in device memory; the host writes it before each step.
struct optimizer_step {
  float learning_rate = 0;
  float gradient_scale = 1;                ///< gradients are multiplied by this (1 / loss scale, clipping)
  float correction1 = 1, correction2 = 1;  ///< Adam: 1 - beta1^t, 1 - beta2^t
  int skip = 0;                            ///< nonzero: leave everything as it is (overflow in fp16)
};

inline namespace RSSEG_BACKEND_NS {

RSSEG_KERNEL void sgd_kernel(float* w, const float* g, float* velocity, std::int64_t size, float momentum, float decay, bool nesterov,
                             const optimizer_step* step) {
  if (step->skip) return;
  for (std::int64_t i = grid_start(); i < size; i += grid_stride()) {
    float d = g[i] * step->gradient_scale + decay * w[i];
    if (velocity) {
      const float v = velocity[i] = momentum * velocity[i] + d;
      d = nesterov ? d + momentum * v : v;
    }
    w[i] -= step->learning_rate * d;
  }
}
/// PyTorch's SGD: v = momentum v + (g + decay w); w -= rate v. velocity null: plain. Starts from zeroed velocity.
inline void sgd(stream_t s, float* w, const float* g, float* velocity, std::int64_t size, float momentum, float decay, bool nesterov,
                const optimizer_step* step) {
  kernel_launch({"sgd", grid_for(size, 256), 256, 0, s}, sgd_kernel, w, g, velocity, size, momentum, decay, nesterov, step);
}

RSSEG_KERNEL void adam_kernel(float* w, const float* g, float* m, float* v, std::int64_t size, float beta1, float beta2, float epsilon, float decay,
                              bool decoupled, const optimizer_step* step) {
  if (step->skip) return;
  for (std::int64_t i = grid_start(); i < size; i += grid_stride()) {
    float d = g[i] * step->gradient_scale, p = w[i];
    if (decoupled)
      p -= step->learning_rate * decay * p;
    else
      d += decay * p;
    const float m1 = m[i] = beta1 * m[i] + (1 - beta1) * d, v1 = v[i] = beta2 * v[i] + (1 - beta2) * d * d;
    w[i] = p - step->learning_rate * (m1 / step->correction1) / (sqrtf(v1 / step->correction2) + epsilon);
  }
}
/// AdamW (decoupled) or Adam with L2 decay.
inline void adam(stream_t s, float* w, const float* g, float* m, float* v, std::int64_t size, float beta1, float beta2, float epsilon, float decay,
                 bool decoupled, const optimizer_step* step) {
  kernel_launch({"adam", grid_for(size, 256), 256, 0, s}, adam_kernel, w, g, m, v, size, beta1, beta2, epsilon, decay, decoupled, step);
}

/// Sum of squares of the gradients in fixed order, and whether one is not finite. partials: 2 x 256 floats.
RSSEG_KERNEL void gradient_norm_kernel(const float* g, std::int64_t size, float* partials) {
  RSSEG_DYN_SHARED(float, scratch);
  float sum = 0, bad = 0;
  for (std::int64_t i = grid_start(); i < size; i += grid_stride()) {
    const float v = g[i];
    if (v - v != 0.0f)
      bad = 1;
    else
      sum += v * v;
  }
  sum = block_sum(sum, scratch), bad = block_sum(bad, scratch);
  if (threadIdx.x == 0) partials[blockIdx.x] = sum, partials[gridDim.x + blockIdx.x] = bad;
}
RSSEG_KERNEL void finish_gradient_norm_kernel(const float* partials, int count, float loss_scale, float max_norm, optimizer_step* step, float* norm) {
  if (threadIdx.x != 0) return;
  double sum = 0, bad = 0;
  for (int i = 0; i < count; ++i) sum += double(partials[i]), bad += double(partials[count + i]);
  const double n = sqrt(sum) / double(loss_scale);
  *norm = float(n);
  step->skip = bad > 0;
  step->gradient_scale = float((max_norm > 0 && n > double(max_norm) ? double(max_norm) / n : 1.0) / double(loss_scale));
}
/// Norm of the unscaled gradient into *norm; sets step->gradient_scale (unscaling and, if max_norm > 0, clipping) and step->skip on overflow.
inline void gradient_norm(stream_t s, const float* g, std::int64_t size, float loss_scale, float max_norm, float* partials, optimizer_step* step,
                          float* norm) {
  const std::int64_t wanted = ceil_div(size, std::int64_t(256));
  const unsigned blocks = unsigned(wanted < 256 ? wanted : 256);
  kernel_launch({"gradient_norm", blocks, 256, 128, s}, gradient_norm_kernel, g, size, partials);
  kernel_launch({"gradient_norm total", 1, 32, 0, s}, finish_gradient_norm_kernel, static_cast<const float*>(partials), int(blocks), loss_scale,
                max_norm, step, norm);
}

}  // namespace RSSEG_BACKEND_NS
}  // namespace rsseg::cuda
