// SPDX-License-Identifier: MIT
// --input: several co-registered rasters as one image of many bands.
#include "commands.hpp"
#include "rsseg/data/modalities.hpp"

namespace rsseg::program {

namespace {
std::vector<data::modality> parsed(const std::vector<std::string>& given) {
  std::vector<data::modality> all;
  for (const auto& text : given) {
    all.push_back(data::parse_modality(text));
    for (std::size_t i = 0; i + 1 < all.size(); ++i)
      if (all[i].name == all.back().name) throw usage_error("--input " + all.back().name + " is given twice");
  }
  return all;
}
std::string list(const std::vector<std::pair<std::string, int>>& known) {
  std::string all;
  for (const auto& [name, bands] : known) all += (all.empty() ? "" : ", ") + name + " (" + std::to_string(bands) + " bands)";
  return all;
}
}  // namespace

std::shared_ptr<const data::dataset> open_with_inputs(const std::string& spec, const data::open_options& options,
                                                      const std::vector<std::string>& given, const std::vector<std::pair<std::string, int>>& known,
                                                      std::vector<std::pair<std::string, int>>& inputs) {
  inputs.clear();
  std::vector<data::modality> wanted = parsed(given);
  if (!known.empty()) {
    std::vector<data::modality> all;
    for (const auto& [name, bands] : known) all.push_back({name, name, 0});
    for (const auto& w : wanted) {
      const auto hit = std::find_if(all.begin(), all.end(), [&](const auto& m) { return m.name == w.name; });
      if (hit == all.end()) throw usage_error("--input " + w.name + ": the weights know " + list(known));
      hit->where = w.where;
    }
    wanted = std::move(all);
  }
  if (wanted.empty()) return data::open_dataset(spec, options);
  data::open_options plain = options;
  plain.cache_megabytes = 0;
  namespace fs = std::filesystem;
  std::error_code none;
  fs::path root = fs::is_directory(spec, none) ? fs::path(spec) : fs::path(spec).parent_path();
  if (!fs::is_directory(spec, none) && wanted.size() > 1 && !fs::is_directory(root / wanted[1].where, none)) root = root.empty() ? ".." : root / "..";
  auto set = std::make_shared<data::stacked_dataset>(data::open_dataset(spec, plain), wanted, root);
  for (const auto& m : set->inputs()) inputs.emplace_back(m.name, m.bands);
  if (!known.empty() && known != inputs) throw usage_error(spec + ": inputs are " + list(inputs) + "; the weights were trained on " + list(known));
  return std::make_shared<data::cached_dataset>(set, options.cache_megabytes);
}

std::unique_ptr<io::raster_source> open_scene_inputs(const std::string& first, const std::vector<std::string>& given,
                                                     const std::vector<std::pair<std::string, int>>& known) {
  const std::vector<data::modality> files = parsed(given);
  if (known.empty()) {
    if (!files.empty()) throw usage_error("--input: these weights were trained on one image; give the image alone");
    return io::open_raster(first);
  }
  for (const auto& f : files)
    if (std::none_of(known.begin(), known.end(), [&](const auto& k) { return k.first == f.name; }))
      throw usage_error("--input " + f.name + ": the weights know " + list(known));
  std::vector<std::unique_ptr<io::raster_source>> parts;
  for (std::size_t i = 0; i < known.size(); ++i) {
    const auto hit = std::find_if(files.begin(), files.end(), [&](const auto& f) { return f.name == known[i].first; });
    const std::string file = hit != files.end() ? hit->where : i == 0 ? first : "";
    if (file.empty())
      throw usage_error("input '" + known[i].first + "' is missing: --input " + known[i].first + "=FILE; the weights know " + list(known));
    parts.push_back(io::open_raster(file));
    if (parts.back()->info().bands != known[i].second)
      throw usage_error(file + ": " + std::to_string(parts.back()->info().bands) + " bands; input '" + known[i].first + "' was trained with " +
                        std::to_string(known[i].second));
  }
  return std::make_unique<data::stacked_source>(std::move(parts));
}

}  // namespace rsseg::program
