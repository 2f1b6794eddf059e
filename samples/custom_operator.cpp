// SPDX-License-Identifier: MIT
// An operator of one's own, with its own derivative and kernels, without touching the library. The operator is swish, y = x sigmoid(x)
// (Ramachandran, Zoph, Le 2017). It could be composed of two existing operators; written by hand it keeps one map less for the backward pass.
//   1. kernels: plain functions for float and double on dense NHWC arrays, the derivative as a second operator of (dy, x)
//   2. the rule of differentiation: which nodes the gradient consists of; autograd is from graph to graph, so it appends, nothing runs
//   3. two custom_op constants and a layer that emits the first; then gradcheck compares with finite differences in double
//
// Expected output (exit code 1 from an error of 1e-6 on):
//   worst gradient error 6.4e-08 at 2.weight[115] (34 values)
#include <cmath>
#include <cstdio>
#include <rsseg/rsseg.hpp>
using namespace rsseg;

template <class T>
void swish_kernel(const custom_call<T>& c) {
  for (std::int64_t i = 0; i < c.out_extent.size(); ++i) c.out[i] = c.in[0][i] / (T(1) + std::exp(-c.in[0][i]));
}
template <class T>
void swish_grad_kernel(const custom_call<T>& c) {  // (dy, x)
  for (std::int64_t i = 0; i < c.out_extent.size(); ++i) {
    const T x = c.in[1][i], s = T(1) / (T(1) + std::exp(-x));
    c.out[i] = c.in[0][i] * (s + x * s * (T(1) - s));
  }
}
constexpr shape as_first(const graph::attributes&, const shape* in, int) { return in[0]; }

inline constexpr custom_op swish_grad{"swish_grad", &as_first, nullptr, &swish_grad_kernel<float>, &swish_grad_kernel<double>, nullptr};

constexpr void swish_vjp(graph::tape& t, int node, int dy) {
  const int x = t.g.input_of(node, 0);
  if (t.wants(x)) t.give(x, append_custom(t.g, swish_grad, {dy, x}, t.g.nodes[x].channels));
}
inline constexpr custom_op swish{"swish", &as_first, &swish_vjp, &swish_kernel<float>, &swish_kernel<double>, nullptr};

struct Swish {
  static constexpr value build(builder& b, value x) { return emit_custom(b, swish, {x}, x.channels); }
};
struct Net : Network<Seq<Conv<8, Kernel<3>>, Swish, Conv<8, Kernel<3>>, Swish, Conv<4>>> {};

int main() {
  const gradcheck_result r = gradcheck<Net>({2, 3, 9, 7});
  std::printf("worst gradient error %.1e at %s (%d values)\n", r.worst, r.where.c_str(), r.checked);
  return r.worst < 1e-6 ? 0 : 1;
}
