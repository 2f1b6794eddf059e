// SPDX-License-Identifier: MIT
// Bodies of io/raster.hpp: checks, PNG and JPEG as rasters, memory, and the choice between them and GDAL. RSSEG_WITH_GDAL (set by the
// build, the same for all translation units) brings GDAL in.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstring>

#include "rsseg/io/atomic_file.hpp"
#include "rsseg/io/raster.hpp"
// after raster.hpp:
#include "rsseg/io/detail/raster_spool.inc"
#include "rsseg/io/detail/world_file.inc"
#if defined(RSSEG_WITH_GDAL)
#include "rsseg/io/detail/raster_gdal.inc"
#endif

namespace rsseg::io {

RSSEG_IO_INLINE std::size_t sample_size(sample_type type) { return type == sample_type::u8 ? 1 : type == sample_type::f32 ? 4 : 2; }
RSSEG_IO_INLINE const char* sample_name(sample_type type) {
  return type == sample_type::u8 ? "u8" : type == sample_type::u16 ? "u16" : type == sample_type::i16 ? "i16" : "f32";
}
RSSEG_IO_INLINE bool has_gdal() {
#if defined(RSSEG_WITH_GDAL)
  return true;
#else
  return false;
#endif
}

namespace detail {
RSSEG_IO_INLINE void check_window(const char* what, const std::string& name, const raster_info& info, int x, int y, int w, int h) {
  if (x < 0 || y < 0 || w < 1 || h < 1 || w > info.width - x || h > info.height - y)
    throw usage_error(std::string(what) + " '" + name + "': window of " + std::to_string(w) + " x " + std::to_string(h) + " at column " +
                      std::to_string(x) + ", row " + std::to_string(y) + " leaves the raster of " + std::to_string(info.width) + " x " +
                      std::to_string(info.height));
}
RSSEG_IO_INLINE bool picture_name(const std::string& path) {
  const std::string kind = extension_of(path);
  return kind == "png" || kind == "jpg" || kind == "jpeg";
}
RSSEG_IO_INLINE bool picture_content(const std::string& path) {
  std::uint8_t head[4] = {};
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  const bool full = fd >= 0 && ::pread(fd, head, 4, 0) == 4;
  if (fd >= 0) ::close(fd);
  return full && (std::memcmp(head, "\x89PNG", 4) == 0 || std::memcmp(head, "\xFF\xD8\xFF", 3) == 0);
}
RSSEG_IO_INLINE std::string needs_gdal(const std::string& doing, const std::string& path) {
  return doing + " '" + path + "' needs GDAL, which this rsseg was built without: install libgdal-dev and configure with -Dgdal=enabled, or use PNG";
}

/// A PNG or JPEG, decoded whole, as 8 or 16 bits.
class picture_source final : public raster_source {
 public:
  picture_source(const std::string& path, const image_limits& limits) {
    name_ = path;
    std::vector<std::uint8_t> bytes = read_file(path, "image", limits.max_file_bytes);
    const image_info facts = probe_image(bytes, path, limits);
    info_.type = facts.bits == 16 ? sample_type::u16 : sample_type::u8;
    if (facts.palette) {
      const file_facts whole = walk_image(bytes, path, limits, false);
      for (std::size_t i = 0; i < std::min<std::size_t>(whole.palette_colors, 256); ++i) {
        const std::uint8_t* c = bytes.data() + whole.palette_at + 3 * i;
        info_.colors.push_back({c[0], c[1], c[2]});
      }
    }
    if (facts.bits == 16)
      wide_ = decode_image16(bytes, path, 0, limits);
    else if (facts.palette || facts.bits < 8)
      narrow_ = decode_class_ids(std::move(bytes), path, limits);
    else
      narrow_ = decode_image(bytes, path, 0, limits);
    info_.width = facts.width, info_.height = facts.height, info_.bands = facts.bits == 16 ? wide_.channels : narrow_.channels;
    read_world_file(path, info_);
  }

 private:
  void read(int x, int y, int w, int h, float* out) override {
    const auto copy = [&](const auto& picture) {
      for (int row = 0; row < h; ++row, out += std::size_t(w) * info_.bands) {
        const auto* from = picture.row(y + row) + std::size_t(x) * info_.bands;
        std::copy(from, from + std::size_t(w) * info_.bands, out);
      }
    };
    info_.type == sample_type::u16 ? copy(wide_) : copy(narrow_);
  }
  image8 narrow_;
  image16 wide_;
};

/// A PNG or JPEG, kept as 8 bits until close().
class picture_sink final : public raster_sink {
 public:
  picture_sink(const std::string& path, const raster_info& info, int quality) : quality_(quality) {
    name_ = path, info_ = info;
    const bool png = extension_of(path) == "png";
    const bool bands_ok = png ? info.bands <= 4 : info.bands == 1 || info.bands == 3;
    if (info.type != sample_type::u8 || !bands_ok)
      throw usage_error("cannot write '" + path + "': " + std::to_string(info.bands) + " bands of " + sample_name(info.type) + " do not fit into a " +
                        (png ? "PNG (1 to 4 bands of u8)" : "JPEG (1 or 3 bands of u8)") + ": write a .tif");
    if ((std::int64_t(info.width) * info.bands + 1) * info.height > INT32_MAX)
      throw usage_error("cannot write '" + path + "': " + std::to_string(info.width) + " x " + std::to_string(info.height) +
                        " is too large: write a .tif");
    { temporary_path probe(path); }  // an unwritable folder shows now, not after the work
    picture_ = image8(info.width, info.height, info.bands);
  }
  void close() override {
    if (closed_) return;
    write_image(name_, picture_, quality_);
    write_world_file(name_, info_);
    picture_ = image8();
    closed_ = true;
  }

 private:
  void write(int x, int y, int w, int h, const void* values) override {
    const auto* from = static_cast<const std::uint8_t*>(values);
    const std::size_t row_bytes = std::size_t(w) * info_.bands;
    for (int row = 0; row < h; ++row) std::memcpy(picture_.row(y + row) + std::size_t(x) * info_.bands, from + row * row_bytes, row_bytes);
  }
  image8 picture_;
  int quality_;
};

class vector_source final : public raster_source {
 public:
  vector_source(raster_info info, std::vector<float> values) : values_(std::move(values)) {
    info_ = std::move(info);
    if (values_.size() != std::size_t(info_.width) * info_.height * info_.bands)
      throw usage_error("memory raster of " + std::to_string(info_.width) + " x " + std::to_string(info_.height) + " x " +
                        std::to_string(info_.bands) + ", but " + std::to_string(values_.size()) + " values");
  }

 private:
  void read(int x, int y, int w, int h, float* out) override {
    const std::size_t line = std::size_t(info_.width) * info_.bands, part = std::size_t(w) * info_.bands;
    for (int row = 0; row < h; ++row) std::copy_n(values_.data() + (y + row) * line + std::size_t(x) * info_.bands, part, out + row * part);
  }
  std::vector<float> values_;
};
}  // namespace detail

RSSEG_IO_INLINE void raster_source::read_window(int x, int y, int w, int h, float* out) {
  detail::check_window("raster", name_, info_, x, y, w, h);
  const std::lock_guard<std::mutex> lock(mutex_);
  read(x, y, w, h, out);
}

RSSEG_IO_INLINE void raster_sink::checked(int x, int y, int w, int h, const void* values, sample_type type) {
  if (closed_) throw usage_error("cannot write '" + name_ + "': it is closed");
  if (type != info_.type)
    throw usage_error("cannot write '" + name_ + "': values are " + sample_name(type) + ", the raster is " + sample_name(info_.type));
  detail::check_window("cannot write", name_, info_, x, y, w, h);
  write(x, y, w, h, values);
}

RSSEG_IO_INLINE memory_raster::memory_raster(const raster_info& info) : values_(std::size_t(info.width) * info.height * info.bands) { info_ = info; }
RSSEG_IO_INLINE void memory_raster::write(int x, int y, int w, int h, const void* values) {
  const std::size_t line = std::size_t(info_.width) * info_.bands, part = std::size_t(w) * info_.bands;
  const auto copy = [&](const auto* from) {
    for (int row = 0; row < h; ++row) std::copy_n(from + row * part, part, values_.data() + (y + row) * line + std::size_t(x) * info_.bands);
  };
  switch (info_.type) {
    case sample_type::u8:
      return copy(static_cast<const std::uint8_t*>(values));
    case sample_type::u16:
      return copy(static_cast<const std::uint16_t*>(values));
    case sample_type::i16:
      return copy(static_cast<const std::int16_t*>(values));
    case sample_type::f32:
      return copy(static_cast<const float*>(values));
  }
}

RSSEG_IO_INLINE std::unique_ptr<raster_source> memory_source(raster_info info, std::vector<float> values) {
  return std::make_unique<detail::vector_source>(std::move(info), std::move(values));
}

RSSEG_IO_INLINE std::unique_ptr<raster_source> open_raster(const std::string& path, const image_limits& limits) {
  if (path.compare(0, 4, "/vsi") != 0 && !file_exists(path)) throw input_error("raster '" + path + "': " + detail::read_failure(ENOENT));
  if (detail::picture_name(path) || detail::picture_content(path)) return std::make_unique<detail::picture_source>(path, limits);
#if defined(RSSEG_WITH_GDAL)
  return std::make_unique<detail::gdal_source>(path);
#else
  throw input_error(detail::needs_gdal("reading", path));
#endif
}

RSSEG_IO_INLINE std::unique_ptr<raster_sink> create_raster(const std::string& path, const raster_info& info, const create_options& options) {
  if (info.width < 1 || info.height < 1 || info.bands < 1 || info.bands > 65535)
    throw usage_error("cannot write '" + path + "': a raster of " + std::to_string(info.width) + " x " + std::to_string(info.height) + " x " +
                      std::to_string(info.bands));
  const std::string kind = detail::extension_of(path);
  const bool picture = detail::picture_name(path);
  if (!picture && kind != "tif" && kind != "tiff") throw usage_error("cannot write '" + path + "': expected a name that ends in .tif, .png or .jpg");
  if (!picture && !has_gdal()) throw usage_error(detail::needs_gdal("writing", path));
  const auto make = [path, info, options, picture]() -> std::unique_ptr<raster_sink> {
    if (picture) return std::make_unique<detail::picture_sink>(path, info, options.jpeg_quality);
#if defined(RSSEG_WITH_GDAL)
    return std::make_unique<detail::gdal_sink>(path, info);
#else
    return nullptr;
#endif
  };
  if (!options.resumable) return make();
  make();  // what cannot be written in the end shows at the start; the temporary goes with it
  return std::make_unique<detail::spool_sink>(path, info, options.resume_key, make);
}

RSSEG_IO_INLINE raster_info probe_raster(const std::string& path, const image_limits& limits) {
  if (file_exists(path) && (detail::picture_name(path) || detail::picture_content(path))) {
    const image_info facts = probe_image(path, limits);
    raster_info info;
    info.width = facts.width, info.height = facts.height, info.bands = facts.channels;
    info.type = facts.bits == 16 ? sample_type::u16 : sample_type::u8;
    detail::read_world_file(path, info);
    return info;
  }
  return open_raster(path, limits)->info();
}

RSSEG_IO_INLINE image<float> read_pixels(const std::string& path, const image_limits& limits) {
  const std::unique_ptr<raster_source> source = open_raster(path, limits);
  const raster_info& info = source->info();
  if (std::int64_t(info.width) * info.height > limits.max_pixels)
    throw input_error("raster '" + path + "' has " + std::to_string(info.width) + " x " + std::to_string(info.height) +
                      " pixels, too many to be read at once: cut it into tiles");
  image<float> picture(info.width, info.height, info.bands);
  source->read_window(0, 0, info.width, info.height, picture.data.data());
  return picture;
}

RSSEG_IO_INLINE image8 read_ids(const std::string& path, const image_limits& limits) {
  if (detail::picture_name(path) || !file_exists(path) || detail::picture_content(path)) return read_class_ids(path, limits);
  const image<float> values = read_pixels(path, limits);
  if (values.channels != 1) throw input_error("mask '" + path + "' has " + std::to_string(values.channels) + " bands, expected 1 of class ids");
  image8 ids(values.width, values.height, 1);
  for (std::size_t i = 0; i < ids.data.size(); ++i) {
    const float v = values.data[i];
    if (!(v >= 0 && v <= 255 && v == std::floor(v)))
      throw input_error("mask '" + path + "' holds the value " + std::to_string(v) + ", expected class ids 0 to 255");
    ids.data[i] = std::uint8_t(v);
  }
  return ids;
}

}  // namespace rsseg::io
