// SPDX-License-Identifier: MIT
// A user's program: a network of their own, checked by the compiler, trained for a few steps on a striped field of four bands.
//
// Expected output (exit code 1 unless every pixel is right):
//   2978 parameters, loss 3.40 -> 0.00, 1024 of 1024 pixels right
#include <cstdio>
#include <rsseg/rsseg.hpp>
using namespace rsseg;

using Block = Seq<Conv<16, Kernel<3>, NoBias>, BatchNorm<>, ReLU>;
struct LandCover : Network<Seq<Block, MaxPool<>, Residual<Block>, Conv<2>, ResizeTo<"input">>, 4> {};
static_assert(output_of<LandCover>({1, 4, 32, 32}) == shape{1, 2, 32, 32});

int main() {
  Model<LandCover> net;
  net.weights().initialise(1);
  tensor<float> image({1, 4, 32, 32});
  tensor<std::int32_t> labels({1, 1, 32, 32});
  random_stream r(1, 1);
  for (int y = 0; y < 32; ++y)
    for (int x = 0; x < 32; ++x) {
      labels(0, 0, y, x) = x / 8 % 2;
      for (int b = 0; b < 4; ++b) image(0, b, y, x) = float(labels(0, 0, y, x) * (b - 1.5) + 0.2 * r.uniform(-1, 1));
    }
  net.prepare_training(graph::loss_options{});
  train::optimizer<float> sgd(net.weights(), {.momentum = 0.9});
  double first = 0, last = 0;
  for (std::uint64_t step = 0; step < 100; ++step) {
    last = net.train_step(image, labels, cpu::run_state{1, step});
    sgd.step(net.training().gradients(), 0.05);
    if (step == 0) first = last;
  }
  const tensor<float> scores = net.infer(image);
  int right = 0;
  for (int y = 0; y < 32; ++y)
    for (int x = 0; x < 32; ++x) right += (scores(0, 1, y, x) > scores(0, 0, y, x)) == (labels(0, 0, y, x) == 1);
  std::printf("%lld parameters, loss %.2f -> %.2f, %d of 1024 pixels right\n", static_cast<long long>(parameter_count<LandCover>), first, last,
              right);
  return right == 1024 ? 0 : 1;
}
