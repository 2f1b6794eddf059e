// SPDX-License-Identifier: MIT
// World files: six numbers (A D B E C F) in lines, X = A x + B y + C, Y = D x + E y + F for the centre of pixel (x, y), and the
// projection as WKT in a .prj beside them.
#pragma once
#include <charconv>
#include <cstdio>
#include <string>
#include <vector>

#include "rsseg/io/atomic_file.hpp"
#include "rsseg/io/raster.hpp"

namespace rsseg::io::detail {

inline std::vector<std::string> world_extensions(const std::string& image_path) {
  if (extension_of(image_path) == "png") return {"pgw", "pngw", "wld", "PGW"};
  return {"jgw", "jpgw", "jpegw", "wld", "JGW"};
}

inline void read_world_file(const std::string& image_path, raster_info& info) {
  const std::string stem = stem_path(image_path);
  for (const std::string& extension : world_extensions(image_path)) {
    const std::string path = stem + "." + extension;
    if (!file_exists(path)) continue;
    const std::string text = read_text(path, "world file", 4096);
    double v[6];
    const char *at = text.data(), *end = at + text.size();
    for (int i = 0; i < 6; ++i) {
      while (at < end && (*at == ' ' || *at == '\n' || *at == '\r' || *at == '\t' || *at == '+')) ++at;
      const std::from_chars_result result = std::from_chars(at, end, v[i]);
      if (result.ec != std::errc() || !(v[i] - v[i] == 0))
        throw input_error("world file '" + path + "': expected six numbers, got " + std::to_string(i) + ": correct or remove it");
      at = result.ptr;
    }
    const double a = v[0], d = v[1], b = v[2], e = v[3];
    info.geotransform = {v[4] - a / 2 - b / 2, a, b, v[5] - d / 2 - e / 2, d, e};
    break;
  }
  if (info.geotransform && file_exists(stem + ".prj")) {
    info.projection = read_text(stem + ".prj", "projection file", 1 << 20);
    while (!info.projection.empty() && (info.projection.back() == '\n' || info.projection.back() == '\r')) info.projection.pop_back();
  }
}

inline void write_world_file(const std::string& image_path, const raster_info& info) {
  if (!info.geotransform) return;
  const std::array<double, 6>& g = *info.geotransform;
  std::string text;
  for (const double v : {g[1], g[4], g[2], g[5], g[0] + g[1] / 2 + g[2] / 2, g[3] + g[4] / 2 + g[5] / 2}) {
    char line[64];
    const std::to_chars_result result = std::to_chars(line, line + sizeof line, v);  // shortest text that reads back exactly
    text.append(line, result.ptr);
    text += '\n';
  }
  write_file(stem_path(image_path) + "." + world_extensions(image_path)[0], text);
  if (!info.projection.empty()) write_file(stem_path(image_path) + ".prj", info.projection + "\n");
}

}  // namespace rsseg::io::detail
