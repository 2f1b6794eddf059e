// SPDX-License-Identifier: MIT
// Definitions of gemm.hpp: b is packed into panels (alpha included), a is read where it lies, or transposed block by block.
#pragma once
#include "rsseg/cpu/conv_gather.hpp"
#include "rsseg/cpu/gemm.hpp"

namespace rsseg::cpu {

namespace detail {

template <class T>
std::size_t gemm_packed_elements(const gemm_shape& s) {
  return std::size_t(s.k) * kernels<T>().padded(s.n);
}

/// Elements of the buffer that one thread needs to transpose a block of a.
template <class T>
std::size_t gemm_slot_elements(const gemm_shape& s) {
  return s.trans_a ? std::size_t(block_pixels) * std::min(s.k, block_depth(kernels<T>())) : 0;
}

template <class T>
void gemm_pack_panel(const kernel_table<T>& table, const gemm_shape& s, T alpha, const T* b, int column, T* to) {
  const int width = table.width(s.n - column), valid = std::min(width, s.n - column);
  if (!s.trans_b && alpha == T(1)) {
    table.pack_panels(s.k, b + column, s.ldb, valid, width, 0, to, 0);
    return;
  }
  const std::ptrdiff_t ks = s.trans_b ? 1 : s.ldb, js = s.trans_b ? s.ldb : 1;
  for (int k = 0; k < s.k; k += pack_rows, to += pack_rows * width) {
    const int rows = std::min(pack_rows, s.k - k);
    load_columns(b + k * ks + column * js, ks, js, rows, valid, width, to);
    if (alpha != T(1))
      for (int i = 0; i < rows * width; ++i) to[i] *= alpha;
  }
}

template <class T>
void gemm_block(const kernel_table<T>& table, const gemm_shape& s, int row0, int panel0, int panel1, const T* a, const T* packed, T beta, T* c,
                const T* bias, bool relu, T* transposed) {
  tap_rows<T> entries[block_pixels / tile_rows];
  int active[block_pixels / tile_rows];
  T* out[block_pixels];
  const int rows = std::min(block_pixels, s.m - row0), tiles = (rows + tile_rows - 1) / tile_rows, depth = block_depth(table);
  const int column0 = panel0 * table.panel(), column1 = std::min(s.n, panel1 * table.panel());
  for (int i = 0; i < rows; ++i) out[i] = c + (row0 + i) * s.ldc;
  if (beta != T(0))
    for (int i = 0; i < rows; ++i)
      for (int j = column0; j < column1; ++j) out[i][j] = beta * out[i][j] + (bias == nullptr ? T(0) : bias[j]);
  gather_job<T> job;
  job.tiles = tiles;
  job.last_rows = rows - (tiles - 1) * tile_rows;
  job.entries = entries;
  job.entry_stride = 1;
  job.active = active;
  job.out = out;
  for (int k0 = 0; k0 == 0 || k0 < s.k; k0 += depth) {
    job.len = std::min(depth, s.k - k0);
    const T* from = a + row0 * s.lda + k0;
    std::ptrdiff_t step = s.lda;
    if (s.trans_a) {
      for (int i0 = 0; i0 < rows; i0 += 16)  // in blocks of 8 x 16, since rows on either side often share cache sets
        for (int k1 = 0; k1 < job.len; k1 += 8)
          for (int i = i0; i < std::min(rows, i0 + 16); ++i)
            for (int k = k1; k < std::min(job.len, k1 + 8); ++k) transposed[std::ptrdiff_t(i) * job.len + k] = a[(k0 + k) * s.lda + row0 + i];
      from = transposed;
      step = job.len;
    }
    for (int i = 0; i < tiles; ++i) {
      active[i] = 1;
      entries[i].tap = 0;
      for (int r = 0; r < tile_rows; ++r) entries[i].row[r] = from + std::min(i * tile_rows + r, rows - 1) * step;
    }
    job.first = k0 == 0 && beta == T(0);
    job.relu = relu && k0 + depth >= s.k;
    for (int p = panel0; p < panel1; ++p) {
      job.column = p * table.panel();
      const int width = table.width(s.n - job.column);
      job.columns = std::min(width, s.n - job.column);
      job.bias = bias == nullptr ? nullptr : bias + job.column;
      job.b = packed + std::ptrdiff_t(job.column) * s.k + std::ptrdiff_t(k0) * width;
      table.gather[table.index(width / table.lanes)](job);
    }
  }
}

}  // namespace detail

template <class T>
std::size_t gemm_workspace_size(const gemm_shape& s) {
  const std::size_t packs = s.batch > 1 ? std::size_t(std::min(threads(), s.batch)) : 1;
  return sizeof(T) * (packs * detail::gemm_packed_elements<T>(s) + std::size_t(threads()) * detail::gemm_slot_elements<T>(s));
}

template <class T>
void gemm(const gemm_shape& s, T alpha, const T* a, const T* b, T beta, T* c, void* workspace, const T* bias, bool relu) {
  if (s.m <= 0 || s.n <= 0 || s.batch <= 0) return;
  const kernel_table<T>& table = kernels<T>();
  const std::size_t pack_size = detail::gemm_packed_elements<T>(s), slot_size = detail::gemm_slot_elements<T>(s);
  const int panels = (s.n + table.panel() - 1) / table.panel();
  const int blocks = (s.m + block_pixels - 1) / block_pixels;
  T* const packed = static_cast<T*>(workspace);
  if (s.batch > 1) {  // each thread packs for itself
    const int threads_now = threads();
    T* const slots = packed + std::size_t(std::min(threads_now, s.batch)) * pack_size;
    parallel_slots(s.batch, [&](std::int64_t i, int slot) {
      // There are min(threads, batch) packs: a small batch may be run by any of the threads, so it goes by the matrix.
      T* const mine = packed + (s.batch <= threads_now ? i : std::int64_t(slot)) * std::int64_t(pack_size);
      for (int p = 0; p < panels; ++p)
        detail::gemm_pack_panel(table, s, alpha, b + i * s.stride_b, p * table.panel(), mine + std::ptrdiff_t(p) * table.panel() * s.k);
      for (int block = 0; block < blocks; ++block)
        detail::gemm_block(table, s, block * block_pixels, 0, panels, a + i * s.stride_a, mine, beta, c + i * s.stride_c, bias, relu,
                           slots + slot * slot_size);
    });
    return;
  }
  T* const slots = packed + pack_size;
  parallel_for(panels,
               [&](std::int64_t p) { detail::gemm_pack_panel(table, s, alpha, b, int(p) * table.panel(), packed + p * table.panel() * s.k); });
  const int shares = std::min(panels, std::max(1, 16 / blocks));
  parallel_slots(std::int64_t(blocks) * shares, [&](std::int64_t i, int slot) {
    const int share = int(i % shares);
    detail::gemm_block(table, s, int(i / shares) * block_pixels, panels * share / shares, panels * (share + 1) / shares, a, packed, beta, c, bias,
                       relu, slots + slot * slot_size);
  });
}

}  // namespace rsseg::cpu
