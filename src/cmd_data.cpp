// SPDX-License-Identifier: MIT
// rsseg dataset check: counts, class histogram, and everything that is wrong with a data set.
#include <cstdio>

#include "commands.hpp"
#include "rsseg/data/check.hpp"

namespace rsseg::program {

void add_dataset(CLI::App& app, common_options& common) {
  auto* c = app.add_subcommand("dataset", "look at data sets");
  c->require_subcommand(1);
  struct options {
    std::string spec;
    int classes = 0;
  };
  auto o = std::make_shared<options>();
  auto* check = c->add_subcommand("check", "read every file; counts, class histogram, mismatches");
  check->add_option("data", o->spec, "folder, list file, or NAME:DIR[:PART]")->required();
  check->add_option("--classes", o->classes, "number of classes, where no classes.json says")->check(CLI::Range(1, 255));
  check->callback([o, &common] {
    data::open_options open;
    open.classes = o->classes;
    const data::check_report r = data::check_dataset(o->spec, open);
    std::printf("%s", common.json ? data::check_json(r).c_str() : data::check_text(r).c_str());
    if (!r.ok()) throw CLI::RuntimeError(3);
  });
  auto* sets = c->add_subcommand("list", "the public data sets that are known by name");
  sets->callback([&common] {
    if (common.json) {
      nlohmann::json j = nlohmann::json::array();
      for (const auto& k : data::known_sets()) j.push_back({{"name", k.name}, {"about", k.about}});
      std::printf("%s\n", j.dump(1).c_str());
      return;
    }
    for (const auto& k : data::known_sets()) std::printf("%-12s %s\n", k.name, k.about);
  });
}

}  // namespace rsseg::program
