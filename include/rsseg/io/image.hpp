// SPDX-License-Identifier: MIT
// PNG and JPEG through stb_image, with the checks stb_image leaves out: dimensions before decoding, truncation, PNG check sums,
// CMYK. Class masks come out as the stored sample values: palette indices and 1/2/4-bit values are not turned into colours.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "rsseg/core/error.hpp"
#include "rsseg/io/detail/linkage.hpp"

namespace rsseg::io {

/// Rows top to bottom, pixels left to right, channels interleaved: sample (x, y, c) at (y * width + x) * channels + c.
template <class T>
struct image {
  int width = 0, height = 0, channels = 0;
  std::vector<T> data;

  image() = default;
  image(int w, int h, int c, T value = T()) : width(w), height(h), channels(c), data(std::size_t(w) * h * c, value) {}
  T* row(int y) { return data.data() + std::size_t(y) * width * channels; }
  const T* row(int y) const { return data.data() + std::size_t(y) * width * channels; }
  T& at(int x, int y, int c = 0) { return row(y)[std::size_t(x) * channels + c]; }
  const T& at(int x, int y, int c = 0) const { return row(y)[std::size_t(x) * channels + c]; }
  std::int64_t pixels() const { return std::int64_t(width) * height; }
};
using image8 = image<std::uint8_t>;
using image16 = image<std::uint16_t>;

struct rgb {
  std::uint8_t r = 0, g = 0, b = 0;
  friend constexpr bool operator==(const rgb&, const rgb&) = default;
};

/// What a file may ask for before it is refused. Decoding needs about pixels * channels * 3 bytes at its peak.
struct image_limits {
  std::int64_t max_pixels = std::int64_t(1) << 28;        ///< 16384 x 16384; larger scenes belong into a GeoTIFF, which is read by windows
  std::uint64_t max_file_bytes = std::uint64_t(1) << 31;  ///< stb_image counts bytes in an int
};

struct image_info {
  int width = 0, height = 0, channels = 0;  ///< channels as stored: a palette image has 1
  int bits = 8;                             ///< per sample: 1, 2, 4, 8, 16
  bool palette = false;
  bool jpeg = false;  ///< otherwise PNG
};

// All readers throw input_error naming the file: missing, empty, another format, truncated, corrupt, too large, CMYK.
// EXIF orientation is not applied: masks are drawn over the pixels as stored.

/// Reads the header only.
image_info probe_image(const std::string& path, const image_limits& limits = {});
/// 8-bit samples; palettes become colours. channels: 0 = as stored, or 1, 3, 4 (alpha dropped or opaque, colour to luminance).
/// Throws for 16-bit files, whose low byte would be lost: use read_image16 or open_raster.
image8 read_image(const std::string& path, int channels = 0, const image_limits& limits = {});
/// 16-bit PNG samples as stored; 8-bit files are widened by 257, as PNG defines it.
image16 read_image16(const std::string& path, int channels = 0, const image_limits& limits = {});
/// A class mask: one channel of ids as stored (palette indices, gray values of 1 to 16 bits, or RGB whose three channels are equal).
/// Throws for colour-coded masks (see palette.hpp), ids above 255, and JPEG, whose lossy values are not ids.
image8 read_class_ids(const std::string& path, const image_limits& limits = {});
/// Colours of the PLTE chunk; empty when the PNG has none.
std::vector<rgb> read_png_palette(const std::string& path);

/// Bytes of a PNG of 1 (class ids, gray), 2, 3 or 4 channels; bytes of a JPEG of 1 or 3 channels, quality 1 to 100.
/// Throws usage_error when width * height * channels does not fit into 31 bits: write a .tif.
std::vector<std::uint8_t> encode_png(const image8& picture);
std::vector<std::uint8_t> encode_jpeg(const image8& picture, int quality = 90);
/// Written atomically; the format follows the extension (.png, .jpg, .jpeg). Throws usage_error, output_error.
void write_image(const std::string& path, const image8& picture, int jpeg_quality = 90);

/// The same from bytes in memory; `name` stands for the path in messages.
image_info probe_image(const std::vector<std::uint8_t>& bytes, const std::string& name, const image_limits& limits = {});
image8 decode_image(const std::vector<std::uint8_t>& bytes, const std::string& name, int channels = 0, const image_limits& limits = {});
image16 decode_image16(const std::vector<std::uint8_t>& bytes, const std::string& name, int channels = 0, const image_limits& limits = {});
image8 decode_class_ids(std::vector<std::uint8_t> bytes, const std::string& name, const image_limits& limits = {});

}  // namespace rsseg::io

#if RSSEG_IO_BODIES
#include "rsseg/io/detail/image_impl.hpp"
#endif
