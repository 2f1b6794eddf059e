// SPDX-License-Identifier: MIT
// A few fixed crops of a data set, or of a generated scene, and from them whatever the inputs of a registered network ask for: further
// fields of view, a height-like band, coarse masks, patches. For measurements and tests that train any network on the same few pictures.
#pragma once
#include <algorithm>
#include <cmath>
#include <string>
#include <string_view>
#include <vector>

#include "rsseg/core/random.hpp"
#include "rsseg/core/tensor.hpp"
#include "rsseg/data/dataset.hpp"
#include "rsseg/data/normalize.hpp"
#include "rsseg/graph/facts.hpp"

namespace rsseg::train {

struct crop_set {
  tensor<float> images;           ///< (N,B,S,S), normalised
  tensor<float> twice, fourfold;  ///< (N,B,S,S): two and four times the ground around the same centres; the border is repeated outside
  tensor<float> further;          ///< (N,E,S,S): bands beyond the network's image, e.g. height; empty if there are none
  tensor<std::int32_t> labels;    ///< (N,1,S,S)
  int classes = 0, ignore = 255;
  std::string where;  ///< which crops these are
};

namespace detail {
/// `side` x `side` pixels of bands [first, first + count) whose centre is (cy, cx), each the mean of zoom x zoom pixels.
inline void copy_field(const data::pixels& p, const data::normalization& how, int first, int count, int cy, int cx, int side, int zoom,
                       tensor<float>& to, int n) {
  const float scale = p.unit_scale();
  std::visit(
      [&](const auto& v) {
        for (int y = 0; y < side; ++y)
          for (int x = 0; x < side; ++x)
            for (int c = 0; c < count; ++c) {
              float sum = 0;
              for (int j = 0; j < zoom; ++j)
                for (int i = 0; i < zoom; ++i) {
                  const int sy = std::clamp(cy + (y - side / 2) * zoom + j, 0, p.height - 1),
                            sx = std::clamp(cx + (x - side / 2) * zoom + i, 0, p.width - 1);
                  sum += float(v[(std::size_t(sy) * std::size_t(p.width) + std::size_t(sx)) * std::size_t(p.bands) + std::size_t(first + c)]);
                }
              to(n, c, y, x) = (sum * scale / float(zoom * zoom) - how.mean_of(first + c)) / how.std_of(first + c);
            }
      },
      p.values);
}
}  // namespace detail

/// `count` crops of side x side from different images as far as there are that many. Of 32 random positions in an image, the one is taken
/// that shows two or more classes with a tenth of the pixels each, few ignored pixels, and the least border between classes: networks of
/// stride 32 are to be able to learn it, too. image_bands: bands of the image (0: all); the others become `further`.
inline crop_set cut_crops(const data::dataset& set, const data::normalization& how, int side, int count = 4, std::uint64_t seed = 1,
                          int image_bands = 0) {
  how.require_bands(set.bands());
  const int bands = image_bands ? image_bands : set.bands();
  crop_set r;
  r.classes = set.classes().count(), r.ignore = set.classes().ignore_id;
  r.images = r.twice = r.fourfold = tensor<float>(shape{count, bands, side, side});
  if (set.bands() > bands) r.further = tensor<float>(shape{count, set.bands() - bands, side, side});
  r.labels = tensor<std::int32_t>(shape{count, 1, side, side});
  struct place {
    std::size_t image;
    int y, x;
  };
  std::vector<place> taken;
  for (int k = 0; k < count; ++k) {
    const std::size_t image = set.size() >= std::size_t(count) ? std::size_t(k) * set.size() / std::size_t(count) : std::size_t(k) % set.size();
    const auto s = set.load(image);
    const int H = s->image.height, W = s->image.width;
    if (H < side || W < side)
      throw input_error(s->name + ": " + std::to_string(W) + "x" + std::to_string(H) + " pixels, crops need " + std::to_string(side));
    random_stream random(seed, image * 1000 + std::size_t(k));
    place best{image, 0, 0};
    double best_score = -1e9;
    for (int t = 0; t < 32; ++t) {
      const int top = int(random.below(std::uint32_t(H - side + 1))), left = int(random.below(std::uint32_t(W - side + 1)));
      int of_class[256] = {}, border = 0;
      for (int y = 0; y < side; ++y)
        for (int x = 0; x < side; ++x) {
          const int id = s->labels.at(top + y, left + x);
          ++of_class[id];
          border += (x > 0 && s->labels.at(top + y, left + x - 1) != id) + (y > 0 && s->labels.at(top + y - 1, left + x) != id);
        }
      int shown = 0;
      for (int c = 0; c < r.classes; ++c) shown += of_class[c] * 10 > side * side;
      double score = 100.0 * std::min(shown, 2) - double(border) / side - 100.0 * of_class[r.ignore] / (side * side);
      for (const place& p : taken)
        if (p.image == image && std::abs(p.y - top) < side && std::abs(p.x - left) < side) score -= 1000;  // no pixel twice
      if (score > best_score) best_score = score, best = {image, top, left};
    }
    taken.push_back(best);
    r.where += (k ? ", " : "") + s->name + " +" + std::to_string(best.x) + "+" + std::to_string(best.y);
    const int cy = best.y + side / 2, cx = best.x + side / 2;
    detail::copy_field(s->image, how, 0, bands, cy, cx, side, 1, r.images, k);
    detail::copy_field(s->image, how, 0, bands, cy, cx, side, 2, r.twice, k);
    detail::copy_field(s->image, how, 0, bands, cy, cx, side, 4, r.fourfold, k);
    if (set.bands() > bands) detail::copy_field(s->image, how, bands, set.bands() - bands, cy, cx, side, 1, r.further, k);
    for (int y = 0; y < side; ++y)
      for (int x = 0; x < side; ++x) r.labels(k, 0, y, x) = s->labels.at(best.y + y, best.x + x);
  }
  return r;
}

/// Generated crops: a class-0 ground with stripes of class 1 and disks of class 2, each of its own colour, under noise; the height-like
/// bands rise on the disks; a frame of one pixel is ignored. The wider fields of view show the same pattern continued.
inline crop_set generated_crops(int side, int count = 4, std::uint64_t seed = 1, int further_bands = 2) {
  crop_set r;
  r.classes = 3, r.where = "generated from seed " + std::to_string(seed);
  r.images = r.twice = r.fourfold = tensor<float>(shape{count, 3, side, side});
  r.further = tensor<float>(shape{count, further_bands, side, side});
  r.labels = tensor<std::int32_t>(shape{count, 1, side, side});
  for (int k = 0; k < count; ++k) {
    random_stream random(seed, std::uint64_t(k));
    const double width = side * random.uniform(0.3, 0.5), phase = random.uniform(0, 1), radius = side * random.uniform(0.18, 0.28);
    const double my = side * random.uniform(0.35, 0.65), mx = side * random.uniform(0.35, 0.65);
    const auto class_at = [&](double y, double x) {
      if ((y - my) * (y - my) + (x - mx) * (x - mx) < radius * radius) return 2;
      return std::fmod(std::fmod(x / width + phase, 2) + 2, 2) < 0.8 ? 1 : 0;
    };
    for (int zoom = 1; zoom <= 4; zoom *= 2)
      for (int y = 0; y < side; ++y)
        for (int x = 0; x < side; ++x) {
          const int id = class_at(side / 2 + (y - side / 2) * zoom, side / 2 + (x - side / 2) * zoom);
          tensor<float>& to = zoom == 1 ? r.images : zoom == 2 ? r.twice : r.fourfold;
          for (int c = 0; c < 3; ++c) to(k, c, y, x) = float((c == id ? 1.0 : -0.5) + random.uniform(-0.3, 0.3));
          if (zoom > 1) continue;
          for (int c = 0; c < further_bands; ++c) r.further(k, c, y, x) = float((id == 2 ? 1.5 : -0.3) + random.uniform(-0.2, 0.2));
          r.labels(k, 0, y, x) = x == 0 || y == 0 ? r.ignore : id;
        }
  }
  return r;
}

/// What a network is fed: one tensor per input, in the graph's order; label maps for outputs of whole images and, if it has such, of patches.
struct network_feed {
  std::vector<tensor<float>> inputs;
  std::vector<tensor<std::int32_t>> labels;
  bool regression = false;  ///< the first output is compared with `wanted` by the mean squared difference
  tensor<float> wanted;
  int classes = 0;
};

namespace detail {
inline tensor<float> shrunk(const tensor<float>& x, int by) {
  const shape s = x.extent();
  tensor<float> out(shape{s.n, s.c, s.h / by, s.w / by});
  for (int n = 0; n < s.n; ++n)
    for (int c = 0; c < s.c; ++c)
      for (int y = 0; y < s.h / by * by; ++y)
        for (int x2 = 0; x2 < s.w / by * by; ++x2) out(n, c, y / by, x2 / by) += x(n, c, y, x2) / float(by * by);
  return out;
}
/// Class scores as a poor network would give them: the labels in cells of `cell` pixels, every seventh cell a random class, under noise.
inline tensor<float> coarse_scores(const crop_set& c, int cell, std::uint64_t seed) {
  const shape s = c.labels.extent();
  tensor<float> out(shape{s.n, c.classes, s.h, s.w});
  for (int n = 0; n < s.n; ++n)
    for (int y = 0; y < s.h; ++y)
      for (int x = 0; x < s.w; ++x) {
        const int cy = y / cell, cx = x / cell;
        random_stream random(seed, (std::uint64_t(n) << 40) + (std::uint64_t(cy) << 20) + std::uint64_t(cx));
        int id = c.labels(n, 0, std::min(s.h - 1, cy * cell + cell / 2), std::min(s.w - 1, cx * cell + cell / 2));
        if (random.below(7) == 0) id = int(random.below(std::uint32_t(c.classes)));
        for (int k = 0; k < c.classes; ++k) out(n, k, y, x) = float((k == id ? 3.0 : 0.0) + random.uniform(-0.5, 0.5));
      }
  return out;
}
inline tensor<float> probabilities(tensor<float> scores) {
  const shape s = scores.extent();
  for (std::int64_t i = 0; i < std::int64_t(s.n) * s.h * s.w; ++i) {
    float* v = scores.data() + i * s.c;
    double sum = 0;
    for (int c = 0; c < s.c; ++c) sum += std::exp(double(v[c]));
    for (int c = 0; c < s.c; ++c) v[c] = float(std::exp(double(v[c])) / sum);
  }
  return scores;
}
inline tensor<float> one_hot(const crop_set& c) {
  const shape s = c.labels.extent();
  tensor<float> out(shape{s.n, c.classes, s.h, s.w});
  for (int n = 0; n < s.n; ++n)
    for (int y = 0; y < s.h; ++y)
      for (int x = 0; x < s.w; ++x)
        if (const int id = c.labels(n, 0, y, x); id >= 0 && id < c.classes) out(n, id, y, x) = 1;
  return out;
}
/// 4 x 4 windows of `side` pixels per picture around regular points: (16 N,B,side,side), and the labels of the points.
inline tensor<float> point_patches(const tensor<float>& x, int side, int zoom) {
  const shape s = x.extent();
  tensor<float> out(shape{16 * s.n, s.c, side, side});
  for (int n = 0; n < s.n; ++n)
    for (int p = 0; p < 16; ++p) {
      const int py = s.h / 2 + (s.h * (2 * (p / 4) + 1) / 8 - s.h / 2) / zoom, px = s.w / 2 + (s.w * (2 * (p % 4) + 1) / 8 - s.w / 2) / zoom;
      for (int c = 0; c < s.c; ++c)
        for (int y = 0; y < side; ++y)
          for (int u = 0; u < side; ++u)
            out(16 * n + p, c, y, u) = x(n, c, std::clamp(py + y - side / 2, 0, s.h - 1), std::clamp(px + u - side / 2, 0, s.w - 1));
    }
  return out;
}
inline tensor<std::int32_t> point_labels(const tensor<std::int32_t>& x) {
  const shape s = x.extent();
  tensor<std::int32_t> out(shape{16 * s.n, 1, 1, 1});
  for (int n = 0; n < s.n; ++n)
    for (int p = 0; p < 16; ++p) out(16 * n + p, 0, 0, 0) = x(n, 0, s.h * (2 * (p / 4) + 1) / 8, s.w * (2 * (p % 4) + 1) / 8);
  return out;
}
/// G x G windows that touch, patch 0 of all pictures first (the order of nets/glnet.hpp).
template <class T>
tensor<T> windows_of(const tensor<T>& x, int grid) {
  const shape s = x.extent();
  const int h = s.h / grid, w = s.w / grid;
  tensor<T> out(shape{grid * grid * s.n, s.c, h, w});
  for (int p = 0; p < grid * grid; ++p)
    for (int n = 0; n < s.n; ++n)
      for (int c = 0; c < s.c; ++c)
        for (int y = 0; y < h; ++y)
          for (int u = 0; u < w; ++u) out(p * s.n + n, c, y, u) = x(n, c, p / grid * h + y, p % grid * w + u);
  return out;
}
/// Fixed random projections of 8 x 8 patches, rectified: (N,channels,S/8,S/8). Stands for the features of a patch classifier.
inline tensor<float> patch_features_of(const tensor<float>& x, int channels) {
  const shape s = x.extent();
  tensor<float> out(shape{s.n, channels, s.h / 8, s.w / 8});
  for (int n = 0; n < s.n; ++n)
    for (int gy = 0; gy < s.h / 8; ++gy)
      for (int gx = 0; gx < s.w / 8; ++gx)
        for (int k = 0; k < channels; ++k) {
          random_stream random(5, std::uint64_t(k));
          double sum = 0;
          for (int c = 0; c < s.c; ++c) {
            const double offset = random.uniform(-0.3, 0.3);  // beside the texture also the mean colour counts
            for (int y = 0; y < 8; ++y)
              for (int u = 0; u < 8; ++u) sum += double(x(n, c, gy * 8 + y, gx * 8 + u)) * (offset + random.uniform(-0.2, 0.2));
          }
          out(n, k, gy, gx) = float(std::max(0.0, sum / 4));
        }
  return out;
}
}  // namespace detail

/// Inputs and labels for a network from crops, by the names of its inputs. g: the network lowered for training with c.classes.
/// Throws usage_error if an input is unknown or needs a modality that the crops lack.
inline network_feed feed_network(const graph::graph& g, std::string_view network, const crop_set& c) {
  network_feed f;
  f.classes = c.classes;
  f.labels.push_back(c.labels);
  const bool points = network == "mcnn-features" || network == "mcnn-patches" || network == "takahama-patches";
  const int patch = network == "takahama-patches" ? 8 : 28;
  if (points) f.labels[0] = detail::point_labels(c.labels);
  const auto take = [&](tensor<float> x) { f.inputs.push_back(std::move(x)); };
  const auto is = [](std::string_view name, std::initializer_list<std::string_view> any) {
    return std::find(any.begin(), any.end(), name) != any.end();
  };
  for (int i = 0; i < g.nodes.size(); ++i) {
    if (g.nodes[i].kind != graph::op::input) continue;
    const std::string_view name = g.name_of(i);
    const int channels = g.nodes[i].channels;
    const bool twice = is(name, {"x5", "medium", "patch1"}), four = is(name, {"x2_5", "global", "patch2"});
    if (is(name, {"x", "image", "rgb", "x10", "patch", "image_global", "patch0"}) || twice || four) {
      const tensor<float>& from = twice ? c.twice : four ? c.fourfold : c.images;
      if (from.extent().c != channels)
        throw usage_error("network '" + std::string(network) + "': input '" + std::string(name) + "' takes " + std::to_string(channels) +
                          " bands, the images have " + std::to_string(from.extent().c));
      take(points ? detail::point_patches(from, patch, twice ? 2 : four ? 4 : 1) : from);
    } else if (is(name, {"depth", "dem"})) {
      const int have = c.further.size() ? c.further.extent().c : 0;
      if (have < 1)
        throw usage_error("network '" + std::string(network) + "': input '" + std::string(name) +
                          "' needs a height-like band beside the image, and the data has none");
      tensor<float> x(shape{c.further.extent().n, channels, c.further.extent().h, c.further.extent().w});
      for (std::size_t p = 0; p < x.size() / std::size_t(channels); ++p)
        for (int k = 0; k < channels; ++k)
          x.data()[p * std::size_t(channels) + std::size_t(k)] = c.further.data()[p * std::size_t(have) + std::size_t(k % have)];
      take(std::move(x));
    } else if (name == "patches") {
      take(detail::windows_of(c.images, 2));
      f.labels.insert(f.labels.begin(), detail::windows_of(c.labels, 2));
    } else if (name == "seg") {  // one class against the others, as a mask in [-1, 1]
      int count[256] = {}, best = 0;
      for (const std::int32_t id : c.labels)
        if (id >= 0 && id < c.classes) ++count[id];
      for (int k = 1; k < c.classes; ++k)
        if (count[k] > count[best]) best = k;
      for (auto& id : f.labels[0])
        if (id != c.ignore) id = id == best;
      f.classes = 2;
      const tensor<float> p = detail::probabilities(detail::coarse_scores(c, 8, 3));
      tensor<float> mask(shape{p.extent().n, 1, p.extent().h, p.extent().w});
      for (std::size_t k = 0; k < mask.size(); ++k) mask.data()[k] = 2 * p.data()[k * std::size_t(c.classes) + std::size_t(best)] - 1;
      take(std::move(mask));
    } else if (name == "truth") {  // behind "seg": its labels as a map, and where they count
      tensor<float> x(shape{f.labels[0].extent().n, 2, f.labels[0].extent().h, f.labels[0].extent().w});
      for (std::size_t k = 0; k < f.labels[0].size(); ++k) {
        const std::int32_t id = f.labels[0].data()[k];
        x.data()[2 * k] = id == 1, x.data()[2 * k + 1] = id != c.ignore;
      }
      take(std::move(x));
    } else if (name == "logits0") {
      take(detail::coarse_scores(c, 8, 3));
    } else if (name == "logits_lr") {
      take(detail::shrunk(detail::coarse_scores(c, 8, 3), 4));
    } else if (is(name, {"mask_prob", "coarse", "fake"})) {
      take(detail::probabilities(detail::coarse_scores(c, 8, 3)));
    } else if (name == "fine") {
      take(detail::probabilities(detail::coarse_scores(c, 4, 4)));
    } else if (name == "real") {
      take(detail::one_hot(c));
    } else if (name == "x_lr") {
      take(detail::shrunk(c.images, 2));
    } else if (name == "x_hr") {  // the operator to learn: a soft contrast curve
      take(c.images);
      f.regression = true, f.wanted = c.images;
      for (float& v : f.wanted) v = std::tanh(1.5f * v);
    } else if (name == "features") {
      take(detail::patch_features_of(c.images, channels));
    } else {
      throw usage_error("network '" + std::string(network) + "': nothing is known to feed its input '" + std::string(name) + "' with");
    }
  }
  return f;
}

}  // namespace rsseg::train
