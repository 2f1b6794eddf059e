// SPDX-License-Identifier: MIT
// --refine and --constraint of segment and eval, --prior of train.
#pragma once
#include "commands.hpp"
#include "rsseg/scene/placed_network.hpp"
#include "rsseg/scene/refine.hpp"
#include "rsseg/scene/stage_spec.hpp"
#include "rsseg/train/priors.hpp"

namespace rsseg::program {

/// What stages are made for.
struct stage_context {
  int classes = 0, bands = 0;
  std::vector<std::string> class_names;
  std::size_t max_memory = 0;
  scene::placement where = {};  ///< of trained stages
};

/// In the order given, refinements before constraints. Throws usage_error for what cannot be read, input_error for weights that do not fit.
scene::stage_list make_stages(const std::vector<std::string>& refine, const std::vector<std::string>& constraints, const stage_context& context);

/// Penalties of training from tv, neighbours, area, boundary with their options. Throws usage_error.
std::vector<train::prior> make_priors(const std::vector<std::string>& texts, const stage_context& context);

/// "pairs=A/B+C/D" as class ids; "CLASS=LEAST-MOST,..." as bounds of all classes ("all" sets each; the key weight is passed over).
std::vector<std::pair<int, int>> class_pairs(const scene::stage_spec& s, const stage_context& c);
void class_bounds(const scene::stage_spec& s, const stage_context& c, std::vector<double>& least, std::vector<double>& most);

inline constexpr const char* prior_help =
    "penalty on the probabilities, may be repeated: tv, neighbours:pairs=A/B+C/D, area:CLASS=LEAST-MOST, boundary; each with weight=W (0.05)";
inline constexpr const char* refine_help =
    "stage after the network, may be repeated: densecrf, guided, regions, iss, deep-guided, crf-rnn, pointrend, cascadepsp; with options as "
    "NAME:key=value,...; trained ones need weights=FILE";
inline constexpr const char* constraint_help =
    "what is known about the scene, may be repeated: size:CLASS=PIXELS, area:CLASS=LEAST-MOST, neighbours:pairs=A/B+C/D, "
    "forbid:class=NAME,where=RASTER,below=VALUE";

}  // namespace rsseg::program
