// SPDX-License-Identifier: MIT
// Scores against numbers worked out by hand.
#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "io_temp.hpp"
#include "rsseg/core/random.hpp"
#include "rsseg/train/metrics_report.hpp"

using namespace rsseg;
using doctest::Approx;
using test::has;
using train::confusion_matrix;

namespace {
// Labels (rows) and predictions: [[4, 1, 0, 0], [2, 3, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]]; two pixels ignored.
confusion_matrix example() {
  const std::vector<std::uint8_t> labels{0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 2, 255, 255};
  const std::vector<std::uint8_t> predictions{0, 0, 0, 0, 1, 0, 0, 1, 1, 1, 1, 0, 200};
  confusion_matrix m(4);
  m.add(labels.data(), predictions.data(), std::int64_t(labels.size()));
  return m;
}
}  // namespace

TEST_CASE("metrics: a matrix worked out by hand") {
  const confusion_matrix m = example();
  CHECK(m(1, 0) == 2);
  const train::segmentation_scores s = m.scores();
  CHECK(s.counted == 11);
  CHECK(s.ignored == 2);
  CHECK(s.classes[0].iou == Approx(4.0 / 7).epsilon(1e-15));
  CHECK(s.classes[1].iou == Approx(3.0 / 7).epsilon(1e-15));
  CHECK(s.classes[2].iou == 0.0);
  CHECK(std::isnan(s.classes[3].iou));
  CHECK(s.classes[0].precision == Approx(4.0 / 6).epsilon(1e-15));
  CHECK(s.classes[0].recall == Approx(4.0 / 5).epsilon(1e-15));
  CHECK(s.classes[0].f1 == Approx(8.0 / 11).epsilon(1e-15));
  CHECK(std::isnan(s.classes[2].precision));
  CHECK(s.classes[2].recall == 0.0);
  CHECK(s.classes[3].absent);
  CHECK(s.absent == std::vector<int>{3});
  CHECK(s.present == 3);
  CHECK(s.pixel_accuracy == Approx(7.0 / 11).epsilon(1e-15));
  CHECK(s.mean_iou == Approx((4.0 / 7 + 3.0 / 7 + 0) / 3).epsilon(1e-15));
  CHECK(s.mean_accuracy == Approx((4.0 / 5 + 3.0 / 5 + 0) / 3).epsilon(1e-15));
  CHECK(s.mean_f1 == Approx((8.0 / 11 + 6.0 / 10 + 0) / 3).epsilon(1e-15));
  CHECK(s.frequency_iou == Approx((5 * 4.0 / 7 + 5 * 3.0 / 7) / 11).epsilon(1e-15));
  const double po = 7.0 / 11, pe = (5.0 * 6 + 5 * 5 + 1 * 0) / 121;
  CHECK(s.kappa == Approx((po - pe) / (1 - pe)).epsilon(1e-14));
}

TEST_CASE("metrics: perfect, useless and empty") {
  std::vector<int> labels(100);
  for (int i = 0; i < 100; ++i) labels[std::size_t(i)] = i % 3;
  confusion_matrix perfect(3), blind(3), none(3);
  perfect.add(labels.data(), labels.data(), 100);
  CHECK(perfect.scores().mean_iou == 1.0);
  CHECK(perfect.scores().kappa == 1.0);
  const std::vector<int> zeros(100, 0);
  blind.add(labels.data(), zeros.data(), 100);
  CHECK(blind.scores().kappa == 0.0);
  CHECK(std::isnan(none.scores().mean_iou));
  CHECK(std::isnan(none.scores().pixel_accuracy));
  confusion_matrix one(2);
  one.add(zeros.data(), zeros.data(), 5);
  CHECK(std::isnan(one.scores().kappa));  // chance agrees fully
  CHECK(one.scores().mean_iou == 1.0);
}

TEST_CASE("metrics: merging parts gives the same as one pass; ids out of range count nothing") {
  random_stream random(1, 2);
  std::vector<std::uint8_t> labels(1000), predictions(1000);
  for (int i = 0; i < 1000; ++i) labels[std::size_t(i)] = std::uint8_t(random.below(6)), predictions[std::size_t(i)] = std::uint8_t(random.below(5));
  confusion_matrix whole(5, 5), parts(5, 5);
  whole.add(labels.data(), predictions.data(), 1000);
  for (int at = 0; at < 1000; at += 250) {
    confusion_matrix part(5, 5);
    part.add(labels.data() + at, predictions.data() + at, 250);
    parts.merge(part);
  }
  for (int l = 0; l < 5; ++l)
    for (int p = 0; p < 5; ++p) CHECK(parts(l, p) == whole(l, p));
  CHECK(parts.ignored() == whole.ignored());
  confusion_matrix small(4, 255);
  const std::string text = test::message_of<input_error>([&] { small.add(labels.data(), predictions.data(), 1000, "mask 'm.png'"); });
  CHECK(has(text, "mask 'm.png': class id"));
  CHECK(has(text, "expected 0 to 3 or 255"));
  CHECK(small.scores().counted == 0);
  CHECK_THROWS_AS(small.merge(whole), usage_error);
  const int negative = -1, zero = 0;
  CHECK_THROWS_AS(small.add(&negative, &zero, 1), input_error);
  CHECK_THROWS_AS(small.add(&zero, &negative, 1), usage_error);
}

TEST_CASE("metrics: table and JSON") {
  const confusion_matrix m = example();
  const std::string table = train::scores_table(m.scores(), {"roof", "Straße", "water", "snow"});
  CHECK(has(table, "roof      0.5714    0.7273    0.6667    0.8000    0.4545\n"));
  CHECK(has(table, "Straße    0.4286"));
  CHECK(has(table, "snow           -         -         -         -    0.0000\n"));
  CHECK(has(table, "mean      0.3333"));
  CHECK(has(table, "pixel accuracy 0.6364"));
  CHECK(has(table, "neither labelled nor predicted: snow\n"));
  const auto json = nlohmann::json::parse(train::scores_json(m, {"roof \"x\""}));
  CHECK(json["mean_iou"].get<double>() == Approx(1.0 / 3).epsilon(1e-15));
  CHECK(json["classes"][3]["iou"].is_null());
  CHECK(json["classes"][0]["name"] == "roof \"x\"");
  CHECK(json["classes"][1]["name"] == "class 1");
  CHECK(json["confusion"][1][0] == 2);
}

TEST_CASE("boundary F1: a square moved by one pixel, by hand") {
  // 8 x 8, class 1 is a 4 x 4 square at (2, 2), predicted one column to the right. Boundary of class 1: the ring of 12 pixels.
  std::vector<std::uint8_t> labels(64, 0), predictions(64, 0);
  for (int y = 2; y < 6; ++y)
    for (int x = 2; x < 6; ++x) labels[std::size_t(y * 8 + x)] = 1, predictions[std::size_t(y * 8 + x + 1)] = 1;
  train::boundary_f1 exact(2, 0), near(2, 1);
  exact.add(labels.data(), predictions.data(), 8, 8);
  near.add(labels.data(), predictions.data(), 8, 8);
  // Rings share the 3 top and 3 bottom pixels of columns 3..5; the columns of 2 inner pixels have none in common: 6 of 12 both ways.
  CHECK(exact.class_mean(1) == Approx(0.5).epsilon(1e-15));
  // Class 0: pixels with a 4-neighbour in the square: 16 around each square, both maps. Top and bottom: columns 2..5 and 3..6 share 3 each;
  // left column 1 against 2, right column 6 against 7 share none: 6 of 16.
  CHECK(exact.class_mean(0) == Approx(6.0 / 16).epsilon(1e-15));
  CHECK(exact.mean() == Approx((0.5 + 0.375) / 2).epsilon(1e-15));
  CHECK(near.class_mean(1) == 1.0);
  CHECK(near.class_mean(0) == 1.0);
}

TEST_CASE("boundary F1: distances are Euclidean, up to the tolerance and no further") {
  // One pixel of class 1 each, (3, 4) apart: distance 5.
  std::vector<std::uint8_t> labels(400, 0), predictions(400, 0);
  labels[5 * 20 + 5] = 1, predictions[9 * 20 + 8] = 1;
  train::boundary_f1 below(2, 4.999), at(2, 5.0);
  below.add(labels.data(), predictions.data(), 20, 20);
  at.add(labels.data(), predictions.data(), 20, 20);
  CHECK(below.class_mean(1) == 0.0);
  CHECK(at.class_mean(1) == 1.0);
  CHECK(train::boundary_f1::paper_tolerance(300, 400) == Approx(3.75));
}

TEST_CASE("boundary F1: ignored pixels, missing classes, filled pictures, several images") {
  std::vector<std::uint8_t> zeros(36, 0), half(36, 0), veiled(36, 0);
  for (int i = 18; i < 36; ++i) half[std::size_t(i)] = 1, veiled[std::size_t(i)] = 255;
  train::boundary_f1 score(3, 1);
  CHECK(std::isnan(score.add(zeros.data(), zeros.data(), 6, 6)));  // no boundary anywhere: no image
  CHECK(std::isnan(score.add(veiled.data(), half.data(), 6, 6)));  // the only boundary is against ignored pixels
  CHECK(score.images() == 0);
  CHECK(score.add(half.data(), half.data(), 6, 6) == 1.0);
  CHECK(score.add(half.data(), zeros.data(), 6, 6) == 0.0);
  CHECK(score.mean() == 0.5);
  CHECK(std::isnan(score.class_mean(2)));
  CHECK_THROWS_AS(train::boundary_f1(2, -1.0), usage_error);
}
