// SPDX-License-Identifier: MIT
// --refine and --constraint: from what is written on the command line to stages.
#include "stages.hpp"
#include "rsseg/nets/iss.hpp"
#include "rsseg/scene/cascade_psp_stage.hpp"
#include "rsseg/scene/stages_filters.hpp"
#include "rsseg/scene/stages_prior.hpp"

namespace rsseg::program {
namespace {

int class_of(const scene::stage_spec& s, const std::string& word, const stage_context& c) {
  for (std::size_t k = 0; k < c.class_names.size(); ++k)
    if (c.class_names[k] == word) return int(k);
  char* rest = nullptr;
  const long id = std::strtol(word.c_str(), &rest, 10);
  if (word.empty() || *rest || id < 0 || id >= c.classes) {
    std::string all;
    for (const auto& n : c.class_names) all += (all.empty() ? "" : ", ") + n;
    throw usage_error("\"" + s.text + "\": no class \"" + word + "\"; " +
                      (all.empty() ? "use 0 to " + std::to_string(c.classes - 1) : "known: " + all));
  }
  return int(id);
}

std::vector<std::string> split(const std::string& text, char at) {
  std::vector<std::string> parts(1);
  for (const char c : text)
    if (c == at)
      parts.emplace_back();
    else
      parts.back() += c;
  return parts;
}

double amount(const scene::stage_spec& s, const std::string& key, const std::string& value) {
  char* rest = nullptr;
  const double x = std::strtod(value.c_str(), &rest);
  if (value.empty() || *rest || !(x >= 0)) throw usage_error("\"" + s.text + "\": " + key + "=" + value + " is no number of 0 or more");
  return x;
}

/// Network and weights of a trained stage; one of `allowed`.
scene::refiner trained(const scene::stage_spec& s, const stage_context& c, std::initializer_list<const char*> allowed) {
  const std::string file = s.word("weights");
  std::string names;
  for (const char* a : allowed) names += (names.empty() ? "" : " or ") + std::string(a);
  if (file.empty()) throw usage_error("--refine " + s.name + " needs weights: " + s.name + ":weights=FILE, trained with rsseg train --net " + names);
  load_request q;
  q.weights = file, q.segmenter = false, q.classes = 0, q.bands = c.bands, q.image = "the scene";
  loaded_network n = load_network(q);
  bool fits = false;
  for (const char* a : allowed) fits = fits || n.info.network == a;
  if (!fits) throw usage_error(file + ": belongs to network '" + n.info.network + "', --refine " + s.name + " expects " + names);
  auto placed = std::make_unique<scene::placed_network>(n.model->build(), n.model->options(), c.where);
  placed->weights().values() = n.model->weights().values();
  placed->weights().touch();
  placed->set_memory_limit(c.max_memory);
  return {n.info.network, std::move(placed), n.normalize, n.info.classes, n.info.bands};
}

/// The weights of a refiner in another network that shares its parameters.
std::unique_ptr<scene::placed_network> sibling(const scene::refiner& r, build_function build, const stage_context& c) {
  auto m = std::make_unique<scene::placed_network>(build, r.model->options(), c.where);
  m->set_memory_limit(c.max_memory);
  for (std::size_t e = 0; e < m->weights().entries().size(); ++e) {
    const auto& t = m->weights().entries()[e];
    const int from = r.model->weights().find(t.name);
    if (from < 0) throw input_error("stage " + r.name + ": its weights lack " + t.name);
    std::copy_n(r.model->weights().data(from), t.size, m->weights().data(int(e)));
  }
  m->weights().touch();
  return m;
}

std::unique_ptr<scene::stage> refining(const std::string& text, const stage_context& c) {
  const scene::stage_spec s = scene::stage_spec::parse(text);
  if (auto f = scene::filter_stage(s)) return f;
  const int tile = s.whole("tile", 512, 32, 1 << 16);
  if (s.name == "iss") {
    s.only({"weights", "steps", "tile"});
    scene::refiner r = trained(s, c, {"iss-refiner"});
    r.model = sibling(r, &ISSRefiner<from_data, 1, false, false, true>::build, c);
    return std::make_unique<scene::iss_stage>(std::move(r), s.whole("steps", 3, 1, 20), tile, s.text);
  }
  if (s.name == "deep-guided") {
    s.only({"weights", "tile"});
    return std::make_unique<scene::deep_guided_stage>(trained(s, c, {"dgf-head"}), tile, s.text);
  }
  if (s.name == "crf-rnn") {
    s.only({"weights", "tile", "overlap"});
    return std::make_unique<scene::crf_rnn_stage>(trained(s, c, {"crf-rnn"}), s.whole("overlap", 64, 0, 4096), tile, s.text);
  }
  if (s.name == "pointrend") {
    s.only({"weights", "margin", "steps", "tile"});
    return std::make_unique<scene::point_stage>(trained(s, c, {"pointrend-refiner"}), s.number("margin", 0.5, 0, 1), s.whole("steps", 0, 0, 5), tile,
                                                s.text);
  }
  if (s.name == "cascadepsp") {
    s.only({"weights", "size", "stride", "region", "ramp"});
    scene::refiner r = trained(s, c, {"cascadepsp", "cascadepsp-16"});
    scene::cascade_options o;
    o.size = s.whole("size", 900, 64, 1 << 14), o.stride = s.whole("stride", o.size / 2, 33, 1 << 14), o.ramp = s.whole("ramp", 16, 0, 512);
    const int region = s.whole("region", o.size, 64, 1 << 16);
    auto local = sibling(r, r.name == "cascadepsp" ? &CascadePSPLocal<>::build : &CascadePSPLocal<18, 16>::build, c);
    return std::make_unique<scene::cascade_psp_stage>(std::move(r), std::move(local), o, std::max(32, region - 4 * o.ramp), s.text);
  }
  throw usage_error("--refine " + s.name + ": unknown; use densecrf, guided, regions, iss, deep-guided, crf-rnn, pointrend, cascadepsp");
}

std::unique_ptr<scene::stage> constraining(const std::string& text, const stage_context& c) {
  const scene::stage_spec s = scene::stage_spec::parse(text);
  const int tile = s.whole("tile", 512, 32, 1 << 16);
  if (s.name == "forbid") {
    s.only({"class", "where", "below", "above", "tile"});
    if (!s.has("where") || (!s.has("below") && !s.has("above")))
      throw usage_error("--constraint \"" + text + "\": expected forbid:class=NAME,where=RASTER,below=VALUE (or above=VALUE)");
    const double inf = std::numeric_limits<double>::infinity();
    return std::make_unique<scene::forbid_stage>(class_of(s, s.word("class"), c), io::open_raster(s.word("where")), s.number("below", -inf),
                                                 s.number("above", inf), tile, s.text);
  }
  if (s.name == "neighbours") {
    s.only({"pairs", "penalty", "tile"});
    return std::make_unique<scene::neighbours_stage>(class_pairs(s, c), s.number("penalty", 2, 0, 1e6), tile, s.text);
  }
  if (s.name == "size") {
    std::vector<std::int64_t> pixels(std::size_t(c.classes), 0);
    for (const auto& [key, value] : s.values)
      for (int k = 0; k < c.classes && key != "tile"; ++k)
        if (key == "all" || k == class_of(s, key, c)) pixels[std::size_t(k)] = std::int64_t(amount(s, key, value));
    if (s.values.empty()) throw usage_error("\"" + text + "\": expected size:CLASS=PIXELS,...");
    return std::make_unique<scene::size_stage>(std::move(pixels), tile, s.text);
  }
  if (s.name == "area") {
    std::vector<double> least, most;
    class_bounds(s, c, least, most);
    return std::make_unique<scene::area_stage>(std::move(least), std::move(most), s.text);
  }
  throw usage_error("--constraint " + s.name + ": unknown; use forbid, neighbours, size, area");
}

}  // namespace

std::vector<std::pair<int, int>> class_pairs(const scene::stage_spec& s, const stage_context& c) {
  std::vector<std::pair<int, int>> pairs;
  for (const auto& pair : split(s.word("pairs"), '+')) {
    const auto two = split(pair, '/');
    if (two.size() != 2) throw usage_error("\"" + s.text + "\": expected pairs=A/B+C/D");
    pairs.emplace_back(class_of(s, two[0], c), class_of(s, two[1], c));
  }
  return pairs;
}

void class_bounds(const scene::stage_spec& s, const stage_context& c, std::vector<double>& least, std::vector<double>& most) {
  least.assign(std::size_t(c.classes), 0.0), most.assign(std::size_t(c.classes), 1.0);
  bool any = false;
  for (const auto& [key, value] : s.values) {
    if (key == "weight") continue;
    any = true;
    const auto bounds = split(value, '-');
    if (bounds.size() != 2) throw usage_error("\"" + s.text + "\": expected CLASS=LEAST-MOST, shares in 0..1");
    for (int k = 0; k < c.classes; ++k)
      if (key == "all" || k == class_of(s, key, c))
        least[std::size_t(k)] = amount(s, key, bounds[0]), most[std::size_t(k)] = amount(s, key, bounds[1]);
  }
  double sum_least = 0, sum_most = 0;
  for (int k = 0; k < c.classes; ++k) {
    if (least[std::size_t(k)] > most[std::size_t(k)] || most[std::size_t(k)] > 1)
      throw usage_error("\"" + s.text + "\": shares need 0 <= least <= most <= 1");
    sum_least += least[std::size_t(k)], sum_most += most[std::size_t(k)];
  }
  if (!any || sum_least > 1 || sum_most < 1)
    throw usage_error("\"" + s.text + "\": " + (any ? "the shares cannot add up to 1" : "expected CLASS=LEAST-MOST,..."));
}

scene::stage_list make_stages(const std::vector<std::string>& refine, const std::vector<std::string>& constraints, const stage_context& c) {
  scene::stage_list all;
  for (const auto& text : refine) all.push_back(refining(text, c));
  for (const auto& text : constraints) all.push_back(constraining(text, c));
  return all;
}

}  // namespace rsseg::program
