// SPDX-License-Identifier: MIT
// Several rasters of one ground as one image: the bands of all of them, on the pixel grid of the first. Each may have its own bands, sample type and
// resolution; a file covers the same ground as its partner in the first folder, so resampling needs extents only: bilinear, pixel centres.
//   NAME=FOLDER   one file per image, of the same stem; folders are relative to the data (or to the folder above a list)
// What belongs together is remembered as names and band counts: networks of nets/fusion.hpp treat them apart, all others see one image of many bands.
#pragma once
#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "rsseg/data/dataset.hpp"
#include "rsseg/data/pairs.hpp"
#include "rsseg/io/raster.hpp"

namespace rsseg::data {

/// A named input: a folder of files for data sets, a file for scenes.
struct modality {
  std::string name, where;
  int bands = 0;
};

/// "height=dsm". Throws usage_error.
inline modality parse_modality(const std::string& text) {
  const std::size_t equal = text.find('=');
  if (equal == std::string::npos || equal == 0 || equal + 1 == text.size())
    throw usage_error("--input \"" + text + "\": expected NAME=FOLDER for data sets, NAME=FILE for scenes");
  return {text.substr(0, equal), text.substr(equal + 1), 0};
}

/// (h, w, bands) to (to_h, to_w, bands) over the same ground. Values that are not finite do not spread: the nearest pixel is taken there.
inline void resample_bands(const float* in, int h, int w, int bands, int to_h, int to_w, float* out, int out_stride) {
  for (int y = 0; y < to_h; ++y)
    for (int x = 0; x < to_w; ++x) {
      const double sy = std::clamp((y + 0.5) * h / to_h - 0.5, 0.0, h - 1.0), sx = std::clamp((x + 0.5) * w / to_w - 0.5, 0.0, w - 1.0);
      const int y0 = int(sy), x0 = int(sx), y1 = std::min(y0 + 1, h - 1), x1 = std::min(x0 + 1, w - 1);
      const double v = sy - y0, u = sx - x0;
      float* to = out + (std::size_t(y) * std::size_t(to_w) + std::size_t(x)) * std::size_t(out_stride);
      for (int b = 0; b < bands; ++b) {
        const auto at = [&](int r, int c) {
          return double(in[(std::size_t(r) * std::size_t(w) + std::size_t(c)) * std::size_t(bands) + std::size_t(b)]);
        };
        const double mixed = (1 - v) * ((1 - u) * at(y0, x0) + u * at(y0, x1)) + v * ((1 - u) * at(y1, x0) + u * at(y1, x1));
        to[b] = float(std::isfinite(mixed) ? mixed : at(v < 0.5 ? y0 : y1, u < 0.5 ? x0 : x1));
      }
    }
}

namespace detail {
/// Values in the units networks see: 8- and 16-bit samples in [0, 1].
inline std::vector<float> unit_values(const pixels& p) {
  std::vector<float> v(p.count());
  const float scale = p.unit_scale();
  std::visit([&](const auto& from) { std::transform(from.begin(), from.end(), v.begin(), [&](auto x) { return float(x) * scale; }); }, p.values);
  return v;
}
}  // namespace detail

/// Whether rasters of h x w and of to_h x to_w pixels can show the same ground: sides in one proportion, to a pixel of the first and a tenth.
inline bool same_proportions(int h, int w, int to_h, int to_w) {
  const double wanted = double(to_w) / to_h;
  return wanted >= 0.9 * (w - 1) / (h + 1) && (h == 1 || wanted <= 1.1 * (w + 1) / (h - 1));
}

/// The pairs of another set with the bands of further folders behind the image's.
class stacked_dataset final : public dataset {
 public:
  /// inputs: the first is the set's own image (its folder is not looked at), the others have one file per image. Reads one file of each for the
  /// band counts. Throws input_error naming the file that is missing.
  stacked_dataset(std::shared_ptr<const dataset> first, std::vector<modality> inputs, fs::path root)
      : first_(std::move(first)), inputs_(std::move(inputs)) {
    if (inputs_.empty() || inputs_.size() > 8) throw usage_error("--input: expected 1 to 8 inputs");
    inputs_[0].bands = first_->bands();
    bands_ = inputs_[0].bands;
    for (std::size_t m = 1; m < inputs_.size(); ++m) {
      const fs::path where = fs::path(inputs_[m].where).is_absolute() ? fs::path(inputs_[m].where) : root / inputs_[m].where;
      std::error_code none;
      if (!fs::is_directory(where, none))
        throw input_error(where.string() + ": no such folder; expected the files of input '" + inputs_[m].name + "'");
      files_.emplace_back();
      for (std::size_t i = 0; i < first_->size(); ++i) {
        const auto file = detail::find_image(where, first_->name(i));
        if (!file)
          throw input_error(where.string() + ": no file called " + first_->name(i) + " for input '" + inputs_[m].name +
                            "'; every image needs one of its name");
        files_.back().push_back(*file);
      }
      inputs_[m].bands = image_bands(files_.back().front());
      bands_ += inputs_[m].bands;
    }
  }
  std::size_t size() const override { return first_->size(); }
  std::string name(std::size_t i) const override { return first_->name(i); }
  const class_table& classes() const override { return first_->classes(); }
  int bands() const override { return bands_; }
  mask load_mask(std::size_t i) const override { return first_->load_mask(i); }
  const std::vector<modality>& inputs() const { return inputs_; }

  std::shared_ptr<const sample> load(std::size_t i) const override {
    const auto base = first_->load(i);
    auto s = std::make_shared<sample>();
    s->name = base->name, s->labels = base->labels;
    s->image.height = base->image.height, s->image.width = base->image.width, s->image.bands = bands_;
    std::vector<float> all(std::size_t(base->image.height) * std::size_t(base->image.width) * std::size_t(bands_));
    int at = 0;
    for (std::size_t m = 0; m < inputs_.size(); ++m) {
      const pixels p = m == 0 ? base->image : read_pixels(files_[m - 1][i]);
      if (p.bands != inputs_[m].bands)
        throw input_error(files_[m - 1][i].string() + ": " + std::to_string(p.bands) + " bands, other files of input '" + inputs_[m].name +
                          "' have " + std::to_string(inputs_[m].bands));
      if (!same_proportions(p.height, p.width, s->image.height, s->image.width))
        throw input_error(files_[m - 1][i].string() + ": " + std::to_string(p.width) + " x " + std::to_string(p.height) +
                          " pixels cannot cover the ground of an image of " + std::to_string(s->image.width) + " x " +
                          std::to_string(s->image.height) + "; cut input '" + inputs_[m].name + "' to the same extent");
      resample_bands(detail::unit_values(p).data(), p.height, p.width, p.bands, s->image.height, s->image.width, all.data() + at, bands_);
      at += p.bands;
    }
    s->image.values = std::move(all);
    return s;
  }

 private:
  std::shared_ptr<const dataset> first_;
  std::vector<modality> inputs_;
  std::vector<std::vector<fs::path>> files_;
  int bands_ = 0;
};

/// The same for scenes: a raster with the grid and the georeference of the first, and the bands of all.
class stacked_source final : public io::raster_source {
 public:
  /// Throws usage_error when two georeferenced rasters do not cover the same ground (to a tenth of the first one's side), or
  /// rasters without georeference have sides in other proportions.
  explicit stacked_source(std::vector<std::unique_ptr<io::raster_source>> parts) : parts_(std::move(parts)) {
    if (parts_.empty()) throw usage_error("--input: no raster");
    const io::raster_info first = parts_[0]->info();
    info_ = first;
    info_.type = io::sample_type::f32, info_.bands = 0, info_.band_names.clear(), info_.colors.clear();
    name_ = parts_[0]->name();
    for (const auto& p : parts_) {
      info_.bands += p->info().bands;
      if (!first.geotransform || !p->info().geotransform) {
        if (!same_proportions(p->info().height, p->info().width, first.height, first.width))
          throw usage_error(p->name() + ": " + std::to_string(p->info().width) + " x " + std::to_string(p->info().height) +
                            " pixels cannot cover the ground of " + name_ + ", " + std::to_string(first.width) + " x " +
                            std::to_string(first.height) + "; cut the rasters to one extent first");
        continue;
      }
      const auto &a = *first.geotransform, &b = *p->info().geotransform;
      const double wide = std::abs(a[1]) * first.width, high = std::abs(a[5]) * first.height;
      if (std::abs(a[0] - b[0]) > 0.1 * wide || std::abs(a[3] - b[3]) > 0.1 * high ||
          std::abs(std::abs(b[1]) * p->info().width - wide) > 0.2 * wide || std::abs(std::abs(b[5]) * p->info().height - high) > 0.2 * high)
        throw usage_error(p->name() + ": covers other ground than " + name_ + "; cut the rasters to one extent first (gdalwarp -te)");
    }
  }

 protected:
  void read(int x, int y, int w, int h, float* out) override {
    int at = 0;
    for (const auto& p : parts_) {
      const io::raster_info& i = p->info();
      const float scale = i.type == io::sample_type::u8 ? 1.0f / 255 : i.type == io::sample_type::u16 ? 1.0f / 65535 : 1.0f;
      // The window on the part's grid with a pixel around it for the bilinear reads, which count from the window's own corner.
      const double fx = double(i.width) / info_.width, fy = double(i.height) / info_.height;
      const int x0 = std::max(0, int(std::floor((x + 0.5) * fx - 0.5))), x1 = std::min(i.width - 1, int(std::floor((x + w - 0.5) * fx - 0.5)) + 1);
      const int y0 = std::max(0, int(std::floor((y + 0.5) * fy - 0.5))), y1 = std::min(i.height - 1, int(std::floor((y + h - 0.5) * fy - 0.5)) + 1);
      const int pw = x1 - x0 + 1, ph = y1 - y0 + 1;
      part_.resize(std::size_t(pw) * std::size_t(ph) * std::size_t(i.bands));
      p->read_window(x0, y0, pw, ph, part_.data());
      for (int r = 0; r < h; ++r)
        for (int c = 0; c < w; ++c) {
          const double sy = std::clamp((y + r + 0.5) * fy - 0.5, 0.0, i.height - 1.0) - y0,
                       sx = std::clamp((x + c + 0.5) * fx - 0.5, 0.0, i.width - 1.0) - x0;
          const int ya = int(sy), xa = int(sx), yb = std::min(ya + 1, ph - 1), xb = std::min(xa + 1, pw - 1);
          const double v = sy - ya, u = sx - xa;
          float* to = out + (std::size_t(r) * std::size_t(w) + std::size_t(c)) * std::size_t(info_.bands) + std::size_t(at);
          for (int b = 0; b < i.bands; ++b) {
            const auto value = [&](int yy, int xx) {
              return double(part_[(std::size_t(yy) * std::size_t(pw) + std::size_t(xx)) * std::size_t(i.bands) + std::size_t(b)]);
            };
            const double mixed = (1 - v) * ((1 - u) * value(ya, xa) + u * value(ya, xb)) + v * ((1 - u) * value(yb, xa) + u * value(yb, xb));
            to[b] = float(std::isfinite(mixed) ? mixed : value(v < 0.5 ? ya : yb, u < 0.5 ? xa : xb)) * scale;
          }
        }
      at += i.bands;
    }
  }

 private:
  std::vector<std::unique_ptr<io::raster_source>> parts_;
  std::vector<float> part_;
};

}  // namespace rsseg::data
