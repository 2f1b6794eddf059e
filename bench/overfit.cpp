// SPDX-License-Identifier: MIT
// Does every network learn? Trains each on four fixed crops of a data set until its training loss (all terms that it declares) is below a
// fifth of its start, at most 300 steps, and records what that took.
//   overfit --data aerial/train.txt [--height nir.txt] [--out bench/results/overfit] [--minutes 90] [NETWORK ...]
// Cheapest networks first. A line per network goes to OUT.jsonl as soon as it is known; networks that reached the bar there are left out of
// the next run (--again: not), and OUT.md shows all lines. Networks that take height are trained on --height, whose images have more bands
// than three: the further bands take the place of height.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "number_checks.hpp"
#include "rsseg/data/registry.hpp"
#include "rsseg/io/atomic_file.hpp"
#include "rsseg/nets/entry.hpp"
#include "rsseg/scene/tile_grid.hpp"
#include "rsseg/train/overfit.hpp"

namespace rsseg::program {
std::vector<const network_entry*> networks();
const network_entry& network_named(const std::string& name);
}  // namespace rsseg::program

namespace {
using namespace rsseg;
using json = nlohmann::ordered_json;

/// A later stage starts from the weights of an earlier one: names of the earlier network's tensors, behind a prefix in the later one.
struct stage {
  const char* network;
  const char* after;
  const char* prefix;
};
constexpr stage stages[] = {
    {"mcnn-patches", "mcnn-features", ""},
    {"awmf-cnn-fixed-experts", "awmf-expert-x10", ""},
    {"awmf-cnn-fixed-experts", "awmf-expert-x5", ""},
    {"awmf-cnn-fixed-experts", "awmf-expert-x2-5", ""},
    {"glnet-global2local", "glnet-global", "net."},
    {"glnet-local2global", "glnet-global", "fixed."},
    {"glnet-local2global", "glnet-global2local", ""},
};

bool takes_height(const network_entry& e) {
  build_options b;
  b.classes = 2, b.bands = 3;
  const graph::graph g = lower_network(e.build, b);
  return g.find("depth") >= 0 || g.find("dem") >= 0;
}

/// Side of the crops: the smallest legal one that is at least `wanted`; valid convolutions lose their margin first.
int side_for(const network_entry& e, int wanted) {
  const scene::size_rule rule{e.size_multiple, e.size_offset, e.minimum_size, 1};
  if (e.minimum_size == 28 && std::string_view(e.name).starts_with("mcnn")) return std::max(wanted, 96);  // patches around points of the crop
  build_options b;
  b.classes = 2, b.bands = 3;
  const graph::graph g = lower_network(e.build, b);
  return rule.at_least(g.outputs[0].labels == label_rule::crop_labels ? e.minimum_size + wanted / 4 : wanted);
}

double cost_of(const network_entry& e, const train::crop_set& crops) {
  build_options b;
  b.classes = crops.classes, b.bands = 3, b.training = true, b.dropout = false;
  const graph::graph g = lower_network(e.build, b);
  std::vector<shape> extents;
  for (const auto& x : train::feed_network(g, e.name, crops).inputs) extents.push_back(x.extent());
  return double(graph::total_macs(g, extents.data(), int(extents.size())));
}

/// The point refiner's training loss is that of the whole map, of which it draws one pixel in 16 and cannot change the others. Judged is the
/// cross-entropy of its head at all pixels.
double at_all_points(basic_model<float>& model, const train::network_feed& feed, int ignore) {
  const shape s = feed.inputs[0].extent();
  tensor<float> points(shape{s.n, 2, s.h * s.w, 1});
  for (int n = 0; n < s.n; ++n)
    for (int p = 0; p < s.h * s.w; ++p)
      points(n, 0, p, 0) = (float(p % s.w) + 0.5f) / float(s.w), points(n, 1, p, 0) = (float(p / s.w) + 0.5f) / float(s.h);
  const tensor<float>* inputs[] = {&feed.inputs[0], &feed.inputs[1], &points};
  model.run(inputs);
  const tensor<float> scores = model.output(0);
  double sum = 0, count = 0;
  for (int n = 0; n < s.n; ++n)
    for (int p = 0; p < s.h * s.w; ++p) {
      const std::int32_t id = feed.labels[0](n, 0, p / s.w, p % s.w);
      if (id == ignore) continue;
      double total = 0;
      for (int k = 0; k < feed.classes; ++k) total += std::exp(double(scores(n, k, p, 0)) - double(scores(n, id, p, 0)));
      sum += std::log(total), ++count;
    }
  return sum / count;
}

json line_of(const network_entry& e, const train::crop_set& crops, const train::overfit_result& r, double macs) {
  json steps = json::array();
  for (std::size_t i = 0; i < r.losses.size(); i += std::max<std::size_t>(1, r.losses.size() / 20)) steps.push_back({i, r.losses[i]});
  return {{"network", e.name},
          {"reached", r.reached},
          {"side", crops.images.extent().h},
          {"classes", crops.classes},
          {"optimizer", "adam"},
          {"rate", r.rate},
          {"first", r.first},
          {"last", r.last},
          {"steps", r.steps},
          {"steps_in_all", r.steps_in_all},
          {"seconds", r.seconds},
          {"parameters", r.parameters},
          {"forward_gmacs", macs / 1e9},
          {"training_mib", double(r.bytes) / 1048576},
          {"crops", crops.where},
          {"curve", steps}};
}

std::string table(const std::map<std::string, json>& lines, const std::string& command) {
  std::string text =
      "# Four crops learnt by heart\n\n`" + command +
      "`\n\nAdam without decay, no dropout, batch statistics, all losses with their weights; the loss of the first step and of the last one.\n"
      "Steps: with the rate shown; in brackets with all rates that were tried, if there were more.\n\n"
      "| network | parameters | crop | rate | steps | loss at first | at last | part | seconds | training MiB |\n"
      "|---|---|---|---|---|---|---|---|---|---|\n";
  int reached = 0;
  for (const auto& [name, j] : lines) {
    char row[300];
    const int steps = j["steps"], all = j["steps_in_all"];
    std::snprintf(row, sizeof row, "| %s%s | %.2f M | %d | %.0e | %d%s | %.4g | %.4g | %.3f | %.0f | %.0f |\n", name.c_str(),
                  j["reached"].get<bool>() ? "" : " **not reached**", j["parameters"].get<double>() / 1e6, j["side"].get<int>(),
                  j["rate"].get<double>(), steps, all > steps ? (" (" + std::to_string(all) + ")").c_str() : "", j["first"].get<double>(),
                  j["last"].get<double>(), j["last"].get<double>() / j["first"].get<double>(), j["seconds"].get<double>(),
                  j["training_mib"].get<double>());
    text += row;
    reached += j["reached"].get<bool>();
  }
  return text + "\n" + std::to_string(reached) + " of " + std::to_string(lines.size()) + " networks reached a fifth of their first loss.\n";
}

struct request {
  std::string data, height, out = "overfit";
  std::vector<std::string> names;
  std::vector<double> rates{1e-3, 3e-4, 1e-4, 1e-2};
  int crop = 64, steps = 300, count = 4;
  double minutes = 0, most = 0, minutes_each = 0;
  bool again = false, list = false, generated = false;
};

int run(const request& q, const std::string& command) {
  if (q.data.empty() != q.generated) throw usage_error("give either --data or --generated");
  const auto set = q.generated ? nullptr : data::open_dataset(q.data);
  const auto height = q.height.empty() ? nullptr : data::open_dataset(q.height);
  std::map<std::string, json> lines;
  {
    std::ifstream in(q.out + ".jsonl");
    for (std::string l; std::getline(in, l);)
      if (const auto j = json::parse(l, nullptr, false); j.is_object() && j.contains("network")) lines[j["network"].get<std::string>()] = j;
  }
  std::map<std::pair<bool, int>, train::crop_set> cut;
  const auto crops_for = [&](const network_entry& e) -> const train::crop_set& {
    const bool high = takes_height(e);
    if (high && !height && !q.generated)
      throw usage_error("network '" + std::string(e.name) + "' takes height beside the image; give --height a data set of more than three bands");
    const std::pair<bool, int> key{high, side_for(e, q.crop)};
    auto& c = cut[key];
    if (c.images.size() == 0 && q.generated) c = train::generated_crops(key.second, q.count);
    if (c.images.size() == 0) {
      const data::dataset& from = high ? *height : *set;
      c = train::cut_crops(from, from.bands() == 3 ? data::normalization::imagenet() : data::measure_normalization(from), key.second, q.count, 1,
                           high ? 3 : 0);
    }
    return c;
  };
  std::vector<std::pair<double, const network_entry*>> todo;
  std::vector<const network_entry*> wanted;
  for (const auto& n : q.names) wanted.push_back(&program::network_named(n));
  if (q.names.empty()) wanted = program::networks();
  for (const network_entry* e : wanted) {
    if (!q.again && lines.count(e->name) && lines[e->name]["reached"].get<bool>()) continue;
    if (q.names.empty() && !height && !q.generated && takes_height(*e)) {
      std::fprintf(stderr, "%s: left out, needs --height\n", e->name);
      continue;
    }
    try {
      todo.push_back({cost_of(*e, crops_for(*e)), e});
    } catch (const error& problem) {  // e.g. an input that only its system can feed: the others go on
      std::fprintf(stderr, "left out: %s\n", problem.what());
    }
  }
  std::stable_sort(todo.begin(), todo.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  if (q.list) {
    for (const auto& [macs, e] : todo)
      std::printf("%-28s %4d pixels %10.3f forward GMAC per step\n", e->name, crops_for(*e).images.extent().h, macs / 1e9);
    return 0;
  }
  const auto start = std::chrono::steady_clock::now();
  const bool terminal = ::isatty(2) != 0;
  std::map<std::string, parameter_store<float>> trained;
  const auto one = [&](const network_entry& e) {
    train::overfit_options o;
    o.steps = q.steps, o.rates = q.rates, o.seconds = 60 * q.minutes_each;
    o.step = [&](double rate, int step, double loss) {
      if (terminal && step % 10 == 0) std::fprintf(stderr, "\r%-28s rate %.0e step %3d loss %.4f   ", e.name, rate, step, loss);
    };
    if (e.name == std::string_view("pointrend-refiner")) {
      build_options b;
      b.classes = crops_for(e).classes, b.bands = 3, b.training = true, b.dropout = false;
      o.judge = [feed = train::feed_network(lower_network(e.build, b), e.name, crops_for(e)), ignore = crops_for(e).ignore](basic_model<float>& m) {
        return at_all_points(m, feed, ignore);
      };
    }
    o.prepare = [&](parameter_store<float>& to) {
      for (const stage& s : stages)
        if (const auto from = trained.find(s.after); e.name == std::string_view(s.network) && from != trained.end())
          for (std::size_t k = 0; k < from->second.entries().size(); ++k) {
            const stored_tensor& t = from->second.entries()[k];
            if (const int at = to.find(s.prefix + t.name); at >= 0 && to.entries()[std::size_t(at)].size == t.size)
              std::copy_n(from->second.data(int(k)), t.size, to.data(at));
          }
      to.touch();
    };
    return train::overfit(e, crops_for(e), o);
  };
  for (const auto& [macs, e] : todo) {
    if (q.minutes > 0 && std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() > 60 * q.minutes) break;
    if (q.most > 0 && macs > q.most * 1e9) break;
    for (const stage& s : stages)
      if (e->name == std::string_view(s.network) && !trained.count(s.after)) trained[s.after] = one(program::network_named(s.after)).weights;
    json j;
    try {
      train::overfit_result r = one(*e);
      j = line_of(*e, crops_for(*e), r, macs);
      std::fprintf(stderr, "%s%-28s %-11s side %3d rate %.0e  %9.4f -> %9.4f in %3d steps (%d in all), %.0f s\n", terminal ? "\r" : "", e->name,
                   r.reached ? "ok" : "NOT REACHED", crops_for(*e).images.extent().h, r.rate, r.first, r.last, r.steps, r.steps_in_all, r.seconds);
      for (const stage& s : stages)
        if (e->name == std::string_view(s.after)) trained[e->name] = std::move(r.weights);
    } catch (const error& problem) {
      std::fprintf(stderr, "%s%-28s ERROR %s\n", terminal ? "\r" : "", e->name, problem.what());
      continue;
    }
    lines[e->name] = j;
    std::string all;
    for (const auto& [name, l] : lines) all += l.dump() + "\n";
    io::write_file(q.out + ".jsonl", all);
    io::write_file(q.out + ".md", table(lines, command));
  }
  int missed = 0;
  for (const network_entry* e : wanted) missed += !lines.count(e->name) || !lines[e->name]["reached"].get<bool>();
  std::printf("%d of %d networks reached %g of their first loss\n", int(wanted.size()) - missed, int(wanted.size()), 0.2);
  return missed ? 1 : 0;
}

}  // namespace

int main(int argc, char** argv) {
  request q;
  CLI::App app("overfit: trains networks on four fixed crops until the loss is below a fifth of its start", "overfit");
  app.add_option("networks", q.names, "names as in `rsseg list` (default: all)");
  app.add_option("--data", q.data, "folder, list file, or NAME:DIR[:PART]");
  app.add_flag("--generated", q.generated, "in place of data: stripes and disks");
  app.add_option("--height", q.height, "the same with more than three bands, for networks that take height");
  app.add_option("--out", q.out, "results: OUT.jsonl and OUT.md")->capture_default_str();
  app.add_option("--crop", q.crop, "side of the crops in pixels, made legal for the network")->capture_default_str()->check(CLI::Range(8, 4096));
  app.add_option("--crops", q.count, "number of crops")->capture_default_str()->check(CLI::Range(1, 64));
  app.add_option("--steps", q.steps, "at most, for each rate")->capture_default_str()->check(CLI::Range(1, 100000));
  app.add_option("--rates", q.rates, "learning rates, in the order in which they are tried: 1e-3,1e-4")->delimiter(',')->allow_extra_args(false);
  app.add_option("--minutes", q.minutes, "begin no network after this time")->check(program::above_zero());
  app.add_option("--minutes-each", q.minutes_each, "give up a network after this time")->check(program::above_zero());
  app.add_option("--most", q.most, "leave out networks of more forward multiply-adds per step, in 1e9")->check(program::above_zero());
  app.add_flag("--list", q.list, "only print the networks in their order and what a step costs");
  app.add_flag("--again", q.again, "also those that reached it in an earlier run");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() == 0) return app.exit(e);
    std::fprintf(stderr, "overfit: error: %s; see --help\n", e.what());
    return 2;
  }
  std::string command = "overfit";
  for (int i = 1; i < argc; ++i) command += " " + std::string(argv[i]);
  try {
    return run(q, command);
  } catch (const error& e) {
    std::fprintf(stderr, "overfit: error: %s\n", e.what());
    return e.exit_code();
  }
}
