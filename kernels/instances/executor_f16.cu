// SPDX-License-Identifier: MIT
// The executor with maps in f16.
#define RSSEG_WITH_CUDA 1
#include "kernels/executor/open_backend.cuh"

namespace rsseg::cuda {
inline namespace RSSEG_BACKEND_NS {
template <>
std::unique_ptr<executor> make_executor_of<f16>(graph::graph g, device_backend& b) {
  return std::make_unique<device_executor<f16>>(std::move(g), b);
}
}  // namespace RSSEG_BACKEND_NS
}  // namespace rsseg::cuda
