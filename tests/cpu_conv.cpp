// SPDX-License-Identifier: MIT
// Convolutions of the CPU backend against a naive double reference: forward, data, weight and bias gradient, every instruction set this
// machine has, float and double, one and two threads with the same bits, dense tensors and columns of wider ones likewise.
#include "rsseg/cpu/conv.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "cpu_conv_cases.hpp"
#include "cpu_conv_data.hpp"
#include "rsseg/core/parallel.hpp"
#include "rsseg/cpu/conv_entries.hpp"
#include "rsseg/cpu/isa.hpp"

namespace {

using rsseg::conv_geometry;
namespace cpu = rsseg::cpu;
using rsseg::test::noise;

/// A sum and the sum of the terms' magnitudes, which scales its rounding error.
struct sums {
  std::vector<double> value, magnitude;
  explicit sums(std::size_t n) : value(n), magnitude(n) {}
  void add(std::size_t i, double t) { value[i] += t, magnitude[i] += std::abs(t); }
};

/// Calls use(index of x, of w, of y) for every product of the convolution.
template <class Use>
void each_product(const conv_geometry& g, const Use& use) {
  const int kc = g.in_c_per_group(), nc = g.out_c_per_group();
  for (int n = 0; n < g.n; ++n)
    for (int oy = 0; oy < g.out_h; ++oy)
      for (int ox = 0; ox < g.out_w; ++ox)
        for (int ky = 0; ky < g.kernel_h; ++ky)
          for (int kx = 0; kx < g.kernel_w; ++kx) {
            const int iy = oy * g.stride_h - g.pad_top + ky * g.dilation_h, ix = ox * g.stride_w - g.pad_left + kx * g.dilation_w;
            if (iy < 0 || iy >= g.in_h || ix < 0 || ix >= g.in_w) continue;
            for (int co = 0; co < g.out_c; ++co)
              for (int ci = 0; ci < kc; ++ci)
                use(((std::size_t(n) * g.in_h + iy) * g.in_w + ix) * g.in_c + co / nc * kc + ci,
                    ((std::size_t(co) * g.kernel_h + ky) * g.kernel_w + kx) * kc + ci,
                    ((std::size_t(n) * g.out_h + oy) * g.out_w + ox) * g.out_c + co);
          }
}

std::string describe(const conv_geometry& g) {
  const auto s = [](int i) { return std::to_string(i) + " "; };
  return "n " + s(g.n) + "in " + s(g.in_h) + s(g.in_w) + s(g.in_c) + "out " + s(g.out_h) + s(g.out_w) + s(g.out_c) + "kernel " + s(g.kernel_h) +
         s(g.kernel_w) + "stride " + s(g.stride_h) + s(g.stride_w) + "pad " + s(g.pad_top) + s(g.pad_left) + "dilation " + s(g.dilation_h) +
         s(g.dilation_w) + "groups " + s(g.groups);
}

/// Largest error in units of the type's epsilon times the sum of magnitudes.
template <class T>
double worst(const std::vector<T>& got, const sums& want) {
  double w = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    const double e = std::abs(double(got[i]) - want.value[i]) / (std::numeric_limits<T>::epsilon() * (want.magnitude[i] + 1e-30));
    if (!(e <= w)) w = e;  // a NaN sticks
  }
  return w;
}

/// Random sums err like the square root of their length; 8 epsilons of the magnitude hold for all lengths here with room.
constexpr double allowed = 8;

std::vector<cpu::isa> isas() {
  std::vector<cpu::isa> v;
  for (auto i : {cpu::isa::portable, cpu::isa::avx2, cpu::isa::avx512})
    if (cpu::available(i)) v.push_back(i);
  return v;
}

template <class T>
struct outputs {
  std::vector<T> y, fused, dx, dx_fused, dw, db;
  bool operator==(const outputs& o) const {
    const auto same = [](const std::vector<T>& a, const std::vector<T>& b) { return std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0; };
    return same(y, o.y) && same(fused, o.fused) && same(dx, o.dx) && same(dx_fused, o.dx_fused) && same(dw, o.dw) && same(db, o.db);
  }
};

template <class T>
struct inputs {
  std::vector<T> x, w, dy, bias_y, bias_x;
};

/// A buffer that is full of NaN and followed by guards.
template <class T>
struct guarded {
  std::vector<T> data;
  explicit guarded(std::size_t size) : data(size + 16, std::numeric_limits<T>::quiet_NaN()) {
    for (std::size_t i = size; i < data.size(); ++i) data[i] = T(7);
  }
  T* get() { return data.data(); }
  bool intact() const {
    for (std::size_t i = data.size() - 16; i < data.size(); ++i)
      if (data[i] != T(7)) return false;
    return true;
  }
  std::vector<T> take() const { return {data.begin(), data.end() - 16}; }
};

template <class T>
outputs<T> run(const conv_geometry& g, const inputs<T>& in) {
  outputs<T> o;
  const std::size_t xs = in.x.size(), ys = in.dy.size(), ws = in.w.size();
  {
    guarded<T> packed(cpu::conv_packed_size<T>(g)), y(ys), workspace(cpu::conv_workspace_size<T>(g) / sizeof(T));
    cpu::conv_pack(g, in.w.data(), packed.get());
    cpu::conv_forward(g, in.x.data(), packed.get(), y.get(), {}, workspace.get());
    o.y = y.take();
    guarded<T> fused(ys);
    std::copy(in.dy.begin(), in.dy.end(), fused.get());
    cpu::conv_epilogue<T> e;
    e.bias = in.bias_y.data(), e.residual = fused.get(), e.act = cpu::activation::relu;
    cpu::conv_forward(g, in.x.data(), packed.get(), fused.get(), e, workspace.get());
    o.fused = fused.take();
    CHECK((packed.intact() && y.intact() && workspace.intact() && fused.intact()));
  }
  {
    guarded<T> packed(cpu::conv_packed_size_backward_data<T>(g)), dx(xs), workspace(cpu::conv_workspace_size_backward_data<T>(g) / sizeof(T));
    cpu::conv_pack_backward_data(g, in.w.data(), packed.get());
    cpu::conv_backward_data(g, in.dy.data(), packed.get(), dx.get(), {}, workspace.get());
    o.dx = dx.take();
    guarded<T> fused(xs);
    cpu::conv_epilogue<T> e;
    e.bias = in.bias_x.data(), e.residual = in.x.data(), e.act = cpu::activation::relu;
    cpu::conv_backward_data(g, in.dy.data(), packed.get(), fused.get(), e, workspace.get());
    o.dx_fused = fused.take();
    CHECK((packed.intact() && dx.intact() && workspace.intact() && fused.intact()));
  }
  {
    guarded<T> dw(ws), workspace(cpu::conv_workspace_size_backward_weights<T>(g) / sizeof(T));
    cpu::conv_backward_weights(g, in.x.data(), in.dy.data(), dw.get(), workspace.get());
    o.dw = dw.take();
    CHECK((dw.intact() && workspace.intact()));
  }
  {
    const std::int64_t pixels = std::int64_t(g.n) * g.out_h * g.out_w;
    guarded<T> db(g.out_c), workspace(cpu::bias_gradient_workspace_size<T>(pixels, g.out_c) / sizeof(T));
    cpu::bias_gradient(pixels, g.out_c, in.dy.data(), db.get(), workspace.get());
    o.db = db.take();
    CHECK((db.intact() && workspace.intact()));
  }
  return o;
}

/// A tensor of c channels as columns of a wider one, with NaN between; it ends with the last pixel's last channel.
template <class T>
struct columns {
  int c, pitch, at;
  std::vector<T> data;
  columns(const std::vector<T>& dense, int channels, int wide, int offset)
      : c(channels),
        pitch(wide),
        at(offset),
        data(dense.empty() ? 0 : (dense.size() / std::size_t(channels) - 1) * std::size_t(wide) + std::size_t(offset + channels),
             std::numeric_limits<T>::quiet_NaN()) {
    for (std::size_t i = 0; i < dense.size(); ++i) data[i / std::size_t(c) * std::size_t(pitch) + i % std::size_t(c) + std::size_t(at)] = dense[i];
  }
  T* get() { return data.data() + at; }
  /// Whether the columns hold these bits, and NaN stands between them still.
  bool holds(const std::vector<T>& dense) const {
    std::size_t next = 0;
    for (std::size_t i = 0; i < data.size(); ++i) {
      const int column = int(i % std::size_t(pitch));
      if (column < at || column >= at + c) {
        if (!std::isnan(data[i])) return false;
      } else if (std::memcmp(&data[i], &dense[next++], sizeof(T)) != 0) {
        return false;
      }
    }
    return next == dense.size();
  }
};

/// The same bits when every tensor is columns of a wider one.
template <class T>
void check_columns(conv_geometry g, const inputs<T>& in, const outputs<T>& want) {
  const T none = std::numeric_limits<T>::quiet_NaN();
  g.in_pitch = g.in_c + 5, g.out_pitch = 2 * g.out_c + 3;
  columns<T> x(in.x, g.in_c, g.in_pitch, 2), dy(in.dy, g.out_c, g.out_pitch, g.out_c);
  columns<T> y(std::vector<T>(in.dy.size(), none), g.out_c, g.out_pitch, 3), fused = dy;
  columns<T> dx(std::vector<T>(in.x.size(), none), g.in_c, g.in_pitch, 5), dx_fused = dx;
  std::vector<T> packed(cpu::conv_packed_size<T>(g)), workspace(cpu::conv_workspace_size<T>(g) / sizeof(T));
  cpu::conv_pack(g, in.w.data(), packed.data());
  cpu::conv_forward(g, x.get(), packed.data(), y.get(), {}, workspace.data());
  CHECK(y.holds(want.y));
  cpu::conv_epilogue<T> e;
  e.bias = in.bias_y.data(), e.residual = fused.get(), e.act = cpu::activation::relu;
  cpu::conv_forward(g, x.get(), packed.data(), fused.get(), e, workspace.data());
  CHECK(fused.holds(want.fused));
  y = columns<T>(std::vector<T>(in.dy.size(), none), g.out_c, g.out_pitch, 0);
  e.residual = in.dy.data(), e.residual_pitch = g.out_c;  // dense, beside an output that is not
  cpu::conv_forward(g, x.get(), packed.data(), y.get(), e, workspace.data());
  CHECK(y.holds(want.fused));

  packed.resize(cpu::conv_packed_size_backward_data<T>(g)), workspace.resize(cpu::conv_workspace_size_backward_data<T>(g) / sizeof(T));
  cpu::conv_pack_backward_data(g, in.w.data(), packed.data());
  cpu::conv_backward_data(g, dy.get(), packed.data(), dx.get(), {}, workspace.data());
  CHECK(dx.holds(want.dx));
  e = {};
  columns<T> residual(in.x, g.in_c, 3 * g.in_c, g.in_c);
  e.bias = in.bias_x.data(), e.residual = residual.get(), e.residual_pitch = residual.pitch, e.act = cpu::activation::relu;
  cpu::conv_backward_data(g, dy.get(), packed.data(), dx_fused.get(), e, workspace.data());
  CHECK(dx_fused.holds(want.dx_fused));

  std::vector<T> dw(in.w.size(), none);
  workspace.resize(cpu::conv_workspace_size_backward_weights<T>(g) / sizeof(T));
  cpu::conv_backward_weights(g, x.get(), dy.get(), dw.data(), workspace.data());
  CHECK(std::memcmp(dw.data(), want.dw.data(), dw.size() * sizeof(T)) == 0);
}

/// act(sum + bias + residual), for comparison.
sums finished(const sums& s, const std::vector<float>& bias, const std::vector<float>& residual) {
  sums f = s;
  for (std::size_t i = 0; i < f.value.size(); ++i) {
    f.add(i, bias[i % bias.size()]);
    f.add(i, residual[i]);
    f.value[i] = f.value[i] < 0 ? 0 : f.value[i];
  }
  return f;
}

template <class T>
std::vector<T> as(const std::vector<float>& v) {
  return {v.begin(), v.end()};
}

template <class T>
void check_case(const conv_geometry& g, const inputs<float>& in, const sums& y, const sums& dx, const sums& dw, const sums& db) {
  const inputs<T> typed{as<T>(in.x), as<T>(in.w), as<T>(in.dy), as<T>(in.bias_y), as<T>(in.bias_x)};
  rsseg::set_threads(1);
  const outputs<T> one = run(g, typed);
  rsseg::set_threads(2);
  CHECK((run(g, typed) == one));
  check_columns(g, typed, one);
  rsseg::set_threads(0);
  CHECK(worst(one.y, y) < allowed);
  CHECK(worst(one.fused, finished(y, in.bias_y, in.dy)) < allowed);
  CHECK(worst(one.dx, dx) < allowed);
  CHECK(worst(one.dx_fused, finished(dx, in.bias_x, in.x)) < allowed);
  CHECK(worst(one.dw, dw) < allowed);
  CHECK(worst(one.db, db) < allowed);
}

}  // namespace

TEST_CASE("convolution kernels match the naive reference") {
  const cpu::isa chosen = cpu::current_isa();
  const auto cases = rsseg::test::conv_cases();
  CHECK(cases.size() >= 60);
  std::uint64_t seed = 1;
  for (const auto& g : cases) {
    INFO(describe(g));
    REQUIRE(g.out_h > 0);
    REQUIRE(g.out_w > 0);
    inputs<float> in;
    in.x = noise<float>(std::size_t(g.n) * g.in_h * g.in_w * g.in_c, ++seed);
    in.w = noise<float>(std::size_t(g.weights()), ++seed);
    in.dy = noise<float>(std::size_t(g.n) * g.out_h * g.out_w * g.out_c, ++seed);
    in.bias_y = noise<float>(g.out_c, ++seed);
    in.bias_x = noise<float>(g.in_c, ++seed);
    sums y(in.dy.size()), dx(in.x.size()), dw(in.w.size()), db(g.out_c);
    each_product(g, [&](std::size_t x, std::size_t w, std::size_t o) {
      y.add(o, double(in.x[x]) * in.w[w]);
      dx.add(x, double(in.dy[o]) * in.w[w]);
      dw.add(w, double(in.dy[o]) * in.x[x]);
    });
    for (std::size_t i = 0; i < in.dy.size(); ++i) db.add(i % g.out_c, in.dy[i]);
    for (auto i : isas()) {
      INFO(cpu::name_of(i));
      cpu::set_isa(i);
      check_case<float>(g, in, y, dx, dw, db);
      check_case<double>(g, in, y, dx, dw, db);
    }
  }
  cpu::set_isa(chosen);
}

namespace {

template <class T>
void check_gemm(int m, int n, int k, bool ta, bool tb, int batch, double alpha, double beta, bool fused) {
  cpu::gemm_shape s;
  s.m = m, s.n = n, s.k = k, s.trans_a = ta, s.trans_b = tb, s.batch = batch;
  s.lda = (ta ? m : k) + 3, s.ldb = (tb ? k : n) + 1, s.ldc = n + 2;
  s.stride_a = s.lda * (ta ? k : m), s.stride_b = s.ldb * (tb ? n : k), s.stride_c = s.ldc * m;
  const auto a = noise<T>(s.stride_a * batch, 3), b = noise<T>(s.stride_b * batch, 4), c = noise<T>(s.stride_c * batch, 5), bias = noise<T>(n, 6);
  std::vector<T> got[2];
  for (int t = 0; t < 2; ++t) {
    rsseg::set_threads(t + 1);
    guarded<T> workspace(cpu::gemm_workspace_size<T>(s) / sizeof(T));
    got[t] = c;
    cpu::gemm<T>(s, T(alpha), a.data(), b.data(), T(beta), got[t].data(), workspace.get(), fused ? bias.data() : nullptr, fused);
    CHECK(workspace.intact());
  }
  rsseg::set_threads(0);
  CHECK(got[0] == got[1]);
  double worst_error = 0;
  for (int z = 0; z < batch; ++z)
    for (int i = 0; i < m; ++i)
      for (int j = 0; j < s.ldc; ++j) {
        const std::size_t at = z * s.stride_c + i * s.ldc + j;
        if (j >= n) {
          CHECK(got[0][at] == c[at]);
          continue;
        }
        double sum = beta * c[at] + (fused ? bias[j] : T(0)), magnitude = std::abs(sum) + 1e-30;
        for (int l = 0; l < k; ++l) {
          const double t =
              alpha * a[z * s.stride_a + (ta ? l * s.lda + i : i * s.lda + l)] * b[z * s.stride_b + (tb ? j * s.ldb + l : l * s.ldb + j)];
          sum += t, magnitude += std::abs(t);
        }
        if (fused && sum < 0) sum = 0;
        const double e = std::abs(sum - got[0][at]) / (std::numeric_limits<T>::epsilon() * magnitude);
        if (!(e <= worst_error)) worst_error = e;
      }
  CHECK(worst_error < allowed);
}

}  // namespace

TEST_CASE("gemm matches the naive reference") {
  const cpu::isa chosen = cpu::current_isa();
  for (auto i : isas()) {
    cpu::set_isa(i);
    INFO(cpu::name_of(i));
    for (bool ta : {false, true})
      for (bool tb : {false, true})
        for (int batch : {1, 3}) {
          INFO(ta << tb << batch);
          check_gemm<float>(1, 1, 1, ta, tb, batch, 1, 0, false);
          check_gemm<float>(7, 13, 5, ta, tb, batch, 0.5, 0, true);
          check_gemm<float>(130, 70, 300, ta, tb, batch, 1, 1, false);
          check_gemm<float>(33, 129, 513, ta, tb, batch, -2, 0.25, true);
          check_gemm<double>(97, 21, 260, ta, tb, batch, 0.125, 0, false);
          check_gemm<double>(6, 40, 17, ta, tb, batch, 1, -1, false);
        }
  }
  cpu::set_isa(chosen);
}

TEST_CASE("kernels run serially inside a caller's parallel region") {
  const conv_geometry g = rsseg::test::square(1, 20, 3, 16, 3, 1, 1);
  const auto x = noise<float>(20 * 20 * 3, 1), w = noise<float>(16 * 27, 2);
  std::vector<float> packed(cpu::conv_packed_size<float>(g)), want(20 * 20 * 16);
  cpu::conv_pack(g, w.data(), packed.data());
  std::vector<float> workspace(cpu::conv_workspace_size<float>(g) / sizeof(float));
  cpu::conv_forward(g, x.data(), packed.data(), want.data(), {}, workspace.data());
  bool same[4] = {};
#pragma omp parallel for num_threads(4)
  for (int i = 0; i < 4; ++i) {
    guarded<float> own(cpu::conv_workspace_size<float>(g) / sizeof(float));
    std::vector<float> y(want.size());
    cpu::conv_forward(g, x.data(), packed.data(), y.data(), {}, own.get());
    same[i] = y == want && own.intact();
  }
  for (bool s : same) CHECK(s);
}

TEST_CASE("output channels piece by piece: the same bits as all at once") {
  using rsseg::test::square;
  const conv_geometry large = square(1, 2, 2048, 2304, 1), transformed = square(1, 28, 32, 96, 3, 1, 1);
  CHECK(cpu::detail::piece_channels<float>(large) == 1152);  // 18 MiB of packed weights
  CHECK(cpu::detail::piece_channels<float>(transformed) == 96);
  for (const auto& [geometry, step] : {std::pair{large, 1152}, std::pair{transformed, 40}}) {
    const conv_geometry& g = geometry;  // a lambda cannot capture a structured binding in C++20 as clang 14 has it
    const std::vector<float> x = noise<float>(std::size_t(g.in_h) * g.in_w * g.in_c, 1), w = noise<float>(std::size_t(g.weights()), 2);
    const std::vector<float> bias = noise<float>(std::size_t(g.out_c), 3), start = noise<float>(std::size_t(g.out_h) * g.out_w * g.out_c, 4);
    std::vector<float> whole(start.size()), parts(start.size(), 7.f);
    const auto run = [&](const conv_geometry& part, int from, std::vector<float>& y) {
      std::vector<float> packed(cpu::conv_packed_size<float>(part)), workspace(cpu::conv_workspace_size<float>(part) / sizeof(float) + 1);
      cpu::conv_epilogue<float> e;
      e.bias = bias.data() + from, e.residual = start.data() + from, e.residual_pitch = g.out_c, e.act = cpu::activation::relu;
      cpu::conv_pack(part, w.data() + std::ptrdiff_t(from) * g.kernel_h * g.kernel_w * g.in_c, packed.data());
      cpu::conv_forward(part, x.data(), packed.data(), y.data() + from, e, workspace.data());
    };
    run(g, 0, whole);
    for (int from = 0; from < g.out_c; from += step) run(cpu::detail::piece_of(g, from, step), from, parts);
    CHECK(std::memcmp(whole.data(), parts.data(), whole.size() * sizeof(float)) == 0);
  }
}
