// SPDX-License-Identifier: MIT
// From the pixels of a mask file to class ids. Data sets write masks in three ways: ids, colours, or one grey level against another.
#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "rsseg/core/error.hpp"
#include "rsseg/data/classes.hpp"
#include "rsseg/data/pixels.hpp"

namespace rsseg::data {

/// How a mask file is read.
struct mask_coding {
  enum class kind {
    ids,        ///< single band, value -> id through remap
    colours,    ///< three bands, colour -> id through the class table's palette
    threshold,  ///< single band, id 1 where value >= cut, else 0
  };
  static constexpr int invalid = -1;  ///< in remap: this value must not occur

  kind how = kind::ids;
  std::array<std::int16_t, 256> remap{};  ///< kind ids: file value -> id
  int cut = 128;                          ///< kind threshold
  bool binarise = false;                  ///< kind colours: channels are first set to 0 or 255 at 128 (masks that are not quite pure)
  bool unknown_is_ignored = false;        ///< kind colours: a colour outside the palette is ignored instead of being an error

  /// Ids as they are: 0 .. classes-1 and the ignored one; anything else is an error.
  static mask_coding plain_ids(int classes, int ignore_id) {
    mask_coding c;
    for (int v = 0; v < 256; ++v) c.remap[std::size_t(v)] = std::int16_t(v == ignore_id || v < classes ? v : invalid);
    return c;
  }
  static mask_coding of_colours(bool unknown_is_ignored = false) {
    mask_coding c;
    c.how = kind::colours, c.unknown_is_ignored = unknown_is_ignored;
    return c;
  }
};

namespace detail {
inline std::uint32_t pack(int r, int g, int b) { return std::uint32_t(r) << 16 | std::uint32_t(g) << 8 | std::uint32_t(b); }

/// First three bands (or one band three times) as 8-bit values; masks in 16 bit or float hold the same small integers.
inline int mask_value(const pixels& raw, std::size_t index) {
  return std::visit([&](const auto& v) { return int(v[index]); }, raw.values);
}

inline std::string pixel_text(const pixels& raw, std::size_t i) {
  return "pixel x=" + std::to_string(i % std::size_t(raw.width)) + " y=" + std::to_string(i / std::size_t(raw.width));
}
}  // namespace detail

/// Class ids of a decoded mask file. Throws input_error naming file, pixel, value and class count where a value means nothing.
inline mask decode_mask(const pixels& raw, const mask_coding& coding, const class_table& classes, const std::string& file) {
  mask out{raw.height, raw.width, {}};
  const std::size_t n = std::size_t(raw.height) * std::size_t(raw.width);
  out.ids.resize(n);
  const std::size_t bands = std::size_t(raw.bands);

  if (coding.how == mask_coding::kind::colours) {
    if (bands != 3 && bands != 4)
      throw input_error(file + ": " + std::to_string(bands) +
                        " band(s), but colour masks have 3; for masks that hold ids drop \"mask\": \"colours\" in classes.json");
    std::unordered_map<std::uint32_t, std::uint8_t> lookup;
    for (const colour& c : classes.ignore_colours) lookup[detail::pack(c[0], c[1], c[2])] = std::uint8_t(classes.ignore_id);
    for (std::size_t k = 0; k < classes.palette.size(); ++k) {
      const colour& c = classes.palette[k];
      lookup[detail::pack(c[0], c[1], c[2])] = std::uint8_t(k);
    }
    std::uint32_t last = ~0u;
    std::uint8_t last_id = 0;
    for (std::size_t i = 0; i < n; ++i) {
      int rgb[3];
      for (std::size_t k = 0; k < 3; ++k) {
        const int v = detail::mask_value(raw, i * bands + k);
        rgb[k] = coding.binarise ? (v >= 128 ? 255 : 0) : v;
      }
      const std::uint32_t key = detail::pack(rgb[0], rgb[1], rgb[2]);
      if (key != last) {
        const auto hit = lookup.find(key);
        if (hit == lookup.end() && !coding.unknown_is_ignored)
          throw input_error(file + ": " + detail::pixel_text(raw, i) + " has colour (" + std::to_string(rgb[0]) + "," + std::to_string(rgb[1]) + "," +
                            std::to_string(rgb[2]) + "), which is none of the " + std::to_string(classes.count()) +
                            " classes; add it to the palette or to \"ignore_colours\" in classes.json");
        last = key, last_id = hit == lookup.end() ? std::uint8_t(classes.ignore_id) : hit->second;
      }
      out.ids[i] = last_id;
    }
    return out;
  }

  // A grey picture saved as RGB is accepted: the first band counts, if the other two agree.
  for (std::size_t i = 0; i < n; ++i) {
    const int v = detail::mask_value(raw, i * bands);
    if (bands >= 3 && (detail::mask_value(raw, i * bands + 1) != v || detail::mask_value(raw, i * bands + 2) != v))
      throw input_error(file + ": a colour picture where a mask of class ids was expected (" + detail::pixel_text(raw, i) +
                        "); give classes.json with \"palette\" and \"mask\": \"colours\"");
    if (coding.how == mask_coding::kind::threshold) {
      out.ids[i] = v >= coding.cut ? 1 : 0;
      continue;
    }
    const int id = v < 0 || v > 255 ? mask_coding::invalid : coding.remap[std::size_t(v)];
    if (id < 0)
      throw input_error(file + ": " + detail::pixel_text(raw, i) + " has class id " + std::to_string(v) + ", but there are " +
                        std::to_string(classes.count()) + " classes (0 to " + std::to_string(classes.count() - 1) + ") and ignored id " +
                        std::to_string(classes.ignore_id) + "; check --classes or classes.json");
    out.ids[i] = std::uint8_t(id);
  }
  return out;
}

}  // namespace rsseg::data
