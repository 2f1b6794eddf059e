// SPDX-License-Identifier: MIT
// Decoded pixels as the files hold them: an image of 8-bit, 16-bit or float samples, (H,W,bands) interleaved, and a mask of
// class ids. Nothing is scaled here; data/normalize.hpp says what a network sees.
#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace rsseg::data {

/// (height, width, bands) samples in row-major, band-interleaved order.
struct pixels {
  int height = 0, width = 0, bands = 0;
  std::variant<std::vector<std::uint8_t>, std::vector<std::uint16_t>, std::vector<float>> values;
  std::optional<float> nodata;  ///< a pixel whose bands all hold this value (or NaN) is not learnt from

  std::size_t count() const { return std::size_t(height) * std::size_t(width) * std::size_t(bands); }
  /// Bytes of one sample: 1, 2 or 4.
  std::size_t sample_bytes() const {
    return std::visit([](const auto& v) { return sizeof(v[0]); }, values);
  }
  /// What a sample is multiplied with so that the full range of an integer type becomes [0, 1]; 1 for float.
  float unit_scale() const { return values.index() == 0 ? 1.0f / 255.0f : values.index() == 1 ? 1.0f / 65535.0f : 1.0f; }
};

/// Class ids, (height, width) row-major. Ids of 0..254 are classes, one id (usually 255) is not learnt from.
struct mask {
  int height = 0, width = 0;
  std::vector<std::uint8_t> ids;
  std::uint8_t at(int y, int x) const { return ids[std::size_t(y) * std::size_t(width) + std::size_t(x)]; }
};

/// One labelled image. image and labels have the same height and width.
struct sample {
  std::string name;
  pixels image;
  mask labels;
  /// Memory held, bytes: what the cache counts.
  std::size_t bytes() const { return image.count() * image.sample_bytes() + labels.ids.size() + sizeof(sample) + name.size(); }
};

}  // namespace rsseg::data
