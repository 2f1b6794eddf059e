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

/// Checks of numbers, as CLI::PositiveNumber and its like; but NaN is refused, and the message names no bound that means "none".
inline CLI::Validator number_check(const std::string& expected, const std::string& shown, const std::function<bool(double)>& good) {
  return CLI::Validator(
      [expected, good](std::string& text) {
        char* end = nullptr;
        const double v = std::strtod(text.c_str(), &end);
        return end != text.c_str() && *end == 0 && std::isfinite(v) && good(v) ? std::string() : "expected " + expected + ", got '" + text + "'";
      },
      shown);
}
inline CLI::Validator above_zero() {
  return number_check("a number above 0", "above 0", [](double v) { return v > 0; });
}
inline CLI::Validator not_negative() {
  return number_check("a number of 0 or more", "0 or more", [](double v) { return v >= 0; });
}
inline CLI::Validator between(double least, double most) {
  char range[64];
  std::snprintf(range, sizeof range, "%g to %g", least, most);
  return number_check(std::string("a number from ") + range, range, [=](double v) { return v >= least && v <= most; });
}
/// For options of unsigned type, which would take -1 for the largest number there is.
inline CLI::Validator whole_number(std::uint64_t least = 0) {
  return CLI::Validator(
      [least](std::string& text) {
        const bool digits = !text.empty() && text.size() < 20 && text.find_first_not_of("0123456789") == std::string::npos;
        return digits && std::stoull(text) >= least ? std::string()
                                                    : "expected a whole number of " + std::to_string(least) + " or more, got '" + text + "'";
      },
      "whole, " + std::to_string(least) + " or more");
}
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
