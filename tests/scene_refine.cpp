// SPDX-License-Identifier: MIT
// Refinement of scenes: a stage run in tiles gives what the whole scene gives, to the bound stated for it; stages chain; constraints hold.
#include <doctest/doctest.h>

#include <utility>

#include "rsseg/cpu/winograd.hpp"
#include "rsseg/nets/crf_rnn.hpp"
#include "rsseg/nets/deep_guided_filter.hpp"
#include "rsseg/nets/iss.hpp"
#include "rsseg/scene/cascade_psp_stage.hpp"
#include "rsseg/scene/refine.hpp"
#include "rsseg/scene/stages_filters.hpp"
#include "rsseg/scene/stages_prior.hpp"
#include "rsseg/scene/stages_trained.hpp"

using namespace rsseg;

namespace {
constexpr int classes = 3;

/// Three regions with colours of their own, noise, and scores that are right more often than not and blurred at borders.
struct picture {
  int w, h;
  std::unique_ptr<io::raster_source> image;
  std::vector<float> scores;
  picture(int width, int height, std::uint64_t seed = 5) : w(width), h(height), scores(std::size_t(width) * std::size_t(height) * classes) {
    io::raster_info info;
    info.width = w, info.height = h, info.bands = 3;
    std::vector<float> v(std::size_t(w) * std::size_t(h) * 3);
    random_stream r(seed, 1);
    for (int y = 0; y < h; ++y)
      for (int x = 0; x < w; ++x) {
        const std::size_t i = std::size_t(y) * std::size_t(w) + std::size_t(x);
        const int k = (x - w / 3) * (x - w / 3) + (y - h / 2) * (y - h / 2) < w * h / 14 ? 1 : x + y / 2 > w ? 2 : 0;
        for (int c = 0; c < 3; ++c) v[i * 3 + std::size_t(c)] = float(60 + 60 * ((k + c) % 3) + int(r.below(30)));
        float sum = 0;
        for (int c = 0; c < classes; ++c) sum += scores[i * classes + std::size_t(c)] = float((c == k ? 1.2 : 0.4) + r.uniform(0, 1));
        for (int c = 0; c < classes; ++c) scores[i * classes + std::size_t(c)] /= sum;
      }
    image = io::memory_source(info, std::move(v));
  }
  std::vector<float> through(scene::stage& s) {
    auto store = std::make_unique<scene::score_store>(w, h, classes);
    store->write(0, 0, w, h, scores.data());
    scene::score_store out(w, h, classes);
    CHECK(s.run(*image, *store, out, {}));
    std::vector<float> q(scores.size());
    out.read(0, 0, w, h, q.data());
    return q;
  }
};

double largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
  double d = 0;
  for (std::size_t i = 0; i < a.size(); ++i) d = std::max(d, std::abs(double(a[i]) - double(b[i])));
  return d;
}
double other_labels(const std::vector<float>& a, const std::vector<float>& b) {
  std::size_t n = 0;
  for (std::size_t i = 0; i < a.size(); i += classes) n += scene::detail::argmax(&a[i], classes) != scene::detail::argmax(&b[i], classes);
  return double(n) / (double(a.size()) / classes);
}
/// As initialised when spread is 0; otherwise every weight is moved, also those that start at zero so that the map stays as it is.
scene::refiner random_refiner(const char* name, build_function build, std::uint64_t seed = 3, double spread = 0.2) {
  build_options o;
  o.classes = classes, o.bands = 3;
  scene::refiner r{name, std::make_unique<scene::placed_network>(build, o), data::normalization::unit(), classes, 3};
  r.model->weights().initialise(seed);
  random_stream noise(seed, 9);
  for (const stored_tensor& t : r.model->weights().entries())
    for (std::size_t i = 0; t.trained && i < t.size; ++i) r.model->weights().values()[t.offset + i] += float(spread * noise.uniform(-1, 1));
  r.model->weights().touch();
  return r;
}
void check_sums(const std::vector<float>& p) {
  for (std::size_t i = 0; i < p.size(); i += classes) {
    float sum = 0;
    for (int c = 0; c < classes; ++c) sum += p[i + std::size_t(c)];
    REQUIRE(sum == doctest::Approx(1).epsilon(1e-4));
  }
}
}  // namespace

TEST_CASE("score store: windows come back, the outside is refused") {
  scene::score_store s(7, 5, 2);
  std::vector<float> v(7 * 5 * 2), part(3 * 2 * 2);
  for (std::size_t i = 0; i < v.size(); ++i) v[i] = float(i);
  s.write(0, 0, 7, 5, v.data());
  s.read(4, 3, 3, 2, part.data());
  CHECK(part[0] == 2 * (3 * 7 + 4));
  CHECK(part.back() == v.back());
  CHECK_THROWS_AS(s.read(5, 0, 3, 1, part.data()), usage_error);
  CHECK_THROWS_AS(scene::score_store(4, 4, 2, "/nowhere/at/all"), output_error);
}

TEST_CASE("stage specifications: what is read, and what is refused") {
  const auto s = scene::stage_spec::parse("guided:radius=4,eps=1e-3");
  CHECK(s.name == "guided");
  CHECK(s.whole("radius", 1) == 4);
  CHECK(s.number("eps", 1) == 1e-3);
  CHECK_THROWS_AS(scene::stage_spec::parse("guided:radius"), usage_error);
  CHECK_THROWS_AS(scene::stage_spec::parse("guided:a=1,a=2"), usage_error);
  CHECK_THROWS_AS(scene::filter_stage(scene::stage_spec::parse("guided:radios=4")), usage_error);
  CHECK_THROWS_AS(scene::filter_stage(scene::stage_spec::parse("guided:radius=-1")), usage_error);
  CHECK(scene::filter_stage(scene::stage_spec::parse("magic")) == nullptr);
  CHECK_THROWS_AS(scene::filter_stage(scene::stage_spec::parse("guided:guide=purple")), usage_error);
  CHECK_THROWS_AS(scene::filter_stage(scene::stage_spec::parse("densecrf:normalization=often")), usage_error);
}

TEST_CASE("what a filter normalises and is guided by changes its map, and one band guides as itself") {
  picture p(60, 50);
  const auto through = [&](const char* spec) { return p.through(*scene::filter_stage(scene::stage_spec::parse(spec))); };
  const auto symmetric = through("densecrf"), colour = through("guided:radius=4");
  CHECK(symmetric == through("densecrf:normalization=symmetric"));
  for (const char* spec : {"densecrf:normalization=after", "densecrf:normalization=before", "densecrf:normalization=none"}) {
    const auto other = through(spec);
    check_sums(other);
    CHECK(largest_difference(symmetric, other) > 1e-4);
  }
  const auto gray = through("guided:radius=4,guide=gray");
  check_sums(gray);
  CHECK(largest_difference(colour, gray) > 1e-3);
  // the mean of three equal bands is each of them
  std::vector<float> v(60 * 50 * 3);
  random_stream r(8, 1);
  for (std::size_t i = 0; i < v.size(); i += 3) v[i] = v[i + 1] = v[i + 2] = float(r.below(256));
  io::raster_info info;
  info.width = 60, info.height = 50, info.bands = 3;
  p.image = io::memory_source(info, v);
  const auto of_three = through("guided:radius=4,guide=gray");
  info.bands = 1, v.resize(60 * 50);
  for (std::size_t i = 0; i < v.size(); ++i) v[i] = 0;
  random_stream again(8, 1);
  for (float& x : v) x = float(again.below(256));
  p.image = io::memory_source(info, v);
  CHECK(largest_difference(of_three, through("guided:radius=4")) < 1e-5);
}

TEST_CASE("stages of finite reach: tiles give what the whole gives") {
  picture p(151, 117);
  SUBCASE("guided filter") {
    scene::guided_stage whole({5, 1e-3}, 1000, ""), tiled({5, 1e-3}, 40, "");
    // Running sums start elsewhere in each tile: rounding of double, nothing else.
    CHECK(largest_difference(p.through(whole), p.through(tiled)) < 1e-6);
  }
  SUBCASE("iterative segmentation") {
    // Winograd's tiles lie elsewhere in each piece, and round otherwise; without it every pixel is the same sum.
    const bool fast = std::exchange(cpu::winograd_setting(), false);
    scene::iss_stage whole(random_refiner("iss-refiner", &ISSRefiner<from_data, 1, false, false, true>::build), 2, 1000, ""),
        tiled(random_refiner("iss-refiner", &ISSRefiner<from_data, 1, false, false, true>::build), 2, 44, "");
    const double difference = largest_difference(p.through(whole), p.through(tiled));
    cpu::set_winograd(fast);
    CHECK(difference < 2e-6);
  }
  SUBCASE("deep guided filter") {
    scene::deep_guided_stage whole(random_refiner("dgf-head", &DGFHead<>::build), 1000, ""),
        tiled(random_refiner("dgf-head", &DGFHead<>::build), 40, "");
    CHECK(largest_difference(p.through(whole), p.through(tiled)) < 1e-5);
  }
  SUBCASE("uncertain points") {
    scene::point_stage whole(random_refiner("pointrend-refiner", &PointRefiner<>::build), 0.3, 0, 1000, ""),
        tiled(random_refiner("pointrend-refiner", &PointRefiner<>::build), 0.3, 0, 40, "");
    const auto a = p.through(whole);
    // Positions are fractions of a window, rounded to single precision.
    CHECK(largest_difference(a, p.through(tiled)) < 1e-3);
    CHECK(largest_difference(a, p.scores) > 0.1);
  }
  SUBCASE("uncertain points, subdivided") {
    scene::point_stage whole(random_refiner("pointrend-refiner", &PointRefiner<>::build), 0.3, 2, 1000, ""),
        tiled(random_refiner("pointrend-refiner", &PointRefiner<>::build), 0.3, 2, 40, "");
    // A pixel at the margin may be chosen in one window and not in the other.
    CHECK(other_labels(p.through(whole), p.through(tiled)) < 1e-3);
  }
}

TEST_CASE("stages of unbounded reach: blended tiles differ from the whole by little, and nowhere at a seam more than elsewhere") {
  picture p(160, 120);
  const auto o = refine::usual_dense_crf(8, 20, 3, 3);
  scene::dense_crf_stage whole(o, 1000, 0, ""), tiled(o, 48, 24, "");
  const auto a = p.through(whole), b = p.through(tiled);
  CHECK(other_labels(p.scores, a) > 0.02);  // it does something
  CHECK(other_labels(a, b) < 0.01);
  CHECK(largest_difference(a, b) < 0.5);
  check_sums(b);
  scene::crf_rnn_stage learned(random_refiner("crf-rnn", &CRFRNN<>::build), 0, 1000, ""),
      in_tiles(random_refiner("crf-rnn", &CRFRNN<>::build), 48, 64, "");
  CHECK(other_labels(p.through(learned), p.through(in_tiles)) < 0.02);
  scene::regions_stage regions(150, 10, 1000, 0, ""), in_windows(150, 10, 64, 32, "");
  CHECK(other_labels(p.through(regions), p.through(in_windows)) < 0.05);
}

TEST_CASE("an untrained refiner that corrects leaves the map as it is") {
  picture p(61, 50);
  const auto is = [](const char* name, build_function build) { return random_refiner(name, build, 3, 0); };
  scene::iss_stage looks(is("iss-refiner", &ISSRefiner<from_data, 1, false, false, true>::build), 3, 40, "");
  CHECK(largest_difference(p.scores, p.through(looks)) < 1e-5);
  scene::point_stage points(is("pointrend-refiner", &PointRefiner<>::build), 0.9, 0, 40, "");
  CHECK(largest_difference(p.scores, p.through(points)) < 1e-5);
  scene::cascade_options o;
  o.size = 64;
  scene::cascade_psp_stage masks(is("cascadepsp-16", &CascadePSP<false, 18, 16>::build), nullptr, o, 64, "");
  CHECK(other_labels(p.scores, p.through(masks)) == 0);
  scene::deep_guided_stage filter(is("dgf-head", &DGFHead<from_data, true>::build), 64, "");
  CHECK(other_labels(p.scores, p.through(filter)) < 0.25);  // smoother than what it was given, whose noise is of single pixels
}

TEST_CASE("CascadePSP: global alone, and global with local crops") {
  picture p(96, 80);
  scene::cascade_options o;
  o.size = 96, o.stride = 48, o.ramp = 4;
  scene::cascade_psp_stage global(random_refiner("cascadepsp-16", &CascadePSP<false, 18, 16>::build), nullptr, o, 1000, "");
  check_sums(p.through(global));
  o.size = 64;
  const auto weights = random_refiner("cascadepsp-16", &CascadePSP<false, 18, 16>::build);
  auto local = random_refiner("cascadepsp-16", &CascadePSPLocal<18, 16>::build);
  REQUIRE(local.model->weights().parameter_count() == weights.model->weights().parameter_count());
  scene::cascade_psp_stage both(random_refiner("cascadepsp-16", &CascadePSP<false, 18, 16>::build), std::move(local.model), o, 1000, "");
  check_sums(p.through(both));
  // Fewer bands than it was trained on.
  io::raster_info grey;
  grey.width = grey.height = 8, grey.bands = 1;
  CHECK_THROWS_AS(global.check(grey, classes), usage_error);
}

TEST_CASE("stages chain, and progress can stop them") {
  picture p(60, 50);
  scene::stage_list stages;
  stages.push_back(std::make_unique<scene::guided_stage>(refine::guided_filter_options{2, 1e-3}, 32, "first"));
  stages.push_back(std::make_unique<scene::guided_stage>(refine::guided_filter_options{2, 1e-3}, 32, "second"));
  const auto start = [&] {
    auto s = std::make_unique<scene::score_store>(p.w, p.h, classes);
    s->write(0, 0, p.w, p.h, p.scores.data());
    return s;
  };
  std::string seen;
  const auto done = scene::refine_scores(start(), *p.image, stages, [&](const std::string& what, std::int64_t, std::int64_t) {
    if (seen.find(what) == std::string::npos) seen += what + " ";
    return true;
  });
  CHECK(seen == "first second ");
  std::vector<float> twice(p.scores.size());
  done->read(0, 0, p.w, p.h, twice.data());
  p.scores = p.through(*stages[0]);
  CHECK(largest_difference(twice, p.through(*stages[1])) == 0);
  CHECK(scene::refine_scores(start(), *p.image, stages, [](const auto&...) { return false; }) == nullptr);
}

TEST_CASE("constraints: what is forbidden is gone, small regions too, shares are met") {
  picture p(90, 70);
  SUBCASE("a class where a raster of another resolution is low") {
    io::raster_info info;
    info.width = 9, info.height = 7, info.bands = 1, info.type = io::sample_type::f32;
    std::vector<float> height(63, 10.0f);
    for (int y = 0; y < 7; ++y)
      for (int x = 0; x < 4; ++x) height[std::size_t(y * 9 + x)] = 0;
    scene::forbid_stage s(1, io::memory_source(info, height), 2.5, 1e9, 32, "");
    const auto q = p.through(s);
    for (int y = 0; y < p.h; ++y)
      for (int x = 0; x < p.w; ++x) {
        const std::size_t i = (std::size_t(y) * std::size_t(p.w) + std::size_t(x)) * classes + 1;
        REQUIRE(q[i] == (x < 40 ? 0.0f : p.scores[i]));
      }
  }
  SUBCASE("least sizes, in tiles as in the whole") {
    scene::size_stage whole({20, 20, 20}, 1000, ""), tiled({20, 20, 20}, 32, "");
    const auto a = p.through(whole);
    std::vector<std::int32_t> label(a.size() / classes);
    for (std::size_t i = 0; i < label.size(); ++i) label[i] = scene::detail::argmax(&a[i * classes], classes);
    auto again = label;
    CHECK(refine::remove_small_components(again.data(), p.h, p.w, {20, 20, 20}) == 0);
    CHECK(other_labels(a, p.through(tiled)) < 0.01);
  }
  SUBCASE("shares of the scene") {
    scene::area_stage s({0, 0, 0.5}, {1, 1, 1}, "");
    const auto q = p.through(s);
    double share = 0;
    for (std::size_t i = 2; i < q.size(); i += classes) share += double(q[i]);
    CHECK(share / (double(q.size()) / classes) >= 0.499);
    check_sums(q);
  }
  SUBCASE("pairs that do not touch") {
    scene::neighbours_stage s({{0, 2}}, 50, 64, "");
    const auto pairs = [&](const std::vector<float>& v) {
      std::int64_t n = 0;
      for (int y = 0; y < p.h; ++y)
        for (int x = 0; x + 1 < p.w; ++x) {
          const std::size_t i = (std::size_t(y) * std::size_t(p.w) + std::size_t(x)) * classes;
          const int a = scene::detail::argmax(&v[i], classes), b = scene::detail::argmax(&v[i + classes], classes);
          n += a + b == 2 && a != b;
        }
      return n;
    };
    CHECK(pairs(p.through(s)) < pairs(p.scores) / 4);
  }
}
