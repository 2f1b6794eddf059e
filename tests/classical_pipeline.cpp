// SPDX-License-Identifier: MIT
// Learners and the classical pipeline on generated texture; model files that are broken. Without OpenCV: the message.
#include <doctest/doctest.h>

#include <cmath>
#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

#include "rsseg/classical/pipeline.hpp"

using namespace rsseg;
using namespace rsseg::classical;

TEST_CASE("learner names") {
  CHECK(learner_of("svm-rbf") == learner::svm_rbf);
  CHECK_THROWS_AS(learner_of("oracle"), usage_error);
}

#if !RSSEG_HAS_OPENCV_ML

TEST_CASE("without OpenCV the pipeline says what to install") {
  sample_collector collector(1, 2, {});
  try {
    collector.train({"a", "b"}, {});
    CHECK(false);
  } catch (const usage_error& e) {
    CHECK(std::string(e.what()).find("libopencv-ml-dev") != std::string::npos);
  }
}

#else

namespace {
/// Left: flat dark; right: bright noise; a band of flat bright at the bottom.
struct picture {
  int h = 90, w = 96;
  std::vector<float> image;
  std::vector<std::int32_t> mask;
  explicit picture(std::uint64_t seed) {
    random_stream random(seed, 9);
    for (int y = 0; y < h; ++y)
      for (int x = 0; x < w; ++x) {
        const int k = y > 65 ? 2 : x < w / 2 ? 0 : 1;
        mask.push_back(random.below(10) == 0 ? 255 : k);
        for (int c = 0; c < 3; ++c) image.push_back(float((k == 0 ? 70 : 150) + random.uniform(-1, 1) * (k == 1 ? 70 : 15)));
      }
  }
};

double accuracy(const std::vector<std::int32_t>& label, const picture& p) {
  double right = 0, all = 0;
  for (std::size_t i = 0; i < label.size(); ++i)
    if (p.mask[i] != 255) all += 1, right += label[i] == p.mask[i];
  return right / all;
}

struct temporary_folder {
  std::string path = (std::filesystem::temp_directory_path() / "rsseg_classical_test").string();
  temporary_folder() { std::filesystem::create_directories(path); }
  ~temporary_folder() { std::filesystem::remove_all(path); }
};
}  // namespace

TEST_CASE("every learner maps generated texture, survives a file, and gives the same scores for any number of threads") {
  const picture train(1), test(2);
  const temporary_folder folder;
  feature_options f;
  f.radius = 3;
  sample_collector collector(3, 3, f, 150, 5);
  collector.add(train.image.data(), train.h, train.w, train.mask.data());
  CHECK(collector.seen()[0] + collector.seen()[1] + collector.seen()[2] ==
        std::int64_t(train.mask.size()) - std::count(train.mask.begin(), train.mask.end(), 255));
  for (int kind = 0; kind < 5; ++kind)
    for (const char* extension : {".yml", ".json"}) {
      CAPTURE(learner_names[kind]);
      learner_options o;
      o.kind = learner(kind), o.trees = 30;
      const auto model = collector.train({"flat", "rough", "bright"}, o);
      const std::string path = folder.path + "/model" + extension;
      model.save(path);
      const auto loaded = pixel_classifier::load(path);
      CHECK(loaded.class_names() == model.class_names());
      CHECK(loaded.bands() == 3);
      CHECK(loaded.options().radius == 3);
      std::vector<float> a(test.mask.size() * 3), b(a.size());
      const int before = thread_setting();
      set_threads(1);
      classify(model, test.image.data(), test.h, test.w, 3, a.data());
      set_threads(3);
      const auto label = map_classical(loaded, test.image.data(), test.h, test.w, 3, {}, b.data());
      set_threads(before);
      double worst = 0;
      for (std::size_t i = 0; i < a.size(); ++i) worst = std::max(worst, double(std::abs(a[i] - b[i])));
      CHECK(worst < 1e-5);
      CHECK(accuracy(label, test) > 0.9);
      for (std::size_t i = 0; i < a.size(); i += 3) CHECK(a[i] + a[i + 1] + a[i + 2] == doctest::Approx(1).epsilon(1e-4));
    }
}

TEST_CASE("refinements on top, and one class missing from the training data") {
  const picture train(3), test(4);
  feature_options f;
  f.radius = 2;
  sample_collector collector(3, 4, f, 100);
  collector.add(train.image.data(), train.h, train.w, train.mask.data());
  const auto model = collector.train({"flat", "rough", "bright", "never"}, {.trees = 20});
  map_options o;
  const double plain = accuracy(map_classical(model, test.image.data(), test.h, test.w, 3, o), test);
  o.refinement = map_refinement::grid_crf;
  CHECK(accuracy(map_classical(model, test.image.data(), test.h, test.w, 3, o), test) >= plain - 0.01);
  o.refinement = map_refinement::dense_crf;
  o.dense = refine::usual_dense_crf(20, 30, 3);
  CHECK(accuracy(map_classical(model, test.image.data(), test.h, test.w, 3, o), test) >= plain - 0.02);
  o.refinement = map_refinement::regions;
  o.regions.threshold = 100;
  CHECK(accuracy(map_classical(model, test.image.data(), test.h, test.w, 3, o), test) >= plain - 0.05);
  for (const auto kind : {learner::svm_linear, learner::logistic, learner::mlp}) {
    const auto other = collector.train({"flat", "rough", "bright", "never"}, {.kind = kind});
    CHECK(accuracy(map_classical(other, test.image.data(), test.h, test.w, 3, {}), test) > 0.85);
  }
}

TEST_CASE("bad input: bands that do not match, nothing labelled, broken model files") {
  const picture p(5);
  const temporary_folder folder;
  feature_options f;
  f.glcm = false, f.radius = 2;
  sample_collector collector(3, 3, f, 50), empty(3, 3, f, 50);
  const std::vector<std::int32_t> ignored(p.mask.size(), 255);
  empty.add(p.image.data(), p.h, p.w, ignored.data());
  CHECK_THROWS_AS(empty.train({"a", "b", "c"}, {}), usage_error);
  collector.add(p.image.data(), p.h, p.w, p.mask.data());
  CHECK_THROWS_AS(collector.train({"a"}, {}), usage_error);
  const auto model = collector.train({"a", "b", "c"}, {.trees = 3});
  std::vector<float> scores(p.mask.size() * 3);
  CHECK_THROWS_AS(classify(model, p.image.data(), p.h, p.w, 2, scores.data()), usage_error);
  const std::string good = folder.path + "/good.yml", bad = folder.path + "/bad.yml";
  model.save(good);
  CHECK_THROWS_AS(model.save(folder.path + "/missing/model.yml"), output_error);
  CHECK_THROWS_AS(pixel_classifier::load(folder.path + "/none.yml"), input_error);
  const std::string text = io::read_text(good, "model");
  const auto refuse = [&](const std::string& content) {
    io::write_file(bad, content);
    CHECK_THROWS_AS(pixel_classifier::load(bad), input_error);
  };
  refuse("hello");
  refuse("%YAML:1.0\n---\nother: 3\n");
  refuse(text.substr(0, text.size() / 3));
  auto changed = [&](const std::string& from, const std::string& to) {
    std::string t = text;
    const auto at = t.find(from);
    REQUIRE(at != std::string::npos);
    return t.replace(at, from.size(), to);
  };
  refuse(changed("bands: 3", "bands: 4"));
  refuse(changed("random-forest", "svm-rbf"));
  refuse(changed("random-forest", "oracle"));
  refuse(changed("lbp: 1", "lbp: 0"));
  refuse(changed("radius: 2", "radius: 0"));
}

#endif
