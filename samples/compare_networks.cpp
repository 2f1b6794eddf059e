// SPDX-License-Identifier: MIT
// Networks side by side: the same data, crops, augmentation, optimiser, seed and budget for each; a table of accuracy, memory and time, plots
// and a picture of what they see.
//   compare_networks --data train.txt --val val.txt --minutes 5 --out compared unet-16 enet hrnetv2-w18-small-v1
//   compare_networks --preset pyramids --data train.txt --val val.txt --minutes 3 --out pyramids
// The second trains the four pyramids of nets/pyramids.hpp: scores from an image pyramid, from one map, from a hierarchy of maps, and from
// the feature pyramid network. OUT gets compared.md, .csv, .json, accuracy.svg (against multiply-adds), loss.svg, validation.svg,
// predictions.png, and a folder per network with its weights and log. A run that was stopped goes on with the network it was at; one that
// is there with the same options is not trained again.
#include <time.h>

#include <CLI/CLI.hpp>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "number_checks.hpp"
#include "rsseg/data/registry.hpp"
#include "rsseg/io/palette.hpp"
#include "rsseg/train/chart.hpp"
#include "rsseg/train/metrics_report.hpp"
#include "rsseg/train/trainer.hpp"

namespace rsseg::program {
const network_entry& network_named(const std::string& name);
}

namespace {
using namespace rsseg;
using json = nlohmann::ordered_json;

struct request {
  std::vector<std::string> names, rates, tiles;
  std::string data, val, out = "compared", preset, optimizer = "adamw";
  double minutes = 0, rate = 1e-3, decay = 1e-2;
  std::uint64_t steps = 0, seed = 1;
  int crop = 128, batch = 8, tile = 0, validations = 5, classes = 0;
  bool processor_time = false;
};

/// One network, trained and measured.
struct result {
  json facts;
  std::vector<double> loss_at, loss, val_at, val;
  std::vector<io::image8> maps;  ///< of the pictures
};

double processor_seconds() {
  timespec t{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return double(t.tv_sec) + 1e-9 * double(t.tv_nsec);
}

/// The middle 256 x 256 pixels of three images.
std::vector<data::sample> pictures_of(const data::dataset& set) {
  std::vector<data::sample> out;
  for (std::size_t k = 0; k < std::min<std::size_t>(3, set.size()); ++k) {
    const auto s = set.load((2 * k + 1) * set.size() / 6 % set.size());
    data::sample p;
    const int h = std::min(256, s->image.height), w = std::min(256, s->image.width), bands = s->image.bands;
    const int top = (s->image.height - h) / 2, left = (s->image.width - w) / 2;
    p.name = s->name;
    p.image.height = p.labels.height = h, p.image.width = p.labels.width = w, p.image.bands = bands;
    std::visit(
        [&](const auto& v) {
          std::decay_t<decltype(v)> part;
          for (int y = 0; y < h; ++y) {
            const auto row = v.begin() + (std::ptrdiff_t(top + y) * s->image.width + left) * bands;
            part.insert(part.end(), row, row + std::ptrdiff_t(w) * bands);
          }
          p.image.values = std::move(part);
        },
        s->image.values);
    for (int y = 0; y < h; ++y)
      for (int x = 0; x < w; ++x) p.labels.ids.push_back(s->labels.at(top + y, left + x));
    out.push_back(std::move(p));
  }
  return out;
}

io::image8 shown(const data::pixels& p) {
  io::image8 out(p.width, p.height, 3);
  std::visit(
      [&](const auto& v) {
        float top = 1e-9f;
        for (const auto x : v) top = std::max(top, float(x));
        if (p.values.index() == 0) top = 255;
        for (std::size_t i = 0; i < std::size_t(p.width) * std::size_t(p.height); ++i)
          for (int c = 0; c < 3; ++c)
            out.data[i * 3 + std::size_t(c)] =
                std::uint8_t(std::clamp(float(v[i * std::size_t(p.bands) + std::size_t(p.bands >= 3 ? c : 0)]) * 255 / top, 0.0f, 255.0f));
      },
      p.values);
  return out;
}

io::palette palette_of(const data::class_table& table) {
  io::palette p = io::default_palette(table.count(), table.ignore_id);
  for (std::size_t k = 0; k < table.names.size() && k < table.palette.size(); ++k)
    p.names[k] = table.names[k],
    p.colors[k] = {std::uint8_t(table.palette[k][0]), std::uint8_t(table.palette[k][1]), std::uint8_t(table.palette[k][2])};
  return p;
}

/// What "NAME=VALUE" says for this network, else `common`.
double value_of(const std::vector<std::string>& given, const char* option, const std::string& name, double common) {
  double found = common;
  for (const auto& text : given) {
    const auto at = text.find('=');
    char* end = nullptr;
    const double value = at == text.npos ? 0 : std::strtod(text.c_str() + at + 1, &end);
    if (at == text.npos || *end || !(value > 0))
      throw usage_error(std::string(option) + " \"" + text + "\": expected NAME=VALUE with a value above 0, for example unet-16=" +
                        (std::string_view(option) == "--rate-of" ? "1e-4" : "128"));
    if (text.substr(0, at) == name) found = value;
  }
  return found;
}

result one(const request& q, const network_entry& e, const std::shared_ptr<const data::dataset>& set, const std::shared_ptr<const data::dataset>& val,
           const std::vector<data::sample>& pictures) {
  const scene::size_rule rule{e.size_multiple, e.size_offset, e.minimum_size, 1};
  train::train_options o;
  o.out = q.out + "/" + e.name, o.seed = q.seed, o.steps = q.steps, o.minutes = q.minutes, o.processor_time = q.processor_time;
  o.batch = q.batch, o.workers = 1, o.resume = true, o.augment = data::augment_options::aerial(rule.at_least(q.crop));
  o.tile = int(value_of(q.tiles, "--tile-of", e.name, q.tile ? q.tile : o.augment.crop_height));
  o.sampling.by_area = true;
  o.normalize = set->bands() == 3 ? data::normalization::imagenet() : data::measure_normalization(*set);
  o.optimizer.kind = train::optimizer_named(q.optimizer), o.optimizer.weight_decay = q.decay;
  o.schedule.kind = "poly", o.schedule.base = value_of(q.rates, "--rate-of", e.name, q.rate);
  o.loss.ignore = set->classes().ignore_id;
  o.evaluate_every = 1.0 / q.validations;
  build_options b;
  b.classes = set->classes().count(), b.bands = set->bands();
  basic_model<float> model(e.build, b);
  model.weights().initialise(q.seed);

  json settings = {{"network", e.name},
                   {"data", q.data},
                   {"val", q.val},
                   {"steps", q.steps},
                   {"minutes", q.minutes},
                   {"processor_time", q.processor_time},
                   {"crop", o.augment.crop_height},
                   {"batch", q.batch},
                   {"optimizer", q.optimizer},
                   {"rate", o.schedule.base},
                   {"decay", q.decay},
                   {"seed", q.seed},
                   {"tile", o.tile}};
  const std::string done = o.out + "/compared.json";
  result r;
  {
    std::ifstream in(done);
    const auto j = json::parse(in, nullptr, false);
    if (j.is_object() && j.contains("settings") && j["settings"] == settings) r.facts = j;
  }
  if (r.facts.is_null()) {
    std::error_code none;
    std::ifstream in(o.out + "/settings.json");
    if (const auto j = json::parse(in, nullptr, false); !j.is_object() || j != settings)
      std::filesystem::remove_all(o.out, none);  // other options: anew
    std::filesystem::create_directories(o.out, none);
    io::write_file(o.out + "/settings.json", settings.dump() + "\n");
    train::weights_info info;
    info.network = e.name, info.classes = b.classes, info.bands = b.bands, info.class_names = set->classes().names, info.ignore_id = o.loss.ignore;
    for (const auto& c : set->classes().palette) info.colours.push_back({c[0], c[1], c[2]});
    info.normalize = o.normalize.text();
    train::trainer trainer(e, model, set, val, info, o);
    train::train_events events;
    double training = 0, began = processor_seconds();  // what validation takes is no training
    std::unique_ptr<train::confusion_matrix> last;
    events.step = [&](const train::training_state&, double, double, double) { training += processor_seconds() - began, began = processor_seconds(); };
    events.validated = [&](const train::training_state& s, const train::confusion_matrix& m) {
      began = processor_seconds();
      last = std::make_unique<train::confusion_matrix>(m);
      std::fprintf(stderr, "%-24s step %4d  loss %.3f  mIoU %.3f\n", e.name, int(s.step), s.running_loss, m.scores().mean_iou);
    };
    const train::train_result t = trainer.run(events);
    if (!last) throw error(std::string(e.name) + ": ended without a validation");
    const auto scores = last->scores();
    r.facts = {{"network", e.name},
               {"title", e.title},
               {"settings", settings},
               {"steps", t.state.step},
               {"loss", t.state.running_loss},
               {"miou", scores.mean_iou},
               {"accuracy", scores.pixel_accuracy}};
    for (const auto& c : scores.classes) r.facts["iou"].push_back(std::isnan(c.iou) ? json() : json(c.iou));
    r.facts["parameters"] = model.weights().parameter_count();
    r.facts["training_mib"] = double(model.training().bytes()) / 1048576;
    r.facts["processor_seconds_per_step"] = training / double(t.state.step);
    const shape tile{1, b.bands, rule.at_least(512), rule.at_least(512)};
    r.facts["gmacs_512"] = double(graph::total_macs(model.inference().graph(), &tile, 1)) / 1e9;
    const tensor<float> x(tile);
    double fastest = 1e9;
    for (int k = 0; k < 3; ++k) {
      const double from = processor_seconds();
      model.infer(x);
      if (k) fastest = std::min(fastest, processor_seconds() - from);
    }
    r.facts["inference_seconds_512"] = fastest;
    r.facts["inference_mib_512"] = double(model.inference().bytes()) / 1048576;
    for (const auto& l : t.log) {
      if (l.contains("loss")) r.facts["log"]["loss"].push_back({l["step"], l["seconds"], l["loss"]});
      if (l.contains("val_miou")) r.facts["log"]["val"].push_back({l["step"], l["seconds"], l["val_miou"]});
    }
    io::write_file(done, r.facts.dump() + "\n");
  }
  // the best weights of the validations draw the pictures
  train::load_weights(io::safetensors_reader(o.out + "/weights.safetensors"), model.weights());
  const auto tiling = train::tiling_of(e, model, std::min(o.tile, 256), o.normalize);
  for (const auto& p : pictures) {
    io::image8 ids(p.image.width, p.image.height, 1);
    ids.data = train::segment_pixels(train::predictor_of(model, e.vote), p.image, tiling);
    r.maps.push_back(std::move(ids));
  }
  const auto column = [&](const char* which, int k) {
    std::vector<double> v;
    for (const auto& l : r.facts["log"][which]) v.push_back(l[std::size_t(k)].is_number() ? l[std::size_t(k)].get<double>() : std::nan(""));
    return v;
  };
  const int axis = q.minutes > 0 ? 1 : 0;
  r.loss_at = column("loss", axis), r.loss = column("loss", 2), r.val_at = column("val", axis), r.val = column("val", 2);
  for (double& v : r.val) v *= 100;
  return r;
}

void write_tables(const request& q, const std::string& command, const data::class_table& classes, const std::vector<result>& all) {
  std::string md = "`" + command + "`\n\n| network | mIoU | accuracy |", csv = "network,miou,accuracy", rule = "\n|---|---|---|";
  for (int k = 0; k < classes.count(); ++k) {
    const std::string name = train::class_name(classes.names, k);
    md += " " + name + " |", csv += "," + name, rule += "---|";
  }
  md += " steps | parameters | GMAC at 512 | inference 512, s | MiB | training step, s | MiB |" + rule + "---|---|---|---|---|---|---|\n";
  csv += ",steps,parameters,gmacs_512,inference_seconds_512,inference_mib_512,processor_seconds_per_step,training_mib\n";
  char t[400];
  for (const result& r : all) {
    const json& f = r.facts;
    const auto num = [&](const char* key) { return f[key].is_number() ? f[key].get<double>() : std::nan(""); };
    std::snprintf(t, sizeof t, "| %s | **%.3f** | %.3f |", f["network"].get<std::string>().c_str(), num("miou"), num("accuracy"));
    md += t;
    std::snprintf(t, sizeof t, "%s,%.4f,%.4f", f["network"].get<std::string>().c_str(), num("miou"), num("accuracy"));
    csv += t;
    for (const auto& v : f["iou"]) {
      std::snprintf(t, sizeof t, v.is_number() ? " %.3f |" : " - |", v.is_number() ? v.get<double>() : 0.0);
      md += t;
      std::snprintf(t, sizeof t, v.is_number() ? ",%.4f" : ",", v.is_number() ? v.get<double>() : 0.0);
      csv += t;
    }
    std::snprintf(t, sizeof t, " %d | %.2f M | %.2f | %.3f | %.0f | %.3f | %.0f |\n", int(num("steps")), num("parameters") / 1e6, num("gmacs_512"),
                  num("inference_seconds_512"), num("inference_mib_512"), num("processor_seconds_per_step"), num("training_mib"));
    md += t;
    std::snprintf(t, sizeof t, ",%d,%.0f,%.4f,%.4f,%.1f,%.4f,%.1f\n", int(num("steps")), num("parameters"), num("gmacs_512"),
                  num("inference_seconds_512"), num("inference_mib_512"), num("processor_seconds_per_step"), num("training_mib"));
    csv += t;
  }
  md += "\nSeconds are processor seconds. predictions.png, left to right: image, labels";
  for (const result& r : all) md += ", " + r.facts["network"].get<std::string>();
  io::write_file(q.out + "/compared.md", md + ".\n");
  io::write_file(q.out + "/compared.csv", csv);
  json j = {{"command", command}, {"networks", json::array()}};
  for (const result& r : all) j["networks"].push_back(r.facts);
  io::write_file(q.out + "/compared.json", j.dump(1) + "\n");
}

void write_plots(const request& q, const std::vector<result>& all) {
  std::vector<train::chart_point> points;
  std::vector<train::chart_series> loss, val;
  for (const result& r : all) {
    const std::string name = r.facts["network"];
    if (r.facts["miou"].is_number()) points.push_back({r.facts["gmacs_512"].get<double>(), 100 * r.facts["miou"].get<double>(), name, ""});
    loss.push_back({.name = name, .x = r.loss_at, .y = train::smoothed(r.loss, 10)});
    val.push_back({.name = name, .x = r.val_at, .y = r.val, .markers = true});
  }
  const std::string time = q.minutes > 0 ? (q.processor_time ? "processor seconds" : "seconds") : "steps";
  const auto chart = [&](const char* title, const char* y, std::string x) {
    train::chart_options o;
    o.title = title, o.x_label = std::move(x), o.y_label = y, o.width = 860, o.height = 420;
    return o;
  };
  auto cost = chart("Accuracy against cost", "mIoU", "multiply-adds for 512 x 512 (1e9)");
  cost.log_x = true, cost.y_unit = "%";
  io::write_file(q.out + "/accuracy.svg", train::scatter_chart(cost, points));
  io::write_file(q.out + "/loss.svg", train::line_chart(chart("Training loss", "loss, smoothed", time), loss));
  auto curve = chart("Validation", "mIoU", time);
  curve.y_unit = "%";
  io::write_file(q.out + "/validation.svg", train::line_chart(curve, val));
}

/// Rows: pictures. Columns: image, labels, one map per network.
void write_picture(const request& q, const io::palette& colors, const std::vector<data::sample>& pictures, const std::vector<result>& all) {
  const int side = 256, gap = 4;
  io::image8 sheet((side + gap) * int(2 + all.size()) - gap, (side + gap) * int(pictures.size()) - gap, 3, 255);
  const auto put = [&](const io::image8& from, int column, int row) {
    for (int y = 0; y < from.height; ++y)
      for (int x = 0; x < from.width; ++x)
        for (int c = 0; c < 3; ++c) sheet.at(column * (side + gap) + x, row * (side + gap) + y, c) = from.at(x, y, c);
  };
  for (int k = 0; k < int(pictures.size()); ++k) {
    const data::sample& p = pictures[std::size_t(k)];
    put(shown(p.image), 0, k);
    io::image8 labels(p.labels.width, p.labels.height, 1);
    labels.data = p.labels.ids;
    put(io::colorize(labels, colors), 1, k);
    for (int n = 0; n < int(all.size()); ++n) put(io::colorize(all[std::size_t(n)].maps[std::size_t(k)], colors), 2 + n, k);
  }
  io::write_image(q.out + "/predictions.png", sheet);
}

void run(request q, const std::string& command) {
  if (q.preset == "pyramids")
    q.names = {"pyramid-a", "pyramid-b", "pyramid-c", "pyramid-d"};
  else if (!q.preset.empty())
    throw usage_error("--preset \"" + q.preset + "\": unknown; use pyramids");
  if (q.names.empty()) throw usage_error("no network given; name some of `rsseg list`, or --preset pyramids");
  if (q.minutes <= 0 && q.steps == 0) throw usage_error("say how long each network is trained: --minutes or --steps");
  std::vector<const network_entry*> nets;
  for (const auto& n : q.names) {
    nets.push_back(&program::network_named(n));
    if (!nets.back()->segmenter) throw usage_error("network '" + n + "' does not map one image to one label map; it cannot be compared");
    value_of(q.rates, "--rate-of", n, 1), value_of(q.tiles, "--tile-of", n, 1);
  }
  data::open_options open;
  open.classes = q.classes;
  const std::shared_ptr<const data::dataset> set = data::open_dataset(q.data, open);
  open.classes = set->classes().count();
  const std::shared_ptr<const data::dataset> val = data::open_dataset(q.val, open);
  if (val->bands() != set->bands())
    throw usage_error(q.val + ": images of " + std::to_string(val->bands()) + " bands, " + q.data + " has " + std::to_string(set->bands()));
  if (val->classes().count() != set->classes().count())
    throw usage_error(q.val + ": " + std::to_string(val->classes().count()) + " classes, " + q.data + " has " +
                      std::to_string(set->classes().count()));
  const std::vector<data::sample> pictures = pictures_of(*val);
  std::vector<result> all;
  for (const network_entry* e : nets) {
    all.push_back(one(q, *e, set, val, pictures));
    write_tables(q, command, set->classes(), all);
    write_plots(q, all);
    write_picture(q, palette_of(set->classes()), pictures, all);
  }
  std::ifstream in(q.out + "/compared.md");
  for (std::string line; std::getline(in, line);) std::printf("%s\n", line.c_str());
}

}  // namespace

int main(int argc, char** argv) {
  request q;
  CLI::App app("compare_networks: trains networks under one budget and shows them side by side", "compare_networks");
  app.add_option("networks", q.names, "names as in `rsseg list`");
  app.add_option("--preset", q.preset, "pyramids: the four pyramids of Lin et al. 2017, Fig. 1");
  app.add_option("--data", q.data, "training data: folder, list file, or NAME:DIR[:PART]")->required();
  app.add_option("--val", q.val, "the same for validation")->required();
  app.add_option("--classes", q.classes, "number of classes, where no classes.json says so")->check(CLI::Range(1, 255));
  app.add_option("--out", q.out, "folder of the results")->capture_default_str();
  app.add_option("--minutes", q.minutes, "training time of each network, without validation at the end")->check(program::above_zero());
  app.add_flag("--processor-time", q.processor_time, "minutes are processor time of all threads: fair on a machine that does other things, too");
  app.add_option("--steps", q.steps, "steps of each network")->check(program::above_zero());
  app.add_option("--crop", q.crop, "side of the crops in pixels, made legal for the network")->capture_default_str()->check(CLI::Range(8, 4096));
  app.add_option("--batch", q.batch, "crops per step")->capture_default_str()->check(CLI::Range(1, 1024));
  app.add_option("--optimizer", q.optimizer, "sgd, adam, adamw, rmsprop")->capture_default_str();
  app.add_option("--lr", q.rate, "learning rate, poly schedule")->capture_default_str()->check(program::above_zero());
  app.add_option("--rate-of", q.rates, "NAME=RATE: another rate for one network")->allow_extra_args(false);
  app.add_option("--weight-decay", q.decay, "weight decay")->capture_default_str()->check(CLI::Range(0.0, 10.0));
  app.add_option("--validations", q.validations, "validations, evenly over the training")->capture_default_str()->check(CLI::Range(1, 1000));
  app.add_option("--tile", q.tile, "side of validation's tiles (default: the crops', to which attention is bound)")->check(CLI::Range(16, 65536));
  app.add_option("--tile-of", q.tiles, "NAME=SIDE: another tile for one network, e.g. mfalnet=128, whose attention is bound to its crops")
      ->allow_extra_args(false);
  app.add_option("--seed", q.seed, "seed of weights, crops, dropout")->capture_default_str();
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() == 0) return app.exit(e);
    std::fprintf(stderr, "compare_networks: error: %s; see --help\n", e.what());
    return 2;
  }
  std::string command = "compare_networks";
  for (int i = 1; i < argc; ++i) command += " " + std::string(argv[i]);
  try {
    run(q, command);
    return 0;
  } catch (const error& e) {
    std::fprintf(stderr, "compare_networks: error: %s\n", e.what());
    return e.exit_code();
  }
}
