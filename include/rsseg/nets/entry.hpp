// SPDX-License-Identifier: MIT
// What the command line and the documentation know of a network beside its type. Every header in nets/ ends with an array of these,
// lowered with from_data counts; registry.hpp lists the arrays.
#pragma once
#include "rsseg/layers/network.hpp"

namespace rsseg {

/// How the paper (or its reference implementation) trained the network: defaults of `rsseg train`.
struct recipe {
  const char* optimizer = "sgd";  ///< sgd, adam, adamw, rmsprop
  double learning_rate = 0.01;
  double momentum = 0.9;  ///< sgd; beta1 of adam
  double weight_decay = 1e-4;
  const char* schedule = "poly";  ///< poly (power 0.9), cosine, step, constant
  int batch = 8;
  int crop = 512;                      ///< square crop side in pixels
  double head_rate = 1;                ///< learning-rate factor of everything outside the backbone
  const char* backbone = "";           ///< prefixes of backbone parameters, separated by commas, for head_rate
  const char* loss = "ce";             ///< as `rsseg train --loss` takes it
  const char* class_weights = "none";  ///< as `rsseg train --class-weights` takes it
  double clip = 0;                     ///< largest norm of the gradient; 0: none
  double penalties_from = 0;           ///< part of the training after which the network's penalties count
};

/// A first stage of training in which a generator of class maps and a discriminator learn against each other (train/adversarial.hpp).
/// generator: input `image`, in training outputs `fake` (N,K,H,W probabilities) and `adversarial` (its penalty, 1,1,1,1), the
/// discriminator's parameters under `fixed`.
/// discriminator: inputs `image`, `real`, `fake`, penalties only. What they learn goes to the network's parameters of the same names.
struct adversarial_stage {
  void (*generator)(builder&);
  void (*discriminator)(builder&);
  const char* fixed;
  double learning_rate = 2e-4, beta1 = 0.5, beta2 = 0.999;  ///< Adam, both
};

struct network_entry {
  const char* name;   ///< as in `rsseg train --net NAME`: lower case, digits, dashes
  const char* title;  ///< as the paper writes it
  const char* paper;  ///< authors, venue, year
  const char* note;   ///< one line: what is distinct, what is ours
  void (*build)(builder&);
  recipe defaults = {};
  int size_multiple = 1;  ///< legal heights and widths are k * size_multiple + size_offset
  int size_offset = 0;
  int minimum_size = 1;                            ///< smallest legal extent
  bool segmenter = true;                           ///< one image in, class scores out: can be trained and used by itself
  int vote = 0;                                    ///< maps are voted in a window of this side (scene/vote.hpp); 0: not
  const adversarial_stage* pretraining = nullptr;  ///< before the training, half of its length; null: none
};

}  // namespace rsseg
