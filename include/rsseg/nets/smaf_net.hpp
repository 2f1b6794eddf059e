// SPDX-License-Identifier: MIT
// SMAF-Net (Chen, Zhu, Sun, Li, Deng, IEEE GRSL 18(11), 2021): the features of a discriminator that was trained against a segmenter are
// shared into a second, U-shaped segmenter.
//   discriminator D on [image, class probabilities]: 4x4/2 to Base (bias), then 2, 4, 8 x Base with BN, LeakyReLU 0.2; head 4x4 to 1
//   U-Net: (3x3 BN ReLU) x 2 with Base * 1, 2, 4, 8, bottleneck 16; bottleneck += 1x1(D_3); level i = 3..0: transposed 2x2,
//     concat [up, encoder i, 1x1(D_{i-1}) if i > 0], (3x3 BN ReLU) x 2; 1x1 to K
// Stage 1: SMAFGenerator (a U-Net of the same blocks, cross entropy + 0.01 adversarial term) and SMAFDiscriminator, one optimiser each, by
//   turns (train/adversarial.hpp). Real maps are the labels as one-hot maps, with the generator's own values where labels are ignored.
// Stage 2: SMAFNet with D fixed; its inputs are the image and the generator's class probabilities. SMAFSegmenter has the generator in it.
// Known from its abstract: widths, weights, the order of steps and the choice of D as the source of features are ours.
#pragma once
#include "rsseg/layers/conv_block.hpp"
#include "rsseg/nets/entry.hpp"

namespace rsseg {

namespace detail {
/// ln(1 + e^z), without overflow.
constexpr value softplus(builder& b, value z) {
  const value small = graph::ops::unary(b, graph::ops::affine(b, graph::ops::unary(b, z, function::abs), -1, 0), function::exp);
  return add(b, relu(b, z), graph::ops::unary(b, graph::ops::affine(b, small, 1, 1), function::log));
}
/// Mean of everything: (1,1,1,1).
constexpr value mean_of(builder& b, value x) {
  namespace ops = graph::ops;
  return ops::reduce(b, x, ops::axis_n | ops::axis_c | ops::axis_h | ops::axis_w, true);
}

/// Activations of the discriminator at strides 2, 4, 8, 16, and its score per patch.
struct smaf_discriminator {
  value d[4], score;
  constexpr smaf_discriminator(builder& b, value image, value probabilities, int base) {
    value y = concat(b, image, probabilities);
    for (int i = 0; i < 4; ++i) {
      const scope s(b, numbered("disc.", i));
      y = conv(b, "0", y, base << i, {.kernel = 4, .stride = 2, .padding = 1, .bias = i == 0});
      if (i > 0) y = batch_norm(b, "1", y);
      d[i] = y = leaky_relu(b, y, 0.2);
    }
    score = conv(b, "disc_head", y, 1, {.kernel = 4, .padding = 1});
  }
};

/// The U-Net on x; with a discriminator, its features join. Scores (N,classes,H,W).
constexpr value smaf_unet(builder& b, value x, const smaf_discriminator* disc, int classes, int base) {
  value encoder[4], y = x;
  for (int i = 0; i < 4; ++i) {
    encoder[i] = double_conv_block(b, numbered("enc.", i), y, base << i);
    y = max_pool(b, encoder[i]);
  }
  y = double_conv_block(b, "mid", y, 16 * base);
  if (disc) y = add(b, y, conv(b, "dmid", graph::ops::stop_gradient(b, disc->d[3]), 16 * base));
  for (int i = 3; i >= 0; --i) {
    const int width = base << i;
    value joined = concat(b, conv_transpose(b, numbered("upc.", i), y, width, {.kernel = 2, .stride = 2}), encoder[i]);
    if (disc && i > 0) joined = concat(b, joined, conv(b, numbered("adapt.", i), graph::ops::stop_gradient(b, disc->d[i - 1]), width));
    y = double_conv_block(b, numbered("dec.", i), joined, width);
  }
  return conv(b, "cls", y, classes);
}
}  // namespace detail

/// Stage 2: image and mask_prob (N,K,H,W). KeepScore: the discriminator's score is an output, too.
template <int Classes = from_data, int Base = 64, bool KeepScore = false>
struct SMAFNet {
  static constexpr void build(builder& b) {
    const int k = b.classes(Classes);
    const value image = b.input("image", from_data), probabilities = b.input("mask_prob", k);
    const detail::smaf_discriminator disc(b, image, probabilities, Base);
    b.output("logits", detail::smaf_unet(b, image, &disc, k, Base), 1);
    b.output("disc_score", graph::ops::stop_gradient(b, disc.score), 0, label_rule::resize_logits, false, !KeepScore);
  }
};

/// Stage 1, generator's step: cross entropy + 0.01 * -ln D(image, softmax(scores)). Train everything but `disc`.
template <int Classes = from_data, int Base = 64>
struct SMAFGenerator {
  static constexpr void build(builder& b) {
    const value x = b.input("image", from_data);
    value y;
    {
      const scope s(b, "generator");
      y = detail::smaf_unet(b, x, nullptr, b.classes(Classes), Base);
    }
    b.output("logits", y, 1);
    if (!b.training()) return;
    const value fake = softmax(b, y);
    const detail::smaf_discriminator disc(b, x, fake, Base);
    b.output("fake", fake, 0, label_rule::resize_logits, false, true);
    const value deceived = detail::mean_of(b, detail::softplus(b, graph::ops::affine(b, disc.score, -1, 0)));
    b.output("adversarial", deceived, 0, label_rule::resize_logits, false, true);
    b.add_penalty("adversarial", deceived, 0.01);
  }
};

/// Stage 1, discriminator's step: -ln D(image, real) - ln(1 - D(image, fake)); real: labels as one-hot maps, fake: the generator's probabilities.
template <int Classes = from_data, int Base = 64>
struct SMAFDiscriminator {
  static constexpr void build(builder& b) {
    const int k = b.classes(Classes);
    const value image = b.input("image", from_data), real = b.input("real", k), fake = b.input("fake", k);
    const detail::smaf_discriminator of_real(b, image, real, Base);
    const shared_weights shared(b);
    const detail::smaf_discriminator of_fake(b, image, fake, Base);
    b.output("score", of_real.score);
    b.add_penalty("real", detail::mean_of(b, detail::softplus(b, graph::ops::affine(b, of_real.score, -1, 0))));
    b.add_penalty("fake", detail::mean_of(b, detail::softplus(b, of_fake.score)));
  }
};

/// Stage 2 with the generator in it, for one image: the generator's probabilities go to D, D's features to the U-Net. Generator and D stay
/// as stage 1 left them, normalisation included; the U-Net learns.
template <int Classes = from_data, int Base = 64>
struct SMAFSegmenter {
  static constexpr void build(builder& b) {
    const int k = b.classes(Classes);
    const value x = b.input("x", from_data);
    const auto disc = [&] {
      const frozen_norm fixed(b);
      value first;
      {
        const scope s(b, "generator");
        first = detail::smaf_unet(b, x, nullptr, k, Base);
      }
      return detail::smaf_discriminator(b, x, graph::ops::stop_gradient(b, softmax(b, first)), Base);
    }();
    b.output("logits", detail::smaf_unet(b, x, &disc, k, Base), 1);
  }
};

/// Adam 2e-4 with betas .5 and .999 for both; D is fixed while the generator steps.
inline constexpr adversarial_stage smaf_net_stage1{&SMAFGenerator<>::build, &SMAFDiscriminator<>::build, "disc", 2e-4, 0.5};

inline constexpr network_entry smaf_net_networks[] = {
    {"smaf-net", "SMAF-Net", "Chen et al., IEEE GRSL 2021", "U-Net with features of an adversarially trained discriminator; generator built in",
     &SMAFSegmenter<>::build, recipe{"sgd", 0.01, 0.9, 1e-4, "poly", 8, 256}, 16, 0, 32, true, 0, &smaf_net_stage1},
    {"smaf-net-stage2", "SMAF-Net, stage 2", "Chen et al., IEEE GRSL 2021", "takes the generator's probabilities as input `mask_prob`",
     &SMAFNet<>::build, recipe{"sgd", 0.01, 0.9, 1e-4, "poly", 8, 256}, 16, 0, 32, false},
    {"smaf-net-generator", "SMAF-Net, stage 1", "Chen et al., IEEE GRSL 2021", "U-Net with an adversarial term; trained as a part of smaf-net",
     &SMAFGenerator<>::build, recipe{"adam", 2e-4, 0.5, 0, "constant", 8, 256}, 16, 0, 32, false},
    {"smaf-net-discriminator", "SMAF-Net, stage 1", "Chen et al., IEEE GRSL 2021", "tells labels from the generator's maps",
     &SMAFDiscriminator<>::build, recipe{"adam", 2e-4, 0.5, 0, "constant", 8, 256}, 16, 0, 32, false},
};

}  // namespace rsseg
