// SPDX-License-Identifier: MIT
// A network over a whole data set: every image is segmented as `segment` would do it, and counted.
#pragma once
#include <memory>

#include "rsseg/data/dataset.hpp"
#include "rsseg/model/model.hpp"
#include "rsseg/nets/entry.hpp"
#include "rsseg/scene/segment.hpp"
#include "rsseg/scene/vote.hpp"
#include "rsseg/train/metrics.hpp"
#include "rsseg/train/metrics_boundary.hpp"

namespace rsseg::train {

/// Options of the tiler that follow from a network: legal sizes, margin of valid convolutions, receptive field at this tile size.
template <class T>
scene::segment_options tiling_of(const network_entry& net, basic_model<T>& model, int tile, const data::normalization& normalize) {
  scene::segment_options o;
  o.sizes = {net.size_multiple, net.size_offset, net.minimum_size, 1};
  o.tile = o.sizes.at_least(tile);
  o.normalize = normalize;
  const graph::graph& g = model.inference().graph();
  int bands = 3;
  for (int i = 0; i < g.nodes.size(); ++i)
    if (g.nodes[i].kind == graph::op::input) bands = g.nodes[i].channels;
  const shape in{1, bands, o.tile, o.tile};
  graph::graph_error e;
  const graph::list<shape> s = graph::extents_for(g, &in, 1, e);
  if (e.what != graph::fault::none) throw usage_error("tile " + std::to_string(o.tile) + ": " + describe_error(g, e));
  for (int i = 0; i < g.nodes.size(); ++i)
    if ((g.nodes[i].kind == graph::op::conv || g.nodes[i].kind == graph::op::max_pool || g.nodes[i].kind == graph::op::argmax_pool ||
         g.nodes[i].kind == graph::op::avg_pool) &&
        g.nodes[i].at.stride_h > 1 && s[i].h > 1)
      o.sizes.alignment = std::max(o.sizes.alignment, int(std::lround(double(o.tile) / s[i].h)));
  if (g.outputs[0].labels == label_rule::crop_labels) o.margin = (o.tile - s[g.outputs[0].node].h) / 2;
  const graph::receptive_field field = graph::receptive_field_of(g, &in, 1);
  if (!field.everything) o.receptive_field = std::max(field.h, field.w) + std::max(0, net.vote - 1);
  return o;
}

/// A decoded image as a raster.
inline std::unique_ptr<io::raster_source> source_of(const data::pixels& image) {
  io::raster_info info;
  info.width = image.width, info.height = image.height, info.bands = image.bands;
  info.type = image.values.index() == 0 ? io::sample_type::u8 : image.values.index() == 1 ? io::sample_type::u16 : io::sample_type::f32;
  std::vector<float> values(image.count());
  std::visit([&](const auto& v) { std::copy(v.begin(), v.end(), values.begin()); }, image.values);
  return io::memory_source(info, std::move(values));
}

/// Segments one decoded image in memory; ids row-major.
inline std::vector<std::uint8_t> segment_pixels(scene::scene_predictor& predict, const data::pixels& image, const scene::segment_options& options) {
  const auto source = source_of(image);
  const io::raster_info info = source->info();
  io::raster_info out = info;
  out.bands = 1, out.type = io::sample_type::u8;
  io::memory_raster sink(out);
  std::vector<std::uint8_t> ids(std::size_t(info.width) * std::size_t(info.height));
  scene::segment_options o = options;
  o.on_rows = [&](int y, int rows, const std::uint8_t* from) {
    std::copy(from, from + std::size_t(rows) * std::size_t(info.width), ids.begin() + std::ptrdiff_t(y) * info.width);
  };
  scene::segment(predict, *source, sink, o);
  return ids;
}

/// Called after each image with (done, all, sample, ids); return false to stop.
using image_callback = std::function<bool(std::size_t, std::size_t, const data::sample&, const std::vector<std::uint8_t>&)>;

/// Confusion matrix over a data set; map makes the ids of an image.
template <class Map>
inline confusion_matrix evaluate_maps(const data::dataset& set, const Map& map, const image_callback& each = {}) {
  confusion_matrix matrix(set.classes().count(), set.classes().ignore_id);
  for (std::size_t i = 0; i < set.size(); ++i) {
    const auto s = set.load(i);
    const std::vector<std::uint8_t> ids = map(s->image);
    matrix.add(s->labels.ids.data(), ids.data(), std::int64_t(ids.size()), s->name);
    if (each && !each(i + 1, set.size(), *s, ids)) break;
  }
  return matrix;
}

inline confusion_matrix evaluate(scene::scene_predictor& predict, const data::dataset& set, const scene::segment_options& options,
                                 const image_callback& each = {}) {
  return evaluate_maps(
      set, [&](const data::pixels& image) { return segment_pixels(predict, image, options); }, each);
}

/// The same for a network of one image.
inline std::vector<std::uint8_t> segment_pixels(const scene::predictor& predict, const data::pixels& image, const scene::segment_options& options) {
  scene::network_predictor p(predict, options.normalize);
  return segment_pixels(p, image, options);
}
inline confusion_matrix evaluate(const scene::predictor& predict, const data::dataset& set, const scene::segment_options& options,
                                 const image_callback& each = {}) {
  scene::network_predictor p(predict, options.normalize);
  return evaluate(p, set, options, each);
}

/// A predictor followed by a majority vote in a window of that side; 0: without (network_entry::vote).
inline scene::predictor voting(scene::predictor run, int side) {
  if (side <= 0) return run;
  return [run = std::move(run), side](const tensor<float>& x) { return scene::count_votes(run(x), side); };
}

/// A model as the tiler's predictor.
template <class Model>
scene::predictor predictor_of(Model& model, int vote = 0) {
  return voting([&model](const tensor<float>& x) { return model.infer(x); }, vote);
}

}  // namespace rsseg::train
