// SPDX-License-Identifier: MIT
// A growable array for constant evaluation. std::vector in constexpr code costs the compiler several times as much
// (and <vector> itself 0.13 s per translation unit), and graphs are lowered at compile time.
#pragma once
#include <cstddef>

namespace rsseg::graph {

template <class T>
class list {
 public:
  constexpr list() = default;
  constexpr list(const list& o) { assign(o.data_, o.size_); }
  constexpr list(list&& o) noexcept : data_(o.data_), size_(o.size_), capacity_(o.capacity_) { o.data_ = nullptr, o.size_ = o.capacity_ = 0; }
  constexpr list& operator=(const list& o) {
    if (this != &o) assign(o.data_, o.size_);
    return *this;
  }
  constexpr list& operator=(list&& o) noexcept {
    if (this != &o) {
      delete[] data_;
      data_ = o.data_, size_ = o.size_, capacity_ = o.capacity_;
      o.data_ = nullptr, o.size_ = o.capacity_ = 0;
    }
    return *this;
  }
  constexpr ~list() { delete[] data_; }

  constexpr int size() const { return size_; }
  constexpr bool empty() const { return size_ == 0; }
  constexpr T& operator[](int i) { return data_[i]; }
  constexpr const T& operator[](int i) const { return data_[i]; }
  constexpr T& back() { return data_[size_ - 1]; }
  constexpr const T& back() const { return data_[size_ - 1]; }
  constexpr T* begin() { return data_; }
  constexpr T* end() { return data_ + size_; }
  constexpr const T* begin() const { return data_; }
  constexpr const T* end() const { return data_ + size_; }

  constexpr void push_back(const T& v) {
    if (size_ == capacity_) {
      const T copy = v;  // v may live in this list
      reserve(capacity_ ? 2 * capacity_ : 16);
      data_[size_++] = copy;
    } else {
      data_[size_++] = v;
    }
  }
  /// n elements, not of this list.
  constexpr void append(const T* from, int n) {
    make_room(n);
    for (int i = 0; i < n; ++i) data_[size_ + i] = from[i];
    size_ += n;
  }
  /// n elements of this list, from number `begin` on.
  constexpr void append_own(int begin, int n) {
    make_room(n);
    for (int i = 0; i < n; ++i) data_[size_ + i] = data_[begin + i];
    size_ += n;
  }
  constexpr void resize(int n, const T& fill = T()) {
    if (n > capacity_) reserve(n);
    for (int i = size_; i < n; ++i) data_[i] = fill;
    size_ = n;
  }
  constexpr void truncate(int n) { size_ = n; }
  constexpr void clear() { size_ = 0; }
  constexpr void reserve(int n) {
    if (n <= capacity_) return;
    T* grown = new T[std::size_t(n)];
    for (int i = 0; i < size_; ++i) grown[i] = data_[i];
    delete[] data_;
    data_ = grown, capacity_ = n;
  }
  constexpr void assign(const T* from, int n) {
    size_ = 0;
    reserve(n);
    for (int i = 0; i < n; ++i) data_[i] = from[i];
    size_ = n;
  }

 private:
  constexpr void make_room(int n) {
    if (size_ + n > capacity_) reserve(2 * capacity_ > size_ + n ? 2 * capacity_ : size_ + n + 16);
  }

  T* data_ = nullptr;
  int size_ = 0, capacity_ = 0;
};

}  // namespace rsseg::graph
