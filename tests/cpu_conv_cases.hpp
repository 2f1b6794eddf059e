// SPDX-License-Identifier: MIT
// Convolution geometries that the CPU kernels are tested with: layers of the survey's networks, and odd sizes around every tail.
#pragma once
#include <vector>

#include "rsseg/core/conv_geometry.hpp"

namespace rsseg::test {

/// Symmetric padding, output size by the usual rule.
inline conv_geometry square(int n, int size, int in_c, int out_c, int kernel, int stride = 1, int pad = 0, int dilation = 1, int groups = 1) {
  const int out = conv_out(size, kernel, stride, 2 * pad, dilation);
  return {n, size, size, in_c, out, out, out_c, kernel, kernel, stride, stride, pad, pad, dilation, dilation, groups};
}

/// Everything free; pads are top, bottom, left, right.
inline conv_geometry oblong(int n, int h, int w, int in_c, int out_c, int kh, int kw, int sh, int sw, int top, int bottom, int left, int right,
                            int dh, int dw, int groups) {
  return {n,    h,  w,  in_c,  conv_out(h, kh, sh, top + bottom, dh), conv_out(w, kw, sw, left + right, dw), out_c, kh, kw, sh, sw, top,
          left, dh, dw, groups};
}

inline std::vector<conv_geometry> conv_cases() {
  return {
      // pointwise, and tails of pixels, depth and panels
      square(1, 1, 1, 1, 1),
      square(1, 1, 300, 70, 1),
      square(1, 5, 3, 2, 1),
      square(2, 7, 16, 16, 1),
      square(1, 13, 64, 21, 1),
      square(1, 12, 257, 33, 1),
      square(1, 9, 520, 129, 1),
      square(1, 8, 24, 6, 1),
      square(1, 11, 5, 7, 1),
      square(1, 14, 32, 64, 1, 2),
      square(2, 7, 48, 40, 1, 2),
      square(1, 6, 8, 8, 1, 1, 2),
      square(1, 7, 19, 17, 1, 3, 1),
      // 3x3
      square(1, 17, 64, 64, 3, 1, 1),
      square(2, 9, 16, 32, 3, 1, 1),
      square(1, 7, 37, 21, 3, 1, 1),
      square(1, 10, 13, 12, 3, 1, 1),
      square(1, 10, 100, 9, 3, 1, 1),
      square(1, 5, 300, 20, 3, 1, 1),
      square(1, 15, 12, 14, 3, 1, 1),
      square(1, 8, 32, 48, 3, 1, 0),
      square(1, 16, 24, 24, 3, 2, 1),
      square(1, 15, 24, 40, 3, 2, 1),
      square(2, 11, 20, 18, 3, 3, 1),
      square(1, 6, 16, 16, 3, 1, 2),
      square(1, 3, 16, 16, 3, 1, 1),
      square(1, 1, 32, 16, 3, 1, 1),
      square(1, 2, 33, 65, 3, 2, 1),
      // few input channels
      square(1, 23, 3, 64, 3, 1, 1),
      square(1, 22, 3, 32, 3, 2, 1),
      square(1, 29, 3, 64, 7, 2, 3),
      square(2, 10, 1, 2, 3, 1, 1),
      square(1, 12, 1, 1, 5, 1, 2),
      square(1, 11, 4, 13, 3, 1, 1),
      square(1, 18, 6, 16, 5, 2, 2),
      square(1, 10, 3, 8, 3, 1, 2, 2),
      square(1, 31, 3, 2, 16, 8, 4),
      square(1, 9, 12, 21, 3, 1, 1),
      // images lower and narrower than a tile of six pixels is long: a tile sees several images
      oblong(5, 1, 4, 16, 16, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1),
      oblong(7, 1, 4, 3, 10, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1),
      // weight gradients in several blocks of output channels, every second column of the input
      square(1, 9, 20, 410, 1),
      oblong(2, 9, 19, 40, 200, 1, 1, 2, 2, 0, 0, 0, 0, 1, 1, 1),
      oblong(1, 13, 16, 24, 16, 3, 1, 1, 3, 1, 1, 0, 0, 1, 1, 1),
      // few output channels
      square(1, 12, 64, 1, 3, 1, 1),
      square(1, 12, 64, 2, 3, 1, 1),
      square(2, 9, 40, 6, 3, 1, 1),
      square(1, 9, 40, 21, 3, 1, 1),
      // dilated
      square(1, 25, 24, 16, 3, 1, 12, 12),
      square(1, 21, 16, 20, 3, 1, 18, 18),
      square(1, 20, 16, 16, 3, 1, 36, 36),
      square(1, 16, 32, 32, 3, 1, 2, 2),
      square(1, 19, 17, 16, 3, 1, 4, 4),
      square(1, 17, 16, 16, 3, 2, 2, 2),
      square(1, 18, 13, 16, 3, 2, 3, 3),
      square(1, 33, 20, 10, 3, 4, 6, 6),
      square(1, 14, 16, 20, 5, 1, 4, 2),
      // what transposed convolutions are gradients of: 2x2 s2, 3x3 s2, 4x4 s2, 16x16 s8, 64x64 s32
      square(1, 12, 32, 16, 2, 2),
      square(2, 10, 64, 20, 2, 2),
      square(1, 16, 16, 24, 4, 2, 1),
      square(1, 13, 21, 21, 4, 2, 1),
      square(1, 24, 6, 6, 16, 8, 4),
      square(1, 32, 21, 21, 16, 8, 4),
      square(1, 96, 2, 2, 64, 32, 16),
      square(1, 9, 16, 16, 2, 3, 0),
      // oblong kernels, strides, pads
      oblong(1, 14, 11, 16, 16, 5, 1, 1, 1, 2, 2, 0, 0, 1, 1, 1),
      oblong(1, 11, 14, 16, 16, 1, 5, 1, 1, 0, 0, 2, 2, 1, 1, 1),
      oblong(1, 12, 20, 24, 16, 3, 1, 1, 1, 16, 16, 0, 0, 16, 1, 1),
      oblong(1, 20, 12, 24, 16, 1, 3, 1, 1, 0, 0, 8, 8, 1, 8, 1),
      oblong(2, 9, 16, 18, 14, 3, 5, 2, 1, 0, 1, 3, 1, 1, 2, 1),
      oblong(1, 10, 7, 13, 11, 4, 2, 1, 3, 2, 1, 0, 1, 2, 1, 1),
      oblong(1, 7, 300, 16, 8, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1),
      oblong(1, 3, 600, 3, 8, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1),
      oblong(1, 16, 5, 14, 24, 15, 1, 1, 1, 7, 7, 0, 0, 1, 1, 1),
      oblong(1, 12, 12, 20, 16, 3, 3, 1, 1, 0, 2, 2, 0, 1, 1, 1),
      // grouped
      square(1, 10, 32, 32, 3, 1, 1, 1, 8),
      square(1, 9, 64, 128, 3, 1, 1, 1, 2),
      square(1, 8, 30, 15, 3, 2, 1, 1, 5),
      square(2, 7, 40, 24, 1, 1, 0, 1, 4),
      square(1, 9, 8, 24, 3, 1, 1, 1, 8),
      square(1, 11, 64, 64, 3, 1, 2, 2, 4),
      square(1, 12, 26, 26, 3, 2, 1, 1, 13),
      square(1, 7, 42, 28, 3, 1, 1, 1, 14),
      square(1, 21, 32, 32, 3, 1, 1, 1, 4),
      oblong(1, 4, 31, 16, 16, 3, 3, 1, 1, 1, 1, 1, 1, 2, 1, 4),
      square(2, 1, 16, 16, 3, 1, 1, 1, 4),
      // depthwise
      square(1, 12, 32, 32, 3, 1, 0, 1, 32),
      square(1, 13, 16, 16, 3, 1, 2, 1, 16),
      oblong(2, 11, 30, 48, 48, 3, 3, 1, 1, 0, 1, 2, 0, 1, 1, 48),
      oblong(1, 19, 40, 32, 32, 3, 3, 2, 1, 1, 1, 3, 3, 2, 3, 32),
      square(1, 41, 64, 64, 3, 1, 1, 1, 64),
      square(1, 16, 32, 32, 3, 1, 1, 1, 32),
      square(2, 9, 21, 21, 3, 1, 1, 1, 21),
      square(1, 15, 40, 40, 3, 2, 1, 1, 40),
      square(2, 18, 48, 48, 3, 2, 1, 1, 48),
      square(1, 17, 16, 16, 3, 2, 0, 1, 16),
      square(1, 12, 32, 32, 3, 2, 2, 1, 32),
      square(1, 20, 40, 40, 3, 1, 2, 2, 40),
      square(1, 17, 32, 32, 3, 1, 3, 3, 32),
      square(1, 14, 17, 17, 3, 2, 1, 1, 17),
      square(1, 20, 33, 33, 3, 1, 6, 6, 33),
      square(1, 23, 32, 32, 3, 1, 2, 2, 32),
      oblong(1, 1, 37, 16, 16, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 16),
      oblong(1, 37, 1, 16, 16, 3, 3, 2, 2, 1, 1, 1, 1, 1, 1, 16),
      square(2, 1, 8, 8, 3, 2, 1, 1, 8),
      square(1, 13, 16, 16, 5, 1, 2, 1, 16),
      square(1, 5, 24, 24, 7, 1, 3, 1, 24),
      square(1, 8, 3, 3, 3, 1, 0, 1, 3),
      square(1, 8, 144, 144, 3, 1, 1, 1, 144),
      oblong(1, 9, 12, 20, 20, 5, 1, 1, 1, 2, 2, 0, 0, 1, 1, 20),
      oblong(1, 12, 9, 20, 20, 1, 5, 1, 2, 0, 0, 1, 3, 1, 1, 20),
      square(1, 24, 6, 6, 16, 8, 4, 1, 6),
      square(1, 40, 2, 2, 17, 1, 8, 1, 2),
  };
}

}  // namespace rsseg::test
