// SPDX-License-Identifier: MIT
// Memory and time of mapping ultra-high-resolution scenes at the papers' sizes (ResNet-50 or VGG-16, 508-pixel patches, six classes), each
// method in a process of its own:
//   uhr_memory [METHOD SIDE]     whole, patches, glnet, glnet-view, fctl, magnet-fast at 2448, 5000, 10000
// planned: arena and packed weights of all engines, and what is kept between windows. resident: peak of the process less what it had
// before the first network. Pixels are made when they are asked for. Memory is reached after one pass of each kind, so that is what runs:
// every network once or twice, not every patch; seconds per scene are
// the passes' CPU times by their number, one thread.
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <ctime>
#include <fstream>
#include <string>

#include "rsseg/scene/systems.hpp"

using namespace rsseg;

namespace {
struct noise_scene final : io::raster_source {
  explicit noise_scene(int side) { info_.width = info_.height = side, info_.bands = 3, info_.type = io::sample_type::u8; }
  void read(int x, int y, int w, int h, float* out) override {
    for (int r = 0; r < h; ++r)
      for (int c = 0; c < w * 3; ++c) *out++ = float(((x * 3 + c) * 2654435761u ^ unsigned(y + r) * 40503u) >> 8 & 255u);
  }
};
std::size_t resident_peak() {
  std::ifstream in("/proc/self/status");
  for (std::string line; std::getline(in, line);)
    if (line.rfind("VmHWM:", 0) == 0) return std::size_t(std::stoull(line.substr(6))) * 1024;
  return 0;
}
/// Of this process's CPU: one thread runs, and other programs do not count.
double seconds() { return double(std::clock()) / CLOCKS_PER_SEC; }

struct outcome {
  double arena = 0, packed = 0, kept = 0, weights = 0, resident = 0, scene_seconds = 0;
};
template <class Engine>
void add(outcome& o, const Engine& e) {
  o.arena += double(e.plan().arena_bytes), o.packed += double(e.bytes()) - double(e.plan().arena_bytes);
}
template <class F>
double time_of(const F& f) {
  const double t = seconds();
  f();
  return seconds() - t;
}
scene::system_settings settings_of(int patch, int view) {
  scene::system_settings s;
  s.info.classes = 6, s.info.bands = 3, s.info.normalize = "imagenet", s.patch = patch, s.view = view;
  return s;
}
const data::normalization norm = data::normalization::imagenet();

outcome network(int side, bool whole) {
  outcome o;
  build_options b;
  b.classes = 6;
  basic_model<float> m(&MagNetBackbone<>::build, b);
  m.weights().initialise(1);
  o.weights = double(m.weights().values().size()) * 4;
  const int extent = whole ? (side + 31) / 32 * 32 : 508;
  if (whole) {  // planned only, through the limit's message path: nothing is allocated
    cpu::engine<float>& e = m.inference();
    const shape in{1, 3, extent, extent};
    try {
      e.plan_for({&in, 1}, 1);
    } catch (const memory_error& error) {
      o.arena = std::strtod(std::strstr(error.what(), "needs") + 6, nullptr) * 1048576;
    }
    o.resident = 0;
    return o;
  }
  noise_scene scene(side);
  const scene::window w{0, 0, 508, 508};
  const double t = time_of([&] { m.infer(scene::read_windows(scene, {&w, 1}, norm)); });
  const double n = double(scene::even_starts(side, 508, 50).size());
  o.scene_seconds = t * n * n;
  add(o, m.inference());
  return o;
}

outcome glnet(int side, int view) {
  outcome o;
  auto n = scene::detail::glnet_of<BranchSize<>>(settings_of(508, view ? view : 508));
  n->make(3);
  n->global->weights().initialise(1), n->local->weights().initialise(2), n->both->weights().initialise(3);
  for (auto* m : {n->global.get(), n->local.get(), n->both.get()}) o.weights += double(m->weights().values().size()) * 4;
  noise_scene scene(side);
  const int region = view ? view : side;
  scene::glnet_view v(*n);
  const scene::window first{0, 0, 508, 508};
  tensor<float> image;
  const double down = time_of([&] { image = scene::resized_view(scene, {0, 0, region, region}, 508, 508, norm); });
  const double global = time_of([&] { v.begin(image, region, region); });
  const double local = time_of([&] { v.run_local(scene::read_windows(scene, {&first, 1}, norm), 0, 0); });
  const double merge = time_of([&] { v.merge(0, 0); });
  o.kept = double(v.bytes());
  const double fed = time_of([&] { v.run_fed(image); });
  const double ensemble = time_of([&] { v.ensemble(0, 0); });
  const double patches = double(v.tops().size()) * double(v.lefts().size());
  const double views = view ? std::pow(double(scene::even_starts(side, view, view / 8).size()), 2) : 1;
  o.scene_seconds = views * (down + global + fed + patches * (2 * local + merge + ensemble));
  for (auto* m : {n->global.get(), n->local.get(), n->both.get()}) add(o, m->inference());
  add(o, *n->ensemble);
  return o;
}

outcome fctl(int side) {
  outcome o;
  build_options b;
  b.classes = 6;
  auto m = std::make_shared<scene::placed_network>(&FCtL<>::build, b);
  m->weights().initialise(1);
  o.weights = double(m->weights().values().size()) * 4;
  noise_scene scene(side);
  scene::context_predictor p(m, norm, {1, 3, 0}, 508, 0);
  p.start(scene);
  const scene::window w{side / 2, side / 2, 508, 508};
  const double t = time_of([&] { p.scores(scene, {&w, 1}); });
  const double n = double(scene::even_starts(side, 508, 50).size());
  o.scene_seconds = t * n * n;
  o.kept = 4.0 * 508 * 508 * 3 * 4;
  add(o, m->inference());
  return o;
}

outcome magnet(int side) {
  outcome o;
  auto n = scene::detail::magnet_of<BranchSize<>, 64>(settings_of(508, 2448), true);
  n->segmenter->weights().initialise(1), n->refinement->weights().initialise(2);
  for (auto* m : {n->segmenter.get(), n->refinement.get()}) o.weights += double(m->weights().values().size()) * 4;
  noise_scene scene(side);
  scene::magnet_predictor p(n, norm, scene::magnet_mode::fast, 1);
  const scene::window v{0, 0, 2448, 2448};
  const double t = time_of([&] { p.scores(scene, {&v, 1}); });  // 4 segmentations, 3 refinements
  const double views = std::pow(double(scene::even_starts(side, 2448, 306).size()), 2);
  o.scene_seconds = views * t / 4 * 10;  // MagNet-Fast: 3 patches on each of 3 scales and the coarse one
  o.kept = double(p.bytes()) - double(n->segmenter->inference().bytes()) - double(n->refinement->inference().bytes());
  add(o, n->segmenter->inference()), add(o, n->refinement->inference());
  return o;
}

void one(const std::string& method, int side) {
  std::fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    const std::size_t before = resident_peak();
    const outcome o = method == "whole"        ? network(side, true)
                      : method == "patches"    ? network(side, false)
                      : method == "glnet"      ? glnet(side, 0)
                      : method == "glnet-view" ? glnet(side, 2448)
                      : method == "fctl"       ? fctl(side)
                                               : magnet(side);
    const double mb = 1e6, resident = method == "whole" ? 0 : double(resident_peak() - before);
    std::printf("| %-11s | %5d | %6.0f | %6.0f | %6.0f | %6.0f | %6.0f | %7.0f |\n", method.c_str(), side, o.arena / mb, o.packed / mb, o.kept / mb,
                o.weights / mb, resident / mb, o.scene_seconds);
    std::fflush(stdout);
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  if (status != 0) std::printf("| %-11s | %5d | failed |\n", method.c_str(), side);
}
}  // namespace

int main(int argc, char** argv) {
  set_threads(1);
  std::printf(
      "| method | scene side | arena MB | packed weights MB | kept maps MB | weights MB | resident MB | s per scene "
      "|\n|---|---|---|---|---|---|---|---|\n");
  if (argc >= 3) return one(argv[1], std::atoi(argv[2])), 0;
  for (const char* method : {"whole", "patches", "glnet", "glnet-view", "fctl", "magnet-fast"})
    for (const int side : {2448, 5000, 10000}) one(method, side);
  return 0;
}
