// SPDX-License-Identifier: MIT
// ENet (Paszke, Chaurasia, Kim, Culurciello 2016, arXiv 1606.02147, Table 1): a large encoder on small maps, a small decoder.
//   initial 16 (1/2) | down 64, 4 regular (1/4) | down 128, then regular, dilated 2, asymmetric 5, dilated 4, regular, dilated 8, asymmetric 5,
//   dilated 16, and that once more (1/8) | up 64, 2 regular (1/4) | up 16, 1 regular (1/2) | transposed convolution to K classes (1/1).
// Default: the layout of the public PyTorch checkpoints (davidtvs/PyTorch-ENet): one PReLU slope per layer, an activation behind the
// expansion, 2x2 transposed convolutions. enet_policy::authors is the authors' Torch code: no activation there, a slope per channel, no norm
// between 5x1 and 1x5, a 2x2 pool in the initial block, 3x3 transposed convolutions.
#pragma once
#include "rsseg/layers/naming.hpp"
#include "rsseg/nets/entry.hpp"

namespace rsseg {

enum class enet_policy { checkpoints, authors };

/// What a bottleneck needs to know beside its input.
struct enet_bottleneck_options {
  enet_policy policy = enet_policy::checkpoints;
  bool decoder = false;  ///< ReLU instead of PReLU
  double dropout = 0.1;  ///< of whole channels, behind the expansion
  int dilation = 1;
  bool asymmetric = false;  ///< 5x1 then 1x5 instead of 3x3
};

namespace detail {
constexpr value enet_activation(builder& b, std::string_view name, value x, const enet_bottleneck_options& o) {
  if (o.decoder) return relu(b, x);
  const scope s(b, name);
  return prelu(b, x, o.policy == enet_policy::checkpoints);
}
/// conv -> BN -> activation, numbered from `first`.
constexpr value enet_unit(builder& b, value x, int out, conv_options c, const enet_bottleneck_options& o, int first = 0) {
  const value y = conv_bn(b, numbered("", first), numbered("", first + 1), x, out, c);
  return enet_activation(b, numbered("", first + 2), y, o);
}
constexpr value enet_middle(builder& b, value x, const enet_bottleneck_options& o) {
  const scope s(b, "ext_conv2");
  if (!o.asymmetric) return enet_unit(b, x, x.channels, {.kernel = 3, .dilation = o.dilation}, o);
  if (o.policy == enet_policy::authors) {
    x = conv(b, "0", x, x.channels, {.kernel = 5, .kernel_w = 1, .bias = false});
    return enet_unit(b, x, x.channels, {.kernel = 1, .kernel_w = 5}, o, 1);
  }
  x = enet_unit(b, x, x.channels, {.kernel = 5, .kernel_w = 1}, o);
  return enet_unit(b, x, x.channels, {.kernel = 1, .kernel_w = 5}, o, 3);
}
/// 1x1 -> middle -> 1x1 to `out`, dropout: the branch that is added. first: the convolution that narrows.
constexpr value enet_extension(builder& b, value x, int out, conv_options first, const enet_bottleneck_options& o) {
  value y;
  {
    const scope s(b, "ext_conv1");
    y = enet_unit(b, x, x.channels / 4, first, o);
  }
  y = enet_middle(b, y, o);
  {
    const scope s(b, "ext_conv3");
    y = o.policy == enet_policy::authors ? conv_bn(b, "0", "1", y, out) : enet_unit(b, y, out, {}, o);
  }
  return dropout2d(b, y, o.dropout);
}
}  // namespace detail

/// (N,3,H,W) -> (N,16,H/2,W/2): 13 learned channels beside the pooled input.
constexpr value enet_initial(builder& b, value x, enet_policy policy = enet_policy::checkpoints) {
  const value learned = conv(b, "main_branch", x, 16 - x.channels, {.kernel = 3, .stride = 2, .bias = false});
  const pool_options pool =
      policy == enet_policy::authors ? pool_options{.kernel = 2, .ceil_mode = true} : pool_options{.kernel = 3, .stride = 2, .padding = 1};
  const value y = batch_norm(b, "batch_norm", concat(b, learned, max_pool(b, x, pool)));
  return detail::enet_activation(b, "out_activation", y, {.policy = policy});
}

/// Regular, dilated or asymmetric bottleneck: (N,C,H,W) -> the same.
constexpr value enet_bottleneck(builder& b, value x, const enet_bottleneck_options& o) {
  const value y = add(b, x, detail::enet_extension(b, x, x.channels, {}, o));
  return detail::enet_activation(b, "out_activation", y, o);
}

/// What unpooling needs later.
struct enet_pooled {
  value y, index, before;
};
/// (N,C,H,W) -> (N,out,H/2,W/2); the pooled main branch has no channels beyond C, so it is added to the first C.
constexpr enet_pooled enet_down(builder& b, value x, int out, const enet_bottleneck_options& o) {
  const graph::ops::pooled pooled = max_pool_indices(b, x);
  const value extension = detail::enet_extension(b, x, out, {.kernel = 2, .stride = 2, .padding = 0}, o);
  const value added = add(b, pooled.y, graph::ops::slice(b, extension, 0, x.channels));
  const value y = concat(b, added, graph::ops::slice(b, extension, x.channels, out - x.channels));
  return {detail::enet_activation(b, "out_activation", y, o), pooled.index, x};
}

namespace detail {
/// Transposed convolution without bias to exactly twice the extent, or one pixel more or less: that of `like`.
constexpr value deconvolve_like(builder& b, std::string_view name, value x, int out, int kernel, value like) {
  const value wide = conv_transpose(b, name, x, out, {.kernel = kernel, .stride = 2, .padding = 0, .bias = false});
  const int cut = (kernel - 1) / 2;
  return graph::ops::pad_crop_like(b, wide, like, graph::ops::pad_rule::offset, -cut, -cut);
}
}  // namespace detail

/// (N,C,H/2,W/2) -> (N,out,H,W), unpooled to where `from` took its maxima.
constexpr value enet_up(builder& b, value x, const enet_pooled& from, int out, enet_bottleneck_options o) {
  o.decoder = true;
  value main;
  {
    const scope s(b, "main_conv1");
    main = conv_bn(b, "0", "1", x, out);
  }
  main = max_unpool(b, main, from.index, from.before);
  value y;
  {
    const scope s(b, "ext_conv1");
    y = conv_bn_relu(b, "0", "1", x, x.channels / 4);
  }
  y = detail::deconvolve_like(b, "ext_tconv1", y, y.channels, o.policy == enet_policy::authors ? 3 : 2, from.before);
  y = relu(b, batch_norm(b, "ext_tconv1_bnorm", y));
  {
    const scope s(b, "ext_conv2");
    y = conv_bn(b, "0", "1", y, out);
  }
  return relu(b, add(b, main, dropout2d(b, y, o.dropout)));
}

template <int Classes = from_data, enet_policy Policy = enet_policy::checkpoints>
struct ENet {
  static constexpr void build(builder& b) {
    const value x = b.input("x", from_data);
    value y;
    {
      const scope s(b, "initial_block");
      y = enet_initial(b, x, Policy);
    }
    enet_bottleneck_options o{.policy = Policy, .dropout = 0.01};
    const enet_pooled p1 = down(b, "downsample1_0", y, 64, o);
    y = p1.y;
    for (int i = 1; i <= 4; ++i) y = bottleneck(b, numbered("regular1_", i), y, o);
    o.dropout = 0.1;
    const enet_pooled p2 = down(b, "downsample2_0", y, 128, o);
    y = stage(b, 2, 1, p2.y, o);
    y = stage(b, 3, 0, y, o);
    o.decoder = true;
    y = up(b, "upsample4_0", y, p2, 64, o);
    y = bottleneck(b, "regular4_1", y, o);
    y = bottleneck(b, "regular4_2", y, o);
    y = up(b, "upsample5_0", y, p1, 16, o);
    y = bottleneck(b, "regular5_1", y, o);
    b.output("logits", detail::deconvolve_like(b, "transposed_conv", y, b.classes(Classes), 3, x), 1);
  }

 private:
  static constexpr value bottleneck(builder& b, std::string_view name, value x, const enet_bottleneck_options& o) {
    const scope s(b, name);
    return enet_bottleneck(b, x, o);
  }
  static constexpr enet_pooled down(builder& b, std::string_view name, value x, int out, const enet_bottleneck_options& o) {
    const scope s(b, name);
    return enet_down(b, x, out, o);
  }
  static constexpr value up(builder& b, std::string_view name, value x, const enet_pooled& from, int out, const enet_bottleneck_options& o) {
    const scope s(b, name);
    return enet_up(b, x, from, out, o);
  }
  /// Eight bottlenecks of stage 2 or 3; stage 3 counts from 0.
  static constexpr value stage(builder& b, int number, int first, value x, enet_bottleneck_options o) {
    constexpr std::string_view kinds[] = {"regular", "dilated", "asymmetric", "dilated", "regular", "dilated", "asymmetric", "dilated"};
    constexpr int dilation[] = {1, 2, 1, 4, 1, 8, 1, 16};
    for (int i = 0; i < 8; ++i) {
      o.dilation = dilation[i], o.asymmetric = i % 4 == 2;
      const numbered kind(kinds[i], number, "_");
      x = bottleneck(b, numbered(kind, first + i), x, o);
    }
    return x;
  }
};

inline constexpr network_entry enet_networks[] = {
    {"enet", "ENet", "Paszke et al. 2016", "small and fast; layout of the public PyTorch checkpoints", &ENet<>::build,
     recipe{"adam", 5e-4, 0.9, 2e-4, "step", 10, 480, 1, "", "ce", "enet"}, 1, 0, 8},
    {"enet-authors", "ENet", "Paszke et al. 2016", "as the authors' Torch code: slope per channel, no activation behind the expansion",
     &ENet<from_data, enet_policy::authors>::build, recipe{"adam", 5e-4, 0.9, 2e-4, "step", 10, 480, 1, "", "ce", "enet"}, 1, 0, 8},
};

}  // namespace rsseg
