// SPDX-License-Identifier: MIT
// Builds PNG files of any colour type and depth, chunk by chunk, for the io tests (stored deflate blocks).
#pragma once
#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

namespace test {
using bytes = std::vector<std::uint8_t>;

inline void append_be(bytes& out, std::uint32_t v) {
  for (int shift = 24; shift >= 0; shift -= 8) out.push_back(std::uint8_t(v >> shift));
}
inline void append_chunk(bytes& out, const std::string& type, const bytes& data) {
  append_be(out, std::uint32_t(data.size()));
  const std::size_t start = out.size();
  out.insert(out.end(), type.begin(), type.end());
  out.insert(out.end(), data.begin(), data.end());
  std::uint32_t crc = 0xFFFFFFFFu;  // bit by bit: slower than the library's table, and independent of it
  for (std::size_t i = start; i < out.size(); ++i) {
    crc ^= out[i];
    for (int k = 0; k < 8; ++k) crc = crc & 1 ? 0xEDB88320u ^ (crc >> 1) : crc >> 1;
  }
  append_be(out, ~crc);
}

struct png_spec {
  int width = 0, height = 0, bits = 8, color = 0;  ///< color: 0 gray, 2 RGB, 3 palette, 4 gray + alpha, 6 RGBA
  bytes rows;                                      ///< packed rows without filter bytes
  bytes palette, transparency;
};

inline bytes make_png(const png_spec& s) {
  bytes out{0x89, 'P', 'N', 'G', 13, 10, 26, 10}, header;
  append_be(header, std::uint32_t(s.width));
  append_be(header, std::uint32_t(s.height));
  for (const int v : {s.bits, s.color, 0, 0, 0}) header.push_back(std::uint8_t(v));
  append_chunk(out, "IHDR", header);
  if (!s.palette.empty()) append_chunk(out, "PLTE", s.palette);
  if (!s.transparency.empty()) append_chunk(out, "tRNS", s.transparency);
  bytes raw;
  const std::size_t row = s.height ? s.rows.size() / std::size_t(s.height) : 0;
  for (int y = 0; y < s.height && row; ++y) {
    raw.push_back(0);
    raw.insert(raw.end(), s.rows.begin() + std::ptrdiff_t(y * row), s.rows.begin() + std::ptrdiff_t((y + 1) * row));
  }
  bytes zlib{0x78, 0x01};
  std::uint32_t a = 1, b = 0;
  for (const std::uint8_t v : raw) a = (a + v) % 65521, b = (b + a) % 65521;
  for (std::size_t at = 0; at < raw.size() || at == 0;) {
    const std::size_t length = std::min<std::size_t>(raw.size() - at, 65535);
    zlib.push_back(at + length == raw.size());
    for (const std::size_t v : {length & 255, length >> 8, ~length & 255, (~length >> 8) & 255}) zlib.push_back(std::uint8_t(v));
    zlib.insert(zlib.end(), raw.begin() + std::ptrdiff_t(at), raw.begin() + std::ptrdiff_t(at + length));
    at += length;
    if (raw.empty()) break;
  }
  append_be(zlib, b << 16 | a);
  append_chunk(out, "IDAT", zlib);
  append_chunk(out, "IEND", {});
  return out;
}
}  // namespace test
