// SPDX-License-Identifier: MIT
// VGG-16 (Simonyan and Zisserman, ICLR 2015, Table 1, column D), without its classifier: five groups of 3x3 convolutions with bias
// and ReLU, each followed by a max pool. (N,3,H,W) -> pool1 (N,64,H/2,W/2) ... pool5 (N,512,H/32,W/32).
// Options cover the forms that others are built on: batch norm (torchvision), 3x3 pools with stride 1 and dilation at the end
// (DeepLab-LargeFOV, ParseNet), padding 100 and ceil mode (FCN), pooling indices (SegNet). The caller opens the scope.
#pragma once
#include "rsseg/layers/combinators.hpp"
#include "rsseg/layers/naming.hpp"

namespace rsseg {

/// How the convolutions are called.
enum class vgg_naming {
  running,   ///< index in one Sequential that counts ReLUs and pools: 0, 2, 5, ... (torchvision)
  by_group,  ///< a Sequential per group: 0.0, 0.2, 1.0, ...
  layers     ///< conv1_1, conv1_2, conv2_1, ... (Caffe)
};

struct vgg_options {
  int groups = 5;  ///< stop after this many
  int convs[5] = {2, 2, 3, 3, 3};
  int width = 64;           ///< channels of the first group; doubled up to group 4
  bool batch_norm = false;  ///< between every convolution and its ReLU
  int first_padding = 1;    ///< of the very first convolution; FCN: 100
  int dilation[5] = {1, 1, 1, 1, 1};
  int pool_kernel = 2, pool_padding = 0;
  int pool_stride[5] = {2, 2, 2, 2, 2};  ///< 0: no pool after this group
  bool ceil_mode = false;
  bool indices = false;  ///< pools also yield where the maxima were
  vgg_naming naming = vgg_naming::running;
};

/// The trunk of DeepLab v1 LargeFOV and of ParseNet: output stride 8, pools 3x3, last group dilated by 2.
constexpr vgg_options vgg_large_fov() {
  vgg_options o;
  o.pool_kernel = 3, o.pool_padding = 1;
  o.pool_stride[3] = o.pool_stride[4] = 1;
  o.dilation[4] = 2;
  return o;
}
/// The trunk of FCN: padding 100, ceil mode, Caffe's names.
constexpr vgg_options vgg_fcn() {
  vgg_options o;
  o.first_padding = 100, o.ceil_mode = true;
  o.naming = vgg_naming::layers;
  return o;
}

struct vgg_features {
  value conv[5];   ///< behind the last ReLU of each group
  value pool[5];   ///< behind each pool
  value index[5];  ///< with vgg_options::indices: where the maxima were
  value out;       ///< the last map
};

/// The convolutions of one group, without its pool: (N,C,H,W) -> (N,out,H,W). `index` runs on as in a Sequential.
constexpr value vgg_group(builder& b, value x, int group, int out, const vgg_options& o, int& index) {
  for (int i = 0; i < o.convs[group]; ++i) {
    conv_options c{.kernel = 3, .dilation = o.dilation[group]};
    if (group == 0 && i == 0 && o.first_padding != 1) c.padding = o.first_padding;
    if (o.naming == vgg_naming::layers) {
      x = conv(b, numbered(numbered("conv", group + 1, "_"), i + 1), x, out, c);
      if (o.batch_norm) x = batch_norm(b, numbered(numbered("bn", group + 1, "_"), i + 1), x);
    } else {
      x = conv(b, numbered("", index++), x, out, c);
      if (o.batch_norm) x = batch_norm(b, numbered("", index++), x);
    }
    x = relu(b, x);
    ++index;
  }
  return x;
}

/// The groups of VGG-16 and their pools on x (N,C,H,W).
constexpr vgg_features vgg(builder& b, value x, const vgg_options& o = {}) {
  vgg_features f;
  int index = 0;
  for (int g = 0; g < o.groups; ++g) {
    const int out = o.width << (g < 3 ? g : 3);
    if (o.naming == vgg_naming::by_group) {
      const detail::counted_scope s(b, "", g);
      index = 0;
      x = vgg_group(b, x, g, out, o, index);
    } else {
      x = vgg_group(b, x, g, out, o, index);
    }
    f.conv[g] = x;
    if (o.pool_stride[g] > 0) {
      const pool_options p{.kernel = o.pool_kernel, .stride = o.pool_stride[g], .padding = o.pool_padding, .ceil_mode = o.ceil_mode};
      if (o.indices) {
        const graph::ops::pooled r = max_pool_indices(b, x, p);
        x = r.y, f.index[g] = r.index;
      } else {
        x = max_pool(b, x, p);
      }
      ++index;
    }
    f.pool[g] = x;
  }
  f.out = x;
  return f;
}

/// VGG-16 as a layer; Use<"pool1"> ... Use<"pool5"> reach its maps.
template <bool WithBatchNorm = false>
struct VGG16 {
  static constexpr value build(builder& b, value x) {
    vgg_options o;
    o.batch_norm = WithBatchNorm;
    const vgg_features f = vgg(b, x, o);
    for (int g = 0; g < 5; ++g) b.set_tap(numbered("pool", g + 1), f.pool[g]);
    return f.out;
  }
};

}  // namespace rsseg
