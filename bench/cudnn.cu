// SPDX-License-Identifier: MIT
// rsseg's convolutions against cuDNN's best, layer by layer, beside the roofline floor.
//   bench_cudnn [--json FILE] [--only TEXT] [--rounds N]
// Each row: our kernel; cuDNN (NHWC, same math mode, exhaustive search) with any algorithm and with deterministic ones only; the floor of an H100.
// Buffers are rotated through more than 200 MB so that nothing stays in the L2 cache; every variant is captured as a CUDA graph and replayed, and the
// median is taken. Results of both are compared in the same run. Without a device the table says "not measured" and the exit status is 77 (skipped).
#include <cudnn.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <functional>
#include <string>
#include <vector>

#include "cuda_bench.hpp"
#include "kernels/conv_fp32.cuh"
#include "kernels/conv_hopper.cuh"
#include "kernels/conv_mma.cuh"
#include "kernels/depthwise.cuh"

using namespace rsseg;
using namespace rsseg::cuda;
using namespace cuda_bench;

namespace {

enum class math { fp32, tf32, bf16 };
const char* const math_names[] = {"fp32", "tf32", "bf16"};
const char* const pass_names[] = {"forward", "dgrad", "wgrad"};

struct row {
  const char* name;
  conv_geometry g;
};
conv_geometry layer(int n, int h, int w, int c, int k, int kernel_h, int kernel_w, int stride = 1, int dilation = 1, int groups = 1) {
  conv_geometry g;
  g.n = n, g.in_h = h, g.in_w = w, g.in_c = c, g.out_c = k, g.kernel_h = kernel_h, g.kernel_w = kernel_w, g.groups = groups;
  g.stride_h = g.stride_w = stride, g.dilation_h = g.dilation_w = dilation;
  g.pad_top = dilation * (kernel_h - 1) / 2, g.pad_left = dilation * (kernel_w - 1) / 2;
  g.out_h = conv_out(h, kernel_h, stride, 2 * g.pad_top, dilation), g.out_w = conv_out(w, kernel_w, stride, 2 * g.pad_left, dilation);
  return g;
}
conv_geometry up(conv_geometry g) { return g.pad_top = g.pad_left = 0, g; }
std::vector<row> rows() {
  return {
      {"U-Net first 3x3 3->64, 512x512 b1", layer(1, 512, 512, 3, 64, 3, 3)},
      {"U-Net last 3x3 64->64, 512x512 b1", layer(1, 512, 512, 64, 64, 3, 3)},
      {"U-Net bottom 3x3 512->1024, 32x32 b1", layer(1, 32, 32, 512, 1024, 3, 3)},
      {"U-Net 1x1 64->6, 512x512 b1", layer(1, 512, 512, 64, 6, 1, 1)},
      {"U-Net up 2x2 s2 (as dgrad) 512<-1024, 64x64 b1", up(layer(1, 64, 64, 512, 1024, 2, 2, 2))},
      {"ASPP 3x3 d6 2048->256, 64x64 b1", layer(1, 64, 64, 2048, 256, 3, 3, 1, 6)},
      {"ASPP 3x3 d12 2048->256, 64x64 b1", layer(1, 64, 64, 2048, 256, 3, 3, 1, 12)},
      {"ASPP 3x3 d18 2048->256, 64x64 b1", layer(1, 64, 64, 2048, 256, 3, 3, 1, 18)},
      {"ASPP 3x3 d18 2048->256, 64x64 b8", layer(8, 64, 64, 2048, 256, 3, 3, 1, 18)},
      {"ASPP 3x3 d36 2048->256, 64x64 b8", layer(8, 64, 64, 2048, 256, 3, 3, 1, 36)},
      {"ASPP 1x1 1280->256, 64x64 b8", layer(8, 64, 64, 1280, 256, 1, 1)},
      {"ResNet layer4 3x3 d4 512->512, 64x64 b8", layer(8, 64, 64, 512, 512, 3, 3, 1, 4)},
      {"ResNet layer3 3x3 s2 256->256, 64x64 b8", layer(8, 64, 64, 256, 256, 3, 3, 2)},
      {"ENet 5x1 32->32, 64x128 b8", layer(8, 64, 128, 32, 32, 5, 1)},
      {"ENet 1x5 32->32, 64x128 b8", layer(8, 64, 128, 32, 32, 1, 5)},
      {"depthwise 3x3 128, 128x128 b8", layer(8, 128, 128, 128, 128, 3, 3, 1, 1, 128)},
      {"depthwise 3x3 32, 512x512 b8", layer(8, 512, 512, 32, 32, 3, 3, 1, 1, 32)},
      {"depthwise 3x3 d12 256, 64x64 b8", layer(8, 64, 64, 256, 256, 3, 3, 1, 12, 256)},
      {"grouped (32) 3x3 256->256, 64x64 b8", layer(8, 64, 64, 256, 256, 3, 3, 1, 1, 32)},
  };
}
std::int64_t values(const conv_geometry& g, int what) {  // 0: x, 1: w, 2: y
  return what == 0 ? std::int64_t(g.n) * g.in_h * g.in_w * g.in_c : what == 1 ? g.weights() : std::int64_t(g.n) * g.out_h * g.out_w * g.out_c;
}
/// Microseconds below which no H100 can go: only the products that do not meet padding count.
double floor_us(const conv_geometry& g, math m) {
  double useful = 0;
  for (int tap = 0; tap < g.kernel_h * g.kernel_w; ++tap) useful += double(tap_rectangle(g, tap).pixels(g.n));
  const double flops = 2 * useful * double(g.out_c) * g.in_c_per_group();
  const double bytes = double(values(g, 0) + values(g, 1) + values(g, 2)) * (m == math::bf16 ? 2 : 4);
  return 1e6 * std::max(flops / (g.depthwise() ? flops_per_second[0] : flops_per_second[int(m)]), bytes / bytes_per_second);
}

/// Buffers of one row, as many copies as overflow the L2 cache; T is the stored type.
template <class T>
struct buffers {
  std::vector<device_array<T>> x, w, y, dx, dw, scratch;
  std::vector<device_array<float>> dw32, workspace;
  int copies;
  buffers(const conv_geometry& g, std::size_t workspace_floats) {
    const std::size_t each = std::size_t(values(g, 0) + values(g, 2)) * sizeof(T);
    copies = int(std::clamp<std::size_t>(200u * 1024 * 1024 / each + 1, 2, 64));
    const auto random = [](std::size_t n, unsigned seed, float scale) {
      std::vector<T> v(n);
      for (std::size_t i = 0; i < n; ++i) seed = seed * 1664525u + 1013904223u, v[i] = from_float<T>(scale * (float(seed >> 8) / 8388608.0f - 1.0f));
      return v;
    };
    const auto hx = random(std::size_t(values(g, 0)), 1, 1), hw = random(std::size_t(values(g, 1)), 2, 0.05f),
               hy = random(std::size_t(values(g, 2)), 3, 1);
    for (int i = 0; i < copies; ++i) {
      x.emplace_back(hx), w.emplace_back(hw), y.emplace_back(hy);
      dx.emplace_back(hx.size()), dw.emplace_back(hw.size()), dw32.emplace_back(hw.size());
    }
    workspace.emplace_back(workspace_floats), scratch.emplace_back(hw.size());
  }
};

/// Our kernel for a row, pass and math mode.
template <math Math, class T>
void ours(const conv_geometry& g, conv_pass pass, buffers<T>& b, int i, cudaStream_t s, bool hopper) {
  T *x = b.x[std::size_t(i)].get(), *w = b.w[std::size_t(i)].get(), *y = b.y[std::size_t(i)].get(), *dx = b.dx[std::size_t(i)].get();
  float *dw = b.dw32[std::size_t(i)].get(), *space = b.workspace[0].get();
  if (g.depthwise()) {
    if (pass == conv_pass::forward) return depthwise_forward<T>(s, g, x, w, y);
    if (pass == conv_pass::data) return depthwise_data_gradient<T>(s, g, y, w, dx);
    return depthwise_weight_gradient<T>(s, g, x, y, dw, space);
  }
  if constexpr (Math == math::fp32) {
    if (pass == conv_pass::forward) return conv_forward(s, g, x, w, y);
    if (pass == conv_pass::data) return conv_data_gradient(s, g, y, w, dx);
    return conv_weight_gradient(s, g, x, y, dw, space);
  } else {
    using Operand = std::conditional_t<Math == math::tf32, tf32, bf16>;
    if constexpr (Math == math::bf16) {
      if (pass == conv_pass::forward && hopper && conv_hopper_supports(g)) return conv_hopper_forward<bf16>(s, g, x, w, y);
      if (pass == conv_pass::data && hopper && conv_hopper_supports_data(g))
        return conv_hopper_data_gradient<bf16>(s, g, y, w, dx, b.scratch[0].get());
    }
    if (pass == conv_pass::forward) return conv_mma_forward<Operand>(s, g, x, w, y);
    if (pass == conv_pass::data) return conv_mma_data_gradient<Operand>(s, g, y, w, dx);
    if constexpr (Math == math::bf16)
      if (hopper && conv_hopper_supports_weights(g)) return conv_hopper_weight_gradient<bf16>(s, g, x, y, dw, space);
    conv_mma_weight_gradient<Operand>(s, g, x, y, dw, space);
  }
}
std::size_t our_workspace(const conv_geometry& g) {
  if (g.depthwise()) return depthwise_weight_workspace(g);
  return std::max(
      {conv_weight_workspace(g), conv_hopper_weight_workspace(g), conv_mma_weight_workspace<tf32>(g), conv_mma_weight_workspace<bf16>(g)});
}

/// cuDNN's descriptors of a row, its exhaustive search, and a call of the winner.
class cudnn_convolution {
 public:
  cudnn_convolution(cudnnHandle_t handle, const conv_geometry& g, math m) : handle_(handle) {
    const cudnnDataType_t type = m == math::bf16 ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_FLOAT;
    check_cudnn(cudnnCreateTensorDescriptor(&x_), "descriptor"), check_cudnn(cudnnCreateTensorDescriptor(&y_), "descriptor");
    check_cudnn(cudnnCreateFilterDescriptor(&w_), "descriptor"), check_cudnn(cudnnCreateConvolutionDescriptor(&c_), "descriptor");
    check_cudnn(cudnnSetTensor4dDescriptor(x_, CUDNN_TENSOR_NHWC, type, g.n, g.in_c, g.in_h, g.in_w), "input");
    check_cudnn(cudnnSetTensor4dDescriptor(y_, CUDNN_TENSOR_NHWC, type, g.n, g.out_c, g.out_h, g.out_w), "output");
    check_cudnn(cudnnSetFilter4dDescriptor(w_, type, CUDNN_TENSOR_NHWC, g.out_c, g.in_c_per_group(), g.kernel_h, g.kernel_w), "weights");
    check_cudnn(cudnnSetConvolution2dDescriptor(c_, g.pad_top, g.pad_left, g.stride_h, g.stride_w, g.dilation_h, g.dilation_w,
                                                CUDNN_CROSS_CORRELATION, CUDNN_DATA_FLOAT),
                "convolution");
    check_cudnn(cudnnSetConvolutionGroupCount(c_, g.groups), "groups");
    check_cudnn(cudnnSetConvolutionMathType(c_, m == math::fp32   ? CUDNN_FMA_MATH
                                                : m == math::tf32 ? CUDNN_DEFAULT_MATH
                                                                  : CUDNN_TENSOR_OP_MATH),
                "math");
  }
  ~cudnn_convolution() {
    cudnnDestroyTensorDescriptor(x_), cudnnDestroyTensorDescriptor(y_), cudnnDestroyFilterDescriptor(w_), cudnnDestroyConvolutionDescriptor(c_);
  }
  /// Fastest algorithm by measuring all; false if there is none. space: workspace of `bytes`.
  bool search(conv_pass pass, bool deterministic, void* x, void* w, void* y, void* space, std::size_t bytes) {
    int count = 0;
    const auto pick = [&](auto* found) {
      for (int i = 0; i < count; ++i)
        if (found[i].status == CUDNN_STATUS_SUCCESS && (!deterministic || found[i].determinism == CUDNN_DETERMINISTIC)) {
          algorithm_ = int(found[i].algo), memory_ = found[i].memory;
          check_cudnn(cudnnSetConvolutionMathType(c_, found[i].mathType), "math");
          return true;
        }
      return false;
    };
    if (pass == conv_pass::forward) {
      cudnnConvolutionFwdAlgoPerf_t f[32];
      check_cudnn(cudnnFindConvolutionForwardAlgorithmEx(handle_, x_, x, w_, w, c_, y_, y, 32, &count, f, space, bytes), "search");
      return pick(f);
    }
    if (pass == conv_pass::data) {
      cudnnConvolutionBwdDataAlgoPerf_t f[32];
      check_cudnn(cudnnFindConvolutionBackwardDataAlgorithmEx(handle_, w_, w, y_, y, c_, x_, x, 32, &count, f, space, bytes), "search");
      return pick(f);
    }
    cudnnConvolutionBwdFilterAlgoPerf_t f[32];
    check_cudnn(cudnnFindConvolutionBackwardFilterAlgorithmEx(handle_, x_, x, y_, y, c_, w_, w, 32, &count, f, space, bytes), "search");
    return pick(f);
  }
  void run(conv_pass pass, void* x, void* w, void* y, void* space) {
    const float one = 1, zero = 0;
    if (pass == conv_pass::forward)
      check_cudnn(cudnnConvolutionForward(handle_, &one, x_, x, w_, w, c_, cudnnConvolutionFwdAlgo_t(algorithm_), space, memory_, &zero, y_, y),
                  "forward");
    else if (pass == conv_pass::data)
      check_cudnn(
          cudnnConvolutionBackwardData(handle_, &one, w_, w, y_, y, c_, cudnnConvolutionBwdDataAlgo_t(algorithm_), space, memory_, &zero, x_, x),
          "dgrad");
    else
      check_cudnn(
          cudnnConvolutionBackwardFilter(handle_, &one, x_, x, y_, y, c_, cudnnConvolutionBwdFilterAlgo_t(algorithm_), space, memory_, &zero, w_, w),
          "wgrad");
  }

 private:
  cudnnHandle_t handle_;
  cudnnTensorDescriptor_t x_{}, y_{};
  cudnnFilterDescriptor_t w_{};
  cudnnConvolutionDescriptor_t c_{};
  int algorithm_ = 0;
  std::size_t memory_ = 0;
};

struct result {
  double ours = NAN, cudnn = NAN, cudnn_deterministic = NAN, difference = NAN;
};
template <math Math, class T>
result measure(const conv_geometry& g, conv_pass pass, int rounds, cudnnHandle_t handle, cudaStream_t stream, bool hopper) {
  result r;
  buffers<T> b(g, our_workspace(g));
  const std::size_t space_bytes = std::size_t(1) << 30;
  device_array<char> space(space_bytes);
  const auto mine = [&](int i) { ours<Math, T>(g, pass, b, i, stream, hopper); };
  r.ours = median_us(b.copies, rounds, stream, mine);
  const auto my_forward = pass == conv_pass::forward ? b.y[0].host() : std::vector<T>{},
             my_dx = pass == conv_pass::data ? b.dx[0].host() : std::vector<T>{};
  const auto my_dw = pass == conv_pass::weight ? b.dw32[0].host() : std::vector<float>{};
  for (bool deterministic : {false, true}) {
    cudnn_convolution c(handle, g, Math);
    const auto at = [&](int i, int what) -> void* {
      auto& v = what == 0 ? (pass == conv_pass::data ? b.dx : b.x) : what == 1 ? (pass == conv_pass::weight ? b.dw : b.w) : b.y;
      return v[std::size_t(i)].get();
    };
    const auto theirs = [&](int i) { c.run(pass, at(i, 0), at(i, 1), at(i, 2), space.get()); };
    // the search overwrites its output; for the gradients y is an input and stays
    if (!c.search(pass, deterministic, at(0, 0), at(0, 1), at(0, 2), space.get(), space_bytes)) continue;
    (deterministic ? r.cudnn_deterministic : r.cudnn) = median_us(b.copies, rounds, stream, theirs);
    if (pass == conv_pass::forward) r.difference = largest_difference(my_forward, b.y[0].host());
    if (pass == conv_pass::data) r.difference = largest_difference(my_dx, b.dx[0].host());
    if (pass == conv_pass::weight) r.difference = largest_difference(my_dw, b.dw[0].host());
  }
  return r;
}

}  // namespace

int main(int argc, char** argv) {
  std::string json_file, only;
  int rounds = 21;
  for (int i = 1; i + 1 < argc; i += 2) {
    if (!std::strcmp(argv[i], "--json")) json_file = argv[i + 1];
    if (!std::strcmp(argv[i], "--only")) only = argv[i + 1];
    if (!std::strcmp(argv[i], "--rounds")) rounds = std::max(1, std::atoi(argv[i + 1]));
  }
  int devices = 0;
  const bool have_device = cudaGetDeviceCount(&devices) == cudaSuccess && devices > 0;
  cudaDeviceProp device{};
  cudnnHandle_t handle{};
  cudaStream_t stream{};
  char now[32];
  const std::time_t t = std::time(nullptr);
  std::strftime(now, sizeof now, "%Y-%m-%d", std::gmtime(&t));
  std::string json = std::string("{\n \"date\": \"") + now + "\", \"cudnn\": " + std::to_string(cudnnGetVersion()) + ",\n \"rows\": [\n";
  try {
    if (have_device) {
      check(cudaGetDeviceProperties(&device, 0), "device properties");
      check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "stream");
      check_cudnn(cudnnCreate(&handle), "create"), check_cudnn(cudnnSetStream(handle, stream), "stream");
      std::printf("%s, cuDNN %zu, %s; microseconds, median of %d\n", device.name, cudnnGetVersion(), now, rounds);
    } else {
      std::printf("no CUDA device: times are not measured, only the floors of an H100 are listed (cuDNN %zu)\n", cudnnGetVersion());
    }
    std::printf("%-50s %-8s %-5s %12s %9s %8s %12s %14s %8s %10s\n", "layer", "pass", "math", "ours", "floor", "of floor", "cuDNN", "deterministic",
                "speed-up", "difference");
    bool first = true;
    for (const row& r : rows()) {
      if (!only.empty() && std::string(r.name).find(only) == std::string::npos) continue;
      for (conv_pass pass : {conv_pass::forward, conv_pass::data, conv_pass::weight})
        for (math m : {math::fp32, math::tf32, math::bf16}) {
          result v;
          const bool hopper = device.major == 9;
          if (have_device && m == math::fp32) v = measure<math::fp32, float>(r.g, pass, rounds, handle, stream, hopper);
          if (have_device && m == math::tf32) v = measure<math::tf32, float>(r.g, pass, rounds, handle, stream, hopper);
          if (have_device && m == math::bf16) v = measure<math::bf16, bf16>(r.g, pass, rounds, handle, stream, hopper);
          const double floor = floor_us(r.g, m);
          std::printf("%-50s %-8s %-5s %12s %9.1f %8s %12s %14s %8s %10s\n", r.name, pass_names[int(pass)], math_names[int(m)],
                      number(v.ours).c_str(), floor, std::isnan(v.ours) ? "" : (number(100 * floor / v.ours, "%.0f") + " %").c_str(),
                      number(v.cudnn).c_str(), number(v.cudnn_deterministic).c_str(),
                      std::isnan(v.cudnn / v.ours) ? "" : number(v.cudnn / v.ours, "%.2f").c_str(),
                      std::isnan(v.difference) ? "" : number(v.difference, "%.1e").c_str());
          std::fflush(stdout);
          const auto field = [](double x) { return std::isnan(x) ? std::string("null") : number(x, "%.3f"); };
          json += std::string(first ? "" : ",\n") + "  {\"layer\": \"" + r.name + "\", \"pass\": \"" + pass_names[int(pass)] + "\", \"math\": \"" +
                  math_names[int(m)] + "\", \"ours_us\": " + field(v.ours) + ", \"floor_us\": " + field(floor) + ", \"cudnn_us\": " + field(v.cudnn) +
                  ", \"cudnn_deterministic_us\": " + field(v.cudnn_deterministic) + "}";
          first = false;
        }
    }
  } catch (const std::exception& e) {
    std::fprintf(stderr, "bench_cudnn: error: %s\n", e.what());
    return 1;
  }
  if (!json_file.empty()) {
    json += std::string("\n ],\n \"device\": \"") + (have_device ? device.name : "none: not measured") + "\"\n}\n";
    std::FILE* f = std::fopen(json_file.c_str(), "w");
    if (!f || std::fwrite(json.data(), 1, json.size(), f) != json.size() || std::fclose(f) != 0) {
      std::fprintf(stderr, "bench_cudnn: error: cannot write %s\n", json_file.c_str());
      return 4;
    }
  }
  return have_device ? 0 : 77;
}
