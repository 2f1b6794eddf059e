// SPDX-License-Identifier: MIT
// Layers as types, for networks that read like their figure: Seq<Conv<64, Kernel<3>, NoBias>, BatchNorm<>, ReLU>.
// A layer is any type with `static constexpr value build(builder&, value)`; it has no data members.
#pragma once
#include "rsseg/layers/basic.hpp"

namespace rsseg {

/// What a user-written layer must offer.
template <class L>
concept Layer = requires(builder& b, value x) {
  { L::build(b, x) } -> std::same_as<value>;
};

// --- options -------------------------------------------------------------------------------------------------------------
template <int H, int W = H>
struct Kernel {
  static constexpr void apply(conv_options& o) { o.kernel = H, o.kernel_w = W == H ? 0 : W; }
  static constexpr void apply(pool_options& o) { o.kernel = H; }
};
template <int S>
struct Stride {
  static constexpr void apply(conv_options& o) { o.stride = S; }
  static constexpr void apply(pool_options& o) { o.stride = S; }
};
template <int P, int PW = P>
struct Padding {
  static constexpr void apply(conv_options& o) { o.padding = P, o.padding_w = PW; }
  static constexpr void apply(pool_options& o) { o.padding = P; }
};
template <int D>
struct Dilation {
  static constexpr void apply(conv_options& o) { o.dilation = D; }
  static constexpr void apply(pool_options& o) { o.dilation = D; }
};
template <int G>
struct Groups {
  static constexpr void apply(conv_options& o) { o.groups = G; }
};
struct Depthwise {
  static constexpr void apply(conv_options& o) { o.groups = 0; }
};
struct NoBias {
  static constexpr void apply(conv_options& o) { o.bias = false; }
};
struct CeilMode {
  static constexpr void apply(pool_options& o) { o.ceil_mode = true; }
};
template <int Percent_>
struct Percent {
  static constexpr double p = Percent_ / 100.0;
};

// --- layers --------------------------------------------------------------------------------------------------------------
struct Identity {
  static constexpr value build(builder&, value x) { return x; }
};
/// Convolution to Out channels (from_data: the class count).
template <int Out, class... Options>
struct Conv {
  static constexpr value build(builder& b, value x) {
    conv_options o;
    (Options::apply(o), ...);
    return conv(b, x, b.classes(Out), o);
  }
};
template <int Out, class... Options>
struct ConvTranspose {
  static constexpr value build(builder& b, value x) {
    conv_options o;
    (Options::apply(o), ...);
    return conv_transpose(b, x, b.classes(Out), o);
  }
};
template <int Out>
struct Linear {
  static constexpr value build(builder& b, value x) { return linear(b, x, b.classes(Out)); }
};
/// MomentumPercent = 10 is PyTorch's default momentum of 0.1.
template <int MomentumPercent = 10>
struct BatchNorm {
  static constexpr value build(builder& b, value x) { return batch_norm(b, x, {1e-5, MomentumPercent / 100.0}); }
};
template <int NumGroups>
struct GroupNorm {
  static constexpr value build(builder& b, value x) { return group_norm(b, x, NumGroups); }
};
struct ReLU {
  static constexpr value build(builder& b, value x) { return relu(b, x); }
};
struct ELU {
  static constexpr value build(builder& b, value x) { return elu(b, x); }
};
struct Sigmoid {
  static constexpr value build(builder& b, value x) { return sigmoid(b, x); }
};
struct PReLU {
  static constexpr value build(builder& b, value x) { return prelu(b, x); }
};
struct Softmax {
  static constexpr value build(builder& b, value x) { return softmax(b, x); }
};
template <class... Options>
struct MaxPool {
  static constexpr value build(builder& b, value x) {
    pool_options o;
    (Options::apply(o), ...);
    return max_pool(b, x, o);
  }
};
template <class... Options>
struct AvgPool {
  static constexpr value build(builder& b, value x) {
    pool_options o;
    (Options::apply(o), ...);
    return avg_pool(b, x, o);
  }
};
template <int Bins>
struct AdaptiveAvgPool {
  static constexpr value build(builder& b, value x) { return adaptive_avg_pool(b, x, Bins); }
};
template <class P>
struct Dropout {
  static constexpr value build(builder& b, value x) { return dropout(b, x, P::p); }
};
template <class P>
struct Dropout2d {
  static constexpr value build(builder& b, value x) { return dropout2d(b, x, P::p); }
};
/// Bilinear (or nearest) scaling by Num / Den.
template <int Num, int Den = 1, bool AlignCorners = false, interpolation How = interpolation::bilinear>
struct Upsample {
  static constexpr value build(builder& b, value x) { return resize_by(b, x, Num, Den, AlignCorners, How); }
};

}  // namespace rsseg
