// SPDX-License-Identifier: MIT
// Everything a training needs to go on as if it had not stopped: weights, optimiser state, position in the data, counters.
// One safetensors file, replaced atomically: after a kill at any moment the last complete one is there.
#pragma once
#include <nlohmann/json.hpp>
#include <span>
#include <string>

#include "rsseg/data/loader.hpp"
#include "rsseg/train/optimizer.hpp"
#include "rsseg/train/weights.hpp"

namespace rsseg::train {

struct training_state {
  std::uint64_t step = 0;  ///< optimiser steps done
  data::loader_state position;
  double elapsed = 0;  ///< seconds of training so far
  double best_miou = -1;
  double running_loss = 0;
  std::uint64_t evaluations = 0;
  nlohmann::json settings;  ///< what may not change between runs: network, classes, bands, batch, crop, seed, ...
};

/// Weights with their optimiser. Trainings of several networks have several, told apart by prefixes ("" for one alone).
struct checkpoint_part {
  std::string prefix;
  parameter_store<float>* store;
  optimizer<float>* opt;
};

inline void save_checkpoint(const std::string& path, std::span<const checkpoint_part> parts, const training_state& s) {
  std::vector<io::tensor_view> views;
  const auto flat = [&](const std::string& name, const std::vector<float>& v) {
    if (!v.empty()) views.push_back({name, {std::int64_t(v.size())}, io::dtype::f32, v.data()});
  };
  nlohmann::json j = {{"step", s.step},           {"epoch", s.position.epoch},    {"batch", s.position.number}, {"elapsed", s.elapsed},
                      {"best_miou", s.best_miou}, {"evaluations", s.evaluations}, {"settings", s.settings},     {"running_loss", s.running_loss}};
  for (const checkpoint_part& p : parts) {
    flat(p.prefix + "values", p.store->values());
    flat(p.prefix + "first", p.opt->first());
    flat(p.prefix + "second", p.opt->second());
    flat(p.prefix + "average", p.opt->average());
    j[p.prefix + "optimizer_steps"] = p.opt->steps();
  }
  io::write_safetensors(path, views, {{"rsseg.checkpoint", j.dump()}});
}

/// Throws input_error when the file is damaged or belongs to another training (naming the setting that differs).
inline training_state load_checkpoint(const std::string& path, std::span<const checkpoint_part> parts, const nlohmann::json& settings) {
  const io::safetensors_reader file(path);
  const std::string text = file.metadata("rsseg.checkpoint");
  if (text.empty()) throw input_error(path + ": not a training checkpoint (weights files are for --init); give the --out folder of the training");
  training_state s;
  try {
    const auto j = nlohmann::json::parse(text);
    s.settings = j.at("settings");
    const auto same = [&](const std::string& key) {
      const nlohmann::json now = settings.value(key, nlohmann::json()), then = s.settings.value(key, nlohmann::json());
      if (now == then) return;
      const auto shown = [](const nlohmann::json& v) { return v.is_null() ? "nothing" : v.is_structured() ? "other values" : v.dump(); };
      throw input_error(path + ": was made with " + key + " = " + shown(then) + ", now it is " + shown(now) +
                        "; use the same options, or another --out");
    };
    if (settings.contains("network")) same("network");  // before what follows from it
    for (const auto& [key, value] : settings.items()) same(key);
    s.step = j.at("step"), s.position.epoch = j.at("epoch"), s.position.number = j.at("batch"), s.elapsed = j.at("elapsed");
    s.best_miou = j.at("best_miou"), s.evaluations = j.at("evaluations"), s.running_loss = j.at("running_loss");
    for (const checkpoint_part& p : parts) p.opt->steps() = j.at(p.prefix + "optimizer_steps");
  } catch (const nlohmann::json::exception& e) {
    throw input_error(path + ": its training state cannot be read (" + e.what() + ")");
  }
  const auto flat = [&](const std::string& name, std::vector<float>& v) {
    if (!v.empty()) file.read_into(name, {std::int64_t(v.size())}, v.data());
  };
  for (const checkpoint_part& p : parts) {
    flat(p.prefix + "values", p.store->values());
    flat(p.prefix + "first", p.opt->first());
    flat(p.prefix + "second", p.opt->second());
    flat(p.prefix + "average", p.opt->average());
    p.store->touch();
  }
  return s;
}

/// The same for one network.
inline void save_checkpoint(const std::string& path, parameter_store<float>& store, optimizer<float>& opt, const training_state& s) {
  const checkpoint_part parts[] = {{"", &store, &opt}};
  save_checkpoint(path, parts, s);
}
inline training_state load_checkpoint(const std::string& path, parameter_store<float>& store, optimizer<float>& opt, const nlohmann::json& settings) {
  const checkpoint_part parts[] = {{"", &store, &opt}};
  return load_checkpoint(path, parts, settings);
}

}  // namespace rsseg::train
