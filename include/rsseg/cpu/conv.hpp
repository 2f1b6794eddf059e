// SPDX-License-Identifier: MIT
// Convolution kernels of the CPU backend: forward, data gradient (also the forward of a transposed convolution), weight gradient, bias gradient.
//
// Tensors are NHWC, weights OHWI (out_c, kernel_h, kernel_w, in_c / groups); T is float or double. Every combination of kernel, stride,
// padding (also unequal), dilation and groups that conv_geometry can state is taken; shapes are checked by the callers (graph and plan).
//
//   std::vector<T> packed(conv_packed_size<T>(g));          // once per set of weights (and per data gradient: ..._backward_data)
//   conv_pack(g, w, packed.data());
//   void* workspace = arena(conv_workspace_size<T>(g));     // bytes, for the thread count that threads() gave when asked
//   conv_forward(g, x, packed.data(), y, {.bias = b, .act = activation::relu}, workspace);
//
// Contracts, for all of them:
// - x, y, dx, dy and the residual may be columns of wider tensors (in_pitch, out_pitch, residual_pitch): same bits, and what lies between is left
// alone;
// - activations, packed weights and workspace may lie anywhere, but off 64-byte boundaries the products run about 30 % slower;
// - nothing is allocated; outputs are overwritten whole, and alias no input, except that `residual` may be the output itself;
// - results have the same bits for any number of threads (not for another instruction set);
// - size queries take constant time and depend on the instruction set in use and, for workspaces, on threads();
// - packed weights belong to the instruction set (isa.hpp) and the setting of Winograd's algorithm (winograd.hpp, float only) in use when they
//   were packed. RSSEG_WINOGRAD=0 in the environment turns it off.
//
// Compiled mode: with RSSEG_COMPILED this header only declares; the library's translation unit defines RSSEG_BUILDING, includes this header and
// then rsseg/cpu/conv_instantiate.inc, which instantiates everything for float and double.
#pragma once
#include <cstddef>
#include <cstdint>

#include "rsseg/core/config.hpp"
#include "rsseg/core/conv_geometry.hpp"

namespace rsseg::cpu {

enum class activation { none, relu };

/// Applied to a finished sum in the order of the fields.
template <class T>
struct conv_epilogue {
  const T* bias = nullptr;      ///< (output channels)
  const T* residual = nullptr;  ///< shaped like the output; may be the output
  activation act = activation::none;
  int residual_pitch = 0;  ///< elements between the residual's pixels; 0: as the output
};

/// Elements of T that the packed weights take.
template <class T>
std::size_t conv_packed_size(const conv_geometry& g);
template <class T>
void conv_pack(const conv_geometry& g, const T* w, T* packed);
/// Bytes.
template <class T>
std::size_t conv_workspace_size(const conv_geometry& g);
/// y = act(conv(x, w) + bias + residual).
template <class T>
void conv_forward(const conv_geometry& g, const T* x, const T* packed, T* y, const conv_epilogue<T>& epilogue, void* workspace);

/// Elements of T that the weights take when packed for the data gradient.
template <class T>
std::size_t conv_packed_size_backward_data(const conv_geometry& g);
template <class T>
void conv_pack_backward_data(const conv_geometry& g, const T* w, T* packed);
/// Bytes.
template <class T>
std::size_t conv_workspace_size_backward_data(const conv_geometry& g);
/// dx = act(conv^T(dy, w) + bias + residual). As the forward pass of a transposed convolution dy is its input and dx its output, g the convolution
/// whose data gradient it is; the bias then has g.in_c elements. For gradients leave the epilogue empty (or accumulate with residual = dx).
template <class T>
void conv_backward_data(const conv_geometry& g, const T* dy, const T* packed, T* dx, const conv_epilogue<T>& epilogue, void* workspace);

/// Bytes.
template <class T>
std::size_t conv_workspace_size_backward_weights(const conv_geometry& g);
/// dw (OHWI) = sum over pixels of dy times x.
template <class T>
void conv_backward_weights(const conv_geometry& g, const T* x, const T* dy, T* dw, void* workspace);

/// Bytes.
template <class T>
std::size_t bias_gradient_workspace_size(std::int64_t pixels, int c);
/// db(c) = sum over pixels of dy(pixel, c).
template <class T>
void bias_gradient(std::int64_t pixels, int c, const T* dy, T* db, void* workspace);

}  // namespace rsseg::cpu

#include "rsseg/cpu/gemm.hpp"
#if !RSSEG_EXTERN_KERNELS
#include "rsseg/cpu/conv_impl.hpp"
#endif
