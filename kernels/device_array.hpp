// SPDX-License-Identifier: MIT
// An array in device memory, for tests, benchmarks and samples. (Networks use one planned arena.) On the emulation it lives in host memory between
// guard zones and starts out poisoned, and reading it back checks both: a write out of bounds, an element never written, or a result made of
// uninitialised memory is a kernel_fault. Under nvcc it is cudaMalloc.
#pragma once
#include <vector>

#include "backend.cuh"
#include "common.cuh"

namespace rsseg::cuda {
inline namespace RSSEG_BACKEND_NS {

template <class T>
class device_array {
 public:
  device_array() = default;
  explicit device_array(std::size_t count) : count_(count) { allocate(); }
  explicit device_array(const std::vector<T>& values) : device_array(values.size()) { upload(values); }
  device_array(device_array&& o) noexcept : count_(std::exchange(o.count_, 0)), data_(std::exchange(o.data_, nullptr)) {}
  device_array& operator=(device_array&& o) noexcept {
    std::swap(count_, o.count_), std::swap(data_, o.data_);
    return *this;
  }
  ~device_array() { release(); }

  T* get() { return data_; }
  const T* get() const { return data_; }
  std::size_t size() const { return count_; }

#if RSSEG_EMULATED
  void upload(const std::vector<T>& values) { std::memcpy(static_cast<void*>(data_), values.data(), bytes()); }
  /// The contents. Throws kernel_fault if a guard was overwritten or (unless told that it may) an element is still poisoned.
  std::vector<T> host(bool may_be_unwritten = false) const {
    check_guards();
    std::vector<T> values(data_, data_ + count_);
    if (!may_be_unwritten && sizeof(T) >= 2)
      for (std::size_t i = 0; i < count_; ++i)
        if (poisoned(values[i]))
          throw emulation::kernel_fault(std::string("kernel ") + emulation::the_engine().kernel + ": element " + std::to_string(i) + " of " +
                                        std::to_string(count_) + " was not written, or comes from uninitialised or out-of-bounds memory");
    return values;
  }

 private:
  static bool poisoned(const T& v) {
    if constexpr (sizeof(T) == 4) return (emulation::from_bits<std::uint32_t>(emulation::to_bits(v)) & 0xFFFF0000u) == 0xFFFF0000u && is_real;
    if constexpr (sizeof(T) == 2) return emulation::from_bits<std::uint16_t>(emulation::to_bits(v)) == 0xFFFFu && is_real;
    return false;
  }
  static constexpr bool is_real = !std::is_integral_v<T>;
  std::size_t bytes() const { return count_ * sizeof(T); }
  static constexpr std::size_t guard = emulation::guard_bytes;
  std::size_t room() const { return (bytes() + 2 * guard + 255) / 256 * 256; }
  char* base() const { return reinterpret_cast<char*>(data_) - guard; }
  void allocate() {
    char* p = static_cast<char*>(std::aligned_alloc(256, room()));
    if (!p) throw memory_error("emulation: no memory for " + std::to_string(bytes()) + " bytes");
    std::memset(p, emulation::poison_byte, room());
    data_ = reinterpret_cast<T*>(p + guard);
#if defined(RSSEG_EMULATION_ASAN)
    __asan_poison_memory_region(p, guard);
    __asan_poison_memory_region(p + guard + bytes(), room() - guard - bytes());
#endif
  }
  void check_guards() const {
#if !defined(RSSEG_EMULATION_ASAN)
    for (std::size_t i = 0; i < room(); ++i) {
      if (i >= guard && i < guard + bytes()) continue;
      if (static_cast<unsigned char>(base()[i]) != emulation::poison_byte)
        throw emulation::kernel_fault(std::string("kernel ") + emulation::the_engine().kernel + ": wrote out of bounds, at byte " +
                                      std::to_string(std::int64_t(i) - std::int64_t(guard)) + " of an array of " + std::to_string(bytes()) +
                                      " bytes");
    }
#endif
  }
  void release() {
    if (!data_) return;
#if defined(RSSEG_EMULATION_ASAN)
    __asan_unpoison_memory_region(base(), room());
#endif
    std::free(base());
  }
#else
  void upload(const std::vector<T>& values) {
    check(cudaMemcpy(data_, values.data(), count_ * sizeof(T), cudaMemcpyHostToDevice), "copy to the device");
  }
  std::vector<T> host(bool = false) const {
    std::vector<T> values(count_);
    check(cudaMemcpy(values.data(), data_, count_ * sizeof(T), cudaMemcpyDeviceToHost), "copy from the device");
    return values;
  }

 private:
  void allocate() {
    if (count_ == 0) return;
    check(cudaMalloc(reinterpret_cast<void**>(&data_), count_ * sizeof(T)), "allocate device memory");
    check(cudaMemset(data_, 0xFF, count_ * sizeof(T)), "poison device memory");
  }
  void release() {
    if (data_) cudaFree(data_);
  }
#endif
  std::size_t count_ = 0;
  T* data_ = nullptr;
};

}  // namespace RSSEG_BACKEND_NS
}  // namespace rsseg::cuda
