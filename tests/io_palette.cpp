// SPDX-License-Identifier: MIT
// Class colours: to pictures and back.
#include "rsseg/io/palette.hpp"

#include <doctest/doctest.h>

#include <set>

#include "io_temp.hpp"

using namespace rsseg;
using test::has;

TEST_CASE("palette: 200 default colours differ, and the first do not depend on how many are asked for") {
  const io::palette p = io::default_palette(200);
  std::set<std::uint32_t> seen;
  for (const io::rgb c : p.colors) seen.insert(std::uint32_t(c.r) << 16 | std::uint32_t(c.g) << 8 | c.b);
  CHECK(seen.size() == 200);
  CHECK(io::default_palette(3).colors[2] == p.colors[2]);
  CHECK(p.color(255) == p.ignore_color);
}

TEST_CASE("palette: colours and back") {
  const io::palette p = io::default_palette(12);
  io::image8 ids(7, 3, 1);
  for (std::size_t i = 0; i < ids.data.size(); ++i) ids.data[i] = i == 4 ? 255 : std::uint8_t(i % 12);
  const io::image8 colors = io::colorize(ids, p);
  CHECK(colors.at(1, 0, 0) == p.colors[1].r);
  CHECK(colors.at(4, 0, 2) == 128);
  CHECK(io::ids_from_colors(colors, p, "m").data == ids.data);
}

TEST_CASE("palette: tolerance, unknown colours, equal colours") {
  io::palette p;
  p.names = {"a", "b"}, p.colors = {{10, 10, 10}, {14, 10, 10}};
  io::image8 mask(3, 1, 3);
  mask.data = {10, 10, 10, 13, 10, 11, 128, 128, 128};
  CHECK(has(test::message_of<input_error>([&] { io::ids_from_colors(mask, p, "m.png"); }), "'m.png' holds colour (13, 10, 11) at column 1, row 0"));
  CHECK(io::ids_from_colors(mask, p, "m", 3).data == std::vector<std::uint8_t>{0, 1, 255});
  CHECK(io::ids_from_colors(mask, p, "m", 0, io::unknown_color::ignore).data == std::vector<std::uint8_t>{0, 255, 255});
  p.colors[1] = p.colors[0];
  CHECK(has(test::message_of<usage_error>([&] { io::ids_from_colors(mask, p, "m"); }), "0 and 1"));
  CHECK_THROWS_AS(io::ids_from_colors(io::image8(2, 2, 1), p, "m"), input_error);
}

TEST_CASE("palette: overlay blends, leaves ignored pixels, and wants equal sizes") {
  io::palette p;
  p.names = {"a"}, p.colors = {{200, 0, 100}};
  io::image8 gray(2, 1, 1, 100), ids(2, 1, 1);
  ids.data = {0, 255};
  CHECK(io::overlay(gray, ids, p, 0.5).data == std::vector<std::uint8_t>{150, 50, 100, 100, 100, 100});
  CHECK(io::overlay(gray, ids, p, 0.0).data == std::vector<std::uint8_t>(6, 100));
  CHECK(io::overlay(gray, ids, p, 1.0).data == std::vector<std::uint8_t>{200, 0, 100, 100, 100, 100});
  CHECK_THROWS_AS(io::overlay(gray, io::image8(1, 1, 1), p), usage_error);
  CHECK_THROWS_AS(io::overlay(gray, ids, p, 1.5), usage_error);
}
