// SPDX-License-Identifier: MIT
// A scene through a network and then through stages of refinement (stage.hpp), in bounded memory: class probabilities lie in two scratch files
// in turn. The map is the class of the highest probability after the last stage.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "rsseg/refine/softmax.hpp"
#include "rsseg/scene/stage.hpp"

namespace rsseg::scene {

using stage_list = std::vector<std::unique_ptr<stage>>;

/// Called with (what is running, parts done, parts in all); false: stop.
using refine_progress = std::function<bool(const std::string&, std::int64_t, std::int64_t)>;

/// Runs the predictor over the scene in the windows that segment() would use and keeps the probabilities of each window's interior.
/// Null when progress said stop. Blending is not done here: stages smooth, or need windows that are exact.
inline std::unique_ptr<score_store> collect_scores(scene_predictor& predict, io::raster_source& source, const segment_options& o,
                                                   const stage_progress& progress = {}, const std::string& scratch = "") {
  const io::raster_info& info = source.info();
  predict.start(source);
  const segment_plan p = plan_segment(info.width, info.height, o);
  const std::int64_t total = std::int64_t(p.rows.size()) * std::int64_t(p.columns.size());
  std::int64_t done = 0;
  std::unique_ptr<score_store> store;
  std::vector<float> part;
  for (const span_1d& row : p.rows)
    for (const span_1d& column : p.columns) {
      const window where{column.begin, row.begin, p.tile_w, p.tile_h};
      const tensor<float> scores = predict.scores(source, {&where, 1});
      const shape s = scores.extent();
      if (!store) store = std::make_unique<score_store>(info.width, info.height, s.c, scratch);
      const int map_y = o.margin > 0 ? row.keep_begin : row.begin, map_x = o.margin > 0 ? column.keep_begin : column.begin;
      const int map_h = o.margin > 0 ? s.h : p.tile_h, map_w = o.margin > 0 ? s.w : p.tile_w;
      const int h = row.keep_end - row.keep_begin, w = column.keep_end - column.keep_begin;
      part.resize(std::size_t(h) * std::size_t(w) * std::size_t(s.c));
      parallel_for(h, [&](std::int64_t y) {
        for (int x = 0; x < w; ++x) {
          float* v = part.data() + (std::size_t(y) * std::size_t(w) + std::size_t(x)) * std::size_t(s.c);
          detail::sample_scores(scores.data(), s.h, s.w, s.c, map_h, map_w, int(y) + row.keep_begin - map_y, x + column.keep_begin - map_x, v);
          refine::softmax_pixel(v, s.c, v);
        }
      });
      store->write(column.keep_begin, row.keep_begin, w, h, part.data());
      if (progress && !progress(++done, total)) return nullptr;
    }
  return store;
}

/// Runs the stages one after the other; the last result is returned, null when progress said stop. Throws usage_error when a stage does not
/// fit the scene.
inline std::unique_ptr<score_store> refine_scores(std::unique_ptr<score_store> scores, io::raster_source& source, const stage_list& stages,
                                                  const refine_progress& progress = {}, const std::string& scratch = "") {
  std::unique_ptr<score_store> other;
  for (const auto& s : stages) s->check(source.info(), scores->classes());
  for (const auto& s : stages) {
    if (!other) other = std::make_unique<score_store>(scores->width(), scores->height(), scores->classes(), scratch);
    if (!s->run(source, *scores, *other, [&](std::int64_t done, std::int64_t all) { return !progress || progress(s->name(), done, all); }))
      return nullptr;
    std::swap(scores, other);
  }
  return scores;
}

/// Writes the class of the highest probability (the first of equals), strip by strip.
inline void write_map(const score_store& scores, io::raster_sink& sink, const std::function<void(int, int, const std::uint8_t*)>& on_rows = {}) {
  const int rows = 64, w = scores.width(), k = scores.classes();
  std::vector<float> strip;
  std::vector<std::uint8_t> ids;
  for (int y = 0; y < scores.height(); y += rows) {
    const int h = std::min(rows, scores.height() - y);
    strip.resize(std::size_t(w) * std::size_t(h) * std::size_t(k)), ids.resize(std::size_t(w) * std::size_t(h));
    scores.read(0, y, w, h, strip.data());
    for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = std::uint8_t(detail::argmax(strip.data() + i * std::size_t(k), k));
    sink.write_window(0, y, w, h, ids.data());
    if (on_rows) on_rows(y, h, ids.data());
  }
}

}  // namespace rsseg::scene
