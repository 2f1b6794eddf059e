// SPDX-License-Identifier: MIT
// Peak of resident memory of a process that does nothing but run one network: a batch of inference, or training steps with SGD and momentum.
// Neither GDAL nor OpenCV is loaded (the program rsseg holds 26 MiB of theirs before it starts).
//   one_network NET N,H,W infer|train|train-keep [THREADS]        train-keep: without recomputation; prints {"peak_bytes":B}
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "resident_peak.hpp"
#include "rsseg/core/random.hpp"
#include "rsseg/model/model.hpp"
#include "rsseg/nets/entry.hpp"
#include "rsseg/train/optimizer.hpp"

namespace rsseg::program {
const network_entry& network_named(const std::string& name);
}

namespace {
int run(int argc, char** argv) {
  rsseg::shape in{1, 3, 0, 0};
  if (argc < 4 || std::sscanf(argv[2], "%d,%d,%d", &in.n, &in.h, &in.w) != 3 || in.n < 1 || in.h < 1 || in.w < 1) {
    std::fprintf(stderr, "usage: one_network NET N,H,W infer|train|train-keep [THREADS]\n");
    return 2;
  }
  const bool train = std::strncmp(argv[3], "train", 5) == 0;
  rsseg::set_threads(argc > 4 ? std::max(1, std::atoi(argv[4])) : 1);
  rsseg::build_options options;
  options.classes = 6, options.bands = in.c;
  rsseg::basic_model<float> model(rsseg::program::network_named(argv[1]).build, options);
  model.weights().initialise(1);
  rsseg::random_stream r(1, 2);
  rsseg::tensor<float> image(in);
  for (float& v : image) v = float(r.uniform(-1, 1));
  const rsseg::tensor<float>* inputs[] = {&image};
  if (train) {
    rsseg::tensor<std::int32_t> labels(rsseg::shape{in.n, 1, in.h, in.w});
    for (auto& v : labels) v = std::int32_t(r.below(std::uint32_t(options.classes)));
    model.prepare_training(rsseg::graph::loss_options{}, std::strcmp(argv[3], "train-keep") != 0);
    rsseg::train::optimizer<float> sgd(model.weights(), {.momentum = 0.9, .weight_decay = 1e-4});
    for (int i = 0; i < 2; ++i) {
      model.train_step(inputs, labels, rsseg::cpu::run_state{1, std::uint64_t(i)});
      sgd.step(model.training().gradients(), 1e-3);
    }
  } else {
    for (int i = 0; i < 2; ++i) model.run(inputs);
  }
  std::printf("{\"peak_bytes\":%.0f}\n", bench::resident_peak());
  return 0;
}
}  // namespace

int main(int argc, char** argv) try { return run(argc, argv); } catch (const std::exception& e) {
  std::fprintf(stderr, "one_network: %s\n", e.what());
  return 1;
}
