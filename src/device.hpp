// SPDX-License-Identifier: MIT
// --device, --precision and --engine of the commands that run networks.
#pragma once
#include <sys/sysinfo.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <optional>
#include <string>

#include "rsseg/cuda/backend.hpp"
#include "rsseg/scene/predictor.hpp"
#include "rsseg/train/cuda_learner.hpp"

namespace rsseg::program {

struct device_request {
  std::string device = "cpu", precision = "fp32", engine = "handwritten";
};
inline void add_device_options(CLI::App* c, device_request& d) {
  c->add_option("--device", d.device, "cpu, cuda, or cuda:N for device number N")->capture_default_str();
  c->add_option("--precision", d.precision, "on a CUDA device: fp32, tf32, bf16 or fp16; on the CPU: fp32, or bf16 without training")
      ->capture_default_str();
  c->add_option("--engine", d.engine, "convolutions and matrix products on a CUDA device: handwritten, or cudnn (with cuBLAS)")
      ->capture_default_str();
}
/// What to open, or nothing for the CPU, which has bf16 only where the caller says so. Throws usage_error.
inline std::optional<cuda::backend_options> device_options(const device_request& d, bool cpu_bf16 = false) {
  cuda::backend_options o;
  o.compute = cuda::precision_named(d.precision), o.engine = cuda::engine_named(d.engine);
  if (d.device == "cpu") {
    if (d.engine != "handwritten") throw usage_error("--engine is for --device cuda");
    if (o.compute != cuda::precision::fp32 && !(cpu_bf16 && o.compute == cuda::precision::bf16))
      throw usage_error("--precision " + d.precision + ": " +
                        (cpu_bf16 ? "for --device cuda; the CPU has fp32 and bf16" : "for --device cuda; here the CPU computes in fp32"));
    return std::nullopt;
  }
  const std::string number = d.device.rfind("cuda:", 0) == 0 ? d.device.substr(5) : "";
  if (d.device != "cuda" && (number.empty() || number.size() > 3 || number.find_first_not_of("0123456789") != std::string::npos))
    throw usage_error("--device \"" + d.device + "\": unknown; use cpu, cuda or cuda:N");
  if (!number.empty()) o.device = std::stoi(number);
  return o;
}
/// Bytes a network may use: those asked for, else 90 % of the machine's on the CPU, and what there is (0: no limit) on a device.
inline std::size_t memory_for(const device_request& d, double mebibytes = 0) {
  if (mebibytes > 0) return std::size_t(mebibytes * 1048576);
  struct sysinfo s {};
  return d.device == "cpu" && ::sysinfo(&s) == 0 ? std::size_t(s.totalram) * s.mem_unit / 10 * 9 : 0;
}
/// The model on its device, as the tiler's predictor. model must live as long.
inline scene::predictor predictor_on(basic_model<float>& model, const device_request& d, std::size_t max_memory = 0) {
  const auto where = device_options(d, true);
  if (!where) {
    model.set_bfloat16(d.precision == "bf16");
    return [&model](const tensor<float>& x) { return model.infer(x); };
  }
  const auto learner = std::make_shared<train::cuda_learner>(model, *where);
  learner->set_memory_limit(max_memory);
  return [learner](const tensor<float>& x) { return learner->infer(x); };
}

}  // namespace rsseg::program
