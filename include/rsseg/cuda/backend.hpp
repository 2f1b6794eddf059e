// SPDX-License-Identifier: MIT
// The CUDA executor as plain C++: what kernels/executor/ implements, without a word of CUDA, for programs compiled by g++ or clang++ alone.
//   backend   a device with the weights of one network, their gradients and the optimiser's state
//   executor  a graph planned into one arena of that device, run by kernels on a stream, captured as a CUDA graph
// open_backend comes from librsseg_cuda (one translation unit compiled by nvcc). A build without it throws, and says how to get it.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "rsseg/core/error.hpp"
#include "rsseg/plan/memory_plan.hpp"
#include "rsseg/plan/parameter_store.hpp"

namespace rsseg::cuda {

/// How maps are stored and products are taken. Sums are float; weights, statistics, gradients of weights and losses are float in any case.
enum class precision {
  fp32,  ///< float, on CUDA cores
  tf32,  ///< float in memory, products of 10 bits of mantissa (compute capability 8.0)
  bf16,  ///< 2 bytes (8.0)
  fp16   ///< 2 bytes, with a loss scale that adapts
};
enum class engine_choice { handwritten, cudnn };

precision precision_named(const std::string& name);
engine_choice engine_named(const std::string& name);

struct backend_options {
  int device = 0;
  precision compute = precision::fp32;
  engine_choice engine = engine_choice::handwritten;
  bool capture = true;       ///< replay CUDA graphs from the second run of a size on
  float loss_scale = 65536;  ///< fp16: where the loss scale starts; doubled after 2000 good steps, halved when a gradient overflows
};

/// How weights follow their gradients; the meaning of every field is that of train::optimizer_options.
struct update_options {
  enum class rule { sgd, adam, adamw, rmsprop } kind = rule::sgd;
  double momentum = 0.9, beta2 = 0.999, epsilon = 1e-8, weight_decay = 0;
  bool nesterov = false;
  double clip_norm = 0, ema = 0;
  std::vector<float> rate, decay;  ///< factor of learning rate and of decay per tensor of the store; empty: all 1
};

/// State of the optimiser, as a checkpoint keeps it; arrays are laid out like the store's values.
struct update_state {
  std::uint64_t steps = 0;
  std::vector<float> first, second, average;
};

/// A graph on the device. Calls return before the device has done what they ask for; read() and loss() wait.
class executor {
 public:
  virtual ~executor() = default;
  virtual bool training() const = 0;
  virtual const graph::graph& graph() const = 0;
  virtual const memory_plan& plan() const = 0;
  /// Bytes of arena, constants, inputs and tables; known after plan_for.
  virtual std::size_t bytes() const = 0;
  /// Plans for these extents (one per input node, in order). Throws usage_error for sizes the network refuses or operators without a kernel, and
  /// memory_error, which names the fullest layer, if more than limit_bytes (0: the device's free memory) would be needed.
  virtual void plan_for(std::span<const shape> inputs, std::size_t limit_bytes = 0) = 0;
  virtual const shape& extent(int node) const = 0;
  /// Values of input number k for the next run (NHWC). They are copied to pinned memory at once and travel while the previous run still computes.
  virtual void set_input(int k, const float* values) = 0;
  /// Class ids of a target node, and numbers to use instead of drawn ones for a noise node.
  virtual void set_target(int node, const std::int32_t* values) = 0;
  virtual void set_noise(int node, const float* values) = 0;
  virtual std::vector<int> targets() const = 0;
  /// Starts a run. Returns its number, for loss().
  virtual std::uint64_t run(std::uint64_t seed, std::uint64_t step) = 0;
  /// Loss of run number `which`; waits for that run only. The last 64 are kept.
  virtual float loss(std::uint64_t which) = 0;
  /// Value of a node, converted to float; waits for the last run. Only nodes that nothing overwrites are meaningful: outputs, the loss.
  virtual void read(int node, float* to) = 0;
  /// Index of the largest channel of every pixel of a node (the class map of an output), computed on the device.
  virtual void read_argmax(int node, std::uint8_t* to) = 0;
  /// Adds (truth, argmax of a node) of the last run to a confusion matrix on the device; truth: N*H*W labels.
  virtual void add_confusion(int node, const std::int32_t* truth, int ignore) = 0;
  /// The matrix (truth * classes + predicted) since the last call; waits.
  virtual std::vector<std::uint64_t> take_confusion() = 0;
  /// The last run was a replayed CUDA graph.
  virtual bool replayed() const = 0;
};

class backend {
 public:
  virtual ~backend() = default;
  virtual std::string describe() const = 0;
  virtual const backend_options& options() const = 0;
  virtual std::unique_ptr<executor> make_executor(graph::graph g) = 0;
  /// Brings what the device changed (a step's weights and running statistics) to the store; waits.
  virtual void fetch_weights() = 0;
  /// Gradients of the last training run, laid out like the store's values, without the loss scale; waits.
  virtual std::vector<float> gradients() = 0;
  /// Adds the gradients of the last run to those of the runs before (accumulation); the first time, or after update(), begins a new sum.
  virtual void accumulate_gradients() = 0;
  virtual void set_update(const update_options& options) = 0;
  /// One step of the optimiser with the accumulated or else the last gradients, times gradient_scale. Does not wait.
  virtual void update(double learning_rate, double gradient_scale = 1) = 0;
  virtual update_state read_update_state() = 0;
  virtual void write_update_state(const update_state& state) = 0;
  /// fp16: the present loss scale; waits.
  virtual float loss_scale() = 0;
  virtual void synchronise() = 0;
};

#if RSSEG_WITH_CUDA
/// Opens a device for the network whose weights are in store, which must live longer. Throws error where there is no driver or no device that can be
/// used, usage_error for a precision or an engine that the device or the build does not have.
std::unique_ptr<backend> open_backend(parameter_store<float>& store, const backend_options& options);
#else
inline std::unique_ptr<backend> open_backend(parameter_store<float>&, const backend_options&) {
  throw usage_error(
      "cuda: this build of rsseg has no CUDA kernels; install the CUDA toolkit (nvcc), configure with -Dcuda=enabled and build again, or run on the "
      "CPU");
}
#endif
/// What open_backend comes with.
constexpr bool built_with_cuda() {
#if RSSEG_WITH_CUDA
  return true;
#else
  return false;
#endif
}

inline precision precision_named(const std::string& name) {
  if (name == "fp32") return precision::fp32;
  if (name == "tf32") return precision::tf32;
  if (name == "bf16") return precision::bf16;
  if (name == "fp16") return precision::fp16;
  throw usage_error("precision \"" + name + "\": unknown; use fp32, tf32, bf16 or fp16");
}
inline engine_choice engine_named(const std::string& name) {
  if (name == "handwritten") return engine_choice::handwritten;
  if (name == "cudnn") return engine_choice::cudnn;
  throw usage_error("engine \"" + name + "\": unknown; use handwritten or cudnn");
}

}  // namespace rsseg::cuda
