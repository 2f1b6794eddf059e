// SPDX-License-Identifier: MIT
// Tensors as Eigen matrices: views in both directions, and a custom operator whose kernels are written in Eigen.
#include <doctest/doctest.h>

#include "rsseg/core/eigen.hpp"
#include "rsseg/core/random.hpp"
#include "rsseg/layers/basic.hpp"
#include "rsseg/model/gradcheck.hpp"

using namespace rsseg;

namespace {
/// A fixed change of colours, y = x M: its derivative is the same operator with M transposed (flag).
template <class T>
void colours_kernel(const custom_call<T>& c) {
  Eigen::Matrix<T, 3, 3> m;
  m << T(0.299), T(-0.169), T(0.5), T(0.587), T(-0.331), T(-0.419), T(0.114), T(0.5), T(-0.081);
  if (c.at->flag) m.transposeInPlace();
  as_matrix(c.out, c.out_extent).noalias() = as_matrix(c.in[0], c.in_extent[0]) * m;
}
constexpr shape as_first(const graph::attributes&, const shape* in, int) { return in[0]; }
constexpr void colours_vjp(graph::tape& t, int node, int dy);
inline constexpr custom_op colours{"colours", &as_first, &colours_vjp, &colours_kernel<float>, &colours_kernel<double>, nullptr};
constexpr void colours_vjp(graph::tape& t, int node, int dy) {
  const int x = t.g.input_of(node, 0);
  if (!t.wants(x)) return;
  graph::attributes at;
  at.flag = true;
  t.give(x, append_custom(t.g, colours, {dy}, 3, at));
}
struct OnLuma {
  static constexpr void build(builder& b) {
    const value x = conv(b, "first", b.input("x", 3), 3);
    b.output("logits", conv(b, "last", emit_custom(b, colours, {x}, 3), 2), 1);
  }
};
}  // namespace

TEST_CASE("a tensor is the matrix of its pixels and channels") {
  tensor<float> t(shape{2, 3, 4, 5});
  random_stream r(1, 1);
  for (float& v : t) v = float(r.uniform());
  const auto m = as_matrix(t);
  REQUIRE(m.rows() == 40);
  REQUIRE(m.cols() == 3);
  CHECK(m(20 + 2 * 5 + 4, 1) == t(1, 1, 2, 4));
  as_matrix(t).col(2).setConstant(7);
  CHECK(t(0, 2, 3, 3) == 7);
  const tensor<float>& fixed = t;
  static_assert(std::is_same_v<decltype(as_matrix(fixed)), matrix_view<const float>>);
  CHECK(as_matrix(fixed).col(2).sum() == 280);
  const tensor<float> empty;
  CHECK(as_matrix(empty).size() == 0);
}

TEST_CASE("a custom operator may compute with Eigen: its gradient holds") { CHECK(gradcheck<OnLuma>({2, 3, 5, 7}).worst < 1e-6); }
