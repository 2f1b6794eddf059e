// SPDX-License-Identifier: MIT
// PNG and JPEG: exact samples, class ids from palettes, and files that are not what they say.
#include "rsseg/io/image.hpp"

#include <doctest/doctest.h>

#include <cmath>

#include "io_png.hpp"
#include "io_temp.hpp"
#include "rsseg/core/random.hpp"

using namespace rsseg;
using test::bytes;
using test::has;

namespace {
io::image8 noise(int width, int height, int channels) {
  io::image8 picture(width, height, channels);
  random_stream random(3, std::uint64_t(channels));
  for (std::uint8_t& v : picture.data) v = std::uint8_t(random.next());
  return picture;
}
std::string message(const bytes& data) {
  test::temporary_folder folder;
  test::put(folder.file("x.png"), data);
  const std::string text = test::message_of<input_error>([&] { io::read_image(folder.file("x.png")); });
  CHECK(has(text, "x.png"));
  return text;
}
const bytes colors{10, 20, 30, 40, 50, 60, 10, 20, 30, 255, 0, 0};  // indices 0 and 2 have the same colour
}  // namespace

TEST_CASE("image: PNG round trip of 1 to 4 channels") {
  test::temporary_folder folder;
  for (int channels = 1; channels <= 4; ++channels) {
    const io::image8 picture = noise(37, 21, channels);
    io::write_image(folder.file("p.png"), picture);
    const io::image8 back = io::read_image(folder.file("p.png"));
    CHECK(back.width == 37);
    CHECK(back.height == 21);
    CHECK(back.channels == channels);
    CHECK(back.data == picture.data);
    CHECK(io::probe_image(folder.file("p.png")).channels == channels);
  }
}

TEST_CASE("image: JPEG keeps a smooth picture within a few levels") {
  test::temporary_folder folder;
  io::image8 picture(64, 48, 3);
  for (int y = 0; y < 48; ++y)
    for (int x = 0; x < 64; ++x)
      picture.at(x, y, 0) = std::uint8_t(2 * x + 40), picture.at(x, y, 1) = std::uint8_t(3 * y + 50), picture.at(x, y, 2) = 90;
  io::write_image(folder.file("p.jpg"), picture, 95);
  const io::image8 back = io::read_image(folder.file("p.jpg"));
  REQUIRE(back.data.size() == picture.data.size());
  int worst = 0;
  for (std::size_t i = 0; i < back.data.size(); ++i) worst = std::max(worst, std::abs(int(back.data[i]) - int(picture.data[i])));
  CHECK(worst <= 6);
  CHECK(io::probe_image(folder.file("p.jpg")).jpeg);
  CHECK(has(test::message_of<input_error>([&] { io::read_class_ids(folder.file("p.jpg")); }), "does not keep class ids"));
}

TEST_CASE("image: palette masks give their indices, at every depth, also where two entries share a colour") {
  const bytes eight = test::make_png({4, 2, 8, 3, {0, 1, 2, 3, 3, 2, 1, 0}, colors, {}});
  CHECK(io::decode_class_ids(eight, "m").data == bytes{0, 1, 2, 3, 3, 2, 1, 0});
  const bytes two = test::make_png({4, 2, 2, 3, {0b00011011, 0b11100100}, colors, {}});
  CHECK(io::decode_class_ids(two, "m").data == bytes{0, 1, 2, 3, 3, 2, 1, 0});
  const bytes four = test::make_png({3, 1, 4, 3, {0x03, 0x20}, colors, {}});
  CHECK(io::decode_class_ids(four, "m").data == bytes{0, 3, 2});
  const bytes one = test::make_png({10, 1, 1, 3, {0b10100000, 0b01000000}, colors, {}});
  CHECK(io::decode_class_ids(one, "m").data == bytes{1, 0, 1, 0, 0, 0, 0, 0, 0, 1});
  const bytes clear = test::make_png({4, 2, 8, 3, {0, 1, 2, 3, 3, 2, 1, 0}, colors, {0, 255, 128, 255}});
  CHECK(io::decode_class_ids(clear, "m").data == bytes{0, 1, 2, 3, 3, 2, 1, 0});
  CHECK(io::decode_image(eight, "m").channels == 3);
  CHECK(io::decode_image(eight, "m").at(1, 0, 2) == 60);
  CHECK(io::probe_image(eight, "m").palette);
  test::temporary_folder folder;
  test::put(folder.file("m.png"), eight);
  const std::vector<io::rgb> palette = io::read_png_palette(folder.file("m.png"));
  REQUIRE(palette.size() == 4);
  CHECK(palette[1] == io::rgb{40, 50, 60});
}

TEST_CASE("image: class ids of gray, 16-bit, gray + alpha and equal-channel masks") {
  CHECK(io::decode_class_ids(test::make_png({3, 1, 8, 0, {0, 7, 255}, {}, {}}), "m").data == bytes{0, 7, 255});
  CHECK(io::decode_class_ids(test::make_png({3, 1, 8, 0, {0, 7, 255}, {}, {0, 7}}), "m").data == bytes{0, 7, 255});
  CHECK(io::decode_class_ids(test::make_png({8, 1, 1, 0, {0b01000001}, {}, {}}), "m").data == bytes{0, 1, 0, 0, 0, 0, 0, 1});
  CHECK(io::decode_class_ids(test::make_png({2, 1, 4, 0, {0x5F}, {}, {}}), "m").data == bytes{5, 15});
  CHECK(io::decode_class_ids(test::make_png({2, 1, 16, 0, {0, 3, 0, 255}, {}, {}}), "m").data == bytes{3, 255});
  CHECK(has(test::message_of<input_error>([] { io::decode_class_ids(test::make_png({1, 1, 16, 0, {1, 0}, {}, {}}), "m.png"); }), "class id 256"));
  CHECK(io::decode_class_ids(test::make_png({2, 1, 8, 4, {3, 0, 4, 255}, {}, {}}), "m").data == bytes{3, 4});
  CHECK(io::decode_class_ids(test::make_png({2, 1, 8, 2, {3, 3, 3, 4, 4, 4}, {}, {}}), "m").data == bytes{3, 4});
  CHECK(has(test::message_of<input_error>([] {
              io::decode_class_ids(test::make_png({1, 1, 8, 2, {3, 3, 4}, {}, {}}), "m.png");
            }),
            "give the palette"));
}

TEST_CASE("image: 16-bit samples") {
  const bytes deep = test::make_png({2, 1, 16, 2, {0x12, 0x34, 0, 1, 0xFF, 0xFF, 0, 0, 0xAB, 0xCD, 0, 2}, {}, {}});
  CHECK(io::decode_image16(deep, "d").data == std::vector<std::uint16_t>{0x1234, 1, 0xFFFF, 0, 0xABCD, 2});
  CHECK(has(test::message_of<input_error>([&] { io::decode_image(deep, "d"); }), "16 bits"));
  CHECK(io::decode_image16(test::make_png({1, 1, 8, 0, {0x12}, {}, {}}), "d").data == std::vector<std::uint16_t>{0x1212});
}

TEST_CASE("image: channels asked for") {
  const bytes gray = test::make_png({2, 1, 8, 0, {5, 6}, {}, {}});
  CHECK(io::decode_image(gray, "g", 3).data == bytes{5, 5, 5, 6, 6, 6});
  CHECK(io::decode_image(test::make_png({1, 1, 8, 6, {5, 6, 7, 0}, {}, {}}), "g", 3).data == bytes{5, 6, 7});
  CHECK_THROWS_AS(io::decode_image(gray, "g", 2), usage_error);
}

TEST_CASE("image: files that are something else") {
  CHECK(has(message({}), "is empty"));
  CHECK(has(message(bytes(200, 'a')), "is a text file"));
  CHECK(has(message({'I', 'I', '*', 0, 1, 2, 3, 4}), "is a TIFF"));
  CHECK(has(message({'G', 'I', 'F', '8', '9', 'a'}), "GIF"));
  CHECK(has(message(bytes(200, 0xEE)), "neither PNG nor JPEG"));
  CHECK(has(message({0x89, 'P', 'N', 'G', 13, 10, 26, 10}), "truncated"));
  CHECK(has(message({0xFF, 0xD8, 0xFF}), "truncated"));
  CHECK(has(message({0xFF, 0xD8, 0xFF, 0xD9}), "holds no picture"));
  CHECK(has(message({0xFF, 0xD8, 0xFF, 0xC0, 0, 20, 8, 0, 9, 0, 9, 4, 1, 17, 0, 2, 17, 0, 3, 17, 0, 4, 17, 0}), "CMYK"));
  CHECK(has(message({0xFF, 0xD8, 0xFF, 0xC9, 0, 11, 8, 0, 9, 0, 9, 1, 1, 17, 0}), "arithmetic"));
  CHECK(has(message({0xFF, 0xD8, 0xFF, 0xC1, 0, 11, 12, 0, 9, 0, 9, 1, 1, 17, 0}), "12 bits"));
  test::temporary_folder folder;
  CHECK(has(test::message_of<input_error>([&] { io::read_image(folder.file("none.png")); }), "no such file"));
  CHECK(has(test::message_of<input_error>([&] { io::probe_image(folder.file("none.png")); }), "no such file"));
  CHECK(has(test::message_of<input_error>([&] { io::read_image(folder.path.string()); }), "is a folder"));
}

TEST_CASE("image: a huge header on a tiny file is refused before memory is touched") {
  CHECK(has(message(test::make_png({100000, 100000, 8, 2, {}, {}, {}})), "100000 x 100000 pixels, more than the limit"));
  CHECK(has(message(test::make_png({16000, 16000, 16, 6, {}, {}, {}})), "too little data"));
  const bytes small = test::make_png({4, 2, 8, 0, bytes(8, 1), {}, {}});
  io::image_limits limits;
  limits.max_pixels = 7;
  CHECK(has(test::message_of<input_error>([&] { io::decode_image(small, "s", 0, limits); }), "limit of 7"));
}

TEST_CASE("image: writing what cannot be written") {
  test::temporary_folder folder;
  CHECK_THROWS_AS(io::write_image(folder.file("p.bmp"), noise(2, 2, 3)), usage_error);
  CHECK_THROWS_AS(io::write_image(folder.file("p.png"), io::image8()), usage_error);
  CHECK_THROWS_AS(io::write_image(folder.file("p.png"), noise(2, 2, 5)), usage_error);
  CHECK_THROWS_AS(io::write_image(folder.file("p.jpg"), noise(2, 2, 4)), usage_error);
  CHECK_THROWS_AS(io::write_image(folder.file("p.jpg"), noise(2, 2, 3), 0), usage_error);
  CHECK_THROWS_AS(io::write_image(folder.file("no/p.png"), noise(2, 2, 3)), output_error);
  CHECK(folder.names().empty());
}

TEST_CASE("image: truncated anywhere is refused; mutations never crash") {
  const bytes png = test::make_png({9, 7, 2, 3, bytes(21, 0x1B), colors, {}});
  const bytes png8 = io::encode_png(noise(17, 9, 3));
  const bytes jpeg = io::encode_jpeg(noise(40, 24, 3), 80);
  for (const bytes* good : {&png, &png8, &jpeg}) {
    CHECK_NOTHROW(io::decode_image(*good, "g"));
    for (std::size_t length = 1; length < good->size(); ++length)
      CHECK_THROWS_AS(io::decode_image(bytes(good->begin(), good->begin() + std::ptrdiff_t(length)), "t"), input_error);
    random_stream random(11, good->size());
    int refused = 0;
    for (int round = 0; round < 3000; ++round) {
      bytes bad = *good;
      for (std::uint32_t edits = 1 + random.below(3); edits > 0; --edits) bad[random.below(std::uint32_t(bad.size()))] = std::uint8_t(random.next());
      try {
        const io::image8 picture = io::decode_image(bad, "m");
        CHECK(picture.data.size() == std::size_t(picture.pixels()) * picture.channels);
      } catch (const input_error&) {
        ++refused;
      }
    }
    if (good != &jpeg) CHECK(refused > 2900);  // the check sums; a JPEG has none
  }
  // Past the check sums: mutate the chunks, then make the sums right again, so that stb_image itself meets the damage.
  random_stream random(12, 0);
  for (int round = 0; round < 3000; ++round) {
    bytes bad = round % 2 ? png : png8;
    for (std::uint32_t edits = 1 + random.below(4); edits > 0; --edits)
      bad[16 + random.below(std::uint32_t(bad.size() - 32))] = std::uint8_t(random.next());
    bytes fixed(bad.begin(), bad.begin() + 8);
    for (std::size_t at = 8; at + 12 <= bad.size();) {
      const std::size_t length = std::size_t(bad[at]) << 24 | std::size_t(bad[at + 1]) << 16 | std::size_t(bad[at + 2]) << 8 | bad[at + 3];
      if (length > bad.size() - at - 12) break;
      test::append_chunk(fixed, std::string(bad.begin() + std::ptrdiff_t(at + 4), bad.begin() + std::ptrdiff_t(at + 8)),
                         bytes(bad.begin() + std::ptrdiff_t(at + 8), bad.begin() + std::ptrdiff_t(at + 8 + length)));
      at += length + 12;
    }
    io::image_limits limits;
    limits.max_pixels = 1 << 20;
    try {
      io::decode_image(fixed, "f", 0, limits);
    } catch (const input_error&) {
    }
    try {
      io::decode_class_ids(fixed, "f", limits);
    } catch (const input_error&) {
    }
  }
}
