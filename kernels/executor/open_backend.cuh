// SPDX-License-Identifier: MIT
// The door of the executor: include this in one .cu file (kernels/instances/executor.cu is ours) and call open_backend, or link librsseg_cuda.
#pragma once
#include "engine.cuh"

namespace rsseg::cuda {
inline namespace RSSEG_BACKEND_NS {

/// Executors for one type of maps; defined in a translation unit of its own per type, to keep each small.
template <class T>
std::unique_ptr<executor> make_executor_of(graph::graph g, device_backend& b);
template <>
std::unique_ptr<executor> make_executor_of<float>(graph::graph g, device_backend& b);
template <>
std::unique_ptr<executor> make_executor_of<bf16>(graph::graph g, device_backend& b);
template <>
std::unique_ptr<executor> make_executor_of<f16>(graph::graph g, device_backend& b);

inline std::unique_ptr<executor> device_backend::make_executor(graph::graph g) {
  switch (options_.compute) {
    case precision::bf16:
      return make_executor_of<bf16>(std::move(g), *this);
    case precision::fp16:
      return make_executor_of<f16>(std::move(g), *this);
    default:
      return make_executor_of<float>(std::move(g), *this);
  }
}
}  // namespace RSSEG_BACKEND_NS
}  // namespace rsseg::cuda
