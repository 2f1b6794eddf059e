// SPDX-License-Identifier: MIT
// Single operators and modules for comparison with the references: x -> `pre` (1x1 convolution to the block's input channels) ->
// `block` -> logits. They are written as types where a type says it all.
#pragma once
#include "rsseg/layers/l2_norm.hpp"
#include "rsseg/nets/deeplab_v3plus.hpp"
#include "rsseg/nets/hrnet.hpp"
#include "rsseg/nets/icnet.hpp"
#include "rsseg/nets/pspnet.hpp"
#include "rsseg/nets/unet.hpp"

namespace rsseg::parity {

/// L behind `pre` with Channels channels, in the scope `block`.
template <int Channels, class L>
struct block_of {
  static constexpr void build(builder& b) {
    const value x = conv(b, "pre", b.input("x", 3), Channels);
    const scope s(b, "block");
    b.output("logits", L::build(b, x), 1);
  }
};

template <int Kernel, int Stride, int Padding, int OutputPadding, int Out, bool Bias>
struct transposed {
  static constexpr value build(builder& b, value x) {
    return conv_transpose(b, x, Out, {.kernel = Kernel, .stride = Stride, .padding = Padding, .bias = Bias, .output_padding = OutputPadding});
  }
};
template <int H, int W, bool AlignCorners, interpolation How = interpolation::bilinear>
struct resized {
  static constexpr value build(builder& b, value x) { return graph::ops::resize_to(b, x, H, W, How, AlignCorners); }
};
struct shared_prelu {
  static constexpr value build(builder& b, value x) { return prelu(b, x, true); }
};
struct l2_normalised {
  static constexpr value build(builder& b, value x) { return l2_norm(b, x); }
};
/// Pooled, through `mid`, unpooled to the extent before.
struct pooled_and_back {
  static constexpr value build(builder& b, value x) {
    const graph::ops::pooled p = max_pool_indices(b, x);
    return max_unpool(b, conv(b, "mid", p.y, x.channels), p.index, x);
  }
};
template <bool Bottleneck, int Out, int Rate, int Distance>
struct residual {
  static constexpr value build(builder& b, value x) {
    residual_options o;
    o.out = Out, o.stride = Rate, o.dilation = Distance;
    return Bottleneck ? bottleneck_block(b, x, o) : basic_block(b, x, o);
  }
};
struct pyramid_v2 {
  static constexpr value build(builder& b, value x) { return aspp_sum(b, x, 6, {2, 4, 6, 8}); }
};
struct pyramid_v3 {
  static constexpr value build(builder& b, value x) { return aspp(b, x, {.out = 12, .rates = {2, 4, 6}}); }
};
struct pyramid_pooled {
  static constexpr value build(builder& b, value x) { return pyramid_pooling(b, x, {1, 2, 3, 6}, x.channels / 4); }
};
/// The coarse map is every second pixel, the fine one a 1x1 convolution; the class scores are left unused.
struct cascade {
  static constexpr value build(builder& b, value x) {
    const value low = max_pool(b, x, {.kernel = 1, .stride = 2}), high = conv(b, "hi", x, 4);
    const scope s(b, "cff");
    return cascade_feature_fusion(b, low, high, 6, 5).fused;
  }
};
/// A decoder step whose coarse map is pooled from `enc`, and whose skip is the input.
template <unet_up Up>
struct unet_step {
  static constexpr value build(builder& b, value x) {
    const value low = max_pool(b, conv(b, "enc", x, Up == unet_up::transposed ? 2 * x.channels : x.channels));
    const scope s(b, "up");
    return detail_of_unet(b, low, x);
  }

 private:
  static constexpr value detail_of_unet(builder& b, value low, value skip) { return rsseg::detail::unet_up_block(b, low, skip, skip.channels, Up); }
};
template <int Out, int Units, int Rate>
struct xception_unit {
  static constexpr value build(builder& b, value x) { return xception_block(b, x, {.out = Out, .units = Units, .stride = Rate}); }
};
struct xception_convolution {
  static constexpr value build(builder& b, value x) { return separable_conv_bn(b, x, 6, {.kernel = 3, .dilation = 2}); }
};

/// HRNet's module on three branches; logits on the finest.
struct hrnet_exchange {
  static constexpr void build(builder& b) {
    value v[] = {b.input("x0", 8), b.input("x1", 16, {1, 2}), b.input("x2", 32, {1, 4})};
    {
      const scope s(b, "m");
      hrnet_module(b, v, 3, 1, 0.01);
    }
    b.output("logits", conv(b, "head", v[0], b.classes(from_data)), 1);
    b.output("y0", v[0]);
    b.output("y1", v[1]);
    b.output("y2", v[2]);
  }
};

inline constexpr parity_case blocks_parity[] = {
    {"HRNet", "block: HighResolutionModule, 3 branches (8,16,32 channels, one basic block each), full multi-scale exchange", &hrnet_exchange::build},
    {"block", "adaptive_avgpool_1", &block_of<4, AdaptiveAvgPool<1>>::build},
    {"block", "adaptive_avgpool_2", &block_of<4, AdaptiveAvgPool<2>>::build},
    {"block", "adaptive_avgpool_3", &block_of<4, AdaptiveAvgPool<3>>::build},
    {"block", "adaptive_avgpool_6", &block_of<4, AdaptiveAvgPool<6>>::build},
    {"block", "aspp_v2_sum", &block_of<8, pyramid_v2>::build},
    {"block", "aspp_v3", &block_of<8, pyramid_v3>::build},
    {"block", "avgpool_3s1p1", &block_of<4, AvgPool<Kernel<3>, Stride<1>, Padding<1>>>::build},
    {"block", "basicblock_s2", &block_of<8, residual<false, 16, 2, 1>>::build},
    {"block", "batchnorm", &block_of<4, BatchNorm<>>::build},
    {"block", "bottleneck_d2", &block_of<16, residual<true, 16, 1, 2>>::build},
    {"block", "bottleneck_s2", &block_of<8, residual<true, 16, 2, 1>>::build},
    {"block", "conv3x3_d1", &block_of<4, Conv<6, Kernel<3>>>::build},
    {"block", "conv3x3_d12", &block_of<4, Conv<6, Kernel<3>, Dilation<12>>>::build},
    {"block", "conv3x3_d2", &block_of<4, Conv<6, Kernel<3>, Dilation<2>>>::build},
    {"block", "conv3x3_d4", &block_of<4, Conv<6, Kernel<3>, Dilation<4>>>::build},
    {"block", "conv3x3_s2", &block_of<4, Conv<6, Kernel<3>, Stride<2>>>::build},
    {"block", "conv_asym5", &block_of<4, Seq<Conv<4, Kernel<5, 1>>, Conv<5, Kernel<1, 5>>>>::build},
    {"block", "conv_depthwise_d2", &block_of<4, Conv<4, Kernel<3>, Dilation<2>, Depthwise, NoBias>>::build},
    {"block", "conv_grouped", &block_of<4, Conv<6, Kernel<3>, Groups<2>>>::build},
    {"block", "groupnorm", &block_of<4, GroupNorm<2>>::build},
    {"block", "icnet_cff", &block_of<8, cascade>::build},
    {"block", "l2norm", &block_of<4, l2_normalised>::build},
    {"block", "maxpool_2s2_ceil", &block_of<4, MaxPool<CeilMode>>::build},
    {"block", "maxpool_3s2p1", &block_of<4, MaxPool<Kernel<3>, Stride<2>, Padding<1>>>::build},
    {"block", "maxpool_3s2p1_ceil", &block_of<4, MaxPool<Kernel<3>, Stride<2>, Padding<1>, CeilMode>>::build},
    {"block", "maxpool_unpool_odd", &block_of<4, pooled_and_back>::build},
    {"block", "ppm", &block_of<8, pyramid_pooled>::build},
    {"block", "prelu_channel", &block_of<4, PReLU>::build},
    {"block", "prelu_shared", &block_of<4, shared_prelu>::build},
    {"block", "resize_bilinear_ac_false_down", &block_of<4, resized<6, 5, false>>::build},
    {"block", "resize_bilinear_ac_false_up", &block_of<4, resized<12, 9, false>>::build},
    {"block", "resize_bilinear_ac_true_down", &block_of<4, resized<7, 6, true>>::build},
    {"block", "resize_bilinear_ac_true_up", &block_of<4, resized<12, 9, true>>::build},
    {"block", "resize_bilinear_from_1x1", &block_of<4, resized<4, 5, false>>::build},
    {"block", "resize_nearest", &block_of<4, resized<11, 9, false, interpolation::nearest>>::build},
    {"block", "tconv_k16s8", &block_of<4, transposed<16, 8, 0, 0, 5, false>>::build},
    {"block", "tconv_k2s2", &block_of<4, transposed<2, 2, 0, 0, 6, true>>::build},
    {"block", "tconv_k3s2p1op1", &block_of<4, transposed<3, 2, 1, 1, 6, false>>::build},
    {"block", "tconv_k4s2p1", &block_of<4, transposed<4, 2, 1, 0, 6, true>>::build},
    {"block", "unet_up_bilinear", &block_of<4, unet_step<unet_up::bilinear>>::build},
    {"block", "unet_up_tconv", &block_of<4, unet_step<unet_up::transposed>>::build},
    {"block", "xception_block_id", &block_of<8, xception_unit<8, 3, 1>>::build},
    {"block", "xception_block_s2", &block_of<8, xception_unit<12, 2, 2>>::build},
    {"block", "xception_sepconv_d2", &block_of<8, xception_convolution>::build},
};

}  // namespace rsseg::parity
