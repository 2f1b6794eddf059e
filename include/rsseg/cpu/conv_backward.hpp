// SPDX-License-Identifier: MIT
// Weight gradient of a convolution: dw(co, ky, kx, ci) = sum over pixels of dy(pixel, co) * x(pixel under tap, ci), a product whose depth are the
// pixels. Both sides are packed chunk by chunk (dy six channels wide, x one panel wide), a tap is a shift within the packed rows of x, and only the
// range of pixels whose tap lies inside the image is visited. The pixels are shared out in a number of parts that follows from the sizes alone;
// parts are summed in order, so the result does not depend on the number of threads.
#pragma once
#include "rsseg/cpu/conv_gather.hpp"

namespace rsseg::cpu {

/// Extra elements between the packed tiles and panels of a chunk, which would else fall into the same cache sets.
inline constexpr std::ptrdiff_t set_skew = 16;

/// How a weight gradient is cut.
struct weight_cut {
  bool collect = false;       // few input channels: taps x channels become the narrow side, output channels the wide one
  int rows = 1, columns = 1;  // output rows and columns per chunk
  int row_chunks = 1, column_chunks = 1;
  std::int64_t chunks = 1;                   // of the whole batch
  int narrow_block = 48, narrow_blocks = 1;  // output channels per task (collect: all)
  int in_columns = 1;                        // input columns a chunk may touch
  int walk = 1;                              // of which every walk-th is packed: a kernel one column wide reads no others
  int wide_panels = 1;                       // panels of x packed at a time
  int parts = 1;
  std::int64_t part_size = 0;          // elements of a part's sum
  bool merge = false;                  // collect, and a kernel row is one run in memory: no copies but padded input rows
  std::size_t a_size = 0, b_size = 0;  // elements of a slot's packed sides

  std::size_t slot_size() const { return a_size + b_size; }
  std::int64_t partial_size() const { return ((collect ? parts : parts - 1) * part_size + 15) / 16 * 16; }
};

template <class T>
weight_cut cut_weights(const conv_geometry& g, const kernel_table<T>& k) {
  weight_cut c;
  const int kc = g.in_c_per_group(), nc = g.out_c_per_group(), taps = g.kernel_h * g.kernel_w;
  const std::int64_t depth = std::int64_t(taps) * kc;
  c.collect = kc <= (g.groups > 1 ? 6 : 12) && taps > 1 && depth <= 4096;
  int pixels = k.vectors == 4 ? 128 : 256;
  if (c.collect) pixels = int(std::clamp<std::int64_t>(65536 / depth, 16, pixels));
  c.column_chunks = (g.out_w + pixels - 1) / pixels;
  c.columns = (g.out_w + c.column_chunks - 1) / c.column_chunks;
  c.column_chunks = (g.out_w + c.columns - 1) / c.columns;
  c.rows = std::min({g.out_h, std::max(1, pixels / c.columns), 64});
  c.row_chunks = (g.out_h + c.rows - 1) / c.rows;
  c.chunks = std::int64_t(g.n) * c.row_chunks * c.column_chunks;
  c.part_size = std::int64_t(g.out_c) * depth;
  const int chunk_pixels = c.rows * c.columns;
  if (c.collect) {
    c.merge = g.groups == 1 && g.dilation_w == 1 && g.kernel_w > 1;
    if (c.merge)  // a chunk's input rows for one kernel row, and what the last tile reads past them
      c.a_size = std::size_t(c.rows) * ((std::size_t(c.columns) - 1) * g.stride_w + g.kernel_w) * g.in_c + tile_rows;
    else
      c.a_size = (std::size_t(chunk_pixels) * tile_rows + set_skew) * ((depth + tile_rows - 1) / tile_rows) + std::size_t(depth);
    c.b_size = std::size_t(chunk_pixels) * k.padded(nc) + set_skew * std::size_t((nc + k.panel() - 1) / k.panel());
  } else {
    if (taps < 3) c.narrow_block = 192;  // x is packed once per block, and with few taps that packing counts
    c.narrow_blocks = (nc + c.narrow_block - 1) / c.narrow_block;
    c.narrow_block = ((nc + c.narrow_blocks - 1) / c.narrow_blocks + tile_rows - 1) / tile_rows * tile_rows;
    c.narrow_blocks = (nc + c.narrow_block - 1) / c.narrow_block;
    c.walk = g.kernel_w == 1 && g.pad_left == 0 ? g.stride_w : 1;
    c.in_columns = c.walk > 1
                       ? c.columns
                       : std::min<std::int64_t>(g.in_w, std::int64_t(c.columns - 1) * g.stride_w + std::int64_t(g.kernel_w - 1) * g.dilation_w + 1);
    const std::int64_t panel_size = std::int64_t(c.rows) * c.in_columns * k.panel();
    const int panels = (kc + k.panel() - 1) / k.panel();
    c.wide_panels = int(std::clamp<std::int64_t>(131072 / std::int64_t(sizeof(T)) / panel_size, 1, panels));
    c.a_size = (std::size_t(chunk_pixels) * tile_rows + set_skew) * (c.narrow_block / tile_rows);
    c.b_size = std::size_t(panel_size + set_skew) * c.wide_panels;
  }
  // Whole cache lines, so that every panel is aligned when the workspace is.
  c.a_size = (c.a_size + 15) / 16 * 16, c.b_size = (c.b_size + 15) / 16 * 16;
  const std::int64_t tasks = std::int64_t(g.groups) * c.narrow_blocks;
  const std::int64_t affordable = std::max<std::int64_t>(1, (std::int64_t(2) << 20) / c.part_size);
  c.parts = int(std::max<std::int64_t>(1, std::min({(24 + tasks - 1) / tasks, affordable, c.chunks, std::int64_t(24)})));
  return c;
}

/// Elements of workspace: the parts' sums and the threads' packed chunks.
template <class T>
std::size_t backward_weights_elements(const conv_geometry& g) {
  const weight_cut c = cut_weights(g, kernels<T>());
  return std::size_t(c.partial_size()) + std::size_t(threads()) * c.slot_size();
}

/// A chunk of output pixels.
struct pixel_chunk {
  int image, y0, y1, x0, x1;
  int count() const { return (y1 - y0) * (x1 - x0); }
};

inline pixel_chunk chunk_at(const conv_geometry& g, const weight_cut& c, std::int64_t i) {
  const int x0 = int(i % c.column_chunks) * c.columns, y0 = int(i / c.column_chunks % c.row_chunks) * c.rows;
  return {int(i / c.column_chunks / c.row_chunks), y0, std::min(g.out_h, y0 + c.rows), x0, std::min(g.out_w, x0 + c.columns)};
}

/// Valid output columns of tap kx: those whose input column lies inside the image.
inline void tap_range(const conv_geometry& g, int kx, int& lo, int& hi) {
  const int shift = g.pad_left - kx * g.dilation_w;  // input column = ox*stride - shift
  lo = std::max(lo, shift <= 0 ? 0 : (shift + g.stride_w - 1) / g.stride_w);
  hi = std::min(hi, g.in_w - 1 + shift < 0 ? 0 : (g.in_w - 1 + shift) / g.stride_w + 1);
}

/// Sums chunks [chunk0, chunk1) into z (laid out as dw) for one block of output channels of one group.
template <class T>
void weights_task(const kernel_table<T>& k, const conv_geometry& g, const weight_cut& c, std::int64_t chunk0, std::int64_t chunk1, int group, int co0,
                  const T* x, const T* dy, T* z, T* buffer) {
  const int kc = g.in_c_per_group(), nc = g.out_c_per_group(), panel = k.panel();
  const int co1 = std::min(nc, co0 + c.narrow_block), panels = (kc + panel - 1) / panel;
  const std::ptrdiff_t z_stride = std::ptrdiff_t(g.kernel_h) * g.kernel_w * kc;
  T *const a = buffer, *const b = buffer + c.a_size;
  pixel_run runs[64];
  outer_job<T> job;
  job.run = runs;
  job.z_stride = z_stride;
  for (std::int64_t chunk = chunk0; chunk < chunk1; ++chunk) {
    const pixel_chunk at = chunk_at(g, c, chunk);
    const int width = at.x1 - at.x0, rows = at.y1 - at.y0;
    const std::ptrdiff_t a_stride = std::ptrdiff_t(at.count()) * tile_rows + set_skew;
    job.first = chunk == chunk0;
    for (int r = 0; r < rows; ++r)
      k.pack_tiles(width, dy + ((std::ptrdiff_t(at.image) * g.out_h + at.y0 + r) * g.out_w + at.x0) * g.y_pitch() + group * nc + co0, g.y_pitch(),
                   co1 - co0, std::ptrdiff_t(r) * width, a, a_stride);
    const int column0 = std::clamp(at.x0 * g.stride_w - g.pad_left, 0, g.in_w);
    const int column1 = std::clamp((at.x1 - 1) * g.stride_w - g.pad_left + (g.kernel_w - 1) * g.dilation_w + 1, column0, g.in_w);
    const int columns = (column1 - column0 + c.walk - 1) / c.walk;  // packed
    for (int ky = 0; ky < g.kernel_h; ++ky) {
      const auto input_row = [&](int r) { return (at.y0 + r) * g.stride_h - g.pad_top + ky * g.dilation_h; };
      for (int p0 = 0; p0 < panels; p0 += c.wide_panels) {
        const int p1 = std::min(panels, p0 + c.wide_panels);
        const std::ptrdiff_t panel_stride = std::ptrdiff_t(rows) * columns * panel + set_skew;
        const int channels = std::min(kc, p1 * panel) - p0 * panel;
        for (int r = 0; r < rows; ++r) {
          const int y = input_row(r);
          if (unsigned(y) < unsigned(g.in_h))
            k.pack_panels(columns, x + ((std::ptrdiff_t(at.image) * g.in_h + y) * g.in_w + column0) * g.x_pitch() + group * kc + p0 * panel,
                          c.walk * g.x_pitch(), channels, k.last_width(channels), std::ptrdiff_t(r) * columns, b, panel_stride);
        }
        for (int kx = 0; kx < g.kernel_w; ++kx) {
          int lo = at.x0, hi = at.x1;
          tap_range(g, kx, lo, hi);
          for (int p = p0; p < p1; ++p) {
            const int w = k.width(kc - p * panel);
            job.runs = 0;
            for (int r = 0; r < rows && lo < hi; ++r) {
              if (unsigned(input_row(r)) >= unsigned(g.in_h)) continue;
              const int column = (lo * g.stride_w - g.pad_left + kx * g.dilation_w - column0) / c.walk;
              runs[job.runs++] = {std::ptrdiff_t(r * width + lo - at.x0) * tile_rows, (std::ptrdiff_t(r) * columns + column) * w, hi - lo};
            }
            job.b = b + (p - p0) * panel_stride;
            job.b_step = std::ptrdiff_t(g.stride_w / c.walk) * w;
            if (job.runs == 0 && !job.first) continue;
            job.columns = std::min(w, kc - p * panel);
            for (int co = co0; co < co1; co += tile_rows) {
              job.a = a + (co - co0) / tile_rows * a_stride;
              job.rows = std::min(tile_rows, co1 - co);
              job.z = z + std::ptrdiff_t(group * nc + co) * z_stride + (ky * g.kernel_w + kx) * kc + p * panel;
              k.outer[k.index(w / k.lanes)](job);
            }
          }
        }
      }
    }
  }
}

/// The same for few input channels: z is [group][tap][channel][out_c per group].
template <class T>
void weights_task_collected(const kernel_table<T>& k, const conv_geometry& g, const weight_cut& c, std::int64_t chunk0, std::int64_t chunk1,
                            int group, const T* x, const T* dy, T* z, T* buffer) {
  const gather_shape s = forward_gather(g);
  const int kc = g.in_c_per_group(), nc = g.out_c_per_group(), depth = s.taps() * kc, panel = k.panel();
  const int tiles = (depth + tile_rows - 1) / tile_rows;
  T *const a = buffer, *const b = buffer + c.a_size, *const line = a + c.a_size - depth;
  outer_job<T> job;
  pixel_run run;
  job.run = &run;
  job.runs = 1;
  job.z_stride = nc;
  for (std::int64_t chunk = chunk0; chunk < chunk1; ++chunk) {
    const pixel_chunk at = chunk_at(g, c, chunk);
    const std::ptrdiff_t count = at.count();
    std::ptrdiff_t i = 0;
    for (int oy = at.y0; oy < at.y1; ++oy)
      for (int ox = at.x0; ox < at.x1; ++ox, ++i) {
        gather_pixel<T> p;
        p.y = oy * g.stride_h, p.x = ox * g.stride_w;
        p.base = x + ((std::ptrdiff_t(at.image) * g.in_h + p.y) * g.in_w + p.x) * g.x_pitch() + group * kc;
        collect_pixel(s, p, 0, s.taps(), line);
        for (int t = 0; t < tiles; ++t)
          for (int r = 0; r < tile_rows; ++r)
            a[t * (count * tile_rows + set_skew) + i * tile_rows + r] = t * tile_rows + r < depth ? line[t * tile_rows + r] : T(0);
      }
    for (int oy = at.y0; oy < at.y1; ++oy)
      k.pack_panels(at.x1 - at.x0, dy + ((std::ptrdiff_t(at.image) * g.out_h + oy) * g.out_w + at.x0) * g.y_pitch() + group * nc, g.y_pitch(), nc,
                    k.last_width(nc), std::ptrdiff_t(oy - at.y0) * (at.x1 - at.x0), b, count * panel + set_skew);
    for (int co = 0; co < nc; co += panel) {
      const int w = k.width(nc - co);
      run = {0, 0, count};
      job.first = chunk == chunk0;
      job.b = b + co / panel * (count * panel + set_skew);
      job.b_step = w;
      job.columns = std::min(w, nc - co);
      for (int t = 0; t < tiles; ++t) {
        job.a = a + t * (count * tile_rows + set_skew);
        job.rows = std::min(tile_rows, depth - t * tile_rows);
        job.z = z + (std::ptrdiff_t(group) * depth + t * tile_rows) * nc + co;
        k.outer[k.index(w / k.lanes)](job);
      }
    }
  }
}

/// The same where kernel rows are runs in memory (no groups, no dilation along x): tiles of six within a kernel row, read from padded input rows.
template <class T>
void weights_task_merged(const kernel_table<T>& k, const conv_geometry& g, const weight_cut& c, std::int64_t chunk0, std::int64_t chunk1, const T* x,
                         const T* dy, T* z, T* buffer) {
  const int nc = g.out_c, panel = k.panel(), run_length = g.kernel_w * g.in_c;
  T *const a = buffer, *const b = buffer + c.a_size;
  for (std::size_t i = 0; i < c.a_size; ++i) a[i] = T(0);  // what is read past the last row must be finite
  outer_job<T> job;
  pixel_run runs[64];
  job.run = runs;
  job.a_step = std::ptrdiff_t(g.stride_w) * g.in_c;
  job.z_stride = nc;
  for (std::int64_t chunk = chunk0; chunk < chunk1; ++chunk) {
    const pixel_chunk at = chunk_at(g, c, chunk);
    const int width = at.x1 - at.x0, rows = at.y1 - at.y0;
    const std::ptrdiff_t count = at.count(), in_width = std::ptrdiff_t(width - 1) * g.stride_w + g.kernel_w;
    job.first = chunk == chunk0;
    for (int r = 0; r < rows; ++r)
      k.pack_panels(width, dy + ((std::ptrdiff_t(at.image) * g.out_h + at.y0 + r) * g.out_w + at.x0) * g.y_pitch(), g.y_pitch(), nc, k.last_width(nc),
                    std::ptrdiff_t(r) * width, b, count * panel + set_skew);
    for (int ky = 0; ky < g.kernel_h; ++ky) {
      job.runs = 0;
      for (int r = 0; r < rows; ++r) {
        const int y = (at.y0 + r) * g.stride_h - g.pad_top + ky * g.dilation_h, x0 = at.x0 * g.stride_w - g.pad_left;
        if (unsigned(y) >= unsigned(g.in_h)) continue;
        const int lo = std::clamp<int>(-x0, 0, int(in_width)), hi = std::clamp<int>(g.in_w - x0, lo, int(in_width));  // columns inside the image
        T* const to = a + r * in_width * g.in_c;
        const T* const from = x + ((std::ptrdiff_t(at.image) * g.in_h + y) * g.in_w + x0) * g.x_pitch();
        for (std::ptrdiff_t i = 0; i < std::ptrdiff_t(lo) * g.in_c; ++i) to[i] = T(0);
        if (g.x_pitch() == g.in_c) {
          for (std::ptrdiff_t i = std::ptrdiff_t(lo) * g.in_c; i < std::ptrdiff_t(hi) * g.in_c; ++i) to[i] = from[i];
        } else {
          for (std::ptrdiff_t i = lo; i < hi; ++i)
            for (int ch = 0; ch < g.in_c; ++ch) to[i * g.in_c + ch] = from[i * g.x_pitch() + ch];
        }
        for (std::ptrdiff_t i = std::ptrdiff_t(hi) * g.in_c; i < in_width * g.in_c; ++i) to[i] = T(0);
        runs[job.runs++] = {r * in_width * g.in_c, std::ptrdiff_t(r) * width, width};
      }
      if (job.runs == 0 && !job.first) continue;
      for (int co = 0; co < nc; co += panel) {
        const int w = k.width(nc - co);
        pixel_run* const run = runs;
        for (int r = 0; r < job.runs; ++r) run[r].b = run[r].a / (in_width * g.in_c) * width * w;
        job.b = b + co / panel * (count * panel + set_skew);
        job.b_step = w;
        job.columns = std::min(w, nc - co);
        for (int j = 0; j < run_length; j += tile_rows) {
          job.a = a + j;
          job.rows = std::min(tile_rows, run_length - j);
          job.z = z + (std::ptrdiff_t(ky) * run_length + j) * nc + co;
          k.outer[k.index(w / k.lanes)](job);
        }
      }
    }
  }
}

template <class T>
void backward_weights_run(const conv_geometry& g, const T* x, const T* dy, T* dw, T* workspace) {
  const kernel_table<T>& k = kernels<T>();
  const weight_cut c = cut_weights(g, k);
  T* const partial = workspace;
  T* const slots = workspace + c.partial_size();
  const std::int64_t blocks = std::int64_t(g.groups) * c.narrow_blocks;
  parallel_slots(blocks * c.parts, [&](std::int64_t i, int slot) {
    const int part = int(i % c.parts), group = int(i / c.parts / c.narrow_blocks), block = int(i / c.parts % c.narrow_blocks);
    const std::int64_t chunk0 = c.chunks * part / c.parts, chunk1 = c.chunks * (part + 1) / c.parts;
    T* const buffer = slots + slot * c.slot_size();
    if (c.merge)
      weights_task_merged(k, g, c, chunk0, chunk1, x, dy, partial + part * c.part_size, buffer);
    else if (c.collect)
      weights_task_collected(k, g, c, chunk0, chunk1, group, x, dy, partial + part * c.part_size, buffer);
    else
      weights_task(k, g, c, chunk0, chunk1, group, block * c.narrow_block, x, dy, part == 0 ? dw : partial + (part - 1) * c.part_size, buffer);
  });
  const std::int64_t size = c.part_size;
  if (c.collect) {
    const int nc = g.out_c_per_group(), depth = int(size / g.out_c);
    parallel_for(g.out_c, [&](std::int64_t co) {
      const T* from = partial + co / nc * depth * nc + co % nc;
      for (int j = 0; j < depth; ++j) {
        T s = from[std::ptrdiff_t(j) * nc];
        for (int part = 1; part < c.parts; ++part) s += from[part * size + std::ptrdiff_t(j) * nc];
        dw[co * depth + j] = s;
      }
    });
  } else if (c.parts > 1) {
    constexpr std::int64_t piece = 8192;
    parallel_for((size + piece - 1) / piece, [&](std::int64_t i) {
      const std::int64_t end = std::min(size, (i + 1) * piece);
      for (int part = 1; part < c.parts; ++part)
        for (std::int64_t j = i * piece; j < end; ++j) dw[j] += partial[(part - 1) * size + j];
    });
  }
}

}  // namespace rsseg::cpu
