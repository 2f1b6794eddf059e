// SPDX-License-Identifier: MIT
// Systems of several networks and a trained refiner on a CUDA device (emulated) beside the CPU: every stage's step gives the same loss and the same
// gradients, and a scene mapped from the same weights the same scores. The host's part (windows, merging, resizing) is the same code. FCtL, whose
// trunks pad by 100 pixels, is too much for fibers; its fields are cut by the code of AWMF-CNN.
#include <doctest/doctest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>

#define RSSEG_WITH_CUDA 1
#include "../io_temp.hpp"
#include "../scene_helpers.hpp"
#include "rsseg/nets/iss.hpp"
#include "rsseg/scene/stages_trained.hpp"
#include "rsseg/scene/systems.hpp"

using namespace rsseg;

namespace {
/// Small enough for kernels that run as fibers.
using Small = BranchSize<18, 4, 8>;

/// Largest difference relative to the root of the mean square.
template <class A, class B>
double apart(const A& a, const B& b) {
  REQUIRE(std::distance(a.begin(), a.end()) == std::distance(b.begin(), b.end()));
  double square = 0, largest = 0, n = 0;
  for (auto i = a.begin(), j = b.begin(); i != a.end(); ++i, ++j)
    square += double(*i) * double(*i), largest = std::max(largest, std::abs(double(*i) - double(*j))), n += 1;
  return square > 0 ? largest / std::sqrt(square / n) : largest;
}

data::batch batch_of(int view) {
  data::batch b;
  b.images = tensor<float>(shape{1, 3, view, view}), b.targets = tensor<std::int32_t>(shape{1, 1, view, view});
  random_stream r(5, 1);
  for (float& v : b.images) v = float(r.uniform(-1, 1));
  for (int y = 0; y < view; ++y)
    for (int x = 0; x < view; ++x)
      b.targets(0, 0, y, x) = y < 4 ? 255 : x > view / 8 && x < view / 2 && y > view / 4 && y < view / 2 ? 1 : 2 * (x > y);
  return b;
}

void check(const scene::system& sys, int patch, int view) {
  const std::string name = sys.name;
  CAPTURE(name);
  const test::temporary_folder folder;
  const std::string to = folder.path.string();
  scene::system_settings host;
  host.info.classes = 3, host.info.bands = 3, host.info.normalize = "imagenet", host.info.network = sys.name, host.patch = patch, host.view = view;
  scene::system_settings device = host;
  device.where = cuda::backend_options{};
  const data::batch b = batch_of(view);
  for (std::size_t stage = 0; stage < sys.stages.size(); ++stage) {
    CAPTURE(stage);
    train::train_options o;
    const auto on_host = sys.learner(sys, int(stage), host, to, 1), on_device = sys.learner(sys, int(stage), device, to, 1);
    on_host->prepare(o), on_device->prepare(o);
    const double loss = on_host->step(b, nullptr, o, cpu::run_state{1, 0});
    CHECK(loss > 0);
    CHECK(on_device->step(b, nullptr, o, cpu::run_state{1, 0}) == doctest::Approx(loss).epsilon(1e-4));
    CHECK(apart(on_host->gradients(), on_device->gradients()) < 2e-2);  // largest of all elements, behind batch statistics of few pixels
    CHECK(apart(on_host->weights().values(), on_device->weights().values()) < 1e-3);  // running statistics
    std::filesystem::create_directories(to + "/" + sys.stages[stage].name);
    io::write_safetensors(scene::stage_weights(sys, int(stage), to), train::weights_as_tensors(on_host->weights()), {});
  }
  const auto source = test::scene_of(view + 6, view - 9);
  const scene::made_predictor a = sys.predictor(sys, host, to, {}), c = sys.predictor(sys, device, to, {});
  a.predictor->start(*source), c.predictor->start(*source);
  const scene::window w{3, 0, a.tiling.tile, a.tiling.tile};
  const tensor<float> want = a.predictor->scores(*source, {&w, 1}), got = c.predictor->scores(*source, {&w, 1});
  CHECK(want.extent() == got.extent());
  CHECK(apart(want, got) < 1e-3);
  CHECK(c.predictor->bytes() > 0);
}
}  // namespace

TEST_CASE("executor: GLNet's three stages and its ensemble") {
  check(scene::detail::glnet_system<Small>("glnet-small", "", "", 32, 64, recipe{}), 32, 64);
}
TEST_CASE("executor: MagNet's segmenter and refinement") {
  check(scene::detail::magnet_system<Small, 4>("magnet-small", "", "", 32, 64, recipe{}, recipe{}), 32, 64);
}
TEST_CASE("executor: AWMF-CNN with its experts") { check(scene::detail::awmf_system<4>("awmf-small", "", "", 16, recipe{}), 16, 64); }
TEST_CASE("executor: HAZN's levels") { check(scene::detail::hazn_system<4, 8>("hazn-small", "", "", 32, 64, recipe{}), 32, 64); }
TEST_CASE("executor: patches and their grid, end to end") { check(scene::takahama(), 8, 32); }

TEST_CASE("executor: a refining stage on the device") {
  build_options o;
  o.classes = 3, o.bands = 3;
  const auto source = test::scene_of(40, 33);
  std::vector<float> scores(40 * 33 * 3), maps[2];
  random_stream r(2, 1);
  for (float& v : scores) v = float(r.uniform(0.1, 1));
  for (int on = 0; on < 2; ++on) {
    scene::refiner f{"iss-refiner",
                     std::make_unique<scene::placed_network>(&ISSRefiner<from_data, 1, false, false, true>::build, o,
                                                             on ? scene::placement(cuda::backend_options{}) : std::nullopt),
                     data::normalization::unit(), 3, 3};
    f.model->weights().initialise(3);
    for (float& v : f.model->weights().values()) v += 0.01f;  // its last layer starts at zero
    f.model->weights().touch();
    scene::iss_stage stage(std::move(f), 1, 64, "");
    scene::score_store in(40, 33, 3), out(40, 33, 3);
    in.write(0, 0, 40, 33, scores.data());
    CHECK(stage.run(*source, in, out, {}));
    maps[on].resize(scores.size());
    out.read(0, 0, 40, 33, maps[on].data());
  }
  CHECK(apart(maps[0], maps[1]) < 1e-4);
}

TEST_CASE("executor: systems do not learn in fp16") {
  const scene::system sys = scene::takahama();
  scene::system_settings s;
  s.info.classes = 3, s.info.bands = 3, s.info.normalize = "imagenet", s.patch = 8, s.view = 32, s.where = cuda::backend_options{};
  s.where->compute = cuda::precision::fp16;
  const auto learner = sys.learner(sys, 0, s, "", 1);
  CHECK_THROWS_AS(learner->prepare(train::train_options{}), usage_error);
}
