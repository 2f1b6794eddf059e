// SPDX-License-Identifier: MIT
// Concatenations that share memory with their parts: the same bits as without, never a larger arena, fewer bytes copied; and which values share.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>

#include "rsseg/plan/sharing.hpp"
#include "rsseg/rsseg.hpp"

using namespace rsseg;

namespace {

constexpr value block(builder& b, const char* name, value x, int out, bool smooth = false) {
  const scope s(b, name);
  x = batch_norm(b, "bn", conv(b, "conv", x, out, {.kernel = 3, .bias = false}));
  return smooth ? elu(b, x) : relu(b, x);  // finite differences want no kinks
}

/// Encoder and decoder with a skip on each floor: what concatenations are mostly made of.
struct Skips {
  static constexpr void build(builder& b) {
    const value a = block(b, "a", b.input("x", 3), 8), c = block(b, "c", max_pool(b, a), 16), d = block(b, "d", max_pool(b, c), 16);
    const value e = block(b, "e", concat(b, c, conv_transpose(b, "up1", d, 16, {.kernel = 2, .stride = 2})), 16);
    const value f = block(b, "f", concat(b, a, resize_like(b, e, a)), 8);
    b.output("logits", conv(b, "head", f, 5), 1);
  }
};
/// Each block appends to what all blocks before it made: concatenations within concatenations, one storage for all.
struct Dense {
  static constexpr void build(builder& b) {
    value x = block(b, "stem", b.input("x", 3), 6, true);
    for (const char* name : {"one", "two", "three"}) {
      const scope s(b, name);
      x = concat(b, x, conv(b, "conv", elu(b, batch_norm(b, "bn", x)), 4, {.kernel = 3}));
    }
    b.output("logits", conv(b, "head", x, 5), 1);
  }
};
/// Half of the channels pass, half are worked on, twice.
struct Halves {
  static constexpr void build(builder& b) {
    value x = block(b, "stem", b.input("x", 3), 12, true);
    for (const char* name : {"one", "two"}) x = concat(b, block(b, name, graph::ops::slice(b, x, 6, 6), 6, true), graph::ops::slice(b, x, 0, 6));
    b.output("logits", conv(b, "head", x, 5), 1);
  }
};
/// What does not go: a part twice, a part of two concatenations, a part that is an output, a concatenation that is changed in place while a part
/// of it is still read, a part that is read by an operator without pitch, pooled parts of one pixel.
struct Awkward {
  static constexpr void build(builder& b) {
    const value x = b.input("x", 3), a = block(b, "a", x, 8), c = block(b, "c", x, 8);
    const value twice = concat(b, a, a, c), again = concat(b, c, a);
    const value y = add(b, conv(b, "p", relu(b, twice), 8), conv(b, "q", again, 8));
    const value pooled = concat(b, global_avg_pool(b, a), global_avg_pool(b, c)), wide = resize_like(b, pooled, y);
    const value side = conv(b, "side", a, 5), soft = softmax(b, side);
    b.output("side", side, 0.4);
    b.output("logits", conv(b, "head", concat(b, y, wide, soft, side, elu(b, a)), 5), 1);
  }
};
/// Residual sums around concatenations, depthwise and strided convolutions, pooling of parts.
struct Residuals {
  static constexpr void build(builder& b) {
    value x = block(b, "stem", b.input("x", 3), 16);
    const value sum = relu(b, add(b, batch_norm(b, "n1", conv(b, "c1", x, 16, {.kernel = 3})), x));
    const value next = relu(b, add(b, batch_norm(b, "n2", conv(b, "c2", sum, 16, {.kernel = 3, .groups = 16})), sum));
    const value low = avg_pool(b, next, {.kernel = 2, .stride = 2});
    const value up = resize_like(b, block(b, "low", low, 12), next);
    b.output("logits", conv(b, "head", concat(b, sum, next, up), 5), 1);
  }
};

tensor<float> image(shape s, std::uint64_t seed) {
  tensor<float> x(s);
  random_stream r(seed, 5);
  for (float& v : x) v = float(r.uniform(-1, 1));
  return x;
}

/// Every two values that live at the same time lie apart, or one was made of the other where it lies.
void check_places(const graph::graph& g, const memory_plan& p) {
  const int n = g.nodes.size();
  std::vector<int> last(std::size_t(n), -1);
  for (int i = 0; i < n; ++i)
    for (int k = 0; k < g.nodes[i].input_count; ++k) last[std::size_t(g.input_of(i, k))] = i;
  for (const graph::output& o : g.outputs) last[std::size_t(o.node)] = n;
  for (int r : g.roots) last[std::size_t(r)] = n;
  const auto made_of = [&](int v, int u) {  // through views, slices and concatenations
    std::vector<int> todo{v};
    while (!todo.empty()) {
      const int i = todo.back();
      todo.pop_back();
      if (i == u) return true;
      const graph::op kind = g.nodes[i].kind;
      const bool same = is_view(g, i, p.extents.data()) || kind == graph::op::slice;
      for (int k = 0; k < (same ? 1 : kind == graph::op::concat ? g.nodes[i].input_count : 0); ++k)
        if (g.input_of(i, k) >= u) todo.push_back(g.input_of(i, k));
    }
    return false;
  };
  for (int a = 0; a < n; ++a)
    for (int b = a + 1; b < n; ++b) {
      const plan_entry &x = p.entries[std::size_t(a)], &y = p.entries[std::size_t(b)];
      if (x.where != storage::arena || y.where != storage::arena || last[std::size_t(a)] <= b) continue;
      const shape &s = p.extents[std::size_t(a)], &t = p.extents[std::size_t(b)];
      // Last byte that either touches.
      const auto end = [](const plan_entry& e, const shape& extent) {
        return e.offset + (e.pitch > 0 ? (std::size_t(extent.pixels() - 1) * std::size_t(e.pitch) + std::size_t(extent.c)) * sizeof(float) : e.bytes);
      };
      if (end(x, s) <= y.offset || end(y, t) <= x.offset || made_of(b, a)) continue;
      // They interleave: the same pixels, other columns.
      const std::size_t pitch_x = std::size_t(x.pitch > 0 ? x.pitch : s.c) * sizeof(float);
      const std::size_t pitch_y = std::size_t(y.pitch > 0 ? y.pitch : t.c) * sizeof(float);
      const std::size_t origin = p.entries[std::size_t(x.alias_of >= 0 ? x.alias_of : a)].offset;
      const std::size_t column_x = (x.offset - origin) / sizeof(float), column_y = (y.offset - origin) / sizeof(float);
      const bool apart =
          pitch_x == pitch_y && s.pixels() == t.pixels() && (column_x + std::size_t(s.c) <= column_y || column_y + std::size_t(t.c) <= column_x);
      CHECK_MESSAGE(apart, "nodes " << a << " and " << b);
    }
}

struct outcome {
  std::vector<float> numbers;
  std::size_t arena = 0;
  column_traffic moved;
};
/// Outputs of inference, then loss and gradients of two training steps.
outcome run(build_function build, shape in, bool share, bool training, bool recompute = false) {
  build_options o;
  o.classes = 5;
  basic_model<float> m(build, o);
  m.weights().initialise(3);
  outcome out;
  if (training) m.prepare_training(graph::loss_options{}, recompute);
  cpu::engine<float>& e = training ? m.training() : m.inference();
  e.set_share_columns(share);
  for (std::uint64_t step : {1, 2}) {
    const tensor<float> x = image(in, step);
    if (training) {
      tensor<std::int32_t> labels(shape{in.n, 1, in.h, in.w});
      std::int32_t i = 0;
      for (auto& v : labels) v = i++ * 7 / 3 % 5;
      out.numbers.push_back(float(m.train_step(x, labels, {1, step})));
      out.numbers.insert(out.numbers.end(), e.gradients().begin(), e.gradients().end());
    } else {
      m.infer(x);
      for (int k = 0; k < e.graph().outputs.size(); ++k) {
        const tensor<float> y = m.output(k);
        out.numbers.insert(out.numbers.end(), y.begin(), y.end());
      }
    }
  }
  check_places(e.graph(), e.plan());
  out.arena = e.plan().arena_bytes, out.moved = column_traffic_of(e.graph(), e.plan());
  return out;
}

}  // namespace

TEST_CASE("parts in the memory of their concatenation give the same bits in no more memory") {
  struct net {
    const char* name;
    build_function build;
  };
  for (const net& n : {net{"skips", &Skips::build},
                       {"dense", &Dense::build},
                       {"halves", &Halves::build},
                       {"awkward", &Awkward::build},
                       {"residuals", &Residuals::build}})
    for (shape in : {shape{1, 3, 16, 24}, shape{2, 3, 12, 12}, shape{3, 3, 4, 4}})
      for (int mode : {0, 1, 2}) {
        CAPTURE(n.name);
        CAPTURE(in.n);
        CAPTURE(mode);
        const outcome plain = run(n.build, in, false, mode > 0, mode == 2), shared = run(n.build, in, true, mode > 0, mode == 2);
        REQUIRE(plain.numbers.size() == shared.numbers.size());
        CHECK(std::memcmp(plain.numbers.data(), shared.numbers.data(), plain.numbers.size() * sizeof(float)) == 0);
        CHECK(std::all_of(plain.numbers.begin(), plain.numbers.end(), [](float v) { return v - v == 0; }));
        CHECK(shared.arena <= plain.arena);
        CHECK(plain.moved.copied == plain.moved.all);
        CHECK(shared.moved.copied < plain.moved.copied);
      }
}

TEST_CASE("skips cost no copy, and their gradients neither") {
  const shape in{2, 3, 32, 32};
  const outcome plain = run(&Skips::build, in, false, true), shared = run(&Skips::build, in, true, true);
  CHECK(shared.moved.copied == 0);
  CHECK(shared.arena < plain.arena);
  // Inference may copy a skip rather than hold the whole concatenation for so long.
  const outcome inference = run(&Skips::build, in, true, false);
  CHECK(2 * inference.moved.copied <= inference.moved.all);
  CHECK(inference.arena < run(&Skips::build, in, false, false).arena);
  // A dense block is one storage.
  CHECK(run(&Dense::build, in, true, true).moved.copied == 0);
}

TEST_CASE("gradients through shared memory agree with differences") {
  CHECK(gradcheck<Dense>({2, 3, 6, 8}).worst < 1e-5);
  CHECK(gradcheck<Halves>({2, 3, 6, 8}).worst < 1e-5);
  CHECK(gradcheck<Awkward>({2, 3, 6, 8}).worst < 1e-5);
}

namespace {
/// Convolution beside pooling, joined at once: both parts would like to lie in the result.
struct Joined {
  static constexpr void build(builder& b) {
    const value x = b.input("x", 3), y = concat(b, conv(b, "conv", x, 13, {.kernel = 3, .stride = 2}), max_pool(b, x, {.kernel = 2, .stride = 2}));
    b.output("logits", relu(b, batch_norm(b, "bn", y)), 1);
  }
};
std::size_t scratch_bytes = 0;
int scratch_phase = 0;
}  // namespace

TEST_CASE("planning ends, and sharing never costs memory, whatever scratch memory the operators ask for") {
  for (build_function build : {&Joined::build, &Skips::build, &Dense::build}) {
    build_options o;
    o.classes = 5;
    basic_model<float> m(build, o);
    m.prepare_training(graph::loss_options{});
    cpu::engine<float>& e = m.training();
    const graph::graph& g = e.graph();
    std::vector<shape> extents(std::size_t(g.nodes.size()));
    std::vector<bool> external(extents.size(), false);
    for (int i = 0; i < g.nodes.size(); ++i) {
      if (g.nodes[i].kind == graph::op::input) extents[std::size_t(i)] = shape{2, 3, 12, 8};
      external[std::size_t(i)] = g.nodes[i].kind == graph::op::input || g.nodes[i].kind == graph::op::parameter;
    }
    for (scratch_bytes = 0; scratch_bytes < 40000; scratch_bytes = scratch_bytes * 3 / 2 + 64)
      for (scratch_phase = 1; scratch_phase < 6; ++scratch_phase) {
        plan_rules rules;
        rules.workspace = [](const graph::graph&, int id, const shape*) { return id % scratch_phase == 0 ? scratch_bytes : std::size_t(0); };
        rules.in_place = [](const graph::graph&, int, int) { return false; };
        const std::size_t plain = plan_memory(g, extents, external, rules).arena_bytes;
        rules.pitched = [](const graph::graph&, int, int) { return true; };
        CHECK(plan_memory(g, extents, external, rules).arena_bytes <= plain);
      }
  }
}

TEST_CASE("sharing keeps to its limit, also where several parts would move in together") {
  build_options o;
  o.classes = 5;
  basic_model<float> m(&Joined::build, o);
  const graph::graph& g = m.inference().graph();
  const std::size_t n = std::size_t(g.nodes.size());
  std::vector<shape> extents(n);
  for (std::size_t i = 0; i < n; ++i)
    if (g.nodes[int(i)].kind == graph::op::input) extents[i] = shape{2, 3, 12, 8};
  REQUIRE(graph::infer(g, extents.data()).what == graph::fault::none);
  std::vector<int> owner(n), last(n, -1);
  std::vector<bool> view(n, false), planned(n, false), kept(n, false);
  std::vector<std::size_t> bytes(n), busy(n + 1, 0);
  for (std::size_t i = 0; i < n; ++i) {
    owner[i] = int(i), bytes[i] = std::size_t(extents[i].size()) * 4;
    planned[i] = g.nodes[int(i)].input_count > 0;
    for (int k = 0; k < g.nodes[int(i)].input_count; ++k) last[std::size_t(g.input_of(int(i), k))] = int(i);
  }
  for (const graph::output& out : g.outputs) kept[std::size_t(out.node)] = true;
  const plan_detail::sharing_problem problem{g, extents, owner, last, view, planned, kept, bytes, busy, [](const graph::graph&, int, int) { return true; }};
  for (int limit : {0, 1, 2, 3}) CHECK(plan_detail::shared_columns(problem).share(limit) <= limit);
  CHECK(plan_detail::shared_columns(problem).share(2) == 2);
}
