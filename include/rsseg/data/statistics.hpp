// SPDX-License-Identifier: MIT
// How often each class occurs, and the class weights of the literature computed from it.
#pragma once
#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <exception>
#include <string>
#include <thread>
#include <vector>

#include "rsseg/core/error.hpp"
#include "rsseg/data/dataset.hpp"
#include "rsseg/loss/class_weights.hpp"

namespace rsseg::data {

/// Pixels per mask value of one mask.
using histogram = std::array<std::uint64_t, 256>;

inline histogram count_ids(const mask& m) {
  histogram h{};
  for (const std::uint8_t id : m.ids) ++h[id];
  return h;
}

/// Pixels of every class over a set, and of the images in which the class occurs.
struct class_counts {
  std::vector<std::uint64_t> pixels;         ///< per class
  std::vector<std::uint64_t> pixels_around;  ///< per class: labelled pixels of all images that contain it
  std::vector<std::uint64_t> images;         ///< per class: images that contain it
  std::uint64_t ignored = 0;

  explicit class_counts(int classes) : pixels(std::size_t(classes)), pixels_around(std::size_t(classes)), images(std::size_t(classes)) {}
  void add(const histogram& h) {
    std::uint64_t labelled = 0, all = 0;
    for (const std::uint64_t n : h) all += n;
    for (std::size_t c = 0; c < pixels.size(); ++c) labelled += h[c];
    for (std::size_t c = 0; c < pixels.size(); ++c) {
      pixels[c] += h[c];
      if (h[c]) pixels_around[c] += labelled, ++images[c];
    }
    ignored += all - labelled;
  }
  std::uint64_t labelled() const {
    std::uint64_t n = 0;
    for (const std::uint64_t p : pixels) n += p;
    return n;
  }
};

/// Calls body(i) for i in [0, count) on `threads` threads (0: all cores); the exception of the lowest i is rethrown after all have stopped.
template <class Body>
void for_each_index(std::size_t count, int threads, const Body& body) {
  const std::size_t use = std::min<std::size_t>(count, threads > 0 ? std::size_t(threads) : std::max(1u, std::thread::hardware_concurrency()));
  std::vector<std::exception_ptr> failed(count);
  std::atomic<std::size_t> next{0};
  std::atomic<bool> stop{false};
  const auto work = [&] {
    for (std::size_t i; !stop && (i = next++) < count;) try {
        body(i);
      } catch (...) {
        failed[i] = std::current_exception();
        stop = true;
      }
  };
  std::vector<std::thread> others;
  for (std::size_t t = 1; t < use; ++t) others.emplace_back(work);
  work();
  for (auto& t : others) t.join();
  for (const auto& e : failed)
    if (e) std::rethrow_exception(e);
}

/// Counts over all masks of a set.
inline class_counts count_classes(const dataset& set, int threads = 0) {
  std::vector<histogram> each(set.size());
  for_each_index(set.size(), threads, [&](std::size_t i) { each[i] = count_ids(set.load_mask(i)); });
  class_counts counts(set.classes().count());
  for (histogram& h : each) {
    if (const int ignored = set.classes().ignore_id; ignored < set.classes().count()) {  // an ignored id inside the range counts as ignored
      h[255] += h[std::size_t(ignored)];
      h[std::size_t(ignored)] = 0;
    }
    counts.add(h);
  }
  return counts;
}

enum class class_weighting {
  none,
  median_frequency,   ///< median(f) / f_c, f_c = pixels of c / pixels of the images that contain c (Eigen and Fergus, ICCV 2015; SegNet)
  inverse_frequency,  ///< proportional to 1 / n_c, scaled to sum to the class count
  enet,               ///< 1 / ln(1.02 + p_c), p_c = n_c / sum n (ENet, Paszke et al. 2016)
  effective_number,   ///< (1 - b) / (1 - b^n_c) with b = 0.9999, scaled to sum to the class count (Cui et al., CVPR 2019)
};

/// True for the names that parse_class_weighting knows.
inline bool is_class_weighting(const std::string& name) {
  for (const char* known : {"none", "median", "median-frequency", "inverse", "inverse-frequency", "enet", "effective"})
    if (name == known) return true;
  return false;
}

/// "none", "median" or "median-frequency", "inverse" or "inverse-frequency", "enet", "effective". Throws usage_error on others.
inline class_weighting parse_class_weighting(const std::string& name) {
  if (!is_class_weighting(name))
    throw usage_error("class weights \"" + name + "\": unknown; use none, median-frequency, inverse-frequency, enet or effective");
  return name[0] == 'n'   ? class_weighting::none
         : name[0] == 'm' ? class_weighting::median_frequency
         : name[0] == 'i' ? class_weighting::inverse_frequency
         : name == "enet" ? class_weighting::enet
                          : class_weighting::effective_number;
}

/// One weight per class for a weighted loss. A class that never occurs gets weight 0 (it has no pixel to weigh).
inline std::vector<double> class_weights(const class_counts& counts, class_weighting how, double beta = 0.9999) {
  using loss::weighting;
  if (counts.labelled() == 0) return std::vector<double>(counts.pixels.size(), 0.0);
  const std::vector<double> pixels(counts.pixels.begin(), counts.pixels.end());
  const bool median = how == class_weighting::median_frequency;
  return loss::class_weights(pixels,
                             median                                      ? weighting::median_frequency
                             : how == class_weighting::inverse_frequency ? weighting::inverse_frequency
                             : how == class_weighting::enet              ? weighting::enet
                             : how == class_weighting::effective_number  ? weighting::class_balanced
                                                                         : weighting::uniform,
                             beta, median ? std::vector<double>(counts.pixels_around.begin(), counts.pixels_around.end()) : std::vector<double>());
}

}  // namespace rsseg::data
