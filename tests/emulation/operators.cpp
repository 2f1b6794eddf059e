// SPDX-License-Identifier: MIT
// Depthwise convolution, point sampling, attention, matrix products, optimizers and filters against double references.
#include "conv_reference.hpp"
#include "kernels/attention.cuh"
#include "kernels/depthwise.cuh"
#include "kernels/filter.cuh"
#include "kernels/matmul.cuh"
#include "kernels/optimizer.cuh"
#include "kernels/point_sample.cuh"

using namespace rsseg;
using namespace rsseg::cuda;
using namespace rsseg::test;

namespace {
using doubles = std::vector<double>;
template <class T>
void check_depthwise_case(const char* what, const conv_geometry& g, double tolerance) {
  CAPTURE(what);
  const std::size_t ins = std::size_t(g.n * g.in_h * g.in_w * g.in_c), outs = std::size_t(g.n * g.out_h * g.out_w * g.out_c);
  const auto x = stored<T>(random_values(ins, 1)), w = stored<T>(random_values(std::size_t(g.weights()), 2)), dy = stored<T>(random_values(outs, 3));
  const auto want = reference_conv(g, widened(x), widened(w), widened(dy));
  in_every_order([&] {
    device_array<T> px(x), pw(w), pdy(dy), y(outs), dx(ins);
    device_array<float> dw(w.size()), work(depthwise_weight_workspace(g));
    depthwise_forward<T>({}, g, px.get(), pw.get(), y.get());
    CHECK(relative_error(y.host(), want.y) < tolerance);
    depthwise_data_gradient<T>({}, g, pdy.get(), pw.get(), dx.get());
    CHECK(relative_error(dx.host(), want.dx) < tolerance);
    depthwise_weight_gradient<T>({}, g, px.get(), pdy.get(), dw.get(), work.get());
    CHECK(relative_error(dw.host(), want.dw) < 1e-5);
  });
}

struct attention_reference {
  doubles out, da, db, dv;
};
/// score(i, j) and its partial derivatives are given; da and db collect them by the caller's functions.
template <class Score, class Spread>
attention_reference reference_attention(const attention_geometry& g, const std::vector<float>& v, const std::vector<float>& dout, Score score,
                                        Spread spread) {
  attention_reference r;
  r.out.assign(std::size_t(g.batch * g.rows * g.channels), 0.0), r.dv.assign(v.size(), 0.0);
  for (int b = 0; b < g.batch; ++b)
    for (int i = 0; i < g.rows; ++i) {
      doubles p(std::size_t(g.columns), 0.0), dp(std::size_t(g.columns), 0.0);
      double top = -1e300, sum = 0, delta = 0;
      for (int j = 0; j < g.columns; ++j) top = std::max(top, score(b, i, j));
      for (int j = 0; j < g.columns; ++j) sum += p[std::size_t(j)] = std::exp(score(b, i, j) - top);
      if (top < -1e299) continue;
      for (int j = 0; j < g.columns; ++j) {
        p[std::size_t(j)] /= sum;
        for (int c = 0; c < g.channels; ++c) {
          const std::size_t o = std::size_t((b * g.rows + i) * g.channels + c), k = std::size_t((b * g.columns + j) * g.channels + c);
          r.out[o] += p[std::size_t(j)] * double(v[k]), r.dv[k] += p[std::size_t(j)] * double(dout[o]);
          dp[std::size_t(j)] += double(dout[o]) * double(v[k]);
        }
        delta += p[std::size_t(j)] * dp[std::size_t(j)];
      }
      for (int j = 0; j < g.columns; ++j) spread(r, b, i, j, p[std::size_t(j)] * (dp[std::size_t(j)] - delta));
    }
  return r;
}
}  // namespace

TEST_CASE("depthwise: windows, dilation, stride, asymmetric, wide and narrow") {
  auto dw = [](int n, int h, int w, int c, int kh, int kw, int stride = 1, int dilation = 1) {
    return geometry(n, h, w, c, c, kh, kw, stride, dilation, c);
  };
  check_depthwise_case<float>("3x3", dw(2, 7, 9, 12, 3, 3), 2e-6);
  check_depthwise_case<float>("3x3, 5 channels", dw(1, 6, 5, 5, 3, 3), 2e-6);
  check_depthwise_case<float>("5x1", dw(1, 9, 6, 8, 5, 1), 2e-6);
  check_depthwise_case<float>("1x5", dw(1, 9, 6, 8, 1, 5), 2e-6);
  check_depthwise_case<float>("stride 2", dw(1, 9, 10, 8, 3, 3, 2), 2e-6);
  check_depthwise_case<float>("dilation 12", dw(1, 15, 14, 4, 3, 3, 1, 12), 2e-6);
  check_depthwise_case<float>("7x7", dw(1, 9, 9, 4, 7, 7), 2e-6);
  check_depthwise_case<float>("140 channels", dw(1, 3, 5, 140, 3, 3), 2e-6);
  check_depthwise_case<bf16>("bf16", dw(1, 7, 9, 16, 3, 3), 4e-3);
  CHECK(
      contains(fault_of([&] { depthwise_forward<float>({}, geometry(1, 5, 5, 4, 8, 3, 3, 1, 1, 4), nullptr, nullptr, nullptr); }), "as many groups"));
}

TEST_CASE("point sampling and its gradient") {
  const point_geometry g{2, 5, 7, 3, 61};
  const auto x = random_values(std::size_t(g.n * g.h * g.w * g.c), 1), dy = random_values(std::size_t(g.n * g.count * g.c), 2);
  const auto points = random_values(std::size_t(g.n * g.count * 2), 3, -0.2, 1.2);
  doubles want(dy.size()), dx(x.size());
  for (int n = 0; n < g.n; ++n)
    for (int p = 0; p < g.count; ++p) {
      const double px = double(points[std::size_t((n * g.count + p) * 2)]) * g.w - 0.5,
                   py = double(points[std::size_t((n * g.count + p) * 2 + 1)]) * g.h - 0.5;
      for (int y = 0; y < g.h; ++y)
        for (int q = 0; q < g.w; ++q) {
          const double w = std::max(0.0, 1 - std::abs(px - q)) * std::max(0.0, 1 - std::abs(py - y));
          for (int c = 0; c < g.c; ++c) {
            const std::size_t i = std::size_t(((n * g.h + y) * g.w + q) * g.c + c), o = std::size_t((n * g.count + p) * g.c + c);
            want[o] += w * double(x[i]), dx[i] += w * double(dy[o]);
          }
        }
    }
  std::vector<float> first;
  in_every_order([&] {
    device_array<float> px(x), pp(points), pdy(dy), y(dy.size()), up(x.size());
    device_array<int> work(point_workspace(g));
    point_sample<float>({}, g, px.get(), pp.get(), y.get());
    CHECK(relative_error(y.host(), want) < 5e-6);
    point_sample_backward<float>({}, g, pp.get(), pdy.get(), up.get(), work.get());
    CHECK(relative_error(up.host(), dx) < 5e-6);
    if (first.empty()) first = up.host();
    CHECK(up.host() == first);
  });
}

TEST_CASE("self attention, forward and backward") {
  for (auto g : {attention_geometry{2, 37, 37, 9, 70}, attention_geometry{1, 70, 131, 20, 5}}) {
    g.scale = 0.7f;
    const auto q = random_values(std::size_t(g.batch * g.rows * g.key_channels), 1, -2, 2),
               k = random_values(std::size_t(g.batch * g.columns * g.key_channels), 2, -2, 2);
    const auto v = random_values(std::size_t(g.batch * g.columns * g.channels), 3),
               dout = random_values(std::size_t(g.batch * g.rows * g.channels), 4);
    doubles dq(q.size()), dk(k.size());
    auto score = [&](int b, int i, int j) {
      double s = 0;
      for (int c = 0; c < g.key_channels; ++c)
        s += double(q[std::size_t((b * g.rows + i) * g.key_channels + c)]) * double(k[std::size_t((b * g.columns + j) * g.key_channels + c)]);
      return s * double(g.scale);
    };
    const auto want = reference_attention(g, v, dout, score, [&](auto&, int b, int i, int j, double ds) {
      for (int c = 0; c < g.key_channels; ++c) {
        const std::size_t a = std::size_t((b * g.rows + i) * g.key_channels + c), e = std::size_t((b * g.columns + j) * g.key_channels + c);
        dq[a] += ds * double(g.scale) * double(k[e]), dk[e] += ds * double(g.scale) * double(q[a]);
      }
    });
    in_every_order([&] {
      device_array<float> pq(q), pk(k), pv(v), pd(dout), out(dout.size()), lse(std::size_t(g.batch * g.rows)), gq(q.size()), gk(k.size()),
          gv(v.size()), delta(attention_workspace(g));
      const dot_score in{pq.get(), pk.get()};
      attention_forward({}, g, in, pv.get(), out.get(), lse.get());
      CHECK(relative_error(out.host(), want.out) < 5e-6);
      attention_backward({}, g, in, pv.get(), out.get(), pd.get(), lse.get(), gq.get(), gk.get(), gv.get(), delta.get());
      CHECK(relative_error(gv.host(), want.dv) < 5e-6);
      CHECK(relative_error(gq.host(), dq) < 1e-5);
      CHECK(relative_error(gk.host(), dk) < 1e-5);
    });
  }
}

TEST_CASE("graph attention with a mask, forward and backward") {
  attention_geometry g{2, 67, 45, 1, 33};
  const auto s = random_values(std::size_t(g.batch * g.rows), 1, -3, 3), t = random_values(std::size_t(g.batch * g.columns), 2, -3, 3);
  const auto v = random_values(std::size_t(g.batch * g.columns * g.channels), 3), dout = random_values(std::size_t(g.batch * g.rows * g.channels), 4);
  for (bool masked : {false, true}) {
    std::vector<std::uint8_t> mask(std::size_t(g.batch * g.rows * g.columns), 1);
    if (masked)
      for (std::size_t i = 0; i < mask.size(); ++i) mask[i] = i % 3 == 0 && i / std::size_t(g.columns) != 5;  // row 5 has no neighbour at all
    doubles ds(s.size()), dt(t.size());
    auto score = [&](int b, int i, int j) {
      if (!mask[std::size_t((b * g.rows + i) * g.columns + j)]) return -1e300;
      const double e = double(s[std::size_t(b * g.rows + i)]) + double(t[std::size_t(b * g.columns + j)]);
      return e > 0 ? e : 0.2 * e;
    };
    const auto want = reference_attention(g, v, dout, score, [&](auto&, int b, int i, int j, double d) {
      if (score(b, i, j) < -1e299) return;
      const double slope = score(b, i, j) > 0 ? 1 : 0.2;
      ds[std::size_t(b * g.rows + i)] += d * slope, dt[std::size_t(b * g.columns + j)] += d * slope;
    });
    in_every_order([&] {
      device_array<float> ps(s), pt(t), pv(v), pd(dout), out(dout.size()), lse(s.size()), gs(s.size()), gt(t.size()), gv(v.size()),
          delta(attention_workspace(g));
      device_array<std::uint8_t> pm(mask);
      const additive_score in{ps.get(), pt.get(), masked ? pm.get() : nullptr};
      attention_forward({}, g, in, pv.get(), out.get(), lse.get());
      CHECK(relative_error(out.host(), want.out) < 5e-6);
      attention_backward({}, g, in, pv.get(), out.get(), pd.get(), lse.get(), gs.get(), gt.get(), gv.get(), delta.get());
      CHECK(relative_error(gv.host(), want.dv) < 5e-6);
      CHECK(relative_error(gs.host(), ds) < 1e-5);
      CHECK(relative_error(gt.host(), dt) < 1e-5);
    });
  }
}

TEST_CASE("matrix products and linear attention") {
  for (int mode = 0; mode < 4; ++mode) {
    matmul_shape p{67, 33, 19, 2, mode % 2 == 1, mode / 2 == 1};
    p.batch_a = 67 * 19, p.batch_b = 33 * 19, p.batch_c = 67 * 33, p.alpha = 0.5f, p.beta = 2;
    const auto a = random_values(2 * 67 * 19, 1), b = random_values(2 * 33 * 19, 2), c = random_values(2 * 67 * 33, 3);
    doubles want(c.size());
    for (int n = 0; n < 2; ++n)
      for (int i = 0; i < 67; ++i)
        for (int j = 0; j < 33; ++j) {
          double sum = 0;
          for (int k = 0; k < 19; ++k)
            sum += double(a[std::size_t(n * 67 * 19 + (p.transpose_a ? k * 67 + i : i * 19 + k))]) *
                   double(b[std::size_t(n * 33 * 19 + (p.transpose_b ? j * 19 + k : k * 33 + j))]);
          want[std::size_t((n * 67 + i) * 33 + j)] = 0.5 * sum + 2 * double(c[std::size_t((n * 67 + i) * 33 + j)]);
        }
    in_every_order([&] {
      device_array<float> pa(a), pb(b), pc(c);
      matmul({}, p, pa.get(), pb.get(), pc.get());
      CHECK(relative_error(pc.host(), want) < 2e-6);
    });
  }
  const auto q = random_values(2 * 21 * 5, 4), k = random_values(2 * 30 * 5, 5), v = random_values(2 * 30 * 7, 6);
  doubles want(2 * 21 * 7);
  for (std::size_t n = 0; n < 2; ++n)
    for (std::size_t i = 0; i < 21; ++i)
      for (std::size_t j = 0; j < 30; ++j)
        for (std::size_t d = 0; d < 5; ++d)
          for (std::size_t c = 0; c < 7; ++c)
            want[(n * 21 + i) * 7 + c] += double(q[(n * 21 + i) * 5 + d]) * double(k[(n * 30 + j) * 5 + d]) * double(v[(n * 30 + j) * 7 + c]);
  in_every_order([&] {
    device_array<float> pq(q), pk(k), pv(v), context(2 * 5 * 7), out(2 * 21 * 7);
    linear_attention({}, 2, 21, 30, 5, 7, pq.get(), pk.get(), pv.get(), context.get(), out.get());
    CHECK(relative_error(out.host(), want) < 2e-6);
  });
}

TEST_CASE("optimizers, clipping and the overflow test") {
  const std::size_t n = 1013;
  const auto w = random_values(n, 1), g = random_values(n, 2);
  in_every_order([&] {
    device_array<float> pw(w), pg(g), v(std::vector<float>(n, 0.0f)), m(std::vector<float>(n, 0.0f)), aw(w), norm(1), partials(512);
    device_array<optimizer_step> step(std::vector<optimizer_step>(1));
    gradient_norm({}, pg.get(), std::int64_t(n), 8.0f, 1.0f, partials.get(), step.get(), norm.get());
    double square = 0;
    for (float x : g) square += double(x) * double(x) / 64;
    CHECK(std::abs(double(norm.host()[0]) - std::sqrt(square)) < 1e-5 * std::sqrt(square));
    const auto s = step.host(true)[0];
    CHECK(s.skip == 0);
    CHECK(std::abs(double(s.gradient_scale) - 1 / std::sqrt(square) / 8) < 1e-6);

    doubles rw(w.begin(), w.end()), rv(n), am(n), av(n), ra(w.begin(), w.end());
    device_array<float> second(std::vector<float>(n, 0.0f));
    for (int t = 1; t <= 3; ++t) {
      optimizer_step now{0.1f, 0.5f, float(1 - std::pow(0.9, t)), float(1 - std::pow(0.999, t)), 0};
      step.upload({now});
      sgd({}, pw.get(), pg.get(), v.get(), std::int64_t(n), 0.9f, 0.01f, true, step.get());
      adam({}, aw.get(), pg.get(), m.get(), second.get(), std::int64_t(n), 0.9f, 0.999f, 1e-8f, 0.01f, true, step.get());
      for (std::size_t i = 0; i < n; ++i) {
        const double d = 0.5 * double(g[i]) + 0.01 * rw[i];
        rv[i] = 0.9 * rv[i] + d, rw[i] -= 0.1 * (d + 0.9 * rv[i]);
        const double e = 0.5 * double(g[i]);
        ra[i] -= 0.1 * 0.01 * ra[i];
        am[i] = 0.9 * am[i] + 0.1 * e, av[i] = 0.999 * av[i] + 0.001 * e * e;
        ra[i] -= 0.1 * (am[i] / (1 - std::pow(0.9, t))) / (std::sqrt(av[i] / (1 - std::pow(0.999, t))) + 1e-8);
      }
    }
    CHECK(relative_error(pw.host(), rw) < 1e-5);
    CHECK(relative_error(aw.host(), ra) < 1e-4);

    auto broken = g;
    broken[500] = INFINITY;
    pg.upload(broken);
    gradient_norm({}, pg.get(), std::int64_t(n), 1.0f, 0.0f, partials.get(), step.get(), norm.get());
    CHECK(step.host(true)[0].skip == 1);
    const auto before = pw.host();
    sgd({}, pw.get(), pg.get(), v.get(), std::int64_t(n), 0.9f, 0.0f, false, step.get());
    CHECK(pw.host() == before);
  });
}

TEST_CASE("guided filter") {
  const int n = 1, h = 9, w = 11, c = 3, r = 2;
  const auto guide = random_values(std::size_t(n * h * w), 1, 0, 1), p = random_values(std::size_t(n * h * w * c), 2);
  auto mean = [&](const doubles& x, int channels) {
    doubles y(x.size());
    for (int i = 0; i < h; ++i)
      for (int j = 0; j < w; ++j)
        for (int k = 0; k < channels; ++k) {
          double sum = 0, count = 0;
          for (int a = std::max(0, i - r); a <= std::min(h - 1, i + r); ++a)
            for (int b = std::max(0, j - r); b <= std::min(w - 1, j + r); ++b) sum += x[std::size_t((a * w + b) * channels + k)], count += 1;
          y[std::size_t((i * w + j) * channels + k)] = sum / count;
        }
    return y;
  };
  const doubles I(guide.begin(), guide.end());
  doubles II(I.size()), Ip(p.size()), P(p.begin(), p.end()), a(p.size()), b(p.size()), want(p.size());
  for (std::size_t i = 0; i < I.size(); ++i) II[i] = I[i] * I[i];
  for (std::size_t i = 0; i < P.size(); ++i) Ip[i] = I[i / 3] * P[i];
  const auto mI = mean(I, 1), mII = mean(II, 1), mP = mean(P, c), mIp = mean(Ip, c);
  for (std::size_t i = 0; i < P.size(); ++i) {
    a[i] = (mIp[i] - mI[i / 3] * mP[i]) / (mII[i / 3] - mI[i / 3] * mI[i / 3] + 0.01);
    b[i] = mP[i] - a[i] * mI[i / 3];
  }
  const auto ma = mean(a, c), mb = mean(b, c);
  for (std::size_t i = 0; i < P.size(); ++i) want[i] = ma[i] * I[i / 3] + mb[i];
  in_every_order([&] {
    device_array<float> pg(guide), pp(p), y(p.size()), work(guided_filter_workspace(n, h, w, c));
    guided_filter({}, pg.get(), pp.get(), y.get(), n, h, w, c, r, 0.01f, work.get());
    CHECK(relative_error(y.host(), want) < 1e-5);
  });
}
