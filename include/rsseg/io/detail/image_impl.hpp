// SPDX-License-Identifier: MIT
// Bodies of io/image.hpp.
#pragma once
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "rsseg/io/atomic_file.hpp"
#include "rsseg/io/detail/image_format.inc"
#include "rsseg/io/detail/stb.hpp"
#include "rsseg/io/image.hpp"

namespace rsseg::io {
namespace detail {

[[noreturn]] RSSEG_IO_INLINE void image_failure(const std::string& name, const std::string& why) { throw input_error("image '" + name + "' " + why); }

/// Names what the first bytes are, when they are not an image that can be read here.
RSSEG_IO_INLINE std::string other_format(const std::vector<std::uint8_t>& b) {
  const auto starts = [&](const char* magic, std::size_t n) { return b.size() >= n && std::memcmp(b.data(), magic, n) == 0; };
  if (starts("II*\0", 4) || starts("MM\0*", 4) || starts("II+\0", 4)) return "is a TIFF with another extension: rename it to .tif";
  if (starts("BM", 2) || starts("GIF8", 4) || starts("RIFF", 4) || starts("8BPS", 4))
    return "is a BMP, GIF, WebP or PSD file, expected PNG or JPEG: convert it";
  const auto text = [](std::uint8_t c) { return (c >= 32 && c < 127) || c == '\n' || c == '\r' || c == '\t'; };
  if (std::all_of(b.begin(), b.begin() + std::ptrdiff_t(std::min<std::size_t>(b.size(), 64)), text)) return "is a text file, expected PNG or JPEG";
  return "is neither PNG nor JPEG: is it the right file?";
}

RSSEG_IO_INLINE file_facts walk_image(const std::vector<std::uint8_t>& bytes, const std::string& name, const image_limits& limits, bool header_only) {
  static constexpr std::uint8_t png[8] = {0x89, 'P', 'N', 'G', 13, 10, 26, 10};
  const bool is_png = bytes.size() >= 8 && std::memcmp(bytes.data(), png, 8) == 0;
  const bool is_jpeg = bytes.size() >= 3 && bytes[0] == 0xFF && bytes[1] == 0xD8 && bytes[2] == 0xFF;
  if (!is_png && !is_jpeg) image_failure(name, other_format(bytes));
  try {
    const file_facts head = is_png ? walk_png(bytes.data(), bytes.size(), true) : walk_jpeg(bytes.data(), bytes.size(), true);
    if (std::int64_t(head.info.width) * head.info.height > limits.max_pixels)
      throw "says it has " + std::to_string(head.info.width) + " x " + std::to_string(head.info.height) + " pixels, more than the limit of " +
          std::to_string(limits.max_pixels) + ": convert it to a tiled GeoTIFF, which is read by windows, or raise the limit";
    if (header_only) return head;
    return is_png ? walk_png(bytes.data(), bytes.size(), false) : walk_jpeg(bytes.data(), bytes.size(), false);
  } catch (const std::string& why) {
    image_failure(name, why);
  }
}

/// Decodes what walk_image has passed. T is uint8_t or uint16_t.
template <class T>
image<T> decode(const std::vector<std::uint8_t>& bytes, const std::string& name, int channels) {
  if (channels != 0 && channels != 1 && channels != 3 && channels != 4)
    throw usage_error("image '" + name + "' asked for with " + std::to_string(channels) + " channels, expected 0, 1, 3 or 4");
  if (bytes.size() > std::size_t(INT_MAX)) image_failure(name, "has more than 2 GB: convert it to a tiled GeoTIFF");
  image<T> picture;
  int stored = 0;
  T* samples = nullptr;
  std::string why;
  try {
    if constexpr (sizeof(T) == 1)
      samples = stb::stbi_load_from_memory(bytes.data(), int(bytes.size()), &picture.width, &picture.height, &stored, channels);
    else
      samples = stb::stbi_load_16_from_memory(bytes.data(), int(bytes.size()), &picture.width, &picture.height, &stored, channels);
    if (!samples) why = stb::stbi_failure_reason() ? stb::stbi_failure_reason() : "unknown reason";
  } catch (const std::runtime_error& problem) {
    why = problem.what();
  }
  if (!samples) image_failure(name, "cannot be decoded (" + why + "): it is damaged, copy it again");
  struct owner {
    void* p;
    ~owner() { ::free(p); }
  } guard{samples};
  picture.channels = channels ? channels : stored;
  picture.data.assign(samples, samples + std::size_t(picture.width) * picture.height * picture.channels);
  return picture;
}

}  // namespace detail

RSSEG_IO_INLINE image_info probe_image(const std::vector<std::uint8_t>& bytes, const std::string& name, const image_limits& limits) {
  return detail::walk_image(bytes, name, limits, true).info;
}

RSSEG_IO_INLINE image_info probe_image(const std::string& path, const image_limits& limits) {
  // The start of the file is enough, but for a JPEG with large profiles or thumbnails in front of its header.
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd >= 0) {
    std::vector<std::uint8_t> head(65536);
    const ssize_t got = ::pread(fd, head.data(), head.size(), 0);
    ::close(fd);
    if (got == ssize_t(head.size())) {
      const bool jpeg = head[0] == 0xFF && head[1] == 0xD8;
      try {
        return probe_image(head, path, limits);
      } catch (const input_error&) {
        if (!jpeg) throw;
      }
    }
  }
  return probe_image(read_file(path, "image", limits.max_file_bytes), path, limits);
}

RSSEG_IO_INLINE image8 decode_image(const std::vector<std::uint8_t>& bytes, const std::string& name, int channels, const image_limits& limits) {
  const detail::file_facts facts = detail::walk_image(bytes, name, limits, false);
  if (facts.info.bits == 16) detail::image_failure(name, "has 16 bits per sample, expected 8: convert it, or read it as a raster");
  return detail::decode<std::uint8_t>(bytes, name, channels);
}

RSSEG_IO_INLINE image16 decode_image16(const std::vector<std::uint8_t>& bytes, const std::string& name, int channels, const image_limits& limits) {
  detail::walk_image(bytes, name, limits, false);
  return detail::decode<std::uint16_t>(bytes, name, channels);
}

RSSEG_IO_INLINE image8 decode_class_ids(std::vector<std::uint8_t> bytes, const std::string& name, const image_limits& limits) {
  const detail::file_facts facts = detail::walk_image(bytes, name, limits, false);
  if (facts.info.jpeg) detail::image_failure(name, "is a JPEG, expected a PNG mask: JPEG does not keep class ids exactly");
  // The indices of a palette image are the samples of the gray image with the same bytes: say so in the header, and stb_image hands
  // them out. Chunks of transparency and palette would add channels: their types become unknown ancillary ones.
  if (facts.info.palette) bytes[25] = 0;
  for (std::size_t at = 33; at + 12 <= bytes.size();) {
    std::uint8_t* type = bytes.data() + at + 4;
    if (std::memcmp(type, "tRNS", 4) == 0) std::memcpy(type, "rsTr", 4);
    if (facts.info.palette && std::memcmp(type, "PLTE", 4) == 0) std::memcpy(type, "rsPl", 4);
    at += std::size_t(detail::big_endian(type - 4, 4)) + 12;
  }
  image8 ids;
  if (facts.info.bits == 16) {
    image16 wide = detail::decode<std::uint16_t>(bytes, name, 0);
    ids = image8(wide.width, wide.height, wide.channels);
    for (std::size_t i = 0; i < wide.data.size(); ++i) {
      if (wide.data[i] > 255) detail::image_failure(name, "holds class id " + std::to_string(wide.data[i]) + ", expected 0 to 255");
      ids.data[i] = std::uint8_t(wide.data[i]);
    }
  } else {
    ids = detail::decode<std::uint8_t>(bytes, name, 0);
    // stb_image stretches 1, 2 and 4 bits to 0..255.
    const int scale = facts.info.bits < 8 ? 255 / ((1 << facts.info.bits) - 1) : 1;
    if (scale > 1)
      for (std::uint8_t& v : ids.data) v = std::uint8_t(v / scale);
  }
  if (ids.channels == 1) return ids;
  image8 single(ids.width, ids.height, 1);
  const bool color = ids.channels >= 3;
  for (std::size_t i = 0; i < single.data.size(); ++i) {
    const std::uint8_t* v = ids.data.data() + i * std::size_t(ids.channels);
    if (color && (v[0] != v[1] || v[0] != v[2]))
      detail::image_failure(name, "holds colours, expected class ids: give the palette (classes.json), or convert it to one channel of ids");
    single.data[i] = v[0];
  }
  return single;
}

RSSEG_IO_INLINE image8 read_image(const std::string& path, int channels, const image_limits& limits) {
  return decode_image(read_file(path, "image", limits.max_file_bytes), path, channels, limits);
}
RSSEG_IO_INLINE image16 read_image16(const std::string& path, int channels, const image_limits& limits) {
  return decode_image16(read_file(path, "image", limits.max_file_bytes), path, channels, limits);
}
RSSEG_IO_INLINE image8 read_class_ids(const std::string& path, const image_limits& limits) {
  return decode_class_ids(read_file(path, "mask", limits.max_file_bytes), path, limits);
}

RSSEG_IO_INLINE std::vector<rgb> read_png_palette(const std::string& path) {
  const std::vector<std::uint8_t> bytes = read_file(path, "image");
  const detail::file_facts facts = detail::walk_image(bytes, path, {}, false);
  std::vector<rgb> colors;
  for (std::size_t i = 0; i < facts.palette_colors; ++i) {
    const std::uint8_t* c = bytes.data() + facts.palette_at + 3 * i;
    colors.push_back({c[0], c[1], c[2]});
  }
  return colors;
}

namespace detail {
RSSEG_IO_INLINE void check_encodable(const image8& picture, const char* format, bool channels_ok) {
  if (picture.width < 1 || picture.height < 1 || !channels_ok || picture.data.size() != std::size_t(picture.pixels()) * picture.channels)
    throw usage_error(std::string("cannot write a ") + format + " of " + std::to_string(picture.width) + " x " + std::to_string(picture.height) +
                      " with " + std::to_string(picture.channels) + " channels");
  if ((std::int64_t(picture.width) * picture.channels + 1) * picture.height > INT_MAX)
    throw usage_error(std::string("a ") + format + " of " + std::to_string(picture.width) + " x " + std::to_string(picture.height) + " with " +
                      std::to_string(picture.channels) + " channels is larger than 2 GB: write a .tif");
}
}  // namespace detail

RSSEG_IO_INLINE std::vector<std::uint8_t> encode_png(const image8& picture) {
  detail::check_encodable(picture, "PNG", picture.channels >= 1 && picture.channels <= 4);
  int bytes = 0;
  unsigned char* png = detail::stb::stbi_write_png_to_mem(picture.data.data(), 0, picture.width, picture.height, picture.channels, &bytes);
  if (!png) throw memory_error("not enough memory to write a PNG of " + std::to_string(picture.width) + " x " + std::to_string(picture.height));
  std::vector<std::uint8_t> out(png, png + bytes);
  ::free(png);
  return out;
}

RSSEG_IO_INLINE std::vector<std::uint8_t> encode_jpeg(const image8& picture, int quality) {
  detail::check_encodable(picture, "JPEG", (picture.channels == 1 || picture.channels == 3) && picture.width < 65536 && picture.height < 65536);
  if (quality < 1 || quality > 100) throw usage_error("JPEG quality " + std::to_string(quality) + ", expected 1 to 100");
  std::vector<std::uint8_t> out;
  const auto append = [](void* context, void* data, int size) {
    auto* bytes = static_cast<std::vector<std::uint8_t>*>(context);
    bytes->insert(bytes->end(), static_cast<std::uint8_t*>(data), static_cast<std::uint8_t*>(data) + size);
  };
  if (!detail::stb::stbi_write_jpg_to_func(append, &out, picture.width, picture.height, picture.channels, picture.data.data(), quality))
    throw memory_error("not enough memory to write a JPEG");
  return out;
}

RSSEG_IO_INLINE void write_image(const std::string& path, const image8& picture, int jpeg_quality) {
  const std::string kind = detail::extension_of(path);
  if (kind != "png" && kind != "jpg" && kind != "jpeg")
    throw usage_error("cannot write '" + path + "': expected a name that ends in .png, .jpg or .jpeg");
  const std::vector<std::uint8_t> bytes = kind == "png" ? encode_png(picture) : encode_jpeg(picture, jpeg_quality);
  write_file(path, bytes.data(), bytes.size());
}

}  // namespace rsseg::io
