// SPDX-License-Identifier: MIT
// The graph floor: what the compiler knows of a composition, differentiation as a graph, passes that keep the numbers.
#include <doctest/doctest.h>

#include "rsseg/rsseg.hpp"

using namespace rsseg;

namespace {
template <int C>
using DoubleConv = Seq<Conv<C, Kernel<3>, NoBias>, BatchNorm<>, ReLU, Conv<C, Kernel<3>, NoBias>, BatchNorm<>, ReLU>;

template <int Classes>
struct Small : Network<Chain<Named<"enc", DoubleConv<8>>, Tap<"skip">, MaxPool<>, Named<"mid", DoubleConv<16>>,
                             Named<"up", ConvTranspose<8, Kernel<2>, Stride<2>>>, Concat<Identity, Use<"skip">>, Named<"dec", DoubleConv<8>>,
                             Dropout<Percent<20>>, Named<"head", Conv<Classes>>>> {};

struct ResidualNet
    : Network<
          Chain<Named<"stem", Conv<8, Kernel<3>>>, Repeat<2, Residual<Seq<Conv<8, Kernel<3>, NoBias>, BatchNorm<>>>>, ReLU, Named<"head", Conv<4>>>> {
};

// Facts for static_assert.
static_assert(well_composed<Small<6>>());
static_assert(output_of<Small<6>>({2, 3, 64, 48}) == shape{2, 6, 64, 48});
// enc 3*8*9 + 16 + 8*8*9 + 16; mid 8*16*9 + 32 + 16*16*9 + 32; up 16*8*4 + 8; dec 16*8*9 + 16 + 8*8*9 + 16; head 8*6 + 6
static_assert(parameter_count<Small<6>> == 216 + 16 + 576 + 16 + 1152 + 32 + 2304 + 32 + 512 + 8 + 1152 + 16 + 576 + 16 + 54);
static_assert(macs_of<Small<6>>({1, 3, 4, 4}) ==
              16 * (216 + 576) + 4 * (1152 + 2304) + 16 * 16 * 8 /* 2x2 /2: every output once */ + 16 * (1152 + 576 + 48));
// 3x3 twice: 5; the pool adds 1; two 3x3 at stride 2 add 8; after the transposed convolution two more add 4: 18.
static_assert(receptive_field_of<Small<6>>({1, 3, 64, 64}).h == 18 && !receptive_field_of<Small<6>>({1, 3, 64, 64}).everything);
static_assert(live_bytes_of<Small<6>>({1, 3, 64, 64}) >= 4 * (16 + 8) * 64 * 64);
static_assert(graph_of<Small<6>>.output_count == 1 && graph_of<Small<6>>.node_count > 20);
static_assert(training_graph_of<Small<6>>.loss >= 0);
static_assert(parameter_count<WithBands<4, Small<6>>> == parameter_count<Small<6>> + 72);

tensor<float> noise_image(shape s, std::uint64_t seed) {
  tensor<float> x(s);
  random_stream r(seed, 5);
  for (float& v : x) v = float(r.uniform(-1, 1));
  return x;
}
tensor<std::int32_t> some_labels(shape s, int k) {
  tensor<std::int32_t> t(shape{s.n, 1, s.h, s.w});
  std::int32_t i = 0;
  for (auto& v : t) v = (i++ * 7 / 3) % k;
  return t;
}
}  // namespace

TEST_CASE("run-time lowering with counts of the data gives the graph of the type") {
  build_options o;
  o.classes = 6;
  const graph::graph g = lower_network(&Small<from_data>::build, o);
  const auto& s = graph_of<Small<6>>;
  int k = 0;
  for (int i = 0; i < g.nodes.size(); ++i)
    if (g.nodes[i].kind == graph::op::conv) ++k;
  int c = 0;
  for (int i = 0; i < s.node_count; ++i) c += s.nodes[i].kind == graph::op::conv;
  CHECK(k == c);
  CHECK(g.find("enc.0.weight") >= 0);
  CHECK(g.find("dec.4.running_var") >= 0);
  CHECK(g.find("head.bias") >= 0);
  CHECK(g.find("enc.0.bias") < 0);
}

TEST_CASE("a wrong composition at run time names layer and numbers") {
  struct Wrong {
    static void build(builder& b) {
      const value x = b.input("x", 3);
      const scope s(b, "branch");
      b.output("logits", add(b, conv(b, "a", x, 8), conv(b, "b", x, 16)));
    }
  };
  CHECK_THROWS_WITH_AS(lower_network(&Wrong::build, {}), doctest::Contains("branch"), usage_error);
  CHECK_THROWS_WITH_AS(lower_network(&Wrong::build, {}), doctest::Contains("expected 8, got 16"), usage_error);
}

TEST_CASE("sizes a network cannot take are refused with the layer") {
  Model<Small<6>> m;
  m.weights().initialise(1);
  CHECK_THROWS_WITH_AS(m.infer(noise_image({1, 3, 7, 7}, 1)), doctest::Contains("sizes differ"), usage_error);
  CHECK_THROWS_WITH_AS(m.infer(noise_image({1, 4, 8, 8}, 1)), doctest::Contains("expected 3 channels"), usage_error);
  CHECK(m.infer(noise_image({1, 3, 8, 6}, 1)).extent() == shape{1, 6, 8, 6});
}

TEST_CASE("gradients of a composition agree with differences") {
  CHECK(gradcheck<Small<4>>({2, 3, 6, 8}).worst < 1e-5);
  CHECK(gradcheck<ResidualNet>({2, 3, 5, 7}).worst < 1e-5);
  gradcheck_options frozen;
  frozen.training = false;
  CHECK(gradcheck<Small<4>>({2, 3, 6, 8}, frozen).worst < 1e-5);
}

TEST_CASE("folding and fusing do not change inference; recomputation not one bit of training") {
  build_options o;
  o.classes = 5;
  const tensor<float> x = noise_image({2, 3, 12, 16}, 3);
  for (build_function build : {&Small<from_data>::build, &ResidualNet::build}) {
    basic_model<float> plain(build, o), fused(build, o);
    for (auto* m : {&plain, &fused}) {
      m->weights().initialise(9);
      random_stream r(4, 4);
      for (const auto& t : m->weights().entries())
        if (!t.trained)
          for (std::size_t i = 0; i < t.size; ++i) m->weights().values()[t.offset + i] += float(r.uniform(0, 0.5));
    }
    plain.set_optimise(false);
    const auto a = plain.infer(x), b = fused.infer(x);
    const auto count = [](const graph::graph& g, graph::op kind) {
      int n = 0;
      for (int i = 0; i < g.nodes.size(); ++i) n += g.nodes[i].kind == kind;
      return n;
    };
    CHECK(count(fused.inference().graph(), graph::op::unary) < count(plain.inference().graph(), graph::op::unary));
    CHECK(count(fused.inference().graph(), graph::op::add) <= count(plain.inference().graph(), graph::op::add));
    for (int i = 0; i < fused.inference().graph().nodes.size(); ++i) CHECK(fused.inference().graph().nodes[i].kind != graph::op::bn_apply);
    double worst = 0;
    for (std::size_t i = 0; i < a.size(); ++i) worst = std::max(worst, double(std::abs(a.data()[i] - b.data()[i])));
    CHECK(worst < 2e-5);

    const auto labels = some_labels({2, 3, 12, 16}, 4);
    plain.prepare_training(graph::loss_options{}, false), fused.prepare_training(graph::loss_options{}, true);
    const double la = plain.train_step(x, labels, {1, 1}), lb = fused.train_step(x, labels, {1, 1});
    CHECK(la == lb);
    CHECK(plain.training().gradients() == fused.training().gradients());
    CHECK(fused.training().plan().arena_bytes <= plain.training().plan().arena_bytes);
  }
}

TEST_CASE("the plan gives no two live values one place") {
  build_options o;
  o.classes = 5;
  basic_model<float> m(&Small<from_data>::build, o);
  m.prepare_training(graph::loss_options{});
  const shape in[] = {{2, 3, 16, 16}};
  auto& e = m.training();
  e.set_share_columns(false);  // with it: plan_columns.cpp
  e.plan_for(in);
  const auto& p = e.plan();
  const auto& g = e.graph();
  std::vector<int> last(p.entries.size(), -1);
  for (int i = 0; i < g.nodes.size(); ++i)
    for (int k = 0; k < g.nodes[i].input_count; ++k) last[std::size_t(g.input_of(i, k))] = i;
  int compared = 0;
  for (std::size_t a = 0; a < p.entries.size(); ++a)
    for (std::size_t b = a + 1; b < p.entries.size(); ++b) {
      if (p.entries[a].where != storage::arena || p.entries[b].where != storage::arena) continue;
      if (last[a] <= int(b)) continue;  // a is dead, or read last by b itself
      const auto root = [&](std::size_t i) { return p.entries[i].alias_of < 0 ? int(i) : p.entries[i].alias_of; };
      if (root(a) == root(b) && is_view(g, int(b), p.extents.data())) continue;
      ++compared;
      const bool apart =
          p.entries[a].offset + p.entries[a].bytes <= p.entries[b].offset || p.entries[b].offset + p.entries[b].bytes <= p.entries[a].offset;
      CHECK_MESSAGE(apart, "nodes " << a << " and " << b);
    }
  CHECK(compared > 100);
}

TEST_CASE("more memory than allowed is an error before anything is allocated") {
  build_options o;
  o.classes = 5;
  basic_model<float> m(&Small<from_data>::build, o);
  m.set_memory_limit(1 << 20);
  CHECK_THROWS_WITH_AS(m.infer(tensor<float>(shape{1, 3, 256, 256})), doctest::Contains("smaller tile"), memory_error);
}

TEST_CASE("threads do not change a bit, and dropout repeats by seed and step") {
  build_options o;
  o.classes = 5;
  basic_model<float> m(&Small<from_data>::build, o);
  m.weights().initialise(2);
  m.prepare_training(graph::loss_options{});
  const auto x = noise_image({2, 3, 20, 24}, 8);
  const auto labels = some_labels({2, 3, 20, 24}, 5);
  set_threads(1);
  const double a = m.train_step(x, labels, {1, 5});
  const auto ga = m.training().gradients();
  set_threads(3);
  const double b = m.train_step(x, labels, {1, 5});
  CHECK(a == b);
  CHECK(ga == m.training().gradients());
  CHECK(m.train_step(x, labels, {1, 6}) != a);
  set_threads(0);
}

TEST_CASE("one optimiser step is PyTorch's") {
  // One parameter w = 1 with gradient 0.5, twice; figures by hand from the update rules.
  struct One {
    static void build(builder& b) {
      const value x = b.input("x", 1);
      b.output("y", graph::ops::mul_broadcast(b, x, b.parameter("w", {1}, graph::init::constant, 1)), 1);
    }
  };
  const auto run = [](train::optimizer_options o, double lr) {
    parameter_store<double> store(lower_network(&One::build, {}));
    store.initialise(1);
    train::optimizer<double> opt(store, o);
    std::vector<double> g(store.values().size(), 0);
    g[0] = 0.5;
    opt.step(g, lr), opt.step(g, lr);
    return store.values()[0];
  };
  train::optimizer_options sgd;
  sgd.momentum = 0.9;
  CHECK(run(sgd, 0.1) == doctest::Approx(1 - 0.05 - 0.1 * (0.45 + 0.5)).epsilon(1e-12));
  sgd.nesterov = true;
  CHECK(run(sgd, 0.1) == doctest::Approx(1 - 0.1 * (0.5 + 0.45) - 0.1 * (0.5 + 0.9 * 0.95)).epsilon(1e-12));
  train::optimizer_options adamw;
  adamw.kind = train::optimizer_kind::adamw, adamw.weight_decay = 0.1;
  // decoupled decay, then a step of lr (constant gradient: m-hat = g, v-hat = g^2)
  double w = 1;
  for (int i = 0; i < 2; ++i) w = w * (1 - 0.01 * 0.1) - 0.01 * 0.5 / (0.5 + 1e-8);
  CHECK(run(adamw, 0.01) == doctest::Approx(w).epsilon(1e-10));
  train::optimizer_options clipped;
  clipped.momentum = 0, clipped.clip_norm = 0.1;
  CHECK(run(clipped, 1) == doctest::Approx(1 - 2 * 0.5 * 0.1 / (0.5 + 1e-6)).epsilon(1e-12));
}

TEST_CASE("a model says what must come first") {
  struct Net {
    static constexpr void build(builder& b) { b.output("logits", conv(b, "c", b.input("x", 3), 2), 1); }
  };
  Model<Net> m;
  CHECK_THROWS_WITH_AS(m.output(0), doctest::Contains("call infer or run first"), usage_error);
  CHECK_THROWS_WITH_AS(m.output("logits"), doctest::Contains("call infer or run first"), usage_error);
  const tensor<float> x(shape{1, 3, 4, 4});
  const tensor<std::int32_t> labels(shape{1, 1, 4, 4});
  CHECK_THROWS_WITH_AS(m.train_step(x, labels, cpu::run_state{}), doctest::Contains("call prepare_training first"), usage_error);
  m.infer(x);
  CHECK(m.output(0).extent().c == 2);
  CHECK_THROWS_WITH_AS(m.output("edges"), doctest::Contains("no output 'edges'"), usage_error);
}
