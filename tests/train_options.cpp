// SPDX-License-Identifier: MIT
// Losses, class weights and samplers as text: what is understood, what is refused and how that reads.
#include <doctest/doctest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "io_temp.hpp"
#include "rsseg/train/loss_options.hpp"

using namespace rsseg;
using namespace rsseg::train;
using graph::loss_kind;
namespace fs = std::filesystem;

namespace {
/// Three classes with 1, 2 and 5 pixels of 8.
class eight_pixels final : public data::dataset {
 public:
  eight_pixels() : classes_(data::class_table::numbered(3)) { classes_.names = {"car", "road", "tree"}; }
  std::size_t size() const override { return 1; }
  std::string name(std::size_t) const override { return "eight"; }
  const data::class_table& classes() const override { return classes_; }
  int bands() const override { return 1; }
  std::shared_ptr<const data::sample> load(std::size_t) const override {
    auto s = std::make_shared<data::sample>();
    s->image.height = s->labels.height = 2, s->image.width = s->labels.width = 4, s->image.bands = 1;
    s->image.values = std::vector<std::uint8_t>(8);
    s->labels.ids = {0, 1, 1, 2, 2, 2, 2, 2};
    return s;
  }

 private:
  data::class_table classes_;
};
}  // namespace

TEST_CASE("losses as text") {
  const auto l = parse_loss("ce:smoothing=0.1+0.5*dice:smooth=0,present+2*ohem:threshold=0.9,kept=0.0625+tversky:alpha=1,beta=2,smooth=3");
  REQUIRE(l.term_count == 4);
  CHECK(l.terms[0].kind == loss_kind::cross_entropy);
  CHECK(l.terms[0].alpha == 0.1);
  CHECK(l.terms[1].weight == 0.5);
  CHECK(l.terms[1].alpha == 0);
  CHECK(l.terms[1].flag);
  CHECK(l.terms[2].alpha == 0.9);
  CHECK(l.terms[2].beta == 0.0625);
  CHECK(l.terms[2].count == 0);
  CHECK(l.terms[3].gamma == 3);
  CHECK(parse_loss("focal:3").terms[0].alpha == 3);
  CHECK(parse_loss("focal").terms[0].alpha == 2);
  CHECK(parse_loss("ohem:kept=500").terms[0].count == 500);
  CHECK(parse_loss("lovasz:per-image,all").terms[0].flag2);
  CHECK(parse_loss("jaccard").terms[0].alpha == 1);
  for (const char* bad : {"",
                          "magic",
                          "ce+",
                          "+ce",
                          "-1*ce",
                          "0*ce",
                          "x*ce",
                          "ce:smoothing=1",
                          "ce:gamma=1",
                          "focal:gamma=-1",
                          "focal:gamma=",
                          "focal:gamma=x",
                          "dice:present=1",
                          "lovasz:2",
                          "ohem:threshold=0",
                          "ohem:kept",
                          "ce:",
                          "ce+ce+ce+ce+ce",
                          "tversky:0.5",
                          "focal:nan"})
    CHECK_THROWS_AS(parse_loss(bad), usage_error);
  CHECK_THROWS_WITH_AS(parse_loss("ce+focal:gama=2"), doctest::Contains("gama=2"), usage_error);
  CHECK_THROWS_WITH_AS(parse_loss("focal:gamma=-1"), doctest::Contains("use gamma=G, 0 <= G <= 100"), usage_error);
  CHECK(parse_edge_loss("hed") == graph::edge_loss::balanced);
  CHECK_THROWS_AS(parse_edge_loss("sobel"), usage_error);
}

TEST_CASE("class weights as text and as files") {
  const eight_pixels set;
  CHECK(class_weights_for("none", set).empty());
  const auto median = class_weights_for("median-frequency", set), inverse = class_weights_for("inverse", set);
  CHECK(median == std::vector<float>{2, 1, 0.4f});
  CHECK(inverse[0] == doctest::Approx(5 * inverse[2]));
  CHECK(class_weights_for("effective:0.5", set)[1] == doctest::Approx(0.5 / 0.75 * 3 / (1 + 0.5 / 0.75 + 0.5 / (1 - 1 / 32.0))));
  const test::temporary_folder folder;
  const fs::path& dir = folder.path;
  const auto file = [&](const std::string& text) {
    std::ofstream(dir / "w") << text;
    return class_weights_for((dir / "w").string(), set);
  };
  const std::vector<float> expected{1, 2.5f, 0};
  CHECK(file("1 2.5\n0\n") == expected);
  CHECK(file("[1, 2.5, 0]") == expected);
  CHECK(file(R"({"tree": 0, "car": 1, "road": 2.5})") == expected);
  for (const char* bad : {"", "1 2", "1 2 3 4", "1 2 x", "[1, 2, \"a\"]", "[1, -1, 2]", "[0, 0, 0]", R"({"car": 1, "road": 1})",
                          R"({"car": 1, "road": 1, "tree": 1, "sea": 1})"})
    CHECK_THROWS_WITH_AS(file(bad), doctest::Contains((dir / "w").string().c_str()), input_error);
  for (const char* bad : {"magic", "effective:2", "effective:x"}) CHECK_THROWS_AS(class_weights_for(bad, set), usage_error);
}

TEST_CASE("samplers as text") {
  data::sampler_options o;
  parse_sampler("balanced:0.25", o);
  CHECK(o.balance == 0.25);
  CHECK(o.by_area);
  parse_sampler("balanced", o = {});
  CHECK(o.balance == 1);
  parse_sampler("images", o = {});
  CHECK_FALSE(o.by_area);
  CHECK(o.balance == 0);
  for (const char* bad : {"", "magic", "balanced:", "balanced:0", "balanced:2", "balanced:x"}) CHECK_THROWS_AS(parse_sampler(bad, o), usage_error);
}
