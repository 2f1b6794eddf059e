// SPDX-License-Identifier: MIT
// Whole networks on the CUDA executor against the CPU's engine: inference with and without folding and fusion, ten training steps with the optimiser
// on the device. The programs see plain C++ only: kernels are in a translation unit of their own, as for users.
#include <doctest/doctest.h>

#include <cmath>
#include <cstdlib>

#define RSSEG_WITH_CUDA 1
#include "rsseg/layers/aspp.hpp"
#include "rsseg/layers/attention.hpp"
#include "rsseg/layers/graph_attention.hpp"
#include "rsseg/layers/point_ops.hpp"
#include "rsseg/model/cuda_model.hpp"
#include "rsseg/nets/unet.hpp"
#include "rsseg/train/optimizer.hpp"

using namespace rsseg;

namespace {

/// DeepLab v3+ in small: strided stem, a dilated residual block, pyramid with image mean, separable branches and dropout, decoder at stride 2.
struct MiniDeepLab {
  static constexpr void build(builder& b) {
    const value x = b.input("x", from_data);
    const value low = conv_bn_relu(b, "stem", "bn0", x, 8, {.kernel = 3, .stride = 2});
    value y = conv_bn_relu(b, "down", "bn1", low, 12, {.kernel = 3, .stride = 2});
    y = relu(b, add(b, conv_bn(b, "res", "bn2", y, 12, {.kernel = 3, .dilation = 2}), y));
    aspp_options o;
    o.out = 8, o.rates[0] = 1, o.rates[1] = 2, o.rates[2] = 5, o.separable = true;
    y = aspp(b, y, o);
    y = concat(b, resize_like(b, y, low, true), conv_bn_relu(b, "low", "bn3", low, 4));
    y = conv(b, "head", dropout(b, conv_bn_relu(b, "last", "bn4", y, 8, {.kernel = 3}), 0.1), b.classes(4));
    b.output("logits", resize_like(b, y, x, true), 1, label_rule::resize_logits, true);
  }
};

/// SGA-Net in small: the same graph attention on a self-constructed graph, four turned views, linear attention between channels, on a plain stem.
struct MiniSGANet {
  static constexpr void build(builder& b) {
    const value x = b.input("x", from_data);
    value f = conv_bn_relu(b, "stem", "bn0", x, 8, {.kernel = 3, .stride = 2});
    f = conv_bn_relu(b, "c4", "bn1", f, 16, {.kernel = 3, .stride = 2});
    value predictions[4], penalties[4];
    for (int v = 0; v < 4; ++v) {
      const shared_weights shared(b, v > 0);
      const value turned = v == 0 ? f : graph::ops::rotate(b, f, v);
      constructed_graph g;
      {
        const scope s(b, "scg");
        g = self_constructing_graph(b, turned, b.classes(4), 4, 4, v);
      }
      penalties[v] = g.regulariser;
      const value prior = log_adjacency(b, g.adjacency);
      value y;
      {
        const scope s(b, "gat1");
        y = elu(b, graph_attention(b, g.nodes, prior, 2, 4, true));
      }
      {
        const scope s(b, "gat2");
        y = graph_attention(b, y, prior, 1, b.classes(4), false);
      }
      y = add(b, y, g.prediction);
      predictions[v] = v == 0 ? y : graph::ops::rotate(b, y, -v);
    }
    b.add_penalty("graph", graph::ops::add(b, penalties, 4));
    value channels;
    {
      const scope s(b, "cla");
      channels = channel_linear_attention(b, f);
    }
    const value nodes = resize_like(b, graph::ops::add(b, predictions, 4), f);
    b.output("logits", resize_like(b, add(b, nodes, conv(b, "cls", channels, b.classes(4))), x), 1);
  }
};

/// PointRend in small: points chosen by uncertainty and noise, features sampled there, a point head, scores placed back.
struct MiniPointRend {
  static constexpr void build(builder& b) {
    const value x = b.input("x", from_data);
    const value f = relu(b, conv(b, "f", x, 8, {.kernel = 3, .stride = 2}));
    const value coarse = conv(b, "coarse", f, b.classes(4));
    const auto head = [&](value where) { return conv(b, "head", concat(b, sample_at(b, f, where), sample_at(b, coarse, where)), b.classes(4)); };
    if (!b.training()) {
      const value y = resize_by(b, coarse, 2);
      const value where = uncertain_cells(b, y, 20);
      return b.output("logits", place_at(b, y, where, head(where)), 1);
    }
    const value whole = graph::ops::stop_gradient(b, resize_by(b, coarse, 2));
    value noise;
    {
      const scope s(b, "points");
      noise = graph::ops::noise(b, graph::ops::slice(b, whole, 0, 1));
    }
    const value where = random_cells(b, whole, noise, 8);
    b.output("logits", place_at(b, whole, where, head(where)), 8);
    b.output("coarse", coarse, 1, label_rule::resize_logits, false, true);
  }
};

/// Self attention over all pixels (DANet's position attention) on a strided map.
struct MiniAttention {
  static constexpr void build(builder& b) {
    const value x = b.input("x", from_data);
    const value f = relu(b, conv(b, "stem", x, 8, {.kernel = 3, .stride = 2}));
    const value weights = softmax(b, graph::ops::matmul(b, conv(b, "q", f, 4), conv(b, "k", f, 4), false, true));
    const value y = add(b, f, graph::ops::matmul(b, weights, conv(b, "v", f, 8), false, false));
    b.output("logits", resize_like(b, conv(b, "head", y, b.classes(4)), x), 1);
  }
};

/// An operator of the user's own, without CUDA kernels: computed on the host in between.
template <class T>
void twice_kernel(const custom_call<T>& c) {
  for (std::int64_t i = 0; i < c.out_extent.size(); ++i) c.out[i] = 2 * c.in[0][i];
}
constexpr shape same_extent(const graph::attributes&, const shape* in, int) { return in[0]; }
constexpr void twice_vjp(graph::tape& t, int node, int dy);
inline constexpr custom_op twice_op{"twice", &same_extent, &twice_vjp, &twice_kernel<float>, &twice_kernel<double>, nullptr};
constexpr void twice_vjp(graph::tape& t, int node, int dy) {
  const int x = t.g.input_of(node, 0);
  if (t.wants(x)) t.give(x, append_custom(t.g, twice_op, {dy}, t.g.nodes[x].channels));
}
struct WithCustom {
  static constexpr void build(builder& b) {
    const value x = b.input("x", from_data);
    b.output("logits", conv(b, "b", emit_custom(b, twice_op, {relu(b, conv(b, "a", x, 6, {.kernel = 3}))}, 6), b.classes(4)), 1);
  }
};

template <class Values>
double relative_difference(const Values& got, const Values& want) {
  double worst = 0, scale = 0;
  REQUIRE(got.size() == want.size());
  for (std::size_t i = 0; i < std::size_t(got.size()); ++i) {
    const double d = std::abs(double(got.data()[i]) - double(want.data()[i]));
    worst = std::max(worst, d == d ? d : INFINITY), scale = std::max(scale, std::abs(double(want.data()[i])));
  }
  return scale > 0 ? worst / scale : worst;
}
tensor<float> random_image(const shape& s, std::uint64_t stream) {
  random_stream r(7, stream);
  tensor<float> x(s);
  for (float& v : x) v = float(r.uniform(-1, 1));
  return x;
}
tensor<std::int32_t> random_labels(const shape& s, std::uint64_t stream) {
  random_stream r(8, stream);
  tensor<std::int32_t> t(shape{s.n, 1, s.h, s.w});
  for (auto& v : t) v = r.uniform() < 0.1 ? 255 : std::int32_t(r.below(4));
  return t;
}
build_options four_classes() {
  build_options o;
  o.classes = 4;
  return o;
}

struct tolerances {
  double scores, loss, weights;
};
/// Inference, then `steps` steps of the optimiser; both sides start from the same weights.
void compare_network(build_function build, const shape& in, int steps, const train::optimizer_options& how, double rate, const tolerances& t,
                     const cuda::backend_options& where = {}, bool recompute = false, const graph::loss_options& loss = graph::loss_options{}) {
  basic_model<float> host(build, four_classes());
  cuda::basic_model device(build, four_classes(), where);
  host.weights().initialise(3);
  device.weights().initialise(3);
  const tensor<float> x = random_image(in, 1);
  for (bool optimise : {true, false}) {
    CAPTURE(optimise);
    host.set_optimise(optimise), device.set_optimise(optimise);
    const tensor<float> want = host.infer(x);
    for (int run = 0; run < 3; ++run) CHECK(relative_difference(device.infer(x), want) < t.scores);
  }
  host.prepare_training(loss, recompute);
  device.prepare_training(loss, recompute);
  train::optimizer<float> host_update(host.weights(), how);
  device.set_update({.kind = cuda::update_options::rule(int(how.kind)),
                     .momentum = how.momentum,
                     .beta2 = how.beta2,
                     .epsilon = how.epsilon,
                     .weight_decay = how.weight_decay,
                     .nesterov = how.nesterov,
                     .clip_norm = how.clip_norm,
                     .ema = how.ema,
                     .rate = {},
                     .decay = {}});
  std::vector<double> want;
  std::vector<std::uint64_t> runs;
  for (int k = 0; k < steps; ++k) {
    const tensor<float> image = random_image(in, 10 + std::uint64_t(k) % 3);
    const tensor<std::int32_t> labels = random_labels(in, 20 + std::uint64_t(k) % 3);
    const cpu::run_state state{5, std::uint64_t(k)};
    want.push_back(host.train_step(image, labels, state));
    host_update.step(host.training().gradients(), rate);
    runs.push_back(device.step(image, labels, state, rate));
    if (k == 0) CHECK(relative_difference(device.gradients(), host.training().gradients()) < t.weights);
  }
  for (int k = 0; k < steps; ++k) {  // losses are read afterwards: no step waited for one
    CAPTURE(k);
    CHECK(std::abs(device.loss(runs[std::size_t(k)]) - want[std::size_t(k)]) < t.loss * (1 + std::abs(want[std::size_t(k)])));
  }
  CHECK(relative_difference(device.weights().values(), host.weights().values()) < t.weights);
  const cuda::update_state state = device.device().read_update_state();
  CHECK(state.steps == std::uint64_t(steps));
  CHECK(relative_difference(state.first, host_update.first()) < 5 * t.weights);
  CHECK(relative_difference(device.infer(x), host.infer(x)) < t.scores * 20);
}

train::optimizer_options sgd() {
  train::optimizer_options o;
  o.weight_decay = 1e-4;
  return o;
}
train::optimizer_options adamw() {
  train::optimizer_options o;
  o.kind = train::optimizer_kind::adamw, o.weight_decay = 1e-2, o.clip_norm = 1, o.ema = 0.9;
  return o;
}
constexpr tolerances fp32{1e-5, 1e-4, 2e-3};

}  // namespace

TEST_CASE("executor: a narrow U-Net, ten steps") { compare_network(&UNet<4, 3>::build, {1, 3, 32, 32}, 10, sgd(), 0.01, fp32); }
TEST_CASE("executor: a small DeepLab v3+, ten steps") { compare_network(&MiniDeepLab::build, {2, 3, 25, 22}, 10, sgd(), 0.01, fp32); }
TEST_CASE("executor: with recomputation") { compare_network(&MiniDeepLab::build, {1, 3, 16, 16}, 3, adamw(), 0.001, fp32, {}, true); }
TEST_CASE("executor: a small SGA-Net, ten steps") { compare_network(&MiniSGANet::build, {1, 3, 16, 16}, 10, adamw(), 0.001, fp32); }
TEST_CASE("executor: self attention, one kernel in inference, three operators in training") {
  compare_network(&MiniAttention::build, {2, 3, 18, 20}, 3, sgd(), 0.01, fp32);
  cuda::basic_model net(&MiniAttention::build, four_classes());
  net.weights().initialise(3);
  net.infer(random_image({1, 3, 18, 20}, 1));
  const graph::graph& g = net.inference().graph();
  int fused = 0;
  for (int i = 0; i < g.nodes.size(); ++i) {
    if (g.nodes[i].kind == graph::op::custom) ++fused;
    if (g.nodes[i].kind == graph::op::softmax) CHECK_THROWS_AS(net.inference().read(i, nullptr), usage_error);
  }
  CHECK(fused == 1);
}
TEST_CASE("executor: points, ten steps") { compare_network(&MiniPointRend::build, {2, 3, 16, 16}, 10, sgd(), 0.01, fp32); }
TEST_CASE("executor: a custom operator without CUDA kernels") { compare_network(&WithCustom::build, {1, 3, 9, 8}, 3, sgd(), 0.01, fp32); }
TEST_CASE("executor: other losses, together") {
  graph::loss_options loss;
  loss.terms[0] = {graph::loss_kind::ohem, 1, 0.7, 0, 50}, loss.terms[1] = {graph::loss_kind::lovasz, 0.5};
  loss.terms[2] = {graph::loss_kind::dice, -0.5, 1}, loss.terms[3] = {graph::loss_kind::focal, 2, 2};
  loss.term_count = 4;
  compare_network(&MiniDeepLab::build, {1, 3, 16, 16}, 3, sgd(), 0.01, fp32, {}, false, loss);
}

TEST_CASE("executor: ten steps in bf16 and fp16") {
  // Ten steps in two bytes drift from float by the rounding of every map; losses stay near. The worst gradient of the first step differs by 0.088 of
  // the largest with 8 bits of mantissa; with 11 it must be a few times nearer.
  const tolerances bf16{0.05, 0.05, 0.12}, fp16{0.01, 0.02, 0.03};
  cuda::backend_options where;
  where.compute = cuda::precision::bf16;
  compare_network(&MiniDeepLab::build, {1, 3, 16, 16}, 10, sgd(), 0.01, bf16, where);
  where.compute = cuda::precision::fp16;
  compare_network(&MiniDeepLab::build, {1, 3, 16, 16}, 10, sgd(), 0.01, fp16, where);
}

TEST_CASE("executor: a loss scale that overflows halves, and its step changes nothing") {
  cuda::backend_options where;
  where.compute = cuda::precision::fp16;
  where.loss_scale = 1073741824;  // overflows: steps are skipped, the scale halves
  cuda::basic_model net(&MiniDeepLab::build, four_classes(), where);
  net.weights().initialise(3);
  net.prepare_training(graph::loss_options{});
  net.set_update({});
  const std::vector<float> before = net.weights().values();
  const tensor<float> x = random_image({1, 3, 16, 16}, 1);
  const auto labels = random_labels({1, 3, 16, 16}, 2);
  net.step(x, labels, {1, 0}, 0.01);
  const float scale = net.device().loss_scale();
  CHECK(scale == 536870912);
  double moved = 0;
  for (const stored_tensor& t : net.weights().entries())
    for (std::size_t i = t.offset; t.trained && i < t.offset + t.size; ++i) moved += std::abs(net.weights().values()[i] - before[i]);
  CHECK(moved == 0);
  for (std::uint64_t k = 1; k < 20; ++k) net.step(x, labels, {1, k}, 0.01);
  CHECK(net.device().loss_scale() < scale);
  CHECK(net.device().read_update_state().steps > 0);
}

TEST_CASE("executor: Model<Net, on_cuda>, accumulation, another size, confusion, errors") {
  Model<UNet<4, 4>, on_cuda> net;
  net.weights().initialise(1);
  const tensor<float> x = random_image({1, 3, 32, 32}, 1);
  const auto labels = random_labels({1, 3, 32, 32}, 2);
  const tensor<float> first = net.infer(x);
  net.infer(random_image({2, 3, 48, 32}, 3));
  CHECK(relative_difference(net.infer(x), first) == 0);  // the same bits after another size
  std::vector<std::uint8_t> ids(32 * 32);
  net.inference().read_argmax(net.inference().graph().outputs[0].node, ids.data());
  for (std::int64_t i = 0; i < 32 * 32; ++i) {
    int best = 0;
    for (int k = 1; k < 4; ++k)
      if (first.data()[i * 4 + k] > first.data()[i * 4 + best]) best = k;
    CHECK(int(ids[std::size_t(i)]) == best);
  }
  net.inference().add_confusion(net.inference().graph().outputs[0].node, labels.data(), 255);
  std::uint64_t counted = 0, valid = 0;
  for (std::uint64_t c : net.inference().take_confusion()) counted += c;
  for (std::int32_t t : labels) valid += t != 255;
  CHECK(counted == valid);

  net.prepare_training(graph::loss_options{});
  net.set_update({});
  net.train_step(x, labels, {1, 0});
  const std::vector<float> once = net.gradients();
  net.device().accumulate_gradients();
  net.train_step(x, labels, {1, 0});
  net.device().accumulate_gradients();
  const std::vector<float> before = net.weights().values();
  net.device().update(1, 0.5);  // the mean of two equal gradients
  const std::vector<float>& after = net.weights().values();
  double worst = 0;
  for (const stored_tensor& t : net.weights().entries())
    for (std::size_t i = t.offset; t.trained && i < t.offset + t.size; ++i) worst = std::max(worst, double(std::abs(before[i] - after[i] - once[i])));
  CHECK(worst < 1e-5);

  const auto message = [](auto&& body) -> std::string {
    try {
      body();
    } catch (const error& e) {
      return e.what();
    }
    return "";
  };
  CHECK(message([&] { net.infer(tensor<float>({1, 4, 32, 32})); }).find("expected 3 channels (bands), got 4") != std::string::npos);
  net.set_memory_limit(1000);
  const std::string limited = message([&] { net.infer(random_image({1, 3, 64, 64}, 1)); });
  CHECK(limited.find("fullest at operator") != std::string::npos);
  CHECK(limited.find("use a smaller tile") != std::string::npos);
  cuda::backend_options cudnn;
  cudnn.engine = cuda::engine_choice::cudnn;
  CHECK(message([&] { Model<UNet<4, 4>, on_cuda> other(cudnn); }).find("cuDNN") != std::string::npos);
}

TEST_CASE("executor: full-resolution logits are not computed in training, and every precision trains from small ones") {
  for (const auto precision : {cuda::precision::fp32, cuda::precision::bf16}) {
    cuda::backend_options where;
    where.compute = precision;
    cuda::basic_model net(&MiniDeepLab::build, four_classes(), where);
    net.weights().initialise(3);
    net.prepare_training(graph::loss_options{});
    const tensor<float> x = random_image({1, 3, 24, 20}, 1);
    net.train_step(x, random_labels({1, 3, 24, 20}, 2), {1, 0});
    int full = 0, gone = 0;
    const graph::graph& g = net.training().graph();
    for (int i = 0; i < g.nodes.size(); ++i) {
      if (net.training().extent(i).c != 4 || net.training().extent(i).h != 24) continue;
      ++full;
      std::vector<float> v(std::size_t(net.training().extent(i).size()));
      try {
        net.training().read(i, v.data());
      } catch (const usage_error& e) {
        gone += std::string(e.what()).find("is not computed") != std::string::npos;
      }
    }
    CHECK(full >= 3);  // the network's own resize, the loss's, and their gradient
    CHECK(gone == full);
    int convolutions = 0;  // maps take the bytes of their type
    for (int i = 0; i < g.nodes.size(); ++i)
      if (g.nodes[i].kind == graph::op::conv && net.training().extent(i).h > 1)
        convolutions += net.training().plan().entries[std::size_t(i)].bytes ==
                        std::size_t(net.training().extent(i).size()) * (precision == cuda::precision::fp32 ? 4 : 2);
    CHECK(convolutions >= 8);
  }
}

TEST_CASE("executor: devices that cannot be used say why") {
  const auto message = [](const char* device, cuda::precision precision, int index = 0, int side = 32) -> std::string {
    ::setenv("RSSEG_EMULATED_DEVICE", device, 1);
    std::string text;
    try {
      cuda::backend_options where;
      where.compute = precision, where.device = index;
      Model<UNet<4, 4>, on_cuda> net(where);
      net.infer(random_image({1, 3, side, side}, 1));
    } catch (const error& e) {
      text = e.what();
    }
    ::unsetenv("RSSEG_EMULATED_DEVICE");
    CHECK(text.find('\n') == std::string::npos);
    return text;
  };
  using cuda::precision;
  CHECK(message("none", precision::fp32).find("no usable device") != std::string::npos);
  CHECK(message("7.0", precision::fp32).find("compute capability 7.0, expected 7.5 or later") != std::string::npos);
  CHECK(message("7.5", precision::bf16).find("need compute capability 8.0") != std::string::npos);
  CHECK(message("7.5", precision::tf32).find("use fp16 or fp32") != std::string::npos);
  CHECK(message("9.0", precision::fp32, 3).find("device 3 asked for, there are 1") != std::string::npos);
  CHECK(message("9.0:1000", precision::fp32).find("weights and gradients") != std::string::npos);
  Model<UNet<4, 4>, on_cuda> probe;  // enough for the weights, not for the maps
  const std::string memory = message(("9.0:" + std::to_string(8 * probe.weights().values().size() + 1000)).c_str(), precision::fp32, 0, 512);
  CHECK(memory.find("planned") != std::string::npos);
  CHECK(memory.find("peak at layer operator") != std::string::npos);
  CHECK(memory.find("use a smaller batch or tile") != std::string::npos);
  CHECK(message("7.5", precision::fp32).empty());
  CHECK(message("8.0", precision::bf16).empty());
}
