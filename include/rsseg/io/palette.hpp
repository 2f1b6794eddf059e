// SPDX-License-Identifier: MIT
// Class ids to colours and back: colour maps, overlays over a picture, colour-coded masks.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "rsseg/io/image.hpp"

namespace rsseg::io {

/// Names and colours of classes 0..K-1, and the id that means "no label".
struct palette {
  std::vector<std::string> names;
  std::vector<rgb> colors;  ///< as many as names
  int ignore_id = 255;
  rgb ignore_color{128, 128, 128};

  int count() const { return int(colors.size()); }
  /// Colour of an id; ids without one (ignore_id among them) get ignore_color.
  rgb color(int id) const { return id >= 0 && id < count() ? colors[std::size_t(id)] : ignore_color; }
};

/// K colours that can be told apart on screen and in print, the same for the same K: eight of Okabe and Ito's colour-blind-safe set first,
/// then hues by the golden angle at three brightnesses. Names are "class 0"...
palette default_palette(int classes, int ignore_id = 255);

/// Ids (one channel) as an RGB picture; the second form works on a run of pixels, for scenes written row by row.
image8 colorize(const image8& ids, const palette& colors);
void colorize(const std::uint8_t* ids, std::int64_t pixels, const palette& colors, std::uint8_t* out_rgb);

/// picture * (1 - alpha) + colour * alpha; alpha in [0, 1]. Ignored and unknown ids leave the picture as it is. A picture of 1 channel is
/// taken as gray, of 4 as RGB with alpha dropped. Throws usage_error when the sizes differ.
image8 overlay(const image8& picture, const image8& ids, const palette& colors, double alpha = 0.5);
/// In place over a run of RGB pixels.
void overlay(std::uint8_t* picture_rgb, const std::uint8_t* ids, std::int64_t pixels, const palette& colors, double alpha = 0.5);

enum class unknown_color { error, ignore };
/// A colour-coded RGB mask as ids: the nearest colour of the palette (or ignore_color) where every channel differs by at most `tolerance`;
/// for other colours input_error with the first pixel, or ignore_id. `name` is for messages. Throws input_error unless the mask has 3 or 4
/// channels. Two classes of one colour are a usage_error: the mask could not be told apart.
image8 ids_from_colors(const image8& mask, const palette& colors, const std::string& name, int tolerance = 0,
                       unknown_color unknown = unknown_color::error);

/// Colours 0..255 for the colour table of a raster: classes, then ignore_color.
std::vector<rgb> color_table(const palette& colors);

}  // namespace rsseg::io

#if RSSEG_IO_BODIES
#include "rsseg/io/detail/palette_impl.hpp"
#endif
