// SPDX-License-Identifier: MIT
// Strided copies, broadcasting, reductions, unit length, maxima and the full-graph attention against double references.
#include "emulation_test.hpp"
#include "kernels/graph_attention_full.cuh"
#include "kernels/tensor_ops.cuh"

using namespace rsseg;
using namespace rsseg::cuda;
using namespace rsseg::test;

namespace {
using doubles = std::vector<double>;
std::size_t at(const shape& s, int n, int h, int w, int c) {  // extent 1 repeats
  return ((std::size_t(s.n == 1 ? 0 : n) * std::size_t(s.h) + std::size_t(s.h == 1 ? 0 : h)) * std::size_t(s.w) + std::size_t(s.w == 1 ? 0 : w)) *
             std::size_t(s.c) +
         std::size_t(s.c == 1 ? 0 : c);
}
template <class Body>
void each(const shape& s, Body&& body) {
  for (int n = 0; n < s.n; ++n)
    for (int h = 0; h < s.h; ++h)
      for (int w = 0; w < s.w; ++w)
        for (int c = 0; c < s.c; ++c) body(n, h, w, c);
}
}  // namespace

TEST_CASE("strided copies: transposition, quarter turn, diagonal") {
  const shape s{2, 3, 4, 5};
  const auto x = random_values(std::size_t(s.size()), 1);
  in_every_order([&] {
    device_array<float> dx(x), turned(x.size()), diagonal(std::vector<float>(2 * 3, 1.0f));
    const shape box{2, 3, 5, 4};  // (h, w) of the result = (w, 3 - h) of the source
    strided_copy<float>({}, box, {3 * 15, {60, 3, -15, 1}}, view_of(box), dx.get(), turned.get());
    const auto t = turned.host();
    bool fine = true;
    each(box, [&](int n, int h, int w, int c) { fine &= t[at(box, n, h, w, c)] == x[at(s, n, 3 - w, h, c)]; });
    CHECK(fine);
    strided_copy<float>({}, {2, 1, 3, 1}, {0, {60, 4, 0, 0}}, view_of({2, 1, 3, 1}), dx.get(), diagonal.get(), true);  // rows of 3 columns
    CHECK(diagonal.host()[4] == 1.0f + x[60 + 4]);
  });
}

TEST_CASE("broadcasting and reductions over every set of axes") {
  const shape s{2, 5, 3, 7};
  const auto x = random_values(std::size_t(s.size()), 1);
  for (int axes = 0; axes < 16; ++axes) {
    const shape r{axes & 1 ? 1 : 2, axes & 2 ? 1 : 5, axes & 4 ? 1 : 3, axes & 8 ? 1 : 7};
    const auto b = random_values(std::size_t(r.size()), 2);
    doubles sum(b.size()), added(x.size()), scaled(x.size()), most(x.size());
    each(s, [&](int n, int h, int w, int c) {
      const double p = double(x[at(s, n, h, w, c)]), q = double(b[at(r, n, h, w, c)]);
      sum[at(r, n, h, w, c)] += p / 3, added[at(s, n, h, w, c)] = p + q, scaled[at(s, n, h, w, c)] = p * q, most[at(s, n, h, w, c)] = std::max(p, q);
    });
    in_every_order([&] {
      device_array<float> dx(x), db(b), y(x.size()), z(b.size());
      reduce_axes<float>({}, s, r, dx.get(), z.get(), 1.0f / 3);
      CHECK(relative_error(z.host(), sum) < 2e-6);
      broadcast<float>({}, binary::sum, s, r, dx.get(), db.get(), y.get());
      CHECK(relative_error(y.host(), added) < 1e-6);
      broadcast<float>({}, binary::product, r, s, db.get(), dx.get(), y.get());
      CHECK(relative_error(y.host(), scaled) < 1e-6);
      broadcast<float>({}, binary::maximum, s, r, dx.get(), db.get(), y.get());
      CHECK(relative_error(y.host(), most) < 1e-6);
    });
  }
}

TEST_CASE("unit length and the gradient of a maximum") {
  const int pixels = 13, c = 37;
  auto x = random_values(pixels * c, 1), dy = random_values(pixels * c, 2), z = random_values(pixels * c, 3);
  for (int i = 0; i < c; ++i) x[std::size_t(i)] = 0;  // a vector of no length
  doubles y(x.size()), dx(x.size()), dm(x.size());
  for (std::size_t p = 0; p < std::size_t(pixels); ++p) {
    double square = 0, dot = 0;
    for (std::size_t k = p * c; k < (p + 1) * c; ++k) square += double(x[k]) * double(x[k]), dot += double(x[k]) * double(dy[k]);
    const double length = std::max(std::sqrt(square), 1e-6);
    for (std::size_t k = p * c; k < (p + 1) * c; ++k) {
      y[k] = double(x[k]) / length, dx[k] = double(dy[k]) / length - double(x[k]) * dot / (length * length * length);
      dm[k] = z[k] > x[k] ? double(dy[k]) : 0.0;
    }
  }
  in_every_order([&] {
    device_array<float> px(x), pz(z), pdy(dy), out(x.size());
    unit_length<float>({}, px.get(), nullptr, out.get(), pixels, c, 1e-6f);
    CHECK(relative_error(out.host(), y) < 1e-6);
    unit_length<float>({}, px.get(), pdy.get(), out.get(), pixels, c, 1e-6f);
    CHECK(relative_error(out.host(), dx) < 1e-5);
    maximum_gradient<float>({}, {{px.get(), pz.get()}, 2}, 1, pdy.get(), out.get(), pixels * c);
    CHECK(relative_error(out.host(), dm) == 0);
  });
}

TEST_CASE("attention on a full graph: ordered sums equal the sum over all pairs") {
  for (float shift : {0.0f, -8.0f, 60.0f}) {  // mixed signs; all negative; large
    attention_geometry g{2, 71, 150, 1, 35};
    auto s = random_values(std::size_t(g.batch * g.rows), 1, -3, 3), t = random_values(std::size_t(g.batch * g.columns), 2, -3, 3);
    for (float& v : s) v += shift;
    t[7] = t[3];  // a tie
    const auto v = random_values(std::size_t(g.batch * g.columns * g.channels), 3);
    doubles want(std::size_t(g.batch * g.rows * g.channels)), logs(s.size());
    for (int b = 0; b < g.batch; ++b)
      for (int i = 0; i < g.rows; ++i) {
        double top = -1e300, sum = 0;
        auto score = [&](int j) {
          const double e = double(s[std::size_t(b * g.rows + i)]) + double(t[std::size_t(b * g.columns + j)]);
          return e > 0 ? e : double(g.slope) * e;
        };
        for (int j = 0; j < g.columns; ++j) top = std::max(top, score(j));
        for (int j = 0; j < g.columns; ++j) sum += std::exp(score(j) - top);
        for (int j = 0; j < g.columns; ++j)
          for (int c = 0; c < g.channels; ++c)
            want[std::size_t((b * g.rows + i) * g.channels + c)] +=
                std::exp(score(j) - top) / sum * double(v[std::size_t((b * g.columns + j) * g.channels + c)]);
        logs[std::size_t(b * g.rows + i)] = top + std::log(sum);
      }
    in_every_order([&] {
      device_array<float> ps(s), pt(t), pv(v), out(want.size()), log_sum(s.size()), work(full_graph_workspace(g));
      full_graph_attention({}, g, ps.get(), pt.get(), pv.get(), out.get(), log_sum.get(), work.get());
      CHECK(relative_error(out.host(), want) < 5e-6);
      CHECK(relative_error(log_sum.host(), logs) < 2e-6);
      attention_forward({}, g, additive_score{ps.get(), pt.get(), nullptr}, pv.get(), out.get(), log_sum.get());
      CHECK(relative_error(out.host(), want) < 5e-6);
    });
  }
}
