// SPDX-License-Identifier: MIT
// List files, folders, class tables, mask values, the cache, and what goes wrong with them.
#include <doctest/doctest.h>

#include "data_helpers.hpp"
#include "rsseg/data/registry.hpp"

using namespace rsseg;
using namespace rsseg::data;
using test::has;
using test::message_of;

TEST_SUITE_BEGIN("data");

TEST_CASE("list lines: spaces, tabs, quotes, comments") {
  using fields = std::vector<std::string>;
  CHECK(list_fields("a.png b.png") == fields{"a.png", "b.png"});
  CHECK(list_fields("  a.png   b.png  # why") == fields{"a.png", "b.png"});
  CHECK(list_fields("my a.png\tmy b.png\r") == fields{"my a.png", "my b.png"});
  CHECK(list_fields("\"my #1.png\" b.png") == fields{"my #1.png", "b.png"});
  CHECK(list_fields("a#b.png c.png") == fields{"a#b.png", "c.png"});
  CHECK(list_fields("# only a comment").empty());
  CHECK(list_fields("").empty());
}

TEST_CASE("a list of pairs is read relative to its folder") {
  test::temporary_folder t;
  test::put_picture(t.path / "in/my a.png", 6, 4);
  test::put_grey(t.path / "out/a.png", 6, 4, {0, 1, 2, 255, 0});
  test::put(t.file("list.txt"), std::string("# image mask\n\"in/my a.png\" out/a.png\n"));
  const auto set = open_dataset(t.file("list.txt"));
  REQUIRE(set->size() == 1);
  CHECK(set->classes().count() == 3);  // measured: ids 0, 1, 2
  CHECK(set->bands() == 3);
  CHECK(set->name(0) == "my a");
  const auto s = set->load(0);
  CHECK(s->image.width == 6);
  CHECK(s->labels.at(0, 2) == 2);
  CHECK(s->labels.at(0, 3) == 255);
  CHECK(std::get<0>(s->image.values)[(1 * 6 + 2) * 3 + 1] == 10 + 2 + 1);
}

TEST_CASE("a list of names finds images/ and masks/ beside it and one folder up") {
  test::temporary_folder t;
  for (const char* n : {"p1", "p2"}) {
    test::put_picture(t.path / "images" / (std::string(n) + ".jpg"), 8, 8);
    test::put_grey(t.path / "masks" / (std::string(n) + ".png"), 8, 8, {1, 0});
  }
  test::put(t.file("classes.json"), std::string(R"({"names":["a","b"],"palette_rgb":{"b":[1,2,3]},"ignore_index":255})"));
  test::put(t.file("train.txt"), std::string("p2\n\np1.jpg\n"));
  std::filesystem::create_directories(t.path / "split_b");
  test::put((t.path / "split_b/train.txt").string(), std::string("p1\n"));
  const auto set = open_dataset(t.file("train.txt"));
  CHECK(set->size() == 2);
  CHECK(set->name(0) == "p2");
  CHECK(set->classes().names == std::vector<std::string>{"a", "b"});
  CHECK(set->classes().palette[1] == colour{1, 2, 3});
  const auto other = open_dataset((t.path / "split_b/train.txt").string());
  CHECK(other->size() == 1);
  CHECK(other->classes().names[0] == "a");            // from the folder above
  CHECK(open_dataset(t.path.string())->size() == 2);  // the folder itself
}

TEST_CASE("masks in colours, with a colour that is ignored") {
  test::temporary_folder t;
  test::put_picture(t.path / "images/x.png", 3, 1);
  test::put_colours(t.path / "masks/x.png", 3, 1, {{0, 0, 255}, {255, 0, 0}, {9, 9, 9}});
  const std::string head = R"({"names":["red","blue"],"palette":[[255,0,0],[0,0,255]],"mask":"colours")";
  test::put(t.file("classes.json"), head + R"(,"ignore_colours":[[9,9,9]]})");
  CHECK(open_dataset(t.path.string())->load(0)->labels.ids == std::vector<std::uint8_t>{1, 0, 255});
  test::put(t.file("classes.json"), head + "}");
  const auto text = message_of<input_error>([&] { open_dataset(t.path.string())->load(0); });
  CHECK(has(text, "x.png"));
  CHECK(has(text, "x=2 y=0"));
  CHECK(has(text, "(9,9,9)"));
}

TEST_CASE("an id out of range names file, pixel, id and class count") {
  test::temporary_folder t;
  test::put_picture(t.path / "images/x.png", 4, 2);
  test::put_grey(t.path / "masks/x.png", 4, 2, {0, 1, 0, 1, 0, 0, 7, 0});
  open_options o;
  o.classes = 2;
  const auto text = message_of<input_error>([&] { open_dataset(t.path.string(), o)->load(0); });
  CHECK(has(text, "masks/x.png"));
  CHECK(has(text, "x=2 y=1"));
  CHECK(has(text, "id 7"));
  CHECK(has(text, "2 classes"));
  o.ignore_id = 7;
  CHECK(open_dataset(t.path.string(), o)->load(0)->labels.at(1, 2) == 7);
}

TEST_CASE("image and mask of different size: both sizes are named") {
  test::temporary_folder t;
  test::put_picture(t.path / "images/x.png", 5, 4);
  test::put_grey(t.path / "masks/x.png", 4, 5, {0});
  const auto text = message_of<input_error>([&] { open_dataset(t.path.string())->load(0); });
  CHECK(has(text, "4x5"));
  CHECK(has(text, "5x4"));
}

TEST_CASE("missing, empty and foreign files") {
  test::temporary_folder t;
  CHECK(has(message_of<input_error>([&] { open_dataset(t.file("none")); }), "does not exist"));
  CHECK(has(message_of<input_error>([&] { open_dataset(t.path.string()); }), "images/"));
  test::put(t.file("empty.txt"), std::string("# nothing\n"));
  CHECK(has(message_of<input_error>([&] { open_dataset(t.file("empty.txt")); }), "no pairs"));
  test::put(t.file("list.txt"), std::string("a.png b.png\n"));
  const auto text = message_of<input_error>([&] { open_dataset(t.file("list.txt")); });
  CHECK(has(text, "line 1"));
  CHECK(has(text, "a.png"));
  test::put(t.file("three.txt"), std::string("a b c\n"));
  CHECK(has(message_of<input_error>([&] { open_dataset(t.file("three.txt")); }), "3 fields"));
  test::put(t.file("binary.txt"), std::string("a\0b", 3));
  CHECK(has(message_of<input_error>([&] { open_dataset(t.file("binary.txt")); }), "binary"));
  test::put_picture(t.path / "x.png", 4, 4);
  CHECK(has(message_of<input_error>([&] { open_dataset(t.file("x.png")); }), "an image"));
  CHECK(has(message_of<usage_error>([&] { open_dataset("nosuchset:/tmp"); }), "deepglobe"));
  test::put_picture(t.path / "images/x.png", 4, 4);
  std::filesystem::create_directories(t.path / "masks");
  CHECK(has(message_of<input_error>([&] { open_dataset(t.path.string()); }), "no mask"));
  test::put((t.path / "masks/x.png").string(), std::string("no picture at all"));
  CHECK(has(message_of<input_error>([&] { open_dataset(t.path.string()); }), "masks/x.png"));
}

TEST_CASE("class tables") {
  test::temporary_folder t;
  class_table c = class_table::numbered(3);
  c.ignore_id = 0, c.colour_masks = true, c.ignore_colours = {{{1, 1, 1}}};
  test::put(t.file("classes.json"), classes_json(c));
  const class_table back = read_classes(t.file("classes.json"));
  CHECK(back.names == c.names);
  CHECK(back.palette == c.palette);
  CHECK(back.ignore_id == 0);
  CHECK(back.colour_masks);
  CHECK(back.ignore_colours == c.ignore_colours);
  for (const char* bad : {"{", "[]", R"({"names":[]})", R"({"names":["a"],"palette":[]})", R"({"names":["a"],"ignore_index":300})", R"({"names":7})",
                          R"({"names":["a"],"palette":[[1,2]]})", R"({"names":["a"],"palette":[[1,2,300]]})"}) {
    CAPTURE(bad);
    test::put(t.file("classes.json"), std::string(bad));
    CHECK(has(message_of<input_error>([&] { read_classes(t.file("classes.json")); }), "classes.json"));
  }
  CHECK(voc_colour(1) == colour{128, 0, 0});
  CHECK(voc_colour(15) == colour{192, 128, 128});
  CHECK(voc_colour(255) == colour{224, 224, 192});
}

TEST_CASE("the cache keeps what was used last within its bound") {
  struct counting final : dataset {
    mutable std::vector<int> loads = std::vector<int>(4);
    class_table table = class_table::numbered(2);
    std::size_t size() const override { return 4; }
    std::string name(std::size_t i) const override { return std::to_string(i); }
    const class_table& classes() const override { return table; }
    int bands() const override { return 1; }
    std::shared_ptr<const sample> load(std::size_t i) const override {
      ++loads[i];
      auto s = std::make_shared<sample>();
      s->image = {1000, 400, 1, std::vector<std::uint8_t>(400000), std::nullopt};
      s->labels = {1000, 400, std::vector<std::uint8_t>(400000, std::uint8_t(i))};
      return s;
    }
  };
  const auto inner = std::make_shared<counting>();
  const cached_dataset cache(inner, 2);  // two samples of 0.8 MB
  for (const std::size_t i : {0, 1, 0, 1, 2, 1, 0}) CHECK(cache.load(i)->labels.ids[0] == i);
  CHECK(inner->loads == std::vector<int>{2, 1, 1, 0});  // 2 drove 0 out, not 1, which was used later
  CHECK(cache.held_bytes() <= 2000000);
  const cached_dataset none(inner, 0);
  none.load(3), none.load(3);
  CHECK(inner->loads[3] == 2);
}

TEST_CASE("GeoTIFF of four bands and 16 bits; pixels without data are ignored" * doctest::skip(!io::has_gdal())) {
  test::temporary_folder t;
  io::raster_info info;
  info.width = 3, info.height = 2, info.bands = 4, info.type = io::sample_type::u16, info.nodata = 0;
  std::vector<std::uint16_t> v(24);
  for (std::size_t i = 4; i < v.size(); ++i) v[i] = std::uint16_t(1000 * i);
  std::filesystem::create_directories(t.path / "images");
  const auto sink = io::create_raster((t.path / "images/s.tif").string(), info);
  sink->write_rows(0, 2, v.data());
  sink->close();
  test::put_grey(t.path / "masks/s.png", 3, 2, {1, 1, 0});
  const auto set = open_dataset(t.path.string());
  CHECK(set->bands() == 4);
  const auto s = set->load(0);
  CHECK(std::get<1>(s->image.values)[23] == 23000);
  CHECK(s->image.unit_scale() == doctest::Approx(1 / 65535.0));
  CHECK(s->labels.ids == std::vector<std::uint8_t>{255, 1, 0, 0, 0, 0});
}

TEST_SUITE_END();
