// SPDX-License-Identifier: MIT
// Every loss and penalty against finite differences in double; ignored pixels, empty targets, thread counts, workspaces.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "rsseg/core/random.hpp"
#include "rsseg/loss/class_weights.hpp"
#include "rsseg/loss/cross_entropy.hpp"
#include "rsseg/loss/label_priors.hpp"
#include "rsseg/loss/lovasz.hpp"
#include "rsseg/loss/overlap.hpp"
#include "rsseg/loss/priors.hpp"
#include "rsseg/refine/softmax.hpp"

using namespace rsseg;
using namespace rsseg::loss;

namespace {
const shape s{2, 4, 5, 6};

template <class T = double>
std::vector<T> noise(std::uint64_t seed, std::size_t count, double lo, double hi) {
  random_stream random(seed, 4);
  std::vector<T> out;
  for (std::size_t i = 0; i < count; ++i) out.push_back(T(random.uniform(lo, hi)));
  return out;
}
std::vector<std::int32_t> labels(int classes, bool ignored = true) {
  random_stream random(9, 4);
  std::vector<std::int32_t> t;
  for (std::int64_t i = 0; i < s.pixels(); ++i)
    t.push_back(ignored && random.below(8) == 0 ? 255 : std::int32_t(random.below(std::uint32_t(classes))));
  return t;
}

/// value(z, dz) with dz null or filled. Central differences at every element.
template <class Value>
void check_gradient(std::vector<double> z, const Value& value, double tolerance = 1e-6) {
  std::vector<double> dz(z.size(), 123.0);
  const double with = value(z.data(), dz.data()), without = value(z.data(), nullptr);
  CHECK(with == without);
  double largest = 0;
  for (std::size_t i = 0; i < z.size(); ++i) {
    const double keep = z[i], step = 1e-5;
    z[i] = keep + step;
    const double plus = value(z.data(), nullptr);
    z[i] = keep - step;
    const double minus = value(z.data(), nullptr);
    z[i] = keep;
    const double numeric = (plus - minus) / (2 * step);
    largest = std::max(largest, std::abs(numeric));
    INFO("element " << i);
    CHECK(std::abs(dz[i] - numeric) <= tolerance * std::max(1.0, std::abs(numeric)));
  }
  CHECK(largest > 1e-6);  // a zero gradient would pass anything
}
}  // namespace

TEST_CASE("losses on logits: gradients") {
  const auto z = noise(1, std::size_t(s.size()), -3, 3);
  const auto t = labels(4);
  const double w[4] = {0.5, 2, 1, 0.25};
  for (const auto reduce : {reduction::weighted_mean, reduction::pixel_mean, reduction::sum})
    for (const double smoothing : {0.0, 0.2})
      check_gradient(
          z,
          [&](const double* x, double* g) { return cross_entropy(x, t.data(), s, {.weight = w, .smoothing = smoothing, .reduce = reduce}, g).value; },
          1e-5);
  for (const double gamma : {0.0, 0.5, 2.0, 3.0})
    check_gradient(z, [&](const double* x, double* g) { return focal(x, t.data(), s, {.gamma = gamma, .alpha = w}, g).value; });
  check_gradient(z, [&](const double* x, double* g) { return ohem(x, t.data(), s, {.threshold = 0.3, .min_kept = 5, .weight = w}, g).value; });
  for (const auto& o : {dice_options(), jaccard_options(), tversky_options(0.3, 0.7)})
    for (const bool squared : {false, true})
      for (const double exponent : {1.0, 0.75}) {
        auto options = o;
        options.squared = squared, options.exponent = exponent;
        check_gradient(z, [&](const double* x, double* g) { return overlap(x, t.data(), s, options, g).value; });
      }
  for (const bool per_image : {false, true})
    for (const double* weight : {static_cast<const double*>(nullptr), w})
      check_gradient(z,
                     [&](const double* x, double* g) { return lovasz_softmax(x, t.data(), s, {.per_image = per_image, .weight = weight}, g).value; });
  for (auto o : {dice_options(), jaccard_options(), tversky_options(0.3, 0.7)}) {
    o.weight = w;
    check_gradient(z, [&](const double* x, double* g) { return overlap(x, t.data(), s, o, g).value; });
  }
  check_gradient(z, [&](const double* x, double* g) { return ohem(x, t.data(), s, {.threshold = 0.01, .min_kept = 0, .min_share = 0.4}, g).value; });
  check_gradient(z, [&](const double* x, double* g) {
    adaptive_weight_state state{{0.1, 0.2, 0.3, 0.4}, 3};
    return adaptive_class_weight(x, t.data(), s, {}, state, g).value;
  });
  const std::int32_t parent[4] = {0, 0, 1, 1};
  check_gradient(z, [&](const double* x, double* g) {
    return hierarchical_cross_entropy(x, t.data(), nullptr, s, {.parent = parent, .coarse = 2, .coarse_weight = 0.5}, g).value;
  });
  const double confusion[16] = {0.7, 0.1, 0.1, 0.1, 0, 1, 0, 0, 0.2, 0.2, 0.6, 0, 0, 0, 0.5, 0.5};
  check_gradient(z, [&](const double* x, double* g) { return forward_corrected_cross_entropy(x, t.data(), s, confusion, 255, g).value; });
}

TEST_CASE("binary losses: gradients, and logits that overflow a naive version") {
  const shape one{2, 1, 5, 6};
  const auto z = noise(2, std::size_t(one.size()), -3, 3);
  const auto t = labels(2);
  check_gradient(z, [&](const double* x, double* g) { return binary_cross_entropy(x, t.data(), one, {.positive_weight = 3}, g).value; });
  check_gradient(z, [&](const double* x, double* g) { return binary_cross_entropy(x, t.data(), one, {.balanced = true}, g).value; });
  check_gradient(z, [&](const double* x, double* g) { return lovasz_hinge(x, t.data(), one, {.per_image = true}, g).value; });
  const double extreme[2] = {1000, -1000};
  const std::int32_t label[2] = {0, 1};
  double g[2];
  CHECK(binary_cross_entropy(extreme, label, {1, 1, 1, 2}, {}, g).value == doctest::Approx(1000));
  CHECK(g[0] == doctest::Approx(0.5));
}

TEST_CASE("balanced binary loss: both labels count half, whatever their number; one label alone teaches nothing") {
  const double z[4] = {0.5, -1, 2, 0.25};
  const std::int32_t t[4] = {1, 0, 0, 255};
  double g[4];
  const auto softplus = [](double v) { return std::log1p(std::exp(v)); };
  CHECK(binary_cross_entropy(z, t, {1, 1, 1, 4}, {.balanced = true}, g).value ==
        doctest::Approx(0.5 * softplus(-0.5) + 0.25 * (softplus(-1) + softplus(2))).epsilon(1e-12));
  CHECK(g[3] == 0);
  const std::int32_t none[4] = {0, 0, 0, 0};
  CHECK(binary_cross_entropy(z, none, {1, 1, 1, 4}, {.balanced = true}, g).value == 0);
  for (const double v : g) CHECK(v == 0);
}

TEST_CASE("penalties on probabilities: gradients") {
  auto p = noise(3, std::size_t(s.size()), -2, 2);
  refine::softmax(p.data(), s.pixels(), s.c, p.data());
  const auto forbid = noise(4, 16, 0, 1), cost = noise(5, std::size_t(s.pixels()), 0, 2), guide = noise(6, std::size_t(s.pixels() * 3), 0, 1);
  check_gradient(p, [&](const double* x, double* g) { return forbidden_neighbours(x, s, forbid.data(), g); });
  check_gradient(p, [&](const double* x, double* g) { return misplaced_class(x, s, 2, cost.data(), g); });
  check_gradient(p, [&](const double* x, double* g) { return total_variation(x, s, guide.data(), 3, 0.4, g); });
  check_gradient(p, [&](const double* x, double* g) { return total_variation<double>(x, s, nullptr, 0, 1, g); });
  const double least[4] = {0.5, 0, 0, 0}, most[4] = {1, 1, 0.1, 1};
  check_gradient(p, [&](const double* x, double* g) { return area_bounds(x, s, least, most, g); });
  std::vector<double> distance(p.size());
  signed_distance(labels(4).data(), s, distance.data());
  check_gradient(p, [&](const double* x, double* g) { return boundary(x, s, distance.data(), g); });
  const auto other = noise(7, p.size(), 0, 1);
  check_gradient(p, [&](const double* x, double* g) { return consistency(x, other.data(), s.size(), g, static_cast<double*>(nullptr)); });
  // Through the softmax, as training uses them.
  const auto z = noise(8, p.size(), -2, 2);
  check_gradient(z, [&](const double* x, double* g) {
    std::vector<double> q(p.size()), dq(p.size());
    refine::softmax(x, s.pixels(), s.c, q.data());
    const double v = forbidden_neighbours(q.data(), s, forbid.data(), dq.data());
    if (g) refine::softmax_backward(q.data(), dq.data(), s.pixels(), s.c, g);
    return v;
  });
}

TEST_CASE("signed distance: against all pairs of pixels") {
  const shape one{1, 3, 9, 11};
  random_stream random(5, 5);
  std::vector<std::int32_t> t;
  for (int i = 0; i < 99; ++i) t.push_back(random.below(10) == 0 ? 1 : random.below(9) == 0 ? 255 : 0);
  std::vector<double> d(std::size_t(one.size()));
  signed_distance(t.data(), one, d.data());
  for (int k = 0; k < 3; ++k)
    for (int i = 0; i < 99; ++i) {
      double inside = 1e9, outside = 1e9;
      for (int j = 0; j < 99; ++j) {
        const double distance = std::hypot(i / 11 - j / 11, i % 11 - j % 11);
        if (t[std::size_t(j)] == k) inside = std::min(inside, distance);
        if (t[std::size_t(j)] != k && t[std::size_t(j)] != 255) outside = std::min(outside, distance);
      }
      double expected = t[std::size_t(i)] == k ? 1 - outside : inside;
      if (k == 2 || t[std::size_t(i)] == 255) expected = 0;
      CHECK(d[std::size_t(i * 3 + k)] == doctest::Approx(expected));
    }
}

TEST_CASE("a target that is all ignored gives zero and a zero gradient; a wrong label is an error") {
  const auto z = noise(1, std::size_t(s.size()), -3, 3);
  std::vector<std::int32_t> t(std::size_t(s.pixels()), 255);
  std::vector<double> g(z.size());
  const auto zero = [&](loss_value v) {
    CHECK(v.value == 0);
    CHECK(v.pixels == 0);
    for (double& x : g) {
      CHECK(x == 0);
      x = 5;
    }
  };
  adaptive_weight_state state;
  zero(cross_entropy(z.data(), t.data(), s, {}, g.data()));
  zero(focal(z.data(), t.data(), s, {}, g.data()));
  zero(ohem(z.data(), t.data(), s, {}, g.data()));
  zero(lovasz_softmax(z.data(), t.data(), s, {}, g.data()));
  zero(adaptive_class_weight(z.data(), t.data(), s, {}, state, g.data()));
  CHECK(state.iteration == 0);
  overlap(z.data(), t.data(), s, dice_options(), g.data());
  for (const double x : g) CHECK(x == 0);
  t[3] = 4;
  CHECK_THROWS_AS(cross_entropy(z.data(), t.data(), s, {}, g.data()), usage_error);
  CHECK_THROWS_AS(lovasz_softmax(z.data(), t.data(), s, {}, g.data()), usage_error);
}

TEST_CASE("a given workspace and more threads do not change a bit") {
  const shape big{1, 4, 120, 150};
  const auto z = noise<float>(1, std::size_t(big.size()), -3, 3);
  random_stream random(6, 6);
  std::vector<std::int32_t> t;
  for (std::int64_t i = 0; i < big.pixels(); ++i) t.push_back(std::int32_t(random.below(4)));
  const auto both = [&](std::size_t doubles, const auto& value) {
    std::vector<float> a(z.size()), b(z.size());
    std::vector<double> work(doubles + 1, 77.0);
    const int before = thread_setting();
    set_threads(1);
    const double one = value(a.data(), nullptr);
    set_threads(4);
    const double four = value(b.data(), work.data());
    set_threads(before);
    CHECK(one == four);
    CHECK(std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
    CHECK(work.back() == 77.0);  // stays within what was asked for
  };
  both(cross_entropy_workspace(big), [&](float* g, double* w) { return cross_entropy(z.data(), t.data(), big, {}, g, w).value; });
  both(focal_workspace(big), [&](float* g, double* w) { return focal(z.data(), t.data(), big, {}, g, w).value; });
  both(ohem_workspace(big), [&](float* g, double* w) { return ohem(z.data(), t.data(), big, {.min_kept = 500}, g, w).value; });
  both(overlap_workspace(big), [&](float* g, double* w) { return overlap(z.data(), t.data(), big, dice_options(), g, w).value; });
  both(lovasz_workspace(big), [&](float* g, double* w) { return lovasz_softmax(z.data(), t.data(), big, {}, g, w).value; });
  both(adaptive_weight_workspace(big), [&](float* g, double* w) {
    adaptive_weight_state state;
    return adaptive_class_weight(z.data(), t.data(), big, {}, state, g, w).value;
  });
}

TEST_CASE("weights of classes in the means of dice and Lovasz: a class of weight 0 does not count") {
  const auto z = noise(1, std::size_t(s.size()), -3, 3);
  const auto t = labels(4);
  const double only[4] = {0, 0, 1, 0}, twice[4] = {2, 2, 2, 2};
  auto o = dice_options();
  const double plain = overlap(z.data(), t.data(), s, o, static_cast<double*>(nullptr)).value;
  o.weight = twice;
  CHECK(overlap(z.data(), t.data(), s, o, static_cast<double*>(nullptr)).value == doctest::Approx(plain).epsilon(1e-14));
  double sum = 0;
  for (int k = 0; k < 4; ++k) {
    double one[4] = {0, 0, 0, 0};
    one[k] = 1;
    o.weight = one;
    sum += overlap(z.data(), t.data(), s, o, static_cast<double*>(nullptr)).value / 4;
  }
  CHECK(sum == doctest::Approx(plain).epsilon(1e-14));
  std::vector<std::int32_t> absent = t;
  for (auto& v : absent)
    if (v == 2) v = 255;
  CHECK(lovasz_softmax(z.data(), absent.data(), s, {.weight = only}, static_cast<double*>(nullptr)).value == 0);
}

TEST_CASE("class weights: absent classes get none, image counts follow SegNet, no pixel is an error") {
  const auto w = class_weights({10, 0, 30}, weighting::inverse_frequency);
  CHECK(w[1] == 0);
  CHECK(w[0] + w[2] == doctest::Approx(3));
  CHECK(w[0] == doctest::Approx(3 * w[2]));
  const auto m = class_weights({10, 20}, weighting::median_frequency, 0, {100, 100});
  CHECK(m[0] == doctest::Approx(1.5));
  CHECK_THROWS_AS(class_weights({0, 0}, weighting::enet), usage_error);
}
