// SPDX-License-Identifier: MIT
// Options of rsseg train, shared by networks (cmd_train.cpp) and systems (cmd_systems.cpp).
#pragma once
#include <cstdio>

#include "commands.hpp"
#include "rsseg/data/dataset.hpp"
#include "rsseg/train/trainer.hpp"

namespace rsseg::program {

struct train_request {
  std::string net, data, val, out, init, coarse = "perturb", normalize = "auto", optimizer, schedule, loss, edge_loss = "auto", weighting, sampler,
                                         augment = "aerial", stage;
  int classes = 0, crop = 0, batch = 0, accumulate = 1, workers = 2, ignore = -1, tile = 0, patch = 0;
  double epochs = 0, minutes = 0, lr = 0, weight_decay = -1, momentum = -1, clip = -1, ema = 0, warmup = 0, balance = 0, evaluate_every = 0.1,
         checkpoint_every = 60, head_rate = 0, pretrain = 0.5, penalties_from = -1;
  std::uint64_t steps = 0, seed = 1, checkpoint_steps = 0, epoch_draws = 0;
  std::vector<std::string> inputs, priors;
  double input_dropout = 0;
  int recompute = 0;  ///< 1: asked for, -1: refused (CLI11 counts flags so), 0: neither
  bool resume = false, nesterov = false, freeze_norm = false;
  double max_memory = 0;
  device_request where;
};

/// What the request and the recipe ask for, with crops of `crop` pixels; usage_error for what has no meaning.
train::train_options options_of(const train_request& q, const recipe& d, int crop, const std::string& loss, const data::dataset& set);

/// --normalize: "auto" is ImageNet's for three bands of 8 bits, whose units it is in, and measured for everything else.
data::normalization normalization_of(const std::string& asked, const data::dataset& set);

/// What a weights file will say of itself.
train::weights_info info_of(const std::string& network, const data::dataset& set, const data::normalization& normalize);

/// What to say of a validation.
inline std::string validation_line(const train::training_state& s, const train::confusion_matrix& m) {
  const train::segmentation_scores scores = m.scores();
  char line[112];
  if (scores.counted == 0)
    std::snprintf(line, sizeof line, "step %llu: validated on images without a labelled pixel, which says nothing",
                  static_cast<unsigned long long>(s.step));
  else
    std::snprintf(line, sizeof line, "step %llu: val mIoU %.4f, pixel accuracy %.4f", static_cast<unsigned long long>(s.step), scores.mean_iou,
                  scores.pixel_accuracy);
  return line;
}

/// rsseg train --net SYSTEM; false if there is no such system.
bool train_system(const train_request& q, const common_options& common);

}  // namespace rsseg::program
