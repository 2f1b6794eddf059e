// SPDX-License-Identifier: MIT
// One entry per pass of a convolution: picks the kernel by device, geometry and arithmetic. Depthwise, Hopper, tensor cores, or fp32.
//   Stored type float: compute fp32 (CUDA cores) or tf32 (tensor cores); bf16 and f16: tensor cores.
#pragma once
#include "conv_fp32.cuh"
#include "conv_hopper.cuh"
#include "conv_mma.cuh"
#include "depthwise.cuh"
#include "device.cuh"

namespace rsseg::cuda {

enum class conv_math { fp32, tf32 };  ///< of float operands

inline namespace RSSEG_BACKEND_NS {

template <class T>
inline void require_half_device(const device_facts& d) {
  if (std::is_same_v<T, bf16> && !d.async_copies())
    throw usage_error("cuda: bf16 convolutions need compute capability 8.0, " + d.name + " has " + std::to_string(d.major) + "." +
                      std::to_string(d.minor) + "; use fp16 or fp32");
}

/// y = epilogue(x * w).
template <class T>
inline void convolve(const device_facts& d, stream_t s, conv_math m, const conv_geometry& g, const T* x, const T* w, T* y,
                     const conv_epilogue<T>& e = {}) {
  require_half_device<T>(d);
  if (g.depthwise()) return depthwise_forward<T>(s, g, x, w, y, e);
  if constexpr (std::is_same_v<T, float>) {
    if (m == conv_math::tf32 && d.async_copies()) return conv_mma_forward<tf32>(s, g, x, w, y, e);
    conv_forward(s, g, x, w, y, e);
  } else {
    if (d.hopper() && conv_hopper_supports(g)) return conv_hopper_forward<T>(s, g, x, w, y, e);
    conv_mma_forward<T>(s, g, x, w, y, e);
  }
}
/// y = scale * (x * w) + shift for a layer that batch normalisation follows, with the statistics of y (conv_statistics_size floats) in the same pass.
/// Returns how many pixels a tile of statistics has, which batch_norm_of_tiles wants to know. On Hopper, too, this is the mma.sync kernel.
template <class T>
inline int convolve_with_statistics(const device_facts& d, stream_t s, conv_math m, const conv_geometry& g, const T* x, const T* w, T* y,
                                    const conv_epilogue<T>& e, float* statistics) {
  require_half_device<T>(d);
  if (e.residual || e.kind != activation::none)
    throw usage_error("cuda: convolve_with_statistics: normalisation follows directly, without residual or activation in between");
  if constexpr (std::is_same_v<T, float>) {
    if (m == conv_math::tf32 && d.async_copies()) return conv_mma_forward_statistics<tf32>(s, g, x, w, y, e, statistics);
    return conv_forward_statistics(s, g, x, w, y, e, statistics);
  } else {
    return conv_mma_forward_statistics<T>(s, g, x, w, y, e, statistics);
  }
}
/// Bytes of workspace of convolve_data.
template <class T>
inline std::size_t convolve_data_workspace(const device_facts& d, const conv_geometry& g) {
  return !std::is_same_v<T, float> && !g.depthwise() && d.hopper() && conv_hopper_supports_data(g) ? std::size_t(g.weights()) * sizeof(T) : 0;
}
/// dx from dy; with an epilogue a transposed convolution.
template <class T>
inline void convolve_data(const device_facts& d, stream_t s, conv_math m, const conv_geometry& g, const T* dy, const T* w, T* dx, void* workspace,
                          const conv_epilogue<T>& e = {}) {
  require_half_device<T>(d);
  if (g.depthwise()) return depthwise_data_gradient<T>(s, g, dy, w, dx, e);
  if constexpr (std::is_same_v<T, float>) {
    if (m == conv_math::tf32 && d.async_copies()) return conv_mma_data_gradient<tf32>(s, g, dy, w, dx, e);
    conv_data_gradient(s, g, dy, w, dx, e);
  } else {
    if (convolve_data_workspace<T>(d, g) > 0) return conv_hopper_data_gradient<T>(s, g, dy, w, dx, static_cast<T*>(workspace), e);
    conv_mma_data_gradient<T>(s, g, dy, w, dx, e);
  }
}
/// Floats of workspace of convolve_weights.
template <class T>
inline std::size_t convolve_weights_workspace(const device_facts& d, conv_math m, const conv_geometry& g) {
  if (g.depthwise()) return depthwise_weight_workspace(g);
  if constexpr (std::is_same_v<T, float>)
    return m == conv_math::tf32 && d.async_copies() ? conv_mma_weight_workspace<tf32>(g) : conv_weight_workspace(g);
  else
    return d.hopper() && conv_hopper_supports_weights(g) ? conv_hopper_weight_workspace(g) : conv_mma_weight_workspace<T>(g);
}
/// dw (fp32, OHWI) from x and dy; deterministic.
template <class T>
inline void convolve_weights(const device_facts& d, stream_t s, conv_math m, const conv_geometry& g, const T* x, const T* dy, float* dw,
                             float* workspace, bool accumulate = false) {
  require_half_device<T>(d);
  if (g.depthwise()) return depthwise_weight_gradient<T>(s, g, x, dy, dw, workspace, accumulate);
  if constexpr (std::is_same_v<T, float>) {
    if (m == conv_math::tf32 && d.async_copies()) return conv_mma_weight_gradient<tf32>(s, g, x, dy, dw, workspace, accumulate);
    conv_weight_gradient(s, g, x, dy, dw, workspace, accumulate);
  } else {
    if (d.hopper() && conv_hopper_supports_weights(g)) return conv_hopper_weight_gradient<T>(s, g, x, dy, dw, workspace, accumulate);
    conv_mma_weight_gradient<T>(s, g, x, dy, dw, workspace, accumulate);
  }
}

}  // namespace RSSEG_BACKEND_NS
}  // namespace rsseg::cuda
