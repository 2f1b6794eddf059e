// SPDX-License-Identifier: MIT
// Operators against values computed here by plain loops, or by hand: the rules that papers leave open and the numerically delicate ones.
#include <doctest/doctest.h>

#include <array>
#include <cmath>

#include "op_cases_fill.hpp"
#include "rsseg/core/draws.hpp"
#include "rsseg/core/tensor.hpp"
#include "rsseg/cpu/exp.hpp"
#include "rsseg/cpu/interpret.hpp"
#include "rsseg/cpu/reference_conv.hpp"

using namespace rsseg;
using namespace rsseg::test;
namespace ops = rsseg::graph::ops;
using graph::attributes;
using graph::interpolation;
using graph::loss_kind;

namespace {

/// Runs a graph of inputs and the nodes that `make` adds; returns its result.
template <class T, class Make>
tensor<T> result_of(const std::vector<tensor<T>>& in, const Make& make, bool training = true) {
  build_options o;
  o.training = training;
  builder b(o);
  std::vector<value> x;
  std::vector<shape> extents;
  for (std::size_t i = 0; i < in.size(); ++i)
    x.push_back(b.input(i == 0 ? "a" : i == 1 ? "b" : "c", in[i].extent().c)), extents.push_back(in[i].extent());
  const int result = make(b, x.data()).id;
  cpu::interpreter<T> run(b.g, extents);
  for (std::size_t i = 0; i < in.size(); ++i) std::copy(in[i].begin(), in[i].end(), run.data(x[i].id));
  run.run();
  tensor<T> y(run.extent(result));
  std::copy(run.data(result), run.data(result) + y.size(), y.data());
  return y;
}
tensor<double> filled(shape s, double low, double high, std::uint64_t stream) {
  tensor<double> t(s);
  const std::vector<double> v = distinct_values(t.size(), low, high, stream);
  std::copy(v.begin(), v.end(), t.begin());
  return t;
}
tensor<double> listed(shape s, const std::vector<double>& v) {
  tensor<double> t(s);
  std::copy(v.begin(), v.end(), t.begin());
  return t;
}
void check_equal(const tensor<double>& y, const std::vector<double>& expected) {
  REQUIRE(y.size() == expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    CAPTURE(i);
    CHECK(std::abs(y.data()[i] - expected[i]) <= 1e-12 * std::max(1.0, std::abs(expected[i])));
  }
}

}  // namespace

TEST_CASE("the fast convolutions agree with the seven loops") {
  for (const op_case& c : op_cases()) {
    const case_graph g = make_case_graph(c, c.gradient);
    cpu::interpreter<double> run(g.g, c.inputs);
    fill_sources(c, g.g, run);
    run.run();
    std::vector<shape> extents;
    std::vector<void*> pointers;
    for (int id = 0; id < g.g.nodes.size(); ++id) extents.push_back(run.extent(id)), pointers.push_back(run.data(id));
    for (int id = 0; id < g.g.nodes.size(); ++id) {
      const graph::op kind = g.g.nodes[id].kind;
      const auto reference = kind == graph::op::conv                    ? &cpu::reference_conv<double>
                             : kind == graph::op::conv_transpose        ? &cpu::reference_conv_transpose<double>
                             : kind == graph::op::conv_backward_data    ? &cpu::reference_conv_backward_data<double>
                             : kind == graph::op::conv_backward_weights ? &cpu::reference_conv_backward_weights<double>
                                                                        : nullptr;
      if (!reference) continue;
      CAPTURE(c.name);
      CAPTURE(id);
      std::vector<double> expected(std::size_t(extents[std::size_t(id)].size()));
      std::vector<void*> p = pointers;
      p[std::size_t(id)] = expected.data();
      reference({&g.g, id, extents.data(), p.data(), nullptr, nullptr, &run.state});
      double worst = 0;
      for (std::size_t i = 0; i < expected.size(); ++i) worst = std::max(worst, std::abs(expected[i] - run.data(id)[i]));
      CHECK(worst < 1e-12);
    }
  }
}

TEST_CASE("batch statistics survive a mean much larger than the deviation") {
  for (int channels : {1, 3, 40}) {
    tensor<float> x({2, channels, 37, 41});
    random_stream r(3, std::uint64_t(channels));
    for (float& v : x) v = float(4000 + 0.05 * r.normal());
    const tensor<float> stats = result_of<float>({x}, [](builder& b, const value* in) {
      return b.emit(graph::op::bn_stats, {in[0].id}, in[0].channels, {1, 1, 2, 1});
    });
    for (int c = 0; c < channels; ++c) {
      long double mean = 0, var = 0;
      const std::size_t n = x.size() / std::size_t(channels);
      for (std::size_t i = 0; i < n; ++i) mean += x.data()[i * std::size_t(channels) + std::size_t(c)];
      mean /= n;
      for (std::size_t i = 0; i < n; ++i) {
        const long double d = x.data()[i * std::size_t(channels) + std::size_t(c)] - mean;
        var += d * d;
      }
      var /= n;
      CHECK(std::abs(stats.data()[c] - double(mean)) <= 4000 * 6e-8);
      CHECK(std::abs(stats.data()[channels + c] - double(var)) <= 1e-6 * double(var));
    }
  }
}

TEST_CASE("running statistics take the unbiased variance") {
  build_options o;
  o.training = true;
  builder b(o);
  const value x = b.input("x", 2);
  cases::batch_norm(b, x);
  cpu::interpreter<double> run(b.g, {{1, 2, 2, 2}});
  const double v[] = {1, 10, 2, 10, 3, 10, 6, 10};
  std::copy(v, v + 8, run.data(x.id));
  const int mean = b.g.find("mean"), var = b.g.find("var");
  run.data(var)[0] = run.data(var)[1] = 1;
  run.run();
  CHECK(run.data(mean)[0] == doctest::Approx(0.3));
  CHECK(run.data(var)[0] == doctest::Approx(0.9 + 0.1 * 14.0 / 3));  // squared deviations 4 + 1 + 0 + 9 over 3
  CHECK(run.data(mean)[1] == doctest::Approx(1.0));
  CHECK(run.data(var)[1] == doctest::Approx(0.9));
}

TEST_CASE("bilinear resizing is a tent around the source position") {
  for (bool corners : {false, true})
    for (const auto& [h, w, oh, ow] : {std::array<int, 4>{3, 4, 7, 9}, std::array<int, 4>{9, 8, 4, 3}, std::array<int, 4>{5, 5, 5, 5},
                                       std::array<int, 4>{1, 6, 4, 1}, std::array<int, 4>{6, 1, 1, 5}, std::array<int, 4>{2, 3, 16, 24}}) {
      CAPTURE(corners);
      CAPTURE(oh);
      const tensor<double> x = filled({2, 3, h, w}, -1, 1, 7);
      const tensor<double> y =
          result_of<double>({x}, [&](builder& b, const value* in) { return ops::resize_to(b, in[0], oh, ow, interpolation::bilinear, corners); });
      const auto position = [&](int i, int in, int out) {
        if (corners) return out == 1 ? 0.0 : i * (in - 1.0) / (out - 1.0);
        return std::min(std::max((i + 0.5) * in / out - 0.5, 0.0), in - 1.0);
      };
      double worst = 0;
      for (int n = 0; n < 2; ++n)
        for (int c = 0; c < 3; ++c)
          for (int i = 0; i < oh; ++i)
            for (int j = 0; j < ow; ++j) {
              double sum = 0;
              for (int a = 0; a < h; ++a)
                for (int e = 0; e < w; ++e)
                  sum += x(n, c, a, e) * std::max(0.0, 1 - std::abs(position(i, h, oh) - a)) * std::max(0.0, 1 - std::abs(position(j, w, ow) - e));
              worst = std::max(worst, std::abs(sum - y(n, c, i, j)));
            }
      CHECK(worst < 1e-12);
    }
  const tensor<double> two = listed({1, 1, 1, 2}, {0, 1});
  check_equal(result_of<double>({two}, [](builder& b, const value* in) { return ops::resize_to(b, in[0], 1, 4, interpolation::bilinear, false); }),
              {0, 0.25, 0.75, 1});
  check_equal(result_of<double>({two}, [](builder& b, const value* in) { return ops::resize_to(b, in[0], 1, 4, interpolation::bilinear, true); }),
              {0, 1.0 / 3, 2.0 / 3, 1});
}

TEST_CASE("nearest resizing takes floor(i * in / out)") {
  const tensor<double> x = listed({1, 1, 1, 5}, {0, 1, 2, 3, 4});
  check_equal(result_of<double>({x}, [](builder& b, const value* in) { return ops::resize_to(b, in[0], 1, 3, interpolation::nearest, false); }),
              {0, 1, 3});
  check_equal(result_of<double>({x}, [](builder& b, const value* in) { return ops::resize_to(b, in[0], 1, 8, interpolation::nearest, false); }),
              {0, 0, 1, 1, 2, 3, 3, 4});
}

TEST_CASE("adaptive pooling windows overlap as floor and ceil say") {
  const tensor<double> x = filled({2, 3, 7, 5}, -1, 1, 8);
  const tensor<double> y = result_of<double>({x}, [](builder& b, const value* in) { return ops::adaptive_avg_pool(b, in[0], 3, 4); });
  const int rows[3][2] = {{0, 3}, {2, 5}, {4, 7}}, columns[4][2] = {{0, 2}, {1, 3}, {2, 4}, {3, 5}};
  for (int n = 0; n < 2; ++n)
    for (int c = 0; c < 3; ++c)
      for (int i = 0; i < 3; ++i)
        for (int j = 0; j < 4; ++j) {
          double sum = 0;
          int count = 0;
          for (int a = rows[i][0]; a < rows[i][1]; ++a)
            for (int e = columns[j][0]; e < columns[j][1]; ++e) sum += x(n, c, a, e), ++count;
          CHECK(y(n, c, i, j) == doctest::Approx(sum / count).epsilon(1e-13));
        }
}

TEST_CASE("maximum pooling: padding is -infinity, ceil mode drops a window beyond the padding, ties take the first") {
  const auto pooled = [](const tensor<double>& x, const attributes& at) {
    return result_of<double>({x}, [&](builder& b, const value* in) { return ops::max_pool(b, in[0], at, false).y; });
  };
  attributes at = cases::attributes_of(cases::pool_options{3, 3, 2, 2, 1, 1, 1, 1});
  check_equal(pooled(listed({1, 1, 3, 3}, {-9, -8, -7, -6, -5, -4, -3, -2, -1}), at), {-5, -4, -2, -1});
  at = cases::attributes_of(cases::pool_options{1, 2, 1, 2});
  CHECK(pooled(filled({1, 1, 1, 5}, -1, 1, 1), at).extent() == shape{1, 1, 1, 2});
  at.flag = true;
  CHECK(pooled(filled({1, 1, 1, 5}, -1, 1, 1), at).extent() == shape{1, 1, 1, 3});
  at = cases::attributes_of(cases::pool_options{2, 2, 2, 2, 1, 1, 1, 1, 1, 1, true});  // a fourth window would start at 5 + 1
  CHECK(pooled(filled({1, 1, 5, 5}, -1, 1, 1), at).extent() == shape{1, 1, 3, 3});

  builder b;
  const value x = b.input("x", 1);
  attributes two = cases::attributes_of(cases::pool_options{2, 2, 2, 2});
  const ops::pooled p = ops::max_pool(b, x, two, true);
  const value back = ops::max_unpool(b, p.y, p.index, x);
  cpu::interpreter<double> run(b.g, {{1, 1, 2, 5}});
  const double v[] = {0, 0, 1, 3, 9, 0, 0, 3, 3, 9};
  std::copy(v, v + 10, run.data(x.id));
  run.run();
  CHECK(run.index_data(p.index.id)[0] == 0);
  CHECK(run.index_data(p.index.id)[1] == 3);
  const double expected[] = {0, 0, 0, 3, 0, 0, 0, 0, 0, 0};
  for (int i = 0; i < 10; ++i) CHECK(run.data(back.id)[i] == expected[i]);
}

TEST_CASE("unpooling adds where indices repeat") {
  builder b;
  const value x = b.input("x", 1);
  const ops::pooled p = ops::max_pool(b, x, cases::attributes_of(cases::pool_options{1, 3, 1, 1, 0, 1, 0, 1}), true);
  const value back = ops::max_unpool(b, p.y, p.index, x);
  cpu::interpreter<float> run(b.g, {{1, 1, 1, 4}});
  const float v[] = {1, 5, 2, 3};
  std::copy(v, v + 4, run.data(x.id));
  run.run();
  const float expected[] = {0, 15, 0, 3};
  for (int i = 0; i < 4; ++i) CHECK(run.data(back.id)[i] == expected[i]);
}

TEST_CASE("average pooling divides by the window, or by its pixels inside") {
  const tensor<double> x = listed({1, 1, 2, 2}, {1, 2, 3, 4});
  cases::pool_options o{3, 3, 1, 1, 1, 1, 1, 1};
  check_equal(result_of<double>({x}, [&](builder& b, const value* in) { return cases::avg_pool(b, in[0], o); }),
              {10.0 / 9, 10.0 / 9, 10.0 / 9, 10.0 / 9});
  o.inside = true;
  check_equal(result_of<double>({x}, [&](builder& b, const value* in) { return cases::avg_pool(b, in[0], o); }), {2.5, 2.5, 2.5, 2.5});
}

TEST_CASE("cross entropy: class weights, ignored pixels, nothing but ignored pixels") {
  const shape s{2, 3, 2, 2};
  const tensor<double> z = filled(s, -3, 3, 4);
  const std::int32_t targets[] = {0, 255, 2, 1, 1, 7, 255, 2};  // 7 is no class: counts nowhere
  const double w[] = {0.5, 2, 1.25};
  for (bool weighted : {false, true}) {
    builder b;
    const value x = b.input("x", 3);
    const value loss = cases::loss(b, x, loss_kind::cross_entropy, 0, 0, 0, weighted);
    const value scaled = ops::affine(b, loss, 3, 0);
    graph::differentiate(b.g, scaled.id, true);
    cpu::interpreter<double> run(b.g, {s});
    std::copy(z.begin(), z.end(), run.data(x.id));
    int target = -1;
    for (int id = 0; id < b.g.nodes.size(); ++id) {
      if (b.g.nodes[id].kind == graph::op::target) target = id;
      if (b.g.nodes[id].kind == graph::op::buffer) std::copy(w, w + 3, run.data(id));
    }
    std::copy(targets, targets + 8, run.index_data(target));
    run.run();
    double sum = 0, total = 0;
    std::vector<double> gradient(24, 0.0);
    for (int i = 0; i < 8; ++i) {
      if (targets[i] > 2) continue;
      const double wt = weighted ? w[targets[i]] : 1;
      double norm = 0;
      for (int k = 0; k < 3; ++k) norm += std::exp(z.data()[3 * i + k]);
      sum += wt * (std::log(norm) - z.data()[3 * i + targets[i]]), total += wt;
      for (int k = 0; k < 3; ++k) gradient[std::size_t(3 * i + k)] = 3 * wt * (std::exp(z.data()[3 * i + k]) / norm - (k == targets[i]));
    }
    CHECK(run.data(loss.id)[0] == doctest::Approx(sum / total).epsilon(1e-13));
    for (std::size_t i = 0; i < 24; ++i) CHECK(std::abs(run.data(b.g.gradients[1])[i] - gradient[i] / total) < 1e-14);
  }
  for (const loss_kind kind : {loss_kind::cross_entropy, loss_kind::dice, loss_kind::focal, loss_kind::jaccard, loss_kind::tversky, loss_kind::lovasz,
                               loss_kind::ohem, loss_kind::binary_cross_entropy, loss_kind::balanced_binary, loss_kind::squared_error}) {
    CAPTURE(int(kind));
    builder b;
    const value x = b.input("x", 3);
    const value loss = cases::loss(b, x, kind, 0.5, 0.5, 2);
    graph::differentiate(b.g, loss.id, true);
    cpu::interpreter<float> run(b.g, {s});
    for (std::size_t i = 0; i < z.size(); ++i) run.data(x.id)[i] = float(z.data()[i]);
    for (int i = 0; i < 8; ++i) run.index_data(b.g.input_of(loss.id, 1))[i] = 255;
    run.run();
    CHECK(run.data(loss.id)[0] == 0);
    for (int i = 0; i < 24; ++i) CHECK(run.data(b.g.gradients[1])[i] == 0);
  }
}

TEST_CASE("softmax of large and small numbers neither overflows nor loses its sum") {
  const tensor<float> x = [] {
    tensor<float> t({1, 3, 1, 3});
    const float v[] = {1000, 999, 0, -1000, -1000, -1000, 5, -90, 88};
    std::copy(v, v + 9, t.begin());
    return t;
  }();
  const tensor<float> y = result_of<float>({x}, [](builder& b, const value* in) { return ops::softmax(b, in[0]); });
  CHECK(y.data()[0] == doctest::Approx(0.7310585786).epsilon(1e-6));
  CHECK(y.data()[2] == 0);
  CHECK(y.data()[4] == doctest::Approx(1.0 / 3).epsilon(1e-6));
  CHECK(y.data()[8] == 1);
  const tensor<float> l = result_of<float>({x}, [](builder& b, const value* in) { return ops::log_softmax(b, in[0]); });
  CHECK(l.data()[2] == doctest::Approx(-1000.3132617).epsilon(1e-6));
}

TEST_CASE("the vector exponential is exact to two units in the last place") {
  double worst = 0;
  for (int i = 0; i <= 200000; ++i) {
    const float x = -87.2f + float(i) * (175.8f / 200000);
    const double exact = std::exp(double(x));
    worst = std::max(worst, std::abs(double(cpu::vector_exp(x)) - exact) / exact);
  }
  CHECK(worst < 2 * 1.2e-7);
  CHECK(cpu::vector_exp(0.0f) == 1.0f);
  CHECK(cpu::vector_exp(-200.0f) == 0.0f);
  CHECK(std::isinf(cpu::vector_exp(100.0f)));
  CHECK(std::isnan(cpu::vector_exp(std::nanf(""))));
}

TEST_CASE("centring rounds odd differences down, or toward zero") {
  const tensor<double> x = listed({1, 1, 1, 5}, {1, 2, 3, 4, 5});
  const tensor<double> two({1, 1, 1, 2}), eight({1, 1, 1, 8});
  const auto centred = [&](const tensor<double>& like, ops::pad_rule rule) {
    return result_of<double>({x, like}, [&](builder& b, const value* in) { return ops::pad_crop_like(b, in[0], in[1], rule); });
  };
  check_equal(centred(two, ops::pad_rule::center_floor), {3, 4});
  check_equal(centred(two, ops::pad_rule::center_trunc), {2, 3});
  check_equal(centred(eight, ops::pad_rule::center_floor), {0, 1, 2, 3, 4, 5, 0, 0});
  check_equal(centred(eight, ops::pad_rule::center_trunc), {0, 1, 2, 3, 4, 5, 0, 0});
  check_equal(result_of<double>({x}, [](builder& b, const value* in) { return ops::pad(b, in[0], 0, 3, 0, 2, ops::border::reflect); }),
              {4, 3, 2, 1, 2, 3, 4, 5, 4, 3});
  check_equal(result_of<double>({x}, [](builder& b, const value* in) { return ops::pad(b, in[0], 0, 2, 0, 1, ops::border::replicate); }),
              {1, 1, 1, 2, 3, 4, 5, 5});
}

TEST_CASE("quarter turns are counter-clockwise and follow the flips") {
  const tensor<double> x = listed({1, 1, 2, 3}, {1, 2, 3, 4, 5, 6});
  const auto turned = [&](int turns, int flips) {
    return result_of<double>({x}, [&](builder& b, const value* in) { return ops::rotate(b, in[0], turns, flips); });
  };
  check_equal(turned(1, 0), {3, 6, 2, 5, 1, 4});
  check_equal(turned(2, 0), {6, 5, 4, 3, 2, 1});
  check_equal(turned(3, 0), {4, 1, 5, 2, 6, 3});
  check_equal(turned(0, 1), {4, 5, 6, 1, 2, 3});
  check_equal(turned(0, 2), {3, 2, 1, 6, 5, 4});
  check_equal(turned(1, 2), {1, 4, 2, 5, 3, 6});  // the turn of 3 2 1 / 6 5 4
}

TEST_CASE("normal noise: moments, repeatability, streams") {
  const auto draw = [](std::uint64_t seed, std::uint64_t step, const char* name) {
    builder b;
    const value x = b.input("x", 3);
    int id;
    {
      const scope s(b, name);
      id = ops::noise(b, x).id;
    }
    cpu::interpreter<double> run(b.g, {{1, 3, 50, 41}});
    run.state = {seed, step};
    run.run();
    return std::vector<double>(run.data(id), run.data(id) + 3 * 50 * 41);
  };
  const std::vector<double> a = draw(1, 2, "one");
  double mean = 0, square = 0, fourth = 0;
  for (double v : a) mean += v, square += v * v, fourth += v * v * v * v;
  CHECK(std::abs(mean / double(a.size())) < 0.05);
  CHECK(std::abs(square / double(a.size()) - 1) < 0.06);
  CHECK(std::abs(fourth / double(a.size()) - 3) < 0.5);
  CHECK(a == draw(1, 2, "one"));
  CHECK(a != draw(2, 2, "one"));
  CHECK(a != draw(1, 3, "one"));
  CHECK(a != draw(1, 2, "two"));
}

TEST_CASE("dropout scales what it keeps, drops whole channels when asked, and changes with the step") {
  for (bool whole : {false, true}) {
    build_options o;
    o.training = true;
    builder b(o);
    const value x = b.input("x", 200);
    const value y = ops::dropout(b, x, 0.3, whole);
    cpu::interpreter<float> run(b.g, {{3, 200, 9, 11}});
    std::fill(run.data(x.id), run.data(x.id) + run.extent(x.id).size(), 1.0f);
    run.run();
    const std::size_t size = std::size_t(run.extent(x.id).size());
    const std::vector<float> first(run.data(y.id), run.data(y.id) + size);
    double kept = 0;
    for (std::size_t i = 0; i < size; ++i) {
      CHECK_UNARY(first[i] == 0 || first[i] == float(1 / 0.7));
      kept += first[i] != 0;
      if (whole) CHECK_UNARY(first[i] == first[i / (200 * 99) * 200 * 99 + i % 200]);
    }
    CHECK(std::abs(kept / double(size) - 0.7) < (whole ? 0.06 : 0.01));
    run.state.step = 1;
    run.run();
    CHECK(first != std::vector<float>(run.data(y.id), run.data(y.id) + size));
  }
}

namespace {
template <class T>
void cube_kernel(const custom_call<T>& c) {
  for (std::int64_t i = 0; i < c.out_extent.size(); ++i)
    c.out[i] = c.inputs == 1 ? c.in[0][i] * c.in[0][i] * c.in[0][i] : 3 * c.in[1][i] * c.in[1][i] * c.in[0][i];
}
shape same_extent(const attributes&, const shape* in, int) { return in[0]; }
void cube_vjp(graph::tape& t, int node, int dy);
constexpr custom_op cube_grad{"cube_grad", same_extent, nullptr, cube_kernel<float>, cube_kernel<double>, nullptr};
constexpr custom_op cube{"cube", same_extent, cube_vjp, cube_kernel<float>, cube_kernel<double>, nullptr};
void cube_vjp(graph::tape& t, int node, int dy) {
  const int x = t.g.input_of(node, 0);
  if (t.wants(x)) t.give(x, append_custom(t.g, cube_grad, {dy, x}, t.g.nodes[x].channels));
}
}  // namespace

TEST_CASE("a user's operator runs and is differentiated") {
  builder b;
  const value x = b.input("x", 2);
  const value y = ops::reduce(b, emit_custom(b, cube, {x}, 2), 15, false);
  graph::differentiate(b.g, y.id, true);
  cpu::interpreter<double> run(b.g, {{1, 2, 1, 2}});
  for (int i = 0; i < 4; ++i) run.data(x.id)[i] = i + 1;
  run.run();
  CHECK(run.data(y.id)[0] == 100);
  for (int i = 0; i < 4; ++i) CHECK(run.data(b.g.gradients[1])[i] == 3 * (i + 1) * (i + 1));
}
