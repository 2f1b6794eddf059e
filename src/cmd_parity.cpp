// SPDX-License-Identifier: MIT
// rsseg parity: checks manifests and fixtures, which state a system's exact answers.
#include <cstdio>

#include "commands.hpp"
#include "rsseg/parity/fixtures.hpp"
#include "rsseg/parity/manifest.hpp"

namespace rsseg::program {

void add_parity(CLI::App& app, common_options& common) {
  struct options {
    std::vector<std::string> files;
    bool eval_only = false, verbose = false;
  };
  auto o = std::make_shared<options>();
  auto* c = app.add_subcommand("parity", "compare with the exact answers of reference implementations");
  c->add_option("manifest", o->files, "manifests (.json)")->required();
  c->add_flag("--eval-only", o->eval_only, "leave out the training steps");
  c->add_flag("-v,--verbose", o->verbose, "every group, not only the worst");
  c->callback([o, &common] {
    int failed = 0, bad = 0;
    nlohmann::json all = nlohmann::json::array();
    for (const std::string& file : o->files) {
      if (interrupted()) throw CLI::RuntimeError(130);
      std::vector<parity::fixture_result> results;
      try {
        const auto j = parity::fixture::load(file);
        if (!parity::fixture_kind(j).empty()) {
          for (auto& r : parity::check_fixture_file<float>(file)) r.group += " float", results.push_back(r);
          for (auto& r : parity::check_fixture_file<double>(file)) r.group += " double", results.push_back(r);
        } else {
          results = parity::check_manifest(j, !o->eval_only);
        }
      } catch (const error& e) {
        ++bad;
        std::string text = e.what();
        if (text.rfind(file, 0) != 0) text = file + ": " + text;
        if (common.json) all.push_back({{"file", file}, {"error", text}});
        std::fprintf(stderr, "rsseg: error: %s\n", text.c_str());
        continue;
      }
      int missed = 0;
      const parity::fixture_result* worst = nullptr;
      nlohmann::json groups = nlohmann::json::array();
      for (const auto& r : results) {
        missed += !r.passed();
        const double share = r.error / std::max(r.tolerance, 1e-300), worst_share = worst ? worst->error / std::max(worst->tolerance, 1e-300) : -1;
        if (!worst || !(share <= worst_share)) worst = &r;
        groups.push_back({{"group", r.group}, {"error", r.error}, {"tolerance", r.tolerance}, {"passed", r.passed()}});
        if (!common.json && (o->verbose || !r.passed()))
          std::printf("  %-4s %-58s %9.2e  (at most %.0e)\n", r.passed() ? "ok" : "MISS", r.group.c_str(), r.error, r.tolerance);
      }
      failed += missed > 0;
      if (common.json)
        all.push_back({{"file", file}, {"passed", missed == 0}, {"groups", groups}});
      else
        std::printf("%s %s: %zu groups, nearest to its bound: %s %.2e of %.0e\n", missed ? "MISS" : "ok  ", file.c_str(), results.size(),
                    worst->group.c_str(), worst->error, worst->tolerance);
      std::fflush(stdout);
    }
    if (common.json) std::printf("%s\n", all.dump(1).c_str());
    if (bad) throw CLI::RuntimeError(3);
    if (failed) throw CLI::RuntimeError(1);
  });
}

}  // namespace rsseg::program
