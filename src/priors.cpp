// SPDX-License-Identifier: MIT
// --prior: from what is written on the command line to penalties.
#include "rsseg/scene/stage_spec.hpp"
#include "stages.hpp"

namespace rsseg::program {

std::vector<train::prior> make_priors(const std::vector<std::string>& texts, const stage_context& c) {
  std::vector<train::prior> all;
  const std::size_t k = std::size_t(c.classes);
  for (const auto& text : texts) {
    const scene::stage_spec s = scene::stage_spec::parse(text);
    train::prior q;
    q.weight = s.number("weight", 0.05, 0, 1e6);
    if (s.name == "tv") {
      s.only({"weight", "sigma"});
      q.sigma = s.number("sigma", 0.3, 1e-6, 1e6);
    } else if (s.name == "neighbours") {
      s.only({"weight", "pairs"});
      q.what = train::prior::kind::neighbours, q.forbid.assign(k * k, 0.0);
      for (const auto& [a, b] : class_pairs(s, c)) q.forbid[std::size_t(a) * k + std::size_t(b)] = q.forbid[std::size_t(b) * k + std::size_t(a)] = 1;
    } else if (s.name == "area") {
      q.what = train::prior::kind::area;
      class_bounds(s, c, q.least, q.most);
    } else if (s.name == "boundary") {
      s.only({"weight"});
      q.what = train::prior::kind::boundary;
    } else {
      throw usage_error("--prior " + s.name + ": unknown; use tv, neighbours, area, boundary");
    }
    all.push_back(std::move(q));
  }
  return all;
}

}  // namespace rsseg::program
