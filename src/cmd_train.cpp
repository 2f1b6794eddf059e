// SPDX-License-Identifier: MIT
// rsseg train, rsseg eval: learn from labelled images, measure, and show both in report.html.
#include <cstdio>
#include <filesystem>
#include <functional>

#include "commands.hpp"
#include "rsseg/data/registry.hpp"
#include "rsseg/train/adversarial.hpp"
#include "rsseg/train/loss_options.hpp"
#include "rsseg/train/mcnn.hpp"
#include "rsseg/train/progress.hpp"
#include "rsseg/train/refiner_inputs.hpp"
#include "rsseg/train/report.hpp"
#include "rsseg/train/trainer.hpp"
#include "stages.hpp"
#include "train_request.hpp"

namespace rsseg::program {
namespace {

/// Pictures for the report: image, labels and map of some images of a set.
void add_pictures(train::report& r, const data::sample& s, const std::vector<std::uint8_t>& ids) {
  io::image8 rgb(s.image.width, s.image.height, 3);
  std::visit(
      [&](const auto& v) {
        float top = s.image.values.index() == 0 ? 255.0f : 0.0f;
        if (top == 0)
          for (auto x : v) top = std::max(top, float(x));
        const std::size_t bands = std::size_t(s.image.bands), pixels = rgb.data.size() / 3;
        for (std::size_t i = 0; i < pixels; ++i)
          for (std::size_t c = 0; c < 3; ++c) {
            const float x = float(v[i * bands + (bands >= 3 ? c : 0)]) * 255.0f / std::max(top, 1e-9f);
            rgb.data[i * 3 + c] = std::uint8_t(std::clamp(x, 0.0f, 255.0f));
          }
      },
      s.image.values);
  io::image8 labels(rgb.width, rgb.height, 1), map(rgb.width, rgb.height, 1);
  labels.data = s.labels.ids, map.data = ids;
  io::image8 a = io::overlay(rgb, labels, r.colors, 0.55), b = io::overlay(rgb, map, r.colors, 0.55);
  r.pictures.push_back({s.name + ": labels", std::move(a)});
  r.pictures.push_back({s.name + ": map", std::move(b)});
}

std::string number_text(double v) {
  char t[32];
  std::snprintf(t, sizeof t, "%g", v);
  return t;
}

train::training_curves curves_of(const std::vector<nlohmann::json>& log) {
  train::training_curves c;
  double smooth = 0;
  bool first = true;
  for (const auto& l : log) {
    if (l.contains("loss")) {
      smooth = first ? l["loss"].get<double>() : 0.95 * smooth + 0.05 * l["loss"].get<double>();
      first = false;
      c.steps.push_back(l["step"]), c.loss.push_back(smooth), c.learning_rate.push_back(l["lr"]);
    } else if (l.contains("val_miou") && l["val_miou"].is_number()) {
      c.validation_steps.push_back(l["step"]), c.mean_iou.push_back(l["val_miou"]);
    }
  }
  return c;
}

}  // namespace

data::normalization normalization_of(const std::string& asked, const data::dataset& set) {
  if (asked != "auto") return data::normalization::parse(asked);
  const bool usual = set.bands() == 3 && std::holds_alternative<std::vector<std::uint8_t>>(set.load(0)->image.values);
  return usual ? data::normalization::imagenet() : data::measure_normalization(set);
}

train::train_options options_of(const train_request& q, const recipe& d, int crop, const std::string& loss, const data::dataset& set) {
  train::train_options o;
  o.out = q.out, o.seed = q.seed, o.steps = q.steps, o.epochs = q.epochs, o.minutes = q.minutes;
  o.batch = q.batch ? q.batch : d.batch, o.accumulate = q.accumulate, o.workers = q.workers;
  o.augment = q.augment == "aerial"    ? data::augment_options::aerial(crop)
              : q.augment == "upright" ? data::augment_options::upright(crop, crop)
                                       : data::augment_options::none();
  if (q.augment != "aerial" && q.augment != "upright" && q.augment != "none")
    throw usage_error("--augment \"" + q.augment + "\": unknown; use aerial, upright or none");
  o.augment.crop_height = o.augment.crop_width = crop;
  o.sampling.by_area = true, o.sampling.balance = q.balance, o.sampling.draws_per_epoch = std::size_t(q.epoch_draws);
  if (!q.sampler.empty()) train::parse_sampler(q.sampler, o.sampling);
  o.normalize = q.normalize == "auto" && train::refiner_wants_unit_image(q.net) ? data::normalization::unit() : normalization_of(q.normalize, set);
  o.optimizer.kind = train::optimizer_named(q.optimizer.empty() ? d.optimizer : q.optimizer);
  const bool adam = o.optimizer.kind == train::optimizer_kind::adam || o.optimizer.kind == train::optimizer_kind::adamw;
  // A recipe's rates and decay belong to its optimiser.
  const bool same = q.optimizer.empty() || q.optimizer == d.optimizer;
  o.optimizer.momentum = q.momentum >= 0 ? q.momentum : same ? d.momentum : 0.9;
  o.optimizer.weight_decay = q.weight_decay >= 0 ? q.weight_decay : same ? d.weight_decay : adam ? 1e-2 : 1e-4;
  o.optimizer.nesterov = q.nesterov, o.optimizer.clip_norm = q.clip >= 0 ? q.clip : d.clip, o.optimizer.ema = q.ema;
  o.schedule.kind = q.schedule.empty() ? d.schedule : q.schedule;
  o.schedule.base = q.lr > 0 ? q.lr : same ? d.learning_rate : adam ? 1e-3 : 1e-2;
  o.schedule.warmup = q.warmup;
  o.loss = train::parse_loss(loss);
  o.loss.edges = train::parse_edge_loss(q.edge_loss);
  o.loss.ignore = set.classes().ignore_id;
  o.class_weights = train::class_weights_for(q.weighting.empty() ? d.class_weights : q.weighting, set);
  o.tile = q.tile ? q.tile : std::max(crop, 512);
  o.evaluate_every = q.evaluate_every, o.checkpoint_seconds = q.checkpoint_every, o.checkpoint_steps = q.checkpoint_steps;
  if (q.recompute) o.recompute = q.recompute > 0;
  o.resume = q.resume;
  o.penalties_from = q.penalties_from >= 0 ? q.penalties_from : d.penalties_from;
  o.memory_limit = memory_for({}, q.max_memory);
  if (const double bytes = 4.0 * o.batch * crop * crop * (set.bands() + 1); o.memory_limit && bytes > double(o.memory_limit))
    throw memory_error("a batch of " + std::to_string(o.batch) + " crops of " + std::to_string(crop) + " x " + std::to_string(crop) + " takes " +
                       std::to_string(std::int64_t(bytes / 1048576)) + " MiB by itself, more than the " + std::to_string(o.memory_limit / 1048576) +
                       " MiB allowed; use a smaller --crop or --batch");
  o.head_rate = q.head_rate > 0 ? q.head_rate : q.init.empty() ? 1 : d.head_rate, o.backbone = d.backbone;
  return o;
}

train::weights_info info_of(const std::string& network, const data::dataset& set, const data::normalization& normalize) {
  train::weights_info info;
  info.network = network, info.classes = set.classes().count(), info.bands = set.bands(), info.class_names = set.classes().names,
  info.ignore_id = set.classes().ignore_id;
  for (const auto& c : set.classes().palette) info.colours.push_back({c[0], c[1], c[2]});
  info.normalize = normalize.text();
  return info;
}

namespace {

/// The adversarial first stage of a network: takes its share off the length in `o`, trains in --out/pretraining and gives the model what was
/// learnt. False: interrupted. Nothing is done when the second stage has a checkpoint to go on from.
bool pretrain(const network_entry& e, const train_request& q, const build_options& b, const std::shared_ptr<const data::dataset>& set,
              train::train_options& o, basic_model<float>& model, const common_options& common, const std::function<void(const std::string&)>& say) {
  train::train_options first = o;
  first.out = q.out + "/pretraining";
  first.steps = std::uint64_t(std::llround(q.pretrain * double(o.steps))), first.epochs = q.pretrain * o.epochs,
  first.minutes = q.pretrain * o.minutes;
  o.steps -= first.steps, o.epochs -= first.epochs, o.minutes -= first.minutes;
  if (o.steps == 0 && o.epochs <= 0 && o.minutes <= 0) throw usage_error("--pretrain: nothing of the length is left for the training itself");
  if (first.steps == 0 && first.epochs <= 0 && first.minutes <= 0) throw usage_error("--pretrain: too short for one step; use more steps, or 0");
  if (q.resume && std::filesystem::exists(q.out + "/checkpoint.safetensors")) return true;
  train::adversarial_trainer trainer(*e.pretraining, b, set, first);
  train::progress_options po;
  po.quiet = common.quiet;
  train::progress bar("pre-train", 0, "steps", po);
  train::train_events events;
  events.interrupted = [] { return interrupted(); };
  events.message = say;
  char note[96] = "";
  events.step = [&](const train::training_state& s, double judged, double, double p) {
    if (p > 0) bar.set_total(std::max<std::int64_t>(std::int64_t(s.step), std::int64_t(std::llround(double(s.step) / p))));
    std::snprintf(note, sizeof note, "generator %.4f  discriminator %.4f", s.running_loss, judged);
    bar.update(std::int64_t(s.step), note);
  };
  const train::train_result r = trainer.run(events);
  bar.finish(note);
  if (r.interrupted) return false;
  trainer.give(model.weights());
  return true;
}

void run_train(const train_request& q, const common_options& common) {
  if (train_system(q, common)) return;
  const network_entry& e = network_named(q.net);
  const bool refiner = train::is_refiner(q.net);
  if (!e.segmenter && !refiner) {
    build_options b;
    b.classes = 2;
    const graph::graph g = lower_network(e.build, b);
    std::string names;
    for (int i = 0; i < g.nodes.size(); ++i)
      if (g.nodes[i].kind == graph::op::input) names += (names.empty() ? "" : ", ") + std::string(g.name_of(i));
    throw usage_error("network '" + q.net + "' is trained as a part of a larger system, not by itself: its inputs are " + names);
  }
  if (!q.stage.empty() || q.patch) throw usage_error("--stage and --patch are for systems of several networks; '" + q.net + "' is one network");
  if (!refiner && q.coarse != "perturb") throw usage_error("--coarse is for refiners; '" + q.net + "' maps images by itself");
  data::open_options open;
  open.classes = q.classes, open.ignore_id = q.ignore;
  std::vector<std::pair<std::string, int>> inputs, val_inputs;
  const auto set = open_with_inputs(q.data, open, q.inputs, {}, inputs);
  open.classes = set->classes().count();
  // A refiner by itself maps nothing: it is measured behind a network, by eval --refine.
  const auto val = q.val.empty() || refiner ? nullptr : open_with_inputs(q.val, open, q.inputs, inputs, val_inputs);
  if (val && val->bands() != set->bands())
    throw usage_error(q.val + ": images of " + std::to_string(val->bands()) + " bands, " + q.data + " has " + std::to_string(set->bands()));
  const recipe& d = e.defaults;
  const int crop = scene::size_rule{e.size_multiple, e.size_offset, e.minimum_size}.at_least(q.crop ? q.crop : d.crop);
  const std::string loss = q.loss.empty() ? d.loss : q.loss, weighting = q.weighting.empty() ? d.class_weights : q.weighting;
  train::train_options o = options_of(q, d, crop, loss, *set);

  build_options b;
  b.classes = set->classes().count(), b.bands = set->bands(), b.freeze_norm = q.freeze_norm;
  for (std::size_t i = 0; i < inputs.size(); ++i) b.modalities[i] = inputs[i].second;
  basic_model<float> model(e.build, b);
  model.weights().initialise(q.seed);
  train::progress_options po;
  po.quiet = common.quiet;
  std::unique_ptr<train::progress> bar;
  const auto say = [&](const std::string& line) {
    if (common.quiet) return;
    if (bar)
      bar->message(line);
    else
      std::fprintf(stderr, "%s\n", line.c_str());
  };
  if (!q.init.empty()) {
    train::load_options lo;
    lo.strict = false;
    const io::safetensors_reader file(q.init);
    const auto report = train::load_weights(file, model.weights(), lo);
    if (report.missing.size() + report.misshaped.size() == model.weights().entries().size())
      throw input_error(q.init + ": holds no tensor of this network; " + report.text());
    say("initial weights from " + q.init + (report.text().empty() ? "" : ": " + report.text()));
  }
  train::weights_info info = info_of(e.name, *set, o.normalize);
  info.inputs = inputs;
  say(std::string(e.title) + ": " + with_units(double(model.weights().parameter_count())) + " parameters, " + std::to_string(b.classes) +
      " classes, " + std::to_string(set->size()) + " images, crops of " + std::to_string(crop) + ", batch " + std::to_string(o.batch) + ", " +
      (q.optimizer.empty() ? d.optimizer : q.optimizer.c_str()) + " at " + number_text(o.schedule.base));

  if (refiner) {
    if (!q.weighting.empty() && q.weighting != "none") throw usage_error("--class-weights: not for refiners");
    train::coarse_source source;
    source.ignore = info.ignore_id;
    if (q.coarse != "perturb") {
      load_request of_coarse;
      of_coarse.weights = q.coarse, of_coarse.bands = b.bands, of_coarse.classes = b.classes, of_coarse.image = q.data;
      loaded_network segmenter = load_network(of_coarse);
      source.model = std::move(segmenter.model), source.normalize = segmenter.normalize;
    }
    build_options training = b;
    training.training = true;
    o.inputs = train::refiner_inputs(lower_network(e.build, training), std::move(source), o.normalize, b.classes, q.seed);
    say("coarse maps: " + (q.coarse == "perturb" ? std::string("perturbed labels") : q.coarse) +
        (q.val.empty() ? "" : "; --val is not used: measure with rsseg eval --refine"));
  }

  const auto priors = make_priors(q.priors, {b.classes, b.bands, info.class_names, 0});
  const bool distances = std::any_of(priors.begin(), priors.end(), [](const train::prior& p) { return p.what == train::prior::kind::boundary; });
  if (!priors.empty() && refiner) throw usage_error("--prior: not for refiners");
  if (!priors.empty())
    o.prepare = [&priors](graph::graph& g) {
      for (const auto& p : priors) train::add_prior(g, p);
    };
  if (q.input_dropout > 0 && inputs.size() < 2) throw usage_error("--input-dropout: there is only one input");
  if (distances || q.input_dropout > 0)
    o.inputs = [&](const data::batch& batch, std::uint64_t step, tensor<std::int32_t>& labels) {
      std::vector<tensor<float>> in{batch.images};
      if (q.input_dropout > 0) train::drop_inputs(in[0], inputs, q.input_dropout, q.seed, step);
      if (distances) in.push_back(train::distance_input(batch.targets, b.classes, o.loss.ignore));
      labels = batch.targets;
      return in;
    };

  if (const auto where = device_options(q.where)) {
    o.cuda = std::make_shared<train::cuda_learner>(model, *where);
    if (q.max_memory > 0) o.cuda->set_memory_limit(o.memory_limit);
    say("on " + o.cuda->device().describe());
  }
  if (e.pretraining && q.pretrain > 0 && !pretrain(e, q, b, set, o, model, common, say)) {
    say("interrupted; checkpoint in " + q.out + "/pretraining, go on with --resume");
    throw CLI::RuntimeError(130);
  }
  const bool patchwise = std::string_view(e.name) == "mcnn";  // stages of its own, on patches
  train::trainer trainer(e, model, set, val, info, o);
  bar = std::make_unique<train::progress>("train", 0, "steps", po);
  double miou = -1;
  train::train_events events;
  events.interrupted = [] { return interrupted(); };
  events.message = say;
  std::unique_ptr<train::confusion_matrix> last_matrix;
  events.step = [&](const train::training_state& s, double, double lr, double p) {
    if (p > 0) bar->set_total(std::max<std::int64_t>(std::int64_t(s.step), std::int64_t(std::llround(double(s.step) / p))));
    char note[96];
    std::snprintf(note, sizeof note, "loss %.4f  lr %.2g%s", s.running_loss, lr, "");
    std::string text = note;
    if (miou >= 0) std::snprintf(note, sizeof note, "  val mIoU %.3f", miou), text += note;
    bar->update(std::int64_t(s.step), text);
  };
  events.validated = [&](const train::training_state& s, const train::confusion_matrix& m) {
    miou = m.scores().mean_iou;
    last_matrix = std::make_unique<train::confusion_matrix>(m);
    say(validation_line(s, m));
  };
  const train::train_result result = patchwise ? train::train_mcnn(model, set, info, o, events) : trainer.run(events);
  char note[64];
  std::snprintf(note, sizeof note, "loss %.4f", result.state.running_loss);
  bar->finish(note);

  train::report r;
  r.title = std::string(e.title) + " on " + q.data;
  r.colors = io::default_palette(b.classes, set->classes().ignore_id);
  for (std::size_t k = 0; k < set->classes().names.size(); ++k) {
    const auto& c = set->classes().palette[k];
    r.colors.names[k] = set->classes().names[k], r.colors.colors[k] = {c[0], c[1], c[2]};
  }
  r.curves = curves_of(result.log);
  r.facts = {{"network", std::string(e.title) + ", " + with_units(double(model.weights().parameter_count())) + " parameters"},
             {"data", q.data + ", " + std::to_string(set->size()) + " images"},
             {"validation", q.val.empty() ? "none" : q.val + ", " + std::to_string(val->size()) + " images"},
             {"steps", std::to_string(result.state.step) + " of batch " + std::to_string(o.batch * o.accumulate) + " at " + std::to_string(crop) +
                           " x " + std::to_string(crop)},
             {"time", train::duration_text(result.state.elapsed)},
             {"loss", loss + (weighting == "none" ? "" : ", class weights: " + weighting)},
             {"seed", std::to_string(q.seed)}};
  const bool finished = !result.interrupted;
  if (val && finished && !interrupted()) {
    // The best weights, as they were saved, over the validation set once more: figures and pictures belong to the file.
    load_request lr_;
    lr_.weights = q.out + "/weights.safetensors";
    loaded_network best = load_network(lr_);
    const auto tiling = train::tiling_of(e, *best.model, o.tile, best.normalize);
    const std::size_t step = std::max<std::size_t>(1, val->size() / 3);
    auto matrix = train::evaluate(train::voting(predictor_on(*best.model, q.where), e.vote), *val, tiling,
                                  [&](std::size_t i, std::size_t, const data::sample& s, const auto& ids) {
                                    if ((i - 1) % step == 0 && r.pictures.size() < 6) add_pictures(r, s, ids);
                                    return !interrupted();
                                  });
    last_matrix = std::make_unique<train::confusion_matrix>(std::move(matrix));
  }
  if (last_matrix) r.matrix = last_matrix.get();
  r.summary = finished ? "Training finished." : "Training was interrupted; --resume goes on.";
  train::write_report(q.out + "/report.html", r);
  if (result.interrupted || interrupted()) {
    say("interrupted; checkpoint in " + q.out + ", go on with --resume");
    throw CLI::RuntimeError(130);
  }
  nlohmann::json j = {{"out", q.out}, {"steps", result.state.step}, {"seconds", result.state.elapsed}, {"loss", result.state.running_loss}};
  if (last_matrix) j["val"] = nlohmann::json::parse(train::scores_json(*last_matrix, set->classes().names));
  if (common.json)
    std::printf("%s\n", j.dump().c_str());
  else if (last_matrix)
    std::printf("%s", train::scores_table(last_matrix->scores(), set->classes().names).c_str());
  if (!common.json) std::printf("%s: weights.safetensors, checkpoint.safetensors, log.jsonl, report.html\n", q.out.c_str());
}

struct eval_request {
  load_request load;
  std::string data, report;
  std::vector<std::string> refine, constraints, inputs;
  int tile = 512, overlap = -1, boundary = 0, ignore = -1;
  bool blend = false;
};

void run_eval(eval_request q, const common_options& common) {
  q.load.overlap = q.overlap;
  loaded_scene n = load_scene(q.load, q.tile, memory_for(q.load.where));
  data::open_options open;
  open.classes = n.info.classes, open.ignore_id = q.ignore;
  std::vector<std::pair<std::string, int>> inputs;
  const auto set = open_with_inputs(q.data, open, q.inputs, n.info.inputs, inputs);
  if (set->bands() != n.info.bands)
    throw usage_error(q.data + ": images of " + std::to_string(set->bands()) + " bands; the weights were trained on " + std::to_string(n.info.bands));
  auto tiling = n.tiling;
  tiling.overlap = q.overlap, tiling.blend = q.blend;
  train::progress_options po;
  po.quiet = common.quiet;
  train::progress bar("eval", std::int64_t(set->size()), "images", po);
  std::unique_ptr<train::boundary_f1> boundary;
  if (q.boundary > 0) boundary = std::make_unique<train::boundary_f1>(n.info.classes, q.boundary, set->classes().ignore_id);
  train::report r;
  r.colors = n.palette;
  const std::size_t step = std::max<std::size_t>(1, set->size() / 3);
  const scene::stage_list stages =
      make_stages(q.refine, q.constraints, {n.info.classes, n.info.bands, n.info.class_names, 0, device_options(q.load.where, true)});
  const auto map = [&](const data::pixels& image) {
    if (stages.empty()) return train::segment_pixels(*n.predictor, image, tiling);
    const auto source = train::source_of(image);
    std::vector<std::uint8_t> ids(std::size_t(image.width) * std::size_t(image.height));
    io::raster_info out = source->info();
    out.bands = 1, out.type = io::sample_type::u8;
    io::memory_raster sink(out);
    const auto go_on = [](const auto&...) { return !interrupted(); };
    auto scores = scene::collect_scores(*n.predictor, *source, tiling, go_on);
    if (scores) scores = scene::refine_scores(std::move(scores), *source, stages, go_on);
    if (scores)
      scene::write_map(*scores, sink, [&](int y, int rows, const std::uint8_t* from) {
        std::copy(from, from + std::size_t(rows) * std::size_t(image.width), ids.begin() + std::ptrdiff_t(y) * image.width);
      });
    return ids;
  };
  const auto m = train::evaluate_maps(*set, map, [&](std::size_t i, std::size_t, const data::sample& s, const auto& ids) {
    bar.update(std::int64_t(i));
    if (boundary) boundary->add(s.labels.ids.data(), ids.data(), s.image.width, s.image.height);
    if (!q.report.empty() && (i - 1) % step == 0 && r.pictures.size() < 6) add_pictures(r, s, ids);
    return !interrupted();
  });
  if (interrupted()) throw CLI::RuntimeError(130);
  bar.finish();
  if (!q.report.empty()) {
    r.title = n.title + " on " + q.data;
    r.facts = {{"network", n.title}, {"weights", q.load.weights}, {"data", q.data + ", " + std::to_string(set->size()) + " images"}};
    r.matrix = &m, r.boundary = boundary.get();
    train::write_report(q.report, r);
  }
  if (common.json)
    std::printf("%s\n", train::scores_json(m, n.info.class_names, boundary.get()).c_str());
  else
    std::printf("%s", train::scores_table(m.scores(), n.info.class_names, boundary.get()).c_str());
}

}  // namespace

void add_train(CLI::App& app, common_options& common) {
  auto q = std::make_shared<train_request>();
  auto* c = app.add_subcommand("train", "train a network on labelled images");
  c->footer(
      "Example: rsseg train --net unet-16 --data train.txt --val val.txt --minutes 5 --crop 256 --out run\nLeaves weights.safetensors (the best on "
      "--val), checkpoint.safetensors, log.jsonl and report.html in --out.");
  c->add_option("--net", q->net, "network, see rsseg list")->required();
  c->add_option("--data", q->data, "folder with images/ and masks/, list file, or NAME:DIR[:PART] of a public set")->required();
  c->add_option("--val", q->val, "the same for validation: the best weights on it are kept");
  c->add_option("--out", q->out, "folder for the results")->required();
  auto* g = c->add_option_group("how long");
  g->add_option("--epochs", q->epochs, "passes over the data")->check(above_zero());
  g->add_option("--steps", q->steps, "optimiser steps")->check(whole_number(1));
  g->add_option("--minutes", q->minutes, "minutes; the learning rate then follows the clock")->check(above_zero());
  c->add_option("--stage", q->stage, "of a system of several networks: train this stage only (default: all, one after the other)");
  c->add_option("--patch", q->patch, "side of full-resolution patches in pixels (systems; --crop is then the view they lie in)")
      ->check(CLI::Range(4, 16384));
  c->add_option("--classes", q->classes, "number of classes (default: from classes.json or the masks)")->check(CLI::Range(1, 255));
  c->add_option("--ignore", q->ignore, "class id that is not learnt from (default 255 or classes.json)")->check(CLI::Range(0, 255));
  c->add_option("--crop", q->crop, "side of training crops in pixels (default: the network's recipe)")->check(CLI::Range(8, 16384));
  c->add_option("--batch", q->batch, "crops per batch (default: the network's recipe)")->check(CLI::Range(1, 4096));
  c->add_option("--accumulate", q->accumulate, "batches per optimiser step")->check(CLI::Range(1, 4096));
  c->add_option("--optimizer", q->optimizer, "sgd, adam, adamw, rmsprop (default: the network's recipe)");
  c->add_option("--lr", q->lr, "learning rate")->check(above_zero());
  c->add_option("--momentum", q->momentum, "momentum, or beta1 of Adam")->check(between(0.0, 0.99999));
  c->add_option("--weight-decay", q->weight_decay, "weight decay")->check(not_negative());
  c->add_flag("--nesterov", q->nesterov, "Nesterov momentum");
  c->add_option("--schedule", q->schedule, "poly, cosine, step, constant");
  c->add_option("--warmup", q->warmup, "fraction of the training with a rising rate")->check(between(0.0, 0.9));
  c->add_option("--head-rate", q->head_rate, "learning-rate factor outside the backbone")->check(above_zero());
  c->add_option("--clip", q->clip, "largest gradient norm")->check(not_negative());
  c->add_option("--ema", q->ema, "decay of averaged weights, e.g. 0.999; 0: none")->check(between(0.0, 0.99999));
  c->add_option("--loss", q->loss,
                "ce, focal, dice, jaccard, tversky, lovasz, ohem, each with :options, or a sum: ce+dice, ce+0.5*lovasz, focal:gamma=3, "
                "ohem:threshold=0.7,kept=0.0625 (default: the network's recipe)");
  c->add_option("--edge-loss", q->edge_loss, "of networks that learn edges: auto, hed, bce, euclidean")->capture_default_str();
  c->add_option(
      "--class-weights", q->weighting,
      "none, median-frequency, inverse-frequency, enet, effective[:BETA], or a file with a number per class (default: the network's recipe)");
  auto* balance = c->add_option("--balance", q->balance, "share of crops that are chosen to hold a rare class, 0..1")->check(between(0.0, 1.0));
  c->add_option("--sampler", q->sampler, "area (images by their pixels), images (each once per epoch), balanced[:SHARE] (crops by class)")
      ->excludes(balance);
  c->add_option("--augment", q->augment, "aerial (all symmetries, zoom, colours), upright (mirror, zoom, colours), none")->capture_default_str();
  c->add_option("--normalize", q->normalize, "auto, imagenet, unit, or MEAN/STD")->capture_default_str();
  c->add_option("--init", q->init, "weights to start from (.safetensors); what does not fit keeps its start values");
  c->add_option("--input", q->inputs, "NAME=FOLDER of one of several inputs of every image, the images' own folder first; may be repeated")
      ->allow_extra_args(false);
  c->add_option("--input-dropout", q->input_dropout, "probability that a crop lacks one of several inputs")->check(between(0.0, 1.0));
  c->add_option("--prior", q->priors, prior_help)->allow_extra_args(false);
  c->add_option("--coarse", q->coarse, "for refiners: the maps they learn to improve: perturb (labels made worse), or the weights of a segmenter")
      ->capture_default_str();
  c->add_option("--penalties-from", q->penalties_from, "part of the training after which a network's penalties count (default: the network's recipe)")
      ->check(between(0.0, 1.0));
  c->add_option("--pretrain", q->pretrain, "share of the length for a network's first, adversarial stage (smaf-net); 0: none")
      ->capture_default_str()
      ->check(between(0.0, 0.95));
  c->add_flag("--freeze-norm", q->freeze_norm, "batch norm with the running statistics");
  c->add_option("--epoch-draws", q->epoch_draws, "crops that make an epoch (default: one per image)")->check(whole_number());
  c->add_option("--tile", q->tile, "side of validation tiles in pixels (default: the crop, at least 512)")->check(CLI::Range(16, 65536));
  c->add_option("--evaluate-every", q->evaluate_every, "fraction of the training between validations; 0: only at the end")
      ->capture_default_str()
      ->check(between(0.0, 1.0));
  c->add_option("--checkpoint-every", q->checkpoint_every, "seconds between checkpoints")->capture_default_str()->check(not_negative());
  c->add_option("--checkpoint-steps", q->checkpoint_steps, "also a checkpoint every so many steps")->check(whole_number());
  c->add_flag("--resume", q->resume, "go on from the checkpoint in --out");
  c->add_flag("--recompute,!--no-recompute", q->recompute,
              "cheap values again in the backward pass instead of keeping them: less memory, the same result (default: on the CPU)");
  c->add_option("--max-memory", q->max_memory, "MiB a training step may use (default: 90 % of the machine)")->check(above_zero());
  c->add_option("--workers", q->workers, "threads that prepare batches")->capture_default_str()->check(CLI::Range(0, 256));
  add_device_options(c, q->where);
  c->add_option("--seed", q->seed, "seed of weights, crops, dropout")->capture_default_str()->check(whole_number());
  c->callback([q, &common] { run_train(*q, common); });
}

void add_eval(CLI::App& app, common_options& common) {
  auto q = std::make_shared<eval_request>();
  auto* c = app.add_subcommand("eval", "measure weights on labelled images");
  c->add_option("--net", q->load.net, "network (default: as the weights say)");
  c->add_option("--weights", q->load.weights, "weights (.safetensors), or the folder that training a system left")->required();
  c->add_option("--mode", q->load.mode, "of a system: how it infers");
  c->add_option("--view", q->load.view, "of a system: side of the region looked at together; 0: the whole image")->check(CLI::Range(0, 65536));
  c->add_option("--data", q->data, "folder, list file, or NAME:DIR[:PART]")->required();
  c->add_option("--classes", q->load.classes, "number of classes, if the weights do not say")->check(CLI::Range(1, 255));
  c->add_option("--ignore", q->ignore, "class id that does not count (default 255 or classes.json)")->check(CLI::Range(0, 255));
  c->add_option("--normalize", q->load.normalize, "imagenet, unit, MEAN/STD, if the weights do not say");
  add_device_options(c, q->load.where);
  c->add_option("--tile", q->tile, "side of tiles in pixels")->capture_default_str()->check(CLI::Range(16, 65536));
  c->add_option("--overlap", q->overlap, "overlap of tiles (default: from the receptive field)");
  c->add_flag("--blend", q->blend, "average overlapping tiles");
  c->add_option("--refine", q->refine, refine_help)->allow_extra_args(false);
  c->add_option("--constraint", q->constraints, constraint_help)->allow_extra_args(false);
  c->add_option("--input", q->inputs, "NAME=FOLDER of one of several inputs, where it is not called as in training; may be repeated")
      ->allow_extra_args(false);
  c->add_option("--boundary", q->boundary, "also boundary F1 with this tolerance in pixels")->check(CLI::Range(1, 1000));
  c->add_option("--report", q->report, "write a report (.html)");
  c->callback([q, &common] { run_eval(*q, common); });
}

}  // namespace rsseg::program
