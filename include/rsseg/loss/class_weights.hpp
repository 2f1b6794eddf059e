// SPDX-License-Identifier: MIT
// Class weights from pixel counts, for the weighted losses. A class with no pixels gets weight 0 and does not enter normalisations.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "rsseg/core/error.hpp"

namespace rsseg::loss {

enum class weighting {
  uniform,            ///< 1
  enet,               ///< 1 / ln(1.02 + p_c) (Paszke et al. 2016)
  median_frequency,   ///< median(p) / p_c (Eigen, Fergus 2015; SegNet)
  inverse_frequency,  ///< 1 / p_c, normalised to sum K
  class_balanced      ///< (1 - beta) / (1 - beta^n_c), normalised to sum K (Cui et al. 2019)
};

/// One weight per class from pixel counts n_c. image_pixels (optional, same length): pixels of the images in which a class occurs; then
/// p_c = n_c / image_pixels_c as in SegNet, else n_c / sum n. beta in [0, 1) for class_balanced. Throws usage_error without any pixel.
inline std::vector<double> class_weights(const std::vector<double>& counts, weighting kind, double beta = 0.999,
                                         const std::vector<double>& image_pixels = {}) {
  double total = 0;
  for (const double n : counts) total += n;
  if (!(total > 0)) throw usage_error("class weights: no labelled pixel was counted; check the masks and the ignore label");
  if (!image_pixels.empty() && image_pixels.size() != counts.size())
    throw usage_error("class weights: expected " + std::to_string(counts.size()) + " image pixel counts, got " + std::to_string(image_pixels.size()));
  std::vector<double> weight(counts.size(), 0.0), share(counts.size()), present;
  for (std::size_t k = 0; k < counts.size(); ++k) {
    share[k] = image_pixels.empty() ? counts[k] / total : image_pixels[k] > 0 ? counts[k] / image_pixels[k] : 0;
    if (share[k] > 0) present.push_back(share[k]);
  }
  std::sort(present.begin(), present.end());
  const double median = (present[(present.size() - 1) / 2] + present[present.size() / 2]) / 2;
  double sum = 0;
  for (std::size_t k = 0; k < counts.size(); ++k) {
    if (!(counts[k] > 0)) continue;
    switch (kind) {
      case weighting::uniform:
        weight[k] = 1;
        break;
      case weighting::enet:
        weight[k] = 1 / std::log(1.02 + share[k]);
        break;
      case weighting::median_frequency:
        weight[k] = median / share[k];
        break;
      case weighting::inverse_frequency:
        weight[k] = 1 / share[k];
        break;
      case weighting::class_balanced:
        weight[k] = (1 - beta) / -std::expm1(counts[k] * std::log(beta));
        break;
    }
    sum += weight[k];
  }
  if (kind == weighting::inverse_frequency || kind == weighting::class_balanced)
    for (double& w : weight) w *= double(counts.size()) / sum;
  return weight;
}

}  // namespace rsseg::loss
