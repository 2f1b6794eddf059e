// SPDX-License-Identifier: MIT
// What vs_onednn.cpp and vs_libtorch.cpp share: the layer cases, our side of them, timing in alternation, the table and the JSON file.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <functional>
#include <new>
#include <string>
#include <vector>

#include "rsseg/core/parallel.hpp"
#include "rsseg/cpu/conv.hpp"
#include "rsseg/cpu/isa.hpp"

namespace bench {

using rsseg::conv_geometry;
namespace cpu = rsseg::cpu;

struct layer_case {
  std::string name;
  conv_geometry g;
};

inline conv_geometry layer(int size, int in_c, int out_c, int kh, int kw, int stride = 1, int dilation = 1, int groups = 1) {
  conv_geometry g;
  g.in_h = g.in_w = size, g.in_c = in_c, g.out_c = out_c, g.kernel_h = kh, g.kernel_w = kw;
  g.stride_h = g.stride_w = stride, g.dilation_h = g.dilation_w = dilation, g.groups = groups;
  g.pad_top = (kh - 1) * dilation / 2, g.pad_left = (kw - 1) * dilation / 2;
  g.out_h = rsseg::conv_out(size, kh, stride, 2 * g.pad_top, dilation), g.out_w = rsseg::conv_out(size, kw, stride, 2 * g.pad_left, dilation);
  return g;
}

/// Layers of the survey's networks at inputs of 512x512.
inline std::vector<layer_case> layer_cases() {
  return {
      {"3x3 64->64 @256 (U-Net)", layer(256, 64, 64, 3, 3)},
      {"3x3 32->32 @512 (U-Net 32)", layer(512, 32, 32, 3, 3)},
      {"3x3 128->128 @128", layer(128, 128, 128, 3, 3)},
      {"3x3 256->256 @64", layer(64, 256, 256, 3, 3)},
      {"3x3 512->512 @32", layer(32, 512, 512, 3, 3)},
      {"3x3 18->18 @128 (HRNet-W18)", layer(128, 18, 18, 3, 3)},
      {"3x3 36->36 @64 (HRNet-W18)", layer(64, 36, 36, 3, 3)},
      {"3x3 512->512 d2 @64 (layer4)", layer(64, 512, 512, 3, 3, 1, 2)},
      {"3x3 512->256 d12 @64 (ASPP)", layer(64, 512, 256, 3, 3, 1, 12)},
      {"3x3 2048->256 d18 @32 (ASPP)", layer(32, 2048, 256, 3, 3, 1, 18)},
      {"3x3 64->128 s2 @256", layer(256, 64, 128, 3, 3, 2)},
      {"1x1 256->1024 @64", layer(64, 256, 1024, 1, 1)},
      {"1x1 1024->256 @64", layer(64, 1024, 256, 1, 1)},
      {"1x1 64->256 @128", layer(128, 64, 256, 1, 1)},
      {"1x1 256->512 s2 @128", layer(128, 256, 512, 1, 1, 2)},
      {"1x1 64->6 @512 (classes)", layer(512, 64, 6, 1, 1)},
      {"3x3 3->64 @512 (first)", layer(512, 3, 64, 3, 3)},
      {"7x7 3->64 s2 @512 (first)", layer(512, 3, 64, 7, 7, 2)},
      {"dw 3x3 128 @128", layer(128, 128, 128, 3, 3, 1, 1, 128)},
      {"dw 3x3 96 s2 @128", layer(128, 96, 96, 3, 3, 2, 1, 96)},
      {"dw 3x3 728 d2 @32 (Xception)", layer(32, 728, 728, 3, 3, 1, 2, 728)},
      {"5x1 32->32 @64 (ENet)", layer(64, 32, 32, 5, 1)},
      {"1x5 32->32 @64 (ENet)", layer(64, 32, 32, 1, 5)},
      {"3x1 128->128 d8 @64 (ERFNet)", layer(64, 128, 128, 3, 1, 1, 8)},
      {"1x3 64->64 @128 (ERFNet)", layer(128, 64, 64, 1, 3)},
      {"2x2 128->256 s2 @128 (up-conv)", layer(128, 128, 256, 2, 2, 2)},
      {"3x3 256->256 g32 @64 (ResNeXt)", layer(64, 256, 256, 3, 3, 1, 1, 32)},
  };
}

enum pass { forward, backward_data, backward_weights };
inline constexpr const char* pass_names[3] = {"forward", "backward data", "backward weights"};

/// Storage aligned like a planned arena (and like oneDNN's own memory).
template <class T>
struct aligned {
  using value_type = T;
  aligned() = default;
  template <class U>
  aligned(const aligned<U>&) {}
  T* allocate(std::size_t n) { return static_cast<T*>(::operator new(n * sizeof(T), std::align_val_t(64))); }
  void deallocate(T* p, std::size_t) { ::operator delete(p, std::align_val_t(64)); }
  bool operator==(const aligned&) const { return true; }
};
using buffer = std::vector<float, aligned<float>>;

inline buffer noise(std::size_t size, std::uint64_t seed) {
  buffer v(size);
  std::uint64_t s = seed * 0x9E3779B97F4A7C15ull + 1;
  for (auto& e : v) {
    s = s * 6364136223846793005ull + 1442695040888963407ull;
    e = float(double(std::int64_t(s >> 40) - (1 << 23)) / (1 << 23));
  }
  return v;
}

/// Our side of a case. x, dy NHWC; w OHWI.
struct ours {
  conv_geometry g;
  buffer x, w, dy, bias, y, dx, dw, packed, packed_back;
  buffer workspace;
  explicit ours(const conv_geometry& geometry) : g(geometry) {
    x = noise(std::size_t(g.n) * g.in_h * g.in_w * g.in_c, 1), w = noise(std::size_t(g.weights()), 2);
    dy = noise(std::size_t(g.n) * g.out_h * g.out_w * g.out_c, 3), bias = noise(g.out_c, 4);
    y.resize(dy.size()), dx.resize(x.size()), dw.resize(w.size());
    packed.resize(cpu::conv_packed_size<float>(g)), packed_back.resize(cpu::conv_packed_size_backward_data<float>(g));
    cpu::conv_pack(g, w.data(), packed.data());
    cpu::conv_pack_backward_data(g, w.data(), packed_back.data());
    workspace.resize(std::max({cpu::conv_workspace_size<float>(g), cpu::conv_workspace_size_backward_data<float>(g),
                               cpu::conv_workspace_size_backward_weights<float>(g)}) /
                         sizeof(float) +
                     1);
  }
  void run(pass p) {
    if (p == forward) {
      cpu::conv_epilogue<float> e;
      e.bias = bias.data(), e.act = cpu::activation::relu;
      cpu::conv_forward(g, x.data(), packed.data(), y.data(), e, workspace.data());
    } else if (p == backward_data) {
      cpu::conv_backward_data(g, dy.data(), packed_back.data(), dx.data(), {}, workspace.data());
    } else {
      cpu::conv_backward_weights(g, x.data(), dy.data(), dw.data(), workspace.data());
    }
  }
  const buffer& result(pass p) const { return p == forward ? y : p == backward_data ? dx : dw; }
};

/// A contender: its name and what to time. `difference` is filled in by the caller: largest error over the RMS of our result.
struct rival {
  std::string name;
  std::function<void()> run;
  double difference = 0;
};

struct timing {
  double median = 0, minimum = 0;
};

/// Wall time; with one thread the process's CPU time, which other work on the machine disturbs less.
inline double seconds() {
  timespec t;
  clock_gettime(rsseg::threads() == 1 ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &t);
  return double(t.tv_sec) + 1e-9 * double(t.tv_nsec);
}

/// Runs the contenders in turn until `budget` seconds are used, at least five rounds.
inline std::vector<timing> alternate(const std::vector<std::function<void()>>& contenders, double budget) {
  std::vector<std::vector<double>> t(contenders.size());
  for (const auto& c : contenders) c();
  const double begin = seconds();
  for (int round = 0; round < 5 || (seconds() - begin < budget && round < 200); ++round)
    for (std::size_t i = 0; i < contenders.size(); ++i) {
      const double s = seconds();
      contenders[i]();
      t[i].push_back(seconds() - s);
    }
  std::vector<timing> r;
  for (auto& v : t) {
    std::sort(v.begin(), v.end());
    r.push_back({v[v.size() / 2], v[0]});
  }
  return r;
}

inline double largest_difference(const buffer& a, const buffer& b) {
  double worst = 0, square = 0;
  for (std::size_t i = 0; i < a.size(); ++i) worst = std::max(worst, std::abs(double(a[i]) - b[i])), square += double(a[i]) * a[i];
  return a.size() == b.size() ? worst / std::sqrt(square / double(a.size()) + 1e-30) : 1e30;
}

/// Prints the table's rows as they come and keeps them for the JSON file.
class report {
 public:
  explicit report(std::string rival) : rival_(std::move(rival)) {
    std::printf(
        "threads %d, instruction set %s, rival %s; ms of %s are medians (minima); ratio = rival's best layout / ours, of medians (of minima)\n",
        rsseg::threads(), cpu::name_of(cpu::current_isa()), rival_.c_str(), rsseg::threads() == 1 ? "CPU time" : "wall time");
    std::printf("%-32s %-16s %18s %8s %18s %-8s %14s %9s\n", "layer", "pass", "rsseg ms", "GFLOP/s", "rival ms", "layout", "ratio", "diff/RMS");
  }
  void row(const layer_case& c, pass p, const timing& mine, const std::vector<rival>& rivals, const std::vector<timing>& theirs) {
    std::size_t best = 0;
    double difference = 0;
    for (std::size_t i = 0; i < theirs.size(); ++i) {
      if (theirs[i].median < theirs[best].median) best = i;
      difference = std::max(difference, rivals[i].difference);
    }
    const double gflops = 2e-9 * double(c.g.macs()) / mine.median, ratio = theirs[best].median / mine.median,
                 ratio_min = theirs[best].minimum / mine.minimum;
    std::printf("%-32s %-16s %8.3f (%7.3f) %8.1f %8.3f (%7.3f) %-8s %5.2f (%5.2f) %9.1e\n", c.name.c_str(), pass_names[p], mine.median * 1e3,
                mine.minimum * 1e3, gflops, theirs[best].median * 1e3, theirs[best].minimum * 1e3, rivals[best].name.c_str(), ratio, ratio_min,
                difference);
    std::fflush(stdout);
    char line[600];
    std::snprintf(line, sizeof line,
                  "    {\"layer\": \"%s\", \"pass\": \"%s\", \"rsseg_ms\": %.4f, \"rsseg_min_ms\": %.4f, \"gflops\": %.1f, \"rival_ms\": %.4f, "
                  "\"rival_min_ms\": %.4f, \"layout\": \"%s\", \"ratio\": %.3f, \"difference\": %.2e}",
                  c.name.c_str(), pass_names[p], mine.median * 1e3, mine.minimum * 1e3, gflops, theirs[best].median * 1e3, theirs[best].minimum * 1e3,
                  rivals[best].name.c_str(), ratio, difference);
    rows_.push_back(line);
    log_ratio_[p] += std::log(ratio);
    ++count_[p];
  }
  void finish(const char* json) {
    for (int p = 0; p < 3; ++p)
      if (count_[p] > 0)
        std::printf("geometric mean of the ratios, %s: %.2f over %d layers\n", pass_names[p], std::exp(log_ratio_[p] / count_[p]), count_[p]);
    if (json == nullptr) return;
    std::FILE* f = std::fopen(json, "w");
    if (f == nullptr) {
      std::fprintf(stderr, "cannot write %s\n", json);
      std::exit(4);
    }
    std::fprintf(f, "{\n  \"rival\": \"%s\",\n  \"threads\": %d,\n  \"isa\": \"%s\",\n  \"rows\": [\n", rival_.c_str(), rsseg::threads(),
                 cpu::name_of(cpu::current_isa()));
    for (std::size_t i = 0; i < rows_.size(); ++i) std::fprintf(f, "%s%s\n", rows_[i].c_str(), i + 1 < rows_.size() ? "," : "");
    std::fprintf(f, "  ]\n}\n");
    std::fclose(f);
  }

 private:
  std::string rival_;
  std::vector<std::string> rows_;
  double log_ratio_[3] = {};
  int count_[3] = {};
};

/// --json FILE, --only TEXT (layers whose name contains it), --pass 0|1|2, --seconds S per row, --threads N.
struct options {
  const char* json = nullptr;
  std::string only;
  int pass = -1;
  double budget = 1;
  int threads = 0;
  options(int argc, char** argv) {
    for (int i = 1; i + 1 < argc; i += 2) {
      const std::string a = argv[i];
      if (a == "--json")
        json = argv[i + 1];
      else if (a == "--only")
        only = argv[i + 1];
      else if (a == "--pass")
        pass = std::atoi(argv[i + 1]);
      else if (a == "--seconds")
        budget = std::atof(argv[i + 1]);
      else if (a == "--threads")
        threads = std::atoi(argv[i + 1]);
      else {
        std::fprintf(stderr, "unknown option %s; known: --json FILE --only TEXT --pass 0|1|2 --seconds S --threads N\n", a.c_str());
        std::exit(2);
      }
    }
    if (threads > 0) rsseg::set_threads(threads);
  }
  bool wants(const layer_case& c, int p) const { return (only.empty() || c.name.find(only) != std::string::npos) && (pass < 0 || pass == p); }
};

}  // namespace bench
