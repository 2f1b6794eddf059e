// SPDX-License-Identifier: MIT
// An owning NHWC tensor for inputs, outputs and tests. Networks do not use it inside: their values live in a planned arena.
#pragma once
#include <cstddef>
#include <vector>

#include "rsseg/core/shape.hpp"

namespace rsseg {

/// (N,C,H,W) values in NHWC order: element (n,c,h,w) sits at ((n*H + h)*W + w)*C + c.
template <class T>
class tensor {
 public:
  using value_type = T;
  tensor() = default;
  explicit tensor(shape s, T value = T()) : shape_(s), data_(std::size_t(s.size()), value) {}

  const shape& extent() const { return shape_; }
  std::size_t size() const { return data_.size(); }
  T* data() { return data_.data(); }
  const T* data() const { return data_.data(); }
  T& operator()(int n, int c, int h, int w) { return data_[index(n, c, h, w)]; }
  const T& operator()(int n, int c, int h, int w) const { return data_[index(n, c, h, w)]; }
  auto begin() { return data_.begin(); }
  auto end() { return data_.end(); }
  auto begin() const { return data_.begin(); }
  auto end() const { return data_.end(); }

 private:
  std::size_t index(int n, int c, int h, int w) const { return ((std::size_t(n) * shape_.h + h) * shape_.w + w) * shape_.c + c; }
  shape shape_;
  std::vector<T> data_;
};

}  // namespace rsseg
