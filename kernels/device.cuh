// SPDX-License-Identifier: MIT
// The device at hand, and clear words when there is none, it is too old, or it has too little memory.
#pragma once
#include <cstdlib>

#include "backend.cuh"

namespace rsseg::cuda {

struct device_facts {
  std::string name;
  int major = 0, minor = 0;
  std::size_t free_bytes = 0, total_bytes = 0;
  bool async_copies() const { return major >= 8; }  ///< cp.async, bf16 and tf32 mma (conv_mma.cuh)
  bool hopper() const { return major == 9; }        ///< TMA and wgmma (conv_hopper.cuh)
};

/// What both bodies of require_device ask of the devices at hand.
inline void check_device_index(int index, int count, const std::string& why) {
  if (count == 0) throw error("cuda: no usable device (" + why + "): install or update the NVIDIA driver, or run on the CPU");
  if (index < 0 || index >= count) throw usage_error("cuda: device " + std::to_string(index) + " asked for, there are " + std::to_string(count));
}
inline device_facts check_device_age(device_facts f) {
  if (f.major * 10 + f.minor < 75)
    throw error("cuda: " + f.name + " has compute capability " + std::to_string(f.major) + "." + std::to_string(f.minor) +
                ", expected 7.5 or later: run on the CPU");
  return f;
}

inline namespace RSSEG_BACKEND_NS {
#if RSSEG_EMULATED
/// The emulation passes for an sm_90 device with 80 GB. RSSEG_EMULATED_DEVICE says otherwise, for tests: "none", or capability[:free bytes], as in
/// "7.5" and "8.0:1000000".
inline device_facts require_device(int index = 0) {
  device_facts f{"emulated", 9, 0, std::size_t(80) << 30, std::size_t(80) << 30};
  const char* const other = std::getenv("RSSEG_EMULATED_DEVICE");
  const bool none = other && std::string(other) == "none";
  check_device_index(index, none ? 0 : 1, "none is emulated");
  if (other && !none) {
    char* end = nullptr;
    f.major = int(std::strtol(other, &end, 10));
    if (*end == '.') f.minor = int(std::strtol(end + 1, &end, 10));
    if (*end == ':') f.free_bytes = std::strtoull(end + 1, nullptr, 10);
  }
  return check_device_age(f);
}
#else
/// Selects device `index` for this thread and describes it. Throws rsseg::error where there is none that can be used.
inline device_facts require_device(int index = 0) {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status == cudaErrorInsufficientDriver || status == cudaErrorNoDevice) count = 0;
  if (count > 0) check(status, "count devices");
  check_device_index(index, count, cudaGetErrorString(status));
  check(cudaSetDevice(index), "select device");
  cudaDeviceProp p{};
  check(cudaGetDeviceProperties(&p, index), "device properties");
  device_facts f = check_device_age({p.name, p.major, p.minor, 0, p.totalGlobalMem});
  check(cudaMemGetInfo(&f.free_bytes, &f.total_bytes), "memory of the device");
  return f;
}
#endif
/// Throws memory_error unless `bytes` fit; `layer` is the one alive at the planned peak.
inline void require_memory(const device_facts& d, std::size_t bytes, const std::string& layer) {
  if (bytes <= d.free_bytes) return;
  const auto mib = [](std::size_t b) { return std::to_string(b >> 20) + " MiB"; };
  throw memory_error("cuda: " + d.name + ": planned " + mib(bytes) + " (peak at layer " + layer + "), free " + mib(d.free_bytes) +
                     "; use a smaller batch or tile, or bf16");
}
}  // namespace RSSEG_BACKEND_NS
}  // namespace rsseg::cuda
