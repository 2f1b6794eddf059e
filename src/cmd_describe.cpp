// SPDX-License-Identifier: MIT
// rsseg list, rsseg describe; and what the other commands share about networks.
#include <algorithm>
#include <cstdio>

#include "commands.hpp"
#include "rsseg/graph/figure.hpp"
#include "rsseg/graph/training.hpp"
#include "rsseg/io/safetensors.hpp"
#include "rsseg/scene/tile_grid.hpp"
#include "rsseg/train/refiner_inputs.hpp"

namespace rsseg::program {

shape parse_shape(const std::string& text) {
  shape s;
  char rest = 0;
  if (std::sscanf(text.c_str(), "%9d,%9d,%9d,%9d%c", &s.n, &s.c, &s.h, &s.w, &rest) != 4 || s.n < 1 || s.c < 1 || s.h < 1 || s.w < 1 ||
      s.size() > (std::int64_t(1) << 40))
    throw usage_error("--input \"" + text + "\": expected N,C,H,W such as 1,3,512,512");
  return s;
}

std::string with_units(double n) {
  char t[32];
  if (n >= 1e9)
    std::snprintf(t, sizeof t, "%.2f G", n / 1e9);
  else if (n >= 1e6)
    std::snprintf(t, sizeof t, "%.2f M", n / 1e6);
  else if (n >= 1e3)
    std::snprintf(t, sizeof t, "%.1f k", n / 1e3);
  else
    std::snprintf(t, sizeof t, "%.0f", n);
  return t;
}

namespace {
/// "multiples of 16 plus 12 from 204": the sides that a network takes.
std::string legal_sides(const network_entry& e) {
  const int least = scene::size_rule{e.size_multiple, e.size_offset, e.minimum_size, 1}.at_least(1);
  std::string text = e.size_multiple > 1 ? "multiples of " + std::to_string(e.size_multiple) : "any";
  if (e.size_offset) text += " plus " + std::to_string(e.size_offset);
  return text + " from " + std::to_string(least);
}
}  // namespace

loaded_network load_network(const load_request& r) {
  loaded_network n;
  const io::safetensors_reader file(r.weights);
  n.info = train::weights_info::from(file);
  if (r.net.empty() && n.info.network.empty())
    throw usage_error(r.weights + ": does not say which network it belongs to; give --net" + std::string(r.classes ? "" : " and --classes"));
  if (!r.net.empty() && !n.info.network.empty() && r.net != n.info.network)
    throw usage_error(r.weights + ": belongs to network '" + n.info.network + "', --net says '" + r.net + "'");
  n.entry = &network_named(r.net.empty() ? n.info.network : r.net);
  if (r.segmenter && !n.entry->segmenter)
    throw usage_error("network '" + std::string(n.entry->name) + "' does not map one image to one label map; it is a part of a larger system");
  if (r.classes && n.info.classes && r.classes != n.info.classes)
    throw usage_error(r.weights + ": has " + std::to_string(n.info.classes) + " classes, --classes says " + std::to_string(r.classes));
  if (r.bands && n.info.bands && r.bands != n.info.bands)
    throw usage_error(r.weights + ": was trained on images of " + std::to_string(n.info.bands) + " bands, " + r.image + " has " +
                      std::to_string(r.bands));
  if (!n.info.classes) n.info.classes = r.classes;
  if (!n.info.bands) n.info.bands = r.bands ? r.bands : 3;
  if (!n.info.classes) throw usage_error(r.weights + ": does not say how many classes it has; give --classes");
  if (n.info.classes < 1 || n.info.classes > 255 || n.info.bands < 1 || n.info.bands > 4096)
    throw input_error(r.weights + ": its metadata names " + std::to_string(n.info.classes) + " classes and " + std::to_string(n.info.bands) +
                      " bands, which cannot be");
  n.info.network = n.entry->name;
  build_options o;
  o.classes = n.info.classes, o.bands = n.info.bands;
  if (n.info.inputs.size() > std::size_t(build_options::most_modalities)) throw input_error(r.weights + ": its metadata names too many inputs");
  for (std::size_t i = 0; i < n.info.inputs.size(); ++i) o.modalities[i] = n.info.inputs[i].second;
  n.model = std::make_unique<basic_model<float>>(n.entry->build, o);
  train::load_weights(file, n.model->weights());
  const std::string norm = !r.normalize.empty() ? r.normalize : !n.info.normalize.empty() ? n.info.normalize : "imagenet";
  n.normalize = data::normalization::parse(norm);
  n.info.normalize = norm;
  n.palette = io::default_palette(n.info.classes, n.info.ignore_id);
  for (std::size_t k = 0; k < n.info.class_names.size() && k < n.palette.names.size(); ++k) n.palette.names[k] = n.info.class_names[k];
  for (std::size_t k = 0; k < n.info.colours.size() && k < n.palette.colors.size(); ++k) {
    const auto& c = n.info.colours[k];
    n.palette.colors[k] = {std::uint8_t(c[0]), std::uint8_t(c[1]), std::uint8_t(c[2])};
  }
  return n;
}

void add_list(CLI::App& app, common_options& common) {
  auto* cmd = app.add_subcommand("list", "the networks, by name");
  auto systems = std::make_shared<bool>(false);
  cmd->add_flag("--systems", *systems, "the systems of several networks, their stages and modes");
  cmd->callback([&common, systems] {
    if (*systems) return print_systems(common);
    if (common.json) {
      nlohmann::json j = nlohmann::json::array();
      for (const network_entry* e : networks())
        j.push_back({{"name", e->name},
                     {"title", e->title},
                     {"paper", e->paper},
                     {"note", e->note},
                     {"size_multiple", e->size_multiple},
                     {"size_offset", e->size_offset},
                     {"segmenter", e->segmenter},
                     {"refiner", train::is_refiner(e->name)},
                     {"recipe",
                      {{"optimizer", e->defaults.optimizer},
                       {"learning_rate", e->defaults.learning_rate},
                       {"momentum", e->defaults.momentum},
                       {"weight_decay", e->defaults.weight_decay},
                       {"schedule", e->defaults.schedule},
                       {"batch", e->defaults.batch},
                       {"crop", e->defaults.crop}}}});
      std::printf("%s\n", j.dump(1).c_str());
      return;
    }
    int names = 0, titles = 0;
    for (const network_entry* e : networks()) {
      names = std::max(names, int(std::string_view(e->name).size()));
      titles = std::max(titles, int(std::string_view(e->title).size()));
    }
    for (const network_entry* e : networks()) std::printf("%-*s  %-*s  %s\n", names, e->name, titles, e->title, e->paper);
  });
}

namespace {
/// The layer where the arena is fullest. Gradients have no name and take that of a layer they come from.
std::string fullest(const graph::graph& g, const memory_plan& p) {
  int id = p.peak_node;
  for (int next; id >= 0 && g.name_of(id).empty(); id = next) {
    next = -1;
    for (int k = 0; k < g.nodes[id].input_count; ++k)
      if (const int in = g.input_of(id, k); next < 0 || !g.name_of(in).empty()) next = in;
  }
  return id >= 0 ? std::string(g.name_of(id)) : "";
}

/// One object for each value that lives in the arena.
nlohmann::json plan_json(const cpu::engine<float>& e) {
  const memory_plan& p = e.plan();
  const graph::graph& g = e.graph();
  nlohmann::json values = nlohmann::json::array();
  for (int i = 0; i < g.nodes.size(); ++i) {
    const plan_entry& q = p.entries[std::size_t(i)];
    if (q.where != storage::arena) continue;
    values.push_back({{"scope", std::string(g.name_of(i))},
                      {"operator", graph::detail::brief(g, i)},
                      {"offset", q.offset},
                      {"bytes", q.bytes},
                      {"backward", g.nodes[i].pass != 0},
                      {"shares", q.alias_of >= 0}});
  }
  return {{"arena_bytes", p.arena_bytes}, {"fullest", fullest(g, p)}, {"values", std::move(values)}};
}
}  // namespace

void add_describe(CLI::App& app, common_options& common) {
  struct options {
    std::string net, input;
    int classes = 6, depth = 0;
    bool memory = false, svg = false, dot = false, mermaid = false, layers = false, train = false;
  };
  auto o = std::make_shared<options>();
  auto* cmd = app.add_subcommand("describe", "parameters, multiply-adds, memory, and drawings of a network");
  cmd->add_option("net", o->net, "network, see rsseg list")->required();
  cmd->add_option("--input", o->input, "N,C,H,W of the input (default: a legal size near 1,3,512,512)");
  cmd->add_option("--classes", o->classes, "number of classes")->check(CLI::Range(1, 255))->capture_default_str();
  cmd->add_flag("--memory", o->memory, "where every value lives in the arena, inference and one training step");
  cmd->add_flag("--layers", o->layers, "one line for each convolution and other operator");
  cmd->add_flag("--svg", o->svg, "the figure as SVG: one column per resolution");
  cmd->add_flag("--dot", o->dot, "Graphviz source of the figure");
  cmd->add_flag("--mermaid", o->mermaid, "Mermaid source of the figure");
  cmd->add_option("--depth", o->depth, "scope components that make a box of the figure (0: chosen by their number)")->check(CLI::Range(0, 9));
  cmd->callback([o, &common] {
    const network_entry& e = network_named(o->net);
    shape in{1, 3, 512, 512};
    const auto legal = [&](int n) {
      return std::max(e.minimum_size,
                      (std::max(n, e.minimum_size) - e.size_offset + e.size_multiple - 1) / e.size_multiple * e.size_multiple + e.size_offset);
    };
    if (!o->input.empty())
      in = parse_shape(o->input);
    else
      in.h = legal(512), in.w = legal(512);
    build_options b;
    b.classes = o->classes, b.bands = in.c;
    graph::graph g = lower_network(e.build, b);
    graph::prune(g, false);
    // Networks of several inputs: all of one size, each with its own channels.
    graph::graph_error fault;
    std::vector<shape> inputs;
    for (int i = 0; i < g.nodes.size(); ++i)
      if (g.nodes[i].kind == graph::op::input) inputs.push_back({in.n, g.nodes[i].channels, in.h, in.w});
    const graph::list<shape> s = graph::extents_for(g, inputs.data(), int(inputs.size()), fault);
    if (fault.what != graph::fault::none)
      throw usage_error(std::string(e.name) + ", input " + std::to_string(in.h) + "x" + std::to_string(in.w) + ": " + describe_error(g, fault) +
                        "; legal sides are " + legal_sides(e));
    if (o->svg) {
      std::printf("%s", graph::to_svg(g, s.begin(), std::string(e.title) + ", " + graph::extent_text(in), o->depth).c_str());
      return;
    }
    if (o->dot) {
      std::printf("%s", graph::to_dot(g, s.begin(), std::string(e.title) + ", " + graph::extent_text(in), o->depth).c_str());
      return;
    }
    if (o->mermaid) {
      std::printf("%s", graph::to_mermaid(g, s.begin(), o->depth).c_str());
      return;
    }
    basic_model<float> model(e.build, b);
    cpu::engine<float>& engine = model.inference();
    engine.plan_only(inputs);
    build_options tb = b;
    tb.training = true;
    graph::graph tg = lower_network(e.build, tb);
    graph::make_training_graph(tg);
    std::int64_t train_bytes = 0, recompute_bytes = 0;
    int train_nodes = tg.nodes.size();
    const auto arena_of = [&](graph::graph graph_, std::int64_t& bytes) {
      cpu::engine<float> t(std::move(graph_), model.weights());
      t.plan_only(inputs);
      bytes = std::int64_t(t.bytes());
    };
    if (tg.error.what == graph::fault::none) {
      try {
        graph::graph cheap = tg;
        graph::recompute_cheap(cheap);
        arena_of(std::move(cheap), recompute_bytes);
        arena_of(std::move(tg), train_bytes);
      } catch (const usage_error&) {
      }
    }
    const std::int64_t macs = graph::total_macs(g, inputs.data(), int(inputs.size()));
    const std::int64_t parameters = model.weights().parameter_count();
    const auto field = graph::receptive_field_of(g, inputs.data(), int(inputs.size()));
    const shape out = s[g.outputs[0].node];
    // The training step's plan once more, with the engine kept.
    const auto training_plan = [&](const auto& use) {
      graph::graph again = lower_network(e.build, tb);
      graph::make_training_graph(again);
      if (again.error.what != graph::fault::none || train_bytes == 0) return;
      graph::recompute_cheap(again);
      cpu::engine<float> t(std::move(again), model.weights());
      t.plan_only(inputs);
      use(t);
    };
    if (common.json) {
      nlohmann::json j = {{"name", e.name},
                          {"title", e.title},
                          {"paper", e.paper},
                          {"input", {in.n, in.c, in.h, in.w}},
                          {"output", {out.n, out.c, out.h, out.w}},
                          {"classes", o->classes},
                          {"parameters", parameters},
                          {"macs", macs},
                          {"inference_bytes", engine.bytes()},
                          {"training_bytes", train_bytes},
                          {"training_bytes_recompute", recompute_bytes},
                          {"receptive_field", {field.h, field.w}},
                          {"global", field.everything},
                          {"nodes", g.nodes.size()},
                          {"training_nodes", train_nodes}};
      if (o->layers) {
        j["layers"] = nlohmann::json::array();
        for (int i = 0; i < g.nodes.size(); ++i)
          if (graph::detail::drawn(g.nodes[i].kind))
            j["layers"].push_back({{"scope", std::string(g.name_of(i))},
                                   {"operator", graph::detail::brief(g, i)},
                                   {"output", {s[i].n, s[i].c, s[i].h, s[i].w}},
                                   {"macs", graph::macs_of(g, i, s.begin())}});
      }
      if (o->memory) {
        j["memory"]["inference"] = plan_json(engine);
        training_plan([&](const cpu::engine<float>& t) { j["memory"]["training"] = plan_json(t); });
      }
      std::printf("%s\n", j.dump(1).c_str());
      return;
    }
    std::printf("%s (%s)\n%s\n%s\n\n", e.title, e.name, e.paper, e.note);
    std::printf("input            %d x %d x %d x %d (legal sides: %s)\n", in.n, in.c, in.h, in.w, legal_sides(e).c_str());
    std::printf("output           %s\n", graph::extent_text(out).c_str());
    std::printf("parameters       %s (%lld)\n", with_units(double(parameters)).c_str(), static_cast<long long>(parameters));
    std::printf("multiply-adds    %s\n", with_units(double(macs)).c_str());
    std::printf("receptive field  %s%.0f x %.0f pixels\n", field.everything ? "everything; local part " : "", field.h, field.w);
    std::printf("memory           inference %.1f MiB, one training step %.1f MiB (%.1f MiB without recomputation), weights %.1f MiB\n",
                double(engine.bytes()) / 1048576, double(recompute_bytes) / 1048576, double(train_bytes) / 1048576, double(parameters) * 4 / 1048576);
    std::printf("graph            %d nodes, %d in training\n", g.nodes.size(), train_nodes);
    for (const graph::output& q : g.outputs)
      std::printf("output '%s'  %s%s\n", std::string(g.name_of(q)).c_str(), graph::extent_text(s[q.node]).c_str(),
                  q.loss_weight > 0 ? ", supervised" : "");
    if (o->layers) {
      std::printf("\n%-44s %-28s %18s %10s\n", "scope", "operator", "output", "MACs");
      for (int i = 0; i < g.nodes.size(); ++i)
        if (graph::detail::drawn(g.nodes[i].kind))
          std::printf("%-44s %-28s %18s %10s\n", std::string(g.name_of(i)).c_str(), graph::detail::brief(g, i).c_str(),
                      graph::extent_text(s[i]).c_str(), with_units(double(graph::macs_of(g, i, s.begin()))).c_str());
    }
    if (o->memory) {
      const auto print_plan = [](const char* what, const cpu::engine<float>& e) {
        const memory_plan& p = e.plan();
        const graph::graph& pg = e.graph();
        const column_traffic moved = column_traffic_of(pg, p);
        std::printf("\narena of %s: %.1f MiB, fullest at '%s'; concatenations and slices copy %.1f of %.1f MiB\n%-44s %-22s %12s %12s\n", what,
                    double(p.arena_bytes) / 1048576, fullest(pg, p).c_str(), double(moved.copied) / 1048576, double(moved.all) / 1048576, "scope",
                    "operator", "offset", "bytes");
        for (int i = 0; i < pg.nodes.size(); ++i) {
          const plan_entry& q = p.entries[std::size_t(i)];
          if (q.where != storage::arena) continue;
          std::string where;
          if (q.pitch > 0) {
            const plan_entry& whole = p.entries[std::size_t(q.alias_of)];
            const std::size_t column = (q.offset - whole.offset) / sizeof(float);
            where = "  columns " + std::to_string(column) + "-" + std::to_string(column + std::size_t(p.extents[std::size_t(i)].c) - 1) + " of " +
                    std::to_string(q.pitch) + " at " + std::to_string(whole.offset);
          } else if (q.alias_of >= 0) {
            where = "  in place";
          }
          std::printf("%-44s %-22s %12zu %12zu%s%s\n", std::string(pg.name_of(i)).c_str(), graph::detail::brief(pg, i).c_str(), q.offset, q.bytes,
                      pg.nodes[i].pass ? "  backward" : "", where.c_str());
        }
      };
      print_plan("inference", engine);
      training_plan([&](const cpu::engine<float>& t) { print_plan("a training step", t); });
    }
  });
}

}  // namespace rsseg::program
