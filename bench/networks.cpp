// SPDX-License-Identifier: MIT
// Whole networks on a CUDA device: inference and a training step (forward, loss, backward, SGD with momentum) of five networks at 512 x 512, batch 8,
// and 1024 x 1024, batch 2; median time and memory of the device. bench/networks_torch.py measures the rival on the same sizes.
//   bench_networks [--only NAME] [--precision bf16] [--engine handwritten] [--rounds 20] [--json FILE]
// Without a device it lists the rows as "not measured" and returns 77.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>

#define RSSEG_WITH_CUDA 1
#include "rsseg/model/cuda_model.hpp"
#include "rsseg/nets/registry.hpp"

using namespace rsseg;

namespace {
struct network {
  const char *title, *name;
};
constexpr network networks[] = {{"U-Net", "unet"},
                                {"DeepLabv3+ R101", "deeplabv3plus-resnet101"},
                                {"PSPNet R50", "pspnet-resnet50"},
                                {"HRNet-W18", "hrnetv2-w18"},
                                {"SGA-Net", "sga-net"}};
struct size {
  int batch, side;
};
constexpr size sizes[] = {{8, 512}, {2, 1024}};
constexpr int classes = 6;

struct figures {
  double inference_ms = -1, step_ms = -1, inference_mib = -1, training_mib = -1;
};

tensor<float> random_images(const shape& s) {
  random_stream r(1, 2);
  tensor<float> x(s);
  for (float& v : x) v = float(r.uniform(-1, 1));
  return x;
}
/// Median milliseconds of a call that starts work, the device waited for; two calls before (plan, capture) do not count.
template <class Body>
double median_ms(cuda::backend& device, int rounds, const Body& body) {
  std::vector<double> ms;
  for (int k = -2; k < rounds; ++k) {
    device.synchronise();
    const auto start = std::chrono::steady_clock::now();
    body();
    device.synchronise();
    if (k >= 0) ms.push_back(std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count());
  }
  std::nth_element(ms.begin(), ms.begin() + rounds / 2, ms.end());
  return ms[std::size_t(rounds) / 2];
}
figures measure(const network_entry& net, const size& at, const cuda::backend_options& where, int rounds) {
  build_options options;
  options.classes = classes, options.bands = 3;
  const shape in{at.batch, 3, at.side, at.side};
  const tensor<float> x = random_images(in);
  tensor<std::int32_t> labels(shape{in.n, 1, in.h, in.w});
  random_stream r(1, 3);
  for (std::int32_t& t : labels) t = std::int32_t(r.below(classes));
  figures f;
  const tensor<float>* inputs[] = {&x};
  {
    cuda::basic_model m(net.build, options, where);
    m.weights().initialise(1);
    f.inference_ms = median_ms(m.device(), rounds, [&] { m.run(inputs); });
    f.inference_mib = double(m.inference().bytes() + m.weights().values().size() * sizeof(float)) / 1048576;
  }
  cuda::basic_model m(net.build, options, where);
  m.weights().initialise(1);
  m.prepare_training(graph::loss_options{});
  m.set_update({});
  std::uint64_t k = 0;
  f.step_ms = median_ms(m.device(), rounds, [&] { m.step(x, labels, {1, k++}, 0.01); });
  f.training_mib = double(m.training().bytes() + 3 * m.weights().values().size() * sizeof(float)) / 1048576;  // weights, gradients, momentum
  return f;
}
std::string text(double v, const char* otherwise) {
  char s[32];
  std::snprintf(s, sizeof s, "%.2f", v);
  return v < 0 ? otherwise : s;
}
}  // namespace

int main(int argc, char** argv) {
  std::string only, json_file;
  int rounds = 20;
  cuda::backend_options where;
  where.compute = cuda::precision::bf16;
  try {
    for (int i = 1; i < argc; i += 2) {
      const std::string option = argv[i], value = i + 1 < argc ? argv[i + 1] : "";
      if (value.empty()) throw usage_error("option " + option + " needs a value; use --only, --precision, --engine, --rounds or --json");
      if (option == "--only")
        only = value;
      else if (option == "--precision")
        where.compute = cuda::precision_named(value);
      else if (option == "--engine")
        where.engine = cuda::engine_named(value);
      else if (option == "--rounds")
        rounds = std::max(1, std::atoi(value.c_str()));
      else if (option == "--json")
        json_file = value;
      else
        throw usage_error("option " + option + " is unknown; use --only, --precision, --engine, --rounds or --json");
    }
    bool have_device = true;
    std::string device = "none: not measured";
    try {
      cuda::basic_model probe(&UNet<4, 4>::build, build_options{}, where);
      device = probe.device().describe();
      std::printf("%s; median of %d\n", device.c_str(), rounds);
    } catch (const usage_error&) {
      throw;
    } catch (const error& e) {
      have_device = false;
      std::printf("%s\nno CUDA device: nothing is measured\n", e.what());
    }
    std::printf("%-18s %6s %6s %14s %14s %14s %14s\n", "network", "batch", "side", "inference ms", "MiB", "step ms", "MiB");
    std::string rows;
    for (const network& n : networks) {
      if (!only.empty() && only != n.name) continue;
      for (const size& at : sizes) {
        figures f;
        std::string note = "not measured";
        if (have_device) try {
            f = measure(network_named(n.name), at, where, rounds);
          } catch (const memory_error& e) {
            note = "no memory";
            std::fprintf(stderr, "bench_networks: %s: %s\n", n.title, e.what());
          }
        std::printf("%-18s %6d %6d %14s %14s %14s %14s\n", n.title, at.batch, at.side, text(f.inference_ms, note.c_str()).c_str(),
                    text(f.inference_mib, "").c_str(), text(f.step_ms, note.c_str()).c_str(), text(f.training_mib, "").c_str());
        std::fflush(stdout);
        rows += std::string(rows.empty() ? "" : ",\n") + "  {\"network\": \"" + n.name + "\", \"batch\": " + std::to_string(at.batch) +
                ", \"side\": " + std::to_string(at.side) + ", \"inference_ms\": " + text(f.inference_ms, "null") +
                ", \"inference_mib\": " + text(f.inference_mib, "null") + ", \"step_ms\": " + text(f.step_ms, "null") +
                ", \"training_mib\": " + text(f.training_mib, "null") + "}";
      }
    }
    if (!json_file.empty()) {
      char now[32];
      const std::time_t t = std::time(nullptr);
      std::strftime(now, sizeof now, "%Y-%m-%d", std::gmtime(&t));
      const std::string all = std::string("{\n \"date\": \"") + now + "\", \"device\": \"" + device + "\",\n \"rows\": [\n" + rows + "\n ]\n}\n";
      std::FILE* f = std::fopen(json_file.c_str(), "w");
      if (!f || std::fwrite(all.data(), 1, all.size(), f) != all.size() || std::fclose(f) != 0) throw output_error("cannot write " + json_file);
    }
    return have_device ? 0 : 77;
  } catch (const error& e) {
    std::fprintf(stderr, "bench_networks: error: %s\n", e.what());
    return e.exit_code();
  } catch (const std::exception& e) {
    std::fprintf(stderr, "bench_networks: error: %s\n", e.what());
    return 1;
  }
}
