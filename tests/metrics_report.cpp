// SPDX-License-Identifier: MIT
// Charts and the report: well-formed, escaped, self-contained, and saying what they were given.
#include "rsseg/train/report.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "io_temp.hpp"
#include "rsseg/core/random.hpp"
#include "rsseg/io/atomic_file.hpp"

using namespace rsseg;
using test::has;

namespace {
/// Every element closed in order; void elements of HTML and <br/>-like ones excepted. Returns the first that is not, or "".
std::string unbalanced(const std::string& text) {
  std::vector<std::string> open;
  for (std::size_t at = 0; (at = text.find('<', at)) != std::string::npos;) {
    const std::size_t end = text.find('>', at);
    if (end == std::string::npos) return "unterminated";
    const std::string inner = text.substr(at + 1, end - at - 1);
    at = end + 1;
    if (inner[0] == '!' || inner.back() == '/') continue;
    const std::string name = inner.substr(inner[0] == '/', inner.find_first_of(" >", 1) - (inner[0] == '/'));
    if (name == "meta" || name == "img") continue;
    if (inner[0] != '/') {
      open.push_back(name);
    } else {
      if (open.empty() || open.back() != name) return name;
      open.pop_back();
    }
  }
  return open.empty() ? "" : open.back();
}
const double missing = std::numeric_limits<double>::quiet_NaN();

train::report example() {
  train::report r;
  r.title = "UNet on <aerial> & more", r.summary = "Five classes.";
  r.facts = {{"network", "UNet"}, {"command", "rsseg train --net \"UNet\""}};
  for (int i = 0; i < 3000; ++i) {
    r.curves.steps.push_back(i), r.curves.loss.push_back(1.5 * std::exp(-i / 800.0) + 0.3 + 0.2 * unit_float(philox(1, 2, std::uint64_t(i)).v[0]));
    r.curves.learning_rate.push_back(1e-3 * std::pow(1 - i / 3000.0, 0.9));
  }
  for (int i = 0; i <= 10; ++i) {
    r.curves.validation_steps.push_back(300 * i), r.curves.mean_iou.push_back(0.6 * (1 - std::exp(-i / 3.0)));
    r.curves.validation_loss.push_back(1.4 * std::exp(-i / 4.0) + 0.5);
  }
  r.colors = io::default_palette(4);
  r.colors.names = {"building", "low vegetation", "<road>", "snow"};
  io::image8 picture(64, 40, 3);
  for (std::size_t i = 0; i < picture.data.size(); ++i) picture.data[i] = std::uint8_t(i);
  r.pictures.push_back({"Tile 8 with \"predictions\"", picture});
  r.notes = {"A note."};
  return r;
}
}  // namespace

TEST_CASE("chart: texts, numbers, smoothing") {
  CHECK(train::xml_text("a<b>&\"'\n\x01") == "a&lt;b&gt;&amp;&quot;&#39; ");
  CHECK(train::xml_text("Stra\xC3\x9F"
                        "e") ==
        "Stra\xC3\x9F"
        "e");
  CHECK(train::xml_text("bad\xFF\xC3") == "bad");
  CHECK(train::number_text(0.001) == "0.001");
  CHECK(train::number_text(1234) == "1234");
  CHECK(train::number_text(32000) == "32k");
  CHECK(train::number_text(1.5e6) == "1.5M");
  CHECK(train::number_text(missing) == "-");
  const std::vector<double> s = train::smoothed({missing, 2, 4, missing}, 1);
  CHECK(std::isnan(s[0]));
  CHECK(s[1] == 2);
  CHECK(s[2] == doctest::Approx((0.5 * 0.5 * 2 + 0.5 * 4) / 0.75));
  CHECK(s[3] == s[2]);
}

TEST_CASE("chart: all kinds are well-formed, whatever the data") {
  train::chart_options o;
  o.title = "a < b", o.x_label = "x & y", o.y_label = "y";
  const std::vector<double> ramp{1, 2, 3, 4}, odd{missing, 5, std::numeric_limits<double>::infinity(), 7}, flat{2, 2, 2, 2};
  for (const bool log : {false, true}) {
    o.log_x = o.log_y = log;
    for (const auto& y : {ramp, odd, flat, std::vector<double>{0, -1, 0, -5}, std::vector<double>{missing, missing, missing, missing}}) {
      const std::string line = train::line_chart(o, {{"s", ramp, y}, {"t", ramp, y, true, true}});
      CHECK(unbalanced(line) == "");
      CHECK_FALSE(has(line, "nan"));
      CHECK_FALSE(has(line, "inf"));
      std::vector<train::chart_bar> bars;
      std::vector<train::chart_point> points;
      for (int i = 0; i < 4; ++i)
        bars.push_back({"<n>", y[std::size_t(i)], "", "", "g"}), points.push_back({ramp[std::size_t(i)], y[std::size_t(i)], "p&q", "g"});
      for (const std::string& svg : {train::bar_chart(o, bars), train::scatter_chart(o, points)}) {
        CHECK(unbalanced(svg) == "");
        CHECK_FALSE(has(svg, "nan"));
        CHECK_FALSE(has(svg, "inf"));
      }
    }
  }
  CHECK(unbalanced(train::line_chart(o, {})) == "");
  CHECK(unbalanced(train::bar_chart(o, {})) == "");
  CHECK(unbalanced(train::scatter_chart(o, {})) == "");
  const std::string map = train::heat_map(o, {"a", "b"}, {"a", "a very long name"}, {0, missing, 3, 4}, {"0", "", "3", "4"});
  CHECK(unbalanced(map) == "");
  CHECK_FALSE(has(map, "nan"));
  const std::vector<std::string> one{"a"};
  const std::vector<double> two{1, 2};
  CHECK_THROWS_AS(train::heat_map(o, one, one, two), usage_error);
  const std::vector<train::chart_series> uneven{{"s", {1}, two}};
  CHECK_THROWS_AS(train::line_chart(o, uneven), usage_error);
}

TEST_CASE("chart: points are where the axes say") {
  train::chart_options o;
  o.width = 400, o.height = 300;
  const std::string svg = train::scatter_chart(o, {{0, 0, "", ""}, {10, 10, "", ""}});
  // Both axes run from 0 to 10: the first point lies on the left end of the x axis, the second at the top right.
  const auto number = [&](const std::string& key, std::size_t from) { return std::stod(svg.substr(svg.find(key, from) + key.size())); };
  const std::size_t first = svg.find("<circle"), second = svg.find("<circle", first + 1);
  REQUIRE(second != std::string::npos);
  CHECK(number("cx=\"", first) < number("cx=\"", second));
  CHECK(number("cy=\"", first) > number("cy=\"", second));
  CHECK(number("cy=\"", second) == 10.0);   // the top of a frame without title
  CHECK(number("cx=\"", second) == 382.0);  // 18 pixels from the right
}

TEST_CASE("report: whole, escaped, self-contained") {
  train::report r = example();
  train::confusion_matrix matrix(4);
  const std::vector<std::uint8_t> labels{0, 0, 0, 1, 1, 2, 255}, predictions{0, 0, 1, 1, 1, 0, 0};
  matrix.add(labels.data(), predictions.data(), 7);
  r.matrix = &matrix;
  const std::string html = train::report_html(r);
  CHECK(unbalanced(html) == "");
  CHECK(has(html, "UNet on &lt;aerial&gt; &amp; more"));
  CHECK(has(html, "&lt;road&gt;"));
  CHECK_FALSE(has(html, "<road>"));
  CHECK_FALSE(has(html, "<script"));
  CHECK_FALSE(has(html, "src=\"http"));
  CHECK_FALSE(has(html, "href="));
  CHECK(has(html, "data:image/png;base64,iVBOR"));
  CHECK(has(html, "Validation mIoU"));
  CHECK(has(html, "in no mean: snow"));
  CHECK(has(html, "6 pixels counted, 1 without a label"));
  CHECK(html.size() < 200'000);  // 3000 steps are thinned
  test::temporary_folder folder;
  train::write_report(folder.file("report.html"), r);
  CHECK(io::read_text(folder.file("report.html"), "report") == html);
  CHECK(unbalanced(train::report_html(train::report())) == "");
}

TEST_CASE("report: base64 and shrinking") {
  CHECK(train::base64({}) == "");
  CHECK(train::base64({'M'}) == "TQ==");
  CHECK(train::base64({'M', 'a'}) == "TWE=");
  CHECK(train::base64({'M', 'a', 'n', 0xFF}) == "TWFu/w==");
  io::image8 picture(5, 3, 1);
  for (std::size_t i = 0; i < 15; ++i) picture.data[i] = std::uint8_t(10 * i);
  const io::image8 small = train::shrunk(picture, 3);
  CHECK(small.width == 3);
  CHECK(small.height == 2);
  CHECK(small.at(0, 0) == 30);   // (0 + 10 + 50 + 60) / 4
  CHECK(small.at(2, 1) == 140);  // the last pixel alone
  CHECK(train::shrunk(picture, 5).data == picture.data);
}
