// SPDX-License-Identifier: MIT
// Check of the losses fixture. Called through fixtures.hpp.
#pragma once
#include <cstdlib>
#include <map>
#include <string>
#include <vector>

#include "rsseg/loss/class_weights.hpp"
#include "rsseg/loss/cross_entropy.hpp"
#include "rsseg/loss/lovasz.hpp"
#include "rsseg/loss/overlap.hpp"
#include "rsseg/parity/fixture_reader.hpp"

namespace rsseg::parity::fixture {

/// The numbers after "name=" (or "name=[") in a case's name or words.
inline std::vector<double> numbers_after(const std::string& text, const std::string& name) {
  std::vector<double> out;
  std::size_t at = text.find(name);
  if (at == std::string::npos) return out;
  for (const char* p = text.c_str() + at + name.size() + (text[at + name.size()] == '[');;) {
    char* end = nullptr;
    const double v = std::strtod(p, &end);
    if (end == p) return out;
    out.push_back(v);
    if (*end != ',') return out;
    p = end + 1;
  }
}

/// Labels as they were before some became 255. The rule is stated for K classes of which the last never occurs; it is accepted only when
/// it gives the listed target wherever that is not ignored.
inline std::vector<std::int32_t> unmasked_target(const std::vector<std::int32_t>& target, shape s) {
  for (const int modulus : {4, s.c - 1}) {
    if (modulus < 1) continue;
    std::vector<std::int32_t> t(target.size());
    std::size_t at = 0, wrong = 0;
    for (int n = 0; n < s.n; ++n)
      for (int y = 0; y < s.h; ++y)
        for (int x = 0; x < s.w; ++x, ++at) {
          t[at] = (11 * y + 5 * x + n) % 13 == 0 ? modulus - 1 : (3 * n + 5 * y + 7 * x) % modulus;
          wrong += target[at] != 255 && target[at] != t[at];
        }
    if (wrong == 0) return t;
  }
  throw input_error("fixture: the targets below the ignored pixels do not follow the rule of the losses fixture");
}

template <class T>
inline void check_losses(const json& f, report<T>& out) {
  const shape s{extent(f, "N"), extent(f, "K"), extent(f, "H"), extent(f, "W")};
  if (s.size() > (1 << 24)) throw input_error("fixture: losses of that size are not meant for a fixture");
  const std::int64_t area = std::int64_t(s.h) * s.w;
  const auto z = channels_last<T>(out.fill("loss.logits", std::size_t(s.size()), -3, 3), s.n, s.c, area);
  const auto target = get<std::vector<std::int32_t>>(f, "target");
  if (std::int64_t(target.size()) != s.pixels()) throw input_error("fixture: target does not list N * H * W labels");
  for (const std::int32_t t : target)
    if (t != 255 && (t < 0 || t >= s.c)) throw input_error("fixture: target has a label outside the classes");
  std::vector<double> class_weight{0.5, 1, 2, 1.5, 0.25};
  for (const json& c : child(f, "cases"))
    if (const auto w = numbers_after(get<std::string>(c, "spec"), "w="); !w.empty()) class_weight = w;
  for (const json& c : child(f, "cases")) {
    const auto name = get<std::string>(c, "name"), spec = get<std::string>(c, "spec");
    std::vector<T> dz(z.size(), T(0));
    loss::loss_value value;
    const auto starts = [&](const char* prefix) { return name.rfind(prefix, 0) == 0; };
    const auto weights = [&](const std::vector<double>& w) {
      if (w.size() != std::size_t(s.c)) throw input_error("fixture: case '" + name + "' needs one class weight per class");
      return w.data();
    };
    if (name == "ce" || name == "ce_weighted" || name == "ce_smooth") {
      loss::cross_entropy_options o;
      if (name == "ce_weighted") o.weight = weights(class_weight);
      const auto smoothing = numbers_after(spec, "label smoothing ");
      if (name == "ce_smooth") o.smoothing = smoothing.empty() ? 0.1 : smoothing[0];
      value = loss::cross_entropy(z.data(), target.data(), s, o, dz.data());
    } else if (starts("focal")) {
      loss::focal_options o;
      if (const auto gamma = numbers_after(name, "_g"); !gamma.empty()) o.gamma = gamma[0];
      if (name.find("alpha") != std::string::npos) o.alpha = weights(class_weight);
      value = loss::focal(z.data(), target.data(), s, o, dz.data());
    } else if (starts("dice") || name == "soft_iou") {
      auto o = starts("dice") ? loss::dice_options() : loss::jaccard_options();
      o.present_only = name == "dice_present";
      value = loss::overlap(z.data(), target.data(), s, o, dz.data());
    } else if (starts("lovasz_softmax")) {
      loss::lovasz_options o;
      o.per_image = name.find("per_image") != std::string::npos;
      if (name.find("_all") != std::string::npos) o.classes = loss::lovasz_classes::all;
      value = loss::lovasz_softmax(z.data(), target.data(), s, o, dz.data());
    } else if (name == "lovasz_hinge" || name == "bce_logits") {
      std::vector<T> channel(static_cast<std::size_t>(s.pixels())), dchannel(channel.size());
      auto label = unmasked_target(target, s);
      for (std::size_t i = 0; i < channel.size(); ++i) channel[i] = z[i * std::size_t(s.c)], label[i] = label[i] == 1;
      const shape one{s.n, 1, s.h, s.w};
      if (name == "bce_logits") {
        const auto positive = numbers_after(spec, "pos_weight ");
        value = loss::binary_cross_entropy(channel.data(), label.data(), one, {.positive_weight = positive.empty() ? 2.0 : positive[0]}, dchannel.data());
      } else {
        value = loss::lovasz_hinge(channel.data(), label.data(), one, {.per_image = true}, dchannel.data());
      }
      for (std::size_t i = 0; i < channel.size(); ++i) dz[i * std::size_t(s.c)] = dchannel[i];
    } else if (starts("ohem")) {
      const auto threshold = numbers_after(name, "_t"), kept = numbers_after(name, "_k");
      if (threshold.empty() || kept.empty()) throw input_error("fixture: case '" + name + "' must be named ohem_t<threshold>_k<min_kept>");
      value = loss::ohem(z.data(), target.data(), s, {threshold[0], std::int64_t(kept[0])}, dz.data());
    } else if (name == "class_balanced_ce") {
      const auto beta = numbers_after(spec, "beta="), counts = numbers_after(spec, "counts=");
      if (beta.empty() || counts.empty()) throw input_error("fixture: case 'class_balanced_ce' states no beta or counts");
      const auto w = loss::class_weights(counts, loss::weighting::class_balanced, beta[0]);
      value = loss::cross_entropy(z.data(), target.data(), s, {.weight = weights(w)}, dz.data());
    } else if (name == "acw") {
      loss::adaptive_weight_state state;
      value = loss::adaptive_class_weight(z.data(), target.data(), s, {}, state, dz.data());
    } else {
      throw input_error("fixture: unknown loss case '" + name + "'");
    }
    out.compare_number(name + ".loss", value.value, get<double>(c, "loss"), 1e-10);
    out.compare(name + ".dlogits", channels_first<T>(dz, s.n, s.c, area), c, "dlogits");
  }
  if (!f.contains("class_weights_from_counts")) return;
  const json& table = f.at("class_weights_from_counts");
  const auto counts = get<std::vector<double>>(table, "counts");
  const std::map<std::string, loss::weighting> kinds = {{"enet_1_over_ln(1.02+p)", loss::weighting::enet},
                                                        {"median_frequency", loss::weighting::median_frequency},
                                                        {"inverse_frequency_sum_K", loss::weighting::inverse_frequency}};
  for (const auto& [name, values] : table.items()) {
    if (name == "counts") continue;
    const auto beta = numbers_after(name, "class_balanced_beta");
    const auto kind = kinds.find(name);
    if (beta.empty() && kind == kinds.end()) throw input_error("fixture: unknown class weighting '" + name + "'");
    const auto w = beta.empty() ? loss::class_weights(counts, kind->second) : loss::class_weights(counts, loss::weighting::class_balanced, beta[0]);
    out.compare("class_weights." + name, std::vector<T>(w.begin(), w.end()), table, name.c_str());
  }
}

}  // namespace rsseg::parity::fixture
