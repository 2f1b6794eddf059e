// SPDX-License-Identifier: MIT
// Adversarial pre-training: both networks learn, the discriminator's weights move in its own steps only, a stop and a resume change nothing.
#include <doctest/doctest.h>

#include <cstdlib>
#include <filesystem>

#include "io_temp.hpp"
#include "rsseg/nets/smaf_net.hpp"
#include "rsseg/train/adversarial.hpp"
#include "squares.hpp"

using namespace rsseg;
namespace fs = std::filesystem;
using test::squares, test::temporary_folder;

namespace {
constexpr adversarial_stage stage{&SMAFGenerator<from_data, 2>::build, &SMAFDiscriminator<from_data, 2>::build, "disc", 2e-3, 0.5};
const build_options two_classes{.classes = 2, .bands = 3};

struct outcome {
  std::vector<float> generator, discriminator;
  train::train_result result;
};
outcome train_for(const fs::path& out, std::uint64_t steps, std::uint64_t stop_at, bool resume) {
  train::train_options o;
  o.out = out.string(), o.steps = steps, o.batch = 2, o.workers = 0, o.resume = resume, o.seed = 3;
  o.augment = data::augment_options::none(), o.augment.crop_height = o.augment.crop_width = 32;
  train::adversarial_trainer t(stage, two_classes, std::make_shared<squares>(4, 32), o);
  std::uint64_t now = 0;
  train::train_events e;
  e.step = [&](const train::training_state& s, double, double, double) { now = s.step; };
  e.interrupted = [&] { return stop_at && now >= stop_at; };
  outcome r;
  r.result = t.run(e);
  r.generator = t.generator().weights().values(), r.discriminator = t.discriminator().weights().values();
  return r;
}
double mean_of(const std::vector<nlohmann::json>& log, const char* field, std::size_t begin, std::size_t count) {
  double sum = 0;
  for (std::size_t i = begin; i < begin + count; ++i) sum += log[i][field].get<double>() / double(count);
  return sum;
}
}  // namespace

TEST_CASE("adversarial pre-training: the generator learns the classes, the discriminator to tell, and it repeats across a stop") {
  temporary_folder a, b;
  const outcome whole = train_for(a.path, 40, 0, false);
  const auto& log = whole.result.log;
  REQUIRE(log.size() == 40);
  CHECK(mean_of(log, "loss", 35, 5) < 0.6 * mean_of(log, "loss", 0, 5));
  CHECK(mean_of(log, "discriminator", 35, 5) < mean_of(log, "discriminator", 0, 5));
  for (const char* field : {"adversarial", "lr", "seconds"}) CHECK(log[7].contains(field));
  const outcome first = train_for(b.path, 40, 17, false);
  CHECK(first.result.interrupted);
  CHECK(first.result.state.step == 17);
  CHECK(first.generator != whole.generator);
  const outcome rest = train_for(b.path, 40, 0, true);
  CHECK(rest.generator == whole.generator);
  CHECK(rest.discriminator == whole.discriminator);
  CHECK(rest.result.log.size() == 40);
  const outcome finished = train_for(b.path, 40, 0, true);  // nothing is left to do
  CHECK(finished.discriminator == whole.discriminator);
  CHECK_THROWS_WITH_AS(train_for(b.path, 41, 0, true), doctest::Contains("steps"), input_error);
}

TEST_CASE("what was learnt goes to the network of the second stage, where generator and discriminator stay as they are") {
  temporary_folder a;
  train::train_options o;
  o.out = a.path.string(), o.steps = 2, o.batch = 2, o.workers = 0;
  o.augment = data::augment_options::none(), o.augment.crop_height = o.augment.crop_width = 32;
  const auto set = std::make_shared<squares>(4, 32);
  train::adversarial_trainer t(stage, two_classes, set, o);
  t.run({});
  basic_model<float> second(&SMAFSegmenter<from_data, 2>::build, two_classes);
  second.weights().initialise(1);
  t.give(second.weights());
  const auto& w = second.weights();
  const auto same = [&](const parameter_store<float>& from, const std::string& name) {
    const int i = from.find(name), j = w.find(name);
    REQUIRE(i >= 0);
    REQUIRE(j >= 0);
    return std::equal(from.data(i), from.data(i) + from.entries()[std::size_t(i)].size, w.data(j));
  };
  for (const char* name : {"disc.2.0.weight", "disc.2.1.running_var", "disc_head.weight"}) {
    CHECK(same(t.discriminator().weights(), name));
    CHECK(same(t.generator().weights(), name));  // the generator's copy follows
  }
  CHECK(same(t.generator().weights(), "generator.dec.0.1.0.weight"));
  const std::vector<float> before = w.values();
  o.out = (a.path / "second").string(), o.steps = 3, o.schedule.base = 0.05;
  const network_entry entry = {"smaf", "", "", "", &SMAFSegmenter<from_data, 2>::build, {}, 16, 0, 32};
  train::weights_info info;
  info.classes = 2, info.bands = 3;
  train::trainer(entry, second, set, nullptr, info, o).run({});
  int moved = 0;
  for (const stored_tensor& e : w.entries()) {
    const bool fixed = e.name.rfind("generator", 0) == 0 || e.name.rfind("disc", 0) == 0;
    const bool equal = std::equal(before.begin() + std::ptrdiff_t(e.offset), before.begin() + std::ptrdiff_t(e.offset + e.size),
                                  w.values().begin() + std::ptrdiff_t(e.offset));
    if (fixed) CHECK_MESSAGE(equal, e.name);
    moved += !fixed && !equal;
  }
  CHECK(moved > 20);
}

TEST_CASE("real maps: one-hot labels, the generator's values where labels are ignored") {
  tensor<std::int32_t> labels(shape{1, 1, 1, 2}, 255);
  labels(0, 0, 0, 0) = 1;
  tensor<float> maps(shape{1, 3, 1, 2}, 0.25f);
  const auto real = train::one_hot(labels, 255, maps);
  CHECK(real(0, 0, 0, 0) == 0);
  CHECK(real(0, 1, 0, 0) == 1);
  for (int k = 0; k < 3; ++k) CHECK(real(0, k, 0, 1) == 0.25f);
}
