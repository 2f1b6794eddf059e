// SPDX-License-Identifier: MIT
// rsseg classical train, rsseg classical map, rsseg classical eval: hand-made features and a learner, regions or a CRF on top.
#include <cstdio>
#include <filesystem>

#include "commands.hpp"
#include "rsseg/classical/scene_map.hpp"
#include "rsseg/data/modalities.hpp"
#include "rsseg/train/evaluate.hpp"
#include "rsseg/train/metrics_report.hpp"
#include "rsseg/train/progress.hpp"

namespace rsseg::program {
namespace {

struct classical_request {
  std::string data, out, model, image, learner = "random-forest", features = "local,hsv,glcm,lbp", over = "none", unit = "pixel", merge = "none",
                                       crf = "none";
  int classes = 0, ignore = -1, samples = 2000, radius = 5, levels = 8, near_infrared = -1, tile = 512, overlap = 32, boundary = 0, trees = 100,
      depth = 15;
  double scale = 100, threshold = -1, crf_weight = 2, crf_sigma = 15;
  double merge_texture = 0;
  int region_size = 16;
  std::uint64_t seed = 1;
};

classical::feature_options features_of(const classical_request& q) {
  classical::feature_options f;
  f.local = f.hsv = f.glcm = f.lbp = f.gabor = false;
  for (std::size_t at = 0; at <= q.features.size();) {
    const std::size_t end = std::min(q.features.find(',', at), q.features.size());
    const std::string name = q.features.substr(at, end - at);
    if (name == "local")
      f.local = true;
    else if (name == "hsv")
      f.hsv = true;
    else if (name == "glcm")
      f.glcm = true;
    else if (name == "lbp")
      f.lbp = true;
    else if (name == "gabor")
      f.gabor = true;
    else if (name != "bands")
      throw usage_error("--features \"" + name + "\": unknown; use a list of bands, local, hsv, glcm, lbp, gabor");
    at = end + 1;
  }
  f.radius = q.radius, f.levels = q.levels, f.near_infrared = q.near_infrared;
  f.lo = 0, f.hi = 1;  // images are read in [0, 1]
  return f;
}

classical::scene_options scene_of(const classical_request& q) {
  classical::scene_options o;
  o.tile = q.tile, o.overlap = q.overlap;
  o.over = classical::over_segmentation_named(q.over == "none" && (q.unit == "region" || q.merge != "none") ? "graph" : q.over);
  o.unit = q.unit == "pixel"    ? classical::map_unit::pixel
           : q.unit == "region" ? classical::map_unit::region
                                : throw usage_error("--unit \"" + q.unit + "\": unknown; use pixel, region");
  o.scale = q.scale, o.region_size = q.region_size;
  o.merge = classical::merging_named(q.merge);
  if (q.threshold > 0) o.threshold = q.threshold;
  o.texture = q.merge_texture;
  o.crf = q.crf == "none"    ? classical::map_refinement::none
          : q.crf == "grid"  ? classical::map_refinement::grid_crf
          : q.crf == "dense" ? classical::map_refinement::dense_crf
                             : throw usage_error("--crf \"" + q.crf + "\": unknown; use none, grid, dense");
  o.grid.weight = q.crf_weight, o.grid.contrast_sigma = q.crf_sigma;
  return o;
}

void add_feature_options(CLI::App* c, classical_request& q) {
  c->add_option("--features", q.features, "of each pixel, a list: bands, local (means, deviations), hsv, glcm, lbp, gabor")->capture_default_str();
  c->add_option("--radius", q.radius, "windows of texture are 2 radius + 1 pixels")->capture_default_str()->check(CLI::Range(1, 64));
  c->add_option("--levels", q.levels, "grey levels of the co-occurrence")->capture_default_str()->check(CLI::Range(2, 64));
  c->add_option("--near-infrared", q.near_infrared, "band of the near infrared, for NDVI and NDWI (counted from 0)")->check(CLI::Range(0, 4095));
}
void add_map_options(CLI::App* c, classical_request& q) {
  c->add_option("--over", q.over, "over-segmentation: none, graph, slic, watershed (--unit region and --merge need one: graph, if none is given)")
      ->capture_default_str();
  c->add_option("--unit", q.unit, "what is classified: pixel, or the mean features of a region")->capture_default_str();
  c->add_option("--merge", q.merge, "merging of regions: none, best (global best), mutual (mutual best neighbours)")->capture_default_str();
  c->add_option("--scale", q.scale, "coarseness of the graph segmentation, in grey values")->capture_default_str()->check(above_zero());
  c->add_option("--region-size", q.region_size, "side of SLIC's cells in pixels")->capture_default_str()->check(CLI::Range(4, 256));
  c->add_option("--threshold", q.threshold, "cost at which merging stops (default 400)")->check(above_zero());
  c->add_option("--merge-texture", q.merge_texture, "weight of co-occurrence and binary patterns in merging; 0: spectral alone")
      ->check(not_negative());
  c->add_option("--crf", q.crf, "on top: none, grid (alpha expansion), dense (mean field)")->capture_default_str();
  c->add_option("--crf-weight", q.crf_weight, "of the grid CRF")->capture_default_str()->check(not_negative());
  c->add_option("--crf-sigma", q.crf_sigma, "contrast of the grid CRF, in grey values")->capture_default_str()->check(above_zero());
  c->add_option("--tile", q.tile, "side of windows in pixels")->capture_default_str()->check(CLI::Range(64, 8192));
  c->add_option("--overlap", q.overlap, "pixels around a window that are looked at, too")->capture_default_str()->check(CLI::Range(0, 1024));
}

void run_train(const classical_request& q, const common_options& common) {
  data::open_options open;
  open.classes = q.classes, open.ignore_id = q.ignore, open.cache_megabytes = 0;
  const auto set = data::open_dataset(q.data, open);
  const auto features = features_of(q);
  const int classes = set->classes().count();
  classical::learner_options l;
  l.kind = classical::learner_of(q.learner), l.seed = q.seed, l.trees = q.trees, l.depth = q.depth;
  classical::require_learners();
  classical::sample_collector collector(set->bands(), classes, features, q.samples, q.seed);
  train::progress_options po;
  po.quiet = common.quiet;
  train::progress bar("features", std::int64_t(set->size()), "images", po);
  for (std::size_t i = 0; i < set->size(); ++i) {
    const auto s = set->load(i);
    const auto values = data::detail::unit_values(s->image);
    std::vector<std::int32_t> mask(s->labels.ids.begin(), s->labels.ids.end());
    for (auto& id : mask) id = id == set->classes().ignore_id ? -1 : id;
    collector.add(values.data(), s->image.height, s->image.width, mask.data());
    bar.update(std::int64_t(i) + 1);
    if (interrupted()) throw CLI::RuntimeError(130);
  }
  bar.finish();
  std::vector<std::string> names = set->classes().names;
  for (int k = int(names.size()); k < classes; ++k) names.push_back(std::to_string(k));
  collector.train(names, l).save(q.out);
  const std::size_t count = classical::feature_names(set->bands(), features).size();
  if (common.json)
    std::printf(
        "%s\n",
        nlohmann::json({{"model", q.out}, {"learner", q.learner}, {"features", count}, {"samples", q.samples}, {"classes", classes}}).dump().c_str());
  else if (!common.quiet)
    std::fprintf(stderr, "%s: %s, %zu features, up to %d samples of each of %d classes\n", q.out.c_str(), q.learner.c_str(), count, q.samples,
                 classes);
}

void run_map(const classical_request& q, const common_options& common) {
  const auto model = classical::pixel_classifier::load(q.model);
  const auto source = io::open_raster(q.image);
  std::error_code none;
  if (std::filesystem::equivalent(q.out, q.image, none)) throw usage_error(q.out + ": is the input; choose another file for the result");
  check_map_name(q.out);
  io::raster_info out = source->info();
  out.bands = 1, out.type = io::sample_type::u8, out.nodata.reset(), out.band_names.clear();
  out.colors = io::color_table(io::default_palette(model.classes(), 255));
  const auto sink = io::create_raster(q.out, out);
  train::progress_options po;
  po.quiet = common.quiet;
  std::unique_ptr<train::progress> bar;
  std::vector<std::int64_t> histogram(256, 0);
  const bool done = classical::map_scene(
      model, *source, scene_of(q),
      [&](int x, int y, int w, int h, const std::uint8_t* ids) {
        sink->write_window(x, y, w, h, ids);
        for (std::int64_t i = 0; i < std::int64_t(w) * h; ++i) ++histogram[ids[i]];
      },
      [&](std::int64_t at, std::int64_t all) {
        if (!bar) bar = std::make_unique<train::progress>("map", all, "windows", po);
        bar->update(at);
        return !interrupted();
      });
  if (!done) throw CLI::RuntimeError(130);
  sink->close();
  bar->finish();
  if (common.json) {
    nlohmann::json j = {{"output", q.out}, {"width", out.width}, {"height", out.height}, {"pixels", nlohmann::json::object()}};
    for (int k = 0; k < model.classes(); ++k) j["pixels"][model.class_names()[std::size_t(k)]] = histogram[std::size_t(k)];
    std::printf("%s\n", j.dump().c_str());
  } else if (!common.quiet)
    for (int k = 0; k < model.classes(); ++k)
      std::printf("%-20s %6.2f %%\n", model.class_names()[std::size_t(k)].c_str(),
                  100.0 * double(histogram[std::size_t(k)]) / (double(out.width) * out.height));
}

void run_eval(const classical_request& q, const common_options& common) {
  const auto model = classical::pixel_classifier::load(q.model);
  data::open_options open;
  open.classes = model.classes(), open.ignore_id = q.ignore, open.cache_megabytes = 0;
  const auto set = data::open_dataset(q.data, open);
  train::progress_options po;
  po.quiet = common.quiet;
  train::progress bar("eval", std::int64_t(set->size()), "images", po);
  std::unique_ptr<train::boundary_f1> boundary;
  if (q.boundary > 0) boundary = std::make_unique<train::boundary_f1>(model.classes(), q.boundary, set->classes().ignore_id);
  const auto options = scene_of(q);
  const auto map = [&](const data::pixels& image) {
    const auto source = train::source_of(image);
    std::vector<std::uint8_t> ids(std::size_t(image.width) * std::size_t(image.height));
    classical::map_scene(
        model, *source, options,
        [&](int x, int y, int w, int h, const std::uint8_t* from) {
          for (int r = 0; r < h; ++r) std::copy_n(from + std::size_t(r) * std::size_t(w), w, ids.begin() + (std::ptrdiff_t(y) + r) * image.width + x);
        },
        [](std::int64_t, std::int64_t) { return !interrupted(); });
    return ids;
  };
  const auto m = train::evaluate_maps(*set, map, [&](std::size_t i, std::size_t, const data::sample& s, const auto& ids) {
    bar.update(std::int64_t(i));
    if (boundary) boundary->add(s.labels.ids.data(), ids.data(), s.image.width, s.image.height);
    return !interrupted();
  });
  if (interrupted()) throw CLI::RuntimeError(130);
  bar.finish();
  std::printf("%s", (common.json ? train::scores_json(m, model.class_names(), boundary.get()) + "\n"
                                 : train::scores_table(m.scores(), model.class_names(), boundary.get()))
                        .c_str());
}

}  // namespace

void add_classical(CLI::App& app, common_options& common) {
  auto* c = app.add_subcommand("classical", "hand-made features and classical learners (needs OpenCV's ml module)");
  c->require_subcommand(1);
  auto q = std::make_shared<classical_request>();
  auto* t = c->add_subcommand("train", "learn from labelled images");
  t->add_option("--data", q->data, "folder, list file, or NAME:DIR[:PART]")->required();
  t->add_option("--out", q->out, "model file (.yml or .json)")->required();
  t->add_option("--learner", q->learner, "random-forest, svm-linear, svm-rbf, mlp, logistic")->capture_default_str();
  t->add_option("--samples", q->samples, "pixels of each class")->capture_default_str()->check(CLI::Range(1, 10000000));
  t->add_option("--trees", q->trees, "of the forest")->capture_default_str()->check(CLI::Range(1, 10000));
  t->add_option("--depth", q->depth, "of its trees")->capture_default_str()->check(CLI::Range(1, 64));
  t->add_option("--classes", q->classes, "number of classes (default: from classes.json or the masks)")->check(CLI::Range(1, 255));
  t->add_option("--ignore", q->ignore, "class id that is not learnt from")->check(CLI::Range(0, 255));
  t->add_option("--seed", q->seed, "of the samples and the learner")->capture_default_str();
  add_feature_options(t, *q);
  t->callback([q, &common] { run_train(*q, common); });
  auto* m = c->add_subcommand("map", "map a scene: class ids, georeferenced as the input");
  m->add_option("image", q->image, "image: PNG, JPEG, or anything GDAL reads")->required();
  m->add_option("-o,--output", q->out, "map: .tif (georeferenced) or .png")->required();
  m->add_option("--model", q->model, "from classical train")->required();
  add_map_options(m, *q);
  m->callback([q, &common] { run_map(*q, common); });
  auto* e = c->add_subcommand("eval", "measure a model on labelled images");
  e->add_option("--data", q->data, "folder, list file, or NAME:DIR[:PART]")->required();
  e->add_option("--model", q->model, "from classical train")->required();
  e->add_option("--ignore", q->ignore, "class id that does not count")->check(CLI::Range(0, 255));
  e->add_option("--boundary", q->boundary, "also boundary F1 with this tolerance in pixels")->check(CLI::Range(1, 1000));
  add_map_options(e, *q);
  e->callback([q, &common] { run_eval(*q, common); });
}

}  // namespace rsseg::program
