// SPDX-License-Identifier: MIT
// Systems of several networks: trained in stages, each with a folder of its own below the system's, and then mapping scenes as one predictor.
//   OUT/system.json                   what was trained: system, classes, bands, sides of patch and view, normalisation
//   OUT/STAGE/weights.safetensors     and checkpoint, log and report of that stage
#pragma once
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "rsseg/io/atomic_file.hpp"
#include "rsseg/nets/entry.hpp"
#include "rsseg/scene/placed_network.hpp"
#include "rsseg/scene/segment.hpp"
#include "rsseg/train/trainer.hpp"

namespace rsseg::scene {

/// What all stages share; kept in system.json.
struct system_settings {
  train::weights_info info;  ///< info.network: the system's name
  int patch = 0;             ///< side of what a network sees at full resolution, pixels
  int view = 0;              ///< side of the region that is looked at together, pixels
  placement where = {};      ///< not in system.json: any system runs and trains anywhere
};

struct stage_info {
  const char* name;  ///< also its folder
  const char* note;
  recipe defaults;
  const char* loss;  ///< as in --loss
};

struct predictor_options {
  std::string mode;              ///< one of system::modes; empty: the first
  int view = -1;                 ///< -1: as trained; 0: the whole scene
  int overlap = -1;              ///< pixels shared by neighbouring views; -1: an eighth of the view
  std::size_t memory_limit = 0;  ///< bytes per network, 0: none
};
struct made_predictor {
  std::unique_ptr<scene_predictor> predictor;
  segment_options tiling;
};

struct system {
  const char* name;
  const char* title;
  const char* paper;
  const char* note;
  std::vector<stage_info> stages;
  std::vector<std::string> modes;  ///< ways to infer, the best first
  int patch, view, multiple;       ///< defaults; sides are multiples of `multiple`
  /// The learner of stage `stage`; earlier stages are read from `folder`.
  std::unique_ptr<train::learner> (*learner)(const system&, int stage, const system_settings&, const std::string& folder, std::uint64_t seed);
  made_predictor (*predictor)(const system&, const system_settings&, const std::string& folder, const predictor_options&);
};

/// Throws usage_error that lists the stages.
inline int stage_named(const system& s, const std::string& name) {
  std::string all;
  for (std::size_t i = 0; i < s.stages.size(); ++i) {
    if (name == s.stages[i].name) return int(i);
    all += (i ? ", " : "") + std::string(s.stages[i].name);
  }
  throw usage_error("--stage \"" + name + "\": " + s.name + " has the stages " + all);
}
/// Throws usage_error that lists the modes.
inline std::string mode_named(const system& s, const std::string& name) {
  if (name.empty()) return s.modes.front();
  std::string all;
  for (const std::string& m : s.modes) {
    if (m == name) return m;
    all += (all.empty() ? "" : ", ") + m;
  }
  throw usage_error("--mode \"" + name + "\": " + s.name + " has the modes " + all);
}

inline std::string stage_weights(const system& s, int stage, const std::string& folder) {
  return folder + "/" + s.stages[std::size_t(stage)].name + "/weights.safetensors";
}
/// Weights of a stage into a store; input_error that names the stage to train when the file is missing.
inline void load_stage(const system& s, int stage, const std::string& folder, parameter_store<float>& store) {
  const std::string path = stage_weights(s, stage, folder);
  std::error_code none;
  if (!std::filesystem::exists(path, none))
    throw input_error(path + ": missing; train it: rsseg train --net " + s.name + " --stage " + s.stages[std::size_t(stage)].name + " --out " +
                      folder + " ...");
  train::load_weights(io::safetensors_reader(path), store);
}

inline bool is_system_folder(const std::string& path) {
  std::error_code none;
  return std::filesystem::is_regular_file(path + "/system.json", none);
}
inline void write_settings(const std::string& folder, const system_settings& s) {
  const nlohmann::json j = {{"system", s.info.network},          {"classes", s.info.classes}, {"bands", s.info.bands},
                            {"class_names", s.info.class_names}, {"colours", s.info.colours}, {"ignore_id", s.info.ignore_id},
                            {"normalize", s.info.normalize},     {"patch", s.patch},          {"view", s.view}};
  io::write_file(folder + "/system.json", j.dump(1) + "\n");
}
/// Throws input_error for a file that cannot be read or does not belong to a system.
inline system_settings read_settings(const std::string& folder) {
  const std::string path = folder + "/system.json";
  std::ifstream in(path);
  if (!in) throw input_error(path + ": cannot be read; --weights takes the folder that training a system left");
  try {
    const auto j = nlohmann::json::parse(in);
    system_settings s;
    s.info.network = j.at("system"), s.info.classes = j.at("classes"), s.info.bands = j.at("bands"), s.info.ignore_id = j.at("ignore_id");
    s.info.class_names = j.at("class_names").get<std::vector<std::string>>();
    s.info.colours = j.at("colours").get<std::vector<std::array<int, 3>>>();
    s.info.normalize = j.at("normalize"), s.patch = j.at("patch"), s.view = j.at("view");
    if (s.info.classes < 1 || s.info.classes > 255 || s.info.bands < 1 || s.info.bands > 4096 || s.patch < 1 || s.view < s.patch || s.view > 65536)
      throw input_error(path + ": its classes, bands or sides are out of range");
    return s;
  } catch (const nlohmann::json::exception& e) {
    throw input_error(path + ": not the description of a trained system (" + e.what() + ")");
  }
}

/// Copies tensors called `from_prefix` + rest to those called `to_prefix` + rest where both exist. A convolution with more input channels
/// than its source takes them first and zeros for the rest, so that it starts as the source did.
inline int copy_weights(const parameter_store<float>& from, parameter_store<float>& to, const std::string& from_prefix, const std::string& to_prefix,
                        const std::string& to_suffix = "") {
  int copied = 0;
  for (std::size_t e = 0; e < to.entries().size(); ++e) {
    const stored_tensor& t = to.entries()[e];
    if (t.name.compare(0, to_prefix.size(), to_prefix) != 0) continue;
    std::string rest = t.name.substr(to_prefix.size());
    if (!to_suffix.empty()) {  // toplayer_ext.weight comes from toplayer.weight
      const std::size_t at = rest.find(to_suffix + ".");
      if (at != rest.npos) rest.erase(at, to_suffix.size());
    }
    const int source = from.find(from_prefix + rest);
    if (source < 0) continue;
    const auto have = from.entries()[std::size_t(source)].dims(), want = t.dims();
    if (have.size() != want.size()) continue;
    std::vector<float> values(from.entries()[std::size_t(source)].size);
    from.to_file_order(source, values.data());
    if (have == want) {
      to.from_file_order(int(e), values.data());
    } else if (have.size() == 4 && have[0] == want[0] && have[1] < want[1] && have[2] == want[2] && have[3] == want[3]) {
      std::vector<float> wide(t.size, 0.0f);
      const std::size_t o = std::size_t(have[0]), c = std::size_t(have[1]), d = std::size_t(want[1]), k = std::size_t(have[2] * have[3]);
      for (std::size_t i = 0; i < o; ++i) std::copy_n(values.begin() + std::ptrdiff_t(i * c * k), c * k, wide.begin() + std::ptrdiff_t(i * d * k));
      to.from_file_order(int(e), wide.data());
    } else {
      continue;
    }
    ++copied;
  }
  return copied;
}

inline std::pair<shape, const float*> as_input(const tensor<float>& t) { return {t.extent(), t.data()}; }

/// One training step on a network with several inputs and labels for each supervised output by its name; gradients are added to `sum`.
inline double train_on(placed_network& model, const std::vector<const tensor<float>*>& inputs,
                       const std::map<std::string, const tensor<std::int32_t>*>& labels, const cpu::run_state& state, std::vector<float>& sum,
                       double factor, std::size_t limit = 0) {
  placed_graph& e = model.training();
  std::vector<std::pair<shape, const float*>> arrays;
  for (const auto* x : inputs) arrays.push_back(as_input(*x));
  e.give(arrays, limit);
  e.fill_targets([&](int node, std::vector<std::int32_t>& values) {
    const auto found = labels.find(std::string(e.graph().name_of(node)));
    if (found == labels.end()) throw error("no labels for output '" + std::string(e.graph().name_of(node)) + "'");
    rsseg::fit_labels(*found->second, e.extent(node), e.graph().nodes[node].at, values);
  });
  e.run(state);
  e.add_gradients(sum, factor);
  return factor * e.loss();
}

/// Learners of stages: one model that learns, gradients summed over the parts of a batch, validation by the system's predictor.
class stage_learner : public train::learner {
 public:
  parameter_store<float>& weights() override { return model().weights(); }
  void prepare(const train::train_options& o) override {
    model().set_memory_limit(o.memory_limit), limit_ = o.memory_limit;
    model().prepare_training(o.loss, o.recompute.value_or(!model().where()));
  }
  std::vector<float>& gradients() override { return gradients_; }

 protected:
  virtual placed_network& model() = 0;
  void clear_gradients() { std::fill(gradients_.begin(), gradients_.end(), 0.0f); }
  std::vector<float> gradients_;
  std::size_t limit_ = 0;
};

}  // namespace rsseg::scene
