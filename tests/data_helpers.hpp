// SPDX-License-Identifier: MIT
// Small pictures on disk for the tests of rsseg/data.
#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "io_temp.hpp"
#include "rsseg/data/classes.hpp"
#include "rsseg/io/image.hpp"
#include "rsseg/io/raster.hpp"

namespace test {

using test::temporary_folder;

/// Makes the folders above a file.
inline std::string with_folders(const std::filesystem::path& file) {
  std::filesystem::create_directories(file.parent_path());
  return file.string();
}

/// A colour picture; the value of band b at (x, y) is 10 * b + x + y.
inline void put_picture(const std::filesystem::path& file, int width, int height) {
  rsseg::io::image8 p(width, height, 3);
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x)
      for (int b = 0; b < 3; ++b) p.at(x, y, b) = std::uint8_t(10 * b + x + y);
  rsseg::io::write_image(with_folders(file), p);
}

/// One grey value per pixel; `values` fill the mask row by row, the last one repeats.
inline rsseg::io::image8 grey(int width, int height, const std::vector<int>& values) {
  rsseg::io::image8 p(width, height, 1);
  for (std::size_t i = 0; i < p.data.size(); ++i) p.data[i] = std::uint8_t(values[std::min(i, values.size() - 1)]);
  return p;
}
inline void put_grey(const std::filesystem::path& file, int width, int height, const std::vector<int>& values) {
  rsseg::io::write_image(with_folders(file), grey(width, height, values));
}
inline rsseg::io::image8 coloured(int width, int height, const std::vector<rsseg::data::colour>& values) {
  rsseg::io::image8 p(width, height, 3);
  for (std::size_t i = 0; i < std::size_t(width) * std::size_t(height); ++i)
    for (std::size_t b = 0; b < 3; ++b) p.data[i * 3 + b] = values[std::min(i, values.size() - 1)][b];
  return p;
}
inline void put_colours(const std::filesystem::path& file, int width, int height, const std::vector<rsseg::data::colour>& values) {
  rsseg::io::write_image(with_folders(file), coloured(width, height, values));
}
/// The same as a GeoTIFF.
inline void put_tif(const std::filesystem::path& file, const rsseg::io::image8& picture) {
  rsseg::io::raster_info info;
  info.width = picture.width, info.height = picture.height, info.bands = picture.channels;
  const auto sink = rsseg::io::create_raster(with_folders(file), info);
  sink->write_rows(0, picture.height, picture.data.data());
  sink->close();
}

}  // namespace test
