// SPDX-License-Identifier: MIT
// Tensors as Eigen matrices, for the small dense algebra around networks: statistics of bands, projections, a custom operator's kernel. Views only,
// nothing is copied: (N,C,H,W) is the matrix of its N*H*W pixels and C channels, row by row, which is how NHWC lies in memory.
//   Eigen::MatrixXf centred = as_matrix(image).rowwise() - as_matrix(image).colwise().mean();
// The one place that includes Eigen; nothing else of rsseg does, so that a program without this header neither needs nor compiles it.
#pragma once
#if !__has_include(<Eigen/Core>)
#error "rsseg/core/eigen.hpp needs Eigen 3.3 or newer: install libeigen3-dev, and add its folder (/usr/include/eigen3) to the include path"
#endif
// Eigen in a .cu file turns its vectorisation off, and the linker may then take those functions for the whole program.
#ifndef EIGEN_NO_CUDA
#define EIGEN_NO_CUDA 1
#endif
#include <Eigen/Core>
#include <type_traits>

#include "rsseg/core/tensor.hpp"

namespace rsseg {

template <class T>
using dense_matrix = Eigen::Matrix<std::remove_const_t<T>, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
/// pixels x channels, of float, double, or the const of them.
template <class T>
using matrix_view = Eigen::Map<std::conditional_t<std::is_const_v<T>, const dense_matrix<T>, dense_matrix<T>>>;

/// NHWC values of extent s as (N*H*W, C): what kernels of custom operators are given.
template <class T>
inline matrix_view<T> as_matrix(T* values, const shape& s) {
  return matrix_view<T>(values, Eigen::Index(s.pixels()), Eigen::Index(s.c));
}
/// All pixels of a tensor; valid as long as the tensor is.
template <class T>
inline matrix_view<T> as_matrix(tensor<T>& t) {
  return as_matrix(t.data(), t.extent());
}
template <class T>
inline matrix_view<const T> as_matrix(const tensor<T>& t) {
  return as_matrix(t.data(), t.extent());
}
template <class T>
void as_matrix(const tensor<T>&&) = delete;  // a view of a temporary would dangle

}  // namespace rsseg
