// SPDX-License-Identifier: MIT
// --refine and --constraint of segment and eval.
#pragma once
#include "commands.hpp"
#include "rsseg/scene/refine.hpp"

namespace rsseg::program {

/// What stages are made for.
struct stage_context {
  int classes = 0, bands = 0;
  std::vector<std::string> class_names;
  std::size_t max_memory = 0;
};

/// In the order given, refinements before constraints. Throws usage_error for what cannot be read, input_error for weights that do not fit.
scene::stage_list make_stages(const std::vector<std::string>& refine, const std::vector<std::string>& constraints, const stage_context& context);

inline constexpr const char* refine_help =
    "stage after the network, may be repeated: densecrf, guided, regions, iss, deep-guided, crf-rnn, pointrend, cascadepsp; with options as "
    "NAME:key=value,...; trained ones need weights=FILE";
inline constexpr const char* constraint_help =
    "what is known about the scene, may be repeated: size:CLASS=PIXELS, area:CLASS=LEAST-MOST, neighbours:pairs=A/B+C/D, "
    "forbid:class=NAME,where=RASTER,below=VALUE";

}  // namespace rsseg::program
