// SPDX-License-Identifier: MIT
// MCNN's data flow: the map is what the patch network says pixel by pixel, the regression converges, both stages learn, votes are counted.
#include <doctest/doctest.h>

#include <cstdlib>
#include <filesystem>

#include "io_temp.hpp"
#include "rsseg/scene/vote.hpp"
#include "rsseg/train/mcnn.hpp"

using namespace rsseg;
namespace fs = std::filesystem;

namespace {
/// Vertical stripes left, noise of the same mean right: only texture tells the classes apart. One row is ignored.
class textures final : public data::dataset {
 public:
  std::size_t size() const override { return 3; }
  std::string name(std::size_t i) const override { return "texture " + std::to_string(i); }
  const data::class_table& classes() const override { return classes_; }
  int bands() const override { return 3; }
  std::shared_ptr<const data::sample> load(std::size_t i) const override {
    auto s = std::make_shared<data::sample>();
    const int n = 160;
    s->name = name(i);
    s->image.height = s->image.width = s->labels.height = s->labels.width = n, s->image.bands = 3;
    std::vector<std::uint8_t> v;
    random_stream r(11, i);
    const int edge = 76 + int(r.below(9));
    for (int y = 0; y < n; ++y)
      for (int x = 0; x < n; ++x) {
        for (int c = 0; c < 3; ++c) v.push_back(std::uint8_t(x < edge ? (x / 2 % 2 ? 200 : 60) : 60 + int(r.below(141))));
        s->labels.ids.push_back(y == 5 ? 255 : x >= edge);
      }
    s->image.values = std::move(v);
    return s;
  }

 private:
  data::class_table classes_ = data::class_table::numbered(2);
};

tensor<float> noise(shape s, std::uint64_t seed) {
  tensor<float> x(s);
  random_stream r(seed, 3);
  for (float& v : x) v = float(r.uniform(-1, 1));
  return x;
}
}  // namespace

TEST_CASE("MCNN: the map of an image is what its patches say, pixel by pixel") {
  const build_options b{.classes = 3, .bands = 2};
  basic_model<float> patches(&MCNN<>::build, b), map(&MCNNMap<>::build, b);
  patches.weights().initialise(4);
  auto& w = patches.weights();
  classical::logistic_fit fit;
  const int lr = w.find("lr.weight"), bias = w.find("lr.bias");
  for (std::size_t i = 0; i < w.entries()[std::size_t(bias)].size; ++i) w.data(bias)[i] = float(i) - 0.5f;
  fit.weight.assign(w.data(lr), w.data(lr) + w.entries()[std::size_t(lr)].size);
  fit.bias.assign(w.data(bias), w.data(bias) + 3);
  train::assemble_mcnn(w, fit, 3, 2, map.weights());
  const tensor<float> image = noise({1, 2, 72, 84}, 1);
  const tensor<float> scores = map.infer(image);
  REQUIRE(scores.extent() == shape{1, 3, 72, 84});
  const std::vector<train::detail::ground_point> points = {{0, 0, 0}, {0, 36, 41}, {0, 71, 83}, {0, 17, 62}, {0, 50, 3}};
  const auto levels = train::mcnn_patches(image, points);
  const tensor<float>* inputs[] = {&levels[0], &levels[1], &levels[2]};
  patches.run(inputs);
  const tensor<float> expected = patches.output(0);
  for (std::size_t p = 0; p < points.size(); ++p)
    for (int k = 0; k < 3; ++k) CHECK(scores(0, k, points[p].y, points[p].x) == doctest::Approx(expected(int(p), k, 0, 0)).epsilon(1e-5));
}

TEST_CASE("logistic regression: the gradient vanishes, known answers, constant features, bad labels") {
  // One feature that is 0 or 1: without penalty the probabilities are the frequencies.
  std::vector<float> x;
  std::vector<std::int32_t> y;
  for (int i = 0; i < 40; ++i) x.push_back(float(i % 2)), x.push_back(3), y.push_back(i % 2 ? (i % 8 == 1 ? 2 : 1) : i % 10 == 0);
  const auto fit = classical::fit_logistic(x.data(), y.data(), 40, 2, 3, {.l2 = 1e-9});
  CHECK(fit.converged);
  const auto probability = [&](double feature, int k) {
    double sum = 0;
    for (int j = 0; j < 3; ++j)
      sum += std::exp(fit.weight[std::size_t(2 * j)] * feature + fit.weight[std::size_t(2 * j + 1)] * 3 + fit.bias[std::size_t(j)]);
    return std::exp(fit.weight[std::size_t(2 * k)] * feature + fit.weight[std::size_t(2 * k + 1)] * 3 + fit.bias[std::size_t(k)]) / sum;
  };
  CHECK(probability(1, 2) == doctest::Approx(0.25).epsilon(1e-3));
  CHECK(probability(1, 1) == doctest::Approx(0.75).epsilon(1e-3));
  CHECK(probability(0, 1) == doctest::Approx(0.2).epsilon(1e-3));
  CHECK(fit.weight[1] == 0);  // a constant feature says nothing
  // The penalty is that of the original features: the objective, written out, is smallest at the answer.
  random_stream r(5, 5);
  std::vector<float> z;
  std::vector<std::int32_t> t;
  for (int i = 0; i < 60; ++i) {
    t.push_back(int(r.below(3)));
    for (int f = 0; f < 4; ++f) z.push_back(float(r.uniform(-1, 1) * (f + 1) + 0.3 * t.back() * f + 5 * f));
  }
  const auto strong = classical::fit_logistic(z.data(), t.data(), 60, 4, 3, {.l2 = 0.05, .tolerance = 1e-9});
  const auto objective = [&](const classical::logistic_fit& m) {
    double value = 0;
    for (int i = 0; i < 60; ++i) {
      double s[3], total = 0;
      for (int k = 0; k < 3; ++k) {
        s[k] = m.bias[std::size_t(k)];
        for (int f = 0; f < 4; ++f) s[k] += m.weight[std::size_t(4 * k + f)] * double(z[std::size_t(4 * i + f)]);
        total += std::exp(s[k]);
      }
      value += (std::log(total) - s[t[std::size_t(i)]]) / 60;
    }
    for (const double v : m.weight) value += 0.05 / 2 * v * v;
    return value;
  };
  CHECK(objective(strong) == doctest::Approx(strong.loss).epsilon(1e-9));
  for (std::size_t i = 0; i < 12; ++i)
    for (const double d : {-1e-3, 1e-3}) {
      auto moved = strong;
      moved.weight[i] += d;
      CHECK(objective(moved) > strong.loss);
    }
  t[7] = 3;
  CHECK_THROWS_WITH_AS(classical::fit_logistic(z.data(), t.data(), 60, 4, 3), doctest::Contains("sample 7"), usage_error);
}

TEST_CASE("MCNN trains in two stages and tells textures apart; what it leaves is a file") {
  const test::temporary_folder folder;
  const fs::path& dir = folder.path;
  const auto set = std::make_shared<textures>();
  basic_model<float> map(&MCNNMap<>::build, {.classes = 2, .bands = 3});
  map.weights().initialise(1);
  train::train_options o;
  o.out = dir.string(), o.steps = 12, o.batch = 16, o.workers = 0, o.schedule.base = 0.02;
  o.augment = data::augment_options::none(), o.augment.crop_height = o.augment.crop_width = 160;
  train::weights_info info;
  info.network = "mcnn", info.classes = 2, info.bands = 3;
  train::train_mcnn(map, set, info, o, {}, 160);
  CHECK(fs::exists(dir / "weights.safetensors"));
  const auto s = set->load(1);
  tensor<float> image(shape{1, 3, 160, 160});
  const auto& v = std::get<0>(s->image.values);
  for (std::size_t i = 0; i < image.size(); ++i)
    image.data()[i] = (float(v[i]) / 255 - o.normalize.mean_of(int(i % 3))) / o.normalize.std_of(int(i % 3));
  const tensor<float> voted = scene::count_votes(map.infer(image), 5);
  int right = 0, all = 0;
  for (int y = 64; y < 96; ++y)  // away from the border between the textures
    for (int x = 56; x < 104; ++x)
      if (x < 70 || x > 90) right += (voted(0, 1, y, x) > voted(0, 0, y, x)) == (s->labels.at(y, x) == 1), ++all;
  CHECK(right > 0.9 * all);
}

TEST_CASE("votes: counted in the window, cut at the border, the smallest class of equals first") {
  tensor<float> scores(shape{1, 3, 3, 4});
  const int labels[3][4] = {{2, 0, 0, 1}, {2, 2, 1, 1}, {0, 2, 1, 1}};
  for (int y = 0; y < 3; ++y)
    for (int x = 0; x < 4; ++x) scores(0, labels[y][x], y, x) = 1;
  const auto votes = scene::count_votes(scores, 3);
  CHECK(votes(0, 2, 0, 0) == 3);
  CHECK(votes(0, 0, 0, 0) == 1);
  CHECK(votes(0, 0, 1, 1) == 3);
  CHECK(votes(0, 2, 1, 1) == 4);
  CHECK(votes(0, 1, 1, 1) == 2);
  CHECK(votes(0, 1, 0, 2) == votes(0, 1, 1, 3) - 2);
  const tensor<float> tie(shape{1, 3, 1, 1});
  CHECK(scene::count_votes(tie, 1)(0, 0, 0, 0) == 1);
}
