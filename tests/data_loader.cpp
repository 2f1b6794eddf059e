// SPDX-License-Identifier: MIT
// Augmentation, sampling and the loader: geometry, determinism, errors of workers, resuming.
#include <doctest/doctest.h>

#include <set>

#include "data_helpers.hpp"
#include "rsseg/data/loader.hpp"

using namespace rsseg;
using namespace rsseg::data;
using test::has;
using test::message_of;

namespace {

/// Sets in memory: image value at (x, y) tells the place, the mask follows it.
struct memory_set final : dataset {
  std::vector<std::shared_ptr<const sample>> samples;
  class_table table = class_table::numbered(4);
  int depth = 3;
  std::size_t broken = std::size_t(-1);
  std::size_t size() const override { return samples.size(); }
  std::string name(std::size_t i) const override { return samples[i]->name; }
  const class_table& classes() const override { return table; }
  int bands() const override { return depth; }
  std::shared_ptr<const sample> load(std::size_t i) const override {
    if (i == broken) throw input_error("folder/" + samples[i]->name + ".png: truncated");
    return samples[i];
  }
};

/// Band 0 holds x, band 1 holds y, band 2 the index of the image; the mask is (x / 8 + y / 8) % 2, or 3 in a single 2x2 spot.
std::shared_ptr<sample> place_sample(int height, int width, int index) {
  auto s = std::make_shared<sample>();
  s->name = "p" + std::to_string(index);
  std::vector<std::uint8_t> v;
  s->labels = {height, width, {}};
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x) {
      v.insert(v.end(), {std::uint8_t(x), std::uint8_t(y), std::uint8_t(index)});
      s->labels.ids.push_back(std::uint8_t(x >= 50 && x < 52 && y >= 10 && y < 12 ? 3 : (x / 8 + y / 8) % 2));
    }
  s->image = {height, width, 3, std::move(v), std::nullopt};
  return s;
}

std::shared_ptr<memory_set> places(int count, int height = 40, int width = 60) {
  auto set = std::make_shared<memory_set>();
  for (int i = 0; i < count; ++i) set->samples.push_back(place_sample(height, width, i));
  return set;
}

struct crop {
  std::vector<float> image;
  std::vector<std::int32_t> target;
};
crop draw(const sample& s, const augment_options& o, int h, int w, std::uint64_t stream, focus_point focus = {}, normalization norm = {}) {
  crop c{std::vector<float>(std::size_t(h * w * s.image.bands)), std::vector<std::int32_t>(std::size_t(h * w))};
  random_stream random(7, stream);
  augment_into(s, o, norm, 255, random, c.image.data(), c.target.data(), focus);
  return c;
}

bool same(const batch& a, const batch& b) {
  return a.epoch == b.epoch && a.number == b.number && a.index == b.index && a.images.extent() == b.images.extent() &&
         std::equal(a.images.begin(), a.images.end(), b.images.begin()) && std::equal(a.targets.begin(), a.targets.end(), b.targets.begin());
}

}  // namespace

TEST_SUITE_BEGIN("data");

TEST_CASE("without augmentation the image comes through, normalised") {
  const auto s = place_sample(9, 7, 3);
  const normalization norm{{0.1f, 0.2f, 0.0f}, {0.5f, 0.25f, 1.0f}};
  const crop c = draw(*s, augment_options::none(), 9, 7, 0, {}, norm);
  for (int y = 0; y < 9; ++y)
    for (int x = 0; x < 7; ++x) {
      const std::size_t i = std::size_t(y * 7 + x);
      CHECK(c.image[i * 3] == doctest::Approx((x / 255.0 - 0.1) / 0.5));
      CHECK(c.image[i * 3 + 1] == doctest::Approx((y / 255.0 - 0.2) / 0.25));
      CHECK(c.target[i] == s->labels.at(y, x));
    }
}

TEST_CASE("crops, flips and quarter turns move whole pixels, and the mask with them") {
  const auto s = place_sample(40, 60, 0);
  augment_options o;
  o.crop_height = 16, o.crop_width = 24;
  o.flip_horizontal = o.flip_vertical = 0.5;
  o.quarter_turns = true;
  std::set<int> kinds, lefts;
  for (std::uint64_t k = 0; k < 300; ++k) {
    const crop c = draw(*s, o, 16, 24, k);
    const auto at = [&](int y, int x) {
      const float* p = &c.image[std::size_t(y * 24 + x) * 3];
      return std::pair(int(std::lround(p[0] * 255)), int(std::lround(p[1] * 255)));
    };
    bool all = true;
    for (int y = 0; y < 16; ++y)
      for (int x = 0; x < 24; ++x) {
        const auto [sx, sy] = at(y, x);
        all = all && c.image[std::size_t(y * 24 + x) * 3] == float(sx) * (1.0f / 255.0f) && c.target[std::size_t(y * 24 + x)] == s->labels.at(sy, sx);
      }
    CHECK(all);
    const auto [x0, y0] = at(0, 0);
    const auto [xr, yr] = at(0, 1);
    const auto [xd, yd] = at(1, 0);
    kinds.insert((xr - x0 + 1) * 27 + (yr - y0 + 1) * 9 + (xd - x0 + 1) * 3 + (yd - y0 + 1));
    lefts.insert(x0);
  }
  CHECK(kinds.size() == 8);    // all symmetries of the square
  CHECK(lefts.size() > 30);    // and many places
  CHECK(*lefts.begin() == 0);  // up to the edge
  CHECK(*lefts.rbegin() == 59);
}

TEST_CASE("an image smaller than the crop lies inside it; around it the mean and the ignored id") {
  const auto s = place_sample(4, 5, 9);
  augment_options o;
  o.crop_height = 8, o.crop_width = 10;
  const normalization norm{{0.3f}, {2.0f}};
  const crop c = draw(*s, o, 8, 10, 5, {}, norm);
  int inside = 0;
  for (std::size_t i = 0; i < c.target.size(); ++i) {
    if (c.target[i] == 255) {
      CHECK(c.image[i * 3] == 0.0f);
    } else {
      ++inside;
      CHECK(c.image[i * 3 + 2] == doctest::Approx((9 / 255.0 - 0.3) / 2));
    }
  }
  CHECK(inside == 20);
}

TEST_CASE("zoom is bilinear in the image and nearest in the mask") {
  const auto s = place_sample(40, 60, 0);
  augment_options o;
  o.crop_height = o.crop_width = 20;
  o.scale_min = o.scale_max = 2;
  const crop c = draw(*s, o, 20, 20, 1);
  for (int x = 2; x < 18; ++x) {  // a linear ramp stays one, at half the slope
    const float* p = &c.image[std::size_t(10 * 20 + x) * 3];
    CHECK((p[3] - p[0]) * 255 == doctest::Approx(0.5).epsilon(1e-3));
  }
  for (const std::int32_t id : c.target) CHECK((id == 0 || id == 1 || id == 3));
}

TEST_CASE("small rotations keep the centre's neighbourhood and ignore what lies outside") {
  const auto s = place_sample(40, 40, 0);
  augment_options o;
  o.rotate_degrees = 30;
  int outside = 0;
  for (std::uint64_t k = 0; k < 20; ++k) {
    const crop c = draw(*s, o, 40, 40, k);
    const float* p = &c.image[std::size_t(20 * 40 + 20) * 3];
    CHECK(p[0] * 255 == doctest::Approx(20).epsilon(0.06));
    CHECK(p[1] * 255 == doctest::Approx(20).epsilon(0.06));
    for (const std::int32_t id : c.target) outside += id == 255;
  }
  CHECK(outside > 0);
}

TEST_CASE("colours change the image, stay in range, and never touch the mask") {
  const auto s = place_sample(16, 16, 100);
  augment_options o;
  o.colours.brightness = o.colours.contrast = o.colours.saturation = 0.5, o.colours.hue = 0.5, o.colours.noise = 0.2;
  o.colours.blur_probability = 1;
  const crop plain = draw(*s, {}, 16, 16, 3), c = draw(*s, o, 16, 16, 3);
  CHECK(plain.image != c.image);
  CHECK(plain.target == c.target);
  for (const float v : c.image) CHECK((v >= 0 && v <= 1));
  // hue leaves grey alone
  auto grey = std::make_shared<sample>(*s);
  grey->image.values = std::vector<std::uint8_t>(16 * 16 * 3, 90);
  augment_options hue;
  hue.colours.hue = 0.5;
  for (const float v : draw(*grey, hue, 16, 16, 4).image) CHECK(v == doctest::Approx(90 / 255.0).epsilon(1e-3));
  // a blur keeps a constant, and the mean of the middle
  augment_options blur;
  blur.colours.blur_probability = 1;
  for (const float v : draw(*grey, blur, 16, 16, 5).image) CHECK(v == doctest::Approx(90 / 255.0).epsilon(1e-5));
}

TEST_CASE("float images: what is not finite becomes the mean and is ignored") {
  auto s = std::make_shared<sample>();
  s->name = "dsm";
  s->image = {1, 3, 1, std::vector<float>{2.0f, std::numeric_limits<float>::quiet_NaN(), 6.0f}, std::nullopt};
  s->labels = {1, 3, {1, 1, 0}};
  const crop c = draw(*s, {}, 1, 3, 0, {}, normalization{{4.0f}, {2.0f}});
  CHECK(c.image == std::vector<float>{-1.0f, 0.0f, 1.0f});
  CHECK(c.target == std::vector<std::int32_t>{1, 255, 0});
}

TEST_CASE("a focus point is inside every crop drawn for it") {
  const auto s = place_sample(40, 60, 0);
  augment_options o = augment_options::aerial(12);
  for (std::uint64_t k = 0; k < 200; ++k) {
    const crop c = draw(*s, o, 12, 12, k, {50, 10});
    CHECK(std::count(c.target.begin(), c.target.end(), 3) > 0);  // the 2x2 spot
  }
}

TEST_CASE("bad options are refused") {
  augment_options o;
  o.crop_height = 3;
  CHECK_THROWS_AS(o.check(), usage_error);
  o = {};
  o.scale_min = 0;
  CHECK_THROWS_AS(o.check(), usage_error);
  o = {};
  o.flip_vertical = 1.5;
  CHECK_THROWS_AS(o.check(), usage_error);
  o = {};
  o.colours.contrast = -1;
  CHECK_THROWS_AS(o.check(), usage_error);
  loader_options l;
  l.batch = 0;
  CHECK_THROWS_AS(loader(places(1), l), usage_error);
  l = {};
  l.normalize = normalization::parse("1,2/3,4");
  CHECK(has(message_of<usage_error>([&] { loader(places(1), l); }), "3"));
  CHECK_THROWS_AS(loader(std::make_shared<memory_set>(), {}), input_error);
}

TEST_CASE("normalisation as text") {
  for (const char* text : {"unit", "imagenet", "0.5/0.25", "0.100000001,0.200000003/1,2"}) CHECK(normalization::parse(text).text() == text);
  for (const char* text : {"", "image", "1", "1/", "/1", "1/0", "1/-1", "a/1", "1,,2/1", "nan/1", "1/inf"}) {
    CAPTURE(text);
    CHECK_THROWS_AS(normalization::parse(text), usage_error);
  }
  const auto set = places(2, 8, 8);
  const normalization n = measure_normalization(*set, 64, 1);
  CHECK(n.mean[0] == doctest::Approx(3.5 / 255));
  CHECK(n.std[0] == doctest::Approx(std::sqrt(5.25) / 255));
  CHECK(n.mean[2] == doctest::Approx(0.5 / 255));
}

TEST_CASE("permuted visits everything once, and differs by epoch") {
  for (const std::uint64_t count : {1, 2, 3, 5, 16, 17, 100, 1000}) {
    std::set<std::uint64_t> seen;
    for (std::uint64_t i = 0; i < count; ++i) seen.insert(permuted(i, count, 1, 0));
    CHECK(seen.size() == count);
    CHECK(*seen.rbegin() == count - 1);
  }
  int equal = 0;
  for (std::uint64_t i = 0; i < 100; ++i) equal += permuted(i, 100, 1, 0) == permuted(i, 100, 1, 1);
  CHECK(equal < 10);
}

TEST_CASE("batches do not depend on the number of workers") {
  const auto set = places(7);
  loader_options o;
  o.batch = 3, o.workers = 0;
  o.augment = augment_options::aerial(16);
  o.augment.rotate_degrees = 10, o.augment.colours.noise = 0.05, o.augment.colours.blur_probability = 0.5;
  o.sampling.balance = 0.5;
  std::vector<batch> expected;
  {
    loader l(set, o);
    CHECK(l.batches_per_epoch() == 3);
    for (int i = 0; i < 8; ++i) expected.push_back(l.next());
  }
  CHECK(expected[2].last_of_epoch);
  CHECK(expected[3].epoch == 1);
  CHECK(expected[0].images.extent() == shape{3, 3, 16, 16});
  CHECK(expected[0].targets.extent() == shape{3, 1, 16, 16});
  for (const int workers : {1, 2, 5}) {
    o.workers = workers;
    for (const int prefetch : {1, 3, 9}) {
      o.prefetch = prefetch;
      loader l(set, o);
      for (const batch& b : expected) CHECK(same(l.next(), b));
    }
  }
  o.seed = 2;
  loader other(set, o);
  CHECK_FALSE(same(other.next(), expected[0]));
}

TEST_CASE("a restored loader goes on bitwise") {
  const auto set = places(5);
  loader_options o;
  o.batch = 2;
  o.augment = augment_options::aerial(12);
  loader a(set, o);
  for (int i = 0; i < 4; ++i) a.next();
  const loader_state at = a.state();
  CHECK(at == loader_state{1, 1});
  std::vector<batch> rest;
  for (int i = 0; i < 5; ++i) rest.push_back(a.next());
  loader b(set, o);
  b.next();
  b.restore(at);
  CHECK(b.state() == at);
  for (const batch& r : rest) CHECK(same(b.next(), r));
  a.restore(at);  // and back
  CHECK(same(a.next(), rest[0]));
}

TEST_CASE("the error of a worker reaches the consumer in its turn, and names the file") {
  const auto set = places(6);
  set->broken = 3;
  loader_options o;
  o.sampling.shuffle = false;
  for (const int workers : {0, 1, 3}) {
    o.workers = workers;
    loader l(set, o);
    for (int i = 0; i < 3; ++i) CHECK(l.next().index[0] == std::size_t(i));
    CHECK(message_of<input_error>([&] { l.next(); }) == "folder/p3.png: truncated");
    CHECK(l.next().index[0] == 4);  // it stands behind the broken one
  }
}

TEST_CASE("evaluation order: every image once, the last batch as large as it is") {
  const auto set = places(5, 8, 8);
  loader_options o;
  o.batch = 2, o.fill_last = false, o.sampling.shuffle = false;
  loader l(set, o);
  std::vector<std::size_t> seen;
  for (int i = 0; i < 3; ++i) {
    const batch b = l.next();
    seen.insert(seen.end(), b.index.begin(), b.index.end());
    CHECK(b.images.extent().n == int(b.index.size()));
  }
  CHECK(seen == std::vector<std::size_t>{0, 1, 2, 3, 4});
}

TEST_CASE("whole images of different size do not fit into one batch") {
  auto set = places(1, 8, 8);
  set->samples.push_back(place_sample(8, 9, 1));
  loader_options o;
  o.batch = 2, o.sampling.shuffle = false;
  loader l(set, o);
  CHECK(has(message_of<input_error>([&] { l.next(); }), "crop"));
}

TEST_CASE("class-balanced draws show a rare class far more often; area draws follow the area") {
  auto set = places(4);  // class 3 is 4 of 2400 pixels
  loader_options o;
  o.augment.crop_height = o.augment.crop_width = 8;
  o.workers = 0, o.batch = 8;
  const auto share = [&](double balance) {
    o.sampling.balance = balance;
    loader l(set, o);
    int with = 0;
    for (int i = 0; i < 40; ++i) {
      const batch b = l.next();
      for (int n = 0; n < 8; ++n) {
        bool hit = false;
        for (int y = 0; y < 8; ++y)
          for (int x = 0; x < 8; ++x) hit = hit || b.targets(n, 0, y, x) == 3;
        with += hit;
      }
    }
    return with / 320.0;
  };
  CHECK(share(0) < 0.08);
  CHECK(share(1) > 0.28);                             // one of the three classes that occur
  set->samples.push_back(place_sample(200, 240, 4));  // 48000 of 57600 pixels
  sampler_options by_area;
  by_area.by_area = true;
  const sampler s(*set, by_area, 1);
  int large = 0;
  for (std::uint64_t k = 0; k < 1000; ++k) large += s.at(0, k).image == 4;
  CHECK(large > 780);
  CHECK(large < 880);
}

TEST_CASE("class weights from counts") {
  class_counts c(5);
  histogram h{};
  const int n[5] = {1000, 400, 50, 10, 4000};
  for (std::size_t i = 0; i < 5; ++i) h[i] = std::uint64_t(n[i]);
  c.add(h);
  const auto is = [](const std::vector<double>& got, std::vector<double> want) {
    REQUIRE(got.size() == want.size());
    for (std::size_t i = 0; i < got.size(); ++i) CHECK(got[i] == doctest::Approx(want[i]).epsilon(1e-6));
  };
  is(class_weights(c, class_weighting::median_frequency), {0.4, 1, 8, 40, 0.1});
  is(class_weights(c, class_weighting::inverse_frequency), {0.040404040404, 0.10101010101, 0.808080808081, 4.0404040404, 0.010101010101});
  is(class_weights(c, class_weighting::enet), {5.40706348217, 11.2152729187, 34.7940874021, 46.3035694242, 1.7822109121});
  is(class_weights(c, class_weighting::effective_number, 0.999), {0.062472430774, 0.11976930193, 0.809552461575, 3.9679687072, 0.0402370985259});
  // a class that is in one image only, and one that is nowhere
  class_counts d(3);
  histogram a{}, b{};
  a[0] = 90, a[1] = 10, b[0] = 100, b[255] = 50;
  d.add(a), d.add(b);
  is(class_weights(d, class_weighting::median_frequency), {0.525 / 0.95, 0.525 / 0.1, 0});
  CHECK(d.ignored == 50);
  CHECK_THROWS_AS(parse_class_weighting("heavy"), usage_error);
}

TEST_SUITE_END();
