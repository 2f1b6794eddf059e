// SPDX-License-Identifier: MIT
// Pooling, unpooling, pyramid pooling, resizing, softmax and cross entropy against double references written here.
#include "emulation_test.hpp"
#include "kernels/cross_entropy.cuh"
#include "kernels/pool.cuh"
#include "kernels/resize.cuh"

using namespace rsseg;
using namespace rsseg::cuda;
using namespace rsseg::test;

namespace {
using doubles = std::vector<double>;

std::size_t at(int n, int y, int x, int c, int h, int w, int channels) { return ((std::size_t(n) * h + y) * w + x) * channels + c; }

conv_geometry pooling(int n, int h, int w, int c, int kernel, int stride, int pad, int dilation = 1) {
  conv_geometry g;
  g.n = n, g.in_h = h, g.in_w = w, g.in_c = g.out_c = c, g.kernel_h = g.kernel_w = kernel, g.stride_h = g.stride_w = stride;
  g.pad_top = g.pad_left = pad, g.dilation_h = g.dilation_w = dilation;
  g.out_h = conv_out(h, kernel, stride, 2 * pad, dilation), g.out_w = conv_out(w, kernel, stride, 2 * pad, dilation);
  return g;
}
/// Dense matrix of a one-dimensional resize: row o holds the weights of the inputs.
std::vector<doubles> resize_matrix(int in, int out, bool align) {
  std::vector<doubles> m(std::size_t(out), doubles(std::size_t(in), 0.0));
  for (int o = 0; o < out; ++o) {
    double s = align ? (out > 1 ? double(o) * (in - 1) / (out - 1) : 0.0) : std::max((o + 0.5) * in / out - 0.5, 0.0);
    const int i0 = std::min(int(s + 1e-9), in - 1), i1 = std::min(i0 + 1, in - 1);
    const double f = std::max(0.0, s - i0);
    m[std::size_t(o)][std::size_t(i0)] += 1 - f, m[std::size_t(o)][std::size_t(i1)] += f;
  }
  return m;
}
doubles resized(const resize_geometry& g, const std::vector<float>& x) {
  const auto my = resize_matrix(g.in_h, g.out_h, g.align_corners), mx = resize_matrix(g.in_w, g.out_w, g.align_corners);
  doubles y(std::size_t(g.n * g.out_h * g.out_w * g.c), 0.0);
  for (int n = 0; n < g.n; ++n)
    for (int oy = 0; oy < g.out_h; ++oy)
      for (int ox = 0; ox < g.out_w; ++ox)
        for (int iy = 0; iy < g.in_h; ++iy)
          for (int ix = 0; ix < g.in_w; ++ix)
            for (int c = 0; c < g.c; ++c)
              y[at(n, oy, ox, c, g.out_h, g.out_w, g.c)] +=
                  my[std::size_t(oy)][std::size_t(iy)] * mx[std::size_t(ox)][std::size_t(ix)] * double(x[at(n, iy, ix, c, g.in_h, g.in_w, g.c)]);
  return y;
}
doubles resized_backward(const resize_geometry& g, const doubles& dy) {
  const auto my = resize_matrix(g.in_h, g.out_h, g.align_corners), mx = resize_matrix(g.in_w, g.out_w, g.align_corners);
  doubles dx(std::size_t(g.n * g.in_h * g.in_w * g.c), 0.0);
  for (int n = 0; n < g.n; ++n)
    for (int oy = 0; oy < g.out_h; ++oy)
      for (int ox = 0; ox < g.out_w; ++ox)
        for (int iy = 0; iy < g.in_h; ++iy)
          for (int ix = 0; ix < g.in_w; ++ix)
            for (int c = 0; c < g.c; ++c)
              dx[at(n, iy, ix, c, g.in_h, g.in_w, g.c)] +=
                  my[std::size_t(oy)][std::size_t(iy)] * mx[std::size_t(ox)][std::size_t(ix)] * dy[at(n, oy, ox, c, g.out_h, g.out_w, g.c)];
  return dx;
}
/// Mean weighted cross entropy of (pixels x classes) logits; gradient by the textbook.
double reference_loss(const doubles& z, const std::vector<std::uint8_t>& label, const std::vector<float>& weight, int classes, int ignore,
                      doubles& gradient) {
  double loss = 0, total = 0;
  gradient.assign(z.size(), 0.0);
  for (std::size_t p = 0; p < label.size(); ++p) {
    if (label[p] == ignore || label[p] >= classes) continue;
    double top = -1e300, sum = 0;
    for (int c = 0; c < classes; ++c) top = std::max(top, z[p * classes + c]);
    for (int c = 0; c < classes; ++c) sum += std::exp(z[p * classes + c] - top);
    const double w = double(weight[label[p]]);
    loss += w * (top + std::log(sum) - z[p * classes + label[p]]), total += w;
    for (int c = 0; c < classes; ++c) gradient[p * classes + c] = w * (std::exp(z[p * classes + c] - top) / sum - (c == label[p]));
  }
  for (double& g : gradient) g /= total;
  return loss / total;
}
}  // namespace

TEST_CASE("max pooling, its gradient, unpooling and its gradient") {
  for (const auto& g :
       {pooling(2, 9, 7, 5, 2, 2, 0), pooling(1, 11, 8, 8, 3, 2, 1), pooling(2, 6, 5, 3, 3, 1, 1), pooling(1, 12, 9, 4, 2, 1, 1, 2)}) {
    const auto x = random_values(std::size_t(g.n * g.in_h * g.in_w * g.in_c), 1),
               dy = random_values(std::size_t(g.n * g.out_h * g.out_w * g.in_c), 2);
    doubles want(dy.size()), dx(x.size()), back(dy.size());
    for (int n = 0; n < g.n; ++n)
      for (int oy = 0; oy < g.out_h; ++oy)
        for (int ox = 0; ox < g.out_w; ++ox)
          for (int c = 0; c < g.in_c; ++c) {
            double best = -1e300;
            std::size_t from = 0;
            for (int ky = 0; ky < g.kernel_h; ++ky)
              for (int kx = 0; kx < g.kernel_w; ++kx) {
                const int iy = oy * g.stride_h - g.pad_top + ky * g.dilation_h, ix = ox * g.stride_w - g.pad_left + kx * g.dilation_w;
                if (iy < 0 || iy >= g.in_h || ix < 0 || ix >= g.in_w) continue;
                const std::size_t i = at(n, iy, ix, c, g.in_h, g.in_w, g.in_c);
                if (double(x[i]) > best) best = double(x[i]), from = i;
              }
            const std::size_t o = at(n, oy, ox, c, g.out_h, g.out_w, g.in_c);
            want[o] = best, dx[from] += double(dy[o]), back[o] = double(x[from]);
          }
    in_every_order([&] {
      device_array<float> px(x), pdy(dy), y(dy.size()), up(x.size()), down(dy.size());
      device_array<std::uint8_t> index(dy.size());
      max_pool<float>({}, g, px.get(), y.get(), index.get());
      CHECK(relative_error(y.host(), want) == 0);
      unpool<float>({}, g, pdy.get(), index.get(), up.get());
      CHECK(relative_error(up.host(), dx) < 1e-6);
      unpool_backward<float>({}, g, px.get(), index.get(), down.get());
      CHECK(relative_error(down.host(), back) == 0);
    });
  }
}

TEST_CASE("average pooling") {
  for (const auto& g : {pooling(2, 9, 7, 5, 3, 2, 1), pooling(1, 8, 6, 3, 2, 2, 0)})
    for (bool count_padding : {false, true}) {
      const auto x = random_values(std::size_t(g.n * g.in_h * g.in_w * g.in_c), 3),
                 dy = random_values(std::size_t(g.n * g.out_h * g.out_w * g.in_c), 4);
      doubles want(dy.size()), dx(x.size());
      for (int n = 0; n < g.n; ++n)
        for (int oy = 0; oy < g.out_h; ++oy)
          for (int ox = 0; ox < g.out_w; ++ox)
            for (int c = 0; c < g.in_c; ++c) {
              std::vector<std::size_t> from;
              for (int ky = 0; ky < g.kernel_h; ++ky)
                for (int kx = 0; kx < g.kernel_w; ++kx) {
                  const int iy = oy * g.stride_h - g.pad_top + ky, ix = ox * g.stride_w - g.pad_left + kx;
                  if (iy >= 0 && iy < g.in_h && ix >= 0 && ix < g.in_w) from.push_back(at(n, iy, ix, c, g.in_h, g.in_w, g.in_c));
                }
              const std::size_t o = at(n, oy, ox, c, g.out_h, g.out_w, g.in_c);
              const double k = count_padding ? g.kernel_h * g.kernel_w : double(from.size());
              for (std::size_t i : from) want[o] += double(x[i]) / k, dx[i] += double(dy[o]) / k;
            }
      in_every_order([&] {
        device_array<float> px(x), pdy(dy), y(dy.size()), up(x.size());
        average_pool<float>({}, g, count_padding, px.get(), y.get());
        CHECK(relative_error(y.host(), want) < 1e-6);
        average_pool_backward<float>({}, g, count_padding, pdy.get(), up.get());
        CHECK(relative_error(up.host(), dx) < 1e-6);
      });
    }
}

TEST_CASE("pyramid pooling: several bin counts in one read") {
  const int n = 2, h = 13, w = 11, c = 35, bins[] = {1, 2, 3, 6};
  const auto x = random_values(std::size_t(n * h * w * c), 5);
  std::vector<std::vector<float>> dys;
  std::vector<doubles> wants;
  doubles dx(x.size());
  for (int b : bins) {
    dys.push_back(random_values(std::size_t(n * b * b * c), 6 + std::uint64_t(b)));
    wants.emplace_back(std::size_t(n * b * b * c), 0.0);
    for (int i = 0; i < n; ++i)
      for (int by = 0; by < b; ++by)
        for (int bx = 0; bx < b; ++bx) {
          const int y0 = by * h / b, y1 = ((by + 1) * h + b - 1) / b, x0 = bx * w / b, x1 = ((bx + 1) * w + b - 1) / b;
          for (int y = y0; y < y1; ++y)
            for (int q = x0; q < x1; ++q)
              for (int k = 0; k < c; ++k) {
                wants.back()[at(i, by, bx, k, b, b, c)] += double(x[at(i, y, q, k, h, w, c)]) / ((y1 - y0) * (x1 - x0));
                dx[at(i, y, q, k, h, w, c)] += double(dys.back()[at(i, by, bx, k, b, b, c)]) / ((y1 - y0) * (x1 - x0));
              }
        }
  }
  in_every_order([&] {
    const pyramid p = make_pyramid(n, h, w, c, bins, 4);
    device_array<float> px(x), work(pyramid_workspace(p)), up(x.size());
    std::vector<device_array<float>> ys, gs;
    float* y[4];
    const float* g[4];
    for (std::size_t l = 0; l < 4; ++l) ys.emplace_back(wants[l].size()), gs.emplace_back(dys[l]), y[l] = ys[l].get(), g[l] = gs[l].get();
    pyramid_pool<float>({}, p, px.get(), y, work.get());
    for (std::size_t l = 0; l < 4; ++l) CHECK(relative_error(ys[l].host(), wants[l]) < 1e-6);
    pyramid_pool_backward<float>({}, p, g, up.get());
    CHECK(relative_error(up.host(), dx) < 1e-6);
  });
}

TEST_CASE("bilinear resizing and its gradient, both conventions, up and down") {
  for (auto g : {resize_geometry{2, 5, 4, 3, 16, 12}, resize_geometry{1, 8, 7, 5, 9, 11}, resize_geometry{1, 3, 9, 10, 4, 5},
                 resize_geometry{2, 4, 1, 1, 3, 5}, resize_geometry{1, 2, 6, 6, 6, 6}, resize_geometry{1, 1, 5, 4, 1, 1}})
    for (bool align : {false, true}) {
      g.align_corners = align;
      const auto x = random_values(std::size_t(g.n * g.in_h * g.in_w * g.c), 11), dy = random_values(std::size_t(g.n * g.out_h * g.out_w * g.c), 12);
      const doubles want = resized(g, x), dx = resized_backward(g, doubles(dy.begin(), dy.end()));
      in_every_order([&] {
        device_array<float> px(x), pdy(dy), y(dy.size()), up(x.size());
        bilinear<float>({}, g, px.get(), y.get());
        CHECK(relative_error(y.host(), want) < 1e-5);
        bilinear_backward<float>({}, g, pdy.get(), up.get());
        CHECK(relative_error(up.host(), dx) < 1e-5);
      });
    }
}

TEST_CASE("nearest resizing and its gradient") {
  for (const auto& g : {resize_geometry{2, 3, 4, 5, 8, 15}, resize_geometry{1, 2, 7, 9, 3, 4}, resize_geometry{1, 2, 3, 3, 7, 8}}) {
    const auto x = random_values(std::size_t(g.n * g.in_h * g.in_w * g.c), 13), dy = random_values(std::size_t(g.n * g.out_h * g.out_w * g.c), 14);
    doubles want(dy.size()), dx(x.size());
    for (int n = 0; n < g.n; ++n)
      for (int oy = 0; oy < g.out_h; ++oy)
        for (int ox = 0; ox < g.out_w; ++ox)
          for (int c = 0; c < g.c; ++c) {
            const std::size_t i = at(n, oy * g.in_h / g.out_h, ox * g.in_w / g.out_w, c, g.in_h, g.in_w, g.c),
                              o = at(n, oy, ox, c, g.out_h, g.out_w, g.c);
            want[o] = double(x[i]), dx[i] += double(dy[o]);
          }
    in_every_order([&] {
      device_array<float> px(x), pdy(dy), y(dy.size()), up(x.size());
      nearest<float>({}, g, px.get(), y.get());
      CHECK(relative_error(y.host(), want) == 0);
      nearest_backward<float>({}, g, pdy.get(), up.get());
      CHECK(relative_error(up.host(), dx) < 1e-6);
    });
  }
}

TEST_CASE("softmax, argmax and the confusion matrix") {
  const int pixels = 301, classes = 7;
  const auto z = random_values(std::size_t(pixels * classes), 15, -20, 20), dy = random_values(z.size(), 16);
  doubles p(z.size()), logs(z.size()), dx(z.size());
  std::vector<std::uint8_t> best(std::size_t(pixels), 0), truth(std::size_t(pixels), 0);
  std::vector<unsigned long long> counts(49, 0);
  for (std::size_t i = 0; i < std::size_t(pixels); ++i) {
    double sum = 0, dot = 0;
    for (std::size_t c = 0; c < 7; ++c) sum += std::exp(double(z[i * 7 + c]));
    for (std::size_t c = 0; c < 7; ++c) {
      p[i * 7 + c] = std::exp(double(z[i * 7 + c])) / sum, logs[i * 7 + c] = std::log(p[i * 7 + c]);
      dot += p[i * 7 + c] * double(dy[i * 7 + c]);
      if (z[i * 7 + c] > z[i * 7 + best[i]]) best[i] = std::uint8_t(c);
    }
    for (std::size_t c = 0; c < 7; ++c) dx[i * 7 + c] = p[i * 7 + c] * (double(dy[i * 7 + c]) - dot);
    truth[i] = std::uint8_t(i % 9 == 8 ? 255 : i % 7);
    if (truth[i] != 255) ++counts[truth[i] * 7u + best[i]];
  }
  in_every_order([&] {
    device_array<float> dz(z), g(dy), y(z.size()), x(z.size());
    softmax<float>({}, dz.get(), y.get(), pixels, classes);
    CHECK(relative_error(y.host(), p) < 1e-6);
    softmax_backward<float>({}, y.get(), g.get(), x.get(), pixels, classes);
    CHECK(relative_error(x.host(), dx) < 1e-5);
    softmax<float>({}, dz.get(), y.get(), pixels, classes, true);
    CHECK(relative_error(y.host(), logs) < 1e-6);
    device_array<std::uint8_t> t(truth);
    device_array<std::uint8_t> argbest{std::size_t(pixels)};
    argmax<float, std::uint8_t>({}, dz.get(), argbest.get(), pixels, classes);
    CHECK(argbest.host() == best);
    device_array<unsigned long long> n(std::vector<unsigned long long>(49, 0));
    confusion<std::uint8_t>({}, t.get(), argbest.get(), 255, n.get(), pixels, classes);
    CHECK(n.host() == counts);
  });
}

TEST_CASE("cross entropy: ignore index, class weights, bad labels, many classes") {
  for (int classes : {2, 19, 70}) {
    const int pixels = 331;
    const auto z = random_values(std::size_t(pixels * classes), 17, -9, 9), weight = random_values(std::size_t(classes), 18, 0.2, 3);
    std::vector<std::uint8_t> label(std::size_t(pixels), 0);
    for (int i = 0; i < pixels; ++i) label[std::size_t(i)] = std::uint8_t(i % 11 == 5 ? 255 : (i * 7) % classes);
    label[3] = 200;  // neither a class nor ignore
    doubles gradient;
    const double want = reference_loss(doubles(z.begin(), z.end()), label, weight, classes, 255, gradient);
    float first = 0;
    in_every_order([&] {
      device_array<float> dz(z), dw(weight), g(z.size()), per_pixel(label.size()), work(cross_entropy_workspace());
      device_array<std::uint8_t> dl(label);
      device_array<cross_entropy_result> r(1);
      cross_entropy<float, std::uint8_t>({}, dz.get(), {dl.get(), dw.get(), 255}, g.get(), per_pixel.get(), 1.0f, pixels, classes, work.get(),
                                         r.get());
      const auto result = r.host(true)[0];
      CHECK(std::abs(double(result.loss) - want) < 1e-5 * want);
      CHECK(result.bad_labels == 1);
      CHECK(relative_error(g.host(), gradient) < 1e-5);
      CHECK(per_pixel.host()[5] == 0.0f);
      if (first == 0) first = result.loss;
      CHECK(result.loss == first);
    });
  }
}

TEST_CASE("cross entropy fused with bilinear upsampling equals the two apart") {
  for (auto g : {resize_geometry{2, 5, 4, 3, 16, 12}, resize_geometry{1, 19, 3, 5, 24, 40}, resize_geometry{1, 3, 5, 4, 11, 13},
                 resize_geometry{1, 2, 1, 1, 4, 4}})
    for (bool align : {false, true}) {
      g.align_corners = align;
      const auto z = random_values(std::size_t(g.n * g.in_h * g.in_w * g.c), 19, -5, 5), weight = random_values(std::size_t(g.c), 20, 0.2, 3);
      std::vector<std::uint8_t> label(std::size_t(g.n * g.out_h * g.out_w), 0);
      for (std::size_t i = 0; i < label.size(); ++i) label[i] = std::uint8_t(i % 13 == 5 ? 255 : (i * 5) % std::size_t(g.c));
      doubles full;
      const double want = reference_loss(resized(g, z), label, weight, g.c, 255, full);
      const doubles gradient = resized_backward(g, full);
      in_every_order([&] {
        device_array<float> dz(z), dw(weight), out(z.size()), work(upsampled_cross_entropy_workspace(g));
        device_array<std::uint8_t> dl(label);
        device_array<cross_entropy_result> r(1);
        upsampled_cross_entropy<float, std::uint8_t>({}, g, dz.get(), {dl.get(), dw.get(), 255}, out.get(), 1.0f, work.get(), r.get());
        CHECK(std::abs(double(r.host(true)[0].loss) - want) < 1e-5 * want);
        CHECK(relative_error(out.host(), gradient) < 2e-5);
      });
    }
}
