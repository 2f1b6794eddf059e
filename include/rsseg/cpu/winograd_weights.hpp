// SPDX-License-Identifier: MIT
// Weight gradient of a 3x3 convolution of stride 1 by Winograd's F(3x3, 4x4), on the tiles and points of winograd.hpp: 36 products per tile of 4x4
// pixels and channel pair instead of 144. The sums over all tiles are kept in the transformed domain, one plane per task, so the result does not
// depend on the number of threads. Accuracy: tests/cpu_winograd.cpp.
#pragma once
#include "rsseg/cpu/winograd.hpp"

namespace rsseg::cpu {

/// Tiles per batch, and elements of the transformed sides.
struct winograd_weights_cut {
  winograd_cut tiles;
  int batch = 96;
  std::ptrdiff_t x_row = 0, dy_row = 0;      // elements between tiles; the skew keeps tiles out of each other's cache sets
  std::ptrdiff_t x_plane = 0, dy_plane = 0;  // between planes
  std::ptrdiff_t z_plane = 0;

  std::size_t elements() const { return 36 * std::size_t(x_plane + dy_plane + z_plane); }
};

template <class T>
winograd_weights_cut cut_winograd_weights(const conv_geometry& g, const kernel_table<T>& k) {
  winograd_weights_cut c;
  c.tiles = cut_winograd(forward_gather(g), k);
  c.x_row = (g.in_c + 15) / 16 * 16 + 16, c.dy_row = (g.out_c + 15) / 16 * 16 + 16;
  c.batch = int(std::min<std::int64_t>(c.tiles.tiles, std::clamp(65536 / (g.in_c + g.out_c) / 48 * 48, 96, 192)));
  c.x_plane = c.batch * c.x_row + 16, c.dy_plane = c.batch * c.dy_row + 16;
  c.z_plane = (std::ptrdiff_t(g.out_c) * g.in_c + 15) / 16 * 16 + 16;
  return c;
}

/// Judged like the forward pass; whole vectors are read past the channels of a tile's row, which the skew holds.
template <class T>
bool winograd_weights_wins(const conv_geometry& g) {
  return g.groups == 1 && g.stride_h == 1 && g.stride_w == 1 && winograd_wins<T>(forward_gather(g)) && g.in_c >= 32 && g.out_c >= 32 &&
         g.in_c <= max_block_depth && g.out_c <= max_block_depth;
}

template <class T>
void winograd_weights_run(const conv_geometry& g, const T* x, const T* dy, T* dw, T* workspace) {
  const kernel_table<T>& k = kernels<T>();
  const gather_shape s = forward_gather(g);
  const winograd_weights_cut c = cut_winograd_weights(g, k);
  T *const xt = workspace, *const dyt = xt + 36 * c.x_plane, *const z = dyt + 36 * c.dy_plane;
  const int kc = g.in_c, nc = g.out_c;
  for (std::int64_t tile0 = 0; tile0 < c.tiles.tiles; tile0 += c.batch) {
    const int batch = int(std::min<std::int64_t>(c.batch, c.tiles.tiles - tile0));
    parallel_for((batch + 5) / 6, [&](std::int64_t i) {
      for (int t = int(i) * 6; t < std::min(batch, int(i) * 6 + 6); ++t) {
        winograd_transform(k, s, c.tiles, tile0 + t, x, xt, t, c.x_row, c.x_plane);
        const winograd_tile at = tile_at(c.tiles, tile0 + t);
        const T* p[16];
        for (int a = 0; a < 4; ++a)
          for (int b = 0; b < 4; ++b) {
            const int oy = at.y + a * c.tiles.phase_h, ox = at.x + b * c.tiles.phase_w;
            p[4 * a + b] = oy < g.out_h && ox < g.out_w ? dy + ((std::ptrdiff_t(at.image) * g.out_h + oy) * g.out_w + ox) * g.y_pitch() : zero_row<T>;
          }
        k.winograd_gradient(p, nc, dyt + t * c.dy_row, c.dy_plane);
      }
    });
    parallel_for(36, [&](std::int64_t xi) {
      outer_job<T> job;
      pixel_run run{0, 0, batch};
      job.run = &run;
      job.runs = 1;
      job.a_step = c.dy_row;
      job.b_step = c.x_row;
      job.z_stride = kc;
      job.first = tile0 == 0;
      for (int ci = 0; ci < kc; ci += k.panel()) {
        const int width = k.width(kc - ci);
        job.columns = std::min(width, kc - ci);
        job.b = xt + xi * c.x_plane + ci;
        for (int co = 0; co < nc; co += tile_rows) {
          job.a = dyt + xi * c.dy_plane + co;
          job.rows = std::min(tile_rows, nc - co);
          job.z = z + xi * c.z_plane + std::ptrdiff_t(co) * kc + ci;
          k.outer[k.index(width / k.lanes)](job);
        }
      }
    });
  }
  parallel_for(nc, [&](std::int64_t co) { k.winograd_kernel(z + co * kc, c.z_plane, kc, dw + co * 9 * kc); });
}

}  // namespace rsseg::cpu
