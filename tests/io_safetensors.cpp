// SPDX-License-Identifier: MIT
// safetensors: round trips, the format's example bytes, and every way a file can lie.
#include "rsseg/io/safetensors.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "io_temp.hpp"
#include "rsseg/core/random.hpp"

using namespace rsseg;
using test::has;

namespace {
/// A file of this header and as many zero bytes of values.
std::vector<std::uint8_t> file_of(const std::string& header, std::size_t values) {
  std::vector<std::uint8_t> bytes;
  for (int i = 0; i < 8; ++i) bytes.push_back(std::uint8_t(header.size() >> (8 * i)));
  bytes.insert(bytes.end(), header.begin(), header.end());
  bytes.resize(bytes.size() + values);
  return bytes;
}
std::string message(const std::vector<std::uint8_t>& bytes) {
  test::temporary_folder folder;
  test::put(folder.file("w.safetensors"), bytes);
  const std::string text = test::message_of<input_error>([&] { io::safetensors_reader reader(folder.file("w.safetensors")); });
  CHECK((text == "no exception" || has(text, "w.safetensors")));
  CHECK(text.find('\n') == std::string::npos);
  return text;
}
std::string message(const std::string& header, std::size_t values) { return message(file_of(header, values)); }
}  // namespace

TEST_CASE("half: all 65536 values survive, and rounding is to nearest even") {
  for (std::uint32_t bits = 0; bits < 65536; ++bits) {
    const float value = io::float_from_half(std::uint16_t(bits));
    if (std::isnan(value))
      CHECK((io::half_from_float(value) & 0x7C00u) == 0x7C00u);
    else if (io::half_from_float(value) != bits)
      FAIL("half ", bits);
    const float wide = io::float_from_bfloat(std::uint16_t(bits));
    if (!std::isnan(wide) && io::bfloat_from_float(wide) != bits) FAIL("bfloat ", bits);
  }
  CHECK(io::float_from_half(0x3C00) == 1.0f);
  CHECK(io::float_from_half(0x0001) == std::ldexp(1.0f, -24));
  CHECK(io::float_from_half(0x7BFF) == 65504.0f);
  CHECK(io::half_from_float(2049.0f) == io::half_from_float(2048.0f));  // tie: to even
  CHECK(io::half_from_float(2051.0f) == io::half_from_float(2052.0f));
  CHECK(io::half_from_float(65519.0f) == 0x7BFF);
  CHECK(io::half_from_float(65520.0f) == 0x7C00);
  CHECK(io::half_from_float(std::ldexp(1.0f, -25)) == 0);  // tie between 0 and the smallest
  CHECK(io::half_from_float(std::ldexp(1.5f, -25)) == 1);
  CHECK(io::bfloat_from_float(1.00390625f) == 0x3F80);  // 1 + 2^-8: tie, to even
  CHECK(io::bfloat_from_float(std::numeric_limits<float>::infinity()) == 0x7F80);
}

TEST_CASE("safetensors: round trip of every type") {
  test::temporary_folder folder;
  const std::string name = folder.file("all.safetensors");
  const float values[6] = {0.0f, 1.0f, -2.0f, 3.0f, 100.0f, 17.0f};
  std::vector<io::named_tensor> tensors;
  const io::dtype types[] = {io::dtype::f64, io::dtype::f32, io::dtype::f16, io::dtype::bf16,
                             io::dtype::i64, io::dtype::i32, io::dtype::i16, io::dtype::i8};
  for (const io::dtype type : types) tensors.push_back(io::named_tensor::of(std::string("z.") + io::dtype_name(type), {2, 3}, values, type));
  const std::uint8_t bytes[3] = {0, 7, 255};
  tensors.push_back(io::named_tensor::of("a.bytes", {3, 1}, bytes));
  tensors.push_back(io::named_tensor::of("scalar", {}, values + 3));
  tensors.push_back(io::named_tensor::of("nothing", {0, 4}, values));
  tensors.push_back(io::named_tensor::of("flags", {3}, bytes, io::dtype::boolean));
  io::write_safetensors(name, tensors, {{"net", "UNet"}, {"classes", "6"}, {"text", "\"\n\xC3\xA9"}});

  const io::safetensors_reader reader(name);
  CHECK(reader.metadata("net") == "UNet");
  CHECK(reader.metadata("text") == "\"\n\xC3\xA9");
  CHECK(reader.metadata("none", "?") == "?");
  REQUIRE(reader.entries().size() == tensors.size());
  for (const io::dtype type : types) {
    const std::string tensor = std::string("z.") + io::dtype_name(type);
    CHECK(reader.at(tensor).dims == std::vector<std::int64_t>{2, 3});
    CHECK(reader.read(tensor).type == type);
    CHECK(reader.values<float>(tensor) == std::vector<float>(values, values + 6));
    CHECK(reader.values<double>(tensor)[4] == 100.0);
    CHECK(reader.values<int>(tensor)[2] == -2);
  }
  CHECK(reader.entries()[0].name == "z.F64");  // the order of writing, not of the alphabet
  CHECK(reader.values<std::uint8_t>("a.bytes") == std::vector<std::uint8_t>{0, 7, 255});
  CHECK(reader.values<float>("scalar") == std::vector<float>{3.0f});
  CHECK(reader.values<float>("nothing").empty());
  CHECK(reader.values<int>("flags") == std::vector<int>{0, 1, 1});
  CHECK(reader.find("absent") == nullptr);
  CHECK(has(test::message_of<input_error>([&] { reader.read("absent"); }), "no tensor 'absent'"));
  float out[6];
  reader.read_into("z.F16", {2, 3}, out);
  CHECK(out[5] == 17.0f);
  const std::string wrong = test::message_of<input_error>([&] { reader.read_into("z.F16", {3, 2}, out); });
  CHECK(has(wrong, "expected shape [3, 2], got [2, 3]"));
}

TEST_CASE("safetensors: exact bytes of a small file") {
  test::temporary_folder folder;
  const float value = 1.0f;
  io::write_safetensors(folder.file("a"), std::vector<io::named_tensor>{io::named_tensor::of("w", {1}, &value)});
  const std::vector<std::uint8_t> bytes = test::get(folder.file("a"));
  const std::string header = R"({"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})";
  REQUIRE(bytes.size() == 8 + 56 + 4);
  CHECK(bytes[0] == 56);
  CHECK(std::string(bytes.begin() + 8, bytes.begin() + 8 + int(header.size())) == header);
  CHECK(bytes[64 + 3] == 0x3F);
}

TEST_CASE("safetensors: headers that lie") {
  CHECK(message(R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 8) == "no exception");
  CHECK(message("{}", 0) == "no exception");
  CHECK(has(message(std::vector<std::uint8_t>{}), "empty"));
  CHECK(has(message(std::vector<std::uint8_t>{1, 2, 3}), "at least 10"));
  CHECK(has(message(std::vector<std::uint8_t>(64, 0xFF)), "header length"));
  CHECK(has(message(std::vector<std::uint8_t>(64, 0)), "header length 0"));
  CHECK(has(message(std::vector<std::uint8_t>{'P', 'K', 3, 4, 0, 0, 0, 0, 0, 0, 0, 0}), "convert .pth"));
  CHECK(has(message("not json, but text of some length", 0), "does not start with"));
  CHECK(has(message(R"({"w":)", 0), "not valid JSON"));
  CHECK(has(message(std::string(100000, '{'), 0), "not valid JSON"));
  CHECK(has(message("{\"w\":" + std::string(100000, '['), 0), "not valid JSON"));
  CHECK(has(message("{\"w\":" + std::string(100000, '[') + std::string(100000, ']') + "}", 0), "expected an object"));
  CHECK(has(message("{\"\xFF\":1}", 0), "not valid JSON"));
  CHECK(has(message(R"({"w":3})", 0), "expected an object"));
  CHECK(has(message(R"({"w":{"dtype":"F32","shape":[2]}})", 8), "expected an object"));
  CHECK(has(message(R"({"w":{"dtype":"F8","shape":[2],"data_offsets":[0,8]}})", 8), "dtype \"F8\""));
  CHECK(has(message(R"({"w":{"dtype":7,"shape":[2],"data_offsets":[0,8]}})", 8), "dtype 7"));
  CHECK(has(message(R"({"w":{"dtype":"F32","shape":"2","data_offsets":[0,8]}})", 8), "shape is not an array"));
  CHECK(has(message(R"({"w":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}})", 8), "something else"));
  CHECK(has(message(R"({"w":{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}})", 8), "something else"));
  CHECK(has(message(R"({"w":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]}})", 8), "too large"));
  CHECK(has(message(R"({"w":{"dtype":"F32","shape":[18446744073709551615],"data_offsets":[0,8]}})", 8), "something else"));
  CHECK(has(message(R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8,9]}})", 8), "[begin, end]"));
  CHECK(has(message(R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[-8,0]}})", 8), "[begin, end]"));
  CHECK(has(message(R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})", 8), "values at 8 to 0"));
  CHECK(has(message(R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 7), "truncated"));
  CHECK(has(message(R"({"w":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})", 8), "needs 12 bytes, data_offsets give 8"));
  CHECK(has(message(R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 12), "header describes 8"));
  CHECK(has(message(R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})", 12), "gap"));
  CHECK(
      has(message(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})", 12), "overlap"));
  CHECK(has(message(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", 1), "twice"));
  CHECK(has(message(R"({"__metadata__":{"a":1}})", 0), "not a string"));
  CHECK(has(message(R"({"__metadata__":[]})", 0), "not an object"));
}

TEST_CASE("safetensors: missing file, folder, names given twice") {
  test::temporary_folder folder;
  CHECK(has(test::message_of<input_error>([&] { io::safetensors_reader r(folder.file("none")); }), "no such file"));
  CHECK(has(test::message_of<input_error>([&] { io::safetensors_reader r(folder.path.string()); }), "is a folder"));
  const float v = 0;
  const io::named_tensor t = io::named_tensor::of("w", {1}, &v);
  CHECK(has(test::message_of<usage_error>([&] { io::write_safetensors(folder.file("o"), std::vector{t, t}); }), "given twice"));
  CHECK(has(test::message_of<output_error>([&] { io::write_safetensors("/dev/full", std::vector{t}); }), "disk full"));
  CHECK(folder.names().empty());
}

TEST_CASE("safetensors: truncated anywhere, and thousands of mutations, never crash") {
  test::temporary_folder folder;
  const std::vector<float> values(24, 0.5f);
  io::write_safetensors(folder.file("good"),
                        std::vector<io::named_tensor>{io::named_tensor::of("layer.weight", {2, 3, 2, 2}, values.data()),
                                                      io::named_tensor::of("layer.bias", {2}, values.data(), io::dtype::f16)},
                        {{"net", "x"}});
  const std::vector<std::uint8_t> good = test::get(folder.file("good"));
  const std::string bad = folder.file("bad");
  for (std::size_t length = 0; length < good.size(); ++length) {
    test::put(bad, std::vector<std::uint8_t>(good.begin(), good.begin() + std::ptrdiff_t(length)));
    CHECK_THROWS_AS(io::safetensors_reader{bad}, input_error);
  }
  random_stream random(7, 1);
  int rejected = 0;
  for (int round = 0; round < 4000; ++round) {
    std::vector<std::uint8_t> bytes = good;
    for (std::uint32_t edits = 1 + random.below(4); edits > 0; --edits) {
      const std::size_t at = random.below(std::uint32_t(good.size() - 104));  // header and its length, not the values
      const char digits[] = "0123456789[]{},:\"";
      bytes[at] = random.below(2) ? std::uint8_t(random.next()) : std::uint8_t(digits[random.below(17)]);
    }
    test::put(bad, bytes);
    try {
      io::safetensors_reader reader(bad);
      for (const io::tensor_entry& entry : reader.entries()) CHECK(reader.values<float>(entry.name).size() == std::size_t(entry.count()));
    } catch (const input_error&) {
      ++rejected;
    }
  }
  CHECK(rejected > 2000);
  CHECK(rejected < 4000);
}
