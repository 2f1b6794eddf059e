// SPDX-License-Identifier: MIT
// Rasters of any size by windows: GeoTIFF and everything else GDAL knows (where rsseg is built with it), PNG and JPEG through
// stb_image, and memory. Sinks commit at close(): the target appears whole or not at all; resumable ones survive a kill.
#pragma once
#include <array>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "rsseg/core/error.hpp"
#include "rsseg/io/detail/linkage.hpp"
#include "rsseg/io/image.hpp"

namespace rsseg::io {

enum class sample_type : std::uint8_t { u8, u16, i16, f32 };
std::size_t sample_size(sample_type type);
const char* sample_name(sample_type type);

struct raster_info {
  int width = 0, height = 0, bands = 0;  ///< bands: 1 for a PNG mask (palette indices), 3 for a colour image
  sample_type type = sample_type::u8;    ///< of the file; wider integers and doubles are read as f32
  /// World coordinates of pixel corner (x, y): X = g[0] + x g[1] + y g[2], Y = g[3] + x g[4] + y g[5] (GDAL's order).
  std::optional<std::array<double, 6>> geotransform;
  std::string projection;  ///< WKT; empty if unknown
  std::optional<double> nodata;
  std::vector<std::string> band_names;  ///< empty, or one per band ("" where unknown)
  std::vector<rgb> colors;              ///< colour table of a one-band u8 raster; empty if none
};

/// A raster that is read by windows. Thread-safe: windows are read one after another under a lock.
class raster_source {
 public:
  virtual ~raster_source() = default;
  const raster_info& info() const { return info_; }
  const std::string& name() const { return name_; }  ///< for messages: the path, or "memory"
  /// Raw values of columns [x, x+w), rows [y, y+h) into out[(row * w + column) * bands + band]. No scaling, no replacement of nodata.
  /// Throws usage_error for a window outside of the raster, input_error when the file cannot be read there.
  void read_window(int x, int y, int w, int h, float* out);

 protected:
  virtual void read(int x, int y, int w, int h, float* out) = 0;
  raster_info info_;
  std::string name_ = "memory";

 private:
  std::mutex mutex_;
};

/// A raster that is written by windows, each pixel once, rows in increasing order where it can be had (a compressed file grows otherwise).
/// Without close() nothing appears at the target. Not thread-safe.
class raster_sink {
 public:
  virtual ~raster_sink() = default;
  const raster_info& info() const { return info_; }
  const std::string& name() const { return name_; }
  /// Values of [x, x+w) x [y, y+h), bands interleaved, in the sink's own sample type. Throws usage_error for another type or a window
  /// outside, output_error when writing fails.
  void write_window(int x, int y, int w, int h, const std::uint8_t* values) { checked(x, y, w, h, values, sample_type::u8); }
  void write_window(int x, int y, int w, int h, const std::uint16_t* values) { checked(x, y, w, h, values, sample_type::u16); }
  void write_window(int x, int y, int w, int h, const std::int16_t* values) { checked(x, y, w, h, values, sample_type::i16); }
  void write_window(int x, int y, int w, int h, const float* values) { checked(x, y, w, h, values, sample_type::f32); }
  template <class T>
  void write_rows(int y, int rows, const T* values) {
    write_window(0, y, info_.width, rows, values);
  }
  /// Resuming: mark_done(u) says that all pixels of the caller's unit u (a row of tiles, say) have been written and are to survive a
  /// kill; is_done(u) tells whether an earlier run got so far. Sinks that cannot resume forget.
  virtual bool is_done(std::int64_t /*unit*/) const { return false; }
  virtual void mark_done(std::int64_t /*unit*/) {}
  /// Makes the target appear, replacing an old one. Nothing may be written after it.
  virtual void close() = 0;

 protected:
  virtual void write(int x, int y, int w, int h, const void* values) = 0;
  raster_info info_;
  std::string name_ = "memory";
  bool closed_ = false;

 private:
  void checked(int x, int y, int w, int h, const void* values, sample_type type);
};

/// Opens PNG and JPEG through stb_image, everything else through GDAL. Throws input_error; without GDAL it names the option to build with.
/// PNG and JPEG are decoded whole and kept as they are (8 or 16 bits; 5450 x 6184 x 3: 101 MB, about 220 MB while a JPEG is decoded);
/// a world file beside them (.pgw, .pngw, .jgw, .jpgw, .wld) and a .prj give the georeference. Palette PNGs have one band, of indices.
std::unique_ptr<raster_source> open_raster(const std::string& path, const image_limits& limits = {});
/// A source over values in memory, (row, column, band); info.type says what the values came from.
std::unique_ptr<raster_source> memory_source(raster_info info, std::vector<float> values);

struct create_options {
  /// Write to PATH.partial, an uncompressed spool, with a journal of finished units beside it; close() turns it into the target. A run
  /// that ends without close() leaves both if a unit was finished, and the next one with the same resume_key and info goes on where it stopped.
  bool resumable = false;
  std::string resume_key;  ///< what the pixels depend on (weights, tile, overlap): another key starts anew. One line.
  int jpeg_quality = 90;
};
/// .tif and .tiff: tiled GeoTIFF, deflate, BigTIFF where needed, with georeference, nodata, band names, colour table. .png, .jpg: u8 in
/// memory until close(), written with a world file and .prj if georeferenced. Throws usage_error, output_error at once if it cannot be.
std::unique_ptr<raster_sink> create_raster(const std::string& path, const raster_info& info, const create_options& options = {});
/// A sink that keeps its values as float: memory_raster::values(), (row, column, band).
class memory_raster final : public raster_sink {
 public:
  explicit memory_raster(const raster_info& info);
  const std::vector<float>& values() const { return values_; }
  bool closed() const { return closed_; }
  void close() override { closed_ = true; }

 private:
  void write(int x, int y, int w, int h, const void* values) override;
  std::vector<float> values_;
};

/// Whole files of either kind. read_pixels: all bands as float. read_ids: one band of class ids 0..255 (GeoTIFF or PNG).
image<float> read_pixels(const std::string& path, const image_limits& limits = {});
image8 read_ids(const std::string& path, const image_limits& limits = {});
/// Size, bands, type and georeference without the pixels: cheap for PNG and JPEG, too.
raster_info probe_raster(const std::string& path, const image_limits& limits = {});

/// Whether this build reads and writes GeoTIFF.
bool has_gdal();

}  // namespace rsseg::io

#if RSSEG_IO_BODIES
#include "rsseg/io/detail/raster_impl.hpp"
#endif
