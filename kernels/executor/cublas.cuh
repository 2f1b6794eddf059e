// SPDX-License-Identifier: MIT
// cuBLAS for matrix products, where NVIDIA's libraries are the engine (--engine cudnn): plain products with nothing to fuse into them, such as
// linear attention and graph products. Compiled where RSSEG_WITH_CUBLAS is set; without it rsseg's kernels do the products. cuBLAS counts columns
// first: the row-major product C = op(A) op(B) is its C^T = op(B)^T op(A)^T, so that operands change places and keep their transpositions.
// Floor: 2 * rows * columns * depth over the peak of the type, or three passes over memory where the matrices are thin.
#pragma once
#include <memory>
#include <type_traits>

#include "../matmul.cuh"
#include "call.cuh"
#include "runtime.cuh"
#if RSSEG_WITH_CUBLAS
#include <cublas_v2.h>
#endif

namespace rsseg::cuda {
inline namespace RSSEG_BACKEND_NS {

#if RSSEG_WITH_CUBLAS
inline void check_cublas(cublasStatus_t s, const char* doing) {
  if (s != CUBLAS_STATUS_SUCCESS) throw error(std::string("cublas: ") + doing + ": " + cublasGetStatusString(s));
}
/// A handle with a workspace of its own: nothing is allocated while a pass is captured, and the same sums are made in the same order every time.
class cublas_engine {
 public:
  explicit cublas_engine(const executor_context& x) {
    check_cublas(cublasCreate(&handle_), "create");
    check_cublas(cublasSetStream(handle_, x.stream), "set the stream");
    const std::size_t bytes = std::size_t(x.facts.major >= 9 ? 32 : 4) << 20;
    workspace_.resize(bytes, "workspace of cuBLAS");
    check_cublas(cublasSetWorkspace(handle_, workspace_.data(), bytes), "set the workspace");
  }
  cublas_engine(const cublas_engine&) = delete;
  cublas_engine& operator=(const cublas_engine&) = delete;
  ~cublas_engine() { cublasDestroy(handle_); }
  cublasHandle_t handle() const { return handle_; }

 private:
  cublasHandle_t handle_{};
  device_memory workspace_;
};
inline std::shared_ptr<void> open_cublas(executor_context& x) {
  auto engine = std::make_shared<cublas_engine>(x);
  x.cublas = engine.get();
  return engine;
}
/// c = alpha * op(a) * op(b) + beta * c of every batch entry, as matmul() has it; false: nothing was done.
template <class T>
bool cublas_product(const executor_context& x, const matmul_shape& p, const T* a, const T* b, T* c) {
  if (!x.cublas) return false;
  const cudaDataType_t type = std::is_same_v<T, float> ? CUDA_R_32F : std::is_same_v<T, bf16> ? CUDA_R_16BF : CUDA_R_16F;
  const cublasComputeType_t compute = x.math == conv_math::tf32 && std::is_same_v<T, float> ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
  const int lda = p.stride_a ? p.stride_a : p.transpose_a ? p.rows : p.depth, ldb = p.stride_b ? p.stride_b : p.transpose_b ? p.depth : p.columns;
  const int ldc = p.stride_c ? p.stride_c : p.columns;
  check_cublas(cublasGemmStridedBatchedEx(static_cast<cublas_engine*>(x.cublas)->handle(), p.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N,
                                          p.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N, p.columns, p.rows, p.depth, &p.alpha, b, type, ldb, p.batch_b, a,
                                          type, lda, p.batch_a, &p.beta, c, type, ldc, p.batch_c, p.batch, compute, CUBLAS_GEMM_DEFAULT),
               "matrix product");
  return true;
}
#else
inline std::shared_ptr<void> open_cublas(executor_context&) { return nullptr; }
template <class T>
bool cublas_product(const executor_context&, const matmul_shape&, const T*, const T*, T*) {
  return false;
}
#endif

}  // namespace RSSEG_BACKEND_NS
}  // namespace rsseg::cuda
