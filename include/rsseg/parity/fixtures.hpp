// SPDX-License-Identifier: MIT
// Parity fixtures that are not networks: check_fixture() recomputes a fixture's numbers and says how far off they are, group by group.
#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "rsseg/parity/fixture_reader.hpp"
#include "rsseg/parity/fixtures_classical.hpp"
#include "rsseg/parity/fixtures_losses.hpp"
#include "rsseg/parity/fixtures_magnet.hpp"
#include "rsseg/parity/fixtures_refine.hpp"

namespace rsseg::parity {

/// The part of "format" before the version, e.g. "dense_crf" of "dense_crf 1"; empty for network manifests (format is a number).
/// Throws input_error when the field is missing.
inline std::string fixture_kind(const nlohmann::json& f) {
  if (!f.is_object() || !f.contains("format")) throw input_error("fixture: field 'format' is missing; not a parity manifest");
  if (!f.at("format").is_string()) return {};
  const auto format = f.at("format").get<std::string>();
  return format.substr(0, format.find(' '));
}

/// Whether check_fixture() knows this kind.
inline bool fixture_supported(const std::string& kind) {
  for (const char* name : {"dense_crf", "permutohedral", "guided_filter", "crf_rnn", "classical", "point_sampling", "losses", "magnet_pipeline"})
    if (kind == name) return true;
  return false;
}

/// Recomputes the fixture in precision T (float or double). dense_crf: the dense_crf fixture that a permutohedral fixture refers to, null:
/// the usual one's definitions. Throws input_error for malformed content, missing fields, unknown formats.
template <class T>
inline std::vector<fixture_result> check_fixture(const nlohmann::json& f, const nlohmann::json* dense_crf = nullptr,
                                                 const nlohmann::json* magnet_refinement = nullptr) {
  const std::string kind = fixture_kind(f);
  if (!fixture_supported(kind) || f.at("format") != kind + " 1")
    throw input_error(
        "fixture: unknown format " + f.at("format").dump() +
        "; expected '<name> 1' of dense_crf, permutohedral, guided_filter, crf_rnn, classical, point_sampling, losses, magnet_pipeline");
  fixture::report<T> out(f);
  try {
    if (kind == "dense_crf") fixture::check_dense_crf(f, out);
    if (kind == "permutohedral") fixture::check_permutohedral(f, dense_crf, out);
    if (kind == "guided_filter") fixture::check_guided_filter(f, out);
    if (kind == "crf_rnn") fixture::check_crf_rnn(f, out);
    if (kind == "classical") fixture::check_classical(f, out);
    if (kind == "point_sampling") fixture::check_point_sampling(f, out);
    if (kind == "losses") fixture::check_losses(f, out);
    if (kind == "magnet_pipeline") fixture::check_magnet_pipeline(f, magnet_refinement, out);
  } catch (const nlohmann::json::exception& e) {
    throw input_error(std::string("fixture: ") + e.what());
  } catch (const usage_error& e) {  // options that only the file can have set
    throw input_error(std::string("fixture: ") + e.what());
  }
  if (out.results.empty()) throw input_error("fixture: nothing to compare in this " + kind + " file");
  return out.results;
}

/// The same for a file; a permutohedral fixture finds dense_crf.json beside it, magnet_pipeline finds
/// magnet_refinement.json. Messages name the file.
template <class T>
inline std::vector<fixture_result> check_fixture_file(const std::string& path) {
  const auto f = fixture::load(path);
  try {
    const auto beside = std::filesystem::path(path).parent_path() / "dense_crf.json";
    if (fixture_kind(f) == "permutohedral" && std::filesystem::exists(beside)) {
      const auto dense_crf = fixture::load(beside.string());
      return check_fixture<T>(f, &dense_crf);
    }
    const auto refinement = std::filesystem::path(path).parent_path() / "magnet_refinement.json";
    if (fixture_kind(f) == "magnet_pipeline" && std::filesystem::exists(refinement)) {
      const auto manifest = fixture::load(refinement.string());
      return check_fixture<T>(f, nullptr, &manifest);
    }
    return check_fixture<T>(f);
  } catch (const input_error& e) {
    throw input_error(path + ": " + e.what());
  }
}

}  // namespace rsseg::parity
