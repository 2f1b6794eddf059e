// SPDX-License-Identifier: MIT
// What the commands of the program share.
#pragma once
#include <CLI/CLI.hpp>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "device.hpp"
#include "number_checks.hpp"
#include "rsseg/data/normalize.hpp"
#include "rsseg/data/registry.hpp"
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

/// The name of a map: .png or .tif, since JPEG does not keep class ids. Throws usage_error.
inline void check_map_name(const std::string& path) {
  const std::string end = path.substr(std::min(path.size(), path.rfind('.')));
  if (end == ".jpg" || end == ".jpeg" || end == ".JPG" || end == ".JPEG")
    throw usage_error("cannot write '" + path + "': JPEG does not keep class ids; expected a name that ends in .tif or .png");
}

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
  std::string mode;                  ///< of a system, see scene::system::modes
  int view = -1, overlap = -1;       ///< of a system: pixels looked at together, shared by neighbouring views
  std::string image = "this image";  ///< whose bands these are, for messages
  int classes = 0, bands = 0;
  bool segmenter = true;
  device_request where;
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
/// tile: side of the windows, 0: 512. max_memory: bytes each network may use, 0: no limit. Throws as load_network.
/// vote: side of the window of a majority vote (scene/vote.hpp), 0: none, -1: the network's own.
loaded_scene load_scene(const load_request& request, int tile, std::size_t max_memory = 0, int vote = -1);
/// The same for a folder that training a system left (cmd_systems.cpp).
loaded_scene load_system(const load_request& request, std::size_t max_memory);
/// rsseg list --systems.
void print_systems(const common_options& common);

/// A data set with further inputs: --input NAME=FOLDER for each, the first one naming the images themselves. `known`: what weights remember; their
/// names are the folders where --input does not say otherwise. Sets `inputs` to names and bands (empty: images alone). Throws usage_error,
/// input_error.
std::shared_ptr<const data::dataset> open_with_inputs(const std::string& spec, const data::open_options& options,
                                                      const std::vector<std::string>& given, const std::vector<std::pair<std::string, int>>& known,
                                                      std::vector<std::pair<std::string, int>>& inputs);
/// A scene likewise; `first` may be empty when --input names all files.
std::unique_ptr<io::raster_source> open_scene_inputs(const std::string& first, const std::vector<std::string>& given,
                                                     const std::vector<std::pair<std::string, int>>& known);

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
void add_classical(CLI::App& app, common_options& common);

}  // namespace rsseg::program
