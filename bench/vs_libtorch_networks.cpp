// SPDX-License-Identifier: MIT
// Whole networks against libtorch: inference (batch 1) and a training step (batch 2: forward, loss, backward, SGD with momentum), equal weights,
// outputs and gradients compared, contenders in turn, one process per framework and case for the peak of resident memory.
//   vs_libtorch networks [--size N] [--train-size N] [--only NET,NET] [--mode infer|train|both] [--rounds N] [--threads N] [--json FILE]
#include "torch_network.hpp"

#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>
#include <torch/version.h>
#include <unistd.h>

#include <cstdio>
#include <functional>
#include <memory>

#include "conv_bench.hpp"
#include "resident_peak.hpp"
#include "rsseg/model/model.hpp"
#include "rsseg/nets/entry.hpp"
#include "rsseg/train/optimizer.hpp"

namespace rsseg::program {
const network_entry& network_named(const std::string& name);
}

namespace {

using namespace bench;
using rsseg::tensor;

constexpr const char* all_networks[] = {"unet-32", "unet", "segnet", "deeplabv3plus-resnet101", "pspnet-resnet50", "hrnetv2-w18", "enet", "mfalnet"};
constexpr int classes = 6;
constexpr double rate = 1e-3, momentum = 0.9, decay = 1e-4;

struct settings {
  std::string self, program, only, mode = "both", json, child;
  int size = 512, train_size = 512, rounds = 3, threads = 1, contenders = 3;
};

/// The network's own rule for sizes: the nearest legal one that is not larger.
int legal_size(const rsseg::network_entry& e, int size) {
  return std::max((size - e.size_offset) / e.size_multiple * e.size_multiple + e.size_offset, e.minimum_size);
}

struct data {
  tensor<float> image;
  tensor<std::int32_t> labels;
  at::Tensor torch_image, torch_labels;
  data(int batch, int size) : image({batch, 3, size, size}), labels({batch, 1, size, size}) {
    const buffer v = noise(std::size_t(image.size()), 5);
    std::copy(v.begin(), v.end(), image.data());
    for (int n = 0; n < batch; ++n)  // classes in blocks, some pixels ignored
      for (int y = 0; y < size; ++y)
        for (int x = 0; x < size; ++x)
          labels(n, 0, y, x) = (y / 16 + x / 24 + n) % (classes + 1) == classes ? 255 : (y / 16 + x / 24 + n) % (classes + 1);
    torch_image = at::from_blob(image.data(), {batch, size, size, 3}).permute({0, 3, 1, 2});
    torch_labels = at::from_blob(labels.data(), {batch, size, size}, at::kInt).to(at::kLong);
  }
};

rsseg::build_options options_for(bool training, bool dropout = true) {
  rsseg::build_options o;
  o.classes = classes, o.bands = 3, o.training = training, o.dropout = dropout;
  return o;
}
graph::graph plain_graph(const rsseg::network_entry& e, bool training, bool dropout = true) {
  graph::graph g = rsseg::lower_network(e.build, options_for(training, dropout));
  graph::prune(g, training);
  return g;
}

/// Weights that let signals through: the initialisation, and running statistics measured by a few training steps at a small size.
void prepare_weights(rsseg::basic_model<float>& m, const rsseg::network_entry& e) {
  m.weights().initialise(1);
  const data d(2, legal_size(e, 64));
  const tensor<float>* inputs[] = {&d.image};
  m.prepare_training(graph::loss_options{});
  for (int i = 0; i < 4; ++i) m.train_step(inputs, d.labels, rsseg::cpu::run_state{1, std::uint64_t(i)});
}

struct gap {
  double largest = 0, rms = 0;  // over the RMS of our result
};
gap compare(const float* ours, const at::Tensor& theirs_nchw) {
  const at::Tensor t = theirs_nchw.detach().permute({0, 2, 3, 1}).contiguous();
  const float* p = t.data_ptr<float>();
  double worst = 0, difference = 0, square = 0;
  for (std::int64_t i = 0; i < t.numel(); ++i) {
    const double d = double(ours[i]) - p[i];
    worst = std::max(worst, std::abs(d)), difference += d * d, square += double(ours[i]) * ours[i];
  }
  return {worst / std::sqrt(square / double(t.numel()) + 1e-30), std::sqrt(difference / (square + 1e-30))};
}

/// Gradients of one step without dropout, where both agree on what is random (nothing): relative L2 distance over all parameters.
double gradient_gap(const rsseg::network_entry& e, double& loss_gap) {
  rsseg::basic_model<float> m(e.build, options_for(false, false));
  m.weights().initialise(1);
  const data d(2, legal_size(e, 128));
  torch_network t(plain_graph(e, true, false), m.weights(), at::MemoryFormat::Contiguous, true);
  const double theirs = t.step(d.torch_image.contiguous(), d.torch_labels, 0, 0, 0);
  m.prepare_training(graph::loss_options{});
  const tensor<float>* inputs[] = {&d.image};
  const double mine = m.train_step(inputs, d.labels, rsseg::cpu::run_state{1, 0});
  loss_gap = std::abs(mine - theirs) / std::abs(mine);
  double difference = 0, square = 0;
  std::vector<float> file;
  for (std::size_t k = 0; k < t.names().size(); ++k) {
    const int slot = m.weights().find(t.names()[k]);
    const auto& entry = m.weights().entries()[std::size_t(slot)];
    const float* g = m.training().gradients().data() + entry.offset;
    const at::Tensor grad = t.trained()[k].grad();
    if (!grad.defined()) continue;
    const at::Tensor c = grad.contiguous();
    rsseg::parameter_store<float>::reorder(entry, [&](std::size_t f, std::size_t here) {
      const double v = double(c.data_ptr<float>()[f]) - g[here];
      difference += v * v, square += double(g[here]) * g[here];
    });
  }
  return std::sqrt(difference / (square + 1e-30));
}

struct contender {
  const char* name;
  at::MemoryFormat format;
  bool folded;
};
constexpr contender contenders[] = {{"NCHW", at::MemoryFormat::Contiguous, false},
                                    {"channels-last", at::MemoryFormat::ChannelsLast, false},
                                    {"NCHW, folded", at::MemoryFormat::Contiguous, true}};

std::unique_ptr<torch_network> rival_of(const rsseg::network_entry& e, const rsseg::parameter_store<float>& w, const contender& c, bool train) {
  graph::graph g = plain_graph(e, train);
  if (c.folded) graph::fold_batch_norm(g), graph::fuse_epilogues(g);
  return std::make_unique<torch_network>(std::move(g), w, c.format, train);
}

/// Peak of resident memory of a process that runs one contender only, in bytes: ours is the program one_network, which does not load libtorch.
double memory_of(const settings& s, const std::string& net, const std::string& who, bool train, int size) {
  std::string command;
  if (who == "rsseg")
    command = s.program + " " + net + (train ? " 2," : " 1,") + std::to_string(size) + "," + std::to_string(size) + (train ? " train " : " infer ") +
              std::to_string(s.threads);
  else
    command = s.self + " networks --child " + who + " --only " + net + " --mode " + (train ? "train" : "infer") + " --size " + std::to_string(size) +
              " --train-size " + std::to_string(size) + " --threads " + std::to_string(s.threads);
  std::FILE* f = popen(command.c_str(), "r");
  if (f == nullptr) return 0;
  std::string text(4096, '\0');
  text.resize(std::fread(text.data(), 1, text.size(), f));
  pclose(f);
  const std::size_t at = text.find("\"peak_bytes\":");
  return at == std::string::npos ? 0 : std::atof(text.c_str() + at + 13);
}

int child(const settings& s) {
  const auto& e = rsseg::program::network_named(s.only);
  const bool train = s.mode == "train";
  const data d(train ? 2 : 1, legal_size(e, train ? s.train_size : s.size));
  rsseg::basic_model<float> m(e.build, options_for(false));
  m.weights().initialise(1);
  const contender& c = contenders[std::atoi(s.child.c_str())];
  const auto t = rival_of(e, m.weights(), c, train);
  std::vector<float>().swap(m.weights().values());  // the rival has its own copy
  const at::Tensor x = d.torch_image.contiguous(c.format);
  if (train) {
    for (int i = 0; i < 2; ++i) t->step(x, d.torch_labels, rate, momentum, decay);
  } else {
    const c10::InferenceMode guard;
    for (int i = 0; i < 2; ++i) t->forward(x);
  }
  std::printf("{\"peak_bytes\":%.0f}\n", resident_peak());
  return 0;
}

struct row {
  std::string net;
  bool train = false;
  int size = 0, best = 0;
  timing mine;
  std::vector<timing> theirs;
  double memory = 0, rival_memory = 0, difference = 0, spread = 0, gradient = 0, loss = 0;
  double ratio() const { return theirs[std::size_t(best)].median / mine.median; }
  double ratio_of_minima() const { return theirs[std::size_t(best)].minimum / mine.minimum; }
};

std::vector<timing> rounds(const std::vector<std::function<void()>>& run, int count) {
  std::vector<std::vector<double>> t(run.size());
  for (const auto& r : run) r();
  for (int i = 0; i < count; ++i)
    for (std::size_t k = 0; k < run.size(); ++k) {
      const double start = seconds();
      run[k]();
      t[k].push_back(seconds() - start);
    }
  std::vector<timing> out;
  for (auto& v : t) {
    std::sort(v.begin(), v.end());
    out.push_back({v[v.size() / 2], v[0]});
  }
  return out;
}

row infer_row(const settings& s, const rsseg::network_entry& e) {
  row r;
  r.net = e.name, r.size = legal_size(e, s.size);
  rsseg::basic_model<float> m(e.build, options_for(false));
  prepare_weights(m, e);
  m.prepare_training(graph::loss_options{});  // gives the small training engine's memory back
  const data d(1, r.size);
  const tensor<float>* inputs[] = {&d.image};
  std::vector<std::unique_ptr<torch_network>> rivals;
  std::vector<at::Tensor> x, y(3);
  std::vector<std::function<void()>> run{[&] { m.run(inputs); }};
  for (int k = 0; k < s.contenders; ++k) {
    rivals.push_back(rival_of(e, m.weights(), contenders[k], false));
    x.push_back(d.torch_image.contiguous(contenders[k].format));
    run.push_back([&, k] {
      const c10::InferenceMode guard;
      y[std::size_t(k)] = rivals[std::size_t(k)]->forward(x[std::size_t(k)])[0];
    });
  }
  const std::vector<timing> t = rounds(run, s.rounds);
  r.mine = t[0], r.theirs.assign(t.begin() + 1, t.end());
  r.best = r.theirs[1].median < r.theirs[0].median;
  const auto& engine = m.inference();
  for (int k = 0; k < s.contenders; ++k) {
    const c10::InferenceMode guard;
    const gap g = compare(engine.value(engine.graph().outputs[0].node), y[std::size_t(k)]);
    r.difference = std::max(r.difference, g.largest), r.spread = std::max(r.spread, g.rms);
  }
  r.memory = memory_of(s, r.net, "rsseg", false, r.size);
  r.rival_memory = memory_of(s, r.net, r.best == 0 ? "0" : "1", false, r.size);
  return r;
}

row train_row(const settings& s, const rsseg::network_entry& e) {
  row r;
  r.net = e.name, r.train = true, r.size = legal_size(e, s.train_size);
  r.gradient = gradient_gap(e, r.loss);
  rsseg::basic_model<float> m(e.build, options_for(false));
  m.weights().initialise(1);
  const data d(2, r.size);
  const tensor<float>* inputs[] = {&d.image};
  m.prepare_training(graph::loss_options{});
  rsseg::train::optimizer<float> sgd(m.weights(), {.momentum = momentum, .weight_decay = decay});
  std::uint64_t step = 0;
  std::vector<std::function<void()>> run{[&] {
    m.train_step(inputs, d.labels, rsseg::cpu::run_state{1, step++});
    sgd.step(m.training().gradients(), rate);
  }};
  std::vector<std::unique_ptr<torch_network>> rivals;
  std::vector<at::Tensor> x;
  for (int k = 0; k < 2; ++k) {
    rivals.push_back(rival_of(e, m.weights(), contenders[k], true));
    x.push_back(d.torch_image.contiguous(contenders[k].format));
    run.push_back([&, k] { rivals[std::size_t(k)]->step(x[std::size_t(k)], d.torch_labels, rate, momentum, decay); });
  }
  const std::vector<timing> t = rounds(run, s.rounds);
  r.mine = t[0], r.theirs.assign(t.begin() + 1, t.end());
  r.best = r.theirs[1].median < r.theirs[0].median;
  r.memory = memory_of(s, r.net, "rsseg", true, r.size);
  r.rival_memory = memory_of(s, r.net, r.best == 0 ? "0" : "1", true, r.size);
  return r;
}

void print(const row& r) {
  const double mib = 1 << 20;
  std::printf("%-24s %-9s %4d %8.3f (%7.3f)", r.net.c_str(), r.train ? "training" : "inference", r.size, r.mine.median, r.mine.minimum);
  for (std::size_t k = 0; k < 3; ++k) k < r.theirs.size() ? std::printf(" %8.3f", r.theirs[k].median) : std::printf(" %8s", "-");
  std::printf(" %6.2f (%5.2f) %7.0f %7.0f %6.2f   ", r.ratio(), r.ratio_of_minima(), r.memory / mib, r.rival_memory / mib, r.memory / r.rival_memory);
  r.train ? std::printf("loss %.0e gradient %.0e\n", r.loss, r.gradient) : std::printf("largest %.0e RMS %.0e\n", r.difference, r.spread);
  std::fflush(stdout);
}

void write_json(const std::string& path, const std::vector<row>& rows, const settings& s) {
  std::FILE* f = std::fopen(path.c_str(), "w");
  if (f == nullptr) {
    std::fprintf(stderr, "cannot write %s\n", path.c_str());
    std::exit(4);
  }
  std::fprintf(f, "{\n  \"rival\": \"libtorch %s\",\n  \"threads\": %d,\n  \"isa\": \"%s\",\n  \"rounds\": %d,\n  \"rows\": [\n", TORCH_VERSION,
               s.threads, rsseg::cpu::name_of(rsseg::cpu::current_isa()), s.rounds);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const row& r = rows[i];
    std::fprintf(f, "    {\"net\": \"%s\", \"work\": \"%s\", \"size\": %d, \"rsseg_s\": %.5f, \"rsseg_min_s\": %.5f", r.net.c_str(),
                 r.train ? "training" : "inference", r.size, r.mine.median, r.mine.minimum);
    for (std::size_t k = 0; k < r.theirs.size(); ++k)
      std::fprintf(f, ", \"%s_s\": %.5f, \"%s_min_s\": %.5f", contenders[k].name, r.theirs[k].median, contenders[k].name, r.theirs[k].minimum);
    std::fprintf(f, ", \"ratio\": %.3f, \"rsseg_peak_bytes\": %.0f, \"rival_peak_bytes\": %.0f, ", r.ratio(), r.memory, r.rival_memory);
    if (r.train)
      std::fprintf(f, "\"loss_difference\": %.2e, \"gradient_difference\": %.2e}", r.loss, r.gradient);
    else
      std::fprintf(f, "\"largest_difference\": %.2e, \"rms_difference\": %.2e}", r.difference, r.spread);
    std::fprintf(f, "%s\n", i + 1 < rows.size() ? "," : "");
  }
  std::fprintf(f, "  ]\n}\n");
  std::fclose(f);
}

}  // namespace

int run_networks(int argc, char** argv) {
  settings s;
  char self[4096];
  const ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
  s.self.assign(self, std::size_t(std::max<ssize_t>(0, length)));
  s.program = s.self.substr(0, s.self.rfind('/') + 1) + "one_network";
  for (int i = 2; i + 1 < argc; i += 2) {
    const std::string a = argv[i], v = argv[i + 1];
    if (a == "--size")
      s.size = std::stoi(v);
    else if (a == "--train-size")
      s.train_size = std::stoi(v);
    else if (a == "--only")
      s.only = v;
    else if (a == "--mode")
      s.mode = v;
    else if (a == "--rounds")
      s.rounds = std::stoi(v);
    else if (a == "--threads")
      s.threads = std::stoi(v);
    else if (a == "--json")
      s.json = v;
    else if (a == "--folded")
      s.contenders = std::stoi(v) ? 3 : 2;
    else if (a == "--child")
      s.child = v;
    else {
      std::fprintf(stderr,
                   "unknown option %s; known: --size N --train-size N --only NET,NET --mode infer|train|both --rounds N --threads N --json FILE\n",
                   a.c_str());
      return 2;
    }
  }
  rsseg::set_threads(s.threads);
  at::set_num_threads(s.threads);
  if (!s.child.empty()) return child(s);
  std::printf(
      "threads %d, instruction set %s, rival libtorch %s; seconds of %s, medians (minima) of %d rounds in turn; ratio = best of NCHW and "
      "channels-last "
      "over ours\n%-24s %-9s %4s %18s %8s %8s %8s %14s %7s %7s %6s   difference\n",
      s.threads, rsseg::cpu::name_of(rsseg::cpu::current_isa()), TORCH_VERSION, s.threads == 1 ? "CPU time" : "wall time", s.rounds, "network",
      "work", "size", "rsseg", "NCHW", "last", "folded", "ratio", "MiB", "rival", "share");
  std::vector<row> rows;
  for (const char* name : all_networks) {
    if (!s.only.empty() && ("," + s.only + ",").find("," + std::string(name) + ",") == std::string::npos) continue;
    const auto& e = rsseg::program::network_named(name);
    for (const bool train : {false, true}) {
      if (s.mode != "both" && (s.mode == "train") != train) continue;
      rows.push_back(train ? train_row(s, e) : infer_row(s, e));
      print(rows.back());
      if (!s.json.empty()) write_json(s.json, rows, s);
    }
  }
  for (const bool train : {false, true}) {
    double log_sum = 0, worst = 1e9, memory = 0;
    int count = 0;
    for (const row& r : rows)
      if (r.train == train)
        log_sum += std::log(r.ratio()), worst = std::min(worst, r.ratio()), memory = std::max(memory, r.memory / r.rival_memory), ++count;
    if (count > 0)
      std::printf("%s: geometric mean of the ratios %.2f over %d networks, smallest %.2f, largest share of memory %.2f\n",
                  train ? "training" : "inference", std::exp(log_sum / count), count, worst, memory);
  }
  return 0;
}
