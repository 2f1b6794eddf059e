// SPDX-License-Identifier: MIT
// One definition that parity manifests can be checked against.
#pragma once
#include "rsseg/layers/network.hpp"

namespace rsseg {

struct parity_case {
  const char* system;   ///< field `system` of the manifest
  const char* variant;  ///< field `variant`
  void (*build)(builder&);
  /// Tolerance of train outputs and gradients in double, if the definition amplifies errors (0: the usual 1e-6).
  double train_tolerance = 0;
};

}  // namespace rsseg
