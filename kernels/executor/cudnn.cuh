// SPDX-License-Identifier: MIT
// cuDNN as the other engine of convolutions, for comparison inside a real network. Compiled where RSSEG_WITH_CUDNN is set. Geometries that cuDNN does
// not know (padding of unequal sides), or has no deterministic algorithm for, fall back to rsseg's kernels; without cuDNN everything does, and asking
// for the engine is an error. Bias, residual and activation are one more pass over the result: what cuDNN's plain calls cost.
#pragma once
#include <cstring>
#include <memory>

#include "../elementwise.cuh"
#include "call.cuh"
#if RSSEG_WITH_CUDNN
#include <cudnn.h>
#endif

namespace rsseg::cuda {
inline namespace RSSEG_BACKEND_NS {

#if RSSEG_WITH_CUDNN
inline void check_cudnn(cudnnStatus_t s, const char* doing) {
  if (s != CUDNN_STATUS_SUCCESS) throw error(std::string("cudnn: ") + doing + ": " + cudnnGetErrorString(s));
}
/// One convolution as cuDNN sees it, with the algorithm its heuristic names first among the deterministic ones.
struct cudnn_plan {
  conv_geometry g;
  conv_pass pass{};
  cudnnTensorDescriptor_t x{}, y{};
  cudnnFilterDescriptor_t w{};
  cudnnConvolutionDescriptor_t c{};
  int algorithm = -1;  // -1: rsseg's kernels
  std::size_t workspace = 0;
};
class cudnn_engine {
 public:
  cudnn_engine(stream_t stream, cudnnDataType_t type, cudnnMathType_t math) : type_(type), math_(math) {
    check_cudnn(cudnnCreate(&handle_), "create");
    check_cudnn(cudnnSetStream(handle_, stream), "set the stream");
  }
  ~cudnn_engine() {
    for (auto& p : plans_) {
      if (p->x) cudnnDestroyTensorDescriptor(p->x);
      if (p->y) cudnnDestroyTensorDescriptor(p->y);
      if (p->w) cudnnDestroyFilterDescriptor(p->w);
      if (p->c) cudnnDestroyConvolutionDescriptor(p->c);
    }
    cudnnDestroy(handle_);
  }
  cudnnHandle_t handle() const { return handle_; }
  const cudnn_plan& plan(conv_pass pass, const conv_geometry& g) {
    for (auto& p : plans_)
      if (p->pass == pass && std::memcmp(&p->g, &g, sizeof g) == 0) return *p;
    plans_.push_back(std::make_unique<cudnn_plan>());
    cudnn_plan& p = *plans_.back();
    p.g = g, p.pass = pass;
    check_cudnn(cudnnCreateTensorDescriptor(&p.x), "descriptor"), check_cudnn(cudnnCreateTensorDescriptor(&p.y), "descriptor");
    check_cudnn(cudnnCreateFilterDescriptor(&p.w), "descriptor"), check_cudnn(cudnnCreateConvolutionDescriptor(&p.c), "descriptor");
    check_cudnn(cudnnSetTensor4dDescriptor(p.x, CUDNN_TENSOR_NHWC, type_, g.n, g.in_c, g.in_h, g.in_w), "input");
    check_cudnn(cudnnSetTensor4dDescriptor(p.y, CUDNN_TENSOR_NHWC, type_, g.n, g.out_c, g.out_h, g.out_w), "output");
    check_cudnn(cudnnSetFilter4dDescriptor(p.w, type_, CUDNN_TENSOR_NHWC, g.out_c, g.in_c_per_group(), g.kernel_h, g.kernel_w), "weights");
    check_cudnn(cudnnSetConvolution2dDescriptor(p.c, g.pad_top, g.pad_left, g.stride_h, g.stride_w, g.dilation_h, g.dilation_w,
                                                CUDNN_CROSS_CORRELATION, CUDNN_DATA_FLOAT),
                "convolution");
    check_cudnn(cudnnSetConvolutionGroupCount(p.c, g.groups), "groups");
    check_cudnn(cudnnSetConvolutionMathType(p.c, math_), "math");
    int n = 0, k = 0, h = 0, w = 0;
    if (cudnnGetConvolution2dForwardOutputDim(p.c, p.x, p.w, &n, &k, &h, &w) != CUDNN_STATUS_SUCCESS || h != g.out_h || w != g.out_w) return p;
    int count = 0;
    const auto choose = [&](const auto* found) {
      for (int i = 0; i < count && p.algorithm < 0; ++i)
        if (found[i].status == CUDNN_STATUS_SUCCESS && found[i].determinism == CUDNN_DETERMINISTIC && found[i].memory <= (std::size_t(1) << 30)) {
          p.algorithm = int(found[i].algo), p.workspace = found[i].memory;
          check_cudnn(cudnnSetConvolutionMathType(p.c, found[i].mathType), "math");
        }
    };
    if (pass == conv_pass::forward) {
      cudnnConvolutionFwdAlgoPerf_t f[16];
      if (cudnnGetConvolutionForwardAlgorithm_v7(handle_, p.x, p.w, p.c, p.y, 16, &count, f) == CUDNN_STATUS_SUCCESS) choose(f);
    } else if (pass == conv_pass::data) {
      cudnnConvolutionBwdDataAlgoPerf_t f[16];
      if (cudnnGetConvolutionBackwardDataAlgorithm_v7(handle_, p.w, p.y, p.c, p.x, 16, &count, f) == CUDNN_STATUS_SUCCESS) choose(f);
    } else {
      cudnnConvolutionBwdFilterAlgoPerf_t f[16];
      if (cudnnGetConvolutionBackwardFilterAlgorithm_v7(handle_, p.x, p.y, p.c, p.w, 16, &count, f) == CUDNN_STATUS_SUCCESS) choose(f);
    }
    return p;
  }

 private:
  cudnnHandle_t handle_{};
  cudnnDataType_t type_;
  cudnnMathType_t math_;
  std::vector<std::unique_ptr<cudnn_plan>> plans_;
};
inline std::shared_ptr<void> open_cudnn(executor_context& x, int bytes_per_value, bool bfloat, bool tf32) {
  auto engine = std::make_shared<cudnn_engine>(x.stream,
                                               bytes_per_value == 4 ? CUDNN_DATA_FLOAT
                                               : bfloat             ? CUDNN_DATA_BFLOAT16
                                                                    : CUDNN_DATA_HALF,
                                               bytes_per_value == 2 || tf32 ? CUDNN_TENSOR_OP_MATH : CUDNN_FMA_MATH);
  x.cudnn = engine.get();
  return engine;
}
/// What follows a convolution whose epilogue cuDNN does not do.
template <class T>
struct finish_convolution {
  T* y;
  conv_epilogue<T> e;
  int channels;
  __device__ void operator()(std::int64_t i) const {
    const int c = int(i % channels);
    const float v = to_float(y[i]) * (e.scale ? e.scale[c] : 1.0f) + (e.shift ? e.shift[c] : 0.0f) + (e.residual ? to_float(e.residual[i]) : 0.0f);
    y[i] = from_float<T>(activate(e.kind, v, e.slope));
  }
};
template <class T>
std::size_t cudnn_workspace(const executor_context& x, conv_pass pass, const conv_geometry& g) {
  if (!x.cudnn) return 0;
  const cudnn_plan& p = static_cast<cudnn_engine*>(x.cudnn)->plan(pass, g);
  if (p.algorithm < 0) return 0;
  return padded(p.workspace) + (pass == conv_pass::weight && sizeof(T) == 2 ? std::size_t(g.weights()) * sizeof(T) : 0);
}
/// y = epilogue(x * w), or the data gradient; false: nothing was done.
template <class T>
bool cudnn_convolve(const executor_context& x, conv_pass pass, const conv_geometry& g, const T* from, const T* weights, T* to, void* workspace,
                    const conv_epilogue<T>& e) {
  if (!x.cudnn || e.residual == to) return false;
  cudnn_engine& engine = *static_cast<cudnn_engine*>(x.cudnn);
  const cudnn_plan& p = engine.plan(pass, g);
  if (p.algorithm < 0) return false;
  const float one = 1, zero = 0;
  if (pass == conv_pass::forward)
    check_cudnn(cudnnConvolutionForward(engine.handle(), &one, p.x, from, p.w, weights, p.c, cudnnConvolutionFwdAlgo_t(p.algorithm), workspace,
                                        p.workspace, &zero, p.y, to),
                "forward convolution");
  else
    check_cudnn(cudnnConvolutionBackwardData(engine.handle(), &one, p.w, weights, p.y, from, p.c, cudnnConvolutionBwdDataAlgo_t(p.algorithm),
                                             workspace, p.workspace, &zero, p.x, to),
                "data gradient of a convolution");
  if (e.scale || e.shift || e.residual || e.kind != activation::none) {
    const bool data = pass == conv_pass::data;
    const int channels = data ? g.in_c : g.out_c;
    const std::int64_t size = std::int64_t(g.n) * (data ? std::int64_t(g.in_h) * g.in_w : std::int64_t(g.out_h) * g.out_w) * channels;
    each(x.stream, "epilogue of a cuDNN convolution", size, finish_convolution<T>{to, e, channels});
  }
  return true;
}
template <class T>
bool cudnn_weights(const executor_context& x, const conv_geometry& g, const T* in, const T* dy, float* dw, void* workspace) {
  if (!x.cudnn) return false;
  cudnn_engine& engine = *static_cast<cudnn_engine*>(x.cudnn);
  const cudnn_plan& p = engine.plan(conv_pass::weight, g);
  if (p.algorithm < 0) return false;
  const float one = 1, zero = 0;
  void* out = dw;
  if (sizeof(T) == 2) out = static_cast<unsigned char*>(workspace) + padded(p.workspace);  // cuDNN writes the type it reads
  check_cudnn(cudnnConvolutionBackwardFilter(engine.handle(), &one, p.x, in, p.y, dy, p.c, cudnnConvolutionBwdFilterAlgo_t(p.algorithm), workspace,
                                             p.workspace, &zero, p.w, out),
              "weight gradient of a convolution");
  if constexpr (sizeof(T) == 2) convert<T, float>(x.stream, static_cast<const T*>(out), dw, g.weights());
  return true;
}
#else
inline std::shared_ptr<void> open_cudnn(executor_context&, int, bool, bool) {
  throw usage_error("cuda: this build has no cuDNN; install cuDNN beside the CUDA toolkit and build again, or use the engine handwritten");
}
template <class T>
std::size_t cudnn_workspace(const executor_context&, conv_pass, const conv_geometry&) {
  return 0;
}
template <class T>
bool cudnn_convolve(const executor_context&, conv_pass, const conv_geometry&, const T*, const T*, T*, void*, const conv_epilogue<T>&) {
  return false;
}
template <class T>
bool cudnn_weights(const executor_context&, const conv_geometry&, const T*, const T*, float*, void*) {
  return false;
}
#endif

}  // namespace RSSEG_BACKEND_NS
}  // namespace rsseg::cuda
