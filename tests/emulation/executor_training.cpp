// SPDX-License-Identifier: MIT
// The trainer on a CUDA device (emulated): the same losses as on the CPU, every step logged although losses are read a step late, checkpoints with
// the device's weights and moments, and a stop with a resume that changes no bit.
#include <doctest/doctest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>

#define RSSEG_WITH_CUDA 1
#include "../io_temp.hpp"
#include "../squares.hpp"
#include "rsseg/nets/entry.hpp"
#include "rsseg/train/trainer.hpp"

using namespace rsseg;
namespace fs = std::filesystem;
using test::squares, test::temporary_folder;

namespace {
/// Small enough for kernels that run as fibers.
void build_narrow(builder& b) {
  const value x = b.input("x", from_data);
  value y = conv_bn_relu(b, "a", "bn_a", x, 6, {.kernel = 3, .stride = 2});
  y = conv_bn_relu(b, "b", "bn_b", y, 6, {.kernel = 3});
  b.output("logits", resize_like(b, conv(b, "c", y, b.classes(from_data)), x), 1);
}
const network_entry narrow = {"narrow", "three convolutions", "", "", &build_narrow, {}, 1, 0, 16, true};

struct outcome {
  std::vector<float> weights;
  train::train_result result;
};
outcome train_on(bool cuda, const fs::path& out, std::uint64_t stop_at, bool resume, int accumulate = 1) {
  build_options b;
  b.classes = 2, b.bands = 3;
  basic_model<float> m(narrow.build, b);
  m.weights().initialise(5);
  train::train_options o;
  o.out = out.string(), o.steps = 6, o.batch = 2, o.accumulate = accumulate, o.workers = 0, o.resume = resume, o.seed = 5, o.tile = 24;
  o.augment = data::augment_options::none();
  o.augment.crop_height = o.augment.crop_width = 24;
  o.optimizer.kind = train::optimizer_kind::adamw, o.optimizer.ema = 0.5, o.optimizer.clip_norm = 1, o.schedule.base = 3e-3, o.evaluate_every = 1;
  if (cuda) o.cuda = std::make_shared<train::cuda_learner>(m, cuda::backend_options{});
  train::weights_info info;
  info.network = "narrow", info.classes = 2, info.bands = 3, info.normalize = "unit";
  train::trainer t(narrow, m, std::make_shared<squares>(4, 24), std::make_shared<squares>(1, 24), info, o);
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

TEST_CASE("executor: the trainer on a device follows the CPU, and resumes bit for bit") {
  temporary_folder a, b, c;
  const outcome host = train_on(false, a.path, 0, false), device = train_on(true, b.path, 0, false);
  REQUIRE(device.result.log.size() == host.result.log.size());
  int steps = 0;
  for (std::size_t i = 0; i < host.result.log.size(); ++i) {
    const auto &want = host.result.log[i], &got = device.result.log[i];
    CHECK(got["step"] == want["step"]);
    if (!want.contains("loss")) continue;
    ++steps;
    CHECK(std::abs(got["loss"].get<double>() - want["loss"].get<double>()) < 1e-3);
  }
  CHECK(steps == 6);
  CHECK(std::abs(device.result.state.best_miou - host.result.state.best_miou) < 0.02);
  CHECK(train_on(true, c.path, 3, false).result.interrupted);
  const outcome rest = train_on(true, c.path, 0, true);
  CHECK(rest.weights == device.weights);
  CHECK(rest.result.log.size() == device.result.log.size());
}

TEST_CASE("executor: accumulated gradients in the trainer") {
  temporary_folder a, b;
  const outcome host = train_on(false, a.path, 0, false, 3), device = train_on(true, b.path, 0, false, 3);
  CHECK(std::abs(device.result.last_loss - host.result.last_loss) < 1e-3);
}
