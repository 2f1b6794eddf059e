// SPDX-License-Identifier: MIT
// Training: it learns, it repeats bit for bit, a stop and a resume change nothing, and what goes wrong says so.
#include <doctest/doctest.h>

#include <cstdlib>
#include <filesystem>

#include "data_helpers.hpp"
#include "rsseg/nets/unet.hpp"
#include "rsseg/train/trainer.hpp"
#include "squares.hpp"

using namespace rsseg;
namespace fs = std::filesystem;
using test::squares, test::temporary_folder;

namespace {
const network_entry tiny = {"tiny", "U-Net of 4", "", "", &UNet<from_data, 4>::build, {}, 1, 0, 16, true};

struct outcome {
  std::vector<float> weights;
  train::train_result result;
};
outcome train_for(const fs::path& out, std::uint64_t steps, std::uint64_t stop_at, bool resume, int workers,
                  train::optimizer_kind kind = train::optimizer_kind::adamw, double lr = 3e-3) {
  build_options b;
  b.classes = 2, b.bands = 3;
  basic_model<float> m(tiny.build, b);
  m.weights().initialise(5);
  train::train_options o;
  o.out = out.string(), o.steps = steps, o.batch = 4, o.workers = workers, o.resume = resume, o.seed = 5, o.tile = 48;
  o.augment = data::augment_options::aerial(32);
  o.optimizer.kind = kind, o.optimizer.ema = 0.9, o.schedule.base = lr, o.evaluate_every = 0.5;
  train::weights_info info;
  info.network = "tiny", info.classes = 2, info.bands = 3, info.normalize = "unit";
  auto set = std::make_shared<squares>(8), val = std::make_shared<squares>(3);
  train::trainer t(tiny, m, set, val, info, o);
  train::train_events e;
  std::uint64_t now = 0;
  e.step = [&](const train::training_state& s, double, double, double) { now = s.step; };
  e.interrupted = [&] { return stop_at && now >= stop_at; };
  outcome r;
  r.result = t.run(e);
  r.weights = m.weights().values();
  return r;
}
}  // namespace

TEST_CASE("training learns, repeats, and resumes bit for bit with any number of loader threads") {
  temporary_folder a, b, c;
  const outcome whole = train_for(a.path, 60, 0, false, 2);
  CHECK(whole.result.state.best_miou > 0.8);
  CHECK(whole.result.state.running_loss < 0.5 * whole.result.log[0]["loss"].get<double>());
  const outcome again = train_for(b.path, 60, 0, false, 0);
  CHECK(whole.weights == again.weights);
  const outcome first = train_for(c.path, 60, 23, false, 1);
  CHECK(first.result.interrupted);
  CHECK(first.result.state.step == 23);
  CHECK(first.weights != whole.weights);
  const outcome rest = train_for(c.path, 60, 0, true, 3);
  CHECK(rest.weights == whole.weights);
  CHECK(rest.result.log.size() == whole.result.log.size());
  CHECK(rest.result.state.best_miou == whole.result.state.best_miou);
  CHECK(fs::exists(c.path / "weights.safetensors"));
}

TEST_CASE("a checkpoint of another training is refused, a damaged one too") {
  temporary_folder a;
  train_for(a.path, 4, 0, false, 0);
  CHECK_THROWS_WITH_AS(train_for(a.path, 5, 0, true, 0), doctest::Contains("steps"), input_error);
  const auto file = a.path / "checkpoint.safetensors";
  fs::resize_file(file, fs::file_size(file) / 2);
  CHECK_THROWS_AS(train_for(a.path, 4, 0, true, 0), input_error);
}

TEST_CASE("a loss that is no number stops the training and names the remedy") {
  temporary_folder a;
  CHECK_THROWS_WITH_AS(train_for(a.path, 40, 0, false, 0, train::optimizer_kind::sgd, 1e30), doctest::Contains("--lr"), numeric_error);
}

TEST_CASE("weights go to a file and back, refuse another network, and adapt to another band count") {
  temporary_folder a;
  build_options b;
  b.classes = 2, b.bands = 3;
  basic_model<float> m(tiny.build, b), same(tiny.build, b);
  m.weights().initialise(3);
  same.weights().initialise(4);
  const std::string path = (a.path / "w.safetensors").string();
  train::weights_info info;
  info.network = "tiny", info.classes = 2, info.bands = 3, info.class_names = {"a", "b"}, info.colours = {{1, 2, 3}, {4, 5, 6}},
  info.normalize = "imagenet";
  io::write_safetensors(path, train::weights_as_tensors(m.weights()), info.to_metadata());
  const io::safetensors_reader file(path);
  CHECK(train::load_weights(file, same.weights()).complete());
  CHECK(same.weights().values() == m.weights().values());
  const auto read = train::weights_info::from(file);
  CHECK(read.network == "tiny");
  CHECK(read.class_names == info.class_names);
  CHECK(read.colours == info.colours);
  // PyTorch order in the file: (out, in, kh, kw)
  const auto* first = file.find("inc.double_conv.0.weight");
  REQUIRE(first);
  CHECK(first->dims == std::vector<std::int64_t>{4, 3, 3, 3});
  const auto values = file.values<float>("inc.double_conv.0.weight");
  const float* ours = m.weights().data(m.weights().find("inc.double_conv.0.weight"));
  CHECK(values[(1 * 3 + 2) * 9 + 3 * 1 + 2] == ours[((1 * 3 + 1) * 3 + 2) * 3 + 2]);

  b.bands = 5;
  basic_model<float> five(tiny.build, b);
  five.weights().initialise(1);
  const auto report = train::load_weights(file, five.weights());
  CHECK(report.adapted.size() == 1);
  const float* w5 = five.weights().data(five.weights().find("inc.double_conv.0.weight"));
  CHECK(w5[0] == doctest::Approx(ours[0] * 3 / 5));
  CHECK(w5[4] == doctest::Approx((ours[0] + ours[1] + ours[2]) / 3 * 3 / 5));
  b.classes = 7;
  basic_model<float> seven(tiny.build, b);
  CHECK_THROWS_WITH_AS(train::load_weights(file, seven.weights()), doctest::Contains("outc.conv"), input_error);
}
