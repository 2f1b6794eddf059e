// SPDX-License-Identifier: MIT
// Training of what refines: gradients of the CRF-RNN layer and of priors, perturbed labels, inputs of refiners, and that a refiner learns.
#include <doctest/doctest.h>

#include "rsseg/model/gradcheck.hpp"
#include "rsseg/nets/crf_rnn.hpp"
#include "rsseg/nets/fusion.hpp"
#include "rsseg/nets/iss.hpp"
#include "rsseg/train/optimizer.hpp"
#include "rsseg/train/priors.hpp"
#include "rsseg/train/refiner_inputs.hpp"

using namespace rsseg;

namespace {
struct FieldBehindConv {
  static constexpr void build(builder& b) {
    const value x = b.input("x", from_data);
    b.output("logits", crf_rnn_layer(b, conv(b, "a", x, 3, {.kernel = 3}), x, {.sigma_xy = 4, .sigma_rgb = 1, .iterations = 2}), 1);
  }
};
struct PlainConv : Network<Named<"a", Conv<3, Kernel<3>>>> {};

std::vector<std::int32_t> squares(int h, int w) {
  std::vector<std::int32_t> t(std::size_t(h) * std::size_t(w), 0);
  for (int y = h / 4; y < 3 * h / 4; ++y)
    for (int x = w / 4; x < 3 * w / 4; ++x) t[std::size_t(y * w + x)] = 1;
  t[0] = 255;
  return t;
}
}  // namespace

TEST_CASE("CRF-RNN layer: gradients of scores and compatibilities") {
  gradcheck_options o;
  o.classes = 3;
  const auto r = gradcheck<FieldBehindConv>({2, 2, 6, 7}, o);
  CHECK_MESSAGE(r.worst < 1e-5, r.where);
  CHECK(r.checked >= 18);
}

TEST_CASE("priors add their gradient to that of the loss") {
  std::vector<train::prior> priors(4);
  priors[0].what = train::prior::kind::tv, priors[0].weight = 0.7;
  priors[1].what = train::prior::kind::neighbours, priors[1].forbid = {0, 1, 0, 1, 0, 0, 0, 0, 0}, priors[1].weight = 3;
  priors[2].what = train::prior::kind::area, priors[2].least = {0, 0.6, 0}, priors[2].most = {0.1, 1, 1}, priors[2].weight = 5;
  priors[3].what = train::prior::kind::boundary, priors[3].weight = 2;
  for (const auto& prior : priors) {
    build_options b;
    b.classes = 3, b.bands = 2;
    basic_model<double> model(&PlainConv::build, b);
    model.weights().initialise(4);
    b.training = true;
    graph::graph g = lower_network(&PlainConv::build, b);
    train::add_prior(g, prior);
    model.prepare_training(std::move(g), graph::loss_options{});
    const shape s{1, 2, 8, 9};
    tensor<double> x(s), distance;
    random_stream r(2, 2);
    for (double& v : x) v = r.uniform(-1, 1);
    tensor<std::int32_t> labels(shape{1, 1, 8, 9});
    const auto t = squares(8, 9);
    std::copy(t.begin(), t.end(), labels.begin());
    std::vector<const tensor<double>*> in{&x};
    if (prior.what == train::prior::kind::boundary) {
      const auto d = train::distance_input(labels, 3, 255);
      distance = tensor<double>(d.extent());
      std::copy(d.begin(), d.end(), distance.begin());
      in.push_back(&distance);
    }
    const auto loss = [&] { return model.train_step(in, labels, cpu::run_state{1, 0}); };
    loss();
    const std::vector<double> gradient = model.training().gradients(), start = model.weights().values();
    for (const std::size_t i : {std::size_t(0), std::size_t(11), std::size_t(40)}) {
      double two[2];
      for (int sign = 0; sign < 2; ++sign) {
        model.weights().values()[i] = start[i] + (sign ? 1e-5 : -1e-5);
        model.weights().touch();
        two[sign] = loss();
      }
      model.weights().values()[i] = start[i];
      CHECK(gradient[i] == doctest::Approx((two[1] - two[0]) / 2e-5).epsilon(1e-4));
    }
  }
  graph::graph g = lower_network(&PlainConv::build, {.classes = 3, .training = true});
  train::prior wrong;
  wrong.what = train::prior::kind::area, wrong.least = {0}, wrong.most = {1};
  CHECK_THROWS_AS(train::add_prior(g, wrong), usage_error);
}

TEST_CASE("perturbed labels: as bad as asked, ignored pixels alone, a function of the stream") {
  const int h = 64, w = 72;
  const auto label = squares(h, w);
  data::perturb_options o;
  o.least_iou = 0.75;
  double worst = 1, best = 0;
  for (std::uint64_t seed = 0; seed < 12; ++seed) {
    random_stream a(seed, 1), b(seed, 1);
    const auto worse = data::perturb_labels(label.data(), h, w, 2, o, a);
    CHECK(worse == data::perturb_labels(label.data(), h, w, 2, o, b));
    CHECK(worse[0] == 255);
    const double iou = data::label_agreement(worse.data(), label.data(), h * w, 2);
    worst = std::min(worst, iou), best = std::max(best, iou);
    const auto p = data::coarse_probabilities(worse, h, w, 2, o, a);
    for (std::size_t i = 0; i < p.size(); i += 2) REQUIRE(p[i] + p[i + 1] == doctest::Approx(1).epsilon(1e-5));
  }
  CHECK(worst > 0.55);  // the last disc may overshoot
  CHECK(worst < 0.95);
  CHECK(best > 0.8);
}

TEST_CASE("a refiner learns to undo perturbations") {
  build_options b;
  b.classes = 2, b.bands = 1;
  basic_model<float> model(&ISSRefiner<from_data, 1>::build, b);
  model.weights().initialise(1);
  b.training = true;
  const int h = 48, w = 48;
  data::batch batch;
  batch.images = tensor<float>(shape{2, 1, h, w}), batch.targets = tensor<std::int32_t>(shape{2, 1, h, w});
  const auto t = squares(h, w);
  for (int i = 0; i < 2 * h * w; ++i)
    batch.targets.data()[i] = t[std::size_t(i % (h * w))], batch.images.data()[i] = float(t[std::size_t(i % (h * w))] == 1) - 0.5f;
  train::coarse_source source;
  source.perturb.least_iou = 0.6;
  const train::refiner_inputs inputs(lower_network(&ISSRefiner<from_data, 1>::build, b), source, data::normalization::unit(), 2, 7);
  model.prepare_training(graph::loss_options{});
  train::optimizer_options oo;
  oo.kind = train::optimizer_kind::adam;
  train::optimizer<float> opt(model.weights(), oo);
  double first = 0, last = 0;
  for (std::uint64_t step = 0; step < 40; ++step) {
    tensor<std::int32_t> labels;
    const auto made = inputs(batch, step, labels);
    std::vector<const tensor<float>*> in;
    for (const auto& m : made) in.push_back(&m);
    const double loss = model.train_step(in, labels, cpu::run_state{1, step});
    opt.step(model.training().gradients(), 3e-3, 1.0);
    (step == 0 ? first : last) = loss;
  }
  CHECK(last < 0.2 * first);
  CHECK_THROWS_AS(train::refiner_inputs(lower_network(&PlainConv::build, b), source, data::normalization::unit(), 2, 7)(batch, 0, batch.targets),
                  usage_error);
}

TEST_CASE("fusion networks take the bands of each input apart") {
  build_options b;
  b.classes = 3, b.bands = 5, b.modalities[0] = 3, b.modalities[1] = 1, b.modalities[2] = 1;
  for (const build_function build :
       {&MiddleFusionUNet<from_data, 2>::build, &LateFusionUNet<from_data, 2>::build, &GroupedFuseNet<from_data, 2>::build}) {
    basic_model<float> model(build, b);
    model.weights().initialise(2);
    tensor<float> x(shape{1, 5, 32, 32}, 0.5f);
    const auto y = model.infer(x);
    CHECK(y.extent() == shape{1, 3, 32, 32});
    // Every group reaches the result.
    for (const int band : {0, 3, 4}) {
      tensor<float> other = x;
      for (int i = 0; i < 32 * 32; ++i) other.data()[i * 5 + band] = float(i % 7);
      const auto z = model.infer(other);
      CHECK(!std::equal(y.begin(), y.end(), z.begin()));
    }
  }
  b.modalities[2] = 9;
  CHECK_THROWS_AS(basic_model<float>(&LateFusionUNet<from_data, 2>::build, b), usage_error);
}
