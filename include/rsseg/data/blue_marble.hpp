// SPDX-License-Identifier: MIT
// The first data set of a newcomer, made from two Debian packages: NASA's Blue Marble picture of the whole Earth (xplanet-images,
// 2048x1024, plate carree) and shorelines and lakes of GSHHG (python-cartopy-data; Wessel and Smith, JGR 1996), rasterised to
// land, ocean and lake. Needs GDAL. Trained on the western hemisphere but for a strip that chooses
// the weights, judged on the eastern.
//
// Only latitudes -60 to 75 are labelled: beyond, ice hides the shoreline. The crude land outline (about 25 km) is coarser than the
// picture (20 km per pixel at the equator), which bounds what a network can reach near coasts.
#pragma once
#include <cpl_conv.h>
#include <cpl_error.h>
#include <gdal.h>
#include <gdal_alg.h>
#include <ogr_api.h>
#include <ogr_srs_api.h>

#include <cmath>
#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include "rsseg/core/error.hpp"
#include "rsseg/data/classes.hpp"
#include "rsseg/io/atomic_file.hpp"
#include "rsseg/io/raster.hpp"

namespace rsseg::data {

/// Where Debian puts the inputs, and the class ids.
struct blue_marble {
  std::filesystem::path image = "/usr/share/xplanet/images/earth.jpg";
  std::filesystem::path land = "/usr/share/cartopy/data/shapefiles/gshhs/c/GSHHS_c_L1.shp";
  std::filesystem::path lakes = "/usr/share/cartopy/data/shapefiles/gshhs/l/GSHHS_l_L2.shp";
  double south = -60, north = 75;  ///< labelled latitudes, degrees

  static class_table classes() {
    class_table t;
    t.names = {"land", "ocean", "lake"};
    t.palette = {{{150, 120, 60}, {25, 60, 140}, {90, 200, 255}}};
    return t;
  }
};

namespace detail {

/// Closes a GDAL data set at the end of its scope, with errors ignored: close() it where they count.
class gdal_file {
 public:
  explicit gdal_file(GDALDatasetH h) : h_(h) {}
  gdal_file(const gdal_file&) = delete;
  gdal_file& operator=(const gdal_file&) = delete;
  ~gdal_file() {
    if (h_) GDALClose(h_);
  }
  GDALDatasetH get() const { return h_; }
  explicit operator bool() const { return h_ != nullptr; }

 private:
  GDALDatasetH h_;
};

/// GDAL's warnings go nowhere while one of these lives; its errors are still returned.
struct quiet_gdal {
  quiet_gdal() { CPLPushErrorHandler(CPLQuietErrorHandler); }
  ~quiet_gdal() { CPLPopErrorHandler(); }
  quiet_gdal(const quiet_gdal&) = delete;
  quiet_gdal& operator=(const quiet_gdal&) = delete;
};

/// Burns `value` into grid wherever the centre of a pixel lies in a polygon of the file.
inline void burn_polygons(const std::filesystem::path& file, GDALDatasetH grid, double value) {
  const gdal_file vector(GDALOpenEx(file.c_str(), GDAL_OF_VECTOR | GDAL_OF_READONLY, nullptr, nullptr, nullptr));
  if (!vector) throw input_error(file.string() + ": cannot be opened as a shapefile; install the package python-cartopy-data");
  OGRLayerH layer = GDALDatasetGetLayer(vector.get(), 0);
  OGR_L_ResetReading(layer);
  const quiet_gdal silence;  // the crude file has three unclosed rings, which GDAL reports and accepts
  int burnt = 0, band = 1;
  while (OGRFeatureH feature = OGR_L_GetNextFeature(layer)) {
    OGRGeometryH shape = OGR_F_GetGeometryRef(feature);
    CPLErr result = CE_None;
    if (shape) {
      OGR_G_CloseRings(shape);
      result = GDALRasterizeGeometries(grid, 1, &band, 1, &shape, nullptr, nullptr, &value, nullptr, nullptr, nullptr);
      ++burnt;
    }
    OGR_F_Destroy(feature);
    if (result != CE_None)
      throw input_error(file.string() + ": feature " + std::to_string(burnt) + " cannot be rasterised (" + CPLGetLastErrorMsg() + ")");
  }
  if (burnt == 0) throw input_error(file.string() + ": holds no polygons");
}

/// Writes (h,w,bands) bytes as a GeoTIFF in EPSG:4326, whole or not at all; with a legend as ids in its colours.
inline void write_geotiff(const std::filesystem::path& file, const std::vector<std::uint8_t>& v, int height, int width, int bands, double west,
                          double north, double degrees, const class_table* legend) {
  io::raster_info info;
  info.width = width, info.height = height, info.bands = bands;
  info.geotransform = {west, degrees, 0, north, 0, -degrees};
  OGRSpatialReferenceH earth = OSRNewSpatialReference(nullptr);
  char* wkt = nullptr;
  if (OSRImportFromEPSG(earth, 4326) == OGRERR_NONE && OSRExportToWkt(earth, &wkt) == OGRERR_NONE) info.projection = wkt;
  CPLFree(wkt);
  OSRDestroySpatialReference(earth);
  if (info.projection.empty()) throw input_error("EPSG:4326 is unknown to PROJ; install the package proj-data");
  if (legend) {
    info.nodata = legend->ignore_id;
    for (const colour& c : legend->palette) info.colors.push_back({c[0], c[1], c[2]});
  }
  const auto sink = io::create_raster(file.string(), info);
  sink->write_rows(0, height, v.data());
  sink->close();
}

}  // namespace detail

/// Labels of the picture's grid: (height, width) ids 0 land, 1 ocean, 2 lake, 255 beyond the labelled latitudes.
inline std::vector<std::uint8_t> blue_marble_labels(const blue_marble& from, int height, int width) {
  const detail::gdal_file grid(GDALCreate(GDALGetDriverByName("MEM"), "", width, height, 1, GDT_Byte, nullptr));
  const double degrees = 360.0 / width;
  double transform[6] = {-180, degrees, 0, 90, 0, -degrees};
  GDALSetGeoTransform(grid.get(), transform);
  GDALFillRaster(GDALGetRasterBand(grid.get(), 1), 1, 0);
  detail::burn_polygons(from.land, grid.get(), 0);
  detail::burn_polygons(from.lakes, grid.get(), 2);
  std::vector<std::uint8_t> ids(std::size_t(height) * std::size_t(width));
  if (GDALRasterIO(GDALGetRasterBand(grid.get(), 1), GF_Read, 0, 0, width, height, ids.data(), width, height, GDT_Byte, 0, 0) != CE_None)
    throw input_error("labels cannot be read back from memory");
  for (int y = 0; y < height; ++y) {
    const double latitude = 90 - (y + 0.5) * degrees;
    if (latitude < from.south || latitude > from.north)
      for (int x = 0; x < width; ++x) ids[std::size_t(y) * std::size_t(width) + std::size_t(x)] = 255;
  }
  return ids;
}

/// Writes into `out`: earth.tif and earth_mask.tif (whole), the same for east (longitudes 0 to 180: the test) and for three parts of the
/// west: pacific and america (training) with the strip validation between them (132 to 110 W: coast, mountains, the lakes of north-west
/// Canada); the lists train.txt, val.txt, test.txt; and classes.json. Throws input_error naming the package to install, or output_error.
inline void prepare_blue_marble(const blue_marble& from, const std::filesystem::path& out) {
  GDALAllRegister();
  for (const auto& [file, package] :
       {std::pair(from.image, "xplanet-images"), std::pair(from.land, "python-cartopy-data"), std::pair(from.lakes, "python-cartopy-data")})
    if (std::error_code none; !std::filesystem::exists(file, none))
      throw input_error(file.string() + ": not there; install the Debian package " + package + " (tools/setup.sh does)");
  const detail::gdal_file picture(GDALOpen(from.image.c_str(), GA_ReadOnly));
  if (!picture) throw input_error(from.image.string() + ": cannot be read as an image (" + CPLGetLastErrorMsg() + ")");
  const int width = GDALGetRasterXSize(picture.get()), height = GDALGetRasterYSize(picture.get()), bands = 3;
  if (GDALGetRasterCount(picture.get()) != bands || width != 2 * height || width % 2)
    throw input_error(from.image.string() + ": expected a 3-band picture of the whole Earth, twice as wide as high");
  std::vector<std::uint8_t> rgb(std::size_t(width) * std::size_t(height) * 3);
  if (GDALDatasetRasterIO(picture.get(), GF_Read, 0, 0, width, height, rgb.data(), width, height, GDT_Byte, bands, nullptr, bands, bands * width,
                          1) != CE_None)
    throw input_error(from.image.string() + ": truncated or corrupt (" + CPLGetLastErrorMsg() + ")");
  const std::vector<std::uint8_t> ids = blue_marble_labels(from, height, width);

  std::error_code failed;
  std::filesystem::create_directories(out, failed);
  if (failed) throw output_error(out.string() + ": cannot be created (" + failed.message() + ")");
  const class_table classes = blue_marble::classes();
  const double degrees = 360.0 / width;
  const int strip = width * 17 / 128, strip_end = strip + width / 16;
  const struct {
    const char* name;
    int left, columns;
  } parts[] = {{"earth", 0, width},
               {"pacific", 0, strip},
               {"validation", strip, strip_end - strip},
               {"america", strip_end, width / 2 - strip_end},
               {"east", width / 2, width / 2}};
  for (const auto& part : parts) {
    const auto cut = [&](const std::vector<std::uint8_t>& all, std::size_t depth) {
      std::vector<std::uint8_t> v;
      v.reserve(std::size_t(height) * std::size_t(part.columns) * depth);
      for (int y = 0; y < height; ++y) {
        const auto row = all.begin() + std::ptrdiff_t((std::size_t(y) * std::size_t(width) + std::size_t(part.left)) * depth);
        v.insert(v.end(), row, row + std::ptrdiff_t(std::size_t(part.columns) * depth));
      }
      return v;
    };
    const std::string name = part.name;
    const double west = -180 + part.left * degrees;
    detail::write_geotiff(out / (name + ".tif"), cut(rgb, 3), height, part.columns, 3, west, 90, degrees, nullptr);
    detail::write_geotiff(out / (name + "_mask.tif"), cut(ids, 1), height, part.columns, 1, west, 90, degrees, &classes);
  }
  const auto list = [&](const char* file, std::initializer_list<const char*> names) {
    std::string text = "# image mask\n";
    for (const std::string name : names) text += name + ".tif " + name + "_mask.tif\n";
    io::write_file((out / file).string(), text);
  };
  list("train.txt", {"pacific", "america"});
  list("val.txt", {"validation"});
  list("test.txt", {"east"});
  io::write_file((out / "classes.json").string(), classes_json(classes));  // last: its presence says that all is there
}

}  // namespace rsseg::data
