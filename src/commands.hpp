// SPDX-License-Identifier: MIT
// What the commands of the program share.
#pragma once
#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "rsseg/data/normalize.hpp"
#include "rsseg/io/palette.hpp"
#include "rsseg/model/model.hpp"
#include "rsseg/nets/entry.hpp"
#include "rsseg/scene/segment.hpp"
#include "rsseg/train/weights.hpp"

namespace rsseg::program {

/// Options every command has.
struct common_options {
  bool json = false, quiet = false;
  int threads = 0;
};

/// True after Ctrl-C or SIGTERM.
bool interrupted();

// networks.cpp
std::vector<const network_entry*> networks();
const network_entry& network_named(const std::string& name);

/// The network and its weights, from --net, --weights, --classes and what the weights file says.
struct loaded_network {
  const network_entry* entry = nullptr;
  std::unique_ptr<basic_model<float>> model;
  train::weights_info info;
  data::normalization normalize;
  io::palette palette;
};
struct load_request {
  std::string net, weights, normalize;
  std::string image = "this image";  ///< whose bands these are, for messages
  int classes = 0, bands = 0;
  bool segmenter = true;
};
/// Throws usage_error for what contradicts the weights file, input_error for a file that does not fit.
loaded_network load_network(const load_request& request);

/// What maps a scene: a network of one image or a system of several, its tiling, and what the weights say. Refinements wrap `predictor`
/// and widen `tiling`.
struct loaded_scene {
  const char* name = "";  ///< as in --net
  std::string title;
  train::weights_info info;
  io::palette palette;
  data::normalization normalize;
  scene::segment_options tiling;
  std::unique_ptr<scene::scene_predictor> predictor;  ///< owns its networks
};
/// tile: side of the windows, 0: 512. vote: side of the window of a majority vote (scene/vote.hpp), 0: none, -1: the network's own.
///  max_memory: bytes each network may use, 0: no limit. Throws as load_network.
loaded_scene load_scene(const load_request& request, int tile, std::size_t max_memory = 0, int vote = -1);

/// "1,3,512,512".
shape parse_shape(const std::string& text);
std::string with_units(double n);  ///< 31.04 M

// one per command: adds it to the program
void add_list(CLI::App& app, common_options& common);
void add_describe(CLI::App& app, common_options& common);
void add_train(CLI::App& app, common_options& common);
void add_eval(CLI::App& app, common_options& common);
void add_segment(CLI::App& app, common_options& common);
void add_parity(CLI::App& app, common_options& common);
void add_bench(CLI::App& app, common_options& common);
void add_dataset(CLI::App& app, common_options& common);

}  // namespace rsseg::program
