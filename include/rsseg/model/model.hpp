// SPDX-License-Identifier: MIT
// A network with weights: infers, and computes training steps (loss and gradients). What optimises is in train/.
//   Model<UNet<6>> net;  net.weights().initialise(1);  tensor<float> scores = net.infer(image);
// basic_model is the same for a network whose counts are known at run time only (the command-line program).
#pragma once
#include <algorithm>
#include <cmath>
#include <map>

#include "rsseg/core/tensor.hpp"
#include "rsseg/cpu/engine.hpp"
#include "rsseg/layers/network.hpp"

namespace rsseg {

using build_function = void (*)(builder&);

/// Lowers a network at run time; a wrong composition is a usage_error that names the layer.
inline graph::graph lower_network(build_function build, const build_options& options) {
  builder b(options);
  build(b);
  if (b.failed()) {
    graph::graph_error e = b.g.error;
    std::string text = describe_error(b.g, {e.what, -1, e.expected, e.given});
    throw usage_error("layer '" + std::string(b.error_path()) + "'" + text.substr(text.find(':')));
  }
  return std::move(b.g);
}

/// What inference does to a graph: prunes, folds batch normalisation, fuses activations and residual sums.
inline graph::graph inference_graph(build_function build, build_options options, bool optimise = true) {
  options.training = false;
  graph::graph g = lower_network(build, options);
  graph::prune(g, false);
  if (optimise) {
    graph::fold_batch_norm(g);
    graph::fuse_epilogues(g);
  }
  return g;
}

template <class T>
class basic_model {
 public:
  basic_model(build_function build, const build_options& options) : build_(build), options_(options) {
    build_options training = options;
    training.training = true;
    store_ = std::make_unique<parameter_store<T>>(lower_network(build, training));
  }

  parameter_store<T>& weights() { return *store_; }
  const parameter_store<T>& weights() const { return *store_; }
  const build_options& options() const { return options_; }
  build_function build() const { return build_; }
  void set_memory_limit(std::size_t bytes) { limit_ = bytes; }

  /// The engine of inference, made on first use.
  cpu::engine<T>& inference() {
    if (!inference_) inference_ = std::make_unique<cpu::engine<T>>(inference_graph(build_, options_, optimise_), *store_);
    return *inference_;
  }
  /// Without folding and fusing (to compare).
  void set_optimise(bool on) { optimise_ = on, inference_.reset(); }

  /// Runs the network; outputs by name are then in output().
  void run(std::span<const tensor<T>* const> inputs) {
    cpu::engine<T>& e = inference();
    std::vector<shape> extents;
    for (const auto* x : inputs) extents.push_back(x->extent());
    e.plan_for(extents, limit_);
    for (std::size_t k = 0; k < inputs.size(); ++k) e.set_input(int(k), inputs[k]->data());
    e.run(cpu::run_state{});
  }
  /// The first output for one input (N,C,H,W).
  tensor<T> infer(const tensor<T>& x) {
    const tensor<T>* inputs[] = {&x};
    run(inputs);
    return output(0);
  }
  tensor<T> output(int which) const { return copy_of(*inference_, inference_->graph().outputs[which].node); }
  tensor<T> output(std::string_view name) const {
    const int which = inference_->graph().find_output(name);
    if (which < 0) throw usage_error("the network has no output '" + std::string(name) + "'");
    return output(which);
  }

  /// Prepares training with these losses. recompute: trade time for memory (the results are the same bits).
  void prepare_training(const graph::loss_options& loss, bool recompute = false) {
    build_options o = options_;
    o.training = true;
    prepare_training(lower_network(build_, o), loss, recompute);
  }
  /// The same from a graph lowered for training, whose outputs the caller has changed.
  void prepare_training(graph::graph g, const graph::loss_options& loss, bool recompute = false) {
    graph::make_training_graph(g, loss);
    if (g.error.what != graph::fault::none) throw usage_error("the network has no output to supervise");
    if (recompute) graph::recompute_cheap(g);
    training_ = std::make_unique<cpu::engine<T>>(std::move(g), *store_);
  }
  cpu::engine<T>& training() { return *training_; }

  /// Loss and gradients of one batch: inputs (N,C,H,W), labels (N,1,H,W) class ids. Running statistics move, weights do not.
  double train_step(std::span<const tensor<T>* const> inputs, const tensor<std::int32_t>& labels, const cpu::run_state& state) {
    const tensor<std::int32_t>* all[] = {&labels};
    return train_step(inputs, all, state);
  }
  /// The same for networks whose outputs have batches of different sizes (whole images and their patches): each takes the labels of its own.
  double train_step(std::span<const tensor<T>* const> inputs, std::span<const tensor<std::int32_t>* const> labels, const cpu::run_state& state) {
    cpu::engine<T>& e = *training_;
    std::vector<shape> extents;
    for (const auto* x : inputs) extents.push_back(x->extent());
    e.plan_for(extents, limit_);
    for (std::size_t k = 0; k < inputs.size(); ++k) e.set_input(int(k), inputs[k]->data());
    for (auto& [node, values] : e.targets()) {
      const shape want = e.extent(node);
      std::size_t which = 0;
      while (which + 1 < labels.size() && labels[which]->extent().n != want.n) ++which;
      fit_labels(*labels[which], want, e.graph().nodes[node].at, values);
    }
    e.run(state);
    store_->touch();  // running statistics
    return double(*e.value(e.graph().loss));
  }
  double train_step(const tensor<T>& x, const tensor<std::int32_t>& labels, const cpu::run_state& state) {
    const tensor<T>* inputs[] = {&x};
    return train_step(inputs, labels, state);
  }

  static tensor<T> copy_of(const cpu::engine<T>& e, int node) {
    tensor<T> t(e.extent(node));
    std::memcpy(t.data(), e.value(node), t.size() * sizeof(T));
    return t;
  }

  /// Brings labels to the extent of a target: nearest neighbour, or the centre.
  static void fit_labels(const tensor<std::int32_t>& labels, const shape& want, const graph::attributes& at, std::vector<std::int32_t>& out) {
    const label_rule rule = label_rule(at.mode);
    if (rule == label_rule::boundaries) return fit_labels(boundaries_of(labels, at.begin), want, {}, out);
    const shape have = labels.extent();
    if (have.n != want.n) throw usage_error("labels: expected a batch of " + std::to_string(want.n) + ", got " + std::to_string(have.n));
    if (rule == label_rule::crop_labels && (have.h < want.h || have.w < want.w))
      throw usage_error("labels of " + std::to_string(have.h) + "x" + std::to_string(have.w) + " are smaller than the output");
    out.resize(std::size_t(want.size()));
    const int top = (have.h - want.h) / 2, left = (have.w - want.w) / 2;
    for (int n = 0; n < want.n; ++n)
      for (int y = 0; y < want.h; ++y)
        for (int x = 0; x < want.w; ++x) {
          const bool crop = rule == label_rule::crop_labels;
          const int sy = crop ? y + top : int(std::int64_t(y) * have.h / want.h), sx = crop ? x + left : int(std::int64_t(x) * have.w / want.w);
          out[(std::size_t(n) * want.h + y) * want.w + x] = labels(n, 0, sy, sx);
        }
  }

  /// 1 within a pixel of a change of class, 0 elsewhere; ignored pixels stay ignored and bound nothing.
  static tensor<std::int32_t> boundaries_of(const tensor<std::int32_t>& labels, int ignore) {
    const shape s = labels.extent();
    tensor<std::int32_t> out(s);
    const auto differ = [&](int n, int y, int x, int y1, int x1) {
      if (y1 >= s.h || x1 >= s.w) return false;
      const int a = labels(n, 0, y, x), b = labels(n, 0, y1, x1);
      return a != b && a != ignore && b != ignore;
    };
    for (int n = 0; n < s.n; ++n)
      for (int y = 0; y < s.h; ++y)
        for (int x = 0; x < s.w; ++x) {
          if (labels(n, 0, y, x) == ignore) out(n, 0, y, x) = ignore;
          if (!differ(n, y, x, y + 1, x) && !differ(n, y, x, y, x + 1)) continue;
          for (int v = std::max(0, y - 1); v <= std::min(s.h - 1, y + 1); ++v)
            for (int u = std::max(0, x - 1); u <= std::min(s.w - 1, x + 1); ++u)
              if (labels(n, 0, v, u) != ignore) out(n, 0, v, u) = 1;
        }
    return out;
  }

 private:
  build_function build_;
  build_options options_;
  std::unique_ptr<parameter_store<T>> store_;
  std::unique_ptr<cpu::engine<T>> inference_, training_;
  bool optimise_ = true;
  std::size_t limit_ = 0;
};

/// A network type with weights. The composition is checked when this is compiled.
template <NetworkType Net, class T = float>
class Model : public basic_model<T> {
  static_assert(well_composed<Net>());

 public:
  Model() : basic_model<T>(&Net::build, detail::options_of<Net>(false)) {}
};

}  // namespace rsseg

#if RSSEG_EXTERN_KERNELS
// Compiled mode: these come from librsseg (src/lib_model.cpp) and cost a user's translation unit nothing but their declarations.
namespace rsseg {
extern template class parameter_store<float>;
extern template class parameter_store<double>;
extern template class cpu::engine<float>;
extern template class cpu::engine<double>;
extern template class basic_model<float>;
extern template class basic_model<double>;
}  // namespace rsseg
#endif
