// SPDX-License-Identifier: MIT
// Walks the chunks of a PNG and the segments of a JPEG without decoding: what stb_image would be asked to do, and whether the file is
// whole. stb_image checks neither PNG check sums nor the end of a JPEG, and allocates what a header asks for.
#pragma once
#include <cstring>
#include <string>
#include <vector>

#include "rsseg/io/image.hpp"

namespace rsseg::io::detail {

struct file_facts {
  image_info info;
  std::size_t palette_at = 0, palette_colors = 0;  // first byte of PLTE's data
  bool alpha = false;                              // PNG colour types 4, 6
};

inline std::uint32_t big_endian(const std::uint8_t* p, int bytes) {
  std::uint32_t v = 0;
  for (int i = 0; i < bytes; ++i) v = v << 8 | p[i];
  return v;
}

struct crc_table {
  std::uint32_t entry[256];
  constexpr crc_table() : entry() {
    for (std::uint32_t n = 0; n < 256; ++n) {
      std::uint32_t c = n;
      for (int k = 0; k < 8; ++k) c = c & 1 ? 0xEDB88320u ^ (c >> 1) : c >> 1;
      entry[n] = c;
    }
  }
};
/// CRC-32 of PNG (ISO 3309) of `bytes` bytes.
inline std::uint32_t crc32(const std::uint8_t* p, std::size_t bytes) {
  static constexpr crc_table table;
  std::uint32_t c = 0xFFFFFFFFu;
  for (std::size_t i = 0; i < bytes; ++i) c = table.entry[(c ^ p[i]) & 255] ^ (c >> 8);
  return ~c;
}

/// Walks a PNG; with header_only, stops after IHDR. Throws a std::string that says what is wrong.
inline file_facts walk_png(const std::uint8_t* p, std::size_t bytes, bool header_only) {
  const std::string cut = "is truncated: copy it again";
  if (bytes < 33) throw cut;
  if (big_endian(p + 8, 4) != 13 || std::memcmp(p + 12, "IHDR", 4) != 0) throw std::string("is corrupt: the header chunk is missing");
  file_facts facts;
  const std::uint32_t width = big_endian(p + 16, 4), height = big_endian(p + 20, 4);
  const int bits = p[24], color = p[25];
  const bool depth_ok = color == 0                              ? bits == 1 || bits == 2 || bits == 4 || bits == 8 || bits == 16
                        : color == 3                            ? bits == 1 || bits == 2 || bits == 4 || bits == 8
                        : color < 7 && color != 1 && color != 5 ? bits == 8 || bits == 16
                                                                : false;
  if (crc32(p + 12, 17) != big_endian(p + 29, 4)) throw std::string("is corrupt: wrong check sum of the header: copy it again");
  if (width == 0 || height == 0 || width > 0x7FFFFFFFu || height > 0x7FFFFFFFu || !depth_ok || p[26] != 0 || p[27] != 0 || p[28] > 1)
    throw std::string("is corrupt: impossible header");
  facts.info.width = int(width), facts.info.height = int(height), facts.info.bits = bits;
  facts.info.channels = color == 2 ? 3 : color == 4 ? 2 : color == 6 ? 4 : 1;
  facts.info.palette = color == 3, facts.alpha = color == 4 || color == 6;
  if (header_only) return facts;
  std::size_t at = 33, packed = 0;
  for (bool end = false; !end;) {
    if (bytes - at < 12) throw cut;
    const std::size_t length = big_endian(p + at, 4);
    if (length > bytes - at - 12) throw cut;
    const std::uint8_t* type = p + at + 4;
    if (crc32(type, length + 4) != big_endian(type + 4 + length, 4))
      throw "is corrupt: wrong check sum at byte " + std::to_string(at) + ": copy it again";
    if (std::memcmp(type, "PLTE", 4) == 0) facts.palette_at = at + 8, facts.palette_colors = length / 3;
    if (std::memcmp(type, "IDAT", 4) == 0) packed += length;
    end = std::memcmp(type, "IEND", 4) == 0;
    at += length + 12;
  }
  // Deflate packs at most about 1032 to 1: a header that asks for more than its data can hold is refused before memory is touched.
  const double row = double((std::uint64_t(width) * std::uint64_t(facts.info.channels * bits) + 7) / 8);
  if (row * height > 1100.0 * double(packed) + 65536.0) throw std::string("is corrupt: too little data for its size");
  if (facts.info.palette && facts.palette_colors == 0) throw std::string("is corrupt: palette image without a palette");
  return facts;
}

/// Walks a JPEG up to its frame header, or to its end.
inline file_facts walk_jpeg(const std::uint8_t* p, std::size_t bytes, bool header_only) {
  const std::string cut = "is truncated: copy it again";
  file_facts facts;
  facts.info.jpeg = true;
  bool scan = false;
  for (std::size_t at = 2;;) {
    // Entropy-coded data may hold FF00 and restart markers; outside of it a marker must follow at once.
    while (scan && at + 1 < bytes && !(p[at] == 0xFF && p[at + 1] != 0 && p[at + 1] != 0xFF && (p[at + 1] < 0xD0 || p[at + 1] > 0xD7))) {
      const void* next = std::memchr(p + at + 1, 0xFF, bytes - at - 1);
      at = next ? std::size_t(static_cast<const std::uint8_t*>(next) - p) : bytes;
    }
    while (at + 1 < bytes && p[at] == 0xFF && p[at + 1] == 0xFF) ++at;  // fill bytes
    if (at + 1 >= bytes) throw cut;
    if (p[at] != 0xFF) throw "is corrupt: no marker at byte " + std::to_string(at) + ": copy it again";
    const int marker = p[at + 1];
    at += 2;
    if (marker == 0xD9) {
      if (!scan) throw std::string("is corrupt: holds no picture");
      return facts;
    }
    if (marker == 0x01 || (marker >= 0xD0 && marker <= 0xD8)) continue;
    if (bytes - at < 2) throw cut;
    const std::size_t length = big_endian(p + at, 2);
    if (length < 2) throw "is corrupt: empty segment at byte " + std::to_string(at);
    if (length > bytes - at) throw cut;
    if (marker >= 0xC0 && marker <= 0xCF && marker != 0xC4 && marker != 0xC8 && marker != 0xCC) {
      if (length < 8) throw std::string("is corrupt: impossible header");
      const int components = p[at + 7], bits = p[at + 2];
      facts.info.height = int(big_endian(p + at + 3, 2)), facts.info.width = int(big_endian(p + at + 5, 2));
      facts.info.channels = components, facts.info.bits = bits;
      if (marker > 0xC2) throw std::string("is an arithmetic, lossless or hierarchical JPEG: save it as baseline or progressive JPEG, or as PNG");
      if (bits != 8) throw "has " + std::to_string(bits) + " bits per sample, expected 8: save it as PNG or GeoTIFF";
      if (components == 4) throw std::string("is a CMYK JPEG, expected gray or RGB: convert it to RGB");
      if (components != 1 && components != 3) throw "has " + std::to_string(components) + " channels, expected 1 or 3: save it as RGB";
      if (facts.info.width == 0 || facts.info.height == 0) throw std::string("is corrupt: impossible header");
      if (header_only) return facts;
    }
    if (marker == 0xC4) {  // stb_image 2.27 leaves its tables when one has more than 256 codes, or 256 short ones
      for (std::size_t table = at + 2; table < at + length;) {
        std::size_t codes = 0, brief = 0;
        if (table + 17 > at + length) throw std::string("is corrupt: code table cut short: copy it again");
        for (std::size_t i = 1; i <= 16; ++i) codes += p[table + i], brief += i <= 9 ? p[table + i] : 0;
        if (codes > 256 || brief > 255) throw std::string("is corrupt: impossible code table: copy it again");
        table += 17 + codes;
      }
    }
    if (marker == 0xDA) {
      if (facts.info.width == 0) throw std::string("is corrupt: data before the header");
      scan = true;
    }
    at += length;
  }
}

}  // namespace rsseg::io::detail
