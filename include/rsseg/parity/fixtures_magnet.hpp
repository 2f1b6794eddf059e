// SPDX-License-Identifier: MIT
// The fixture of one level of MagNet: maps by formula, the refinement module with the state of its own manifest, and the numbers of every
// step. It follows the published code's quirks (magnet_level.hpp).
#pragma once
#include <numeric>

#include "rsseg/model/model.hpp"
#include "rsseg/nets/magnet.hpp"
#include "rsseg/parity/fixture_reader.hpp"
#include "rsseg/refine/softmax.hpp"
#include "rsseg/scene/magnet_level.hpp"

namespace rsseg::parity::fixture {

/// manifest: magnet_refinement.json, whose `state` the module has.
template <class T>
void check_magnet_pipeline(const json& f, const json* manifest, report<T>& out) {
  if (!manifest) throw input_error("fixture: needs magnet_refinement.json beside it");
  const auto scale = extents(f, "scale_wh", 2), crop = extents(f, "crop_wh", 2), input = extents(f, "input_wh", 2);
  const int w = scale[0], h = scale[1], iw = input[0], ih = input[1], k = get<int>(*manifest, "num_classes");
  const std::int64_t pixels = std::int64_t(h) * w, small = std::int64_t(ih) * iw;

  build_options o;
  o.classes = k;
  basic_model<T> net(&MagNetRefinement<>::build, o);
  const parity_fill state(get_or<std::string>(*manifest, "fill_prefix", ""));
  for (const json& s : child(*manifest, "state")) {
    const auto name = get<std::string>(s, "name");
    const int e = net.weights().find(name);
    if (e < 0) throw input_error("fixture: the refinement module has no '" + name + "'");
    const std::size_t size = net.weights().entries()[std::size_t(e)].size;
    net.weights().from_file_order(e, state.template operator()<T>(name, size, get<double>(s, "lo"), get<double>(s, "hi")).data());
  }
  const auto softmaxed = [&](const char* key, int n) {
    auto p = channels_last<T>(out.fill(key, std::size_t(n) * std::size_t(small) * std::size_t(k), -3, 3), n, k, small);
    refine::softmax(p.data(), n * small, k, p.data());
    return p;
  };

  const auto y = scene::resize_map(softmaxed("mag.coarse", 1).data(), ih, iw, k, h, w);
  std::vector<T> u = scene::certainty(y.data(), pixels, k);
  for (T& v : u) v = 1 - v;
  out.compare("uncertainty", u, f, "uncertainty");

  const auto boxes = scene::magnet_patches(w, h, crop[0], crop[1]);
  std::vector<T> ratios, mean;
  for (const auto& b : boxes) {
    for (const double r : {double(b.x) / w, double(b.y) / h, double(b.x + b.width) / w, double(b.y + b.height) / h}) ratios.push_back(T(r));
    const auto part = scene::patch_of(u.data(), h, w, 1, b.x, b.y, b.x + b.width, b.y + b.height, ih, iw);
    mean.push_back(T(std::accumulate(part.begin(), part.end(), 0.0) / double(part.size())));
  }
  std::vector<double> expected;
  for (const auto& r : get<std::vector<std::vector<double>>>(f, "ratios")) expected.insert(expected.end(), r.begin(), r.end());
  out.results.push_back({"ratios", deviation(ratios, expected, "ratios"), report<T>::single ? 1e-6 : 1e-12});
  out.compare("patch_uncertainty", mean, f, "patch_uncertainty");
  std::vector<int> order(boxes.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](int a, int b) { return mean[std::size_t(a)] < mean[std::size_t(b)]; });
  out.exact("order", order, f, "order");

  const auto fine = softmaxed("mag.fine", int(boxes.size()));
  scene::patch_ensemble<T> ensemble(h, w, k, true);
  for (const int i : order) {
    const auto& b = boxes[std::size_t(i)];
    tensor<T> a(shape{1, k, ih, iw}), c(shape{1, k, ih, iw});
    std::copy_n(fine.begin() + std::ptrdiff_t(std::size_t(i) * a.size()), a.size(), a.data());
    const auto part = scene::patch_of(y.data(), h, w, k, b.x, b.y, b.x + b.width, b.y + b.height, ih, iw);
    std::copy(part.begin(), part.end(), c.data());
    const tensor<T>* inputs[] = {&a, &c};
    net.run(inputs);
    tensor<T> r = net.output(0);
    refine::softmax(r.data(), small, k, r.data());
    ensemble.add(b, r.data(), ih, iw);
  }
  const auto every_5th = [&](const std::vector<T>& map) {
    const auto flat = channels_first<T>(map, 1, k, pixels);
    std::vector<T> some;
    for (std::size_t i = 0; i < flat.size(); i += 5) some.push_back(flat[i]);
    return some;
  };
  const auto r = ensemble.finish();
  out.compare("R", every_5th(r), child(f, "R"), "every_5th");
  const auto e = scene::error_score(scene::certainty(r.data(), pixels, k), u, h, w, ih, iw, 5);
  out.compare("error_score", e, f, "error_score");

  // Cells of exactly the score at the cut may differ.
  const auto n = get<std::int64_t>(f, "n_points");
  const double cut = get<double>(f, "threshold");
  const auto want = get<std::string>(f, "selected");
  if (std::int64_t(want.size()) != pixels || n < 1 || n > pixels) throw input_error("fixture: 'selected' or 'n_points' does not fit the scale");
  std::vector<bool> chosen(want.size(), false);
  for (const std::int32_t i : cpu::largest_indices(e.data(), pixels, n)) chosen[std::size_t(i)] = true;
  double wrong = 0;
  std::vector<T> final_map = y;
  for (std::size_t i = 0; i < chosen.size(); ++i) {
    const bool tied = std::abs(double(e[i]) - cut) <= (report<T>::single ? 1e-6 : 1e-12);
    wrong += !tied && chosen[i] != (want[i] == '1');
    if (tied ? want[i] == '1' : chosen[i]) std::copy_n(r.begin() + std::ptrdiff_t(i) * k, k, final_map.begin() + std::ptrdiff_t(i) * k);
  }
  out.results.push_back({"selected", wrong, 0});
  out.compare("Y_final", every_5th(final_map), f, "Y_final_every_5th");
}

}  // namespace rsseg::parity::fixture
