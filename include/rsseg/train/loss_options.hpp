// SPDX-License-Identifier: MIT
// Losses, class weights and sampling as text, for command lines and settings files:
//   losses          ce  focal:gamma=3  ce+0.5*dice:smooth=1,present  tversky:alpha=0.3,beta=0.7  ohem:threshold=0.7,kept=0.0625
//   class weights   none  median-frequency  inverse-frequency  enet  effective:0.999  FILE (numbers, a JSON list, or an object by class name)
//   sampling        area  images  balanced  balanced:0.5
#pragma once
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "rsseg/data/sampler.hpp"
#include "rsseg/graph/training.hpp"

namespace rsseg::train {

namespace detail {

/// "a,b=2,3": calls take(key, has a value, value); an item that is a bare number has an empty key. Throws usage_error with `where` in front
/// and `allowed` behind.
template <class Take>
void parse_items(const std::string& items, const std::string& where, const std::string& allowed, const Take& take) {
  for (std::size_t at = 0; at < items.size() || at == 0;) {
    const std::size_t end = std::min(items.find(',', at), items.size());
    const std::string item = items.substr(at, end - at);
    const std::size_t equals = item.find('=');
    const std::string number = equals == std::string::npos ? item : item.substr(equals + 1);
    char* rest = nullptr;
    const double v = std::strtod(number.c_str(), &rest);
    const bool numeric = !number.empty() && *rest == 0 && std::isfinite(v);
    if (equals != std::string::npos && !numeric) throw usage_error(where + ": \"" + item + "\" has no number behind the =");
    const std::string key = equals != std::string::npos ? item.substr(0, equals) : numeric ? "" : item;
    if (!take(key, numeric, v)) throw usage_error(where + ": option \"" + item + "\" is unknown or out of range; use " + allowed);
    at = end + 1;
    if (end == items.size()) break;
  }
}

/// What may stand behind the colon of a loss.
inline const char* options_of(graph::loss_kind kind) {
  switch (kind) {
    case graph::loss_kind::cross_entropy:
      return "smoothing=S, 0 <= S <= 0.999";
    case graph::loss_kind::focal:
      return "gamma=G, 0 <= G <= 100";
    case graph::loss_kind::dice:
    case graph::loss_kind::jaccard:
      return "smooth=S, S >= 0, or present";
    case graph::loss_kind::tversky:
      return "alpha=A, beta=B, smooth=S, each >= 0, or present";
    case graph::loss_kind::lovasz:
      return "per-image or all";
    default:
      return "threshold=T, 0 < T <= 1, or kept=K, a count or a share of the pixels";
  }
}

/// One loss without its factor: name[:options].
inline graph::loss_term parse_term(const std::string& part, const std::string& text) {
  using graph::loss_kind;
  const std::size_t colon = part.find(':');
  const std::string name = part.substr(0, colon), where = "loss \"" + text + "\", term \"" + part + "\"";
  graph::loss_term t;
  if (name == "ce")
    t.kind = loss_kind::cross_entropy;
  else if (name == "focal")
    t.kind = loss_kind::focal, t.alpha = 2;
  else if (name == "focal3")  // short for focal:gamma=3
    t.kind = loss_kind::focal, t.alpha = 3;
  else if (name == "dice")
    t.kind = loss_kind::dice, t.alpha = 1;
  else if (name == "jaccard")
    t.kind = loss_kind::jaccard, t.alpha = 1;
  else if (name == "tversky")
    t.kind = loss_kind::tversky, t.alpha = 0.3, t.beta = 0.7, t.gamma = 1;
  else if (name == "lovasz")
    t.kind = loss_kind::lovasz;
  else if (name == "ohem")
    t.kind = loss_kind::ohem, t.alpha = 0.7, t.count = 100000;
  else
    throw usage_error("loss \"" + text + "\": \"" + name +
                      "\" is unknown; use ce, focal, dice, jaccard, tversky, lovasz, ohem, or a sum such as ce+dice or ce+0.5*lovasz");
  if (colon == std::string::npos) return t;
  parse_items(part.substr(colon + 1), where, options_of(t.kind), [&](const std::string& key, bool has, double v) {
    const auto set = [&](double& to, double low, double high) { return has && v >= low && v <= high ? (to = v, true) : false; };
    const auto raise = [&](bool& flag) { return has ? false : (flag = true, true); };  // an option without a value
    switch (t.kind) {
      case loss_kind::cross_entropy:
        return (key.empty() || key == "smoothing") && set(t.alpha, 0, 0.999);
      case loss_kind::focal:
        return (key.empty() || key == "gamma") && set(t.alpha, 0, 100);
      case loss_kind::dice:
      case loss_kind::jaccard:
        if (key == "present") return raise(t.flag);
        return (key.empty() || key == "smooth") && set(t.alpha, 0, 1e12);
      case loss_kind::tversky:
        if (key == "present") return raise(t.flag);
        if (key == "alpha") return set(t.alpha, 0, 1e6);
        if (key == "beta") return set(t.beta, 0, 1e6);
        return key == "smooth" && set(t.gamma, 0, 1e12);
      case loss_kind::lovasz:
        if (key == "per-image") return raise(t.flag);
        return key == "all" && raise(t.flag2);
      default:  // ohem
        if (key == "threshold") return set(t.alpha, 1e-9, 1);
        if (key != "kept" || !has || v < 0 || v > 2e9) return false;
        t.count = v < 1 ? 0 : int(v), t.beta = v < 1 ? v : 0;  // below 1: a share of the valid pixels
        return true;
    }
  });
  return t;
}

}  // namespace detail

/// A sum of up to four losses, each NAME or FACTOR*NAME, each with options behind a colon. Throws usage_error naming the bad part.
///   ce: smoothing (0)   focal: gamma (2)   dice, jaccard: smooth (1), present (mean over the classes that occur only)
///   tversky: alpha (0.3, false positives), beta (0.7, false negatives), smooth (1), present   lovasz: per-image, all (absent classes, too)
///   ohem: threshold (0.7), kept (100000; below 1: a share of the valid pixels)
inline graph::loss_options parse_loss(const std::string& text) {
  graph::loss_options l;
  l.term_count = 0;
  for (std::size_t at = 0; at <= text.size();) {
    const std::size_t end = std::min(text.find('+', at), text.size());
    std::string part = text.substr(at, end - at);
    double weight = 1;
    if (const auto star = part.find('*'); star != std::string::npos) {
      char* rest = nullptr;
      weight = std::strtod(part.c_str(), &rest);
      if (rest != part.c_str() + star || !(weight > 0) || !std::isfinite(weight))
        throw usage_error("loss \"" + text + "\": \"" + part + "\" does not start with a positive number");
      part = part.substr(star + 1);
    }
    if (l.term_count == 4) throw usage_error("loss \"" + text + "\": at most four terms");
    l.terms[l.term_count] = detail::parse_term(part, text);
    l.terms[l.term_count++].weight = weight;
    at = end + 1;
  }
  return l;
}

/// How edge outputs learn: "auto" (as the network declares), "hed", "bce", "euclidean".
inline graph::edge_loss parse_edge_loss(const std::string& text) {
  if (text == "auto") return graph::edge_loss::as_declared;
  if (text == "hed") return graph::edge_loss::balanced;
  if (text == "bce") return graph::edge_loss::plain;
  if (text == "euclidean") return graph::edge_loss::euclidean;
  throw usage_error("edge loss \"" + text + "\": unknown; use auto, hed, bce or euclidean");
}

/// Class weights of a data set; empty for "none". Names compute them from the class frequencies; anything else is a file. Throws usage_error
/// for a name that is neither, input_error for a file that does not give one number of at least 0 per class.
inline std::vector<float> class_weights_for(const std::string& text, const data::dataset& set) {
  if (text == "none") return {};
  const std::size_t colon = text.find(':');
  const std::string name = text.substr(0, colon);
  double beta = 0.9999;
  if (name == "effective" && colon != std::string::npos) {
    char* rest = nullptr;
    beta = std::strtod(text.c_str() + colon + 1, &rest);
    if (*rest || !(beta > 0 && beta < 1)) throw usage_error("class weights \"" + text + "\": expected a number between 0 and 1 behind the colon");
  }
  if (data::is_class_weighting(name)) {
    const auto w = data::class_weights(data::count_classes(set), data::parse_class_weighting(name), beta);
    return {w.begin(), w.end()};
  }
  std::ifstream in(text);
  if (!in)
    throw usage_error("class weights \"" + text + "\": neither a file nor one of none, median-frequency, inverse-frequency, enet, effective[:BETA]");
  std::stringstream all;
  all << in.rdbuf();
  const auto& names = set.classes().names;
  const std::size_t classes = std::size_t(set.classes().count());
  std::vector<float> w;
  const auto j = nlohmann::json::parse(all.str(), nullptr, false);
  const auto bad = [&](const std::string& what) {
    return input_error(text + ": " + what + "; expected " + std::to_string(classes) + " numbers, or an object with a number for each class name");
  };
  if (j.is_object()) {
    for (std::size_t k = 0; k < classes; ++k) {
      if (k >= names.size() || !j.contains(names[k]) || !j.at(names[k]).is_number())
        throw bad("no weight of class '" + (k < names.size() ? names[k] : std::to_string(k)) + "'");
      w.push_back(j.at(names[k]).get<float>());
    }
    if (j.size() != classes) throw bad("holds names that are no classes");
  } else if (j.is_array()) {
    for (const auto& v : j) {
      if (!v.is_number()) throw bad("holds " + v.dump());
      w.push_back(v.get<float>());
    }
  } else {
    std::stringstream numbers(all.str());
    for (float v; numbers >> v;) w.push_back(v);
    if (!numbers.eof()) throw bad("is not a list of numbers");
  }
  if (w.size() != classes) throw bad("holds " + std::to_string(w.size()) + " weights");
  float sum = 0;
  for (const float v : w) {
    if (!(v >= 0 && std::isfinite(v))) throw bad("holds a negative or infinite weight");
    sum += v;
  }
  if (!(sum > 0)) throw bad("all weights are 0");
  return w;
}

/// "area": images in proportion to their pixels; "images": every image once per epoch; "balanced[:SHARE]": that share of the crops (all)
/// starts from a class, each class equally often. Throws usage_error.
inline void parse_sampler(const std::string& text, data::sampler_options& o) {
  const std::size_t colon = text.find(':');
  const std::string name = text.substr(0, colon);
  if (name == "balanced") {
    char* rest = nullptr;
    o.by_area = true;
    o.balance = colon == std::string::npos ? 1 : std::strtod(text.c_str() + colon + 1, &rest);
    if ((rest && (*rest || colon + 1 == text.size())) || !(o.balance > 0 && o.balance <= 1))
      throw usage_error("sampler \"" + text + "\": expected a share above 0 and up to 1 behind the colon");
    return;
  }
  if (text != "area" && text != "images") throw usage_error("sampler \"" + text + "\": unknown; use area, images, balanced or balanced:SHARE");
  o.by_area = text == "area";
}

}  // namespace rsseg::train
