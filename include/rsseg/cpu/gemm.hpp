// SPDX-License-Identifier: MIT
// Row-major matrix products for linear layers and attention, on the register tiles of the convolutions. Same contracts as conv.hpp.
#pragma once
#include <cstddef>
#include <cstdint>

#include "rsseg/core/config.hpp"

namespace rsseg::cpu {

/// c = alpha * op(a) * op(b) + beta * c, `batch` times. op(a) is (m, k), op(b) is (k, n), c is (m, n), rows lda, ldb, ldc elements apart
/// (of the matrices as stored: a transposed a is (k, m)). Matrices of a batch lie stride_a, stride_b, stride_c apart; 0 shares one.
struct gemm_shape {
  int m = 0, n = 0, k = 0;
  bool trans_a = false, trans_b = false;
  int batch = 1;
  std::int64_t lda = 0, ldb = 0, ldc = 0;
  std::int64_t stride_a = 0, stride_b = 0, stride_c = 0;
};

/// Bytes, for the thread count that threads() gives now.
template <class T>
std::size_t gemm_workspace_size(const gemm_shape& s);
/// beta == 0 overwrites c, whatever it holds. bias (n), if given, is added to each row and then relu applied, if asked.
template <class T>
void gemm(const gemm_shape& s, T alpha, const T* a, const T* b, T beta, T* c, void* workspace, const T* bias = nullptr, bool relu = false);

}  // namespace rsseg::cpu

#if !RSSEG_EXTERN_KERNELS
#include "rsseg/cpu/gemm_impl.hpp"
#endif
