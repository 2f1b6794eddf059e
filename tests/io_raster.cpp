// SPDX-License-Identifier: MIT
// Rasters by windows: exact values, georeference kept, nothing half-written, and a scene continued after kill -9.
#include "rsseg/io/raster.hpp"

#include <doctest/doctest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <numeric>

#include "io_png.hpp"
#include "io_temp.hpp"
#include "rsseg/core/random.hpp"
#include "rsseg/io/atomic_file.hpp"

using namespace rsseg;
using test::has;

namespace {
io::raster_info info_of(int width, int height, int bands, io::sample_type type = io::sample_type::u8) {
  io::raster_info info;
  info.width = width, info.height = height, info.bands = bands, info.type = type;
  return info;
}
[[maybe_unused]] const char* wgs84 =
    "GEOGCS[\"WGS 84\",DATUM[\"WGS_1984\",SPHEROID[\"WGS 84\",6378137,298.257223563]],PRIMEM[\"Greenwich\",0],UNIT[\"degree\",0.0174532925199433]]";
template <class T>
std::vector<T> noise(const io::raster_info& info) {
  std::vector<T> values(std::size_t(info.width) * info.height * info.bands);
  random_stream random(5, 0);
  for (T& v : values) v = T(random.next() >> 8);
  return values;
}
}  // namespace

TEST_CASE("raster: memory source and sink, windows and their limits") {
  const io::raster_info info = info_of(5, 4, 2, io::sample_type::f32);
  std::vector<float> values(40);
  std::iota(values.begin(), values.end(), 0.0f);
  const auto source = io::memory_source(info, values);
  std::vector<float> out(2 * 3 * 2);
  source->read_window(2, 1, 2, 3, out.data());
  CHECK(out == std::vector<float>{14, 15, 16, 17, 24, 25, 26, 27, 34, 35, 36, 37});
  const int bad[][4] = {{-1, 0, 1, 1}, {0, -1, 1, 1}, {0, 0, 6, 1},          {4, 0, 2, 1},
                        {0, 3, 1, 2},  {0, 0, 0, 1},  {2147483647, 0, 1, 1}, {1, 1, 2147483647, 1}};
  for (const auto& w : bad) CHECK_THROWS_AS(source->read_window(w[0], w[1], w[2], w[3], out.data()), usage_error);
  CHECK_THROWS_AS(io::memory_source(info, {1, 2, 3}), usage_error);

  io::memory_raster sink(info);
  sink.write_window(2, 1, 2, 3, out.data());
  CHECK(sink.values()[(1 * 5 + 2) * 2] == 14);
  CHECK(sink.values()[(3 * 5 + 3) * 2 + 1] == 37);
  CHECK(sink.values()[0] == 0);
  const std::uint8_t byte = 0;
  CHECK_THROWS_AS(sink.write_window(0, 0, 1, 1, &byte), usage_error);
  CHECK_THROWS_AS(sink.write_window(4, 0, 2, 1, out.data()), usage_error);
  sink.close();
  CHECK_THROWS_AS(sink.write_window(0, 0, 1, 1, out.data()), usage_error);
}

TEST_CASE("raster: PNG and JPEG with world file and projection, both ways") {
  test::temporary_folder folder;
  io::raster_info info = info_of(7, 5, 3);
  info.geotransform = {100.25, 0.5, 0.125, -20.1, 0.0625, -0.5};
  info.projection = "LOCAL_CS[\"here\"]";
  const auto values = noise<std::uint8_t>(info);
  {
    const auto sink = io::create_raster(folder.file("a.png"), info);
    sink->write_window(0, 0, 7, 2, values.data());
    sink->write_rows(2, 3, values.data() + 2 * 7 * 3);
    CHECK(folder.names().empty());
    sink->close();
  }
  const auto source = io::open_raster(folder.file("a.png"));
  CHECK(source->info().bands == 3);
  CHECK(source->info().projection == info.projection);
  REQUIRE(source->info().geotransform);
  for (int i = 0; i < 6; ++i)
    CHECK((*source->info().geotransform)[std::size_t(i)] == doctest::Approx((*info.geotransform)[std::size_t(i)]).epsilon(1e-14));
  CHECK(io::probe_raster(folder.file("a.png")).geotransform);
  std::vector<float> out(values.size());
  source->read_window(0, 0, 7, 5, out.data());
  CHECK(std::equal(values.begin(), values.end(), out.begin()));
  source->read_window(3, 2, 1, 1, out.data());
  CHECK(out[1] == values[(2 * 7 + 3) * 3 + 1]);

  // The numbers as the ESRI convention has them: the centre of the first pixel.
  test::put(folder.file("a.pgw"), "2\r\n0\r\n0\r\n-2\r\n+101\r\n199\r\n");
  const auto again = io::open_raster(folder.file("a.png"));
  CHECK(*again->info().geotransform == std::array<double, 6>{100, 2, 0, 200, 0, -2});
  test::put(folder.file("a.pgw"), "2\n0\n0\nnot a number\n1\n1\n");
  CHECK(has(test::message_of<input_error>([&] { io::open_raster(folder.file("a.png")); }), "expected six numbers, got 3"));
  CHECK(io::create_raster(folder.file("b.jpg"), info)->info().width == 7);
}

TEST_CASE("raster: palette and 16-bit PNGs keep their samples") {
  test::temporary_folder folder;
  test::put(folder.file("p.png"), test::make_png({4, 1, 8, 3, {0, 1, 1, 0}, {9, 9, 9, 7, 8, 9}, {}}));
  const auto ids = io::open_raster(folder.file("p.png"));
  CHECK(ids->info().bands == 1);
  REQUIRE(ids->info().colors.size() == 2);
  CHECK(ids->info().colors[1] == io::rgb{7, 8, 9});
  float out[4];
  ids->read_window(0, 0, 4, 1, out);
  CHECK(out[1] == 1.0f);
  test::put(folder.file("d.png"), test::make_png({2, 1, 16, 0, {0x12, 0x34, 0xFF, 0xFF}, {}, {}}));
  const auto deep = io::open_raster(folder.file("d.png"));
  CHECK(deep->info().type == io::sample_type::u16);
  deep->read_window(0, 0, 2, 1, out);
  CHECK(out[0] == 0x1234);
  CHECK(out[1] == 65535.0f);
  CHECK(io::read_ids(folder.file("p.png")).at(2, 0) == 1);
  CHECK(io::read_pixels(folder.file("d.png")).at(1, 0) == 65535.0f);
}

TEST_CASE("raster: bad requests and bad files") {
  test::temporary_folder folder;
  CHECK(has(test::message_of<input_error>([&] { io::open_raster(folder.file("none.tif")); }), "no such file"));
  test::put(folder.file("text.png"), "this is a text file");
  CHECK(has(test::message_of<input_error>([&] { io::open_raster(folder.file("text.png")); }), "text file"));
  CHECK_THROWS_AS(io::create_raster(folder.file("x.bmp"), info_of(4, 4, 1)), usage_error);
  CHECK_THROWS_AS(io::create_raster(folder.file("x.png"), info_of(4, 4, 1, io::sample_type::f32)), usage_error);
  CHECK_THROWS_AS(io::create_raster(folder.file("x.jpg"), info_of(4, 4, 2)), usage_error);
  CHECK_THROWS_AS(io::create_raster(folder.file("x.png"), info_of(0, 4, 1)), usage_error);
  CHECK_THROWS_AS(io::create_raster(folder.file("x.png"), info_of(100000, 100000, 1)), usage_error);
  CHECK_THROWS_AS(io::create_raster(folder.file("no/x.png"), info_of(4, 4, 1)), output_error);
  CHECK(folder.names().size() == 1);
}

TEST_CASE("raster: a resumable sink goes on after kill -9 and ends with the same bytes") {
  test::temporary_folder folder;
  const io::raster_info info = info_of(50, 40, 1);
  const auto values = noise<std::uint8_t>(info);
  const std::string whole = folder.file("whole.png"), out = folder.file("out.png");
  const auto write_unit = [&](io::raster_sink& sink, int unit) { sink.write_rows(unit * 10, 10, values.data() + unit * 500); };
  {
    const auto sink = io::create_raster(whole, info);
    for (int u = 0; u < 4; ++u) write_unit(*sink, u);
    sink->close();
  }
  io::create_options options;
  options.resumable = true, options.resume_key = "weights 1\ntile 512";
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    const auto sink = io::create_raster(out, info, options);
    for (const int u : {0, 2}) write_unit(*sink, u), sink->mark_done(u);
    sink->write_window(0, 10, 7, 1, values.data());  // begun, not finished, and wrong
    ::kill(::getpid(), SIGKILL);
  }
  ::waitpid(child, nullptr, 0);
  CHECK_FALSE(io::file_exists(out));
  CHECK(io::file_exists(out + ".partial"));
  {  // a line cut off in the middle does not count
    std::ofstream(out + ".partial.journal", std::ios::app) << "3";
    const auto sink = io::create_raster(out, info, options);
    CHECK(sink->is_done(0));
    CHECK_FALSE(sink->is_done(1));
    CHECK(sink->is_done(2));
    CHECK_FALSE(sink->is_done(3));
    write_unit(*sink, 3);
    sink->mark_done(3);
  }
  {
    const auto sink = io::create_raster(out, info, options);
    CHECK(sink->is_done(3));
    write_unit(*sink, 1);
    sink->close();
  }
  CHECK(test::get(out) == test::get(whole));
  CHECK(folder.names().size() == 2);
}

TEST_CASE("raster: a journal of other settings, or without its pixels, is not believed") {
  test::temporary_folder folder;
  const io::raster_info info = info_of(8, 8, 1);
  const std::string out = folder.file("out.png");
  io::create_options options;
  options.resumable = true, options.resume_key = "a";
  const auto begin = [&] {
    const auto sink = io::create_raster(out, info, options);
    sink->mark_done(0);
  };
  begin();
  CHECK(io::create_raster(out, info, options)->is_done(0));
  options.resume_key = "b";
  CHECK_FALSE(io::create_raster(out, info, options)->is_done(0));
  begin();
  CHECK_FALSE(io::create_raster(out, info_of(8, 9, 1), options)->is_done(0));
  begin();
  std::filesystem::remove(out + ".partial");
  CHECK_FALSE(io::create_raster(out, info, options)->is_done(0));
  begin();
  test::put(out + ".partial.journal", "");
  CHECK_FALSE(io::create_raster(out, info, options)->is_done(0));
}

#if defined(RSSEG_WITH_GDAL)
TEST_CASE("raster: GeoTIFF of every type and band count, with all that belongs to it") {
  test::temporary_folder folder;
  const std::string name = folder.file("a.tif");
  const auto round = [&](auto sample, io::sample_type type, int bands) {
    using T = decltype(sample);
    io::raster_info info = info_of(600, 300, bands, type);
    info.geotransform = {-180.0, 0.5, 0.0, 75.0, 0.0, -0.25};
    info.projection = wgs84;
    info.nodata = 255;
    for (int b = 0; b < bands; ++b) info.band_names.push_back("band " + std::to_string(b));
    if (bands == 1 && type == io::sample_type::u8) info.colors = {{1, 2, 3}, {4, 5, 6}};
    const auto values = noise<T>(info);
    const auto sink = io::create_raster(name, info);
    for (int y = 0; y < 300; y += 77) {
      const int h = std::min(77, 300 - y);
      sink->write_rows(y, h, values.data() + std::size_t(y) * 600 * bands);
    }
    sink->close();
    const auto source = io::open_raster(name);
    const io::raster_info& got = source->info();
    CHECK(got.width == 600);
    CHECK(got.bands == bands);
    CHECK(got.type == type);
    CHECK(*got.geotransform == *info.geotransform);
    CHECK(has(got.projection, "WGS 84"));
    CHECK(*got.nodata == 255);
    CHECK(got.band_names == info.band_names);
    if (!info.colors.empty()) {
      REQUIRE(got.colors.size() == 256);
      CHECK(got.colors[1] == io::rgb{4, 5, 6});
    }
    std::vector<float> out(std::size_t(300) * 33 * bands);
    source->read_window(250, 101, 300, 33, out.data());
    bool same = true;
    for (int y = 0; y < 33; ++y)
      for (int i = 0; i < 300 * bands; ++i)
        same &= out[std::size_t(y * 300 * bands + i)] == float(values[std::size_t((y + 101) * 600 + 250) * bands + i]);
    CHECK(same);
  };
  round(std::uint8_t(), io::sample_type::u8, 1);
  round(std::uint8_t(), io::sample_type::u8, 3);
  round(std::uint16_t(), io::sample_type::u16, 13);
  round(std::int16_t(), io::sample_type::i16, 2);
  round(float(), io::sample_type::f32, 5);
  CHECK(folder.names() == std::vector<std::string>{"a.tif"});
}

TEST_CASE("raster: a GeoTIFF mask of class ids") {
  test::temporary_folder folder;
  io::raster_info info = info_of(20, 10, 1);
  std::vector<std::uint8_t> ids(200, 3);
  ids[21] = 255;
  const auto sink = io::create_raster(folder.file("m.tif"), info);
  sink->write_rows(0, 10, ids.data());
  sink->close();
  const io::image8 mask = io::read_ids(folder.file("m.tif"));
  CHECK(mask.data == ids);
  io::raster_info wide = info_of(2, 1, 1, io::sample_type::f32);
  const float odd[2] = {0, 1.5f};
  const auto floats = io::create_raster(folder.file("f.tif"), wide);
  floats->write_rows(0, 1, odd);
  floats->close();
  CHECK(has(test::message_of<input_error>([&] { io::read_ids(folder.file("f.tif")); }), "1.5"));
}

TEST_CASE("raster: GeoTIFF truncated or mutated gives one line and no noise on stderr") {
  test::temporary_folder folder;
  const io::raster_info info = info_of(64, 64, 3);
  const auto values = noise<std::uint8_t>(info);
  const auto sink = io::create_raster(folder.file("good.tif"), info);
  sink->write_rows(0, 64, values.data());
  sink->close();
  const test::bytes good = test::get(folder.file("good.tif"));
  const std::string bad = folder.file("bad.tif");
  std::fflush(stderr);
  const int saved = ::dup(2);
  const std::string noise_file = folder.file("stderr");
  REQUIRE(::freopen(noise_file.c_str(), "w", stderr));
  int refused = 0;
  random_stream random(21, 0);
  std::vector<float> out(64 * 64 * 8);
  for (int round = 0; round < 400; ++round) {
    test::bytes bytes = good;
    if (round < 100)
      bytes.resize(good.size() * std::size_t(round) / 100);
    else
      for (std::uint32_t edits = 1 + random.below(4); edits > 0; --edits) bytes[random.below(400)] = std::uint8_t(random.next());
    test::put(bad, bytes);
    const std::string text = test::message_of<input_error>([&] {
      const auto source = io::open_raster(bad);
      const int w = std::min(source->info().width, 64), h = std::min(source->info().height, 64);
      if (source->info().bands <= 8) source->read_window(0, 0, w, h, out.data());
    });
    refused += text != "no exception";
    if (round < 100) CHECK(text != "no exception");
    CHECK(text.find('\n') == std::string::npos);
  }
  std::fflush(stderr);
  ::dup2(saved, 2);
  ::close(saved);
  CHECK(refused > 150);
  CHECK(std::filesystem::file_size(noise_file) == 0);
  CHECK(has(test::message_of<input_error>([&] { test::put(bad, std::string("text")), io::open_raster(bad); }), "bad.tif"));
}

TEST_CASE("raster: GeoTIFF without close, on a full disk, or into nowhere leaves nothing") {
  test::temporary_folder folder;
  const io::raster_info info = info_of(600, 600, 3, io::sample_type::f32);
  const auto values = noise<float>(info);
  {
    const auto sink = io::create_raster(folder.file("a.tif"), info);
    sink->write_rows(0, 600, values.data());
  }
  CHECK(folder.names().empty());
  CHECK_THROWS_AS(io::create_raster(folder.file("no/a.tif"), info), output_error);
  CHECK_THROWS_AS(io::create_raster("/dev/full/a.tif", info), output_error);
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{100'000, 100'000};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    const std::string text = test::message_of<output_error>([&] {
      const auto sink = io::create_raster(folder.file("a.tif"), info);
      sink->write_rows(0, 600, values.data());
      sink->close();
    });
    ::_exit(has(text, "a.tif") ? 0 : 1);
  }
  int status = -1;
  ::waitpid(child, &status, 0);
  CHECK(status == 0);
  CHECK(folder.names().empty());
}

TEST_CASE("raster: what a killed run left under the temporary name does not disturb") {
  test::temporary_folder folder;
  const io::raster_info info = info_of(300, 20, 1);
  const auto values = noise<std::uint8_t>(info);
  for (const std::string& rest : {std::string("garbage"), std::string("II*\0\x08\0\0\0\xFF\xFF", 10), std::string(100000, 'x')}) {
    test::put(folder.file(".a.tif.tmp"), rest);
    const auto sink = io::create_raster(folder.file("a.tif"), info);
    sink->write_rows(0, 20, values.data());
    sink->close();
    const io::image<float> back = io::read_pixels(folder.file("a.tif"));
    CHECK(std::equal(values.begin(), values.end(), back.data.begin()));
    CHECK(folder.names() == std::vector<std::string>{"a.tif"});
  }
}

TEST_CASE("raster: a resumable GeoTIFF equals one written at once") {
  test::temporary_folder folder;
  const io::raster_info info = info_of(700, 530, 1);
  const auto values = noise<std::uint8_t>(info);
  io::create_options options;
  options.resumable = true;
  for (int run = 0; run < 2; ++run) {
    const auto sink = io::create_raster(folder.file("r.tif"), info, options);
    CHECK(sink->is_done(0) == (run == 1));
    const int from = run == 0 ? 0 : 265;
    sink->write_rows(from, 265, values.data() + std::size_t(from) * 700);
    sink->mark_done(run);
    if (run == 1) sink->close();
  }
  const io::image<float> back = io::read_pixels(folder.file("r.tif"));
  CHECK(std::equal(values.begin(), values.end(), back.data.begin()));
  CHECK(folder.names().size() == 1);
}
#else
TEST_CASE("raster: without GDAL the message names the option and the package") {
  test::temporary_folder folder;
  test::put(folder.file("a.tif"), "II*");
  const std::string text = test::message_of<input_error>([&] { io::open_raster(folder.file("a.tif")); });
  CHECK(has(text, "-Dgdal=enabled"));
  CHECK(has(text, "libgdal-dev"));
  CHECK(has(test::message_of<usage_error>([&] { io::create_raster(folder.file("b.tif"), info_of(2, 2, 1)); }), "-Dgdal=enabled"));
}
#endif
