// SPDX-License-Identifier: MIT
// Training of a model on a CUDA device, for the trainer: the same weights, the same optimiser, the same checkpoints. Steps do not wait for each
// other; a loss is read when its step is done.
#pragma once
#include "rsseg/cuda/backend.hpp"
#include "rsseg/model/model.hpp"
#include "rsseg/train/optimizer.hpp"

namespace rsseg::train {

class cuda_learner {
 public:
  /// model: owns the weights; it must live longer. Throws as cuda::open_backend does.
  cuda_learner(basic_model<float>& model, const cuda::backend_options& where)
      : model_(&model), backend_(cuda::open_backend(model.weights(), where)) {}

  cuda::backend& device() { return *backend_; }

  /// A graph lowered for training, its losses, and how weights follow.
  void prepare(graph::graph g, const graph::loss_options& loss, bool recompute, const optimizer<float>& how) {
    graph::make_training_graph(g, loss);
    if (g.error.what != graph::fault::none) throw usage_error("the network has no output to supervise");
    if (recompute) graph::recompute_cheap(g);
    training_ = backend_->make_executor(std::move(g));
    const optimizer_options& o = how.options();
    cuda::update_options u;
    switch (o.kind) {
      case optimizer_kind::sgd:
        u.kind = cuda::update_options::rule::sgd;
        break;
      case optimizer_kind::adam:
        u.kind = cuda::update_options::rule::adam;
        break;
      case optimizer_kind::adamw:
        u.kind = cuda::update_options::rule::adamw;
        break;
      case optimizer_kind::rmsprop:
        u.kind = cuda::update_options::rule::rmsprop;
        break;
    }
    u.momentum = o.momentum, u.beta2 = o.beta2, u.epsilon = o.epsilon, u.weight_decay = o.weight_decay, u.nesterov = o.nesterov;
    u.clip_norm = o.clip_norm, u.ema = o.ema;
    u.rate.assign(how.rates().begin(), how.rates().end()), u.decay.assign(how.decays().begin(), how.decays().end());
    backend_->set_update(u);
  }
  void set_memory_limit(std::size_t bytes) { limit_ = bytes; }

  /// Starts forward and backward of one batch; returns the run's number.
  std::uint64_t start(std::span<const tensor<float>* const> inputs, const tensor<std::int32_t>& labels, const cpu::run_state& state) {
    std::vector<shape> extents;
    for (const auto* x : inputs) extents.push_back(x->extent());
    training_->plan_for(extents, limit_);
    for (std::size_t k = 0; k < inputs.size(); ++k) training_->set_input(int(k), inputs[k]->data());
    for (int node : training_->targets()) {
      rsseg::fit_labels(labels, training_->extent(node), training_->graph().nodes[node].at, fitted_);
      training_->set_target(node, fitted_.data());
    }
    return training_->run(state.seed, state.step);
  }
  /// Waits for that run.
  double loss(std::uint64_t run) { return double(training_->loss(run)); }
  void accumulate() { backend_->accumulate_gradients(); }
  void update(double learning_rate, double gradient_scale) { backend_->update(learning_rate, gradient_scale); }
  /// Weights into the model's store, the optimiser's state into `to`; waits.
  void fetch(optimizer<float>& to) {
    backend_->fetch_weights();
    cuda::update_state s = backend_->read_update_state();
    to.steps() = s.steps;
    if (!s.first.empty()) to.first() = std::move(s.first);
    if (!s.second.empty()) to.second() = std::move(s.second);
    if (!s.average.empty()) to.average() = std::move(s.average);
  }
  /// The other way, after a checkpoint was read.
  void push(optimizer<float>& from) { backend_->write_update_state({from.steps(), from.first(), from.second(), from.average()}); }

  /// Inference with the present weights.
  tensor<float> infer(const tensor<float>& x) {
    if (!inference_) inference_ = backend_->make_executor(inference_graph(model_->build(), model_->options()));
    const shape extents[] = {x.extent()};
    inference_->plan_for(extents, limit_);
    inference_->set_input(0, x.data());
    inference_->run(0, 0);
    const int node = inference_->graph().outputs[0].node;
    tensor<float> y(inference_->extent(node));
    inference_->read(node, y.data());
    return y;
  }

 private:
  basic_model<float>* model_;
  std::unique_ptr<cuda::backend> backend_;
  std::unique_ptr<cuda::executor> training_, inference_;
  std::vector<std::int32_t> fitted_;
  std::size_t limit_ = 0;
};

}  // namespace rsseg::train
