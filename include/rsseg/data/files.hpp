// SPDX-License-Identifier: MIT
// Files to pixels, for data sets: any format that io/ reads. The one place where data/ touches io/.
#pragma once
#include <cpl_error.h>
#include <gdal.h>

#include <cstdint>
#include <filesystem>
#include <mutex>
#include <string>
#include <vector>

#include "rsseg/core/error.hpp"
#include "rsseg/data/pixels.hpp"

namespace rsseg::data {

inline GDALDatasetH tmp_open(const std::filesystem::path& f) {
  static std::once_flag once;
  std::call_once(once, [] {
    GDALAllRegister();
    CPLPushErrorHandler(CPLQuietErrorHandler);
  });
  std::error_code e;
  if (!std::filesystem::exists(f, e)) throw input_error(f.string() + ": does not exist");
  GDALDatasetH d = GDALOpen(f.string().c_str(), GA_ReadOnly);
  if (!d) throw input_error(f.string() + ": not an image that can be read");
  return d;
}
inline pixels read_pixels(const std::filesystem::path& f) {
  GDALDatasetH d = tmp_open(f);
  pixels p{GDALGetRasterYSize(d), GDALGetRasterXSize(d), GDALGetRasterCount(d), {}};
  const auto type = GDALGetRasterDataType(GDALGetRasterBand(d, 1));
  const auto take = [&](auto zero, GDALDataType t) {
    using T = decltype(zero);
    std::vector<T> v(p.count());
    const int s = int(sizeof(T));
    const auto rc = GDALDatasetRasterIO(d, GF_Read, 0, 0, p.width, p.height, v.data(), p.width, p.height, t, p.bands, nullptr, s * p.bands,
                                        s * p.bands * p.width, s);
    GDALClose(d);
    if (rc != CE_None) throw input_error(f.string() + ": truncated or corrupt");
    p.values = std::move(v);
  };
  if (type == GDT_Byte)
    take(std::uint8_t{}, GDT_Byte);
  else if (type == GDT_UInt16)
    take(std::uint16_t{}, GDT_UInt16);
  else
    take(float{}, GDT_Float32);
  return p;
}
inline pixels read_mask_pixels(const std::filesystem::path& f) { return read_pixels(f); }
inline int image_bands(const std::filesystem::path& f) {
  GDALDatasetH d = tmp_open(f);
  const int n = GDALGetRasterCount(d);
  GDALClose(d);
  return n;
}

/// Takes the last band away (alpha).
inline void drop_last_band(pixels& p) {
  std::visit(
      [&](auto& v) {
        const std::size_t b = std::size_t(p.bands), n = v.size() / b;
        for (std::size_t i = 0; i < n; ++i)
          for (std::size_t k = 0; k + 1 < b; ++k) v[i * (b - 1) + k] = v[i * b + k];
        v.resize(n * (b - 1));
      },
      p.values);
  --p.bands;
}

}  // namespace rsseg::data
