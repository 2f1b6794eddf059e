// SPDX-License-Identifier: MIT
// Definitions of conv.hpp: which path a geometry takes. Depthwise kernels have their own loops, everything else is a gather.
#pragma once
#include "rsseg/cpu/bf16.hpp"
#include "rsseg/cpu/conv.hpp"
#include "rsseg/cpu/conv_backward.hpp"
#include "rsseg/cpu/conv_gather.hpp"
#include "rsseg/cpu/depthwise.hpp"
#include "rsseg/cpu/grouped.hpp"
#include "rsseg/cpu/winograd.hpp"
#include "rsseg/cpu/winograd_weights.hpp"

namespace rsseg::cpu {

namespace detail {

template <class T>
gather_epilogue<T> place_epilogue(const conv_epilogue<T>& e, std::ptrdiff_t out_pitch) {
  gather_epilogue<T> g;
  g.bias = e.bias;
  g.residual = e.residual, g.residual_pitch = e.residual_pitch > 0 ? e.residual_pitch : out_pitch;
  g.relu = e.act == activation::relu;
  return g;
}

/// A gather by whichever way wins: sizes, packing (strides as for gather_pack) and the product.
template <class T>
std::size_t product_packed_size(const gather_shape& s) {
  return winograd_wins<T>(s) ? winograd_packed_size<T>(s) : bf16_runs<T>(s) ? bf16_packed_size<T>(s) : gather_packed_size<T>(s);
}
template <class T>
void product_pack(const gather_shape& s, const T* w, std::ptrdiff_t gs, std::ptrdiff_t ks, std::ptrdiff_t js, std::ptrdiff_t ys, std::ptrdiff_t xs,
                  T* packed) {
  if (winograd_wins<T>(s)) return winograd_pack(s, w, ks, js, ys, xs, packed);
  if (bf16_runs<T>(s)) return bf16_pack(s, w, ks, js, ys, xs, reinterpret_cast<bf16_pair*>(packed));
  gather_pack(s, w, gs, ks, js, ys, xs, packed);
}
template <class T>
std::size_t product_elements(const gather_shape& s) {
  if (grouped_wins<T>(s)) return 0;
  if (winograd_wins<T>(s)) return winograd_elements<T>(s);
  return std::size_t(threads()) * (bf16_runs<T>(s) ? gather_slot_size<T, bf16_pair>(s) : gather_slot_size<T>(s));
}
template <class T>
void product_run(const gather_shape& s, const T* in, const T* packed, T* out, const gather_epilogue<T>& e, T* workspace) {
  if (winograd_wins<T>(s)) return winograd_run(s, in, packed, out, e, workspace);
  if (grouped_wins<T>(s)) return grouped_run_all(s, in, packed, out, e);
  if (bf16_runs<T>(s)) {  // a pair takes the room of a float
    if constexpr (std::is_same_v<T, float>)
      gather_run(s, in, reinterpret_cast<const bf16_pair*>(packed), out, e, reinterpret_cast<bf16_pair*>(workspace));
    return;
  }
  gather_run(s, in, packed, out, e, workspace);
}

/// Calls use(shape) for every phase of the data gradient that has pixels.
template <class Use>
void each_phase(const conv_geometry& g, const Use& use) {
  for (int py = 0; py < std::min(g.stride_h, g.in_h); ++py)
    for (int px = 0; px < std::min(g.stride_w, g.in_w); ++px) use(backward_gather(g, py, px));
}

}  // namespace detail

template <class T>
std::size_t conv_packed_size(const conv_geometry& g) {
  return depthwise_direct(g) ? std::size_t(g.weights()) : detail::product_packed_size<T>(forward_gather(g));
}

template <class T>
void conv_pack(const conv_geometry& g, const T* w, T* packed) {
  if (depthwise_direct(g)) return depthwise_pack(g, w, packed);
  const std::ptrdiff_t kc = g.in_c_per_group(), js = std::ptrdiff_t(g.kernel_h) * g.kernel_w * kc;
  detail::product_pack(forward_gather(g), w, js * g.out_c_per_group(), 1, js, std::ptrdiff_t(g.kernel_w) * kc, kc, packed);
}

template <class T>
std::size_t conv_workspace_size(const conv_geometry& g) {
  return depthwise_direct(g) ? 0 : sizeof(T) * detail::product_elements<T>(forward_gather(g));
}

template <class T>
void conv_forward(const conv_geometry& g, const T* x, const T* packed, T* y, const conv_epilogue<T>& epilogue, void* workspace) {
  const gather_shape s = forward_gather(g);
  const gather_epilogue<T> e = detail::place_epilogue(epilogue, g.y_pitch());
  if (depthwise_direct(g)) return depthwise_run_all(s, g.kernel_w, g.kernel_h * g.kernel_w, x, packed, y, e);
  detail::product_run(s, x, packed, y, e, static_cast<T*>(workspace));
}

template <class T>
std::size_t conv_packed_size_backward_data(const conv_geometry& g) {
  if (depthwise_direct(g)) return std::size_t(g.weights());
  std::size_t size = 0;
  detail::each_phase(g, [&](const gather_shape& s) { size += detail::product_packed_size<T>(s); });
  return size;
}

template <class T>
void conv_pack_backward_data(const conv_geometry& g, const T* w, T* packed) {
  if (depthwise_direct(g)) return depthwise_pack(g, w, packed);
  const std::ptrdiff_t kc = g.in_c_per_group(), ks = std::ptrdiff_t(g.kernel_h) * g.kernel_w * kc;
  detail::each_phase(g, [&](const gather_shape& s) {
    detail::product_pack(s, w, ks * g.out_c_per_group(), ks, 1, std::ptrdiff_t(g.kernel_w) * kc, kc, packed);
    packed += detail::product_packed_size<T>(s);
  });
}

template <class T>
std::size_t conv_workspace_size_backward_data(const conv_geometry& g) {
  if (depthwise_direct(g)) return 0;
  std::size_t elements = 0;
  detail::each_phase(g, [&](const gather_shape& s) { elements = std::max(elements, detail::product_elements<T>(s)); });
  return sizeof(T) * elements;
}

template <class T>
void conv_backward_data(const conv_geometry& g, const T* dy, const T* packed, T* dx, const conv_epilogue<T>& epilogue, void* workspace) {
  const gather_epilogue<T> e = detail::place_epilogue(epilogue, g.x_pitch());
  if (depthwise_direct(g) && depthwise_spreads(g, e)) return depthwise_spread_all(g, dy, packed, dx);
  detail::each_phase(g, [&](const gather_shape& s) {
    if (depthwise_direct(g)) return depthwise_run_all(s, g.kernel_w, g.kernel_h * g.kernel_w, dy, packed, dx, e);
    detail::product_run(s, dy, packed, dx, e, static_cast<T*>(workspace));
    packed += detail::product_packed_size<T>(s);
  });
}

template <class T>
std::size_t conv_workspace_size_backward_weights(const conv_geometry& g) {
  if (grouped_weights_wins<T>(g) && !depthwise_direct(g)) return sizeof(T) * grouped_weights_elements<T>(g);
  if (winograd_weights_wins<T>(g)) return sizeof(T) * cut_winograd_weights(g, kernels<T>()).elements();
  return sizeof(T) * (depthwise_direct(g) ? depthwise_backward_weights_elements<T>(g) : backward_weights_elements<T>(g));
}

template <class T>
void conv_backward_weights(const conv_geometry& g, const T* x, const T* dy, T* dw, void* workspace) {
  if (depthwise_direct(g)) return depthwise_backward_weights(g, x, dy, dw, static_cast<T*>(workspace));
  if (grouped_weights_wins<T>(g)) return grouped_backward_weights(g, x, dy, dw, static_cast<T*>(workspace));
  if (winograd_weights_wins<T>(g)) return winograd_weights_run(g, x, dy, dw, static_cast<T*>(workspace));
  backward_weights_run(g, x, dy, dw, static_cast<T*>(workspace));
}

namespace detail {
inline int bias_parts(std::int64_t pixels) { return int(std::min<std::int64_t>(32, (pixels + 1023) / 1024)); }
}  // namespace detail

template <class T>
std::size_t bias_gradient_workspace_size(std::int64_t pixels, int c) {
  return sizeof(T) * std::size_t(detail::bias_parts(pixels)) * std::size_t(c);
}

template <class T>
void bias_gradient(std::int64_t pixels, int c, const T* dy, T* db, void* workspace) {
  const kernel_table<T>& k = kernels<T>();
  T* const partial = static_cast<T*>(workspace);
  const int parts = detail::bias_parts(pixels);
  parallel_for(parts, [&](std::int64_t i) {
    const std::int64_t begin = pixels * i / parts, end = pixels * (i + 1) / parts;
    k.column_sums(c, end - begin, dy + begin * c, c, nullptr, 0, partial + i * c, true);
  });
  for (int ch = 0; ch < c; ++ch) {
    T s = 0;
    for (int i = 0; i < parts; ++i) s += partial[std::ptrdiff_t(i) * c + ch];
    db[ch] = s;
  }
}

}  // namespace rsseg::cpu
