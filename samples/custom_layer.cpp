// SPDX-License-Identifier: MIT
// A layer of one's own. A layer is a type that says what it does to a value: `static constexpr value build(builder&, value)`. It has no data;
// the parameters that it asks for belong to the model and are named by the scopes around it. Here: squeeze and excitation (Hu, Shen, Sun,
// CVPR 2018, Fig. 2): the mean of every channel, through a narrow bottleneck, decides how much of the channel passes.
// A scope per convolution gives the parameters their names (1.squeeze.weight); channels are inferred.
//
// Expected output (exit code 1 from an error of 1e-6 on):
//   0.weight
//   0.bias
//   1.squeeze.weight
//   1.squeeze.bias
//   1.excite.weight
//   1.excite.bias
//   2.weight
//   2.bias
//   worst gradient error 2.0e-07 at 1.squeeze.weight[50] (44 values)
#include <cstdio>
#include <rsseg/rsseg.hpp>
using namespace rsseg;

template <int Reduction = 4>
struct SqueezeExcite {
  static constexpr value build(builder& b, value x) {
    value g = global_avg_pool(b, x);                             // (N,C,1,1)
    g = relu(b, conv(b, "squeeze", g, x.channels / Reduction));  // (N,C/r,1,1)
    g = sigmoid(b, conv(b, "excite", g, x.channels));            // (N,C,1,1)
    return graph::ops::mul_broadcast(b, x, g);                   // (N,C,H,W)
  }
};
static_assert(Layer<SqueezeExcite<>>);

struct Net : Network<Seq<Conv<16, Kernel<3>>, SqueezeExcite<4>, Conv<4>>> {};
static_assert(parameter_count<Net> == (16 * 3 * 9 + 16) + (4 * 16 + 4) + (16 * 4 + 16) + (4 * 16 + 4));

int main() {
  Model<Net> net;
  for (const stored_tensor& t : net.weights().entries()) std::printf("%s\n", t.name.c_str());
  const gradcheck_result r = gradcheck<Net>({2, 3, 9, 7});
  std::printf("worst gradient error %.1e at %s (%d values)\n", r.worst, r.where.c_str(), r.checked);
  return r.worst < 1e-6 ? 0 : 1;
}
