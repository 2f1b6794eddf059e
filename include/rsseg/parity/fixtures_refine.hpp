// SPDX-License-Identifier: MIT
// Checks of the refinement fixtures: dense_crf, permutohedral, guided_filter, crf_rnn, point_sampling. Called through fixtures.hpp.
#pragma once
#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "rsseg/cpu/point_sampling.hpp"
#include "rsseg/parity/fixture_reader.hpp"
#include "rsseg/refine/crf_rnn.hpp"
#include "rsseg/refine/dense_crf.hpp"
#include "rsseg/refine/guided_filter.hpp"
#include "rsseg/refine/permutohedral.hpp"

namespace rsseg::parity::fixture {

/// Inputs shared by the dense CRF cases: energies and a three-band image of flat quadrants with noise.
template <class T>
struct crf_scene {
  int labels, h, w;
  std::vector<T> unary, image;

  crf_scene(const json& sizes, const parity_fill& fill) : labels(extent(sizes, "L")), h(extent(sizes, "H")), w(extent(sizes, "W")) {
    const std::int64_t pixels = std::int64_t(h) * w;
    if (pixels > 16384 || labels > 256) throw input_error("fixture: a dense CRF fixture of that size would take hours by brute force");
    const auto noise = fill("crf.noise", std::size_t(3 * pixels), 0, 24);
    std::vector<double> planes(std::size_t(3 * pixels));
    for (int y = 0; y < h; ++y)
      for (int x = 0; x < w; ++x) {
        const bool west = x < w / 2, north = y < h / 2;
        const double base[3] = {west ? 40.0 : 180.0, north ? 60.0 : 160.0, west != north ? 30.0 : 210.0};
        for (int c = 0; c < 3; ++c) {
          const std::size_t at = std::size_t(c * pixels + y * w + x);
          planes[at] = base[c] + std::floor(noise[at]);
        }
      }
    image = channels_last<T>(planes, 1, 3, pixels);
    // U = -ln softmax(logits); energies are formed in double.
    auto z = channels_last<double>(fill("crf.logits", std::size_t(labels * pixels), -2, 2), 1, labels, pixels);
    refine::softmax(z.data(), pixels, labels, z.data());
    for (const double p : z) unary.push_back(T(-std::log(p)));
  }
};

inline refine::dense_crf_options crf_case_options(const json& c, int labels, refine::crf_method method) {
  refine::dense_crf_options options;
  options.iterations = get<int>(c, "iterations");
  for (const json& t : child(c, "terms")) {
    refine::crf_term term;
    const auto kind = get<std::string>(t, "kind"), normalization = get_or<std::string>(t, "normalization", "symmetric");
    term.kernel.sigma_x = term.kernel.sigma_y = get<double>(t, "sxy");
    if (kind == "bilateral") {
      term.kernel.sigma_guide = get<double>(t, "srgb");
    } else if (kind != "gaussian") {
      throw input_error("fixture: unknown kernel kind '" + kind + "'");
    }
    static constexpr const char* names[] = {"symmetric", "after", "before", "none", "raw"};
    const auto at = std::find(std::begin(names), std::end(names), normalization);
    if (at == std::end(names)) throw input_error("fixture: unknown normalization '" + normalization + "'");
    term.kernel.normalization = refine::crf_normalization(at - std::begin(names));
    term.kernel.method = method;
    if (t.contains("compat_matrix")) {
      for (const auto& row : get<std::vector<std::vector<double>>>(t, "compat_matrix"))
        term.compatibility.insert(term.compatibility.end(), row.begin(), row.end());
      if (term.compatibility.size() != std::size_t(labels) * labels) throw input_error("fixture: compat_matrix is not L x L");
    } else {
      term.potts = get<double>(t, "compat");
    }
    options.terms.push_back(term);
  }
  return options;
}

template <class T>
inline void check_dense_crf(const json& f, report<T>& out) {
  const crf_scene<T> scene(f, out.fill);
  const std::int64_t pixels = std::int64_t(scene.h) * scene.w;
  for (const json& c : child(f, "cases")) {
    const auto name = get<std::string>(c, "name");
    const auto options = crf_case_options(c, scene.labels, refine::crf_method::brute_force);
    std::vector<T> q(std::size_t(scene.labels * pixels)), first;
    refine::dense_crf(scene.unary.data(), scene.h, scene.w, scene.labels, scene.image.data(), 3, options, q.data(), [&](int step, const T* now) {
      if (step != 1) return;
      for (int k = 0; k < scene.labels; ++k)
        for (std::int64_t i = 0; i < pixels; i += 7) first.push_back(now[i * scene.labels + k]);
    });
    out.compare(name + ".Q", channels_first<T>(q, 1, scene.labels, pixels), c, "Q", 1e-8, 1e-4);
    if (c.contains("Q_after_1")) out.compare(name + ".Q_after_1", first, c, "Q_after_1", 1e-8, 1e-4);
    if (!c.contains("argmax")) continue;
    std::vector<std::int32_t> label(static_cast<std::size_t>(pixels));
    refine::argmax(q.data(), pixels, scene.labels, label.data());
    out.exact(name + ".argmax", label, c, "argmax");
  }
}

/// dense_crf: the fixture the lattice cases refer to by name; null: the two cases of the usual file are known.
template <class T>
inline void check_permutohedral(const json& f, const json* dense_crf, report<T>& out) {
  for (const json& c : child(f, "cases")) {
    const auto name = get<std::string>(c, "name");
    const int d = extent(c, "d"), channels = extent(c, "channels"), n = extent(c, "N");
    const auto range = get<std::vector<double>>(c, "feature_range");
    if (range.size() != 2 || d > 32) throw input_error("fixture: case '" + name + "' needs feature_range [lo, hi] and d <= 32");
    const auto features = out.fill("perm.f." + name, std::size_t(d) * n, range[0], range[1]);
    const auto values = channels_last<T>(out.fill("perm.v." + name, std::size_t(channels) * n, -1, 1), 1, channels, n);
    const refine::permutohedral_lattice<T> lattice(n, d, [&](std::int64_t i, double* x) {
      for (int k = 0; k < d; ++k) x[k] = features[std::size_t(k * n + i)];
    });
    std::vector<T> filtered(values.size()), ones(std::size_t(n), T(1));
    lattice.filter(values.data(), filtered.data(), channels);
    lattice.filter(ones.data(), ones.data(), 1);
    out.compare(name + ".filtered", channels_first<T>(filtered, 1, channels, n), c, "filtered");
    out.compare(name + ".filtered_ones", ones, c, "filtered_ones");
    out.results.push_back({name + ".lattice_points", double(std::abs(lattice.lattice_points() - get<std::int64_t>(c, "lattice_points"))), 0});
  }
  if (!f.contains("dense_crf_lattice")) return;
  json usual;
  if (!dense_crf) {
    const auto count = f.at("dense_crf_lattice").empty() ? 0 : get<std::vector<double>>(f.at("dense_crf_lattice")[0], "Q_lattice").size();
    const int side = int(std::lround(std::sqrt(double(count) / 4)));
    usual = {{"L", 4}, {"H", side}, {"W", side}};
    usual["cases"] = json::parse(R"([{"name": "pydensecrf_defaults", "iterations": 5, "terms": [{"kind": "gaussian", "sxy": 3, "compat": 3},
      {"kind": "bilateral", "sxy": 80, "srgb": 13, "compat": 10}]}, {"name": "bilateral_tight", "iterations": 4, "terms":
      [{"kind": "bilateral", "sxy": 8, "srgb": 20, "compat": 4}]}])");
    dense_crf = &usual;
  }
  const crf_scene<T> scene(*dense_crf, out.fill);
  const std::int64_t pixels = std::int64_t(scene.h) * scene.w;
  for (const json& c : f.at("dense_crf_lattice")) {
    const auto name = get<std::string>(c, "case");
    const json* definition = nullptr;
    for (const json& candidate : child(*dense_crf, "cases"))
      if (get<std::string>(candidate, "name") == name) definition = &candidate;
    if (!definition) throw input_error("fixture: dense_crf_lattice names the case '" + name + "', which dense_crf.json does not define");
    std::vector<T> q(std::size_t(scene.labels * pixels));
    refine::dense_crf(scene.unary.data(), scene.h, scene.w, scene.labels, scene.image.data(), 3,
                      crf_case_options(*definition, scene.labels, refine::crf_method::lattice), q.data());
    out.compare("lattice." + name + ".Q", channels_first<T>(q, 1, scene.labels, pixels), c, "Q_lattice", 1e-8, 1e-4);
  }
}

template <class T>
inline void check_guided_filter(const json& f, report<T>& out) {
  int number = 0;
  const auto planes = [&](const std::string& key, int count, std::int64_t pixels, int lo = 0) {
    return channels_last<T>(out.fill(key, std::size_t(count * pixels), lo, 1), 1, count, pixels);
  };
  const auto channel = [](const std::vector<T>& image, int channels, int k) {
    std::vector<T> one;
    for (std::size_t i = std::size_t(k); i < image.size(); i += std::size_t(channels)) one.push_back(image[i]);
    return one;
  };
  for (const json& c : child(f, "cases")) {
    const auto name = get<std::string>(c, "name");
    const std::string group = std::to_string(number++) + "." + name;
    const int h = extent(c, "H"), w = extent(c, "W");
    const refine::guided_filter_options options{get<int>(c, "r"), get<double>(c, "eps")};
    const std::int64_t pixels = std::int64_t(h) * w;
    const auto reference_count = std::int64_t(get<std::vector<double>>(c, "out").size());
    const int channels = int(reference_count / pixels);
    if (channels < 1 || channels > 64 || channels * pixels != reference_count)
      throw input_error("fixture: case '" + group + "': out does not fit H and W");
    std::vector<T> q(std::size_t(channels * pixels));
    if (name == "fast") {
      const int lh = extent(c, "h"), lw = extent(c, "w");
      const auto lx = planes("gf.lx", channels, std::int64_t(lh) * lw), ly = planes("gf.ly", channels, std::int64_t(lh) * lw);
      const auto hx = planes("gf.hx", channels, pixels);
      for (int k = 0; k < channels; ++k) {
        std::vector<T> one(static_cast<std::size_t>(pixels));
        const auto a = channel(lx, channels, k), b = channel(ly, channels, k), g = channel(hx, channels, k);
        refine::fast_guided_filter(a.data(), b.data(), lh, lw, g.data(), h, w, 1, 1, options, one.data());
        for (std::int64_t i = 0; i < pixels; ++i) q[std::size_t(i * channels + k)] = one[std::size_t(i)];
      }
    } else if (name == "gray" || name == "color") {
      const auto guide = planes("gf.I", 3, pixels), p = planes("gf.p", channels, pixels);
      const auto gray = channel(guide, 3, 0);
      const bool color = name == "color";
      refine::guided_filter(color ? guide.data() : gray.data(), color ? 3 : 1, p.data(), channels, h, w, options, q.data());
    } else {
      throw input_error("fixture: unknown guided filter case '" + name + "'");
    }
    out.compare(group, channels_first<T>(q, 1, channels, pixels), c, "out");
  }
  if (!f.contains("gray_gradient")) return;
  const json& c = f.at("gray_gradient");
  const int h = extent(c, "H"), w = extent(c, "W");
  const std::int64_t pixels = std::int64_t(h) * w;
  const auto guide = planes("gf.I", 1, pixels), p = planes("gf.p", 1, pixels), up = planes("gf.gq", 1, pixels, -1);
  std::vector<T> d_guide(guide.size()), dp(p.size());
  refine::guided_filter_backward(guide.data(), 1, p.data(), 1, h, w, {get<int>(c, "r"), get<double>(c, "eps")}, up.data(), d_guide.data(), dp.data());
  out.compare("gray_gradient.dI", d_guide, c, "dI");
  out.compare("gray_gradient.dp", dp, c, "dp");
}

template <class T>
inline void check_crf_rnn(const json& f, report<T>& out) {
  const int labels = extent(f, "L"), h = extent(f, "H"), w = extent(f, "W");
  const std::int64_t pixels = std::int64_t(h) * w;
  if (pixels > 16384) throw input_error("fixture: a CRF-RNN fixture of that size would take hours by brute force");
  const auto z = channels_last<T>(out.fill("crfrnn.logits", std::size_t(labels * pixels), -2, 2), 1, labels, pixels);
  auto planes = out.fill("crfrnn.image", std::size_t(3 * pixels), 0, 60);
  for (double& v : planes) v = std::floor(v);
  const auto image = channels_last<T>(planes, 1, 3, pixels);
  const auto square = [&](const char* key, double range, double diagonal) {
    auto m = out.fill(key, std::size_t(labels) * labels, -range, range);
    for (int k = 0; k < labels; ++k) m[std::size_t(k * labels + k)] += diagonal;
    return m;
  };
  const auto ws = square("crfrnn.ws", 0.5, 3), wb = square("crfrnn.wb", 0.5, 5), c = square("crfrnn.c", 0.2, 1);
  refine::crf_rnn_options options;
  options.alpha = get_or(f, "alpha", 160.0), options.beta = get_or(f, "beta", 20.0), options.gamma = get_or(f, "gamma", 3.0);
  options.iterations = get_or(f, "iterations", 5);
  options.method = refine::crf_method::brute_force;
  refine::crf_rnn<T> layer(image.data(), h, w, 3, labels, options);
  // Maps in T; the parameters stay double, see crf_rnn.
  std::vector<T> y(z.size()), dy(z.size()), dz(z.size());
  std::vector<double> dws(ws.size()), dwb(wb.size()), dc(c.size());
  layer.forward(z.data(), ws.data(), wb.data(), c.data(), y.data());
  double loss = 0;
  for (std::int64_t i = 0; i < pixels; ++i) {
    std::vector<double> p(static_cast<std::size_t>(labels));
    refine::softmax_pixel(y.data() + i * labels, labels, p.data());
    const int target = int((5 * (i / w) + 7 * (i % w)) % labels);
    loss -= std::log(p[std::size_t(target)]) / double(pixels);
    for (int k = 0; k < labels; ++k) dy[std::size_t(i * labels + k)] = T((p[std::size_t(k)] - (k == target)) / double(pixels));
  }
  layer.backward(ws.data(), wb.data(), c.data(), dy.data(), dz.data(), dws.data(), dwb.data(), dc.data());
  out.compare("out", channels_first<T>(y, 1, labels, pixels), f, "out", 1e-8);
  out.compare_number("loss", loss, get<double>(f, "loss"), 1e-8);
  out.compare("dlogits", channels_first<T>(dz, 1, labels, pixels), f, "dlogits", 1e-8);
  out.compare("dWs", std::vector<T>(dws.begin(), dws.end()), f, "dWs", 1e-8);
  out.compare("dWb", std::vector<T>(dwb.begin(), dwb.end()), f, "dWb", 1e-8);
  out.compare("dC", std::vector<T>(dc.begin(), dc.end()), f, "dC", 1e-8);
}

template <class T>
inline void check_point_sampling(const json& f, report<T>& out) {
  const json &sizes = child(f, "sizes"), &cases = child(f, "cases");
  const auto map_of = [&](const char* name) {
    const auto e = extents(sizes, name, 4);
    return shape{e[0], e[1], e[2], e[3]};
  };
  const auto filled = [&](const char* key, shape s, double range) {
    return channels_last<T>(out.fill(key, std::size_t(s.size()), -range, range), s.n, s.c, std::int64_t(s.h) * s.w);
  };
  const shape s = map_of("x");
  const auto p = extents(sizes, "p", 3);
  if (p[0] != s.n || p[2] != 2) throw input_error("fixture: points must be [N, count, 2]");
  const int count = p[1];
  const auto x = filled("ps.x", s, 1);
  const auto points = out.fill.template operator()<T>("ps.p", std::size_t(s.n) * count * 2, -0.05, 1.05);
  std::vector<T> y(std::size_t(s.n) * count * s.c);
  if (cases.contains("bilinear")) {
    const json& c = cases.at("bilinear");
    const auto g = channels_last<T>(out.fill("ps.g", y.size(), -1, 1), s.n, s.c, count);
    std::vector<T> dx(x.size(), T(0)), dpoints(points.size());
    cpu::sample_bilinear(x.data(), s, points.data(), count, y.data());
    cpu::sample_bilinear_backward(x.data(), s, points.data(), count, g.data(), dx.data(), dpoints.data());
    out.compare("bilinear.out", channels_first<T>(y, s.n, s.c, count), c, "out");
    out.compare("bilinear.dx", channels_first<T>(dx, s.n, s.c, std::int64_t(s.h) * s.w), c, "dx");
    out.compare("bilinear.dpoints", dpoints, c, "dpoints");
  }
  if (cases.contains("nearest")) {
    cpu::sample_nearest(x.data(), s, points.data(), count, y.data());
    out.compare("nearest.out", channels_first<T>(y, s.n, s.c, count), cases.at("nearest"), "out");
  }
  if (cases.contains("uncertain_grid")) {
    const json& c = cases.at("uncertain_grid");
    const shape l = map_of("logits");
    const int k = extent(c, "k");
    const std::int64_t pixels = std::int64_t(l.h) * l.w;
    const auto logits = filled("ps.logits", l, 2);
    std::vector<T> u(std::size_t(l.n * pixels)), coordinates;
    cpu::uncertainty(logits.data(), l.n * pixels, l.c, u.data());
    out.compare("uncertain_grid.uncertainty", u, c, "uncertainty");
    const auto expected = get<std::vector<std::vector<std::int32_t>>>(c, "indices_sorted");
    if (expected.size() != std::size_t(l.n)) throw input_error("fixture: indices_sorted needs one list per image");
    double wrong = 0;
    for (int n = 0; n < l.n; ++n) {
      const auto index = cpu::largest_indices(u.data() + n * pixels, pixels, k);
      // Cells whose score equals the one at the cut may differ.
      T cut = index.empty() ? T(0) : u[std::size_t(n * pixels + index[0])];
      for (const std::int32_t i : index) cut = std::min(cut, u[std::size_t(n * pixels + i)]);
      if (index.size() != expected[std::size_t(n)].size()) throw input_error("fixture: indices_sorted does not list k cells");
      for (const std::int32_t i : expected[std::size_t(n)]) {
        if (i < 0 || i >= pixels) throw input_error("fixture: indices_sorted has a cell outside the map");
        wrong += !std::binary_search(index.begin(), index.end(), i) && u[std::size_t(n * pixels + i)] != cut;
      }
      std::vector<T> xy(2 * index.size());
      cpu::grid_points(index.data(), std::int64_t(index.size()), l.h, l.w, xy.data());
      coordinates.insert(coordinates.end(), xy.begin(), xy.end());
    }
    out.results.push_back({"uncertain_grid.indices", wrong, 0});
    if (wrong == 0) out.compare("uncertain_grid.coords", coordinates, c, "coords_xy");
  }
  if (cases.contains("roi_align")) {
    const json& c = cases.at("roi_align");
    const shape m = map_of("roi");
    const auto size = extents(c, "output_hw", 2);
    std::vector<T> boxes;
    for (const auto& box : get<std::vector<std::vector<double>>>(c, "boxes_xyxy")) {
      if (box.size() != 4) throw input_error("fixture: boxes_xyxy needs four numbers per box");
      for (const double v : box) boxes.push_back(T(v));
    }
    const int rois = int(boxes.size() / 4);
    const cpu::roi_align_options options{size[0], size[1], 1, -1, false};
    const auto map = filled("ps.roi", m, 1);
    const std::int64_t bins = std::int64_t(size[0]) * size[1];
    std::vector<T> crops(std::size_t(rois * bins * m.c)), dmap(map.size(), T(0));
    const auto g = channels_last<T>(out.fill("ps.roig", crops.size(), -1, 1), rois, m.c, bins);
    cpu::roi_align(map.data(), m, boxes.data(), nullptr, rois, options, crops.data());
    cpu::roi_align_backward(m, boxes.data(), nullptr, rois, options, g.data(), dmap.data());
    out.compare("roi_align.out", channels_first<T>(crops, rois, m.c, bins), c, "out");
    out.compare("roi_align.dx", channels_first<T>(dmap, m.n, m.c, std::int64_t(m.h) * m.w), c, "dx");
  }
}

}  // namespace rsseg::parity::fixture
