// SPDX-License-Identifier: MIT
// Files to pixels, for data sets: PNG and JPEG through stb_image, anything else through GDAL. The one place where data/ touches io/.
#pragma once

#include <algorithm>
#include <cctype>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "rsseg/core/error.hpp"
#include "rsseg/data/mask_coding.hpp"
#include "rsseg/data/pixels.hpp"
#include "rsseg/io/image.hpp"
#include "rsseg/io/raster.hpp"

namespace rsseg::data {

namespace detail {

/// PNG and JPEG by their name; the reader checks the content.
inline bool is_picture(const std::filesystem::path& file) {
  std::string e = file.extension().string();
  for (char& c : e) c = char(std::tolower(static_cast<unsigned char>(c)));
  return e == ".png" || e == ".jpg" || e == ".jpeg";
}

template <class T>
pixels from_image(io::image<T> picture) {
  pixels p{picture.height, picture.width, picture.channels, {}, std::nullopt};
  p.values = std::move(picture.data);
  return p;
}

/// Whole raster in its own type (16-bit signed and wider as float), read by bands of rows so that no second copy in float is needed.
inline pixels read_raster_pixels(const std::filesystem::path& file) {
  const auto source = io::open_raster(file.string());
  const io::raster_info& info = source->info();
  pixels p{info.height, info.width, info.bands, {}, std::nullopt};
  if (info.nodata) p.nodata = float(*info.nodata);
  const std::size_t row = std::size_t(info.width) * std::size_t(info.bands);
  const int step = int(std::clamp<std::size_t>((std::size_t(1) << 22) / std::max<std::size_t>(row, 1), 1, std::size_t(std::max(info.height, 1))));
  const auto take = [&](auto zero) {
    using T = decltype(zero);
    std::vector<T> values(p.count());
    std::vector<float> window(row * std::size_t(step));
    for (int y = 0; y < info.height; y += step) {
      const int rows = std::min(step, info.height - y);
      source->read_window(0, y, info.width, rows, window.data());
      const std::size_t first = row * std::size_t(y);
      for (std::size_t i = 0; i < row * std::size_t(rows); ++i) values[first + i] = T(window[i]);
    }
    p.values = std::move(values);
  };
  if (info.type == io::sample_type::u8)
    take(std::uint8_t{});
  else if (info.type == io::sample_type::u16)
    take(std::uint16_t{});
  else
    take(float{});
  return p;
}

}  // namespace detail

/// An image with its bands as stored (palettes become colours). Throws input_error naming the file.
inline pixels read_pixels(const std::filesystem::path& file) {
  if (!detail::is_picture(file)) return detail::read_raster_pixels(file);
  if (io::probe_image(file.string()).bits == 16) return detail::from_image(io::read_image16(file.string()));
  return detail::from_image(io::read_image(file.string()));
}

/// A mask file before its values are given a meaning: one band of stored values (palette indices), or three of colours.
inline pixels read_mask_pixels(const std::filesystem::path& file, mask_coding::kind kind) {
  if (!detail::is_picture(file)) return detail::read_raster_pixels(file);
  if (kind == mask_coding::kind::colours) return detail::from_image(io::read_image(file.string(), 3));
  return detail::from_image(io::read_class_ids(file.string()));
}

/// Bands of an image file, from its header.
inline int image_bands(const std::filesystem::path& file) {
  if (!detail::is_picture(file)) return io::probe_raster(file.string()).bands;
  const io::image_info info = io::probe_image(file.string());
  return info.palette ? 3 : info.channels;
}

/// Takes the last band away (alpha).
inline void drop_last_band(pixels& p) {
  std::visit(
      [&](auto& v) {
        const std::size_t b = std::size_t(p.bands), n = v.size() / b;
        for (std::size_t i = 0; i < n; ++i)
          for (std::size_t k = 0; k + 1 < b; ++k) v[i * (b - 1) + k] = v[i * b + k];
        v.resize(n * (b - 1));
      },
      p.values);
  --p.bands;
}

}  // namespace rsseg::data
