// SPDX-License-Identifier: MIT
// Bodies of io/palette.hpp.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <unordered_map>

#include "rsseg/io/palette.hpp"

namespace rsseg::io {
namespace detail {
/// Hue in degrees, saturation and value in [0, 1].
RSSEG_IO_INLINE rgb from_hsv(double hue, double saturation, double value) {
  const auto channel = [&](double shift) {
    const double k = std::fmod(shift + hue / 60.0, 6.0);
    const double v = value - value * saturation * std::clamp(std::min(k, 4.0 - k), 0.0, 1.0);
    return std::uint8_t(std::lround(v * 255.0));
  };
  return {channel(5), channel(3), channel(1)};
}
RSSEG_IO_INLINE std::string size_text(const image8& picture) { return std::to_string(picture.width) + " x " + std::to_string(picture.height); }
RSSEG_IO_INLINE std::uint32_t packed(const std::uint8_t* c) { return std::uint32_t(c[0]) << 16 | std::uint32_t(c[1]) << 8 | c[2]; }
}  // namespace detail

RSSEG_IO_INLINE palette default_palette(int classes, int ignore_id) {
  // Okabe and Ito, "Color Universal Design", 2008; black replaced, since it vanishes on dark imagery.
  static constexpr rgb first[] = {{230, 159, 0}, {86, 180, 233}, {0, 158, 115},   {240, 228, 66},
                                  {0, 114, 178}, {213, 94, 0},   {204, 121, 167}, {250, 250, 250}};
  palette out;
  out.ignore_id = ignore_id;
  for (int i = 0; i < classes; ++i) {
    out.names.push_back("class " + std::to_string(i));
    const int later = i - 8;
    out.colors.push_back(i < 8 ? first[i]
                               : detail::from_hsv(std::fmod(20.0 + 137.50776405 * later, 360.0), later % 2 ? 0.95 : 0.6, 1.0 - 0.25 * (later % 3)));
  }
  return out;
}

RSSEG_IO_INLINE void colorize(const std::uint8_t* ids, std::int64_t pixels, const palette& colors, std::uint8_t* out) {
  rgb table[256];
  for (int i = 0; i < 256; ++i) table[i] = i == colors.ignore_id ? colors.ignore_color : colors.color(i);
  for (std::int64_t i = 0; i < pixels; ++i, out += 3) {
    const rgb c = table[ids[i]];
    out[0] = c.r, out[1] = c.g, out[2] = c.b;
  }
}

RSSEG_IO_INLINE image8 colorize(const image8& ids, const palette& colors) {
  if (ids.channels != 1) throw usage_error("class map with " + std::to_string(ids.channels) + " channels, expected 1");
  image8 out(ids.width, ids.height, 3);
  colorize(ids.data.data(), ids.pixels(), colors, out.data.data());
  return out;
}

RSSEG_IO_INLINE void overlay(std::uint8_t* picture, const std::uint8_t* ids, std::int64_t pixels, const palette& colors, double alpha) {
  if (!(alpha >= 0 && alpha <= 1)) throw usage_error("overlay with alpha " + std::to_string(alpha) + ", expected 0 to 1");
  const int a = int(std::lround(alpha * 256));
  for (std::int64_t i = 0; i < pixels; ++i, picture += 3) {
    if (ids[i] == colors.ignore_id || ids[i] >= colors.count()) continue;
    const rgb c = colors.colors[ids[i]];
    const auto mix = [a](int under, int over) { return std::uint8_t((under * (256 - a) + over * a + 128) >> 8); };
    picture[0] = mix(picture[0], c.r), picture[1] = mix(picture[1], c.g), picture[2] = mix(picture[2], c.b);
  }
}

RSSEG_IO_INLINE image8 overlay(const image8& picture, const image8& ids, const palette& colors, double alpha) {
  if (picture.width != ids.width || picture.height != ids.height || ids.channels != 1)
    throw usage_error("overlay of a class map of " + detail::size_text(ids) + " over a picture of " + detail::size_text(picture) +
                      ": sizes must agree");
  image8 out(picture.width, picture.height, 3);
  for (std::int64_t i = 0; i < picture.pixels(); ++i) {
    const std::uint8_t* v = picture.data.data() + i * picture.channels;
    const int step = picture.channels >= 3 ? 1 : 0;
    for (int c = 0; c < 3; ++c) out.data[std::size_t(3 * i + c)] = v[c * step];
  }
  overlay(out.data.data(), ids.data.data(), out.pixels(), colors, alpha);
  return out;
}

RSSEG_IO_INLINE image8 ids_from_colors(const image8& mask, const palette& colors, const std::string& name, int tolerance, unknown_color unknown) {
  if (mask.channels < 3)
    throw input_error("mask '" + name + "' has " + std::to_string(mask.channels) + " channel(s), expected colours: read it as class ids");
  for (int i = 0; i < colors.count(); ++i)
    for (int j = 0; j < i; ++j)
      if (colors.color(i) == colors.color(j))
        throw usage_error("classes " + std::to_string(j) + " and " + std::to_string(i) + " have the same colour: colour masks need different ones");
  std::unordered_map<std::uint32_t, std::uint8_t> known;  // masks hold few colours, and long runs of them
  const auto look_up = [&](const std::uint8_t* v, std::int64_t pixel) -> std::uint8_t {
    int best = -1, best_distance = 3 * 255 + 1;
    for (int i = 0; i <= colors.count(); ++i) {
      const rgb c = i < colors.count() ? colors.colors[std::size_t(i)] : colors.ignore_color;
      const int dr = std::abs(v[0] - c.r), dg = std::abs(v[1] - c.g), db = std::abs(v[2] - c.b);
      if (std::max({dr, dg, db}) <= tolerance && dr + dg + db < best_distance)
        best = i < colors.count() ? i : colors.ignore_id, best_distance = dr + dg + db;
    }
    if (best < 0 && unknown == unknown_color::error)
      throw input_error("mask '" + name + "' holds colour (" + std::to_string(v[0]) + ", " + std::to_string(v[1]) + ", " + std::to_string(v[2]) +
                        ") at column " + std::to_string(pixel % mask.width) + ", row " + std::to_string(pixel / mask.width) +
                        ", which no class has: add it to the palette, or ignore unknown colours");
    return std::uint8_t(best < 0 ? colors.ignore_id : best);
  };
  image8 ids(mask.width, mask.height, 1);
  std::uint32_t last = ~0u;
  std::uint8_t last_id = 0;
  for (std::int64_t i = 0; i < mask.pixels(); ++i) {
    const std::uint8_t* v = mask.data.data() + i * mask.channels;
    const std::uint32_t key = detail::packed(v);
    if (key != last) {
      const auto found = known.find(key);
      last_id = found != known.end() ? found->second : known.emplace(key, look_up(v, i)).first->second;
      last = key;
    }
    ids.data[std::size_t(i)] = last_id;
  }
  return ids;
}

RSSEG_IO_INLINE std::vector<rgb> color_table(const palette& colors) {
  std::vector<rgb> table;
  for (int i = 0; i < 256; ++i) table.push_back(i == colors.ignore_id ? colors.ignore_color : colors.color(i));
  return table;
}

}  // namespace rsseg::io
