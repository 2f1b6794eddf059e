// SPDX-License-Identifier: MIT
// cuDNN as the other engine of convolutions, for comparison inside a real network. Compiled where RSSEG_WITH_CUDNN is set; elsewhere these functions
// say that they did nothing, and rsseg's own kernels run.
#pragma once
#include "kernels/executor/call.cuh"

namespace rsseg::cuda {
inline namespace RSSEG_BACKEND_NS {

template <class T>
std::size_t cudnn_workspace(const executor_context&, conv_pass, const conv_geometry&) {
  return 0;
}
template <class T>
bool cudnn_convolve(const executor_context&, conv_pass, const conv_geometry&, const T*, const T*, T*, void*, const conv_epilogue<T>&) {
  return false;
}
template <class T>
bool cudnn_weights(const executor_context&, const conv_geometry&, const T*, const T*, float*, void*) {
  return false;
}

}  // namespace RSSEG_BACKEND_NS
}  // namespace rsseg::cuda
