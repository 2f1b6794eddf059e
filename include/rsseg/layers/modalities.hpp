// SPDX-License-Identifier: MIT
// Several inputs that travel as one: the image's bands in groups (build_options::modalities), taken apart inside the network.
#pragma once
#include "rsseg/graph/ops/arrange.hpp"
#include "rsseg/layers/basic.hpp"

namespace rsseg {

/// 1 where the data says nothing.
constexpr int modality_count(const builder& b) {
  int n = 0;
  while (n < build_options::most_modalities && b.options().modalities[n] > 0) ++n;
  return n > 0 ? n : 1;
}
/// Bands of group i of the image x; x itself where there are no groups.
constexpr value modality(builder& b, value x, int i) {
  const int* bands = b.options().modalities;
  if (bands[0] == 0) return x;
  int begin = 0;
  for (int k = 0; k < i; ++k) begin += bands[k];
  if (x.channels > 0 && begin + bands[i] > x.channels) b.fail(graph::fault::channels_differ, begin + bands[i], x.channels);
  return graph::ops::slice(b, x, begin, bands[i]);
}

}  // namespace rsseg
