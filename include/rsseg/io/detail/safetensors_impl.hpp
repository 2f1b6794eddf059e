// SPDX-License-Identifier: MIT
// Bodies of io/safetensors.hpp. Tensors are read with pread, not through a mapping: a file cut short while it is read must give an
// error, and a mapping would give SIGBUS.
#pragma once
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <unordered_set>

#include "rsseg/io/atomic_file.hpp"
#include "rsseg/io/safetensors.hpp"

namespace rsseg::io {
namespace detail {
struct dtype_row {
  dtype type;
  const char* name;
  std::size_t size;
};
inline constexpr dtype_row dtype_rows[] = {{dtype::f64, "F64", 8}, {dtype::f32, "F32", 4},     {dtype::f16, "F16", 2}, {dtype::bf16, "BF16", 2},
                                           {dtype::i64, "I64", 8}, {dtype::i32, "I32", 4},     {dtype::i16, "I16", 2}, {dtype::i8, "I8", 1},
                                           {dtype::u8, "U8", 1},   {dtype::boolean, "BOOL", 1}};
/// Text from a file, safe for a one-line message.
RSSEG_IO_INLINE std::string printable(const std::string& text) {
  std::string out;
  for (const char c : text.substr(0, 120)) out += static_cast<unsigned char>(c) < 32 || c == 127 ? '?' : c;
  return text.size() > 120 ? out + "..." : out;
}
}  // namespace detail

RSSEG_IO_INLINE const char* dtype_name(dtype type) { return detail::dtype_rows[int(type)].name; }
RSSEG_IO_INLINE std::size_t dtype_size(dtype type) { return detail::dtype_rows[int(type)].size; }

RSSEG_IO_INLINE std::string dims_text(const std::vector<std::int64_t>& dims) {
  std::string text = "[";
  for (std::size_t i = 0; i < dims.size(); ++i) text += (i ? ", " : "") + std::to_string(dims[i]);
  return text + "]";
}

RSSEG_IO_INLINE void safetensors_reader::fail(const std::string& why) const { throw input_error("weights file '" + path_ + "': " + why); }

RSSEG_IO_INLINE safetensors_reader::safetensors_reader(const std::string& path) : path_(path) {
  const std::string not_this = ": not a safetensors file, or damaged; convert .pth files with tools/convert_weights.py";
  fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd_ < 0) fail(detail::read_failure(errno));
  try {
    struct stat info {};
    if (::fstat(fd_, &info) != 0) fail(detail::read_failure(errno));
    if (S_ISDIR(info.st_mode)) fail(detail::read_failure(EISDIR));
    const std::uint64_t size = S_ISREG(info.st_mode) ? std::uint64_t(info.st_size) : 0;
    if (size == 0) fail("is empty" + not_this);
    if (size < 10) fail("has " + std::to_string(size) + " bytes, expected at least 10" + not_this);
    std::uint8_t head[8];
    if (::pread(fd_, head, 8, 0) != 8) fail("cannot read the header" + not_this);
    std::uint64_t length = 0;
    for (int i = 7; i >= 0; --i) length = length << 8 | head[i];
    constexpr std::uint64_t longest = 100'000'000;  // the limit of the reference implementation
    if (length < 2 || length > longest || length > size - 8)
      fail("header length " + std::to_string(length) + " where 2 to " + std::to_string(std::min(longest, size - 8)) + " is possible" + not_this);
    std::string header(std::size_t(length), '\0');
    for (std::size_t at = 0; at < header.size();) {
      const ssize_t got = ::pread(fd_, header.data() + at, header.size() - at, off_t(8 + at));
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) fail("cannot read the header" + not_this);
      at += std::size_t(got);
    }
    data_start_ = 8 + length;
    parse(header, size - data_start_);
  } catch (...) {
    ::close(fd_);
    throw;
  }
}

RSSEG_IO_INLINE safetensors_reader::~safetensors_reader() { ::close(fd_); }

RSSEG_IO_INLINE void safetensors_reader::parse(const std::string& header, std::uint64_t data_bytes) {
  using nlohmann::json;
  if (header[0] != '{') fail("header does not start with '{': not a safetensors file; convert .pth files with tools/convert_weights.py");
  std::unordered_set<std::string> names;
  std::string twice;
  json root;
  try {
    root = json::parse(header, [&](int depth, json::parse_event_t event, json& value) {
      // The DOM keeps the last of two equal keys; only the events show both.
      if (event == json::parse_event_t::key && depth == 1 && !names.insert(value.get_ref<const std::string&>()).second)
        twice = value.get_ref<const std::string&>();
      return true;
    });
  } catch (const json::exception& problem) {
    fail("header is not valid JSON (" + detail::printable(problem.what()) + "): the file is damaged");
  }
  if (!twice.empty()) fail("tensor '" + detail::printable(twice) + "' appears twice in the header");
  for (const auto& item : root.items()) {
    const std::string& name = item.key();  // clang 14 cannot capture a structured binding
    const json& value = item.value();
    const auto bad = [&](const std::string& why) { fail("tensor '" + detail::printable(name) + "': " + why); };
    if (name == "__metadata__") {
      if (!value.is_object()) fail("__metadata__ is not an object of strings");
      for (const auto& [key, text] : value.items()) {
        if (!text.is_string()) fail("metadata '" + detail::printable(key) + "' is not a string");
        metadata_[key] = text.get<std::string>();
      }
      continue;
    }
    tensor_entry entry;
    entry.name = name;
    if (!value.is_object() || !value.contains("dtype") || !value.contains("shape") || !value.contains("data_offsets"))
      bad("expected an object with dtype, shape and data_offsets");
    const json &type = value["dtype"], &shape = value["shape"], &offsets = value["data_offsets"];
    const auto row = std::find_if(std::begin(detail::dtype_rows), std::end(detail::dtype_rows),
                                  [&](const detail::dtype_row& r) { return type.is_string() && type.get_ref<const std::string&>() == r.name; });
    if (row == std::end(detail::dtype_rows))
      bad("dtype " + detail::printable(type.dump(-1, ' ', true, json::error_handler_t::replace)) +
          ", expected one of F64 F32 F16 BF16 I64 I32 I16 I8 U8 BOOL");
    entry.type = row->type;
    if (!shape.is_array() || shape.size() > 32) bad("shape is not an array of at most 32 sizes");
    std::uint64_t expected = row->size;
    for (const json& dim : shape) {
      if (!dim.is_number_unsigned() || dim.get<std::uint64_t>() > std::uint64_t(INT64_MAX)) bad("shape holds something else than sizes");
      const std::uint64_t d = dim.get<std::uint64_t>();
      if (__builtin_mul_overflow(expected, d, &expected) || expected > std::uint64_t(INT64_MAX)) bad("shape is too large");
      entry.dims.push_back(std::int64_t(d));
    }
    if (!offsets.is_array() || offsets.size() != 2 || !offsets[0].is_number_unsigned() || !offsets[1].is_number_unsigned())
      bad("data_offsets is not [begin, end]");
    entry.begin = offsets[0].get<std::uint64_t>(), entry.end = offsets[1].get<std::uint64_t>();
    if (entry.begin > entry.end || entry.end > data_bytes)
      bad("values at " + std::to_string(entry.begin) + " to " + std::to_string(entry.end) + ", but the file holds " + std::to_string(data_bytes) +
          " bytes of values: truncated? copy the file again");
    if (entry.end - entry.begin != expected)
      bad("shape " + dims_text(entry.dims) + " of " + row->name + " needs " + std::to_string(expected) + " bytes, data_offsets give " +
          std::to_string(entry.end - entry.begin));
    entries_.push_back(std::move(entry));
  }
  std::stable_sort(entries_.begin(), entries_.end(),
                   [](const tensor_entry& a, const tensor_entry& b) { return a.begin != b.begin ? a.begin < b.begin : a.end < b.end; });
  std::uint64_t reached = 0;
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    const tensor_entry& entry = entries_[i];
    if (entry.begin != reached)
      fail("tensor '" + detail::printable(entry.name) + "': values start at " + std::to_string(entry.begin) + ", expected " +
           std::to_string(reached) + (entry.begin < reached ? " (overlap)" : " (gap)"));
    reached = entry.end;
    index_[entry.name] = i;
  }
  if (reached != data_bytes)
    fail("holds " + std::to_string(data_bytes) + " bytes of values, the header describes " + std::to_string(reached) + ": damaged; copy it again");
}

RSSEG_IO_INLINE std::string safetensors_reader::metadata(const std::string& key, const std::string& fallback) const {
  const auto found = metadata_.find(key);
  return found == metadata_.end() ? fallback : found->second;
}

RSSEG_IO_INLINE const tensor_entry* safetensors_reader::find(const std::string& name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &entries_[found->second];
}

RSSEG_IO_INLINE const tensor_entry& safetensors_reader::at(const std::string& name) const {
  const tensor_entry* entry = find(name);
  if (!entry) fail("no tensor '" + name + "' among its " + std::to_string(entries_.size()) + ": is it the file of this network?");
  return *entry;
}

RSSEG_IO_INLINE void safetensors_reader::require_dims(const std::string& name, const std::vector<std::int64_t>& dims) const {
  const tensor_entry& entry = at(name);
  if (entry.dims != dims) fail("tensor '" + name + "': expected shape " + dims_text(dims) + ", got " + dims_text(entry.dims));
}

RSSEG_IO_INLINE named_tensor safetensors_reader::read(const std::string& name) const {
  const tensor_entry& entry = at(name);
  named_tensor t{entry.name, entry.dims, entry.type, std::vector<std::uint8_t>(std::size_t(entry.end - entry.begin))};
  for (std::size_t done = 0; done < t.bytes.size();) {
    const ssize_t got = ::pread(fd_, t.bytes.data() + done, t.bytes.size() - done, off_t(data_start_ + entry.begin + done));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) fail("tensor '" + name + "': cannot read its values (" + (got < 0 ? std::strerror(errno) : "the file was cut short") + ")");
    done += std::size_t(got);
  }
  return t;
}

RSSEG_IO_INLINE void write_safetensors(const std::string& path, const std::vector<tensor_view>& tensors,
                                       const std::map<std::string, std::string>& metadata) {
  using json = nlohmann::ordered_json;
  json root = json::object();
  std::unordered_set<std::string> names{"__metadata__"};
  std::string header;
  try {
    if (!metadata.empty()) root["__metadata__"] = metadata;
    // Assembled by hand: looking up keys in an ordered_json object is quadratic in the number of tensors.
    header = root.dump();
    header.pop_back();
    std::uint64_t at = 0;
    for (const tensor_view& t : tensors) {
      if (!names.insert(t.name).second) throw usage_error("cannot write '" + path + "': tensor '" + t.name + "' given twice");
      std::uint64_t bytes = dtype_size(t.type);
      for (const std::int64_t d : t.dims) bytes *= std::uint64_t(d);
      const json entry = {{"dtype", dtype_name(t.type)}, {"shape", t.dims}, {"data_offsets", {at, at + bytes}}};
      header += (header.size() > 1 ? "," : "") + json(t.name).dump() + ":" + entry.dump();
      at += bytes;
    }
    header += "}";
  } catch (const json::exception& problem) {
    throw usage_error("cannot write '" + path + "': a name or metadata value is not UTF-8 (" + problem.what() + ")");
  }
  while (header.size() % 8 != 0) header += ' ';  // values start at a multiple of 8
  std::uint8_t length[8];
  for (int i = 0; i < 8; ++i) length[i] = std::uint8_t(std::uint64_t(header.size()) >> (8 * i));
  atomic_file file(path);
  file.write(length, 8);
  file.write(header);
  for (const tensor_view& t : tensors) {
    std::uint64_t bytes = dtype_size(t.type);
    for (const std::int64_t d : t.dims) bytes *= std::uint64_t(d);
    file.write(t.data, std::size_t(bytes));
  }
  file.commit();
}

RSSEG_IO_INLINE void write_safetensors(const std::string& path, const std::vector<named_tensor>& tensors,
                                       const std::map<std::string, std::string>& metadata) {
  std::vector<tensor_view> views;
  views.reserve(tensors.size());
  for (const named_tensor& t : tensors) {
    if (t.bytes.size() != std::size_t(t.count()) * dtype_size(t.type))
      throw usage_error("cannot write '" + path + "': tensor '" + t.name + "' of shape " + dims_text(t.dims) + " " + dtype_name(t.type) + " holds " +
                        std::to_string(t.bytes.size()) + " bytes");
    views.push_back({t.name, t.dims, t.type, t.bytes.data()});
  }
  write_safetensors(path, views, metadata);
}

}  // namespace rsseg::io
