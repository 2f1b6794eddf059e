// SPDX-License-Identifier: MIT
// Checks a parity manifest: fills a network by formula, runs it, and compares with the numbers the manifest states. Eval in the scalar
// asked for; the training step (outputs, loss, gradients, running statistics, weighted losses) in double, since a step with batch
// statistics on small maps is chaotic in float.
// Unit of error: max |difference| / RMS of the reference tensor; the loss is relative.
#pragma once
#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "rsseg/model/model.hpp"
#include "rsseg/parity/fill.hpp"
#include "rsseg/parity/fixture_reader.hpp"
#include "rsseg/parity/registry.hpp"

namespace rsseg::parity {

using json = nlohmann::json;

namespace detail {

inline const json& field(const json& j, const char* name) {
  if (!j.is_object() || !j.contains(name)) throw input_error("field '" + std::string(name) + "' is missing; not a network manifest of format 1");
  return j.at(name);
}

/// Element of our tensor (NHWC) at a flat C-order index of the reference's shape. Three dimensions (N, rows, columns) are matrices:
/// our memory order; (N, C, pixels) and four dimensions are NCHW.
inline std::size_t element_at(const shape& s, const std::vector<int>& dims, std::size_t flat) {
  const bool rows = dims.size() == 3 && dims[1] == s.h * s.w && dims[2] == s.c;
  if (rows || dims.size() <= 1) return flat;
  const std::size_t hw = std::size_t(s.h) * s.w, c = std::size_t(s.c);
  const std::size_t n = flat / (c * hw), ci = flat / hw % c, p = flat % hw;
  return (n * hw + p) * c + ci;
}

inline std::vector<int> dims_of(const json& probe) { return probe.at("shape").get<std::vector<int>>(); }

/// Worst |difference| / RMS of a probe. value(i): our element at flat index i; total: the number of elements; floor: RMS below which the
/// reference counts as zero (mathematically zero gradients are stored as rounding noise).
template <class Value>
double probe_error(const json& probe, std::size_t total, const Value& value, double floor = 0) {
  const double rms = std::sqrt(std::max(0.0, probe.at("l2").get<double>() * probe.at("l2").get<double>() / double(std::max<std::size_t>(1, total))));
  const double unit = std::max({rms, floor, 1e-300});
  double worst = 0, sum = 0, squares = 0;
  for (std::size_t i = 0; i < total; ++i) {
    const double v = value(i);
    if (!std::isfinite(v)) return 1e300;
    sum += v, squares += v * v;
  }
  for (const json& s : probe.at("samples")) {
    const std::size_t i = s.at(0).get<std::size_t>();
    if (i >= total) return 1e300;
    worst = std::max(worst, std::abs(value(i) - s.at(1).get<double>()) / unit);
  }
  if (probe.contains("mean")) worst = std::max(worst, std::abs(sum / double(total) - probe.at("mean").get<double>()) / unit);
  worst = std::max(worst, std::abs(std::sqrt(squares / double(total)) - rms) / unit);
  return worst;
}

template <class T>
struct filled_model {
  std::unique_ptr<basic_model<T>> model;
  std::vector<tensor<T>> inputs;
  std::vector<std::vector<T>> noise;  // one per noise node, in order
};

inline shape input_shape(const std::vector<int>& d, int channels) {
  if (d.size() == 4) return {d[0], d[1], d[2], d[3]};
  if (d.size() == 3) return d[1] == channels ? shape{d[0], d[1], d[2], 1} : shape{d[0], d[2], d[1], 1};
  throw input_error("inputs: expected 3 or 4 dimensions");
}

template <class T>
filled_model<T> fill_model(const json& m, const parity_case& definition) {
  filled_model<T> f;
  build_options o;
  o.classes = field(m, "num_classes").get<int>();
  o.dropout = false;
  const json& inputs = field(m, "inputs");
  for (const auto& [name, dims] : inputs.items())
    if (name != "noise") {
      const auto d = dims.template get<std::vector<int>>();
      if (d.size() == 4 && o.bands == 0) o.bands = d[1];
    }
  if (inputs.contains("image") && inputs.at("image").size() == 4) o.bands = inputs.at("image").at(1).get<int>();
  if (inputs.contains("x") && inputs.at("x").size() == 4) o.bands = inputs.at("x").at(1).get<int>();
  if (inputs.contains("rgb") && inputs.at("rgb").size() == 4) o.bands = inputs.at("rgb").at(1).get<int>();
  f.model = std::make_unique<basic_model<T>>(definition.build, o);

  const parity::parity_fill fill(field(m, "fill_prefix").get<std::string>());
  parameter_store<T>& w = f.model->weights();
  std::vector<bool> seen(w.entries().size(), false);
  for (const json& s : field(m, "state")) {
    const std::string name = s.at("name").get<std::string>();
    const int e = w.find(name);
    if (e < 0) throw error("state '" + name + "': the network has no such parameter");
    const auto dims = s.at("shape").get<std::vector<std::int64_t>>();
    const stored_tensor& t = w.entries()[std::size_t(e)];
    std::int64_t product = 1;
    for (auto d : dims) product *= d;
    if (dims != t.dims() &&
        !(dims.size() != t.dims().size() && product == std::int64_t(t.size) && (dims.size() < 2 || t.at.rank < 2 || t.at.rank != 4))) {
      std::string ours;
      for (auto d : t.dims()) ours += (ours.empty() ? "" : "x") + std::to_string(d);
      throw error("state '" + name + "': the network has shape " + ours + ", the manifest " + s.at("shape").dump());
    }
    w.from_file_order(e, fill.template operator()<T>(name, t.size, s.at("lo").get<double>(), s.at("hi").get<double>()).data());
    seen[std::size_t(e)] = true;
  }
  for (std::size_t e = 0; e < seen.size(); ++e)
    if (!seen[e]) throw error("the network has '" + w.entries()[e].name + "', which the manifest does not list");

  const graph::graph g = lower_network(definition.build, o);
  std::size_t taken = 0;
  for (int i = 0; i < g.nodes.size(); ++i) {
    if (g.nodes[i].kind != graph::op::input) continue;
    const std::string name(g.name_of(i));
    std::string key = name;
    if (!inputs.contains(key)) {
      if (inputs.size() != 1) throw input_error("inputs: the network's input '" + name + "' is missing");
      key = inputs.begin().key();
    }
    const auto dims = inputs.at(key).template get<std::vector<int>>();
    const shape s = input_shape(dims, g.nodes[i].channels);
    tensor<T> x(s);
    const auto v = fill.template operator()<T>("input." + key, x.size(), -1, 1);
    const bool rows = dims.size() == 3 && dims[1] != g.nodes[i].channels;
    for (std::size_t k = 0; k < v.size(); ++k) x.data()[rows ? k : element_at(s, {s.n, s.c, s.h, s.w}, k)] = v[k];
    f.inputs.push_back(std::move(x));
    ++taken;
  }
  if (inputs.contains("noise")) {
    std::size_t count = 1;
    for (const json& d : inputs.at("noise")) count *= d.template get<std::size_t>();
    f.noise.push_back(fill.template operator()<T>("input.noise", count, -1, 1));
  }
  return f;
}

template <class T>
std::vector<const tensor<T>*> pointers(const std::vector<tensor<T>>& inputs) {
  std::vector<const tensor<T>*> p;
  for (const auto& x : inputs) p.push_back(&x);
  return p;
}

/// Gives each noise node, in order, the next slice of the manifest's noise input.
template <class T>
void feed_noise(cpu::engine<T>& e, const std::vector<std::vector<T>>& noise) {
  if (noise.empty()) return;
  std::size_t at = 0;
  for (int i = 0; i < e.graph().nodes.size(); ++i) {
    if (e.graph().nodes[i].kind != graph::op::noise) continue;
    const std::size_t size = std::size_t(e.extent(i).size());
    if (at + size > noise[0].size()) throw error("the manifest's noise input is too small");
    e.set_noise(i, noise[0].data() + at);
    at += size;
  }
}

template <class T>
void compare_outputs(const json& expected, const cpu::engine<T>& e, const std::string& group, double tolerance, std::vector<fixture_result>& out) {
  double worst = 0;
  std::string where;
  for (const auto& [name, probe] : expected.items()) {
    const int which = e.graph().find_output(name);
    if (which < 0) throw error(group + ": the network has no output '" + name + "'");
    const int node = e.graph().outputs[which].node;
    const shape s = e.extent(node);
    const auto dims = dims_of(probe);
    std::size_t total = 1;
    for (int d : dims) total *= std::size_t(d);
    if (total != std::size_t(s.size()))
      throw error(group + ": output '" + name + "' is (" + std::to_string(s.n) + "," + std::to_string(s.c) + "," + std::to_string(s.h) + "," +
                  std::to_string(s.w) + "), the manifest has " + probe.at("shape").dump());
    const T* v = e.value(node);
    const double err = probe_error(probe, total, [&](std::size_t i) { return double(v[element_at(s, dims, i)]); });
    if (err >= worst) worst = err, where = name;
  }
  out.push_back({group + " (" + where + ")", worst, tolerance});
}

/// Target formula of the manifests: t(n, y, x) = (3n + 5y + 7x) mod K at the target's own extent.
template <class T>
void feed_targets(cpu::engine<T>& e, int classes_of_first) {
  for (auto& [node, values] : e.targets()) {
    const shape s = e.extent(node);
    const int like = e.graph().input_of(node, 0);
    const int k = e.extent(like).c > 1 ? e.extent(like).c : classes_of_first;
    std::size_t at = 0;
    for (int n = 0; n < s.n; ++n)
      for (int y = 0; y < s.h; ++y)
        for (int x = 0; x < s.w; ++x) values[at++] = (3 * n + 5 * y + 7 * x) % k;
  }
}

inline void compare_gradients(const json& expected, basic_model<double>& m, const std::string& group, double tolerance,
                              std::vector<fixture_result>& out) {
  const auto& w = m.weights();
  const auto& grads = m.training().gradients();
  double largest = 0;
  for (const auto& [name, probe] : expected.items()) {
    if (probe.is_null()) continue;
    const int e = w.find(name);
    if (e < 0) throw error(group + ": the network has no parameter '" + name + "'");
    largest = std::max(largest, probe.at("l2").get<double>() / std::sqrt(double(w.entries()[std::size_t(e)].size)));
  }
  double worst = 0;
  std::string where = "-";
  for (const auto& [name, probe] : expected.items()) {
    const int e = w.find(name);
    if (e < 0) throw error(group + ": the network has no parameter '" + name + "'");
    const stored_tensor& t = w.entries()[std::size_t(e)];
    std::vector<double> g(t.size);
    parameter_store<double>::reorder(t, [&](std::size_t file, std::size_t here) { g[file] = grads[t.offset + here]; });
    double err = 0;
    if (probe.is_null()) {
      for (double v : g) err = std::max(err, v == 0 ? 0.0 : 1e300);
    } else {
      const double rms = probe.at("l2").get<double>() / std::sqrt(double(t.size));
      // Mathematically zero gradients are rounding noise on both sides: compared with a floor relative to the largest gradient.
      const bool zero = rms < 1e-9 * largest;
      err = probe_error(
          probe, t.size, [&](std::size_t i) { return g[i]; }, zero ? 1e-9 * largest / tolerance : 0);
    }
    if (err >= worst) worst = err, where = name;
  }
  out.push_back({group + " (" + where + ")", worst, tolerance});
}

}  // namespace detail

/// Runs the eval section in T (float or double).
template <class T>
void check_eval(const json& m, const parity_case& definition, std::vector<fixture_result>& out) {
  auto f = detail::fill_model<T>(m, definition);
  const bool block = std::string_view(definition.system) == "block";
  const double tolerance = sizeof(T) == 8 ? 1e-9 : block ? 1e-5 : 1e-4;
  const auto inputs = detail::pointers(f.inputs);
  std::vector<shape> extents;
  for (const auto* x : inputs) extents.push_back(x->extent());
  auto& e = f.model->inference();
  e.plan_for(extents);
  detail::feed_noise(e, f.noise);
  f.model->run(inputs);
  detail::compare_outputs(detail::field(m, "eval"), e, sizeof(T) == 8 ? "eval double" : "eval float", tolerance, out);
}

/// Runs `train` and `train_weighted` in double.
inline void check_train(const json& m, const parity_case& definition, std::vector<fixture_result>& out, bool recompute = false) {
  const double tolerance = definition.train_tolerance > 0 ? definition.train_tolerance : std::string_view(definition.system) == "block" ? 1e-9 : 1e-6;
  for (const char* section : {"train", "train_weighted"}) {
    if (!m.contains(section)) continue;
    const json& t = m.at(section);
    const bool weighted = std::string_view(section) == "train_weighted";
    auto f = detail::fill_model<double>(m, definition);
    basic_model<double>& model = *f.model;
    graph::loss_options loss;
    loss.own_extent = true;
    loss.ignore = -1;
    build_options o = model.options();
    o.training = true;
    graph::graph g = lower_network(definition.build, o);
    if (weighted) {
      for (graph::output& out_ : g.outputs) {
        const std::string name(g.name_of(out_));
        out_.loss_weight = t.at("loss_terms").contains(name) ? t.at("loss_terms").at(name).get<double>() : 0.0;
      }
      g.penalties.clear();
    } else {
      loss.first_output_only = true;
    }
    model.prepare_training(std::move(g), loss, recompute);
    const auto inputs = detail::pointers(f.inputs);
    std::vector<shape> extents;
    for (const auto* x : inputs) extents.push_back(x->extent());
    auto& e = model.training();
    e.plan_for(extents);
    for (std::size_t k = 0; k < inputs.size(); ++k) e.set_input(int(k), inputs[k]->data());
    detail::feed_noise(e, f.noise);
    detail::feed_targets(e, m.at("num_classes").get<int>());
    e.run(cpu::run_state{});
    const double loss_value = *e.value(e.graph().loss), expected = t.at("loss").get<double>();
    out.push_back({std::string(section) + " loss", std::abs(loss_value - expected) / std::max(1e-300, std::abs(expected)), tolerance});
    if (t.contains("outputs")) detail::compare_outputs(t.at("outputs"), e, std::string(section) + " outputs", tolerance, out);
    if (t.contains("grads")) detail::compare_gradients(t.at("grads"), model, std::string(section) + " gradients", tolerance, out);
    if (t.contains("buffers_after")) {
      double worst = 0;
      std::string where = "-";
      for (const auto& [name, probe] : t.at("buffers_after").items()) {
        const int b = model.weights().find(name);
        if (b < 0) throw error("buffers_after: the network has no buffer '" + name + "'");
        const double* v = model.weights().data(b);
        const double err = detail::probe_error(probe, model.weights().entries()[std::size_t(b)].size, [&](std::size_t i) { return v[i]; });
        if (err >= worst) worst = err, where = name;
      }
      out.push_back({std::string(section) + " buffers (" + where + ")", worst, tolerance});
    }
  }
}

/// Checks a whole network manifest. Throws input_error if it is malformed or of an unknown system.
inline std::vector<fixture_result> check_manifest(const json& m, bool with_train = true) {
  std::vector<fixture_result> out;
  try {
    if (detail::field(m, "format") != 1) throw input_error("format: expected 1, got " + m.at("format").dump());
    const std::string system = detail::field(m, "system").get<std::string>(), variant = detail::field(m, "variant").get<std::string>();
    const parity_case* definition = find_parity_case(system, variant);
    if (!definition) throw input_error("system '" + system + "', variant '" + variant + "' is not registered");
    check_eval<float>(m, *definition, out);
    check_eval<double>(m, *definition, out);
    if (with_train) check_train(m, *definition, out);
    const auto f = detail::fill_model<float>(m, *definition);
    const double expected = detail::field(m, "parameter_count").get<double>();
    out.push_back({"parameter count", std::abs(double(f.model->weights().parameter_count()) - expected), 0});
  } catch (const nlohmann::json::exception& e) {
    throw input_error(e.what());
  }
  return out;
}

}  // namespace rsseg::parity
