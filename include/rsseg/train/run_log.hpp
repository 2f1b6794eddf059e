// SPDX-License-Identifier: MIT
// log.jsonl of a training: one JSON object per line, flushed as it is written. Going on, lines behind the checkpoint's step are dropped.
#pragma once
#include <cstdio>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "rsseg/core/error.hpp"
#include "rsseg/io/atomic_file.hpp"

namespace rsseg::train {

class run_log {
 public:
  /// Keeps the lines of `path` up to that step when going on, else starts anew. Throws output_error.
  run_log(const std::string& path, bool keep, std::uint64_t until_step) : path_(path) {
    if (keep) {
      std::ifstream in(path);
      for (std::string line; std::getline(in, line);) {
        const auto j = nlohmann::json::parse(line, nullptr, false);
        if (!j.is_discarded() && j.is_object() && j.value("step", std::uint64_t(0)) <= until_step) lines_.push_back(j);
      }
    }
    std::string text;
    for (const auto& l : lines_) text += l.dump() + "\n";
    io::write_file(path, text);
    file_.reset(std::fopen(path.c_str(), "a"));
    if (!file_) throw output_error(path + ": cannot be written");
  }
  void write(const nlohmann::json& j) {
    lines_.push_back(j);
    const std::string line = j.dump() + "\n";
    if (std::fwrite(line.data(), 1, line.size(), file_.get()) != line.size() || std::fflush(file_.get()) != 0)
      throw output_error(path_ + ": disk full; free some space and --resume");
  }
  const std::vector<nlohmann::json>& lines() const { return lines_; }

 private:
  struct close {
    void operator()(std::FILE* f) const { std::fclose(f); }
  };
  std::string path_;
  std::vector<nlohmann::json> lines_;
  std::unique_ptr<std::FILE, close> file_;
};

}  // namespace rsseg::train
