// SPDX-License-Identifier: MIT
// Majority vote in a moving window: every pixel takes the most frequent class of the pixels around it, the smallest of equals. A post-processing
// step of pixel-wise classifiers (MCNN: Zhao, Du, ISPRS J. 113, 2016). Behind a network it widens the receptive field by side - 1 pixels, so
// scenes larger than memory are voted as they are mapped. Votes in segments: classical/region_merging.hpp, and the stage `regions`.
#pragma once
#include <algorithm>

#include "rsseg/core/tensor.hpp"

namespace rsseg::scene {

/// Votes per class (N,K,h,w): of each pixel of `scores` the neighbours in a side x side window (cut at the border) whose highest score,
/// the first of equals, is the class. side: odd.
inline tensor<float> count_votes(const tensor<float>& scores, int side) {
  const shape s = scores.extent();
  tensor<float> rows(s), out(s);
  const int r = side / 2;
  for (int n = 0; n < s.n; ++n)
    for (int y = 0; y < s.h; ++y)
      for (int x = 0; x < s.w; ++x) {
        int best = 0;
        for (int k = 1; k < s.c; ++k)
          if (scores(n, k, y, x) > scores(n, best, y, x)) best = k;
        for (int u = std::max(0, x - r); u <= std::min(s.w - 1, x + r); ++u) rows(n, best, y, u) += 1;
      }
  for (int n = 0; n < s.n; ++n)
    for (int y = 0; y < s.h; ++y)
      for (int v = std::max(0, y - r); v <= std::min(s.h - 1, y + r); ++v)
        for (int x = 0; x < s.w; ++x)
          for (int k = 0; k < s.c; ++k) out(n, k, y, x) += rows(n, k, v, x);
  return out;
}

}  // namespace rsseg::scene
