// SPDX-License-Identifier: MIT
// Reading parity fixtures (JSON, "format": "<name> 1"): fields with clear errors, inputs from the fill formula, comparison in the unit of
// the manifests, max |difference| / RMS of the reference. All sizes come from the file's fields.
#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "rsseg/core/error.hpp"
#include "rsseg/parity/fill.hpp"

namespace rsseg::parity {

/// One compared group of numbers.
struct fixture_result {
  std::string group;
  double error = 0;      ///< max |difference| / RMS of the reference; relative for losses; count of differences for exact groups
  double tolerance = 0;  ///< passed when error <= tolerance
  bool passed() const { return error <= tolerance; }  // false for NaN
};

namespace fixture {

using nlohmann::json;

/// The file's JSON. Throws input_error when it cannot be read or parsed.
inline json load(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in || std::filesystem::is_directory(path)) throw input_error(path + ": cannot be opened; expected a .json file");
  json value = json::parse(in, nullptr, false);
  if (value.is_discarded()) throw input_error(path + ": not valid JSON");
  return value;
}

/// The field, as type V. Throws input_error when it is missing or of another type.
template <class V>
inline V get(const json& object, const char* name) {
  if (!object.is_object() || !object.contains(name)) throw input_error("fixture: field '" + std::string(name) + "' is missing");
  try {
    return object.at(name).get<V>();
  } catch (const json::exception&) {
    throw input_error("fixture: field '" + std::string(name) + "' has an unexpected type (" + object.at(name).type_name() + ")");
  }
}
template <class V>
inline V get_or(const json& object, const char* name, const V& otherwise) {
  return object.is_object() && object.contains(name) ? get<V>(object, name) : otherwise;
}
inline const json& child(const json& object, const char* name) {
  if (!object.is_object() || !object.contains(name)) throw input_error("fixture: field '" + std::string(name) + "' is missing");
  return object.at(name);
}

/// A positive extent. The bound keeps a corrupt file from asking for all memory.
inline int extent(const json& object, const char* name) {
  const auto value = get<std::int64_t>(object, name);
  if (value < 1 || value > 4096) throw input_error("fixture: field '" + std::string(name) + "' is " + std::to_string(value) + ", expected 1 to 4096");
  return int(value);
}
inline std::vector<int> extents(const json& object, const char* name, std::size_t count) {
  const auto values = get<std::vector<std::int64_t>>(object, name);
  if (values.size() != count) throw input_error("fixture: field '" + std::string(name) + "' needs " + std::to_string(count) + " entries");
  std::vector<int> out;
  std::int64_t product = 1;
  for (const std::int64_t v : values) {
    if (v < 1 || v > 4096 || (product *= v) > (1 << 24)) throw input_error("fixture: field '" + std::string(name) + "' has an entry out of range");
    out.push_back(int(v));
  }
  return out;
}

/// (N, C, P) as stored in files to (N, P, C) as in memory, and back; P is all spatial positions.
template <class To, class From>
inline std::vector<To> channels_last(const std::vector<From>& in, std::int64_t n, std::int64_t c, std::int64_t pixels) {
  std::vector<To> out(in.size());
  for (std::int64_t b = 0; b < n; ++b)
    for (std::int64_t k = 0; k < c; ++k)
      for (std::int64_t i = 0; i < pixels; ++i) out[std::size_t((b * pixels + i) * c + k)] = To(in[std::size_t((b * c + k) * pixels + i)]);
  return out;
}
template <class To, class From>
inline std::vector<To> channels_first(const std::vector<From>& in, std::int64_t n, std::int64_t c, std::int64_t pixels) {
  return channels_last<To>(in, n, pixels, c);
}

/// max |got - reference| / RMS(reference). Throws input_error when the counts differ: the file contradicts itself.
template <class T>
inline double deviation(const std::vector<T>& got, const std::vector<double>& reference, const std::string& group) {
  if (got.size() != reference.size())
    throw input_error("fixture: group '" + group + "' lists " + std::to_string(reference.size()) + " values, its sizes ask for " +
                      std::to_string(got.size()));
  double worst = 0, square = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    const double difference = std::abs(double(got[i]) - reference[i]);
    if (!(difference <= worst)) worst = difference;  // NaN stays
    if (std::isnan(difference)) return difference;
    square += reference[i] * reference[i];
  }
  const double rms = got.empty() ? 0 : std::sqrt(square / double(got.size()));
  return rms > 0 ? worst / rms : worst;
}

/// How many entries differ.
template <class A, class B>
inline double differences(const std::vector<A>& got, const std::vector<B>& reference, const std::string& group) {
  if (got.size() != reference.size())
    throw input_error("fixture: group '" + group + "' lists " + std::to_string(reference.size()) + " values, its sizes ask for " +
                      std::to_string(got.size()));
  double count = 0;
  for (std::size_t i = 0; i < got.size(); ++i) count += std::int64_t(got[i]) != std::int64_t(reference[i]);
  return count;
}

/// The list of results under construction: the tolerances of the two precisions and the fill.
template <class T>
struct report {
  static constexpr bool single = sizeof(T) == 4;
  parity_fill fill;
  std::vector<fixture_result> results;

  explicit report(const json& f) : fill(get_or<std::string>(f, "fill_prefix", "")) {}
  /// Real numbers, listed under a field.
  void compare(const std::string& group, const std::vector<T>& got, const json& object, const char* field, double in_double = 1e-9,
               double in_float = 1e-5) {
    const double error = deviation(got, get<std::vector<double>>(object, field), group);
    results.push_back({group, error, single ? in_float : in_double});
  }
  void compare_number(const std::string& group, double got, double reference, double in_double = 1e-9, double in_float = 1e-5) {
    const double error = std::abs(got - reference) / (reference != 0 ? std::abs(reference) : 1);
    results.push_back({group, error, single ? in_float : in_double});
  }
  template <class V>
  void exact(const std::string& group, const std::vector<V>& got, const json& object, const char* field) {
    results.push_back({group, differences(got, get<std::vector<double>>(object, field), group), 0});
  }
};

}  // namespace fixture
}  // namespace rsseg::parity
