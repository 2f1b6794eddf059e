// SPDX-License-Identifier: MIT
// Networks of systems and of refining stages, on the processor or on a CUDA device by the same calls: inputs are arrays of the host, and so is what
// is read back. Systems cut, merge and resize maps on the host; what takes the time, the networks, runs where it was placed.
//   placed_graph     one lowered graph, for inference or training
//   placed_network   weights of a network, and its graphs
#pragma once
#include <map>
#include <optional>

#include "rsseg/cuda/backend.hpp"
#include "rsseg/model/model.hpp"

namespace rsseg::scene {

/// Where networks run: nothing is the CPU.
using placement = std::optional<cuda::backend_options>;

class placed_graph {
 public:
  /// g: lowered for inference, or for training with its losses; store: its weights; device: where they also are, null for the CPU. Both live longer.
  placed_graph(graph::graph g, parameter_store<float>& store, cuda::backend* device) : store_(&store), device_(device) {
    if (device)
      cuda_ = device->make_executor(std::move(g));
    else
      cpu_ = std::make_unique<cpu::engine<float>>(std::move(g), store);
  }

  const graph::graph& graph() const { return cpu_ ? cpu_->graph() : cuda_->graph(); }
  const memory_plan& plan() const { return cpu_ ? cpu_->plan() : cuda_->plan(); }
  /// Bytes of arena and prepared weights; known after give().
  std::size_t bytes() const { return cpu_ ? cpu_->bytes() : cuda_->bytes(); }
  const shape& extent(int node) const { return cpu_ ? cpu_->extent(node) : cuda_->extent(node); }

  /// Plans for inputs and takes their values. Throws as the engines: usage_error, memory_error.
  void give(const std::vector<std::pair<shape, const float*>>& inputs, std::size_t limit = 0) {
    std::vector<shape> extents;
    for (const auto& i : inputs) extents.push_back(i.first);
    if (cpu_)
      cpu_->plan_for(extents, limit);
    else
      cuda_->plan_for(extents, limit);
    for (std::size_t k = 0; k < inputs.size(); ++k)
      if (cpu_)
        cpu_->set_input(int(k), inputs[k].second);
      else
        cuda_->set_input(int(k), inputs[k].second);
  }
  /// Class ids of every target node (training), in the order of nodes: fill(node, values). After give().
  template <class Fill>
  void fill_targets(const Fill& fill) {
    if (cpu_) {
      for (auto& [node, values] : cpu_->targets()) fill(node, values);
      return;
    }
    for (const int node : cuda_->targets()) {
      std::vector<std::int32_t> values(std::size_t(cuda_->extent(node).size()));
      fill(node, values);
      cuda_->set_target(node, values.data());
    }
  }
  void run(const cpu::run_state& state = {}) {
    read_.clear();
    if (cpu_)
      cpu_->run(state);
    else
      last_ = cuda_->run(state.seed, state.step);
    if (graph().loss < 0) return;  // running statistics have moved
    if (cpu_)
      store_->touch();
    else
      device_->fetch_weights();
  }
  /// Values of a node of the last run, until the next; outputs, and what training keeps.
  const float* value(int node) {
    if (cpu_) return cpu_->value(node);
    std::vector<float>& v = read_[node];
    if (v.empty()) v.resize(std::size_t(extent(node).size())), cuda_->read(node, v.data());
    return v.data();
  }
  std::pair<shape, const float*> output(int which) {
    const int node = graph().outputs[which].node;
    return {extent(node), value(node)};
  }
  tensor<float> copy_of_output(int which) {
    const auto [s, values] = output(which);
    tensor<float> t(s);
    std::copy_n(values, t.size(), t.data());
    return t;
  }
  double loss() { return cpu_ ? double(*cpu_->value(cpu_->graph().loss)) : double(cuda_->loss(last_)); }
  /// sum += factor times the gradients of the last run, laid out like the store's values. Weights that this graph does not have are left alone.
  void add_gradients(std::vector<float>& sum, double factor) {
    if (sum.size() != store_->values().size()) sum.assign(store_->values().size(), 0.0f);
    std::vector<float> fetched;
    if (device_) fetched = device_->gradients();
    const std::vector<float>& all = device_ ? fetched : cpu_->gradients();
    const graph::graph& g = graph();
    for (int i = 0; i + 1 < g.gradients.size(); i += 2) {
      const int node = g.gradients[i];
      if (g.nodes[node].kind != graph::op::parameter) continue;
      const stored_tensor& t = store_->entries()[std::size_t(store_->find(g.name_of(node)))];
      for (std::size_t k = t.offset; k < t.offset + t.size; ++k) sum[k] += float(factor) * all[k];
    }
  }

 private:
  parameter_store<float>* store_;
  cuda::backend* device_;
  std::unique_ptr<cpu::engine<float>> cpu_;
  std::unique_ptr<cuda::executor> cuda_;
  std::map<int, std::vector<float>> read_;
  std::uint64_t last_ = 0;
};

/// The calls of basic_model<float>, on the CPU or on a device. The device is opened for the first graph.
class placed_network {
 public:
  placed_network(build_function build, const build_options& options, placement where = {})
      : build_(build), options_(options), where_(std::move(where)) {
    build_options training = options;
    training.training = true;
    store_ = std::make_unique<parameter_store<float>>(lower_network(build, training));
  }

  /// After a change through values(), touch() them.
  parameter_store<float>& weights() { return *store_; }
  const build_options& options() const { return options_; }
  build_function build() const { return build_; }
  const placement& where() const { return where_; }
  void set_memory_limit(std::size_t bytes) { limit_ = bytes; }

  /// A graph on this network's weights. Throws usage_error for learning in fp16, whose overflows only the device's own optimiser handles.
  std::unique_ptr<placed_graph> make(graph::graph g) {
    if (g.loss >= 0 && where_ && where_->compute == cuda::precision::fp16)
      throw usage_error("systems of several networks learn in fp32, tf32 or bf16, not in fp16");
    if (where_ && !device_) device_ = cuda::open_backend(*store_, *where_);
    return std::make_unique<placed_graph>(std::move(g), *store_, device_.get());
  }
  placed_graph& inference() {
    if (!inference_) inference_ = make(inference_graph(build_, options_));
    return *inference_;
  }
  /// Runs the network; outputs are then in output().
  void run(const std::vector<std::pair<shape, const float*>>& inputs) {
    inference().give(inputs, limit_);
    inference().run();
  }
  void run(std::span<const tensor<float>* const> inputs) {
    std::vector<std::pair<shape, const float*>> all;
    for (const auto* x : inputs) all.emplace_back(x->extent(), x->data());
    run(all);
  }
  /// The first output for one input (N,C,H,W).
  tensor<float> infer(const tensor<float>& x) {
    const tensor<float>* inputs[] = {&x};
    run(inputs);
    return output(0);
  }
  tensor<float> output(int which) { return inference().copy_of_output(which); }
  tensor<float> output(std::string_view name) {
    const int which = inference().graph().find_output(name);
    if (which < 0) throw usage_error("the network has no output '" + std::string(name) + "'");
    return output(which);
  }

  void prepare_training(const graph::loss_options& loss, bool recompute = false) {
    build_options o = options_;
    o.training = true;
    graph::graph g = lower_network(build_, o);
    graph::make_training_graph(g, loss);
    if (g.error.what != graph::fault::none) throw usage_error("the network has no output to supervise");
    if (recompute) graph::recompute_cheap(g);
    training_ = make(std::move(g));
  }
  placed_graph& training() { return *training_; }

 private:
  build_function build_;
  build_options options_;
  placement where_;
  std::unique_ptr<parameter_store<float>> store_;
  std::unique_ptr<cuda::backend> device_;
  std::unique_ptr<placed_graph> inference_, training_;
  std::size_t limit_ = 0;
};

}  // namespace rsseg::scene
