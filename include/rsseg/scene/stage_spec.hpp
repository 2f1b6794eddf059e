// SPDX-License-Identifier: MIT
// "name:key=value,key=value": how a stage, a constraint or a penalty is written on the command line.
#pragma once
#include <cstdlib>
#include <initializer_list>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "rsseg/core/error.hpp"

namespace rsseg::scene {

struct stage_spec {
  std::string text, name;
  std::map<std::string, std::string> values;

  /// Throws usage_error for what is no list of key=value.
  static stage_spec parse(const std::string& text) {
    stage_spec s;
    s.text = text;
    const std::size_t colon = text.find(':');
    s.name = text.substr(0, colon);
    if (s.name.empty()) throw usage_error("\"" + text + "\": expected NAME or NAME:key=value,...");
    for (std::size_t at = colon == std::string::npos ? text.size() : colon + 1; at < text.size();) {
      const std::size_t end = std::min(text.find(',', at), text.size()), equal = text.find('=', at);
      if (equal == std::string::npos || equal >= end || equal == at)
        throw usage_error("\"" + text + "\": \"" + text.substr(at, end - at) + "\" is not key=value");
      if (!s.values.emplace(text.substr(at, equal - at), text.substr(equal + 1, end - equal - 1)).second)
        throw usage_error("\"" + text + "\": " + text.substr(at, equal - at) + " is given twice");
      at = end + 1;
    }
    return s;
  }
  /// Throws usage_error that lists what is known, for keys that are not.
  void only(const std::set<std::string>& known) const {
    for (const auto& [key, value] : values)
      if (!known.count(key)) {
        std::string all;
        for (const auto& k : known) all += (all.empty() ? "" : ", ") + k;
        throw usage_error("\"" + text + "\": no option " + key + (all.empty() ? "; there are none" : "; known: " + all));
      }
  }
  bool has(const std::string& key) const { return values.count(key) != 0; }
  std::string word(const std::string& key, const std::string& otherwise = "") const {
    const auto it = values.find(key);
    return it == values.end() ? otherwise : it->second;
  }
  double number(const std::string& key, double otherwise, double least = -1e300, double most = 1e300) const {
    const auto it = values.find(key);
    if (it == values.end()) return otherwise;
    char* rest = nullptr;
    const double v = std::strtod(it->second.c_str(), &rest);
    if (it->second.empty() || *rest || !(v >= least && v <= most))
      throw usage_error("\"" + text + "\": " + key + "=" + it->second + " is not a number in its range" +
                        (least > -1e300 ? " (least " + number_text(least) + ")" : "") + (most < 1e300 ? " (most " + number_text(most) + ")" : ""));
    return v;
  }
  int whole(const std::string& key, int otherwise, int least = 0, int most = 1 << 30) const {
    const double v = number(key, otherwise, least, most);
    if (v != double(int(v))) throw usage_error("\"" + text + "\": " + key + " must be a whole number");
    return int(v);
  }
  /// Which of the words is given; the first if none is.
  int choice(const std::string& key, std::initializer_list<const char*> words) const {
    const std::string given = word(key, *words.begin());
    std::string all;
    int at = 0;
    for (const char* w : words) {
      if (given == w) return at;
      all += (at++ ? ", " : "") + std::string(w);
    }
    throw usage_error("\"" + text + "\": " + key + "=" + given + " is unknown; use one of " + all);
  }

 private:
  static std::string number_text(double v) {
    std::string t = std::to_string(v);
    while (t.find('.') != std::string::npos && (t.back() == '0' || t.back() == '.')) {
      const bool dot = t.back() == '.';
      t.pop_back();
      if (dot) break;
    }
    return t;
  }
};

}  // namespace rsseg::scene
