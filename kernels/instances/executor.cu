// SPDX-License-Identifier: MIT
// The executor with maps in float, and the door to all three (rsseg/cuda/backend.hpp). Compiled by nvcc for devices, by g++ for the emulation.
#define RSSEG_WITH_CUDA 1
#include "kernels/executor/open_backend.cuh"

namespace rsseg::cuda {
inline namespace RSSEG_BACKEND_NS {
template <>
std::unique_ptr<executor> make_executor_of<float>(graph::graph g, device_backend& b) {
  return std::make_unique<device_executor<float>>(std::move(g), b);
}
}  // namespace RSSEG_BACKEND_NS

std::unique_ptr<backend> open_backend(parameter_store<float>& store, const backend_options& options) {
  return std::make_unique<device_backend>(store, options);
}
}  // namespace rsseg::cuda
