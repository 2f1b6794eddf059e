// SPDX-License-Identifier: MIT
// ResNet-18/34/50/101 (He et al., "Deep residual learning for image recognition", CVPR 2016, Table 1), the backbone of many networks
// here. Maps of a (N,3,H,W) input at output stride 32:
//   stem (N,64,H/2,W/2) before the pool, c2 (N,64e,H/4,W/4), c3 (N,128e,H/8,W/8), c4 (N,256e,H/16,W/16), c5 (N,512e,H/32,W/32),
// e = 1 for basic blocks (18, 34), 4 for bottlenecks (50, 101). At output stride 16 or 8 the last stages keep their extent and dilate
// (Yu et al., CVPR 2017). Parameter names are torchvision's unless resnet_names says otherwise; the caller opens the scope.
#pragma once
#include "rsseg/layers/combinators.hpp"
#include "rsseg/layers/naming.hpp"

namespace rsseg {

/// Which dilation the first block of a dilated stage takes.
enum class dilation_rule {
  previous_first,  ///< that of the stage before (torchvision)
  whole_stage,     ///< the stage's own (PSPNet, DeepLab v2 and v3+)
  undilated_first  ///< none (the pspnet-pytorch family, CascadePSP)
};

enum class resnet_stem { plain /*7x7*/, deep /*3x3 three times, 128 channels*/ };

/// Which running statistics the norms use in training.
enum class norm_mode { batch, frozen /*running statistics, gamma and beta untrained*/ };

/// Scopes of the parameters; the defaults are torchvision's (deep stem: hszhao/semseg's).
struct resnet_names {
  std::string_view stem_conv[3] = {"conv1", "layer0.3", "layer0.6"};
  std::string_view stem_norm[3] = {"bn1", "layer0.4", "layer0.7"};
  std::string_view stages[4] = {"layer1", "layer2", "layer3", "layer4"};
  std::string_view block_prefix = "";  ///< "block": block1, block2, ...
  int first_block = 0;
  std::string_view conv[3] = {"conv1", "conv2", "conv3"};
  std::string_view norm[3] = {"bn1", "bn2", "bn3"};
  std::string_view shortcut_conv = "downsample.0", shortcut_norm = "downsample.1";
};
constexpr resnet_names semseg_names() {
  resnet_names n;
  n.stem_conv[0] = "layer0.0", n.stem_norm[0] = "layer0.1";
  return n;
}

struct resnet_options {
  int blocks[4] = {3, 4, 6, 3};
  bool bottleneck = true;
  int output_stride = 32;  ///< 4, 8, 16 or 32
  dilation_rule dilation = dilation_rule::previous_first;
  int grid[3] = {1, 1, 1};  ///< multi-grid: block i of the last stage takes grid[i % 3] times its dilation (DeepLab v3)
  resnet_stem stem = resnet_stem::plain;
  int width = 64;                ///< channels of the first stage; 64 is the paper's
  bool stride_in_first = false;  ///< the 1x1 in front of the 3x3 strides (MSRA's Caffe models)
  bool ceil_pool = false;        ///< ceil mode of the stem's pool (Caffe)
  int stages = 4;                ///< stop after this many
  norm_mode mode = norm_mode::batch;
  double momentum = 0.1;       ///< of the norms of stem and shortcuts
  double block_momentum = -1;  ///< of the norms inside the blocks; -1: as momentum
  resnet_names names = {};
};

/// ResNet of a standard depth: 18, 34, 50, 101 or 152. Another depth is refused when it is built.
constexpr resnet_options resnet_of_depth(int depth, int output_stride = 32, dilation_rule rule = dilation_rule::previous_first) {
  resnet_options o;
  o.output_stride = output_stride, o.dilation = rule;
  o.bottleneck = depth >= 50;
  if (depth == 18) o.blocks[0] = o.blocks[1] = o.blocks[2] = o.blocks[3] = 2;
  if (depth == 101) o.blocks[2] = 23;
  if (depth == 152) o.blocks[1] = 8, o.blocks[2] = 36;
  if (depth != 18 && depth != 34 && depth != 50 && depth != 101 && depth != 152) o.blocks[0] = 0;
  return o;
}

/// The maps of a ResNet; those of stages that were not built are invalid.
struct resnet_features {
  value stem_conv;  ///< the (last) convolution of the stem, before its norm
  value stem;       ///< after norm and ReLU, before the pool
  value c2, c3, c4, c5;
};

namespace detail {
/// Batch norm as the options say, in scope `name`.
constexpr value resnet_norm(builder& b, std::string_view name, value x, norm_mode mode, double momentum, double frozen_gamma = 1) {
  if (mode == norm_mode::batch) return batch_norm(b, name, x, {1e-5, momentum});
  const scope s(b, name);
  return frozen_batch_norm(b, x, 1e-5, frozen_gamma);
}
/// Frozen norms of weights that were not trained before normalise nothing: sums of residual blocks would grow with every block.
inline constexpr double frozen_branch = 0.25;
}  // namespace detail

/// What a residual block needs beside its input; `out` = channels it yields.
struct residual_options {
  int out = 64, stride = 1, dilation = 1;
  bool stride_in_first = false;
  norm_mode mode = norm_mode::batch;
  double momentum = 0.1, block_momentum = 0.1;
  resnet_names names = {};
};

namespace detail {
constexpr value residual_shortcut(builder& b, value x, const residual_options& o) {
  if (o.stride == 1 && x.channels == o.out) return x;
  const value s = conv(b, o.names.shortcut_conv, x, o.out, {.kernel = 1, .stride = o.stride, .bias = false});
  return resnet_norm(b, o.names.shortcut_norm, s, o.mode, o.momentum);
}
}  // namespace detail

/// Two 3x3 convolutions and a shortcut (He et al. 2016, Fig. 5 left): (N,C,H,W) -> (N,out,H/stride,W/stride). Both convolutions dilate.
constexpr value basic_block(builder& b, value x, const residual_options& o) {
  const resnet_names& n = o.names;
  value y = conv(b, n.conv[0], x, o.out, {.kernel = 3, .stride = o.stride, .dilation = o.dilation, .bias = false});
  y = relu(b, detail::resnet_norm(b, n.norm[0], y, o.mode, o.block_momentum));
  y = conv(b, n.conv[1], y, o.out, {.kernel = 3, .dilation = o.dilation, .bias = false});
  y = detail::resnet_norm(b, n.norm[1], y, o.mode, o.block_momentum, detail::frozen_branch);
  return relu(b, add(b, y, detail::residual_shortcut(b, x, o)));
}

/// 1x1, 3x3, 1x1 and a shortcut (He et al. 2016, Fig. 5 right), out / 4 channels inside: (N,C,H,W) -> (N,out,H/stride,W/stride).
constexpr value bottleneck_block(builder& b, value x, const residual_options& o) {
  const resnet_names& n = o.names;
  const int width = o.out / 4, first = o.stride_in_first ? o.stride : 1, second = o.stride_in_first ? 1 : o.stride;
  value y = conv(b, n.conv[0], x, width, {.kernel = 1, .stride = first, .bias = false});
  y = relu(b, detail::resnet_norm(b, n.norm[0], y, o.mode, o.block_momentum));
  y = conv(b, n.conv[1], y, width, {.kernel = 3, .stride = second, .dilation = o.dilation, .bias = false});
  y = relu(b, detail::resnet_norm(b, n.norm[1], y, o.mode, o.block_momentum));
  y = conv(b, n.conv[2], y, o.out, {.kernel = 1, .bias = false});
  y = detail::resnet_norm(b, n.norm[2], y, o.mode, o.block_momentum, detail::frozen_branch);
  return relu(b, add(b, y, detail::residual_shortcut(b, x, o)));
}

namespace detail {
/// Stride and dilation of stage i at an output stride.
struct stage_rate {
  int stride = 1, dilation = 1, before = 1;  // before: dilation of the stage in front
};
constexpr stage_rate rate_of_stage(int stage, int output_stride) {
  stage_rate r;
  int reached = 4;
  for (int i = 1; i <= stage; ++i) {
    r.before = r.dilation;
    r.stride = reached < output_stride ? 2 : 1;
    reached *= r.stride;
    if (r.stride == 1) r.dilation *= 2;
  }
  return r;
}

constexpr value build_resnet_stem(builder& b, value x, const resnet_options& o, value& convolved) {
  const int layers = o.stem == resnet_stem::deep ? 3 : 1;
  for (int i = 0; i < layers; ++i) {
    const int out = layers == 3 && i == 2 ? 2 * o.width : o.width;
    convolved = conv(b, o.names.stem_conv[i], x, out, {.kernel = layers == 3 ? 3 : 7, .stride = i == 0 ? 2 : 1, .bias = false});
    x = relu(b, resnet_norm(b, o.names.stem_norm[i], convolved, o.mode, o.momentum));
  }
  return x;
}
}  // namespace detail

/// One stage, numbered 0 to 3 (conv2_x to conv5_x of the paper).
constexpr value resnet_stage(builder& b, value x, int stage, const resnet_options& o) {
  const scope s(b, o.names.stages[stage]);
  const detail::stage_rate rate = detail::rate_of_stage(stage, o.output_stride);
  if (o.blocks[stage] < 1) b.fail(graph::fault::bad_option, 1, o.blocks[stage]);
  for (int i = 0; i < o.blocks[stage]; ++i) {
    residual_options r;
    r.out = (o.width << stage) * (o.bottleneck ? 4 : 1);
    r.stride = i == 0 ? rate.stride : 1;
    r.dilation = rate.dilation;
    if (i == 0 && o.dilation == dilation_rule::previous_first) r.dilation = rate.before;
    if (i == 0 && o.dilation == dilation_rule::undilated_first) r.dilation = 1;
    if (stage == 3) r.dilation *= o.grid[i % 3];
    r.stride_in_first = o.stride_in_first, r.mode = o.mode, r.names = o.names;
    r.momentum = o.momentum, r.block_momentum = o.block_momentum < 0 ? o.momentum : o.block_momentum;
    const detail::counted_scope n(b, o.names.block_prefix, i + o.names.first_block);
    x = o.bottleneck ? bottleneck_block(b, x, r) : basic_block(b, x, r);
  }
  return x;
}

/// The pool between stem and first stage: 3x3, stride 2, padding 1.
constexpr value resnet_pool(builder& b, value x, const resnet_options& o) {
  return max_pool(b, x, {.kernel = 3, .stride = 2, .padding = 1, .ceil_mode = o.ceil_pool});
}

/// Stem, pool and o.stages stages on x (N,C,H,W): resnet(b, x, resnet_of_depth(50, 8)).
constexpr resnet_features resnet(builder& b, value x, const resnet_options& o) {
  if (o.output_stride != 4 && o.output_stride != 8 && o.output_stride != 16 && o.output_stride != 32)
    b.fail(graph::fault::bad_option, 32, o.output_stride);
  resnet_features f;
  f.stem = detail::build_resnet_stem(b, x, o, f.stem_conv);
  value y = resnet_pool(b, f.stem, o);
  value* const maps[] = {&f.c2, &f.c3, &f.c4, &f.c5};
  for (int i = 0; i < o.stages; ++i) *maps[i] = y = resnet_stage(b, y, i, o);
  return f;
}

// --- as layers: Seq<ResNet50<OutputStride<8>>, ...>; Use<"c2"> ... Use<"c5"> and Use<"stem"> reach the maps ------------------
template <int S>
struct OutputStride {
  static constexpr void apply(resnet_options& o) { o.output_stride = S; }
};
/// Every block of a dilated stage takes the stage's dilation.
struct WholeStageDilation {
  static constexpr void apply(resnet_options& o) { o.dilation = dilation_rule::whole_stage; }
};
template <int A, int B, int C>
struct MultiGrid {
  static constexpr void apply(resnet_options& o) { o.grid[0] = A, o.grid[1] = B, o.grid[2] = C; }
};
struct DeepStem {
  static constexpr void apply(resnet_options& o) { o.stem = resnet_stem::deep, o.names = semseg_names(); }
};
struct StrideInFirst {
  static constexpr void apply(resnet_options& o) { o.stride_in_first = true; }
};
struct CeilPool {
  static constexpr void apply(resnet_options& o) { o.ceil_pool = true; }
};
/// Stops after N stages: 3 ends with c4.
template <int N>
struct Stages {
  static constexpr void apply(resnet_options& o) { o.stages = N; }
};

template <int Depth, class... Options>
struct ResNet {
  static constexpr resnet_options options() {
    resnet_options o = resnet_of_depth(Depth);
    (Options::apply(o), ...);
    return o;
  }
  static constexpr value build(builder& b, value x) {
    const resnet_features f = resnet(b, x, options());
    b.set_tap("stem", f.stem);
    const value maps[] = {f.c2, f.c3, f.c4, f.c5};
    constexpr std::string_view names[] = {"c2", "c3", "c4", "c5"};
    for (int i = 0; i < options().stages; ++i) b.set_tap(names[i], maps[i]);
    return maps[options().stages - 1];
  }
};
template <class... Options>
using ResNet18 = ResNet<18, Options...>;
template <class... Options>
using ResNet34 = ResNet<34, Options...>;
template <class... Options>
using ResNet50 = ResNet<50, Options...>;
template <class... Options>
using ResNet101 = ResNet<101, Options...>;

}  // namespace rsseg
