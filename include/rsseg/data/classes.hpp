// SPDX-License-Identifier: MIT
// What the ids of a mask mean: names, colours, and the id that is ignored. Read from a classes.json beside the data:
//   {"names": ["land", "ocean"], "palette": [[r,g,b], ...], "ignore_index": 255, "mask": "ids" | "colours"}
// "palette_rgb": {"land": [r,g,b], ...} is understood, too (colours by name, in any order).
#pragma once
#include <array>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "rsseg/core/error.hpp"

namespace rsseg::data {

using colour = std::array<std::uint8_t, 3>;  ///< red, green, blue

/// Colour i of the PASCAL VOC colour map: the bits of i are dealt to red, green and blue in turn, highest first.
inline colour voc_colour(int i) {
  colour c{};
  for (int bit = 7; bit >= 0; --bit, i >>= 3)
    for (int k = 0; k < 3; ++k) c[std::size_t(k)] = std::uint8_t(c[std::size_t(k)] | (((i >> k) & 1) << bit));
  return c;
}

struct class_table {
  std::vector<std::string> names;
  std::vector<colour> palette;  ///< one colour per name
  int ignore_id = 255;
  std::vector<colour> ignore_colours;  ///< colours of colour masks that mean "no label"
  bool colour_masks = false;           ///< masks are RGB pictures in these colours

  int count() const { return int(names.size()); }

  /// K classes without names: "class 0" ... in the colours of the VOC map (id 0 in a dark grey, since black is kept for "ignored").
  static class_table numbered(int k) {
    class_table t;
    for (int i = 0; i < k; ++i) {
      t.names.push_back("class " + std::to_string(i));
      t.palette.push_back(i == 0 ? colour{64, 64, 64} : voc_colour(i));
    }
    return t;
  }
};

namespace detail {
/// Three numbers 0 .. 255; nlohmann alone would cut 300 to 44.
inline colour json_colour(const nlohmann::json& j, const std::string& where) {
  colour c{};
  if (!j.is_array() || j.size() != 3) throw input_error(where + ": colour " + j.dump() + " is not [red, green, blue]");
  for (std::size_t i = 0; i < 3; ++i) {
    const int v = j[i].is_number_integer() ? j[i].get<int>() : -1;
    if (v < 0 || v > 255) throw input_error(where + ": colour " + j.dump() + " has a component outside 0 .. 255");
    c[i] = std::uint8_t(v);
  }
  return c;
}
}  // namespace detail

/// Reads a classes.json. Throws input_error naming the file when it is missing, no JSON, or lacks names.
inline class_table read_classes(const std::filesystem::path& file) {
  const std::string where = file.string();
  std::ifstream in(file);
  if (!in) throw input_error(where + ": cannot be opened; expected a JSON file with \"names\"");
  try {
    const auto j = nlohmann::json::parse(in);
    class_table t = class_table::numbered(int(j.at("names").size()));
    t.names = j.at("names").get<std::vector<std::string>>();
    if (t.names.empty() || t.names.size() > 255)
      throw input_error(where + ": \"names\" holds " + std::to_string(t.names.size()) + " classes; 1 to 255 are possible in an 8-bit mask");
    t.ignore_id = j.value("ignore_index", 255);
    if (t.ignore_id < 0 || t.ignore_id > 255) throw input_error(where + ": ignore_index is " + std::to_string(t.ignore_id) + "; masks hold 0 to 255");
    const std::string mask = j.value("mask", std::string("ids"));
    if (mask != "ids" && mask != "colours") throw input_error(where + ": \"mask\" is \"" + mask + "\"; expected \"ids\" or \"colours\"");
    t.colour_masks = mask == "colours";
    if (j.contains("palette")) {
      t.palette.clear();
      for (const auto& c : j["palette"]) t.palette.push_back(detail::json_colour(c, where));
      if (t.palette.size() != t.names.size())
        throw input_error(where + ": " + std::to_string(t.names.size()) + " names but " + std::to_string(t.palette.size()) +
                          " colours in \"palette\"");
    } else if (j.contains("palette_rgb")) {
      for (std::size_t i = 0; i < t.names.size(); ++i)
        if (j["palette_rgb"].contains(t.names[i])) t.palette[i] = detail::json_colour(j["palette_rgb"][t.names[i]], where);
    }
    if (j.contains("ignore_colours"))
      for (const auto& c : j["ignore_colours"]) t.ignore_colours.push_back(detail::json_colour(c, where));
    return t;
  } catch (const nlohmann::json::exception& e) {
    throw input_error(where + ": not a class list (" + e.what() +
                      "); expected {\"names\": [...], \"palette\": [[r,g,b], ...], \"ignore_index\": 255}");
  }
}

/// The JSON text that read_classes() reads.
inline std::string classes_json(const class_table& t) {
  nlohmann::ordered_json j;
  j["names"] = t.names;
  j["palette"] = t.palette;
  j["ignore_index"] = t.ignore_id;
  if (t.colour_masks) j["mask"] = "colours";
  if (!t.ignore_colours.empty()) j["ignore_colours"] = t.ignore_colours;
  return j.dump(1) + "\n";
}

}  // namespace rsseg::data
