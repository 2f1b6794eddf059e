// SPDX-License-Identifier: MIT
// HRNetV2 (Sun et al., CVPR 2019 and "High-resolution representations for labeling pixels and regions", 2019; Wang et al., TPAMI 2020,
// Fig. 2 and Fig. 4c). Branches at strides 4, 8, 16, 32 with C, 2C, 4C, 8C channels run side by side and exchange all their maps after
// each module; the head puts all of them together at stride 4. x (N,B,H,W) -> logits (N,K,H/4,W/4), not up-sampled; H and W multiples
// of 32. C = 18, 32, 48; two small forms. Bilinear without aligned corners, as in the authors' code for PyTorch 1.1.
#pragma once
#include "rsseg/nets/entry.hpp"
#include "rsseg/nets/parity_case.hpp"
#include "rsseg/nets/resnet.hpp"

namespace rsseg {

struct hrnet_options {
  int width = 48;                          ///< C, channels of the finest branch
  int first_blocks = 4, first_width = 64;  ///< bottlenecks of stage 1 and their inner channels
  int modules[3] = {1, 4, 3};              ///< of stages 2, 3, 4
  int blocks = 4;                          ///< basic blocks of a branch in a module
  double momentum = 0.01;
};
constexpr hrnet_options hrnet_small_v1() { return {.width = 16, .first_blocks = 1, .first_width = 32, .modules = {1, 1, 1}, .blocks = 2}; }
constexpr hrnet_options hrnet_small_v2() { return {.width = 18, .first_blocks = 2, .first_width = 64, .modules = {1, 3, 2}, .blocks = 2}; }

/// Maps at strides 4, 8, 16, 32.
struct hrnet_features {
  value branch[4];
};

/// One module: `blocks` basic blocks on each of n branches, then the exchange: out_i = ReLU(sum over j of f_ij(x_j)), where f_ii is the
/// identity, f_ij for a coarser j a 1x1 convolution and a resize, for a finer j a chain of strided 3x3 convolutions.
constexpr void hrnet_module(builder& b, value* x, int n, int blocks, double momentum) {
  const norm_options norm{1e-5, momentum};
  for (int i = 0; i < n; ++i)
    for (int k = 0; k < blocks; ++k) {
      const scope s(b, numbered(numbered("branches.", i, "."), k));
      residual_options r;
      r.out = x[i].channels, r.momentum = r.block_momentum = momentum;
      x[i] = basic_block(b, x[i], r);
    }
  value mixed[4];
  for (int i = 0; i < n; ++i) {
    value parts[4];
    for (int j = 0; j < n; ++j) {
      const scope s(b, numbered(numbered("fuse_layers.", i, "."), j));
      value y = x[j];
      if (j > i) y = resize_like(b, conv_bn(b, "0", "1", y, x[i].channels, {}, norm), x[i]);
      for (int k = 0; k < i - j; ++k) {
        const scope inner(b, numbered("", k));
        const bool last = k == i - j - 1;
        y = conv_bn(b, "0", "1", y, last ? x[i].channels : x[j].channels, {.kernel = 3, .stride = 2}, norm);
        if (!last) y = relu(b, y);
      }
      parts[j] = y;
    }
    mixed[i] = relu(b, graph::ops::add(b, parts, n));
  }
  for (int i = 0; i < n; ++i) x[i] = mixed[i];
}

/// The body on x (N,B,H,W).
constexpr hrnet_features hrnet(builder& b, value x, const hrnet_options& o) {
  const norm_options norm{1e-5, o.momentum};
  x = conv_bn_relu(b, "conv1", "bn1", x, 64, {.kernel = 3, .stride = 2}, norm);
  x = conv_bn_relu(b, "conv2", "bn2", x, 64, {.kernel = 3, .stride = 2}, norm);
  for (int i = 0; i < o.first_blocks; ++i) {
    const scope s(b, numbered("layer1.", i));
    residual_options r;
    r.out = 4 * o.first_width, r.momentum = r.block_momentum = o.momentum;
    x = bottleneck_block(b, x, r);
  }
  hrnet_features f;
  value* const v = f.branch;
  v[0] = conv_bn_relu(b, "transition1.0.0", "transition1.0.1", x, o.width, {.kernel = 3}, norm);
  for (int stage = 2; stage <= 4; ++stage) {
    const int n = stage;
    {  // a new branch, from the coarsest so far
      const scope s(b, numbered(numbered("transition", stage - 1, "."), n - 1, ".0"));
      v[n - 1] = conv_bn_relu(b, "0", "1", stage == 2 ? x : v[n - 2], o.width << (n - 1), {.kernel = 3, .stride = 2}, norm);
    }
    for (int m = 0; m < o.modules[stage - 2]; ++m) {
      const scope s(b, numbered(numbered("stage", stage, "."), m));
      hrnet_module(b, v, n, o.blocks, o.momentum);
    }
  }
  return f;
}

/// All branches at stride 4, side by side: (N,15C,H/4,W/4).
constexpr value hrnet_together(builder& b, const hrnet_features& f) {
  value parts[4] = {f.branch[0]};
  for (int i = 1; i < 4; ++i) parts[i] = resize_like(b, f.branch[i], f.branch[0]);
  return graph::ops::concat(b, parts, 4);
}

enum class hrnet_size { full, small_v1, small_v2 };

template <int Classes = from_data, int Width = 48, hrnet_size Size = hrnet_size::full>
struct HRNetV2 {
  static constexpr hrnet_options options() {
    if (Size == hrnet_size::small_v1) return hrnet_small_v1();
    if (Size == hrnet_size::small_v2) return hrnet_small_v2();
    return {.width = Width};
  }
  /// The class scores at stride 4.
  static constexpr value scores(builder& b, value x) {
    const value y = hrnet_together(b, hrnet(b, x, options()));
    const scope s(b, "last_layer");
    const value z = relu(b, batch_norm(b, "1", conv(b, "0", y, y.channels), {1e-5, options().momentum}));
    return conv(b, "3", z, b.classes(Classes));
  }
  static constexpr void build(builder& b) { b.output("logits", scores(b, b.input("x", from_data)), 1); }
};

namespace detail {
inline constexpr recipe hrnet_recipe{.learning_rate = 0.01, .weight_decay = 5e-4, .batch = 12, .crop = 512};

/// The manifests state scaled logits, so that the softmax does not saturate.
template <class Net, int Divisor>
struct hrnet_scaled {
  static constexpr void build(builder& b) {
    const value y = Net::scores(b, b.input("x", from_data));
    b.output("logits", graph::ops::affine(b, y, 1.0 / Divisor, 0), 1);
  }
};
}  // namespace detail
inline constexpr network_entry hrnet_networks[] = {
    {"hrnetv2-w18", "HRNetV2-W18", "Wang et al., TPAMI 2020", "four resolutions side by side, 18 channels at the finest",
     &HRNetV2<from_data, 18>::build, detail::hrnet_recipe, 32, 0, 32},
    {"hrnetv2-w18-small-v1", "HRNetV2-W18-Small-v1", "Wang et al., TPAMI 2020", "one module a stage, 16 channels: 1.5 M parameters",
     &HRNetV2<from_data, 16, hrnet_size::small_v1>::build, detail::hrnet_recipe, 32, 0, 32},
    {"hrnetv2-w18-small-v2", "HRNetV2-W18-Small-v2", "Wang et al., TPAMI 2020", "1, 3, 2 modules, 18 channels: 3.9 M parameters",
     &HRNetV2<from_data, 18, hrnet_size::small_v2>::build, detail::hrnet_recipe, 32, 0, 32},
    {"hrnetv2-w32", "HRNetV2-W32", "Wang et al., TPAMI 2020", "32 channels at the finest resolution", &HRNetV2<from_data, 32>::build,
     detail::hrnet_recipe, 32, 0, 32},
    {"hrnetv2-w48", "HRNetV2-W48", "Wang et al., TPAMI 2020", "48 channels at the finest resolution", &HRNetV2<from_data, 48>::build,
     detail::hrnet_recipe, 32, 0, 32},
};

inline constexpr parity_case hrnet_parity[] = {
    {"HRNet", "hrnetv2-w18-small-v1", &HRNetV2<from_data, 16, hrnet_size::small_v1>::build},
    {"HRNet", "hrnetv2-w18-small-v2", &HRNetV2<from_data, 18, hrnet_size::small_v2>::build},
    {"HRNet", "hrnetv2-w18", &detail::hrnet_scaled<HRNetV2<from_data, 18>, 16>::build},
    {"HRNet", "hrnetv2-w32", &detail::hrnet_scaled<HRNetV2<from_data, 32>, 64>::build},
    {"HRNet", "hrnetv2-w48", &detail::hrnet_scaled<HRNetV2<from_data, 48>, 64>::build},
};

}  // namespace rsseg
