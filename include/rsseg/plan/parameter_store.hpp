// SPDX-License-Identifier: MIT
// The weights of a network: every parameter and buffer by its PyTorch name, in one flat array. Convolution weights lie as OHWI
// (the kernels' order); files and the accessors here speak OIHW.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "rsseg/core/error.hpp"
#include "rsseg/core/random.hpp"
#include "rsseg/graph/infer.hpp"

namespace rsseg {

struct stored_tensor {
  std::string name;
  graph::attributes at;    ///< dims, rank, initialisation
  bool trained = true;     ///< false: a buffer (running statistics)
  std::size_t offset = 0;  ///< in values()
  std::size_t size = 0;
  std::vector<std::int64_t> dims() const { return {at.dims, at.dims + at.rank}; }
};

template <class T>
class parameter_store {
 public:
  parameter_store() = default;
  /// Room for every parameter and buffer of g (a graph lowered for training has them all), in the order of the graph.
  explicit parameter_store(const graph::graph& g) {
    std::size_t total = 0;
    for (int i = 0; i < g.nodes.size(); ++i) {
      const graph::node& n = g.nodes[i];
      if (n.kind != graph::op::parameter && n.kind != graph::op::buffer) continue;
      stored_tensor t;
      t.name = std::string(g.name_of(i));
      t.at = n.at;
      t.trained = n.kind == graph::op::parameter;
      t.offset = total;
      t.size = std::size_t(graph::stored_shape(n.at).size());
      total += (t.size + 15) / 16 * 16;  // each tensor starts on a cache line
      index_.emplace(t.name, int(entries_.size()));
      entries_.push_back(std::move(t));
    }
    values_.assign(total, T(0));
  }

  const std::vector<stored_tensor>& entries() const { return entries_; }
  std::vector<T>& values() { return values_; }
  const std::vector<T>& values() const { return values_; }
  int find(std::string_view name) const {
    const auto it = index_.find(std::string(name));
    return it == index_.end() ? -1 : it->second;
  }
  T* data(int entry) { return values_.data() + entries_[std::size_t(entry)].offset; }
  const T* data(int entry) const { return values_.data() + entries_[std::size_t(entry)].offset; }
  std::int64_t parameter_count() const {
    std::int64_t n = 0;
    for (const auto& e : entries_) n += e.trained ? std::int64_t(e.size) : 0;
    return n;
  }
  /// Changes whenever the values do; whoever writes values() calls touch(). Folded and packed weights are remade when it changes.
  std::uint64_t version() const { return version_; }
  void touch() { ++version_; }

  /// Fills everything as the layers ask, from `seed`; the same numbers for float and double up to rounding.
  void initialise(std::uint64_t seed) {
    for (std::size_t k = 0; k < entries_.size(); ++k) {
      const stored_tensor& e = entries_[k];
      T* to = values_.data() + e.offset;
      const graph::attributes& a = e.at;
      const int kh = a.rank == 4 ? a.dims[2] : 1, kw = a.rank == 4 ? a.dims[3] : 1;
      const double fan_out = double(a.dims[0]) * kh * kw, fan_in = double(a.rank > 1 ? a.dims[1] : 1) * kh * kw;
      random_stream r(seed, 0x1217'0000'0000ull + k);
      switch (graph::init(a.mode)) {
        case graph::init::constant:
          for (std::size_t i = 0; i < e.size; ++i) to[i] = T(a.alpha);
          break;
        case graph::init::kaiming_normal_out: {
          // By the larger fan: fan out as torchvision's backbones, and classifiers with few outputs start with small scores, not wild ones.
          const double sigma = std::sqrt(2.0 / std::max({1.0, a.rank == 4 ? fan_out : 0.0, fan_in}));
          for (std::size_t i = 0; i < e.size; ++i) to[i] = T(sigma * r.normal());
          break;
        }
        case graph::init::kaiming_uniform: {
          const double bound = std::sqrt(3.0 / std::max(1.0, fan_in)) * (a.alpha > 0 ? a.alpha : 1);
          for (std::size_t i = 0; i < e.size; ++i) to[i] = T(r.uniform(-bound, bound));
          break;
        }
        case graph::init::normal:
          for (std::size_t i = 0; i < e.size; ++i) to[i] = T(a.beta + a.alpha * r.normal());
          break;
        case graph::init::uniform:
          for (std::size_t i = 0; i < e.size; ++i) to[i] = T(r.uniform(a.alpha, a.beta));
          break;
        case graph::init::bilinear_upsample: {  // Long et al. 2015: transposed convolution that starts as bilinear up-sampling
          const int c = a.dims[1];
          const double gain = a.alpha > 0 ? a.alpha : 1;
          for (std::size_t i = 0; i < e.size; ++i) {
            const int ci = int(i % std::size_t(c)), x = int(i / std::size_t(c)) % kw, y = int(i / std::size_t(c) / std::size_t(kw)) % kh,
                      o = int(i / std::size_t(c) / std::size_t(kw) / std::size_t(kh));
            const double f = (kh + 1) / 2, mid = kh % 2 ? f - 1 : f - 0.5;
            to[i] = o == ci || c == 1 ? T(gain * (1 - std::abs(y - mid) / f) * (1 - std::abs(x - mid) / f)) : T(0);
          }
          break;
        }
      }
    }
    touch();
  }

  /// Copies entry to `out` in the order of files (OIHW), and back.
  template <class U>
  void to_file_order(int entry, U* out) const {
    reorder(entries_[std::size_t(entry)],
            [&](std::size_t file, std::size_t here) { out[file] = U(values_[entries_[std::size_t(entry)].offset + here]); });
  }
  template <class U>
  void from_file_order(int entry, const U* in) {
    T* to = data(entry);
    reorder(entries_[std::size_t(entry)], [&](std::size_t file, std::size_t here) { to[here] = T(in[file]); });
    touch();
  }
  /// Calls f(index in OIHW order, index in this store's order) for each element of e.
  template <class F>
  static void reorder(const stored_tensor& e, const F& f) {
    if (e.at.rank != 4) {
      for (std::size_t i = 0; i < e.size; ++i) f(i, i);
      return;
    }
    const std::size_t o = std::size_t(e.at.dims[0]), c = std::size_t(e.at.dims[1]), h = std::size_t(e.at.dims[2]), w = std::size_t(e.at.dims[3]);
    for (std::size_t i = 0; i < o; ++i)
      for (std::size_t j = 0; j < c; ++j)
        for (std::size_t y = 0; y < h; ++y)
          for (std::size_t x = 0; x < w; ++x) f(((i * c + j) * h + y) * w + x, ((i * h + y) * w + x) * c + j);
  }

 private:
  std::vector<stored_tensor> entries_;
  std::unordered_map<std::string, int> index_;
  std::vector<T> values_;
  std::uint64_t version_ = 1;
};

}  // namespace rsseg
