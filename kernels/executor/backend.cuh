// SPDX-License-Identifier: MIT
// Weights, gradients and optimiser of one network on a device (rsseg/cuda/backend.hpp). Weights travel when the host's version changed, and back when
// asked for; between two training steps nothing does.
#pragma once
#include <cstring>

#include "../cross_entropy.cuh"
#include "cublas.cuh"
#include "cudnn.cuh"
#include "rsseg/cuda/backend.hpp"
#include "update.cuh"

namespace rsseg::cuda {
inline namespace RSSEG_BACKEND_NS {

/// What an executor needs of the backend besides the public interface.
class device_backend : public backend {
 public:
  device_backend(parameter_store<float>& store, const backend_options& options) : store_(&store), options_(options) {
    context_.facts = require_device(options.device);
    if ((options.compute == precision::tf32 || options.compute == precision::bf16) && !context_.facts.async_copies())
      throw usage_error("cuda: tf32 and bf16 need compute capability 8.0, " + context_.facts.name + " has " + std::to_string(context_.facts.major) +
                        "." + std::to_string(context_.facts.minor) + "; use fp16 or fp32");
    stream_ = std::make_unique<owned_stream>(), copy_stream_ = std::make_unique<owned_stream>();
    context_.stream = *stream_;
    context_.math = options.compute == precision::tf32 ? conv_math::tf32 : conv_math::fp32;
    if (options.engine == engine_choice::cudnn) {
      cudnn_ = open_cudnn(context_, options.compute == precision::bf16 || options.compute == precision::fp16 ? 2 : 4,
                          options.compute == precision::bf16, options.compute == precision::tf32);
      cublas_ = open_cublas(context_);
    }
    const std::size_t n = store.values().size();
    require_memory(context_.facts, 2 * n * sizeof(float), "weights and gradients");
    values_.resize(n * sizeof(float) + 64, "weights");
    gradients_.resize(n * sizeof(float) + 64, "gradients");
    numbers_.resize(sizeof(run_numbers) + sizeof(update_numbers), "numbers of the step");
    set_bytes(stream(), gradients_.data(), 0, n * sizeof(float));
    const run_numbers start{0, 0, options.compute == precision::fp16 ? options.loss_scale : 1.0f};
    const update_numbers none{};
    copy_bytes(stream(), run(), &start, sizeof start, "copy to the device");
    copy_bytes(stream(), now(), &none, sizeof none, "copy to the device");
    cuda::synchronise(stream(), "set up the device");
  }

  // --- for executors
  executor_context& context() { return context_; }
  stream_t stream() const { return *stream_; }
  stream_t copy_stream() const { return *copy_stream_; }
  parameter_store<float>& store() { return *store_; }
  float* weight(int entry) const { return values_.data<float>() + store_->entries()[std::size_t(entry)].offset; }
  float* values() const { return values_.data<float>(); }
  float* gradient(int entry) const { return gradients_.data<float>() + store_->entries()[std::size_t(entry)].offset; }
  run_numbers* run() const { return numbers_.data<run_numbers>(); }
  /// The host's weights to the device, if they changed; changes whenever the device's weights do.
  std::uint64_t push_weights() {
    if (pushed_ != store_->version()) {
      const std::size_t bytes = store_->values().size() * sizeof(float);
      cuda::synchronise(stream(), "wait before weights are replaced");
      copy_bytes(stream(), values(), store_->values().data(), bytes, "copy weights to the device");
      cuda::synchronise(stream(), "copy weights to the device");
      pushed_ = store_->version(), newer_ = false, ++version_;
    }
    return version_;
  }
  /// The device has changed its weights.
  void touched() { newer_ = true, ++version_; }

  // --- the public interface
  std::string describe() const override {
    static const char* const names[] = {"fp32", "tf32", "bf16", "fp16"};
    return context_.facts.name + ", compute capability " + std::to_string(context_.facts.major) + "." + std::to_string(context_.facts.minor) + ", " +
           std::to_string(context_.facts.total_bytes >> 20) + " MiB, " + names[int(options_.compute)] +
           (context_.cudnn ? ", convolutions by cuDNN" : "") + (context_.cublas ? ", matrix products by cuBLAS" : "");
  }
  const backend_options& options() const override { return options_; }
  std::unique_ptr<executor> make_executor(graph::graph g) override;
  void fetch_weights() override {
    if (!newer_) return;
    std::vector<float>& to = store_->values();
    copy_bytes(stream(), to.data(), values(), to.size() * sizeof(float), "copy weights to the host");
    cuda::synchronise(stream(), "copy weights to the host");
    store_->touch();
    pushed_ = store_->version(), newer_ = false;
  }
  std::vector<float> gradients() override {
    std::vector<float> g(store_->values().size());
    copy_bytes(stream(), g.data(), gradients_.data(), g.size() * sizeof(float), "copy gradients to the host");
    const float scale = loss_scale();  // waits
    if (scale != 1)
      for (float& v : g) v /= scale;
    return g;
  }
  void accumulate_gradients() override {
    const std::size_t n = store_->values().size();
    sum_.resize(n * sizeof(float), "accumulated gradients");
    each(stream(), "accumulate gradients", std::int64_t(n), accumulate_values{gradients_.data<float>(), sum_.data<float>(), !summed_});
    summed_ = true;
  }
  void set_update(const update_options& options) override {
    update_ = options;
    const std::size_t n = store_->values().size(), entries = store_->entries().size();
    std::vector<int> tensor((n + 15) / 16, -1);
    std::vector<float> factors(2 * entries, 1.0f);
    for (std::size_t e = 0; e < entries; ++e) {
      const stored_tensor& t = store_->entries()[e];
      if (t.trained) std::fill_n(tensor.begin() + std::ptrdiff_t(t.offset / 16), (t.size + 15) / 16, int(e));
      if (!options.rate.empty()) factors[e] = options.rate[e];
      if (!options.decay.empty()) factors[entries + e] = options.decay[e];
    }
    tables_.resize(padded(tensor.size() * sizeof(int)) + factors.size() * sizeof(float), "tables of the optimiser");
    first_.resize(n * sizeof(float), "first moments");
    if (options.kind != update_options::rule::sgd) second_.resize(n * sizeof(float), "second moments");
    if (options.ema > 0) average_.resize(n * sizeof(float), "averaged weights");
    partials_.resize(channel_sums_workspace<2>(std::int64_t(n), 1) * sizeof(float), "sums of the gradients");
    copy_bytes(stream(), tables_.data(), tensor.data(), tensor.size() * sizeof(int), "copy to the device");
    copy_bytes(stream(), tables_.data() + padded(tensor.size() * sizeof(int)), factors.data(), factors.size() * sizeof(float), "copy to the device");
    set_bytes(stream(), first_.data(), 0, n * sizeof(float));
    if (second_.size()) set_bytes(stream(), second_.data(), 0, n * sizeof(float));
    push_weights();
    if (average_.size()) copy_bytes(stream(), average_.data(), values(), n * sizeof(float), "copy on the device");
    const update_numbers none{};
    copy_bytes(stream(), now(), &none, sizeof none, "copy to the device");
    cuda::synchronise(stream(), "set up the optimiser");
    ready_ = true;
  }
  void update(double learning_rate, double gradient_scale) override {
    if (!ready_) throw usage_error("cuda: update before set_update: choose an optimiser first");
    const std::int64_t n = std::int64_t(store_->values().size());
    const float* g = summed_ ? sum_.data<float>() : gradients_.data<float>();
    const update_tables tables{
        tables_.data<int>(), reinterpret_cast<float*>(tables_.data() + padded(std::size_t((n + 15) / 16) * sizeof(int))),
        reinterpret_cast<float*>(tables_.data() + padded(std::size_t((n + 15) / 16) * sizeof(int))) + store_->entries().size()};
    const bool adaptive = options_.compute == precision::fp16;
    if (adaptive || update_.clip_norm > 0)
      channel_sums<2>(stream(), "gradient norm", squares_and_overflows{g, tables.tensor},
                      finish_numbers{run(), now(), gradient_scale, update_.clip_norm, adaptive}, n, 1, partials_.data<float>());
    else
      each(stream(), "numbers of the step", 1, plain_numbers{now(), float(gradient_scale)});
    const update_values u{update_.kind,
                          values(),
                          first_.data<float>(),
                          second_.data<float>(),
                          average_.data<float>(),
                          g,
                          tables,
                          now(),
                          float(learning_rate),
                          float(update_.momentum),
                          float(update_.beta2),
                          float(update_.epsilon),
                          float(update_.weight_decay),
                          float(update_.ema),
                          update_.nesterov};
    each(stream(), "update weights", n, u);
    summed_ = false;
    touched();
  }
  update_state read_update_state() override {
    update_state s;
    const std::size_t n = store_->values().size();
    const auto read = [&](const device_memory& m, std::vector<float>& to) {
      if (!m.size()) return;
      to.resize(n);
      copy_bytes(stream(), to.data(), m.data(), n * sizeof(float), "copy the optimiser's state to the host");
    };
    read(first_, s.first), read(second_, s.second), read(average_, s.average);
    update_numbers u;
    copy_bytes(stream(), &u, now(), sizeof u, "copy to the host");
    cuda::synchronise(stream(), "read the optimiser's state");
    s.steps = std::uint64_t(u.steps);
    return s;
  }
  void write_update_state(const update_state& s) override {
    if (!ready_) throw usage_error("cuda: the optimiser's state before set_update: choose an optimiser first");
    const std::size_t n = store_->values().size();
    const auto write = [&](const device_memory& m, const std::vector<float>& from) {
      if (from.size() == n && m.size()) copy_bytes(stream(), m.data(), from.data(), n * sizeof(float), "copy the optimiser's state to the device");
    };
    write(first_, s.first), write(second_, s.second), write(average_, s.average);
    update_numbers u;
    u.steps = int(s.steps);
    copy_bytes(stream(), now(), &u, sizeof u, "copy to the device");
    cuda::synchronise(stream(), "write the optimiser's state");
  }
  float loss_scale() override {
    run_numbers r;
    copy_bytes(stream(), &r, run(), sizeof r, "copy to the host");
    cuda::synchronise(stream(), "read the loss scale");
    return r.loss_scale;
  }
  void synchronise() override { cuda::synchronise(stream(), "wait for the device"); }

 private:
  update_numbers* now() const { return reinterpret_cast<update_numbers*>(numbers_.data() + sizeof(run_numbers)); }

  parameter_store<float>* store_;
  backend_options options_;
  update_options update_;
  executor_context context_;
  std::unique_ptr<owned_stream> stream_, copy_stream_;
  std::shared_ptr<void> cudnn_, cublas_;
  device_memory values_, gradients_, numbers_, sum_, tables_, first_, second_, average_, partials_;
  std::uint64_t pushed_ = 0, version_ = 0;
  bool newer_ = false, summed_ = false, ready_ = false;
};

}  // namespace RSSEG_BACKEND_NS
}  // namespace rsseg::cuda
