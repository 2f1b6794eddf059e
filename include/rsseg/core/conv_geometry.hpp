// SPDX-License-Identifier: MIT
// The geometry of a two-dimensional (possibly dilated, strided, grouped) convolution, shared by graph, CPU and CUDA.
// A transposed convolution is described by the convolution whose data gradient it is.
#pragma once
#include <cstdint>

#include "rsseg/core/config.hpp"

namespace rsseg {

/// y(n, oy, ox, co) = sum over ky, kx, ci of x(n, oy*stride_h - pad_top + ky*dilation_h, ox*stride_w - pad_left + kx*dilation_w, ci) * w(co, ky, kx,
/// ci). x is (N, in_c, in_h, in_w), y is (N, out_c, out_h, out_w), both NHWC; w is (out_c, kernel_h, kernel_w, in_c / groups).
struct conv_geometry {
  int n = 1, in_h = 1, in_w = 1, in_c = 1;
  int out_h = 1, out_w = 1, out_c = 1;
  int kernel_h = 1, kernel_w = 1;
  int stride_h = 1, stride_w = 1;
  int pad_top = 0, pad_left = 0;  // bottom and right padding follow from out_h, out_w
  int dilation_h = 1, dilation_w = 1;
  int groups = 1;
  int in_pitch = 0, out_pitch = 0;  // elements between neighbouring pixels of x and y where these are columns of wider tensors; 0: dense
  bool bf16 = false;                // x and w may be rounded to bfloat16 before they are multiplied (CPU, forward only)

  /// Elements between neighbouring pixels.
  RSSEG_HD constexpr std::int64_t x_pitch() const { return in_pitch > 0 ? in_pitch : in_c; }
  RSSEG_HD constexpr std::int64_t y_pitch() const { return out_pitch > 0 ? out_pitch : out_c; }

  RSSEG_HD constexpr int in_c_per_group() const { return in_c / groups; }
  RSSEG_HD constexpr int out_c_per_group() const { return out_c / groups; }
  RSSEG_HD constexpr bool depthwise() const { return groups > 1 && groups == in_c && groups == out_c; }
  RSSEG_HD constexpr bool pointwise() const {
    return kernel_h == 1 && kernel_w == 1 && stride_h == 1 && stride_w == 1 && pad_top == 0 && pad_left == 0 && groups == 1;
  }
  constexpr std::int64_t macs() const { return std::int64_t(n) * out_h * out_w * out_c * kernel_h * kernel_w * in_c_per_group(); }
  constexpr std::int64_t weights() const { return std::int64_t(out_c) * kernel_h * kernel_w * in_c_per_group(); }
};

/// Output extent of one axis; pad is the sum of both sides. floor mode, or ceil mode as in PyTorch's pooling is up to the caller.
RSSEG_HD constexpr int conv_out(int in, int kernel, int stride, int pad, int dilation) {
  return (in + pad - dilation * (kernel - 1) - 1) / stride + 1;
}

}  // namespace rsseg
