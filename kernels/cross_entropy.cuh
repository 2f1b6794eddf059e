// SPDX-License-Identifier: MIT
// Softmax and cross entropy per pixel, with ignore index and class weights, loss and gradient in one read of the logits; and the same fused with a
// bilinear upsampling of the logits, so that full-resolution logits and their gradient are never written: at 19 classes and 1024 x 2048 that saves
// two passes over 160 MB (floors, H100: 109 us unfused, 12 us fused).
// The loss is the mean over counted pixels, weighted by the weight of their class (PyTorch's 'mean'). All sums have a fixed order.
#pragma once
#include "resize.cuh"

namespace rsseg::cuda {

/// Labels in, loss out. label: 0 .. classes-1, or ignore.
template <class Label>
struct cross_entropy_target {
  const Label* label = nullptr;
  const float* class_weight = nullptr;  ///< null: all 1
  int ignore = 255;
};

/// What the loss leaves on the device: sum of weights, loss, and how many labels were neither a class nor ignore (those count as ignored).
struct cross_entropy_result {
  float weight, loss;
  int bad_labels;
};

inline namespace RSSEG_BACKEND_NS {

constexpr int loss_blocks = 512;  // partial sums; fixed, so that the loss does not depend on the device

template <class Label>
__global__ void label_weight_kernel(cross_entropy_target<Label> t, std::int64_t pixels, int classes, float* partial_weight, int* partial_bad) {
  RSSEG_DYN_SHARED(float, scratch);
  float weight = 0, bad = 0;
  for (std::int64_t p = grid_start(); p < pixels; p += grid_stride()) {
    const int y = int(t.label[p]);
    if (y >= 0 && y < classes && y != t.ignore) weight += t.class_weight ? t.class_weight[y] : 1.0f;
    if ((y < 0 || y >= classes) && y != t.ignore) bad += 1;
  }
  weight = block_sum(weight, scratch);
  bad = block_sum(bad, scratch);
  if (threadIdx.x == 0) partial_weight[blockIdx.x] = weight, partial_bad[blockIdx.x] = int(bad);
}
RSSEG_KERNEL void total_weight_kernel(const float* partial_weight, const int* partial_bad, int count, cross_entropy_result* r) {
  if (threadIdx.x != 0) return;
  double weight = 0;
  int bad = 0;
  for (int i = 0; i < count; ++i) weight += double(partial_weight[i]), bad += partial_bad[i];
  r->weight = float(weight), r->bad_labels = bad;
}
RSSEG_KERNEL void total_loss_kernel(const float* partial_loss, int count, cross_entropy_result* r) {
  if (threadIdx.x != 0) return;
  double loss = 0;
  for (int i = 0; i < count; ++i) loss += double(partial_loss[i]);
  r->loss = r->weight > 0 ? float(loss / double(r->weight)) : 0.0f;
}
/// Floats of workspace of cross_entropy.
inline std::size_t cross_entropy_workspace() { return 3 * std::size_t(loss_blocks); }

template <class Label>
inline unsigned weigh_labels(stream_t s, const cross_entropy_target<Label>& t, std::int64_t pixels, int classes, float* workspace,
                             cross_entropy_result* r) {
  const unsigned blocks = unsigned(ceil_div(pixels, std::int64_t(256)) < loss_blocks ? ceil_div(pixels, std::int64_t(256)) : loss_blocks);
  int* bad = reinterpret_cast<int*>(workspace + loss_blocks);
  kernel_launch({"cross_entropy weights", blocks, 256, 128, s}, label_weight_kernel<Label>, t, pixels, classes, workspace, bad);
  kernel_launch({"cross_entropy total weight", 1, 32, 0, s}, total_weight_kernel, workspace, bad, int(blocks), r);
  return blocks;
}

/// One thread per pixel; a block's logits pass through shared memory so that reads and writes of NHWC rows stay coalesced. Row length is odd there,
/// hence free of bank conflicts.
template <class T, class Label>
__global__ void cross_entropy_kernel(const T* logits, cross_entropy_target<Label> t, T* gradient, float* pixel_loss, float scale, std::int64_t pixels,
                                     int classes, const cross_entropy_result* r, float* partial_loss, const float* factor) {
  RSSEG_DYN_SHARED(float, s);  // [threads][classes | 1], then 32 floats
  const int threads = int(blockDim.x), row = classes | 1;
  float* z = s + int(threadIdx.x) * row;
  float* scratch = s + threads * row;
  float loss = 0;
  const float per_weight = r->weight > 0 ? (factor ? *factor : 1.0f) * scale / r->weight : 0.0f;
  for (std::int64_t first = std::int64_t(blockIdx.x) * threads; first < pixels; first += std::int64_t(gridDim.x) * threads) {
    const int here = int(pixels - first < threads ? pixels - first : threads);
    for (int i = int(threadIdx.x); i < here * classes; i += threads) s[i / classes * row + i % classes] = to_float(logits[first * classes + i]);
    __syncthreads();
    if (int(threadIdx.x) < here) {
      const std::int64_t p = first + threadIdx.x;
      const int y = int(t.label[p]);
      const bool counted = y >= 0 && y < classes && y != t.ignore;
      const float weight = counted ? (t.class_weight ? t.class_weight[y] : 1.0f) : 0.0f;
      float top = z[0], sum = 0;
      for (int c = 1; c < classes; ++c) top = fmaxf(top, z[c]);
      const float target = counted ? z[y] : 0.0f;
      for (int c = 0; c < classes; ++c) sum += z[c] = expf(z[c] - top);
      const float nll = counted ? top + logf(sum) - target : 0.0f;
      loss += weight * nll;
      if (pixel_loss) pixel_loss[p] = weight * nll;
      const float k = weight * per_weight;
      for (int c = 0; c < classes; ++c) z[c] = k * (z[c] / sum - (c == y ? 1.0f : 0.0f));
    }
    __syncthreads();
    if (gradient)
      for (int i = int(threadIdx.x); i < here * classes; i += threads)
        gradient[first * classes + i] = from_float<T>(s[i / classes * row + i % classes]);
    __syncthreads();
  }
  loss = block_sum(loss, scratch);
  if (threadIdx.x == 0) partial_loss[blockIdx.x] = loss;
}
/// Loss into r, and unless null: gradient = scale * d loss / d logits, pixel_loss = weighted loss per pixel (for hard example mining).
/// factor: one float in device memory that multiplies scale, or null.
template <class T, class Label>
inline void cross_entropy(stream_t s, const T* logits, const cross_entropy_target<Label>& t, T* gradient, float* pixel_loss, float scale,
                          std::int64_t pixels, int classes, float* workspace, cross_entropy_result* r, const float* factor = nullptr) {
  weigh_labels(s, t, pixels, classes, workspace, r);
  const unsigned threads = classes <= 64 ? 128 : 32;
  const std::int64_t wanted = ceil_div(pixels, std::int64_t(threads));
  const unsigned blocks = unsigned(wanted < loss_blocks ? wanted : loss_blocks);
  kernel_launch({"cross_entropy", blocks, threads, (threads * std::size_t(classes | 1) + 32) * sizeof(float), s}, cross_entropy_kernel<T, Label>,
                logits, t, gradient, pixel_loss, scale, pixels, classes, static_cast<const cross_entropy_result*>(r), workspace, factor);
  kernel_launch({"cross_entropy loss", 1, 32, 0, s}, total_loss_kernel, workspace, int(blocks), r);
}

/// Probabilities, or (as_logarithm) their logarithms. One thread per pixel.
template <class T>
__global__ void softmax_kernel(const T* logits, T* y, std::int64_t pixels, int classes, bool as_logarithm) {
  for (std::int64_t p = grid_start(); p < pixels; p += grid_stride()) {
    const T* z = logits + p * classes;
    float top = to_float(z[0]), sum = 0;
    for (int c = 1; c < classes; ++c) top = fmaxf(top, to_float(z[c]));
    for (int c = 0; c < classes; ++c) sum += expf(to_float(z[c]) - top);
    const float log_sum = logf(sum);
    for (int c = 0; c < classes; ++c)
      y[p * classes + c] = from_float<T>(as_logarithm ? to_float(z[c]) - top - log_sum : expf(to_float(z[c]) - top) / sum);
  }
}
template <class T>
inline void softmax(stream_t s, const T* logits, T* y, std::int64_t pixels, int classes, bool as_logarithm = false) {
  kernel_launch({"softmax", grid_for(pixels, 128), 128, 0, s}, softmax_kernel<T>, logits, y, pixels, classes, as_logarithm);
}
/// dx = y * (dy - sum(dy * y)).
template <class T>
__global__ void softmax_backward_kernel(const T* y, const T* dy, T* dx, std::int64_t pixels, int classes) {
  for (std::int64_t p = grid_start(); p < pixels; p += grid_stride()) {
    float dot = 0;
    for (int c = 0; c < classes; ++c) dot += to_float(y[p * classes + c]) * to_float(dy[p * classes + c]);
    for (int c = 0; c < classes; ++c) dx[p * classes + c] = from_float<T>(to_float(y[p * classes + c]) * (to_float(dy[p * classes + c]) - dot));
  }
}
template <class T>
inline void softmax_backward(stream_t s, const T* y, const T* dy, T* dx, std::int64_t pixels, int classes) {
  kernel_launch({"softmax_backward", grid_for(pixels, 128), 128, 0, s}, softmax_backward_kernel<T>, y, dy, dx, pixels, classes);
}
/// Index of the largest logit, ties to the first.
template <class T, class Label>
__global__ void argmax_kernel(const T* logits, Label* y, std::int64_t pixels, int classes) {
  for (std::int64_t p = grid_start(); p < pixels; p += grid_stride()) {
    int best = 0;
    for (int c = 1; c < classes; ++c)
      if (to_float(logits[p * classes + c]) > to_float(logits[p * classes + best])) best = c;
    y[p] = Label(best);
  }
}
template <class T, class Label>
inline void argmax(stream_t s, const T* logits, Label* y, std::int64_t pixels, int classes) {
  kernel_launch({"argmax", grid_for(pixels, 128), 128, 0, s}, argmax_kernel<T, Label>, logits, y, pixels, classes);
}
/// counts[truth * classes + predicted] += 1. Integer atomics: the order does not matter.
template <class Label>
__global__ void confusion_kernel(const Label* truth, const Label* predicted, int ignore, unsigned long long* counts, std::int64_t pixels,
                                 int classes) {
  RSSEG_DYN_SHARED(unsigned, s);
  for (int i = int(threadIdx.x); i < classes * classes; i += int(blockDim.x)) s[i] = 0;
  __syncthreads();
  for (std::int64_t p = grid_start(); p < pixels; p += grid_stride()) {
    const int t = int(truth[p]), q = int(predicted[p]);
    if (t != ignore && t >= 0 && t < classes && q >= 0 && q < classes) atomicAdd(&s[t * classes + q], 1u);
  }
  __syncthreads();
  for (int i = int(threadIdx.x); i < classes * classes; i += int(blockDim.x))
    if (s[i]) atomicAdd(&counts[i], static_cast<unsigned long long>(s[i]));
}
template <class Label>
inline void confusion(stream_t s, const Label* truth, const Label* predicted, int ignore, unsigned long long* counts, std::int64_t pixels,
                      int classes) {
  kernel_launch({"confusion", grid_for(pixels, 1024), 256, std::size_t(classes) * std::size_t(classes) * 4, s}, confusion_kernel<Label>, truth,
                predicted, ignore, counts, pixels, classes);
}

// --- fused with bilinear upsampling
// 1. Every full-resolution pixel: logarithm of the sum of exponentials (4 bytes instead of 4 * classes) and the loss.
// 2. An interpolation cell is the set of pixels that read the same four coarse values. One thread per cell and class holds these four in registers
// and
//    runs through the cell's pixels; every exponential is taken once.
// 3. A coarse value's gradient is the sum of its four cells' contributions.
template <class T, class Label>
__global__ void upsampled_loss_kernel(resize_geometry g, axis_map ym, axis_map xm, const T* logits, cross_entropy_target<Label> t, float* log_sums,
                                      std::int64_t pixels, float* partial_loss) {
  RSSEG_DYN_SHARED(float, scratch);
  float loss = 0;
  for (std::int64_t p = grid_start(); p < pixels; p += grid_stride()) {
    const int ox = int(p % g.out_w), oy = int(p / g.out_w % g.out_h), n = int(p / g.out_w / g.out_h);
    int y0, y1, x0, x1;
    float fy, fx;
    ym(oy, y0, y1, fy), xm(ox, x0, x1, fx);
    const T* image = logits + std::int64_t(n) * g.in_h * g.in_w * g.c;
    const T *a = image + (std::int64_t(y0) * g.in_w + x0) * g.c, *b = image + (std::int64_t(y0) * g.in_w + x1) * g.c,
            *d = image + (std::int64_t(y1) * g.in_w + x0) * g.c, *e = image + (std::int64_t(y1) * g.in_w + x1) * g.c;
    const auto z = [&](int c) {
      return (1 - fy) * ((1 - fx) * to_float(a[c]) + fx * to_float(b[c])) + fy * ((1 - fx) * to_float(d[c]) + fx * to_float(e[c]));
    };
    float top = z(0), sum = 0;
    for (int c = 1; c < g.c; ++c) top = fmaxf(top, z(c));
    for (int c = 0; c < g.c; ++c) sum += expf(z(c) - top);
    const float log_sum = top + logf(sum);
    log_sums[p] = log_sum;
    const int y = int(t.label[p]);
    if (y >= 0 && y < g.c && y != t.ignore) loss += (t.class_weight ? t.class_weight[y] : 1.0f) * (log_sum - z(y));
  }
  loss = block_sum(loss, scratch);
  if (threadIdx.x == 0) partial_loss[blockIdx.x] = loss;
}
template <class T, class Label>
__global__ void upsampled_cells_kernel(resize_geometry g, axis_map ym, axis_map xm, const T* logits, cross_entropy_target<Label> t,
                                       const float* log_sums, float scale, const cross_entropy_result* r, float* cells, const float* factor) {
  const float per_weight = r->weight > 0 ? (factor ? *factor : 1.0f) * scale / r->weight : 0.0f;
  const std::int64_t size = std::int64_t(g.n) * g.in_h * g.in_w * g.c;
  for (std::int64_t i = grid_start(); i < size; i += grid_stride()) {
    const int c = int(i % g.c), x0 = int(i / g.c % g.in_w), y0 = int(i / g.c / g.in_w % g.in_h), n = int(i / g.c / g.in_w / g.in_h);
    const int x1 = imin(x0 + 1, g.in_w - 1), y1 = imin(y0 + 1, g.in_h - 1);
    const T* image = logits + std::int64_t(n) * g.in_h * g.in_w * g.c + c;
    const float a = to_float(image[(std::int64_t(y0) * g.in_w + x0) * g.c]), b = to_float(image[(std::int64_t(y0) * g.in_w + x1) * g.c]),
                d = to_float(image[(std::int64_t(y1) * g.in_w + x0) * g.c]), e = to_float(image[(std::int64_t(y1) * g.in_w + x1) * g.c]);
    int first_y, last_y, first_x, last_x;
    ym.readers(y0, y0, first_y, last_y), xm.readers(x0, x0, first_x, last_x);
    float sa = 0, sb = 0, sd = 0, se = 0;
    for (int oy = first_y; oy <= last_y; ++oy) {
      int r0, r1;
      float fy;
      ym(oy, r0, r1, fy);
      if (r0 != y0) continue;
      for (int ox = first_x; ox <= last_x; ++ox) {
        int q0, q1;
        float fx;
        xm(ox, q0, q1, fx);
        if (q0 != x0) continue;
        const std::int64_t p = (std::int64_t(n) * g.out_h + oy) * g.out_w + ox;
        const int y = int(t.label[p]);
        if (y < 0 || y >= g.c || y == t.ignore) continue;
        const float z = (1 - fy) * ((1 - fx) * a + fx * b) + fy * ((1 - fx) * d + fx * e);
        const float grad = (t.class_weight ? t.class_weight[y] : 1.0f) * (expf(z - log_sums[p]) - (c == y ? 1.0f : 0.0f));
        sa += (1 - fy) * (1 - fx) * grad, sb += (1 - fy) * fx * grad, sd += fy * (1 - fx) * grad, se += fy * fx * grad;
      }
    }
    // beyond the last row and column the neighbour is the cell's own corner
    if (x1 == x0) sa += sb, sd += se, sb = se = 0;
    if (y1 == y0) sa += sd, sb += se, sd = se = 0;
    cells[i] = per_weight * sa, cells[size + i] = per_weight * sb, cells[2 * size + i] = per_weight * sd, cells[3 * size + i] = per_weight * se;
  }
}
template <class T>
__global__ void upsampled_gather_kernel(resize_geometry g, const float* cells, T* gradient) {
  const std::int64_t row = std::int64_t(g.in_w) * g.c, size = std::int64_t(g.n) * g.in_h * row;
  for (std::int64_t i = grid_start(); i < size; i += grid_stride()) {
    const int x = int(i / g.c % g.in_w), y = int(i / row % g.in_h);
    float sum = cells[i];
    if (x > 0) sum += cells[size + i - g.c];
    if (y > 0) sum += cells[2 * size + i - row];
    if (x > 0 && y > 0) sum += cells[3 * size + i - row - g.c];
    gradient[i] = from_float<T>(sum);
  }
}
inline std::size_t upsampled_cross_entropy_workspace(const resize_geometry& g) {
  return cross_entropy_workspace() + std::size_t(g.n) * std::size_t(g.out_h) * std::size_t(g.out_w) +
         4 * std::size_t(g.n) * std::size_t(g.in_h) * std::size_t(g.in_w) * std::size_t(g.c);
}
/// Cross entropy of bilinear(logits): logits and gradient (may be null) have the small extent, labels the large one. factor: one float in
/// device memory that multiplies scale, or null.
template <class T, class Label>
inline void upsampled_cross_entropy(stream_t s, const resize_geometry& g, const T* logits, const cross_entropy_target<Label>& t, T* gradient,
                                    float scale, float* workspace, cross_entropy_result* r, const float* factor = nullptr) {
  const std::int64_t pixels = std::int64_t(g.n) * g.out_h * g.out_w;
  const axis_map ym(g.in_h, g.out_h, g.align_corners), xm(g.in_w, g.out_w, g.align_corners);
  float *log_sums = workspace + cross_entropy_workspace(), *cells = log_sums + pixels;
  const unsigned blocks = weigh_labels(s, t, pixels, g.c, workspace, r);
  kernel_launch({"upsampled_cross_entropy loss", blocks, 256, 128, s}, upsampled_loss_kernel<T, Label>, g, ym, xm, logits, t, log_sums, pixels,
                workspace);
  kernel_launch({"upsampled_cross_entropy total", 1, 32, 0, s}, total_loss_kernel, workspace, int(blocks), r);
  if (!gradient) return;
  const std::int64_t size = std::int64_t(g.n) * g.in_h * g.in_w * g.c;
  kernel_launch({"upsampled_cross_entropy cells", grid_for(size, 128), 128, 0, s}, upsampled_cells_kernel<T, Label>, g, ym, xm, logits, t, log_sums,
                scale, static_cast<const cross_entropy_result*>(r), cells, factor);
  kernel_launch({"upsampled_cross_entropy gather", grid_for(size, 256), 256, 0, s}, upsampled_gather_kernel<T>, g, cells, gradient);
}

}  // namespace RSSEG_BACKEND_NS
}  // namespace rsseg::cuda
