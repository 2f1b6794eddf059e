// SPDX-License-Identifier: MIT
// A training program in thirty lines. The pictures are generated: noise with one bright disk, and the task is to find the disk, so that the
// whole of it fits on a screen: a network as a type, a loss, gradients, an optimiser. `rsseg train` is the same with files, augmentation,
// validation and checkpoints around it.
//
// Expected output (the same in every run and with any number of threads; another processor may round the last digit differently):
//   step   0  loss 0.6044
//   step  40  loss 0.0247
//   step  80  loss 0.0163
//   step 120  loss 0.0168
// It exits with 1 unless the last loss is below a fifth of the first.
#include <cstdio>
#include <rsseg/rsseg.hpp>
using namespace rsseg;

using Block = Seq<Conv<16, Kernel<3>, NoBias>, BatchNorm<>, ReLU>;
struct Finder : Network<Seq<Block, Residual<Block>, MaxPool<>, Block, Conv<2>, ResizeTo<"input">>> {};

int main() {
  Model<Finder> net;
  net.weights().initialise(1);
  net.prepare_training(graph::loss_options{});
  train::optimizer<float> sgd(net.weights(), {.momentum = 0.9});
  double first = 0, loss = 0;
  for (std::uint64_t step = 0; step <= 120; ++step) {
    random_stream r(7, step);
    tensor<float> image({4, 3, 32, 32});
    tensor<std::int32_t> labels({4, 1, 32, 32});
    for (int n = 0; n < 4; ++n) {
      const double cy = r.uniform(8, 24), cx = r.uniform(8, 24);
      for (int y = 0; y < 32; ++y)
        for (int x = 0; x < 32; ++x) {
          labels(n, 0, y, x) = (y - cy) * (y - cy) + (x - cx) * (x - cx) < 36;
          for (int c = 0; c < 3; ++c) image(n, c, y, x) = float(r.uniform(-1, 1) + labels(n, 0, y, x));
        }
    }
    loss = net.train_step(image, labels, cpu::run_state{1, step});
    sgd.step(net.training().gradients(), 0.05);
    if (step == 0) first = loss;
    if (step % 40 == 0) std::printf("step %3d  loss %.4f\n", int(step), loss);
  }
  return loss < 0.2 * first ? 0 : 1;
}
