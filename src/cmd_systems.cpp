// SPDX-License-Identifier: MIT
// Systems of several networks: training stage by stage, and as predictors of scenes.
#include <cstdio>

#include "rsseg/data/registry.hpp"
#include "rsseg/scene/systems.hpp"
#include "rsseg/train/metrics_report.hpp"
#include "rsseg/train/progress.hpp"
#include "train_request.hpp"

namespace rsseg::program {
namespace {

/// A device that is not there says so before anything is written.
void require_device(const scene::placement& where) {
  if (!where) return;
  scene::placed_network probe(
      [](builder& b) {
        const value x = b.input("x", 1);
        b.output("y", conv(b, "c", x, 1));
      },
      {}, where);
  probe.inference();
}

struct train_sets {
  std::shared_ptr<const data::dataset> train, val;
};
train_sets open_sets(const train_request& q) {
  data::open_options open;
  open.classes = q.classes, open.ignore_id = q.ignore;
  train_sets sets;
  sets.train = data::open_dataset(q.data, open);
  open.classes = sets.train->classes().count();
  if (!q.val.empty()) sets.val = data::open_dataset(q.val, open);
  if (sets.val && sets.val->bands() != sets.train->bands())
    throw usage_error(q.val + ": images of " + std::to_string(sets.val->bands()) + " bands, " + q.data + " has " +
                      std::to_string(sets.train->bands()));
  return sets;
}

/// One stage; returns the confusion matrix of its last validation, null without.
std::unique_ptr<train::confusion_matrix> train_stage(const train_request& q, const common_options& common, const scene::system& sys, int stage,
                                                     const scene::system_settings& settings, const train_sets& sets, nlohmann::json& record) {
  const scene::stage_info& info = sys.stages[std::size_t(stage)];
  const std::string loss = q.loss.empty() ? info.loss : q.loss;
  train::train_options o = options_of(q, info.defaults, settings.view, loss, *sets.train);
  o.memory_limit = memory_for(q.where, q.max_memory);
  o.normalize = data::normalization::parse(settings.info.normalize);
  o.out = q.out + "/" + info.name;
  const auto learner = sys.learner(sys, stage, settings, q.out, q.seed);
  train::progress_options po;
  po.quiet = common.quiet;
  train::progress bar(info.name, 0, "steps", po);
  const auto say = [&](const std::string& line) {
    if (!common.quiet) bar.message(line);
  };
  say(std::string(sys.title) + ", stage " + std::to_string(stage + 1) + " of " + std::to_string(sys.stages.size()) + " (" + info.name +
      "): " + info.note + "; " + with_units(double(learner->weights().parameter_count())) + " parameters, views of " + std::to_string(settings.view) +
      ", patches of " + std::to_string(settings.patch) + ", batch " + std::to_string(o.batch));
  train::train_events events;
  events.interrupted = [] { return interrupted(); };
  events.message = say;
  events.step = [&](const train::training_state& s, double, double lr, double p) {
    if (p > 0) bar.set_total(std::max<std::int64_t>(std::int64_t(s.step), std::int64_t(std::llround(double(s.step) / p))));
    char note[64];
    std::snprintf(note, sizeof note, "loss %.4f  lr %.2g", s.running_loss, lr);
    bar.update(std::int64_t(s.step), note);
  };
  std::unique_ptr<train::confusion_matrix> matrix;
  events.validated = [&](const train::training_state& s, const train::confusion_matrix& m) {
    matrix = std::make_unique<train::confusion_matrix>(m);
    say(validation_line(s, m));
  };
  train::weights_info w = settings.info;
  w.network = std::string(sys.name) + ":" + info.name;
  train::trainer trainer(w.network + " " + std::to_string(settings.patch), *learner, sets.train, sets.val, w, o);
  const train::train_result result = trainer.run(events);
  char note[64];
  std::snprintf(note, sizeof note, "loss %.4f", result.state.running_loss);
  bar.finish(note);
  if (result.interrupted || interrupted()) {
    say("interrupted; checkpoint in " + o.out + ", go on with --resume");
    throw CLI::RuntimeError(130);
  }
  record[info.name] = {{"steps", result.state.step}, {"seconds", result.state.elapsed}, {"loss", result.state.running_loss}};
  if (matrix) record[info.name]["val_miou"] = matrix->scores().mean_iou;
  return matrix;
}

}  // namespace

bool train_system(const train_request& q, const common_options& common) {
  const scene::system* sys = scene::find_system(q.net);
  if (!sys) return false;
  if (!q.inputs.empty() || !q.priors.empty() || !q.init.empty())
    throw usage_error("--input, --prior and --init are not for systems of several networks");
  const scene::placement where = device_options(q.where);
  require_device(where);
  const train_sets sets = open_sets(q);
  scene::system_settings settings;
  settings.info = info_of(sys->name, *sets.train, normalization_of(q.normalize, *sets.train));
  const auto legal = [&](int n) { return (n + sys->multiple - 1) / sys->multiple * sys->multiple; };
  settings.patch = legal(q.patch ? q.patch : sys->patch), settings.view = legal(q.crop ? q.crop : std::max(sys->view, settings.patch));
  if (settings.view < settings.patch)
    throw usage_error("--crop " + std::to_string(settings.view) + " (the view) is smaller than --patch " + std::to_string(settings.patch));
  const int first = q.stage.empty() ? 0 : scene::stage_named(*sys, q.stage), last = q.stage.empty() ? int(sys->stages.size()) - 1 : first;
  if (scene::is_system_folder(q.out)) {
    const scene::system_settings before = scene::read_settings(q.out);
    if (before.info.network != sys->name || before.info.classes != settings.info.classes || before.info.bands != settings.info.bands)
      throw usage_error(q.out + ": holds a " + before.info.network + " of " + std::to_string(before.info.classes) + " classes and " +
                        std::to_string(before.info.bands) + " bands; choose another --out");
    if (first > 0 || q.resume) {  // later stages go on with what the first had
      if ((q.patch && settings.patch != before.patch) || (q.crop && settings.view != before.view))
        throw usage_error(q.out + ": was begun with patches of " + std::to_string(before.patch) + " in views of " + std::to_string(before.view) +
                          "; leave --patch and --crop out, or choose another --out");
      settings = before;
    }
  }
  settings.where = where;
  std::error_code none;
  std::filesystem::create_directories(q.out, none);
  if (!std::filesystem::is_directory(q.out, none)) throw output_error(q.out + ": cannot be made a folder; choose another --out");
  scene::write_settings(q.out, settings);
  nlohmann::json record = nlohmann::json::object();
  std::unique_ptr<train::confusion_matrix> matrix;
  for (int s = first; s <= last; ++s) matrix = train_stage(q, common, *sys, s, settings, sets, record);
  if (common.json) {
    nlohmann::json j = {{"out", q.out}, {"stages", record}};
    if (matrix) j["val"] = nlohmann::json::parse(train::scores_json(*matrix, settings.info.class_names));
    std::printf("%s\n", j.dump().c_str());
  } else {
    if (matrix) std::printf("%s", train::scores_table(matrix->scores(), settings.info.class_names).c_str());
    std::printf("%s: system.json and a folder per stage; rsseg segment --weights %s\n", q.out.c_str(), q.out.c_str());
  }
  return true;
}

loaded_scene load_system(const load_request& r, std::size_t max_memory) {
  scene::system_settings settings = scene::read_settings(r.weights);
  settings.where = device_options(r.where);
  require_device(settings.where);
  if (!r.net.empty() && r.net != settings.info.network)
    throw usage_error(r.weights + ": belongs to system '" + settings.info.network + "', --net says '" + r.net + "'");
  const scene::system* sys = scene::find_system(settings.info.network);
  if (!sys) throw input_error(r.weights + "/system.json: names the system '" + settings.info.network + "', which is unknown");
  if (r.classes && r.classes != settings.info.classes)
    throw usage_error(r.weights + ": has " + std::to_string(settings.info.classes) + " classes, --classes says " + std::to_string(r.classes));
  if (r.bands && r.bands != settings.info.bands)
    throw usage_error(r.weights + ": was trained on images of " + std::to_string(settings.info.bands) + " bands, " + r.image + " has " +
                      std::to_string(r.bands));
  scene::predictor_options o;
  o.mode = r.mode, o.view = r.view, o.overlap = r.overlap, o.memory_limit = max_memory;
  scene::made_predictor made = sys->predictor(*sys, settings, r.weights, o);
  loaded_scene s;
  s.name = sys->name, s.title = sys->title, s.info = settings.info;
  s.normalize = data::normalization::parse(settings.info.normalize);
  s.palette = io::default_palette(s.info.classes, s.info.ignore_id);
  for (std::size_t k = 0; k < s.info.class_names.size() && k < s.palette.names.size(); ++k) s.palette.names[k] = s.info.class_names[k];
  for (std::size_t k = 0; k < s.info.colours.size() && k < s.palette.colors.size(); ++k) {
    const auto& c = s.info.colours[k];
    s.palette.colors[k] = {std::uint8_t(c[0]), std::uint8_t(c[1]), std::uint8_t(c[2])};
  }
  s.tiling = std::move(made.tiling), s.predictor = std::move(made.predictor);
  return s;
}

void print_systems(const common_options& common) {
  nlohmann::json all = nlohmann::json::array();
  for (const scene::system& s : scene::systems()) {
    nlohmann::json stages = nlohmann::json::array();
    std::string names, modes;
    for (const scene::stage_info& i : s.stages) {
      stages.push_back({{"name", i.name}, {"note", i.note}});
      names += (names.empty() ? "" : ", ") + std::string(i.name);
    }
    for (const std::string& m : s.modes) modes += (modes.empty() ? "" : ", ") + m;
    all.push_back({{"name", s.name},
                   {"title", s.title},
                   {"paper", s.paper},
                   {"note", s.note},
                   {"patch", s.patch},
                   {"view", s.view},
                   {"stages", stages},
                   {"modes", s.modes}});
    if (!common.json)
      std::printf("%-16s %s, %s: %s\n%16s stages %s; modes %s; patch %d, view %d\n", s.name, s.title, s.paper, s.note, "", names.c_str(),
                  modes.c_str(), s.patch, s.view);
  }
  if (common.json) std::printf("%s\n", all.dump(1).c_str());
}

}  // namespace rsseg::program
