// SPDX-License-Identifier: MIT
// rsseg segment: maps a scene of any size in bounded memory, georeferenced as its input.
#include <sys/stat.h>

#include <cstdio>
#include <filesystem>

#include "commands.hpp"
#include "rsseg/scene/system.hpp"
#include "rsseg/scene/vote.hpp"
#include "rsseg/train/evaluate.hpp"
#include "rsseg/train/metrics_report.hpp"
#include "rsseg/train/progress.hpp"
#include "stages.hpp"

namespace rsseg::program {
namespace {

struct segment_request {
  load_request load;
  std::string input, output, overlay;
  int tile = 512, overlap = -1, batch = 1, vote = -1;
  double alpha = 0.5, max_memory = 0;
  bool blend = false, fresh = false;
  std::vector<std::string> refine, constraints, inputs;
};

std::string file_stamp(const std::string& path) {
  struct stat s {};
  return ::stat(path.c_str(), &s) == 0 ? std::to_string(s.st_size) + "." + std::to_string(s.st_mtime) : "?";
}

io::raster_info overlay_info(io::raster_info info) {
  info.bands = 3, info.type = io::sample_type::u8, info.nodata.reset(), info.colors.clear(), info.band_names.clear();
  return info;
}

/// Blends the finished map over the picture, row by row of the map: both are read by windows.
void write_overlay(const segment_request& q, const loaded_scene& n) {
  const auto picture = io::open_raster(q.input);
  const auto map = io::open_raster(q.output);
  const io::raster_info info = overlay_info(picture->info());
  const int bands = picture->info().bands;
  const io::sample_type type = picture->info().type;
  const float scale = type == io::sample_type::u8 ? 1.0f : type == io::sample_type::u16 ? 255.0f / 65535 : 255.0f;
  const auto sink = io::create_raster(q.overlay, info);
  const int rows = 256;
  std::vector<float> in, ids_f;
  std::vector<std::uint8_t> rgb, ids;
  for (int y = 0; y < info.height; y += rows) {
    const int h = std::min(rows, info.height - y);
    const std::size_t pixels = std::size_t(h) * std::size_t(info.width);
    in.resize(pixels * std::size_t(bands)), ids_f.resize(pixels), rgb.resize(pixels * 3), ids.resize(pixels);
    picture->read_window(0, y, info.width, h, in.data());
    map->read_window(0, y, info.width, h, ids_f.data());
    for (std::size_t i = 0; i < pixels; ++i) {
      ids[i] = std::uint8_t(ids_f[i]);
      for (std::size_t c = 0; c < 3; ++c) {
        const float v = in[i * std::size_t(bands) + (bands >= 3 ? c : 0)] * scale;
        rgb[i * 3 + c] = std::uint8_t(std::isfinite(v) ? std::clamp(v, 0.0f, 255.0f) : 0.0f);
      }
    }
    io::overlay(rgb.data(), ids.data(), std::int64_t(pixels), n.palette, q.alpha);
    sink->write_window(0, y, info.width, h, rgb.data());
  }
  sink->close();
}

}  // namespace

loaded_scene load_scene(const load_request& request, int tile, std::size_t max_memory, int vote) {
  if (scene::is_system_folder(request.weights)) return load_system(request, max_memory);
  if (!request.mode.empty() || request.view >= 0)
    throw usage_error("--mode and --view are for systems of several networks; " + request.weights + " is one network");
  loaded_network n = load_network(request);
  n.model->set_memory_limit(max_memory);
  loaded_scene s;
  s.name = n.entry->name, s.title = n.entry->title, s.info = n.info, s.palette = n.palette, s.normalize = n.normalize;
  s.tiling = train::tiling_of(*n.entry, *n.model, tile > 0 ? tile : 512, n.normalize);
  const std::shared_ptr<basic_model<float>> model = std::move(n.model);
  const int side = vote < 0 ? n.entry->vote : vote;
  if (side > 0 && side % 2 == 0) throw usage_error("--vote " + std::to_string(side) + ": expected an odd number");
  if (side > 0 && s.tiling.receptive_field > 0) s.tiling.receptive_field += side - 1 - std::max(0, n.entry->vote - 1);
  s.predictor = std::make_unique<scene::network_predictor>(
      [model, run = train::voting(predictor_on(*model, request.where, max_memory), side)](const tensor<float>& x) { return run(x); }, n.normalize);
  return s;
}

namespace {

/// The map through stages: probabilities of the whole scene in scratch files. False: interrupted.
bool run_stages(const segment_request& q, loaded_scene& n, io::raster_source& source, io::raster_sink& sink, const scene::segment_options& o,
                const common_options& common) {
  stage_context context{n.info.classes, source.info().bands, n.info.class_names, memory_for(q.load.where, q.max_memory),
                        device_options(q.load.where, true)};
  const scene::stage_list stages = make_stages(q.refine, q.constraints, context);
  for (const auto& s : stages) s->check(source.info(), n.info.classes);
  train::progress_options po;
  po.quiet = common.quiet;
  std::unique_ptr<train::progress> bar;
  std::string running;
  const auto show = [&](const std::string& what, std::int64_t done, std::int64_t all) {
    if (what != running) {
      if (bar) bar->finish();
      bar = std::make_unique<train::progress>(what, all, "windows", po), running = what;
    }
    bar->update(done);
    return !interrupted();
  };
  auto scores = scene::collect_scores(*n.predictor, source, o, [&](std::int64_t done, std::int64_t all) { return show("segment", done, all); });
  if (scores) scores = scene::refine_scores(std::move(scores), source, stages, show);
  if (bar && scores) bar->finish();
  if (!scores) return false;
  scene::write_map(*scores, sink, o.on_rows);
  return true;
}

void run_segment(segment_request q, const common_options& common) {
  std::unique_ptr<io::raster_source> source;
  if (q.input.empty() && q.inputs.empty()) throw usage_error("which image? give a file, or --input NAME=FILE for each input");
  if (!q.inputs.empty()) {
    if (q.input.empty()) q.input = q.inputs[0].substr(q.inputs[0].find('=') + 1);
    const io::safetensors_reader weights(q.load.weights);
    source = open_scene_inputs(q.input, q.inputs, train::weights_info::from(weights).inputs);
  } else {
    source = io::open_raster(q.input);
  }
  q.load.bands = source->info().bands;
  q.load.image = q.input;
  std::error_code none;
  for (const std::string* out : {&q.output, &q.overlay})
    if (!out->empty() && std::filesystem::equivalent(*out, q.input, none))
      throw usage_error(*out + ": is the input; choose another file for the result");
  if (!q.overlay.empty() && q.overlay == q.output) throw usage_error("--overlay and -o are the same file");
  check_map_name(q.output);
  if (!q.overlay.empty()) io::create_raster(q.overlay, overlay_info(source->info()));  // what cannot be written shows before the work, not after it
  q.load.overlap = q.overlap;
  loaded_scene n = load_scene(q.load, q.tile, memory_for(q.load.where, q.max_memory), q.vote);
  scene::segment_options o = n.tiling;
  o.overlap = q.overlap, o.blend = q.blend, o.batch = q.batch;
  const auto& info = source->info();
  const scene::segment_plan plan = scene::plan_segment(info.width, info.height, o);
  if (!common.quiet)
    std::fprintf(stderr, "%s: %d x %d pixels, %zu tile%s of %d x %d, overlap %d%s\n", q.input.c_str(), info.width, info.height,
                 plan.rows.size() * plan.columns.size(), plan.rows.size() * plan.columns.size() == 1 ? "" : "s", plan.tile_w, plan.tile_h,
                 2 * plan.halo,
                 o.blend      ? ", blended"
                 : plan.exact ? " (covers the receptive field: no seams)"
                              : "");
  io::raster_info out = info;
  out.bands = 1, out.type = io::sample_type::u8, out.nodata.reset(), out.band_names.clear();
  out.colors = io::color_table(n.palette);
  io::create_options create;
  const bool staged = !q.refine.empty() || !q.constraints.empty();
  if (staged && q.blend) throw usage_error("--blend goes with the network alone; stages of --refine smooth by themselves");
  create.resumable = !q.blend && !staged;
  create.resume_key = std::string(n.name) + " " + q.load.weights + " " + file_stamp(q.load.weights) + " " + q.input + " " + file_stamp(q.input) +
                      " " + std::to_string(plan.tile_w) + " " + std::to_string(plan.halo) + " " + n.info.normalize + " vote " +
                      std::to_string(q.vote) + (q.fresh ? " " + std::to_string(std::size_t(::time(nullptr))) : "");
  const auto sink = io::create_raster(q.output, out, create);
  train::progress_options po;
  po.quiet = common.quiet;
  train::progress bar("segment", std::int64_t(plan.rows.size() * plan.columns.size()), "tiles", po);
  o.progress = [&](std::int64_t done, std::int64_t) {
    bar.update(done);
    return !interrupted();
  };
  std::vector<std::int64_t> histogram(256, 0);
  o.on_rows = [&](int, int rows, const std::uint8_t* ids) {
    for (std::int64_t i = 0; i < std::int64_t(rows) * info.width; ++i) ++histogram[ids[i]];
  };
  if (staged) {
    if (!run_stages(q, n, *source, *sink, o, common)) {
      if (!common.quiet) std::fprintf(stderr, "interrupted; with --refine or --constraint the same command begins again\n");
      throw CLI::RuntimeError(130);
    }
  } else {
    scene::segment(*n.predictor, *source, *sink, o);
  }
  if (interrupted()) {
    bar.message(create.resumable ? "interrupted; the same command goes on where it stopped"
                                 : "interrupted; with --blend the same command begins again");
    throw CLI::RuntimeError(130);
  }
  sink->close();
  if (!staged) bar.finish();
  if (!q.overlay.empty()) write_overlay(q, n);
  if (common.json) {
    nlohmann::json j = {{"output", q.output},       {"width", info.width},
                        {"height", info.height},    {"tiles", plan.rows.size() * plan.columns.size()},
                        {"seconds", bar.elapsed()}, {"pixels", nlohmann::json::object()}};
    for (int k = 0; k < n.info.classes; ++k) j["pixels"][train::class_name(n.info.class_names, k)] = histogram[std::size_t(k)];
    std::printf("%s\n", j.dump().c_str());
  } else if (!common.quiet) {
    for (int k = 0; k < n.info.classes; ++k)
      std::printf("%-20s %6.2f %%\n", train::class_name(n.info.class_names, k).c_str(),
                  100.0 * double(histogram[std::size_t(k)]) / (double(info.width) * info.height));
    std::printf("%s%s%s\n", q.output.c_str(), q.overlay.empty() ? "" : ", ", q.overlay.c_str());
  }
}

}  // namespace

void add_segment(CLI::App& app, common_options& common) {
  auto q = std::make_shared<segment_request>();
  auto* c = app.add_subcommand("segment", "map a scene: class ids, georeferenced as the input");
  c->footer("A run that was stopped goes on where it was when the same command is given again (without --blend, --refine, --constraint).");
  c->add_option("image", q->input, "image: PNG, JPEG, or anything GDAL reads");
  c->add_option("--input", q->inputs, "NAME=FILE of one of several inputs, for weights trained with --input; may be repeated")
      ->allow_extra_args(false);
  c->add_option("-o,--output", q->output, "map: .tif (georeferenced) or .png")->required();
  c->add_option("--net", q->load.net, "network (default: as the weights say)");
  c->add_option("--weights", q->load.weights, "weights (.safetensors), or the folder that training a system left")->required();
  c->add_option("--classes", q->load.classes, "number of classes, if the weights do not say")->check(CLI::Range(1, 255));
  c->add_option("--normalize", q->load.normalize, "imagenet, unit, MEAN/STD, if the weights do not say");
  c->add_option("--overlay", q->overlay, "picture with the map over it");
  c->add_option("--alpha", q->alpha, "opacity of the overlay")->capture_default_str()->check(between(0.0, 1.0));
  c->add_option("--tile", q->tile, "side of tiles in pixels")->capture_default_str()->check(CLI::Range(16, 65536));
  c->add_option("--mode", q->load.mode, "of a system: how it infers, see rsseg list --systems");
  c->add_option("--view", q->load.view, "of a system: side of the region looked at together; 0: the whole scene (default: as trained)")
      ->check(CLI::Range(0, 65536));
  c->add_option("--overlap", q->overlap, "pixels shared by neighbouring tiles (default: from the receptive field)")->check(not_negative());
  c->add_option("--batch", q->batch, "tiles run together")->capture_default_str()->check(CLI::Range(1, 1024));
  c->add_option("--vote", q->vote, "majority vote in a window of that many pixels; 0: none (default: the network's, 5 for mcnn)")
      ->check(CLI::Range(0, 101));
  c->add_option("--refine", q->refine, refine_help)->allow_extra_args(false);
  c->add_option("--constraint", q->constraints, constraint_help)->allow_extra_args(false);
  c->add_flag("--blend", q->blend, "average overlapping tiles instead of cutting them");
  c->add_flag("--fresh", q->fresh, "do not go on with an interrupted run");
  add_device_options(c, q->load.where);
  c->add_option("--max-memory", q->max_memory, "MiB the network may use (default: 90 % of the machine)")->check(above_zero());
  c->callback([q, &common] { run_segment(*q, common); });
}

}  // namespace rsseg::program
