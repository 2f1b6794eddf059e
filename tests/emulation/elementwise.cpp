// SPDX-License-Identifier: MIT
// Elementwise kernels, channel sums and normalisation against double references, at odd sizes, in every order.
#include "kernels/elementwise.cuh"
#include "emulation_test.hpp"
#include "kernels/normalization.cuh"

using namespace rsseg;
using namespace rsseg::cuda;
using namespace rsseg::test;

namespace {
double reference(activation kind, double v, double slope) {
  const double s = 1 / (1 + std::exp(-v));
  switch (kind) {
    case activation::relu:
      return v > 0 ? v : 0;
    case activation::leaky_relu:
      return v > 0 ? v : slope * v;
    case activation::elu:
      return v > 0 ? v : slope * (std::exp(v) - 1);
    case activation::sigmoid:
      return s;
    case activation::tanh:
      return std::tanh(v);
    case activation::relu6:
      return std::min(std::max(v, 0.0), 6.0);
    case activation::hard_swish:
      return v * std::min(std::max(v + 3, 0.0), 6.0) / 6;
    case activation::silu:
      return v * s;
    default:
      return v;
  }
}
}  // namespace

TEST_CASE("activations and their derivatives") {
  const auto x = random_values(1003, 1, -7, 7), dy = random_values(1003, 2);
  for (auto kind : {activation::none, activation::relu, activation::leaky_relu, activation::elu, activation::sigmoid, activation::tanh,
                    activation::relu6, activation::hard_swish, activation::silu}) {
    std::vector<double> want(x.size()), slope(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double h = 1e-6, v = double(x[i]);
      want[i] = reference(kind, v, 0.3);
      slope[i] = double(dy[i]) * (reference(kind, v + h, 0.3) - reference(kind, v - h, 0.3)) / (2 * h);
    }
    in_every_order([&] {
      device_array<float> dx(x), y(x.size()), g(dy), out(x.size());
      activation_forward({}, kind, 0.3f, dx.get(), y.get(), std::int64_t(x.size()));
      CHECK(relative_error(y.host(), want) < 1e-6);
      activation_backward({}, kind, 0.3f, slope_needs_input(kind) ? dx.get() : y.get(), g.get(), out.get(), std::int64_t(x.size()));
      CHECK(relative_error(out.host(), slope) < 1e-5);
    });
  }
}

TEST_CASE("sums, products, fill and conversion, also unaligned and in halves") {
  const auto a = random_values(517, 3), b = random_values(517, 4);
  in_every_order([&] {
    auto check = [&](auto storage, double tolerance) {
      using T = decltype(storage);
      const auto sa = stored<T>(a), sb = stored<T>(b);
      device_array<T> da(sa), db(sb), y(std::vector<T>(517));
      std::vector<double> sum(517), product(517);
      for (std::size_t i = 0; i < 517; ++i) {
        const double p = double(to_float(sa[i])), q = double(to_float(sb[i]));
        sum[i] = std::max(2 * p - q, 0.0), product[i] = p * q;
      }
      add({}, 2.0f, da.get(), -1.0f, db.get(), y.get(), 517, activation::relu);
      CHECK(relative_error(y.host(), sum) < tolerance);
      multiply({}, da.get(), db.get(), y.get(), 517);
      CHECK(relative_error(y.host(), product) < tolerance);
      multiply({}, da.get() + 1, db.get() + 1, y.get() + 1, 516);  // not a multiple of 16 bytes: the narrow path
      CHECK(relative_error(y.host(), product) < tolerance);
      fill({}, 0.5f, y.get(), 517);
      CHECK(to_float(y.host()[516]) == 0.5f);
    };
    check(float{}, 1e-6), check(bf16{}, 4e-3), check(f16{}, 5e-4);
    device_array<float> f(a);
    device_array<bf16> h(517);
    convert({}, f.get(), h.get(), 517);
    CHECK(relative_error(h.host(), a) < 4e-3);
  });
}

TEST_CASE("scaling per channel and per image, PReLU") {
  const int n = 2, c = 5, pixels = 21, size = n * c * pixels;
  const auto x = random_values(size, 5), scale = random_values(n * c, 6), dy = random_values(size, 7);
  in_every_order([&] {
    device_array<float> dx(x), ds(scale), dg(dy), y(size);
    std::vector<double> want(size);
    scale_channels<float>({}, dx.get(), ds.get(), nullptr, y.get(), n, pixels, c, true, activation::relu);
    for (int i = 0; i < size; ++i) want[i] = std::max(0.0, double(x[i]) * double(scale[i / (pixels * c) * c + i % c]));
    CHECK(relative_error(y.host(), want) < 1e-6);
    scale_channels<float>({}, dx.get(), ds.get(), ds.get() + c, y.get(), n, pixels, c, false);
    for (int i = 0; i < size; ++i) want[i] = double(x[i]) * double(scale[i % c]) + double(scale[c + i % c]);
    CHECK(relative_error(y.host(), want) < 1e-6);
    prelu<float>({}, dx.get(), ds.get(), nullptr, y.get(), size, c);
    for (int i = 0; i < size; ++i) want[i] = x[i] > 0 ? double(x[i]) : double(x[i]) * double(scale[i % c]);
    CHECK(relative_error(y.host(), want) < 1e-6);
    prelu<float>({}, dx.get(), ds.get(), dg.get(), y.get(), size, c);
    for (int i = 0; i < size; ++i) want[i] = double(dy[i]) * (x[i] > 0 ? 1.0 : double(scale[i % c]));
    CHECK(relative_error(y.host(), want) < 1e-6);
    device_array<float> work(channel_sums_workspace<1>(n * pixels, c)), slope(c);
    prelu_slope_gradient({}, dx.get(), dg.get(), slope.get(), n * pixels, c, work.get());
    std::vector<double> ws(c);
    for (int i = 0; i < size; ++i)
      if (x[i] <= 0) ws[i % c] += double(x[i]) * double(dy[i]);
    CHECK(relative_error(slope.host(), ws) < 1e-5);
  });
}

TEST_CASE("channel sums: over the batch, per image, many channels, many chunks") {
  for (const auto& sizes : {std::array{3, 35, 7}, std::array{1, 5003, 3}, std::array{2, 130, 70}, std::array{1, 1, 1}}) {
    const int n = sizes[0], pixels = sizes[1], c = sizes[2];
    const auto x = random_values(std::size_t(n * pixels * c), 8), b = random_values(std::size_t(n * pixels * c), 9);
    std::vector<double> all(std::size_t(c), 0.0), mean(std::size_t(n * c), 0.0), dot(std::size_t(n * c), 0.0);
    for (int i = 0; i < n * pixels * c; ++i) {
      all[i % c] += double(x[i]);
      mean[i / (pixels * c) * c + i % c] += double(x[i]) / pixels, dot[i / (pixels * c) * c + i % c] += double(x[i]) * double(b[i]);
    }
    std::vector<float> first;
    in_every_order([&] {
      device_array<float> dx(x), db(b), out(c), per_image(n * c);
      device_array<float> work(std::max(channel_sums_workspace<1>(n * pixels, c), channel_sums_workspace<1>(pixels, c, n)));
      sum_pixels({}, dx.get(), out.get(), n * pixels, c, work.get());
      CHECK(relative_error(out.host(), all) < 1e-5);
      if (first.empty()) first = out.host();
      CHECK(out.host() == first);  // bit by bit, in every order
      sum_pixels({}, dx.get(), per_image.get(), pixels, c, work.get(), n, 1.0f / float(pixels));
      CHECK(relative_error(per_image.host(), mean) < 1e-5);
      dot_pixels({}, dx.get(), db.get(), per_image.get(), pixels, c, work.get(), n);
      CHECK(relative_error(per_image.host(), dot) < 1e-5);
    });
  }
}

TEST_CASE("windows: concat, split, crop, pad") {
  for (int c : {3, 8}) {
    const int n = 2, h = 5, w = 7, total = c + 4;
    const auto a = random_values(std::size_t(n * h * w * c), 10);
    in_every_order([&] {
      device_array<float> da(a), y(std::vector<float>(std::size_t(n * h * w * total), 1.0f)), crop(std::size_t(n * 3 * 9 * c));
      copy_window({}, {n, h, w, c, h, w, c, 0, 0, 0, h, w, total, 0, 0, 4, true}, da.get(), y.get());
      const auto v = y.host();
      bool fine = true;
      for (int p = 0; p < n * h * w; ++p)
        for (int k = 0; k < total; ++k) fine &= v[std::size_t(p * total + k)] == (k < 4 ? 1.0f : 1.0f + a[std::size_t(p * c + k - 4)]);
      CHECK(fine);
      copy_window({}, {n, 3, 9, c, h, w, c, 1, -1, 0, 3, 9, c, 0, 0, 0, false}, da.get(), crop.get());  // crops rows 1..3, pads columns by one
      const auto u = crop.host();
      for (int i = 0; i < n; ++i)
        for (int y = 0; y < 3; ++y)
          for (int x = 0; x < 9; ++x)
            for (int k = 0; k < c; ++k) {
              const float want = x == 0 || x == 8 ? 0.0f : a[std::size_t(((i * h + y + 1) * w + x - 1) * c + k)];
              fine &= u[std::size_t(((i * 3 + y) * 9 + x) * c + k)] == want;
            }
      CHECK(fine);
    });
  }
}

TEST_CASE("dropout draws what philox says") {
  const int n = 2, pixels = 9, c = 5, size = n * pixels * c;
  const std::vector<float> x(std::size_t(size), 3.0f);
  in_every_order([&] {
    device_array<float> dx(x), y(size);
    dropout<float>({}, dx.get(), y.get(), n, pixels, c, 0.25f, 7, 3);
    const auto v = y.host();
    int dropped = 0;
    for (int i = 0; i < size; ++i) {
      const bool drop = unit_float(philox(7, 3, std::uint64_t(i / 4)).v[i % 4]) < 0.25f;
      dropped += drop;
      CHECK(v[std::size_t(i)] == (drop ? 0.0f : 4.0f));
    }
    CHECK(dropped > size / 10);
    CHECK(dropped < size / 2);
    dropout<float>({}, dx.get(), y.get(), n, pixels, c, 0.5f, 7, 3, true);
    const auto u = y.host();
    for (int i = 0; i < size; ++i) CHECK(u[std::size_t(i)] == u[std::size_t(i / (pixels * c) * pixels * c + i % c)]);
  });
}

TEST_CASE("batch normalisation, training and inference, with ReLU and residual") {
  for (int c : {3, 8, 40}) {
    const int pixels = 67, size = pixels * c;
    auto x = random_values(size, 11), r = random_values(size, 12), dy = random_values(size, 13);
    for (float& v : x) v += 100.0f;  // a large mean must not cost precision
    const auto gamma = random_values(c, 14), beta = random_values(c, 15);
    std::vector<double> mean(c), variance(c), want(size), g(size), sum_g(c), sum_gx(c), dx_want(size);
    for (int i = 0; i < size; ++i) mean[i % c] += double(x[i]) / pixels;
    for (int i = 0; i < size; ++i) variance[i % c] += (double(x[i]) - mean[i % c]) * (double(x[i]) - mean[i % c]) / pixels;
    auto xhat = [&](int i) { return (double(x[i]) - mean[i % c]) / std::sqrt(variance[i % c] + 1e-5); };
    for (int i = 0; i < size; ++i) {
      want[i] = std::max(0.0, xhat(i) * double(gamma[i % c]) + double(beta[i % c]) + double(r[i]));
      g[i] = want[i] > 0 ? double(dy[i]) : 0.0;
      sum_g[i % c] += g[i], sum_gx[i % c] += g[i] * xhat(i);
    }
    for (int i = 0; i < size; ++i)
      dx_want[i] = double(gamma[i % c]) / std::sqrt(variance[i % c] + 1e-5) * (g[i] - sum_g[i % c] / pixels - xhat(i) * sum_gx[i % c] / pixels);
    in_every_order([&] {
      device_array<float> dx(x), dr(r), ddy(dy), dg(gamma), db(beta), y(size), m(c), inv(c), rm(std::vector<float>(c, 1.0f)),
          rv(std::vector<float>(c, 2.0f));
      device_array<float> work(batch_norm_workspace(pixels, c)), gx(size), gr(size), dgamma(c), dbeta(c), scale(c), shift(c);
      const batch_norm_state b{dg.get(), db.get(), m.get(), inv.get(), rm.get(), rv.get()};
      batch_norm_train<float>({}, b, dx.get(), dr.get(), y.get(), pixels, c, activation::relu, work.get());
      CHECK(relative_error(y.host(), want) < 2e-5);
      std::vector<double> running(c);
      for (int k = 0; k < c; ++k) running[k] = 0.9 * 2 + 0.1 * variance[k] * pixels / (pixels - 1);
      CHECK(relative_error(rv.host(), running) < 1e-5);
      batch_norm_backward<float>({}, b, dx.get(), y.get(), ddy.get(), gx.get(), gr.get(), dgamma.get(), dbeta.get(), pixels, c, activation::relu,
                                 work.get());
      CHECK(relative_error(gx.host(), dx_want) < 5e-5);
      CHECK(relative_error(gr.host(), g) < 1e-6);
      CHECK(relative_error(dgamma.host(), sum_gx) < 5e-5);
      CHECK(relative_error(dbeta.host(), sum_g) < 1e-5);
      fold_batch_norm({}, b, nullptr, scale.get(), shift.get(), c);
      scale_channels<float>({}, dx.get(), scale.get(), shift.get(), y.get(), 1, pixels, c, false);
      std::vector<double> inference(size);
      for (int i = 0; i < size; ++i)
        inference[i] = (double(x[i]) - 0.9 - 0.1 * mean[i % c]) / std::sqrt(running[i % c] + 1e-5) * double(gamma[i % c]) + double(beta[i % c]);
      CHECK(relative_error(y.host(), inference) < 1e-5);
    });
  }
}

TEST_CASE("group normalisation") {
  const int n = 2, pixels = 33, c = 12, groups = 3, per = c / groups, size = n * pixels * c;
  const auto x = random_values(size, 16), dy = random_values(size, 17), gamma = random_values(c, 18), beta = random_values(c, 19);
  std::vector<double> mean(n * groups), variance(n * groups), want(size), a(n * groups), b(n * groups), dx_want(size), dgamma_want(c), dbeta_want(c);
  const double count = pixels * per;
  auto group = [&](int i) { return i / (pixels * c) * groups + i % c / per; };
  for (int i = 0; i < size; ++i) mean[group(i)] += double(x[i]) / count;
  for (int i = 0; i < size; ++i) variance[group(i)] += std::pow(double(x[i]) - mean[group(i)], 2) / count;
  auto xhat = [&](int i) { return (double(x[i]) - mean[group(i)]) / std::sqrt(variance[group(i)] + 1e-5); };
  for (int i = 0; i < size; ++i) {
    want[i] = xhat(i) * double(gamma[i % c]) + double(beta[i % c]);
    const double w = double(gamma[i % c]) * double(dy[i]);
    a[group(i)] += w / count, b[group(i)] += w * xhat(i) / count;
    dgamma_want[i % c] += double(dy[i]) * xhat(i), dbeta_want[i % c] += double(dy[i]);
  }
  for (int i = 0; i < size; ++i)
    dx_want[i] = (double(gamma[i % c]) * double(dy[i]) - a[group(i)] - xhat(i) * b[group(i)]) / std::sqrt(variance[group(i)] + 1e-5);
  in_every_order([&] {
    device_array<float> dx(x), ddy(dy), dg(gamma), db(beta), y(size), m(n * groups), inv(n * groups), gx(size), dgamma(c), dbeta(c);
    device_array<float> work(group_norm_workspace(n, pixels, c));
    group_norm<float>({}, dx.get(), y.get(), dg.get(), db.get(), m.get(), inv.get(), n, pixels, c, groups, 1e-5f);
    CHECK(relative_error(y.host(), want) < 1e-5);
    group_norm_backward<float>({}, dx.get(), ddy.get(), gx.get(), dg.get(), m.get(), inv.get(), dgamma.get(), dbeta.get(), n, pixels, c, groups,
                               work.get());
    CHECK(relative_error(gx.host(), dx_want) < 1e-5);
    CHECK(relative_error(dgamma.host(), dgamma_want) < 1e-5);
    CHECK(relative_error(dbeta.host(), dbeta_want) < 1e-5);
  });
}
