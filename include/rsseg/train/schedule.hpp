// SPDX-License-Identifier: MIT
// Learning rate over training: poly (Liu et al. 2015; power 0.9 in the DeepLab and PSPNet papers), cosine (Loshchilov and Hutter 2017),
// step, constant; linear warm-up in front.
#pragma once
#include <algorithm>
#include <cmath>
#include <string>

#include "rsseg/core/error.hpp"

namespace rsseg::train {

struct schedule {
  std::string kind = "poly";  ///< poly, cosine, step, constant
  double base = 0.01;
  double power = 0.9;        ///< poly
  double step_factor = 0.1;  ///< step: at 1/3 and 2/3 of the training
  double warmup = 0;         ///< fraction of the training with a linear rise from 0
  double floor = 0;          ///< smallest rate

  void check() const {
    if (kind != "poly" && kind != "cosine" && kind != "step" && kind != "constant")
      throw usage_error("schedule \"" + kind + "\": unknown; use poly, cosine, step or constant");
    if (!(base > 0)) throw usage_error("learning rate " + std::to_string(base) + ": expected a positive number");
  }
  /// progress in [0, 1]: the part of the training that is done.
  double at(double progress) const {
    const double p = std::clamp(progress, 0.0, 1.0);
    double rate = base;
    if (kind == "poly") rate = base * std::pow(1 - p, power);
    if (kind == "cosine") rate = base * 0.5 * (1 + std::cos(3.14159265358979323846 * p));
    if (kind == "step") rate = base * (p < 1.0 / 3 ? 1 : p < 2.0 / 3 ? step_factor : step_factor * step_factor);
    if (warmup > 0 && p < warmup) rate *= (p + 1e-3) / (warmup + 1e-3);
    return std::max(rate, floor);
  }
};

}  // namespace rsseg::train
