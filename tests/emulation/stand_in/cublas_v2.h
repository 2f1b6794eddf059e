// SPDX-License-Identifier: MIT
// Stands in for NVIDIA's header on the emulation: what kernels/executor/cublas.cuh calls, by the words of cuBLAS's manual, on the host. Matrices lie
// column by column; C = alpha * op(A) * op(B) + beta * C with C of m rows and n columns. Wrong leading dimensions are refused as the library does.
#pragma once
#include <algorithm>
#include <cstddef>
#include <string>
#include <vector>

enum cudaDataType_t { CUDA_R_32F, CUDA_R_16F, CUDA_R_16BF };
enum cublasComputeType_t { CUBLAS_COMPUTE_32F, CUBLAS_COMPUTE_32F_FAST_TF32 };
enum cublasOperation_t { CUBLAS_OP_N, CUBLAS_OP_T };
enum cublasStatus_t { CUBLAS_STATUS_SUCCESS, CUBLAS_STATUS_INVALID_VALUE };
enum cublasGemmAlgo_t { CUBLAS_GEMM_DEFAULT };
struct cublasContext {
  int products = 0;
};
using cublasHandle_t = cublasContext*;

inline const char* cublasGetStatusString(cublasStatus_t s) { return s == CUBLAS_STATUS_SUCCESS ? "success" : "an unsupported value was passed"; }
inline cublasStatus_t cublasCreate(cublasHandle_t* h) { return *h = new cublasContext, CUBLAS_STATUS_SUCCESS; }
inline cublasStatus_t cublasDestroy(cublasHandle_t h) { return delete h, CUBLAS_STATUS_SUCCESS; }
template <class Stream>
cublasStatus_t cublasSetStream(cublasHandle_t, Stream) {
  return CUBLAS_STATUS_SUCCESS;
}
inline cublasStatus_t cublasSetWorkspace(cublasHandle_t, void* p, std::size_t) { return p ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE; }

namespace stand_in {
inline float read(const void* p, cudaDataType_t type, long long at) {
  if (type == CUDA_R_32F) return static_cast<const float*>(p)[at];
  if (type == CUDA_R_16F) return rsseg::cuda::to_float(static_cast<const rsseg::cuda::f16*>(p)[at]);
  return rsseg::cuda::to_float(static_cast<const rsseg::cuda::bf16*>(p)[at]);
}
inline void write(void* p, cudaDataType_t type, long long at, float v) {
  if (type == CUDA_R_32F)
    static_cast<float*>(p)[at] = v;
  else if (type == CUDA_R_16F)
    static_cast<rsseg::cuda::f16*>(p)[at] = rsseg::cuda::from_float<rsseg::cuda::f16>(v);
  else
    static_cast<rsseg::cuda::bf16*>(p)[at] = rsseg::cuda::from_float<rsseg::cuda::bf16>(v);
}
}  // namespace stand_in

inline cublasStatus_t cublasGemmStridedBatchedEx(cublasHandle_t h, cublasOperation_t op_a, cublasOperation_t op_b, int m, int n, int k,
                                                 const void* alpha, const void* a, cudaDataType_t type_a, int lda, long long stride_a, const void* b,
                                                 cudaDataType_t type_b, int ldb, long long stride_b, const void* beta, void* c, cudaDataType_t type_c,
                                                 int ldc, long long stride_c, int batch, cublasComputeType_t, cublasGemmAlgo_t) {
  if (lda < std::max(1, op_a == CUBLAS_OP_N ? m : k) || ldb < std::max(1, op_b == CUBLAS_OP_N ? k : n) || ldc < std::max(1, m) || type_a != type_b)
    return CUBLAS_STATUS_INVALID_VALUE;
  ++h->products;
  for (int i = 0; i < batch; ++i)
    for (long long column = 0; column < n; ++column)
      for (long long row = 0; row < m; ++row) {
        float sum = 0;
        for (long long d = 0; d < k; ++d)
          sum += stand_in::read(a, type_a, i * stride_a + (op_a == CUBLAS_OP_N ? row + d * lda : d + row * lda)) *
                 stand_in::read(b, type_b, i * stride_b + (op_b == CUBLAS_OP_N ? d + column * ldb : column + d * ldb));
        const long long at = i * stride_c + row + column * ldc;
        const float before = *static_cast<const float*>(beta);
        stand_in::write(c, type_c, at, *static_cast<const float*>(alpha) * sum + (before != 0 ? before * stand_in::read(c, type_c, at) : 0));
      }
  return CUBLAS_STATUS_SUCCESS;
}
