// SPDX-License-Identifier: MIT
// Every fixture in tests/manifests that is not a network, in double and float, and what the reader does with broken ones.
#include <doctest/doctest.h>

#include <cmath>
#include <string>

#include "rsseg/parity/fixtures.hpp"

#ifndef RSSEG_TEST_DIR
#define RSSEG_TEST_DIR "tests"
#endif

using namespace rsseg;
using namespace rsseg::parity;
using nlohmann::json;

namespace {
const char* const kinds[] = {"dense_crf", "permutohedral", "guided_filter", "crf_rnn", "classical", "point_sampling", "losses", "magnet_pipeline"};
std::string file(const std::string& kind) { return std::string(RSSEG_TEST_DIR) + "/manifests/" + kind + ".json"; }

void check(const std::vector<fixture_result>& results, std::size_t at_least) {
  CHECK(results.size() >= at_least);
  for (const auto& r : results) {
    INFO(r.group << ": error " << r.error << ", tolerance " << r.tolerance);
    CHECK(r.passed());
  }
}
}  // namespace

TEST_CASE("fixtures: all groups within tolerance, double and float") {
  for (const char* kind : kinds) {
    CAPTURE(kind);
    check(check_fixture_file<double>(file(kind)), 6);
    check(check_fixture_file<float>(file(kind)), 6);
  }
}

TEST_CASE("fixtures: another fill prefix gives other numbers, so the check must fail") {
  for (const char* kind : kinds) {
    CAPTURE(kind);
    json f = fixture::load(file(kind));
    f["fill_prefix"] = "other.";
    const json magnet = fixture::load(file("magnet_refinement"));
    int failed = 0;
    for (const auto& r : check_fixture<double>(f, nullptr, &magnet)) failed += !r.passed();
    CHECK(failed > 0);
  }
}

TEST_CASE("fixtures: one wrong number is found") {
  json f = fixture::load(file("point_sampling"));
  const double old = f["cases"]["bilinear"]["dx"][5].get<double>();
  f["cases"]["bilinear"]["dx"][5] = old + 1e-6;
  int failed = 0;
  for (const auto& r : check_fixture<double>(f)) failed += !r.passed();
  CHECK(failed == 1);
}

TEST_CASE("fixtures: broken files are input errors, never crashes") {
  CHECK_THROWS_AS(check_fixture_file<double>("no/such/file.json"), input_error);
  CHECK_THROWS_AS(check_fixture<double>(json::array()), input_error);
  CHECK_THROWS_AS(check_fixture<double>(json{{"format", "unheard 1"}}), input_error);
  CHECK_THROWS_AS(check_fixture<double>(json{{"format", "losses 2"}}), input_error);
  CHECK_THROWS_AS(check_fixture<double>(json{{"format", 1}}), input_error);
  for (const char* kind : kinds) {
    const json whole = fixture::load(file(kind));
    // Each top-level field away, or of another type, in turn.
    for (const auto& [name, value] : whole.items()) {
      if (name == "notes" || name == "system" || name == "reference" || name == "note") continue;
      CAPTURE(kind);
      CAPTURE(name);
      json without = whole, odd = whole;
      without.erase(name);
      odd[name] = json{{"nonsense", -1}};
      const bool optional = name == "fill_prefix" || name == "dense_crf_lattice" || name == "gray_gradient" || name == "class_weights_from_counts" ||
                            name == "image" || name == "region_merging" || (name == "region_merging_size" && !whole.contains("region_merging"));
      if (optional) {
        CHECK_NOTHROW(check_fixture<double>(without));
      } else {
        CHECK_THROWS_AS(check_fixture<double>(without), input_error);
      }
      CHECK_THROWS_AS(check_fixture<double>(odd), input_error);
    }
  }
  json huge = fixture::load(file("dense_crf"));
  huge["H"] = 1 << 30;
  CHECK_THROWS_AS(check_fixture<double>(huge), input_error);
  huge["H"] = -3;
  CHECK_THROWS_AS(check_fixture<double>(huge), input_error);
  json wrong = fixture::load(file("guided_filter"));
  wrong["cases"][0]["out"].erase(0);
  CHECK_THROWS_AS(check_fixture<double>(wrong), input_error);
}
