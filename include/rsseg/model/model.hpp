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
#include "rsseg/model/labels.hpp"

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
    if (!inference_) {
      graph::graph g = inference_graph(build_, options_, optimise_);
      if (bfloat16_) graph::use_bfloat16(g);
      inference_ = std::make_unique<cpu::engine<T>>(std::move(g), *store_);
    }
    return *inference_;
  }
  /// Inference whose convolutions multiply bfloat16 numbers where that can pay (cpu/bf16.hpp): less exact, half the memory for their weights, and
  /// faster on CPUs with AVX512-BF16. Float only; training is not touched.
  void set_bfloat16(bool on) {
    if (bfloat16_ != on) bfloat16_ = on, inference_.reset();
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
  /// Of the last run. Throws usage_error before the first.
  tensor<T> output(int which) const {
    if (!inference_) throw usage_error("there is no output yet; call infer or run first");
    return copy_of(*inference_, inference_->graph().outputs[which].node);
  }
  tensor<T> output(std::string_view name) const {
    const int which = inference_ ? inference_->graph().find_output(name) : 0;
    if (which < 0) throw usage_error("the network has no output '" + std::string(name) + "'");
    return output(which);
  }

  /// Prepares training with these losses. recompute: cheap values are computed again in the backward pass instead of kept: about a quarter less
  /// memory for some more time, and the same bits.
  void prepare_training(const graph::loss_options& loss, bool recompute = true) {
    build_options o = options_;
    o.training = true;
    prepare_training(lower_network(build_, o), loss, recompute);
  }
  /// The same from a graph lowered for training, whose outputs the caller has changed.
  void prepare_training(graph::graph g, const graph::loss_options& loss, bool recompute = true) {
    graph::make_training_graph(g, loss);
    if (g.error.what != graph::fault::none) throw usage_error("the network has no output to supervise");
    if (recompute) graph::recompute_cheap(g);
    label_classes_ = 0, label_ignore_ = loss.ignore;
    for (const graph::node& n : g.nodes) {
      const auto kind = graph::loss_kind(n.at.mode);
      if (n.kind != graph::op::loss || kind == graph::loss_kind::binary_cross_entropy || kind == graph::loss_kind::balanced_binary ||
          kind == graph::loss_kind::squared_error)
        continue;
      label_classes_ = std::max(label_classes_, g.nodes[g.edges[n.first_input]].channels);
    }
    training_ = std::make_unique<cpu::engine<T>>(std::move(g), *store_);
  }
  /// Throws usage_error before prepare_training.
  cpu::engine<T>& training() {
    if (!training_) throw usage_error("the model is not prepared for training; call prepare_training first");
    return *training_;
  }

  /// Loss and gradients of one batch: inputs (N,C,H,W), labels (N,1,H,W) class ids. Running statistics move, weights do not.
  double train_step(std::span<const tensor<T>* const> inputs, const tensor<std::int32_t>& labels, const cpu::run_state& state) {
    if (label_classes_) check_labels(labels, label_classes_, label_ignore_, [](int n) { return "sample " + std::to_string(n); });
    const tensor<std::int32_t>* all[] = {&labels};
    return train_step(inputs, all, state);
  }
  /// The same for networks whose outputs have batches of different sizes (whole images and their patches): each takes the labels of its own.
  double train_step(std::span<const tensor<T>* const> inputs, std::span<const tensor<std::int32_t>* const> labels, const cpu::run_state& state) {
    cpu::engine<T>& e = training();
    std::vector<shape> extents;
    for (const auto* x : inputs) extents.push_back(x->extent());
    e.plan_for(extents, limit_);
    for (std::size_t k = 0; k < inputs.size(); ++k) e.set_input(int(k), inputs[k]->data());
    for (auto& [node, values] : e.targets()) {
      const shape want = e.extent(node);
      std::size_t which = 0;
      while (which + 1 < labels.size() && labels[which]->extent().n != want.n) ++which;
      rsseg::fit_labels(*labels[which], want, e.graph().nodes[node].at, values);
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

 private:
  build_function build_;
  build_options options_;
  std::unique_ptr<parameter_store<T>> store_;
  std::unique_ptr<cpu::engine<T>> inference_, training_;
  bool optimise_ = true, bfloat16_ = false;
  int label_classes_ = 0, label_ignore_ = 255;  // what train_step accepts as labels; 0 classes: anything
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
