// SPDX-License-Identifier: MIT
// Winograd's minimal filtering F(4x4, 3x3) for 3x3 convolutions of stride 1 and their data gradients (Lavin and Gray, CVPR 2016): 36 products
// per 16 outputs and channel pair instead of 144. A dilated convolution is one undilated convolution per phase (row and column modulo the rate).
//
// Accuracy: with independent inputs and weights in [-1, 1] the RMS error stays below 2e-6 and the largest error below 4e-5 of the output's RMS for up
// to 512 channels (direct sum: 5e-7 and 1e-5; tests/cpu_winograd.cpp holds both), and for 1040. Single precision only; double always takes the direct
// sum. Off with RSSEG_WINOGRAD=0 or set_winograd(false); then sizes and packed weights change.
#pragma once
#include <cstdlib>
#include <cstring>
#include <type_traits>

#include "rsseg/cpu/conv_gather.hpp"
#include "rsseg/cpu/loops.hpp"

namespace rsseg::cpu {

inline bool& winograd_setting() {
  static bool on = [] {
    const char* v = std::getenv("RSSEG_WINOGRAD");
    return v == nullptr || std::strcmp(v, "0") != 0;
  }();
  return on;
}
/// Switches Winograd's algorithm on or off (not while a kernel runs; weights packed before must be packed again).
inline void set_winograd(bool on) { winograd_setting() = on; }

/// How the tiles of a gather lie: grid_h x grid_w tiles of 4x4 outputs for each of phase_h x phase_w phases of each image.
struct winograd_cut {
  int phase_h = 1, phase_w = 1, grid_h = 1, grid_w = 1;
  std::int64_t tiles = 0;
  int block = 48;                             // tiles per task, a multiple of tile_rows
  int columns = 64;                           // output channels per task of the product
  bool shared = false;                        // two steps: all threads transform a batch of inputs, then all multiply; else each task does both
  int batch = 48;                             // tiles whose transformed inputs are held at a time (by all threads or by each)
  std::ptrdiff_t v_stride = 0, m_stride = 0;  // elements between the 36 planes

  std::size_t v_size() const { return 36 * std::size_t(v_stride); }
  std::size_t m_size() const { return 36 * std::size_t(m_stride); }
};

template <class T>
winograd_cut cut_winograd(const gather_shape& s, const kernel_table<T>& k) {
  winograd_cut c;
  c.phase_h = s.y.tap_step < 0 ? -s.y.tap_step : s.y.tap_step, c.phase_w = s.x.tap_step < 0 ? -s.x.tap_step : s.x.tap_step;
  c.grid_h = ((s.y.count + c.phase_h - 1) / c.phase_h + 3) / 4, c.grid_w = ((s.x.count + c.phase_w - 1) / c.phase_w + 3) / 4;
  c.tiles = std::int64_t(s.n) * c.phase_h * c.phase_w * c.grid_h * c.grid_w;
  c.shared = std::int64_t(s.kc) * s.nc >= 128 * 128;
  c.columns = std::max(64, k.panel());
  if (c.shared) {
    c.batch = int(std::min<std::int64_t>((c.tiles + 5) / 6 * 6, std::max(96, 98304 / s.kc / 48 * 48)));
    c.block = std::min(c.batch, 48);
  } else {
    // With few tiles smaller blocks keep all threads busy.
    c.block = int(std::clamp<std::int64_t>((c.tiles / 16 + 5) / 6 * 6, 12, 6144 / std::max(s.kc, s.nc) / 6 * 6));
    c.block = std::clamp(c.block, 12, 48);
    c.batch = c.block;
  }
  // An odd number of cache lines between planes, so that they do not fall into the same sets.
  c.v_stride = std::ptrdiff_t(c.batch) * s.kc + 64 / std::ptrdiff_t(sizeof(T));
  c.m_stride = std::ptrdiff_t(c.block) * c.columns + 64 / std::ptrdiff_t(sizeof(T));
  return c;
}

/// Whether a gather is of the right kind and wins: judged by the products saved, tiles at the border and skipped taps counted.
template <class T>
bool winograd_wins(const gather_shape& s) {
  if constexpr (!std::is_same_v<T, float>) {
    return false;
  } else {
    const kernel_table<T>& k = kernels<T>();
    if (!winograd_setting() || s.groups != 1 || s.y.taps != 3 || s.x.taps != 3 || s.y.in_step != 1 || s.x.in_step != 1 || s.y.out_step != 1 ||
        s.x.out_step != 1)
      return false;
    if (s.kc < 16 || s.nc < 16) return false;
    const winograd_cut c = cut_winograd(s, k);
    if (c.tiles < 48 || std::int64_t(s.kc) * s.nc > 1024 * 512) return false;
    const auto taps_inside = [](const gather_axis& a) {  // of 3, on average
      int inside = 0;
      for (int t = 0; t < 3; ++t) {
        const int offset = a.tap_start + t * a.tap_step;
        inside += std::max(0, std::min(a.count, a.in_extent - offset) - std::max(0, -offset));
      }
      return double(inside) / a.count;
    };
    const double direct = taps_inside(s.y) * taps_inside(s.x) * double(s.pixels());
    return direct > 1.5 * 36.0 * double(c.tiles);
  }
}

template <class T>
std::size_t winograd_packed_size(const gather_shape& s) {
  return 36 * std::size_t(s.kc) * kernels<T>().padded(s.nc);
}

/// Input channels per pass: more than the row of zeros holds are summed in several, each adding to the output what the ones before left there.
/// About 512, with which a batch of transformed tiles stays in the third-level cache and is large enough to fetch the weights seldom.
inline int winograd_slice(const gather_shape& s) {
  if (s.kc <= max_block_depth) return s.kc;
  const int slices = (s.kc + 511) / 512;
  return ((s.kc + slices - 1) / slices + 15) / 16 * 16;
}
/// Calls use(first channel, shape of the slice) in order.
template <class Use>
void each_winograd_slice(const gather_shape& s, const Use& use) {
  for (int from = 0, step = winograd_slice(s); from < s.kc; from += step) {
    gather_shape slice = s;
    slice.kc = std::min(step, s.kc - from);
    use(from, slice);
  }
}

/// Packs U = G w G^T as [plane][panel][channel][panel width]; strides as for gather_pack.
template <class T>
void winograd_pack_slice(const gather_shape& s, const T* w, std::ptrdiff_t ks, std::ptrdiff_t js, std::ptrdiff_t ys, std::ptrdiff_t xs, T* packed) {
  const kernel_table<T>& table = kernels<T>();
  // Backward along an axis (tap_step < 0) means that the smallest offset belongs to the last kernel element.
  const std::ptrdiff_t first = (s.y.tap_step < 0 ? 2 * ys : 0) + (s.x.tap_step < 0 ? 2 * xs : 0);
  const std::ptrdiff_t down = s.y.tap_step < 0 ? -ys : ys, across = s.x.tap_step < 0 ? -xs : xs;
  const int panel = table.panel(), panels = (s.nc + panel - 1) / panel, kc = s.kc, nc = s.nc;
  const std::ptrdiff_t plane = std::ptrdiff_t(s.kc) * table.padded(s.nc);
  const auto width_at = [&table, nc](int column) { return table.width(nc - column); };
  // In double precision, all columns of a panel side by side; training does this before every use.
  sweep<T>(panels, 1, [=](std::int64_t begin, std::int64_t end) RSSEG_INLINE_BODY {
    constexpr double a = 0.625, b = 1.5, a2 = a * a, b2 = b * b;
    constexpr double n0 = 1 / (a2 * b2), na = 1 / (2 * a2 * (a2 - b2)), nb = 1 / (2 * b2 * (b2 - a2));
    constexpr int most = 64;  // columns of the widest panel
    T e[9][pack_rows * most];
    double t[18][most];
    for (std::int64_t p = begin; p < end; ++p) {
      const int column = int(p) * panel, width = width_at(column), valid = width < nc - column ? width : nc - column;
      for (int k = 0; k < kc; ++k) {
        if (k % pack_rows == 0) {
          const T* from = w + k * ks + column * js + first;
          const int rows = kc - k < pack_rows ? kc - k : pack_rows;
          for (int i = 0; i < 9; ++i) load_columns(from + i / 3 * down + i % 3 * across, ks, js, rows, valid, width, e[i]);
        }
        const int row = k % pack_rows * width;
        for (int x = 0; x < 3; ++x)
          for (int j = 0; j < width; ++j) {
            const double e0 = double(e[x][row + j]), e1 = double(e[3 + x][row + j]), e2 = double(e[6 + x][row + j]);
            const double sa = na * e0 + na * a2 * e2, da = na * a * e1, sb = nb * e0 + nb * b2 * e2, db = nb * b * e1;
            t[x][j] = n0 * e0, t[3 + x][j] = sa + da, t[6 + x][j] = sa - da, t[9 + x][j] = sb + db, t[12 + x][j] = sb - db, t[15 + x][j] = e2;
          }
        T* to = packed + column * std::ptrdiff_t(kc) + std::ptrdiff_t(k) * width;
        for (int i = 0; i < 6; ++i, to += 6 * plane) RSSEG_INDEPENDENT
        for (int j = 0; j < width; ++j) {
          const double e0 = t[3 * i][j], e1 = t[3 * i + 1][j], e2 = t[3 * i + 2][j];
          const double sa = na * e0 + na * a2 * e2, da = na * a * e1, sb = nb * e0 + nb * b2 * e2, db = nb * b * e1;
          to[j] = T(n0 * e0), to[plane + j] = T(sa + da), to[2 * plane + j] = T(sa - da), to[3 * plane + j] = T(sb + db);
          to[4 * plane + j] = T(sb - db), to[5 * plane + j] = T(e2);
        }
      }
    }
  });
}

/// Slice after slice, each as above.
template <class T>
void winograd_pack(const gather_shape& s, const T* w, std::ptrdiff_t ks, std::ptrdiff_t js, std::ptrdiff_t ys, std::ptrdiff_t xs, T* packed) {
  each_winograd_slice(s, [&](int from, const gather_shape& slice) {
    winograd_pack_slice(slice, w + from * ks, ks, js, ys, xs, packed);
    packed += winograd_packed_size<T>(slice);
  });
}

/// First output position of a tile.
struct winograd_tile {
  int image, y, x;
};

inline winograd_tile tile_at(const winograd_cut& c, std::int64_t i) {
  const int tx = int(i % c.grid_w), ty = int(i / c.grid_w % c.grid_h);
  i /= std::int64_t(c.grid_w) * c.grid_h;
  const int px = int(i % c.phase_w), py = int(i / c.phase_w % c.phase_h);
  return {int(i / c.phase_w / c.phase_h), py + 4 * ty * c.phase_h, px + 4 * tx * c.phase_w};
}

/// Transforms the inputs of one tile into row `row` of the planes at v.
template <class T>
void winograd_transform(const kernel_table<T>& k, const gather_shape& s, const winograd_cut& c, std::int64_t tile, const T* in, T* v,
                        std::ptrdiff_t row, std::ptrdiff_t row_stride, std::ptrdiff_t plane_stride) {
  const winograd_tile t = tile_at(c, tile);
  const T* p[36];
  const int y0 = t.y + std::min(s.y.tap_start, s.y.tap_start + 2 * s.y.tap_step),
            x0 = t.x + std::min(s.x.tap_start, s.x.tap_start + 2 * s.x.tap_step);
  const T* image = in + std::ptrdiff_t(t.image) * s.y.in_extent * s.x.in_extent * s.in_pitch;
  for (int i = 0; i < 6; ++i) {
    const int y = y0 + i * c.phase_h;
    for (int j = 0; j < 6; ++j) {
      const int x = x0 + j * c.phase_w;
      const bool inside = unsigned(y) < unsigned(s.y.in_extent) && unsigned(x) < unsigned(s.x.in_extent);
      p[6 * i + j] = inside ? image + (std::ptrdiff_t(y) * s.x.in_extent + x) * s.in_pitch : zero_row<T>;
    }
  }
  k.winograd_input(p, s.kc, v + row * row_stride, plane_stride);
}

/// Multiplies `count` transformed tiles (the first is number `tile`, in row `row` of v) for output channels [column0, column1) and writes the
/// outputs.
template <class T>
void winograd_multiply(const kernel_table<T>& k, const gather_shape& s, const winograd_cut& c, std::int64_t tile, int count, std::ptrdiff_t row,
                       int column0, int column1, const T* v, const T* packed, T* m, T* out, const gather_epilogue<T>& e) {
  tap_rows<T> entries[8];
  int active[8];
  T* rows[48];
  const int groups = (count + tile_rows - 1) / tile_rows, depth = block_depth(k);
  const std::ptrdiff_t plane = std::ptrdiff_t(s.kc) * k.padded(s.nc);
  gather_job<T> job;
  job.tiles = groups;
  job.last_rows = count - (groups - 1) * tile_rows;
  job.entry_stride = 1;
  job.entries = entries;
  job.active = active;
  job.out = rows;
  const int blocks = (s.kc + depth - 1) / depth, len = (s.kc + blocks - 1) / blocks;
  for (int i = 0; i < groups; ++i) active[i] = 1, entries[i].tap = 0;
  for (int xi = 0; xi < 36; ++xi) {
    for (int i = 0; i < count; ++i) rows[i] = m + xi * c.m_stride + std::ptrdiff_t(i) * c.columns - column0;
    for (int k0 = 0; k0 < s.kc; k0 += len) {
      job.len = std::min(len, s.kc - k0);
      job.first = k0 == 0;
      for (int i = 0; i < groups; ++i)
        for (int r = 0; r < tile_rows; ++r) entries[i].row[r] = v + xi * c.v_stride + (row + std::min(i * tile_rows + r, count - 1)) * s.kc + k0;
      for (int column = column0; column < column1; column += k.panel()) {
        const int width = k.width(s.nc - column);
        job.column = column;
        job.columns = std::min(width, s.nc - column);
        job.b = packed + xi * plane + std::ptrdiff_t(column) * s.kc + std::ptrdiff_t(k0) * width;
        k.gather[k.index(width / k.lanes)](job);
      }
    }
  }
  for (int i = 0; i < count; ++i) {
    const winograd_tile t = tile_at(c, tile + i);
    T* y[16];
    const T* residual[16] = {};
    for (int a = 0; a < 4; ++a)
      for (int b = 0; b < 4; ++b) {
        const int oy = t.y + a * c.phase_h, ox = t.x + b * c.phase_w;
        const std::ptrdiff_t at = (std::ptrdiff_t(t.image) * s.out_h + oy) * s.out_w + ox;
        const bool inside = oy < s.out_h && ox < s.out_w;
        y[4 * a + b] = inside ? out + at * s.out_pitch + column0 : nullptr;
        if (inside && e.residual != nullptr) residual[4 * a + b] = e.residual + at * e.residual_pitch + column0;
      }
    k.winograd_output(m + std::ptrdiff_t(i) * c.columns, c.m_stride, column1 - column0, y, e.bias == nullptr ? nullptr : e.bias + column0,
                      e.residual == nullptr ? nullptr : residual, e.relu);
  }
}

template <class T>
std::size_t winograd_elements(const gather_shape& s) {
  std::size_t elements = 0;
  each_winograd_slice(s, [&](int, const gather_shape& slice) {
    const winograd_cut c = cut_winograd(slice, kernels<T>());
    elements = std::max(elements, c.shared ? c.v_size() + threads() * c.m_size() : threads() * (c.v_size() + c.m_size()));
  });
  return elements;
}

template <class T>
void winograd_run_slice(const gather_shape& s, const T* in, const T* packed, T* out, const gather_epilogue<T>& e, T* workspace) {
  const kernel_table<T>& k = kernels<T>();
  const winograd_cut c = cut_winograd(s, k);
  const int shares = (s.nc + c.columns - 1) / c.columns;
  if (!c.shared) {
    parallel_slots((c.tiles + c.block - 1) / c.block, [&](std::int64_t block, int slot) {
      T* const v = workspace + slot * (c.v_size() + c.m_size());
      const std::int64_t tile = block * c.block;
      const int count = int(std::min<std::int64_t>(c.block, c.tiles - tile));
      for (int i = 0; i < count; ++i) winograd_transform(k, s, c, tile + i, in, v, i, s.kc, c.v_stride);
      for (int share = 0; share < shares; ++share)
        winograd_multiply(k, s, c, tile, count, 0, share * c.columns, std::min(s.nc, (share + 1) * c.columns), v, packed, v + c.v_size(), out, e);
    });
    return;
  }
  T* const v = workspace;
  T* const slots = workspace + c.v_size();
  for (std::int64_t tile0 = 0; tile0 < c.tiles; tile0 += c.batch) {
    const int batch = int(std::min<std::int64_t>(c.batch, c.tiles - tile0));
    parallel_for((batch + 5) / 6, [&](std::int64_t i) {
      for (int t = int(i) * 6; t < std::min(batch, int(i) * 6 + 6); ++t) winograd_transform(k, s, c, tile0 + t, in, v, t, s.kc, c.v_stride);
    });
    // Blocks of the same output channels follow one another, so that their weights are fetched once.
    const int blocks = (batch + c.block - 1) / c.block;
    parallel_slots(std::int64_t(blocks) * shares, [&](std::int64_t i, int slot) {
      const int share = int(i / blocks), row = int(i % blocks) * c.block;
      winograd_multiply(k, s, c, tile0 + row, std::min(c.block, batch - row), row, share * c.columns, std::min(s.nc, (share + 1) * c.columns), v,
                        packed, slots + slot * c.m_size(), out, e);
    });
  }
}

/// The whole product; workspace: winograd_elements.
template <class T>
void winograd_run(const gather_shape& s, const T* in, const T* packed, T* out, const gather_epilogue<T>& e, T* workspace) {
  each_winograd_slice(s, [&](int from, const gather_shape& slice) {
    gather_epilogue<T> part = e;
    if (from > 0) part.bias = nullptr, part.residual = out, part.residual_pitch = s.out_pitch;
    part.relu = e.relu && from + slice.kc == s.kc;
    winograd_run_slice(slice, in + from, packed, out, part, workspace);
    packed += winograd_packed_size<T>(slice);
  });
}

}  // namespace rsseg::cpu
