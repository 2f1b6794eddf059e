// SPDX-License-Identifier: MIT
// Convolutions whose products are of bfloat16 numbers (conv_geometry::bf16, inference only): weights and inputs are rounded to 8 bits of mantissa,
// sums stay float. Weights take half the memory. A tile's inputs are rounded as they are gathered; a pair of channels is one element of the gather,
// and its product with a pair of weights is one instruction on CPUs with AVX512-BF16. Elsewhere the same numbers come from float arithmetic.
//
// What is not rounded: Winograd's algorithm (which saves as many products as the instruction does, and would magnify the rounding), depthwise and
// grouped convolutions, transposed ones, and fewer than 32 input channels.
#pragma once
#include <cstring>

#include "rsseg/cpu/winograd.hpp"

namespace rsseg::cpu {

/// Whether a gather that asks for bfloat16 gets it.
template <class T>
bool bf16_runs(const gather_shape& s) {
  return std::is_same_v<T, float> && s.bf16 && s.groups == 1 && s.kc >= 32 && !winograd_wins<T>(s);
}

/// Pairs, each of the size of a float.
template <class T>
std::size_t bf16_packed_size(const gather_shape& s) {
  return gather_packed_size<T>(in_elements<T, bf16_pair>(s));
}

/// Packs weights as [panel][tap][pair][panel width]; strides as for gather_pack.
template <class T>
void bf16_pack(const gather_shape& s, const T* w, std::ptrdiff_t ks, std::ptrdiff_t js, std::ptrdiff_t ys, std::ptrdiff_t xs, bf16_pair* packed) {
  const kernel_table<T>& table = kernels<T>();
  const int panels = (s.nc + table.panel() - 1) / table.panel();
  const std::ptrdiff_t depth = std::ptrdiff_t(s.taps()) * ((s.kc + 1) / 2);
  const auto bits = [](T v) {
    std::uint32_t b = 0;
    std::memcpy(&b, &v, sizeof b);
    return bf16_bits(b);
  };
  parallel_for(panels, [&](std::int64_t panel) {
    constexpr int most = 64;  // widest panel
    const int column = int(panel) * table.panel(), width = table.width(s.nc - column), valid = std::min(width, s.nc - column);
    T rows[pack_rows * most];
    bf16_pair* to = packed + column * depth;
    for (int ty = 0; ty < s.y.taps; ++ty)
      for (int tx = 0; tx < s.x.taps; ++tx) {
        const T* from = w + (s.y.k_start + ty * s.y.k_step) * ys + (s.x.k_start + tx * s.x.k_step) * xs + column * js;
        for (int k = 0; k < s.kc; k += pack_rows, from += pack_rows * ks) {
          const int count = std::min(pack_rows, s.kc - k);
          load_columns(from, ks, js, count, valid, width, rows);
          for (int i = 0; i < count; i += 2, to += width)
            for (int j = 0; j < width; ++j) to[j] = {bits(rows[i * width + j]), i + 1 < count ? bits(rows[(i + 1) * width + j]) : std::uint16_t(0)};
        }
      }
  });
}

}  // namespace rsseg::cpu
