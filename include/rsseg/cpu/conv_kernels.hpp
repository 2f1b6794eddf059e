// SPDX-License-Identifier: MIT
// The jobs that the inner loops of the convolutions take, and the table of inner loops of each instruction set.
// Threads and addresses are handled above (conv_gather.hpp, conv_backward.hpp), in code that needs no instruction set.
#pragma once
#include <cstddef>
#include <cstdint>

#include "rsseg/core/config.hpp"
#include "rsseg/cpu/isa.hpp"

namespace rsseg::cpu {

inline constexpr int tile_rows = 6;           ///< pixels per register tile, all instruction sets: 6 row pointers fit the general registers
inline constexpr int max_block_depth = 1024;  ///< longest run of channels that one job may ask for (length of the row of zeros)

/// Two neighbouring channels in bfloat16; their product with another pair is the sum of two products.
struct bf16_pair {
  std::uint16_t even, odd;
};
/// The bfloat16 nearest to a float, both as bits; ties to even, a NaN stays one.
RSSEG_ALWAYS_INLINE std::uint16_t bf16_bits(std::uint32_t f) {
  const std::uint32_t rounded = (f + 0x7FFFu + (f >> 16 & 1u)) >> 16;
  return std::uint16_t((f & 0x7FFFFFFFu) > 0x7F800000u ? f >> 16 | 0x40u : rounded);
}

/// One kernel tap of one tile: where the tile's pixels read (padding reads a row of zeros), and the tap's number within the block.
/// Element: T or bf16_pair.
template <class Element>
struct tap_rows {
  const Element* row[tile_rows];
  std::ptrdiff_t tap;
};

/// tiles x tile_rows pixels, one panel of output channels, one block of taps x channels. See gather_tiles.
template <class T, class Element = T>
struct gather_job {
  int tiles = 0, last_rows = tile_rows;        // valid pixels of the last tile
  int len = 0;                                 // channels (or pairs of them) per tap
  int entry_stride = 0;                        // entries per tile
  const tap_rows<Element>* entries = nullptr;  // [tile][entry_stride]
  const int* active = nullptr;                 // [tile] entries used
  const Element* b = nullptr;                  // [tap][len][panel width]
  T* const* out = nullptr;                     // [tile][tile_rows] output pixels
  int column = 0, columns = 0;                 // first channel within an output pixel, valid channels
  const T* bias = nullptr;                     // at the panel's first channel
  const T* const* residual = nullptr;          // like out, or null
  bool first = true, relu = false;             // first block of the depth: start from bias and residual; relu is set on the last only
  bool fetch_ahead = false;                    // fetch what the next tile reads (one entry per tile)
};

struct pixel_run {
  std::ptrdiff_t a, b;  // offsets of the first pixel
  std::ptrdiff_t count;
};

/// One tile of an outer-product sum over pixels. See outer_tile.
template <class T>
struct outer_job {
  int runs = 0;
  const pixel_run* run = nullptr;
  const T* a = nullptr;  // six values per pixel, a_step apart
  const T* b = nullptr;  // one panel's width per pixel, b_step apart
  std::ptrdiff_t a_step = tile_rows, b_step = 0;
  int rows = tile_rows, columns = 0;
  T* z = nullptr;
  std::ptrdiff_t z_stride = 0;
  bool first = true;
};

/// Neighbouring pixels of one row that share their valid taps. See depthwise_run.
template <class T>
struct depthwise_job {
  int channels = 0, count = 0, taps = 0, all_taps = 0;
  const int* tap = nullptr;                // [taps] which of w's all_taps
  const std::ptrdiff_t* offset = nullptr;  // [taps] from x
  const T* x = nullptr;
  const T* w = nullptr;
  T* y = nullptr;
  std::ptrdiff_t x_step = 0, y_step = 0;
  const T* bias = nullptr;
  const T* residual = nullptr;  // at the first pixel, like y
  std::ptrdiff_t residual_step = 0;
  bool relu = false;
};

/// The same with a few channels per group, one vector of output channels at most. See grouped_run.
template <class T>
struct grouped_job {
  int groups = 0, depth = 0, columns = 0;  // input and output channels of a group
  int count = 0, taps = 0;
  const int* tap = nullptr;
  const std::ptrdiff_t* offset = nullptr;
  const T* x = nullptr;
  const T* w = nullptr;  // [group][tap][depth][lanes]
  std::ptrdiff_t w_step = 0;
  T* y = nullptr;
  std::ptrdiff_t x_step = 0, y_step = 0;
  const T* bias = nullptr;
  const T* residual = nullptr;
  std::ptrdiff_t residual_step = 0;
  bool relu = false;
};

/// Neighbouring pixels of one row, for one kernel row of a weight gradient. See grouped_weights.
template <class T>
struct grouped_weights_job {
  int groups = 0, kc = 0, nc = 0, count = 0;
  const T* x = nullptr;
  const T* dy = nullptr;
  std::ptrdiff_t x_step = 0, dy_step = 0, tap_step = 0;
  T* z = nullptr;
  std::ptrdiff_t z_step = 0;
};

/// The inner loops of one instruction set. gather[i] and outer[i] work on 1, 2, 4 vectors of columns (4 only where vectors == 4),
/// depthwise_weights[i] on i + 1 rows.
template <class T>
struct kernel_table {
  int lanes = 1, vectors = 1;
  void (*gather[3])(const gather_job<T>&) = {};
  void (*gather_pairs[3])(const gather_job<T, bf16_pair>&) = {};  // float only
  void (*round_pairs)(int, const T*, bf16_pair*) = nullptr;
  void (*outer[3])(const outer_job<T>&) = {};
  void (*depthwise)(const depthwise_job<T>&) = nullptr;
  void (*depthwise_pair[2])(const depthwise_job<T>&, const T* const*, T* const*, const T* const*, std::ptrdiff_t, int) = {};
  void (*depthwise_spread)(const depthwise_job<T>&, const T* const*, T* const*) = nullptr;
  void (*depthwise_weights[2])(int, int, const T* const*, std::ptrdiff_t, const T* const*, std::ptrdiff_t, std::ptrdiff_t, T*) = {};
  void (*depthwise_weights_pixel)(int, const T*, const T*, int, const int*, const std::ptrdiff_t*, T*) = nullptr;
  void (*grouped)(const grouped_job<T>&) = nullptr;
  void (*grouped_weights)(const grouped_weights_job<T>&) = nullptr;
  void (*grouped_weights_pixel)(const grouped_weights_job<T>&) = nullptr;
  void (*column_sums)(int, std::int64_t, const T*, std::ptrdiff_t, const T*, std::ptrdiff_t, T*, bool) = nullptr;
  void (*winograd_input)(const T* const*, int, T*, std::ptrdiff_t) = nullptr;
  void (*winograd_gradient)(const T* const*, int, T*, std::ptrdiff_t) = nullptr;
  void (*winograd_kernel)(const T*, std::ptrdiff_t, int, T*) = nullptr;
  void (*winograd_output)(const T*, std::ptrdiff_t, int, T* const*, const T*, const T* const*, bool) = nullptr;
  void (*pack_panels)(std::int64_t, const T*, std::ptrdiff_t, int, int, std::ptrdiff_t, T*, std::ptrdiff_t) = nullptr;
  void (*pack_tiles)(std::int64_t, const T*, std::ptrdiff_t, int, std::ptrdiff_t, T*, std::ptrdiff_t) = nullptr;

  int panel() const { return lanes * vectors; }  ///< channels of a full panel
  /// Width of the panel that begins where `left` channels remain: whole vectors, 1, 2 or 4 of them.
  int width(int left) const {
    const int v = (left + lanes - 1) / lanes;
    return lanes * (v >= 3 ? (vectors < 4 ? vectors : 4) : v < vectors ? v : vectors);
  }
  int last_width(int n) const { return width((n - 1) % panel() + 1); }
  static int index(int vectors_used) { return vectors_used == 4 ? 2 : vectors_used - 1; }
  /// Elements that n channels take in panels.
  std::int64_t padded(int n) const { return std::int64_t(n / panel()) * panel() + (n % panel() ? width(n % panel()) : 0); }
};

}  // namespace rsseg::cpu

#define RSSEG_ISA_NAMESPACE portable
#define RSSEG_TARGET
#define RSSEG_VECTOR_BYTES 16
#define RSSEG_VECTORS 2
#include "rsseg/cpu/conv_kernels.inc"
#if RSSEG_X86
#define RSSEG_ISA_NAMESPACE avx2
#define RSSEG_TARGET __attribute__((target("avx2,fma")))
#define RSSEG_VECTOR_BYTES 32
#define RSSEG_VECTORS 2
#include "rsseg/cpu/conv_kernels.inc"
#define RSSEG_ISA_NAMESPACE avx512
#define RSSEG_TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma")))
#define RSSEG_TARGET_BF16 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,avx2,fma")))
#define RSSEG_VECTOR_BYTES 64
#define RSSEG_VECTORS 4
#include "rsseg/cpu/conv_kernels.inc"
#endif

namespace rsseg::cpu {

/// The inner loops of the instruction set in use.
template <class T>
const kernel_table<T>& kernels() {
#if RSSEG_X86
  static const kernel_table<T> tables[3] = {portable::make_table<T>(), avx2::make_table<T>(), avx512::make_table<T>()};
  return tables[int(current_isa())];
#else
  static const kernel_table<T> table = portable::make_table<T>();
  return table;
#endif
}

}  // namespace rsseg::cpu
