// SPDX-License-Identifier: MIT
// Maps a scene of any size in bounded memory: windows are read, segmented and written; one row of tiles is held at most.
// Overlap: by default the interior of each tile is kept and a halo dropped; the halo is half the receptive field when that fits
// (then the map is what the whole scene would have given), else a quarter of the tile. With `blend`, class probabilities of
// overlapping tiles are averaged with weights that fall off linearly towards a tile's border.
#pragma once
#include <cmath>
#include <cstdint>
#include <functional>
#include <vector>

#include "rsseg/core/parallel.hpp"
#include "rsseg/core/tensor.hpp"
#include "rsseg/data/normalize.hpp"
#include "rsseg/io/raster.hpp"
#include "rsseg/scene/predictor.hpp"
#include "rsseg/scene/tile_grid.hpp"

namespace rsseg::scene {

struct segment_options {
  int tile = 512;    ///< side of a window in pixels; brought to a legal size
  int overlap = -1;  ///< pixels shared by neighbouring windows; -1: from the receptive field
  bool blend = false;
  size_rule sizes;
  double receptive_field = 0;  ///< pixels; 0: unknown or everything
  int margin = 0;              ///< a network of valid convolutions yields tile - 2 * margin pixels
  data::normalization normalize;
  int batch = 1;  ///< tiles run together
  /// Instead of cut_axis: the windows along an axis of that length, for systems with a grid of their own.
  /// With tile 0 the only window is the scene.
  std::function<std::vector<span_1d>(int length, int tile)> cut;
  /// Called after each tile with (tiles done, tiles in all); return false to stop (the sink keeps what is done).
  std::function<bool(std::int64_t, std::int64_t)> progress;
  /// Called with each finished row of tiles: first row, ids (rows x width).
  std::function<void(int, int, const std::uint8_t*)> on_rows;
};

namespace detail {

inline int argmax(const float* v, int k) {
  int best = 0;
  for (int c = 1; c < k; ++c)
    if (v[c] > v[best]) best = c;
  return best;
}

}  // namespace detail

/// How a scene of that size would be cut: for memory estimates and for the message before the run.
struct segment_plan {
  int tile_h = 0, tile_w = 0, halo = 0;
  bool exact = false;  ///< the halo covers the receptive field
  std::vector<span_1d> rows, columns;
};

inline segment_plan plan_segment(int width, int height, const segment_options& o) {
  segment_plan p;
  if (o.cut) {
    p.tile_h = o.tile > 0 ? o.tile : height, p.tile_w = o.tile > 0 ? o.tile : width, p.rows = o.cut(height, p.tile_h),
    p.columns = o.cut(width, p.tile_w);
    p.halo = p.rows.size() > 1 ? p.rows[0].begin + p.tile_h - p.rows[0].keep_end : 0;
    return p;
  }
  const int tile = o.sizes.at_least(std::max(o.tile, 1));
  p.tile_h = std::min(tile, o.sizes.at_least(height)), p.tile_w = std::min(tile, o.sizes.at_least(width));
  if (o.margin > 0) {  // valid convolutions: windows of one size around interiors of tile - 2 margin
    p.tile_h = p.tile_w = tile;
    const int inner = tile - 2 * o.margin;
    if (inner < 1) throw usage_error("tile " + std::to_string(tile) + " yields no pixels; use more than " + std::to_string(2 * o.margin));
    const auto cut = [&](int length) {
      std::vector<span_1d> s;
      for (int b = 0; b < length; b += inner) s.push_back({b - o.margin, b, std::min(b + inner, length)});
      return s;
    };
    p.halo = o.margin, p.exact = true, p.rows = cut(height), p.columns = cut(width);
    return p;
  }
  const int need = o.receptive_field > 0 ? int(std::ceil(o.receptive_field / 2)) : -1;
  if (o.overlap >= 0)
    p.halo = o.overlap / 2;
  else
    p.halo = need > 0 && need <= tile / 4 ? need : tile / 4;
  p.halo = std::max(0, std::min(p.halo, (tile - std::lcm(o.sizes.multiple, std::max(1, o.sizes.alignment))) / 2));
  p.exact = need > 0 && p.halo >= need;
  p.rows = cut_axis(height, p.tile_h, p.tile_h < tile ? 0 : p.halo, o.sizes);
  p.columns = cut_axis(width, p.tile_w, p.tile_w < tile ? 0 : p.halo, o.sizes);
  return p;
}

/// Segments `source` into `sink` (one band u8 of class ids, same size). Returns the number of tiles run. Rows of tiles that the sink
/// already holds are skipped.
inline std::int64_t segment(scene_predictor& predict, io::raster_source& source, io::raster_sink& sink, const segment_options& o) {
  const io::raster_info& info = source.info();
  predict.start(source);
  const segment_plan p = plan_segment(info.width, info.height, o);
  const int th = p.tile_h, tw = p.tile_w, width = info.width;
  const std::int64_t total = std::int64_t(p.rows.size()) * std::int64_t(p.columns.size());
  std::int64_t done = 0, run = 0;
  std::vector<window> windows;
  std::vector<std::uint8_t> ids;
  std::vector<float> sums;  // blend: probabilities summed over the rows that later tiles still touch
  std::vector<float> weights;
  int sums_begin = 0, sums_end = 0;  // rows of the scene that `sums` holds
  int k = 0;
  for (std::size_t r = 0; r < p.rows.size(); ++r) {
    const span_1d row = p.rows[r];
    if (!o.blend && sink.is_done(std::int64_t(r))) {
      done += std::int64_t(p.columns.size());
      if (o.progress && !o.progress(done, total)) return run;
      continue;
    }
    const int keep = row.keep_end - row.keep_begin;
    if (!o.blend) ids.assign(std::size_t(keep) * std::size_t(width), 0);
    for (std::size_t c0 = 0; c0 < p.columns.size(); c0 += std::size_t(std::max(1, o.batch))) {
      const std::size_t c1 = std::min(p.columns.size(), c0 + std::size_t(std::max(1, o.batch)));
      windows.clear();
      for (std::size_t c = c0; c < c1; ++c) windows.push_back({p.columns[c].begin, row.begin, tw, th});
      const tensor<float> scores = predict.scores(source, windows);
      const shape s = scores.extent();
      k = s.c;
      for (std::size_t c = c0; c < c1; ++c) {
        const span_1d column = p.columns[c];
        const float* map = scores.data() + (c - c0) * std::size_t(s.h) * std::size_t(s.w) * std::size_t(k);
        // Window coordinates of the map: all of it, or its interior when the network crops.
        const int map_y = o.margin > 0 ? row.keep_begin : row.begin, map_x = o.margin > 0 ? column.keep_begin : column.begin;
        const int map_h = o.margin > 0 ? s.h : th, map_w = o.margin > 0 ? s.w : tw;
        if (!o.blend) {
          parallel_for(keep, [&](std::int64_t y) {
            std::vector<float> v(static_cast<std::size_t>(k));
            for (int x = column.keep_begin; x < column.keep_end; ++x) {
              detail::sample_scores(map, s.h, s.w, k, map_h, map_w, int(y) + row.keep_begin - map_y, x - map_x, v.data());
              ids[std::size_t(y) * std::size_t(width) + std::size_t(x)] = std::uint8_t(detail::argmax(v.data(), k));
            }
          });
        } else {
          if (sums_end < std::min(info.height, row.begin + th)) {
            sums_end = std::min(info.height, row.begin + th);
            sums.resize(std::size_t(sums_end - sums_begin) * std::size_t(width) * std::size_t(k), 0.0f);
            weights.resize(std::size_t(sums_end - sums_begin) * std::size_t(width), 0.0f);
          }
          const int y_end = std::min(row.begin + th, info.height), x_end = std::min(column.begin + tw, width);
          parallel_for(y_end - row.begin, [&](std::int64_t dy) {
            std::vector<float> v(static_cast<std::size_t>(k));
            const int y = row.begin + int(dy);
            for (int x = column.begin; x < x_end; ++x) {
              detail::sample_scores(map, s.h, s.w, k, th, tw, y - row.begin, x - column.begin, v.data());
              const float top = v[std::size_t(detail::argmax(v.data(), k))];
              float sum = 0;
              for (float& e : v) sum += e = std::exp(e - top);
              const int ramp = 2 * p.halo + 1;
              const float wy = std::min({float(ramp), y - row.begin + 1.0f, float(row.begin + th - y)}),
                          wx = std::min({float(ramp), x - column.begin + 1.0f, float(column.begin + tw - x)});
              const std::size_t at = std::size_t(y - sums_begin) * std::size_t(width) + std::size_t(x);
              const float w = wy * wx / sum;
              for (int e = 0; e < k; ++e) sums[at * std::size_t(k) + std::size_t(e)] += w * v[std::size_t(e)];
              weights[at] += wy * wx;
            }
          });
        }
        ++done, ++run;
        if (o.progress && !o.progress(done, total)) return run;
      }
    }
    if (o.blend) {  // rows that no later tile touches are final
      const int final_end = r + 1 < p.rows.size() ? p.rows[r + 1].begin : info.height;
      const int rows = final_end - sums_begin;
      ids.assign(std::size_t(rows) * std::size_t(width), 0);
      for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = std::uint8_t(detail::argmax(sums.data() + i * std::size_t(k), k));
      sink.write_window(0, sums_begin, width, rows, ids.data());
      if (o.on_rows) o.on_rows(sums_begin, rows, ids.data());
      sums.erase(sums.begin(), sums.begin() + std::ptrdiff_t(ids.size() * std::size_t(k)));
      weights.erase(weights.begin(), weights.begin() + std::ptrdiff_t(ids.size()));
      sums_begin = final_end;
    } else {
      sink.write_window(0, row.keep_begin, width, keep, ids.data());
      if (o.on_rows) o.on_rows(row.keep_begin, keep, ids.data());
      sink.mark_done(std::int64_t(r));
    }
  }
  return run;
}

/// The same for a network of one image.
inline std::int64_t segment(const predictor& predict, io::raster_source& source, io::raster_sink& sink, const segment_options& o) {
  network_predictor p(predict, o.normalize);
  return segment(p, source, sink, o);
}

}  // namespace rsseg::scene
