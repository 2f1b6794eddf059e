// SPDX-License-Identifier: MIT
// A network with weights on a CUDA device: what basic_model is on the CPU, with the same calls and the same parameter files.
//   Model<UNet<6>, on_cuda> net;  net.weights().initialise(1);  tensor<float> scores = net.infer(image);
//   net.prepare_training(graph::loss_options{});  net.set_update({});  net.step(images, labels, {seed, k}, rate);   // nothing waits; net.loss(run)
//   does
// Plain C++: needs librsseg_cuda at link time (-DRSSEG_WITH_CUDA=1), and otherwise throws when it is constructed.
#pragma once
#include "rsseg/cuda/backend.hpp"
#include "rsseg/model/model.hpp"

namespace rsseg {

namespace cuda {

class basic_model {
 public:
  basic_model(build_function build, const build_options& options, const backend_options& where = {}) : build_(build), options_(options) {
    build_options training = options;
    training.training = true;
    store_ = std::make_unique<parameter_store<float>>(lower_network(build, training));
    backend_ = open_backend(*store_, where);
  }

  /// The weights on the host, as new as those on the device: waits if a training step has changed them.
  parameter_store<float>& weights() {
    backend_->fetch_weights();
    return *store_;
  }
  const build_options& options() const { return options_; }
  build_function build() const { return build_; }
  backend& device() { return *backend_; }
  void set_memory_limit(std::size_t bytes) { limit_ = bytes; }
  void set_optimise(bool on) { optimise_ = on, inference_.reset(); }

  executor& inference() {
    if (!inference_) inference_ = backend_->make_executor(inference_graph(build_, options_, optimise_));
    return *inference_;
  }
  /// Starts inference; outputs by name are then in output().
  void run(std::span<const tensor<float>* const> inputs) {
    executor& e = inference();
    give(e, inputs);
    e.run(0, 0);
  }
  /// The first output for one input (N,C,H,W).
  tensor<float> infer(const tensor<float>& x) {
    const tensor<float>* inputs[] = {&x};
    run(inputs);
    return output(0);
  }
  tensor<float> output(int which) { return copy_of(*inference_, inference_->graph().outputs[which].node); }
  tensor<float> output(std::string_view name) {
    const int which = inference_->graph().find_output(name);
    if (which < 0) throw usage_error("the network has no output '" + std::string(name) + "'");
    return output(which);
  }

  void prepare_training(const graph::loss_options& loss, bool recompute = false) {
    build_options o = options_;
    o.training = true;
    prepare_training(lower_network(build_, o), loss, recompute);
  }
  void prepare_training(graph::graph g, const graph::loss_options& loss, bool recompute = false) {
    graph::make_training_graph(g, loss);
    if (g.error.what != graph::fault::none) throw usage_error("the network has no output to supervise");
    if (recompute) graph::recompute_cheap(g);
    training_ = backend_->make_executor(std::move(g));
  }
  executor& training() { return *training_; }

  /// Starts a training step without an update: loss and gradients of one batch. Returns the run's number, for loss().
  std::uint64_t start_step(std::span<const tensor<float>* const> inputs, const tensor<std::int32_t>& labels, const cpu::run_state& state) {
    executor& e = *training_;
    give(e, inputs);
    for (int node : e.targets()) {
      rsseg::fit_labels(labels, e.extent(node), e.graph().nodes[node].at, fitted_);
      e.set_target(node, fitted_.data());
    }
    return e.run(state.seed, state.step);
  }
  /// The same, and waits for the loss, as basic_model<float> does.
  double train_step(std::span<const tensor<float>* const> inputs, const tensor<std::int32_t>& labels, const cpu::run_state& state) {
    return loss(start_step(inputs, labels, state));
  }
  double train_step(const tensor<float>& x, const tensor<std::int32_t>& labels, const cpu::run_state& state) {
    const tensor<float>* inputs[] = {&x};
    return train_step(inputs, labels, state);
  }
  double loss(std::uint64_t run) { return double(training_->loss(run)); }
  std::vector<float> gradients() { return backend_->gradients(); }

  void set_update(const update_options& options) { backend_->set_update(options); }
  /// A whole step: forward, backward, update. Does not wait.
  std::uint64_t step(std::span<const tensor<float>* const> inputs, const tensor<std::int32_t>& labels, const cpu::run_state& state,
                     double learning_rate) {
    const std::uint64_t run = start_step(inputs, labels, state);
    backend_->update(learning_rate);
    return run;
  }
  std::uint64_t step(const tensor<float>& x, const tensor<std::int32_t>& labels, const cpu::run_state& state, double learning_rate) {
    const tensor<float>* inputs[] = {&x};
    return step(inputs, labels, state, learning_rate);
  }

  static tensor<float> copy_of(executor& e, int node) {
    tensor<float> t(e.extent(node));
    e.read(node, t.data());
    return t;
  }

 private:
  void give(executor& e, std::span<const tensor<float>* const> inputs) {
    std::vector<shape> extents;
    for (const auto* x : inputs) extents.push_back(x->extent());
    e.plan_for(extents, limit_);
    for (std::size_t k = 0; k < inputs.size(); ++k) e.set_input(int(k), inputs[k]->data());
  }

  build_function build_;
  build_options options_;
  std::unique_ptr<parameter_store<float>> store_;
  std::unique_ptr<backend> backend_;
  std::unique_ptr<executor> inference_, training_;
  std::vector<std::int32_t> fitted_;
  bool optimise_ = true;
  std::size_t limit_ = 0;
};

}  // namespace cuda

/// The second argument of Model for a network on a CUDA device.
struct on_cuda {};

/// A network type with weights on a CUDA device.
template <NetworkType Net>
class Model<Net, on_cuda> : public cuda::basic_model {
  static_assert(well_composed<Net>());

 public:
  explicit Model(const cuda::backend_options& where = {}) : cuda::basic_model(&Net::build, detail::options_of<Net>(false), where) {}
};

}  // namespace rsseg
