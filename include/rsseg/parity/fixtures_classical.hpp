// SPDX-License-Identifier: MIT
// Check of the classical fixture: co-occurrence, local binary patterns, region merging. Called through fixtures.hpp.
#pragma once
#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "rsseg/classical/region_merging.hpp"
#include "rsseg/classical/texture.hpp"
#include "rsseg/parity/fixture_reader.hpp"

namespace rsseg::parity::fixture {

template <class T>
inline void check_classical(const json& f, report<T>& out) {
  const int h = extent(f, "H"), w = extent(f, "W");
  if (h < 3 || w < 3) throw input_error("fixture: the texture image needs at least 3 x 3 pixels");
  std::vector<T> image;
  const auto grey = out.fill("tex.image", std::size_t(h) * w, 0, 256);
  for (int y = 0; y < h; ++y)
    for (int x = 0; x < w; ++x) image.push_back(T(std::clamp(int(grey[image.size()]) / 4 + (5 * y + 3 * x) % 128, 0, 255)));
  if (f.contains("image")) out.exact("image", image, f, "image");
  for (const json& c : child(f, "glcm")) {
    const auto name = "glcm." + get<std::string>(c, "name");
    const auto offset = get<std::vector<int>>(c, "offset_dy_dx");
    const auto count = get<std::vector<double>>(c, "p").size();
    const int levels = int(std::lround(std::sqrt(double(count))));
    if (offset.size() != 2 || levels < 2 || levels > 256 || std::size_t(levels) * levels != count)
      throw input_error("fixture: case '" + name + "' needs offset_dy_dx [dy, dx] and a square p");
    if (std::abs(offset[0]) >= h || std::abs(offset[1]) >= w) throw input_error("fixture: case '" + name + "' has an offset beyond the image");
    const auto q = classical::quantize(image.data(), std::int64_t(h) * w, levels, 0, 256);
    const auto p = classical::glcm(q.data(), h, w, levels, {offset[0], offset[1]});
    out.compare(name + ".p", std::vector<T>(p.begin(), p.end()), c, "p");
    const auto got = classical::features_of_glcm(p.data(), levels).values();
    static constexpr const char* names[] = {"contrast", "dissimilarity", "homogeneity", "ASM", "energy", "correlation", "entropy"};
    for (std::size_t k = 0; k < got.size(); ++k)
      out.compare_number(name + "." + names[k], double(T(got[k])), get<double>(child(c, "features"), names[k]));
  }
  const auto codes = classical::lbp(image.data(), h, w);
  std::vector<int> inner, riu2;
  for (int y = 1; y + 1 < h; ++y)
    for (int x = 1; x + 1 < w; ++x)
      inner.push_back(codes[std::size_t(y) * w + x]), riu2.push_back(classical::lbp_riu2(codes[std::size_t(y) * w + x]));
  out.exact("lbp", inner, f, "lbp");
  out.exact("riu2", riu2, f, "riu2");
  if (!f.contains("region_merging")) return;
  const json& c = f.at("region_merging");
  const auto size = extents(f, "region_merging_size", 3);
  const int bands = size[0], rows = size[1], columns = size[2];
  const std::int64_t pixels = std::int64_t(rows) * columns;
  auto planes = out.fill("rm.image", std::size_t(bands * pixels), 0, 20);
  for (std::size_t i = 0; i < planes.size(); ++i) {
    const int band = int(i / std::size_t(pixels)), y = int(i % std::size_t(pixels)) / columns, x = int(i % std::size_t(pixels)) % columns;
    const bool west = x < columns / 2;
    planes[i] = std::floor(planes[i]);
    if (band == 0) planes[i] += (west ? 40 : 120) + (y < rows / 2 ? 0 : 30);
    if (band == 1) planes[i] += west ? 90 : 30;
  }
  const auto scene = channels_last<T>(planes, 1, bands, pixels);
  classical::merge_options o;
  o.threshold = get<double>(c, "threshold"), o.color = 1;
  const auto result = classical::merge_regions(scene.data(), rows, columns, bands, o);
  out.exact("region_merging.labels", result.label, c, "labels");
  out.results.push_back({"region_merging.regions", std::abs(double(result.regions - get<std::int64_t>(c, "regions"))), 0});
  std::vector<std::int32_t> pairs, expected_pairs;
  std::vector<T> costs;
  std::vector<double> expected_costs;
  for (const auto& step : result.steps) pairs.insert(pairs.end(), {step.kept, step.gone}), costs.push_back(T(step.cost));
  for (const auto& m : get<std::vector<std::vector<double>>>(c, "merges")) {
    if (m.size() != 3) throw input_error("fixture: merges lists [u, v, cost] triples");
    expected_pairs.insert(expected_pairs.end(), {std::int32_t(m[0]), std::int32_t(m[1])}), expected_costs.push_back(m[2]);
  }
  const bool same_length = pairs.size() == expected_pairs.size();
  out.results.push_back({"region_merging.merges", same_length ? differences(pairs, expected_pairs, "merges") : double(expected_pairs.size()), 0});
  if (same_length) out.results.push_back({"region_merging.costs", deviation(costs, expected_costs, "costs"), report<T>::single ? 1e-5 : 1e-9});
}

}  // namespace rsseg::parity::fixture
