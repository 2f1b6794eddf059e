// SPDX-License-Identifier: MIT
// GeoTIFF and the other formats of GDAL (C API). GDAL's messages never reach stderr: each call runs under a handler of this thread
// that keeps the first failure for our own one-line error.
#pragma once
#include <cpl_conv.h>
#include <cpl_error.h>
#include <cpl_string.h>
#include <gdal.h>

#include <algorithm>
#include <cmath>
#include <mutex>

#include "rsseg/io/atomic_file.hpp"
#include "rsseg/io/raster.hpp"

namespace rsseg::io::detail {

/// While it lives, GDAL's errors on this thread are kept here.
class gdal_errors {
 public:
  gdal_errors() {
    CPLPushErrorHandlerEx(&gdal_errors::handle, this);
    CPLErrorReset();
  }
  gdal_errors(const gdal_errors&) = delete;
  ~gdal_errors() { CPLPopErrorHandler(); }
  bool failed() const { return !first_.empty(); }
  /// The first failure, in one line.
  std::string text() const { return failed() ? first_ : "unknown reason"; }

 private:
  static void CPL_STDCALL handle(CPLErr kind, CPLErrorNum, const char* message) {
    auto* self = static_cast<gdal_errors*>(CPLGetErrorHandlerUserData());
    if (kind < CE_Failure || !self->first_.empty()) return;
    self->first_ = message && *message ? message : "unknown reason";
    for (char& c : self->first_)
      if (static_cast<unsigned char>(c) < 32) c = ' ';
  }
  std::string first_;
};

inline void start_gdal() {
  static std::once_flag once;
  std::call_once(once, [] {
    GDALAllRegister();
    // GDAL would take 5 % of the memory for its block cache. Rows of tiles need little, and scenes are promised to stay small.
    if (!CPLGetConfigOption("GDAL_CACHEMAX", nullptr)) GDALSetCacheMax64(GIntBig(64) << 20);
  });
}

inline GDALDataType gdal_type(sample_type type) {
  return type == sample_type::u8 ? GDT_Byte : type == sample_type::u16 ? GDT_UInt16 : type == sample_type::i16 ? GDT_Int16 : GDT_Float32;
}

class gdal_source final : public raster_source {
 public:
  explicit gdal_source(const std::string& path) {
    name_ = path;
    start_gdal();
    gdal_errors errors;
    set_ = GDALOpenEx(path.c_str(), GDAL_OF_RASTER | GDAL_OF_READONLY | GDAL_OF_VERBOSE_ERROR, nullptr, nullptr, nullptr);
    if (!set_) throw input_error("raster '" + path + "' cannot be opened (" + errors.text() + "): is it a GeoTIFF, or damaged?");
    try {
      describe();
    } catch (...) {
      GDALClose(set_);
      throw;
    }
  }
  ~gdal_source() override {
    gdal_errors quiet;
    GDALClose(set_);
  }

 private:
  void describe() {
    info_.width = GDALGetRasterXSize(set_), info_.height = GDALGetRasterYSize(set_), info_.bands = GDALGetRasterCount(set_);
    if (info_.bands < 1) throw input_error("raster '" + name_ + "' has no bands: name one of its subdatasets");
    GDALDataType widest = GDT_Unknown;
    bool named = false;
    for (int b = 1; b <= info_.bands; ++b) {
      GDALRasterBandH band = GDALGetRasterBand(set_, b);
      const GDALDataType type = GDALGetRasterDataType(band);
      if (GDALDataTypeIsComplex(type)) throw input_error("raster '" + name_ + "' holds complex numbers, expected real ones: convert it");
      widest = widest == GDT_Unknown ? type : GDALDataTypeUnion(widest, type);
      const char* text = GDALGetDescription(band);
      info_.band_names.push_back(text ? text : "");
      named = named || !info_.band_names.back().empty();
    }
    if (!named) info_.band_names.clear();
    info_.type = widest == GDT_Byte     ? sample_type::u8
                 : widest == GDT_UInt16 ? sample_type::u16
                 : widest == GDT_Int16  ? sample_type::i16
                                        : sample_type::f32;
    std::array<double, 6> g;
    if (GDALGetGeoTransform(set_, g.data()) == CE_None) info_.geotransform = g;
    const char* wkt = GDALGetProjectionRef(set_);
    info_.projection = wkt ? wkt : "";
    GDALRasterBandH first = GDALGetRasterBand(set_, 1);
    int has = 0;
    const double nodata = GDALGetRasterNoDataValue(first, &has);
    if (has) info_.nodata = nodata;
    if (GDALColorTableH table = GDALGetRasterColorTable(first); table && info_.bands == 1 && info_.type == sample_type::u8)
      for (int i = 0; i < std::min(GDALGetColorEntryCount(table), 256); ++i) {
        const GDALColorEntry* c = GDALGetColorEntry(table, i);
        info_.colors.push_back({std::uint8_t(c->c1), std::uint8_t(c->c2), std::uint8_t(c->c3)});
      }
  }
  void read(int x, int y, int w, int h, float* out) override {
    gdal_errors errors;
    const GSpacing pixel = GSpacing(info_.bands) * GSpacing(sizeof(float));
    const CPLErr code = GDALDatasetRasterIOEx(set_, GF_Read, x, y, w, h, out, w, h, GDT_Float32, info_.bands, nullptr, pixel, pixel * w,
                                              GSpacing(sizeof(float)), nullptr);
    if (code != CE_None || errors.failed())
      throw input_error("raster '" + name_ + "' cannot be read at column " + std::to_string(x) + ", row " + std::to_string(y) + " (" + errors.text() +
                        "): it is damaged, copy it again");
  }
  GDALDatasetH set_ = nullptr;
};

class gdal_sink final : public raster_sink {
 public:
  gdal_sink(const std::string& path, const raster_info& info) : path_(path) {
    name_ = path, info_ = info;
    if (path_.direct()) throw output_error("cannot write '" + path + "': a GeoTIFF needs a regular file: give the name of a file");
    start_gdal();
    gdal_errors errors;
    GDALDriverH driver = GDALGetDriverByName("GTiff");
    if (!driver) throw output_error("cannot write '" + path + "': this GDAL has no GeoTIFF driver");
    char** options = nullptr;
    for (const char* option : {"TILED=YES", "BLOCKXSIZE=256", "BLOCKYSIZE=256", "COMPRESS=DEFLATE", "BIGTIFF=IF_SAFER"})
      options = CSLAddString(options, option);
    if (info.type != sample_type::u8) options = CSLAddString(options, info.type == sample_type::f32 ? "PREDICTOR=3" : "PREDICTOR=2");
    // Tiles wait in GDAL's cache until their last row has come; written early, they would be written twice.
    const GIntBig row = GIntBig((info.width + 255) / 256) * 256 * 256 * info.bands * GIntBig(sample_size(info.type));
    if (GDALGetCacheMax64() < 2 * row) GDALSetCacheMax64(2 * row);
    set_ = GDALCreate(driver, path_.temporary().c_str(), info.width, info.height, info.bands, gdal_type(info.type), options);
    CSLDestroy(options);
    if (!set_) fail(errors);
    if (info.geotransform) {
      std::array<double, 6> g = *info.geotransform;
      GDALSetGeoTransform(set_, g.data());
    }
    if (!info.projection.empty()) GDALSetProjection(set_, info.projection.c_str());
    for (int b = 1; b <= info.bands; ++b) {
      GDALRasterBandH band = GDALGetRasterBand(set_, b);
      if (info.nodata && b == 1) GDALSetRasterNoDataValue(band, *info.nodata);  // GeoTIFF has one for all bands
      if (int(info.band_names.size()) >= b) GDALSetDescription(band, info.band_names[std::size_t(b - 1)].c_str());
    }
    if (!info.colors.empty() && info.bands == 1 && info.type == sample_type::u8) {
      GDALColorTableH table = GDALCreateColorTable(GPI_RGB);
      for (std::size_t i = 0; i < info.colors.size() && i < 256; ++i) {
        const GDALColorEntry entry{info.colors[i].r, info.colors[i].g, info.colors[i].b, 255};
        GDALSetColorEntry(table, int(i), &entry);
      }
      GDALSetRasterColorTable(GDALGetRasterBand(set_, 1), table);
      GDALDestroyColorTable(table);
    }
    if (errors.failed()) fail(errors);
  }
  ~gdal_sink() override {
    if (!set_) return;
    gdal_errors quiet;
    GDALClose(set_);
  }
  void close() override {
    if (closed_) return;
    gdal_errors errors;
    GDALFlushCache(set_);
    GDALClose(set_);  // GDAL 3.6 tells of a failure here through its error handler only
    set_ = nullptr;
    if (errors.failed()) fail(errors);
    path_.commit();
    closed_ = true;
  }

 private:
  [[noreturn]] void fail(const gdal_errors& errors) const {
    throw output_error("cannot write '" + name_ + "' (" + errors.text() + "): check the folder and the free space");
  }
  void write(int x, int y, int w, int h, const void* values) override {
    gdal_errors errors;
    const GSpacing sample = GSpacing(sample_size(info_.type)), pixel = sample * info_.bands;
    const CPLErr code = GDALDatasetRasterIOEx(set_, GF_Write, x, y, w, h, const_cast<void*>(values), w, h, gdal_type(info_.type), info_.bands,
                                              nullptr, pixel, pixel * w, sample, nullptr);
    if (code != CE_None || errors.failed()) fail(errors);
  }
  temporary_path path_;
  GDALDatasetH set_ = nullptr;
};

}  // namespace rsseg::io::detail
