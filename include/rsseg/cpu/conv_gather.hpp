// SPDX-License-Identifier: MIT
// Convolution as a matrix product that gathers its left side: for each kernel tap, a register tile of six output pixels holds six pointers
// to input pixels (a row of zeros where they fall into padding; a tap is skipped when all six do), so no im2col matrix is stored.
// The data gradient is the same product with the roles of the channels exchanged; for stride s it falls into s*s phases, each with its own few taps.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <type_traits>

#include "rsseg/core/conv_geometry.hpp"
#include "rsseg/core/parallel.hpp"
#include "rsseg/cpu/conv_kernels.hpp"

namespace rsseg::cpu {

/// parallel_for whose body also learns which slot of a per-thread workspace is its own: body(i, slot), slot < threads().
template <class Body>
inline void parallel_slots(std::int64_t count, const Body& body) {
#if defined(_OPENMP)
  const bool split = threads() > 1 && count > 1;  // else serial, perhaps inside a caller's own team: then the slot is 0
  parallel_for(count, [&](std::int64_t i) { body(i, split ? omp_get_thread_num() : 0); });
#else
  parallel_for(count, [&](std::int64_t i) { body(i, 0); });
#endif
}

/// One image axis of a gather: output position out_start + q*out_step reads input position q*in_step + tap_start + i*tap_step through tap i,
/// which is kernel element k_start + i*k_step.
struct gather_axis {
  int count = 0, out_start = 0, out_step = 1;  // q in [0, count)
  int in_extent = 0, in_step = 1;
  int taps = 0, tap_start = 0, tap_step = 1;
  int k_start = 0, k_step = 1;

  int out(int q) const { return out_start + q * out_step; }
};

inline gather_axis forward_axis(int in, int out, int kernel, int stride, int pad, int dilation) {
  return {out, 0, 1, in, stride, kernel, -pad, dilation, 0, 1};
}

/// Phase p of the data gradient: input positions p, p+stride, ... receive from those taps k with (p + pad - k*dilation) divisible by stride.
inline gather_axis backward_axis(int in, int out, int kernel, int stride, int pad, int dilation, int p) {
  gather_axis a;
  a.count = p < in ? (in - p + stride - 1) / stride : 0;
  a.out_start = p, a.out_step = stride;
  a.in_extent = out, a.in_step = 1;
  const int common = std::gcd(stride, dilation);
  a.k_step = stride / common;
  a.tap_step = -dilation / common;
  a.k_start = 0;
  while (a.k_start < kernel && a.k_start < a.k_step && (p + pad - a.k_start * dilation) % stride != 0) ++a.k_start;
  if (a.k_start < kernel && a.k_start < a.k_step) {
    a.taps = (kernel - a.k_start + a.k_step - 1) / a.k_step;
    a.tap_start = (p + pad - a.k_start * dilation) / stride;
  }
  return a;
}

/// A gather over the whole batch. Elements are addressed in NHWC tensors whose pixels are in_pitch and out_pitch apart; kc -> nc channels per group.
struct gather_shape {
  int n = 1, groups = 1, kc = 1, nc = 1;
  int out_h = 1, out_w = 1;
  gather_axis y, x;
  std::ptrdiff_t in_pitch = 1, out_pitch = 1;
  bool bf16 = false;

  int taps() const { return y.taps * x.taps; }
  std::int64_t pixels() const { return std::int64_t(n) * y.count * x.count; }
};

inline gather_shape forward_gather(const conv_geometry& g) {
  return {g.n,
          g.groups,
          g.in_c_per_group(),
          g.out_c_per_group(),
          g.out_h,
          g.out_w,
          forward_axis(g.in_h, g.out_h, g.kernel_h, g.stride_h, g.pad_top, g.dilation_h),
          forward_axis(g.in_w, g.out_w, g.kernel_w, g.stride_w, g.pad_left, g.dilation_w),
          g.x_pitch(),
          g.y_pitch(),
          g.bf16};
}

inline gather_shape backward_gather(const conv_geometry& g, int phase_y, int phase_x) {
  return {g.n,
          g.groups,
          g.out_c_per_group(),
          g.in_c_per_group(),
          g.in_h,
          g.in_w,
          backward_axis(g.in_h, g.out_h, g.kernel_h, g.stride_h, g.pad_top, g.dilation_h, phase_y),
          backward_axis(g.in_w, g.out_w, g.kernel_w, g.stride_w, g.pad_left, g.dilation_w, phase_x),
          g.y_pitch(),
          g.x_pitch()};
}

/// What happens to a sum before it is stored.
template <class T>
struct gather_epilogue {
  const T* bias = nullptr;
  const T* residual = nullptr;
  std::ptrdiff_t residual_pitch = 0;
  bool relu = false;
};

/// How the depth (taps x channels) of a gather is cut into blocks whose weights stay in the first-level cache.
struct depth_blocks {
  bool collect = false;  // few channels: the tile's inputs are first copied side by side, since a run of 3 channels is too short a loop
  bool merge = false;    // the same, but a kernel row is one run in memory: its taps are read as one, where they lie inside the image
  int taps = 1;          // per block
  int length = 1;        // channels per block
  int tap_blocks = 1, channel_blocks = 1;

  int count() const { return tap_blocks * channel_blocks; }
};

inline constexpr int block_pixels = 96;  ///< per task: 16 register tiles; their inputs stay in the second-level cache
inline constexpr int max_block_taps = 20;

inline depth_blocks cut_depth(const gather_shape& s, int depth) {
  depth_blocks d;
  const int taps = s.taps();
  d.merge = s.kc <= 12 && s.groups == 1 && s.x.taps > 1 && s.x.tap_step == 1 && s.x.taps * s.kc <= depth;
  d.collect = s.kc <= (s.groups > 1 ? 6 : 12) && taps > 1 && !d.merge;
  if (d.merge) {
    d.length = s.kc;
    const int rows = std::min({s.y.taps, max_block_taps, std::max(1, depth / (s.x.taps * s.kc))}), blocks = (s.y.taps + rows - 1) / rows;
    d.taps = (s.y.taps + blocks - 1) / blocks * s.x.taps;
  } else if (s.kc > depth) {
    d.channel_blocks = (s.kc + depth - 1) / depth;
    d.length = ((s.kc + d.channel_blocks - 1) / d.channel_blocks + 3) / 4 * 4;
    d.channel_blocks = (s.kc + d.length - 1) / d.length;
  } else {
    d.length = s.kc;
    d.taps = std::max(1, std::min(taps, depth / s.kc));
    if (!d.collect) d.taps = std::min(d.taps, max_block_taps);
    const int blocks = std::max(1, (taps + d.taps - 1) / d.taps);
    d.taps = std::max(1, (taps + blocks - 1) / blocks);
  }
  d.tap_blocks = std::max(1, (taps + d.taps - 1) / d.taps);  // without taps one block remains: it writes the epilogue of nothing
  return d;
}

template <class T>
inline constexpr T zero_row[max_block_depth] = {};

/// Depth of a block: a full panel's weights take 16 KiB (32 KiB with AVX-512, whose panels are four vectors wide).
template <class T>
int block_depth(const kernel_table<T>& k) {
  return k.vectors == 4 ? 128 : 256;
}

/// The gather with its depth counted in elements: channels, or pairs of them.
template <class T, class Element>
gather_shape in_elements(gather_shape s) {
  if (!std::is_same_v<T, Element>) s.kc = (s.kc + 1) / 2;
  return s;
}

/// Elements of workspace that each slot needs.
template <class T, class Element = T>
std::size_t gather_slot_size(const gather_shape& s) {
  const depth_blocks d = cut_depth(in_elements<T, Element>(s), block_depth(kernels<T>()));
  return d.collect || d.merge || !std::is_same_v<T, Element> ? std::size_t(block_pixels) * d.taps * d.length : 0;
}

template <class T>
std::size_t gather_packed_size(const gather_shape& s) {
  return std::size_t(s.groups) * s.taps() * s.kc * kernels<T>().padded(s.nc);
}

inline constexpr int pack_rows = 16;

/// to[k][j] = from[k*ks + j*js] for `rows` k and `valid` of `width` columns, zero in the others. At most pack_rows at a time: where rows are
/// neighbours in memory, columns often lie a multiple of 4 KiB apart and share cache sets, so what a cache line holds is read before the next
/// column's.
template <class T>
RSSEG_ALWAYS_INLINE void load_columns(const T* from, std::ptrdiff_t ks, std::ptrdiff_t js, int rows, int valid, int width, T* to) {
  if (js == 1) {
    for (int k = 0; k < rows; ++k)
      for (int j = 0; j < valid; ++j) to[k * width + j] = from[k * ks + j];
  } else {
    for (int j = 0; j < valid; ++j)
      for (int k = 0; k < rows; ++k) to[k * width + j] = from[j * js + k * ks];
  }
  for (int k = 0; k < rows; ++k)
    for (int j = valid; j < width; ++j) to[k * width + j] = T(0);
}

/// Packs weights as [group][panel][tap][channel][panel width]. Weight (group, k, j, ky, kx) is w[group*gs + k*ks + j*js + ky*ys + kx*xs].
template <class T>
void gather_pack(const gather_shape& s, const T* w, std::ptrdiff_t gs, std::ptrdiff_t ks, std::ptrdiff_t js, std::ptrdiff_t ys, std::ptrdiff_t xs,
                 T* packed) {
  const kernel_table<T>& table = kernels<T>();
  const int panels = (s.nc + table.panel() - 1) / table.panel();
  const std::ptrdiff_t depth = std::ptrdiff_t(s.taps()) * s.kc, group_size = depth * table.padded(s.nc);
  parallel_for(std::int64_t(s.groups) * panels, [&](std::int64_t i) {
    const int group = int(i / panels), column = int(i % panels) * table.panel();
    const int width = table.width(s.nc - column), valid = std::min(width, s.nc - column);
    T* to = packed + group * group_size + column * depth;
    for (int ty = 0; ty < s.y.taps; ++ty)
      for (int tx = 0; tx < s.x.taps; ++tx) {
        const T* from = w + group * gs + (s.y.k_start + ty * s.y.k_step) * ys + (s.x.k_start + tx * s.x.k_step) * xs + column * js;
        for (int k = 0; k < s.kc; k += pack_rows, from += pack_rows * ks, to += pack_rows * width)
          load_columns(from, ks, js, std::min(pack_rows, s.kc - k), valid, width, to);
        to -= (pack_rows - 1 - (s.kc - 1) % pack_rows) * width;  // the last block may be shorter
      }
  });
}

/// The input side of one pixel of a block.
template <class T>
struct gather_pixel {
  const T* base;  // input pixel under tap offset (0, 0), group's first channel; may point outside the image
  int y, x;       // its coordinates
};

/// Copies the inputs of taps [tap0, tap1) of one pixel side by side.
template <class T>
void collect_pixel(const gather_shape& s, const gather_pixel<T>& p, int tap0, int tap1, T* to) {
  const int kc = s.kc;
  const bool contiguous = s.x.tap_step == 1 && s.in_pitch == kc;
  for (int t = tap0; t < tap1;) {
    const int ty = t / s.x.taps, tx = t % s.x.taps, run = std::min(s.x.taps - tx, tap1 - t);
    const int y = p.y + s.y.tap_start + ty * s.y.tap_step, x = p.x + s.x.tap_start + tx * s.x.tap_step;
    const std::ptrdiff_t row = std::ptrdiff_t(y - p.y) * s.x.in_extent;
    if (unsigned(y) >= unsigned(s.y.in_extent)) {
      for (int i = 0; i < run * kc; ++i) to[i] = T(0);
    } else if (contiguous && x >= 0 && x + run <= s.x.in_extent) {
      const T* from = p.base + (row + x - p.x) * s.in_pitch;
      for (int i = 0; i < run * kc; ++i) to[i] = from[i];
    } else {
      for (int r = 0; r < run; ++r) {
        const int xr = x + r * s.x.tap_step;
        const bool inside = unsigned(xr) < unsigned(s.x.in_extent);
        const T* from = p.base + (row + xr - p.x) * s.in_pitch;
        for (int i = 0; i < kc; ++i) to[r * kc + i] = inside ? from[i] : T(0);
      }
    }
    to += run * kc;
    t += run;
  }
}

/// Whether all six pixels of a tile lie side by side in one row, and at offset (dy, dx) and `reach` columns on inside the image: then nothing need
/// be asked one by one.
template <class T>
bool inside_as_one(const gather_shape& s, const gather_pixel<T>* pixel, int count, int tile, int dy, int dx, int reach) {
  if ((tile + 1) * tile_rows > count) return false;
  const gather_pixel<T>&first = pixel[tile * tile_rows], &last = pixel[tile * tile_rows + tile_rows - 1];
  return first.y == last.y && last.x - first.x == (tile_rows - 1) * s.x.in_step && unsigned(first.y + dy) < unsigned(s.y.in_extent) &&
         first.x + dx >= 0 && last.x + dx + reach < s.x.in_extent;
}

/// The left side of taps [tap0, tap1) where a pixel has few channels: copied side by side, or a kernel row at a time (see depth_blocks).
template <class T>
void gather_few(const gather_shape& s, const depth_blocks& d, const gather_pixel<T>* pixel, int count, int tap0, int tap1, T* collected,
                tap_rows<T>* entries, int* active, gather_job<T>& job) {
  const int tiles = job.tiles;
  if (d.collect) {
    job.len = (tap1 - tap0) * s.kc;
    job.entry_stride = 1;
    for (int i = 0; i < count; ++i) collect_pixel(s, pixel[i], tap0, tap1, collected + std::ptrdiff_t(i) * job.len);
    for (int tile = 0; tile < tiles; ++tile) {
      active[tile] = 1;
      entries[tile].tap = 0;
      for (int r = 0; r < tile_rows; ++r) entries[tile].row[r] = collected + std::ptrdiff_t(std::min(tile * tile_rows + r, count - 1)) * job.len;
    }
    return;
  }
  job.len = s.x.taps * s.kc;
  job.entry_stride = (tap1 - tap0) / s.x.taps;
  const bool run_in_memory = s.in_pitch == s.kc;  // else every kernel row is copied
  for (int tile = 0; tile < tiles; ++tile) active[tile] = 0;
  for (int row = 0; row < job.entry_stride; ++row) {
    const int dy = s.y.tap_start + (tap0 / s.x.taps + row) * s.y.tap_step, dx = s.x.tap_start;
    const std::ptrdiff_t offset = (std::ptrdiff_t(dy) * s.x.in_extent + dx) * s.in_pitch;
    for (int tile = 0; tile < tiles; ++tile) {
      tap_rows<T>& e = entries[tile * job.entry_stride + active[tile]];
      if (run_in_memory && inside_as_one(s, pixel, count, tile, dy, dx, s.x.taps - 1)) {
        for (int r = 0; r < tile_rows; ++r) e.row[r] = pixel[tile * tile_rows + r].base + offset;
        e.tap = row, ++active[tile];
        continue;
      }
      bool any = false;
      for (int r = 0; r < tile_rows; ++r) {
        const int i = tile * tile_rows + r;
        e.row[r] = zero_row<T>;
        if (i >= count || unsigned(pixel[i].y + dy) >= unsigned(s.y.in_extent)) continue;
        any = true;
        if (run_in_memory && pixel[i].x + dx >= 0 && pixel[i].x + dx + s.x.taps <= s.x.in_extent) {
          e.row[r] = pixel[i].base + offset;
        } else {
          T* const to = collected + (std::ptrdiff_t(i) * job.entry_stride + row) * job.len;
          collect_pixel(s, pixel[i], tap0 + row * s.x.taps, tap0 + (row + 1) * s.x.taps, to);
          e.row[r] = to;
        }
      }
      e.tap = row;
      active[tile] += any;
    }
  }
}

/// What a tile reads for `channels` channels from `from` on: they themselves, or rounded to pairs at `place`.
template <class T>
RSSEG_ALWAYS_INLINE const T* read_through(const kernel_table<T>&, const T* from, int, T*, std::ptrdiff_t) {
  return from;
}
template <class T>
RSSEG_ALWAYS_INLINE const bf16_pair* read_through(const kernel_table<T>& table, const T* from, int channels, bf16_pair* collected,
                                                  std::ptrdiff_t place) {
  table.round_pairs(channels, from, collected + place);
  return collected + place;
}

/// One task: up to block_pixels output pixels from pixel `begin` on, of one group, panels [panel0, panel1). With pairs as elements (bf16.hpp) d,
/// packed and collected count pairs of channels.
template <class T, class Element>
void gather_block(const kernel_table<T>& table, const gather_shape& s, const depth_blocks& d, std::int64_t begin, int group, int panel0, int panel1,
                  const T* in, const Element* packed, T* out, const gather_epilogue<T>& epilogue, Element* collected) {
  constexpr bool pairs = !std::is_same_v<T, Element>;
  const int kc = pairs ? (s.kc + 1) / 2 : s.kc;
  gather_pixel<T> pixel[block_pixels];
  T* out_pixel[block_pixels];
  const T* residual_pixel[block_pixels];
  tap_rows<Element> entries[block_pixels / tile_rows * max_block_taps];
  int active[block_pixels / tile_rows];

  const int count = int(std::min<std::int64_t>(block_pixels, s.pixels() - begin));
  const int tiles = (count + tile_rows - 1) / tile_rows;
  {
    int qx = int(begin % s.x.count), qy = int(begin / s.x.count % s.y.count), image = int(begin / s.x.count / s.y.count);
    const std::ptrdiff_t in_step = s.x.in_step * s.in_pitch, out_step = s.x.out_step * s.out_pitch;
    for (int i = 0; i < count;) {  // the rest of a row at a time
      const int end = std::min(count, i + s.x.count - qx), y = qy * s.y.in_step;
      int x = qx * s.x.in_step;
      const T* from = in + ((std::ptrdiff_t(image) * s.y.in_extent + y) * s.x.in_extent + x) * s.in_pitch + group * s.kc;
      const std::ptrdiff_t at = (std::ptrdiff_t(image) * s.out_h + s.y.out(qy)) * s.out_w + s.x.out(qx);
      T* to = out + at * s.out_pitch;
      if (epilogue.residual != nullptr)
        for (int j = i; j < end; ++j) residual_pixel[j] = epilogue.residual + (at + (j - i) * s.x.out_step) * epilogue.residual_pitch;
      for (; i < end; ++i, x += s.x.in_step, from += in_step, to += out_step) pixel[i] = {from, y, x}, out_pixel[i] = to;
      qx = 0;
      if (++qy == s.y.count) qy = 0, ++image;
    }
  }
  const std::ptrdiff_t depth = std::ptrdiff_t(s.taps()) * kc;
  const Element* group_weights = packed + group * depth * table.padded(s.nc);
  gather_job<T, Element> job;
  job.tiles = tiles;
  job.last_rows = count - (tiles - 1) * tile_rows;
  job.entries = entries;
  job.active = active;
  job.out = out_pixel;
  job.residual = epilogue.residual == nullptr ? nullptr : residual_pixel;

  for (int block = 0; block < d.count(); ++block) {
    const int tap0 = block / d.channel_blocks * d.taps, tap1 = std::min(s.taps(), tap0 + d.taps);
    const int channel0 = block % d.channel_blocks * d.length, len = std::min(d.length, kc - channel0);
    const int first_channel = pairs ? 2 * channel0 : channel0, channels = pairs ? std::min(2 * len, s.kc - first_channel) : len;
    if (d.collect || d.merge) {
      if constexpr (!pairs) gather_few(s, d, pixel, count, tap0, tap1, collected, entries, active, job);
    } else {
      job.len = len;
      job.entry_stride = std::max(1, tap1 - tap0);
      for (int tile = 0; tile < tiles; ++tile) active[tile] = 0;
      for (int t = tap0; t < tap1; ++t) {
        const int dy = s.y.tap_start + t / s.x.taps * s.y.tap_step, dx = s.x.tap_start + t % s.x.taps * s.x.tap_step;
        const std::ptrdiff_t offset = (std::ptrdiff_t(dy) * s.x.in_extent + dx) * s.in_pitch + first_channel;
        for (int tile = 0; tile < tiles; ++tile) {
          const int at = tile * job.entry_stride + active[tile];
          tap_rows<Element>& e = entries[at];
          const auto read = [&](int r, const T* from) {
            return read_through(table, from, channels, collected, (std::ptrdiff_t(at) * tile_rows + r) * len);
          };
          const gather_pixel<T>* p = pixel + tile * tile_rows;
          if (inside_as_one(s, pixel, count, tile, dy, dx, 0)) {
            for (int r = 0; r < tile_rows; ++r) e.row[r] = read(r, p[r].base + offset);
            e.tap = t - tap0, ++active[tile];
            continue;
          }
          const int rows = tile + 1 < tiles ? tile_rows : job.last_rows;
          bool any = false;
          for (int r = 0; r < rows; ++r) {
            const bool inside = unsigned(p[r].y + dy) < unsigned(s.y.in_extent) && unsigned(p[r].x + dx) < unsigned(s.x.in_extent);
            any |= inside;
            e.row[r] = inside ? read(r, p[r].base + offset) : zero_row<Element>;
          }
          for (int r = rows; r < tile_rows; ++r) e.row[r] = zero_row<Element>;
          e.tap = t - tap0;
          active[tile] += any;
        }
      }
    }
    job.first = block == 0;
    job.relu = epilogue.relu && block + 1 == d.count();
    for (int panel = panel0; panel < panel1; ++panel) {
      const int column = panel * table.panel(), width = table.width(s.nc - column);
      job.column = group * s.nc + column;
      job.columns = std::min(width, s.nc - column);
      job.b = group_weights + column * depth + (std::ptrdiff_t(tap0) * kc + channel0) * width;
      job.bias = epilogue.bias == nullptr ? nullptr : epilogue.bias + job.column;
      job.fetch_ahead = !pairs && !d.collect && !d.merge && panel == panel0;
      const int index = table.index(width / table.lanes);
      if constexpr (pairs)
        table.gather_pairs[index](job);
      else
        table.gather[index](job);
    }
  }
}

/// The whole product. workspace: threads() slots of gather_slot_size elements.
template <class T, class Element>
void gather_run(const gather_shape& s, const T* in, const Element* packed, T* out, const gather_epilogue<T>& epilogue, Element* workspace) {
  const std::int64_t pixels = s.pixels();
  if (pixels == 0) return;
  const kernel_table<T>& table = kernels<T>();
  const depth_blocks d = cut_depth(in_elements<T, Element>(s), block_depth(table));
  const std::size_t slot_size = gather_slot_size<T, Element>(s);
  const int panels = (s.nc + table.panel() - 1) / table.panel();
  const std::int64_t blocks = (pixels + block_pixels - 1) / block_pixels;
  // With few pixels the output channels are shared out, too; by the sizes alone, and a sum's order does not depend on it anyway.
  const int shares = int(std::min<std::int64_t>(panels, std::max<std::int64_t>(1, 16 / (blocks * s.groups))));
  parallel_slots(blocks * s.groups * shares, [&](std::int64_t i, int slot) {
    const int share = int(i % shares), group = int(i / shares % s.groups);
    gather_block(table, s, d, i / shares / s.groups * block_pixels, group, panels * share / shares, panels * (share + 1) / shares, in, packed, out,
                 epilogue, workspace + slot * slot_size);
  });
}

}  // namespace rsseg::cpu
