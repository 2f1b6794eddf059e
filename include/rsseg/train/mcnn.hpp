// SPDX-License-Identifier: MIT
// The training of MCNN (nets/mcnn.hpp) as the paper has it:
//   1. the patch CNN, with a softmax head, on patches of all pyramid levels together
//   2. with the CNN frozen: features of the three levels and the spectrum of ground points; multinomial logistic regression to convergence
// Ground points are drawn in the crops of an ordinary loader, so sampling and augmentation are those of any training. Each point gives three
// patches of 28 x 28 pixels, whose labels are the point's; points whose label is ignored are not learnt from.
#pragma once
#include <filesystem>

#include "rsseg/classical/logistic_regression.hpp"
#include "rsseg/nets/mcnn.hpp"
#include "rsseg/train/run_log.hpp"
#include "rsseg/train/trainer.hpp"

namespace rsseg::train {

namespace detail {

constexpr int mcnn_patch = 28, mcnn_levels = 3;
constexpr int mcnn_reach = 64;  ///< pixels around a point that its patches and their smoothing see: 14 * 4, and a margin
constexpr int mcnn_points = 8;  ///< of a crop

/// Coordinate reflected into [0, n).
inline int reflected(int i, int n) {
  const int period = std::max(1, 2 * n - 2);
  i = ((i % period) + period) % period;
  return i < n ? i : period - i;
}

/// Binomial smoothing, (1,4,6,4,1)/16 per axis with reflected border, then every second pixel: (N,B,H,W) -> (N,B,ceil(H/2),ceil(W/2)).
inline tensor<float> halved(const tensor<float>& x) {
  const shape s = x.extent();
  tensor<float> rows(shape{s.n, s.c, s.h, (s.w + 1) / 2}), out(shape{s.n, s.c, (s.h + 1) / 2, (s.w + 1) / 2});
  constexpr float w[5] = {1 / 16.0f, 4 / 16.0f, 6 / 16.0f, 4 / 16.0f, 1 / 16.0f};
  for (int n = 0; n < s.n; ++n)
    for (int v = 0; v < s.h; ++v)
      for (int u = 0; u < rows.extent().w; ++u)
        for (int c = 0; c < s.c; ++c)
          for (int k = 0; k < 5; ++k) rows(n, c, v, u) += w[k] * x(n, c, v, reflected(2 * u + k - 2, s.w));
  for (int n = 0; n < s.n; ++n)
    for (int v = 0; v < out.extent().h; ++v)
      for (int u = 0; u < out.extent().w; ++u)
        for (int c = 0; c < s.c; ++c)
          for (int k = 0; k < 5; ++k) out(n, c, v, u) += w[k] * rows(n, c, reflected(2 * v + k - 2, s.h), u);
  return out;
}

struct ground_point {
  int n, y, x;
};

/// The 28 x 28 windows around points of `image` at one level of its pyramid (index 14 is the point), written to out from image `first` on.
inline void cut_patches(const tensor<float>& image, int level, const std::vector<ground_point>& points, tensor<float>& out, int first) {
  const shape s = image.extent();
  for (std::size_t p = 0; p < points.size(); ++p)
    for (int v = 0; v < mcnn_patch; ++v)
      for (int u = 0; u < mcnn_patch; ++u) {
        const int y = reflected((points[p].y >> level) + v - mcnn_patch / 2, s.h), x = reflected((points[p].x >> level) + u - mcnn_patch / 2, s.w);
        for (int c = 0; c < s.c; ++c) out(first + int(p), c, v, u) = image(points[p].n, c, y, x);
      }
}

/// Points of batch `number`: a function of (seed, number), uniform in the inner part of every crop.
inline std::vector<ground_point> draw_points(shape crops, std::uint64_t seed, std::uint64_t number) {
  random_stream r(seed ^ 0x4D434E4E504F494Eu, number);
  const auto inside = [&](int side) {
    const int margin = std::min(mcnn_reach, (side - 1) / 2);
    return margin + int(r.below(std::uint32_t(side - 2 * margin)));
  };
  std::vector<ground_point> points;
  for (int n = 0; n < crops.n; ++n)
    for (int k = 0; k < mcnn_points; ++k) {
      const int y = inside(crops.h);
      points.push_back({n, y, inside(crops.w)});
    }
  return points;
}

}  // namespace detail

/// Patches of three levels around ground points of images (N,B,H,W): three tensors (points,B,28,28).
inline std::vector<tensor<float>> mcnn_patches(const tensor<float>& images, const std::vector<detail::ground_point>& points) {
  std::vector<tensor<float>> out;
  tensor<float> level = images;
  for (int l = 0; l < detail::mcnn_levels; ++l) {
    if (l > 0) level = detail::halved(level);
    out.emplace_back(shape{int(points.size()), images.extent().c, detail::mcnn_patch, detail::mcnn_patch});
    detail::cut_patches(level, l, points, out.back(), 0);
  }
  return out;
}

/// Weights of the patch networks and of the regression into the network that maps (MCNNMap), by name.
inline void assemble_mcnn(const parameter_store<float>& cnn, const classical::logistic_fit& fit, int classes, int bands,
                          parameter_store<float>& map) {
  for (const char* name : {"c1.weight", "c1.bias", "c2.weight", "c2.bias", "fc.weight", "fc.bias"}) {
    const int from = cnn.find(name), to = map.find(name);
    const stored_tensor& t = cnn.entries()[std::size_t(from)];
    std::vector<float> v(t.size);  // in the order of files, where (128,1024) and (128,64,4,4) are the same numbers
    parameter_store<float>::reorder(t, [&](std::size_t file, std::size_t here) { v[file] = cnn.values()[t.offset + here]; });
    map.from_file_order(to, v.data());
  }
  const int features = 3 * 128 + bands;
  for (int part = 0; part < 4; ++part) {
    const int width = part < 3 ? 128 : bands;
    std::vector<float> v;
    for (int k = 0; k < classes; ++k)
      for (int f = 0; f < width; ++f) v.push_back(float(fit.weight[std::size_t(k) * std::size_t(features) + std::size_t(part * 128 + f)]));
    map.from_file_order(map.find("lr." + std::to_string(part) + ".weight"), v.data());
  }
  const std::vector<float> bias(fit.bias.begin(), fit.bias.end());
  map.from_file_order(map.find("lr.3.bias"), bias.data());
  map.touch();
}

/// Trains both stages and leaves weights.safetensors of MCNNMap in --out; `map` has the weights, too. options.batch: ground points per step;
/// options.augment: crops of about 160 pixels (a point's patches see 64 to each side).
/// samples: ground points of the regression; 0: as many as the first stage has seen, from 1000 to 20000. The first stage has its log and checkpoint
/// in --out/pretraining; the second is not interrupted. log.jsonl gets one line: the regression's loss, gradient and iterations. Throws as
/// trainer::run; input_error without labelled points.
inline train_result train_mcnn(basic_model<float>& map, std::shared_ptr<const data::dataset> set, const weights_info& info,
                               const train_options& options, const train_events& events, std::size_t samples = 0) {
  using namespace detail;
  train_options first = options;
  first.out = options.out + "/pretraining";
  first.batch = std::max(1, (options.batch + mcnn_points - 1) / mcnn_points);
  const std::uint64_t seed = options.seed;
  first.inputs = [seed](const data::batch& b, std::uint64_t number, tensor<std::int32_t>& labels) {
    const auto points = draw_points(b.images.extent(), seed, number);
    auto levels = mcnn_patches(b.images, points);
    const int p = int(points.size());
    std::vector<tensor<float>> all;
    all.emplace_back(shape{mcnn_levels * p, b.images.extent().c, mcnn_patch, mcnn_patch});
    labels = tensor<std::int32_t>(shape{mcnn_levels * p, 1, 1, 1});
    for (int l = 0; l < mcnn_levels; ++l) {
      std::copy(levels[std::size_t(l)].begin(), levels[std::size_t(l)].end(), all[0].data() + std::size_t(l) * levels[std::size_t(l)].size());
      for (int i = 0; i < p; ++i)
        labels(l * p + i, 0, 0, 0) = b.targets(points[std::size_t(i)].n, 0, points[std::size_t(i)].y, points[std::size_t(i)].x);
    }
    return all;
  };
  const build_options build = map.options();
  static constexpr network_entry patches = {"mcnn-features", "", "", "", &MCNNFeatures<>::build, {}, 28, 0, 28, false};
  basic_model<float> cnn(patches.build, build);
  cnn.weights().initialise(seed);
  train_result result = trainer(patches, cnn, set, nullptr, info, first).run(events);
  if (result.interrupted) return result;

  if (samples == 0) samples = std::size_t(std::clamp<std::uint64_t>(result.state.step * std::uint64_t(first.batch) * mcnn_points, 1000, 20000));
  if (events.message) events.message("logistic regression on " + std::to_string(samples) + " ground points");
  basic_model<float> vector(&MCNNVector::build, build);
  for (const stored_tensor& t : vector.weights().entries())
    std::copy_n(cnn.weights().data(cnn.weights().find(t.name)), t.size, vector.weights().data(vector.weights().find(t.name)));
  vector.weights().touch();
  data::loader_options lo;
  lo.batch = 16, lo.workers = options.workers, lo.seed = seed + 1;
  lo.augment = first.augment, lo.sampling = first.sampling, lo.normalize = first.normalize;
  data::loader loader(set, lo);
  std::vector<float> x;
  std::vector<std::int32_t> y;
  for (std::uint64_t number = 0; y.size() < samples && number < 4 * samples; ++number) {
    const data::batch b = loader.next();
    std::vector<ground_point> points;
    for (const ground_point& p : draw_points(b.images.extent(), seed + 1, number))
      if (b.targets(p.n, 0, p.y, p.x) != info.ignore_id && y.size() + points.size() < samples) points.push_back(p);
    if (points.empty()) continue;
    const auto levels = mcnn_patches(b.images, points);
    const tensor<float>* inputs[] = {&levels[0], &levels[1], &levels[2]};
    vector.run(inputs);
    const tensor<float> f = vector.output(0);
    x.insert(x.end(), f.begin(), f.end());
    for (const ground_point& p : points) y.push_back(b.targets(p.n, 0, p.y, p.x));
  }
  if (y.empty())
    throw input_error("no labelled ground point was found in " + std::to_string(set->size()) + " images; check the masks and the ignored id");
  const auto fit = classical::fit_logistic(x.data(), y.data(), std::int64_t(y.size()), 3 * 128 + build.bands, build.classes);
  assemble_mcnn(cnn.weights(), fit, build.classes, build.bands, map.weights());
  result.last_loss = result.state.running_loss = fit.loss;
  run_log log(options.out + "/log.jsonl", false, 0);
  log.write({{"step", result.state.step},
             {"regression_loss", fit.loss},
             {"regression_gradient", fit.gradient},
             {"iterations", fit.iterations},
             {"points", y.size()}});
  auto metadata = info.to_metadata();
  metadata["rsseg.step"] = std::to_string(result.state.step);
  io::write_safetensors(options.out + "/weights.safetensors", weights_as_tensors(map.weights()), metadata);
  if (events.message)
    events.message("logistic regression: loss " + std::to_string(fit.loss) + " after " + std::to_string(fit.iterations) + " iterations" +
                   (fit.converged ? "" : ", not converged"));
  return result;
}

}  // namespace rsseg::train
