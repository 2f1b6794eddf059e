// SPDX-License-Identifier: MIT
// Modified aligned Xception (Chollet, CVPR 2017; changed by Chen et al., DeepLab v3+, ECCV 2018, Fig. 4): entry flow of three
// strided blocks, sixteen middle blocks of three separable convolutions, exit flow to 2048 channels. (N,3,H,W) ->
//   low (N,128,H/4,W/4) and out (N,2048,H/16,W/16), or H/8 at output stride 8.
// Blocks that start with a ReLU pass relu(x), not x, to their shortcut too: the reference's ReLU works in place, and trained weights
// expect that.
#pragma once
#include "rsseg/layers/naming.hpp"
#include "rsseg/layers/separable.hpp"

namespace rsseg {

struct xception_block_options {
  int out = 128, units = 2;  ///< separable convolutions before the strided or last one
  int stride = 1, dilation = 1;
  bool start_with_relu = true;
  bool grow_first = true;  ///< the first unit changes the channels; otherwise the last of `units`
  bool is_last = false;    ///< stride 1 only: one more unit, undilated
};

/// Units of ReLU, separable convolution, BN, with a shortcut that projects when the shape changes: (N,C,H,W) -> (N,out,H/s,W/s).
/// Parameters rep.i (numbered as the reference's Sequential, which counts the ReLUs), skip, skipbn.
constexpr value xception_block(builder& b, value x, const xception_block_options& o) {
  if (o.start_with_relu) x = relu(b, x);
  value y = x;
  int index = o.start_with_relu ? 1 : 0;
  const auto unit = [&](int out, int stride, int dilation) {
    if (index > 1) y = relu(b, y);
    y = separable_conv_bn(b, numbered("rep.", index), y, out, {.kernel = 3, .stride = stride, .dilation = dilation});
    y = batch_norm(b, numbered("rep.", index + 1), y);
    index += 3;
  };
  for (int i = 0; i < o.units; ++i) unit(o.grow_first || i == o.units - 1 ? o.out : x.channels, 1, o.dilation);
  if (o.stride != 1)
    unit(o.out, o.stride, 1);
  else if (o.is_last)
    unit(o.out, 1, 1);
  value skip = x;
  if (x.channels != o.out || o.stride != 1) skip = conv_bn(b, "skip", "skipbn", x, o.out, {.stride = o.stride});
  return add(b, y, skip);
}

struct xception_features {
  value low;  ///< (N,128,H/4,W/4)
  value out;  ///< (N,2048,H/16,W/16) or (N,2048,H/8,W/8)
};

/// output_stride 16 or 8.
constexpr xception_features xception(builder& b, value x, int output_stride) {
  if (output_stride != 16 && output_stride != 8) b.fail(graph::fault::bad_option, 16, output_stride);
  const int rate = output_stride == 8 ? 2 : 1;
  const auto block = [&b](int number, value v, const xception_block_options& o) {
    const scope s(b, numbered("block", number));
    return xception_block(b, v, o);
  };
  xception_features f;
  x = conv_bn_relu(b, "conv1", "bn1", x, 32, {.kernel = 3, .stride = 2});
  x = conv_bn_relu(b, "conv2", "bn2", x, 64, {.kernel = 3});
  f.low = relu(b, block(1, x, {.out = 128, .stride = 2, .start_with_relu = false}));
  x = block(2, f.low, {.out = 256, .stride = 2, .start_with_relu = false});
  x = block(3, x, {.out = 728, .stride = rate == 2 ? 1 : 2, .is_last = true});
  for (int i = 4; i < 20; ++i) x = block(i, x, {.out = 728, .units = 3, .dilation = rate});
  x = relu(b, block(20, x, {.out = 1024, .dilation = rate, .grow_first = false, .is_last = true}));
  constexpr int widths[] = {1536, 1536, 2048};
  for (int i = 0; i < 3; ++i) {
    x = separable_conv_bn(b, numbered("conv", i + 3), x, widths[i], {.kernel = 3, .dilation = 2 * rate});
    x = relu(b, batch_norm(b, numbered("bn", i + 3), x));
  }
  f.out = x;
  return f;
}

}  // namespace rsseg
