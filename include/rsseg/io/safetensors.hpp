// SPDX-License-Identifier: MIT
// The safetensors file format (github.com/huggingface/safetensors): 8 bytes of header length, a JSON header {name: {dtype, shape,
// data_offsets}}, then the values, little endian, row major. Shapes are those of the file (OIHW, NCHW); layers convert.
#pragma once
#include <bit>
#include <cstdint>
#include <map>
#include <string>
#include <type_traits>
#include <unordered_map>
#include <vector>

#include "rsseg/core/error.hpp"
#include "rsseg/io/detail/linkage.hpp"
#include "rsseg/io/half.hpp"

namespace rsseg::io {
static_assert(std::endian::native == std::endian::little, "rsseg reads and writes its files in place: little-endian machines only");

enum class dtype : std::uint8_t { f64, f32, f16, bf16, i64, i32, i16, i8, u8, boolean };
/// "F32"; bytes of one value.
const char* dtype_name(dtype type);
std::size_t dtype_size(dtype type);

/// The dtype whose values T stores as they are.
template <class T>
constexpr dtype dtype_of() {
  static_assert(std::is_arithmetic_v<T>, "safetensors hold numbers");
  if constexpr (std::is_same_v<T, bool>) return dtype::boolean;
  if constexpr (std::is_floating_point_v<T>) return sizeof(T) == 8 ? dtype::f64 : dtype::f32;
  if constexpr (std::is_same_v<T, std::uint8_t>) return dtype::u8;
  static_assert(std::is_floating_point_v<T> || std::is_signed_v<T> || sizeof(T) == 1, "safetensors has unsigned bytes only: use a signed type");
  return sizeof(T) == 8 ? dtype::i64 : sizeof(T) == 4 ? dtype::i32 : sizeof(T) == 2 ? dtype::i16 : dtype::i8;
}

namespace detail {
/// Converts `count` values of `from` at `bytes` to To. Floats to integers truncate.
template <class To>
void convert_values(dtype from, const std::uint8_t* bytes, std::int64_t count, To* out);
/// Converts to the bytes of `to`.
template <class From>
void store_values(dtype to, const From* values, std::int64_t count, std::uint8_t* bytes);
}  // namespace detail

/// One tensor with its bytes, as in the file.
struct named_tensor {
  std::string name;
  std::vector<std::int64_t> dims;  ///< empty: a scalar
  dtype type = dtype::f32;
  std::vector<std::uint8_t> bytes;

  std::int64_t count() const {
    std::int64_t n = 1;
    for (const std::int64_t d : dims) n *= d;
    return n;
  }
  /// A tensor of `values`, converted to `as`.
  template <class T>
  static named_tensor of(std::string name, std::vector<std::int64_t> dims, const T* values, dtype as = dtype_of<T>()) {
    named_tensor t{std::move(name), std::move(dims), as, {}};
    t.bytes.resize(std::size_t(t.count()) * dtype_size(as));
    detail::store_values(as, values, t.count(), t.bytes.data());
    return t;
  }
  /// Its values as T, converted where the file holds another type.
  template <class T>
  std::vector<T> as() const {
    std::vector<T> out;
    out.resize(std::size_t(count()));
    detail::convert_values(type, bytes.data(), count(), out.data());
    return out;
  }
};

/// What the header says of one tensor. Offsets count from the start of the values.
struct tensor_entry {
  std::string name;
  std::vector<std::int64_t> dims;
  dtype type = dtype::f32;
  std::uint64_t begin = 0, end = 0;
  std::int64_t count() const { return std::int64_t((end - begin) / dtype_size(type)); }
};

/// Reads the header at once and each tensor when asked for it. The whole header is checked in the constructor: length against the file,
/// JSON, duplicate names, known dtypes, sizes against shapes, offsets inside the file without overlap or gap.
/// Everything throws input_error, naming file, tensor, expected and got.
class safetensors_reader {
 public:
  explicit safetensors_reader(const std::string& path);
  safetensors_reader(const safetensors_reader&) = delete;
  safetensors_reader& operator=(const safetensors_reader&) = delete;
  ~safetensors_reader();

  const std::string& path() const { return path_; }
  /// In the order of their values in the file.
  const std::vector<tensor_entry>& entries() const { return entries_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  /// The value of a metadata key, or `fallback`.
  std::string metadata(const std::string& key, const std::string& fallback = "") const;
  /// nullptr when the file has no such tensor.
  const tensor_entry* find(const std::string& name) const;
  /// Throws when the file has no such tensor.
  const tensor_entry& at(const std::string& name) const;
  named_tensor read(const std::string& name) const;
  /// Values of `name`, converted to T.
  template <class T>
  std::vector<T> values(const std::string& name) const {
    return read(name).as<T>();
  }
  /// The same into memory of the caller; throws when the tensor does not have exactly these dims.
  template <class T>
  void read_into(const std::string& name, const std::vector<std::int64_t>& dims, T* out) const {
    require_dims(name, dims);
    const named_tensor t = read(name);
    detail::convert_values(t.type, t.bytes.data(), t.count(), out);
  }
  void require_dims(const std::string& name, const std::vector<std::int64_t>& dims) const;

 private:
  [[noreturn]] void fail(const std::string& why) const;
  void parse(const std::string& header, std::uint64_t data_bytes);
  std::string path_;
  int fd_ = -1;
  std::uint64_t data_start_ = 0;
  std::vector<tensor_entry> entries_;
  std::unordered_map<std::string, std::size_t> index_;
  std::map<std::string, std::string> metadata_;
};

/// Values somewhere in memory, to be written as they are.
struct tensor_view {
  std::string name;
  std::vector<std::int64_t> dims;
  dtype type = dtype::f32;
  const void* data = nullptr;
};

/// Writes the file atomically, tensors in the given order. Throws output_error (disk, folder) or usage_error (names given twice).
void write_safetensors(const std::string& path, const std::vector<tensor_view>& tensors, const std::map<std::string, std::string>& metadata = {});
void write_safetensors(const std::string& path, const std::vector<named_tensor>& tensors, const std::map<std::string, std::string>& metadata = {});

/// "[64, 3, 7, 7]", for messages.
std::string dims_text(const std::vector<std::int64_t>& dims);

namespace detail {
template <class V, class To>
void convert_run(const std::uint8_t* bytes, std::int64_t count, To* out) {
  for (std::int64_t i = 0; i < count; ++i) {
    V v;
    __builtin_memcpy(&v, bytes + std::size_t(i) * sizeof(V), sizeof(V));  // the bytes may be unaligned
    out[i] = To(v);
  }
}

template <class To>
void convert_values(dtype from, const std::uint8_t* bytes, std::int64_t count, To* out) {
  const auto half = [&](float (*convert)(std::uint16_t)) {
    for (std::int64_t i = 0; i < count; ++i) out[i] = To(convert(std::uint16_t(bytes[2 * i] | bytes[2 * i + 1] << 8)));
  };
  switch (from) {
    case dtype::f64:
      return convert_run<double>(bytes, count, out);
    case dtype::f32:
      return convert_run<float>(bytes, count, out);
    case dtype::f16:
      return half(float_from_half);
    case dtype::bf16:
      return half(float_from_bfloat);
    case dtype::i64:
      return convert_run<std::int64_t>(bytes, count, out);
    case dtype::i32:
      return convert_run<std::int32_t>(bytes, count, out);
    case dtype::i16:
      return convert_run<std::int16_t>(bytes, count, out);
    case dtype::i8:
      return convert_run<std::int8_t>(bytes, count, out);
    case dtype::u8:
      return convert_run<std::uint8_t>(bytes, count, out);
    case dtype::boolean:
      for (std::int64_t i = 0; i < count; ++i) out[i] = To(bytes[i] != 0);
  }
}

template <class V, class From>
void store_run(const From* values, std::int64_t count, std::uint8_t* bytes) {
  for (std::int64_t i = 0; i < count; ++i) {
    const V v = V(values[i]);
    __builtin_memcpy(bytes + std::size_t(i) * sizeof(V), &v, sizeof(V));
  }
}

template <class From>
void store_values(dtype to, const From* values, std::int64_t count, std::uint8_t* bytes) {
  const auto half = [&](std::uint16_t (*convert)(float)) {
    for (std::int64_t i = 0; i < count; ++i) {
      const std::uint16_t v = convert(float(values[i]));
      bytes[2 * i] = std::uint8_t(v), bytes[2 * i + 1] = std::uint8_t(v >> 8);
    }
  };
  switch (to) {
    case dtype::f64:
      return store_run<double>(values, count, bytes);
    case dtype::f32:
      return store_run<float>(values, count, bytes);
    case dtype::f16:
      return half(half_from_float);
    case dtype::bf16:
      return half(bfloat_from_float);
    case dtype::i64:
      return store_run<std::int64_t>(values, count, bytes);
    case dtype::i32:
      return store_run<std::int32_t>(values, count, bytes);
    case dtype::i16:
      return store_run<std::int16_t>(values, count, bytes);
    case dtype::i8:
      return store_run<std::int8_t>(values, count, bytes);
    case dtype::u8:
      return store_run<std::uint8_t>(values, count, bytes);
    case dtype::boolean:
      for (std::int64_t i = 0; i < count; ++i) bytes[i] = values[i] != From() ? 1 : 0;
  }
}
}  // namespace detail
}  // namespace rsseg::io

#if RSSEG_IO_BODIES
#include "rsseg/io/detail/safetensors_impl.hpp"
#endif
