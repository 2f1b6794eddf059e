// SPDX-License-Identifier: MIT
// Layers against libtorch: forward (with bias and ReLU), data gradient, weight gradient, in NCHW and in channels-last; the better one counts.
// Outputs are compared. libtorch's own allocations are part of its times, as they are in its networks; a warm allocator is reached by alternation.
//   vs_libtorch [--threads N] [--seconds S] [--only TEXT] [--pass P] [--json FILE]
//   vs_libtorch networks ...    whole networks: vs_libtorch_networks.cpp
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>
#include <torch/version.h>

#include <memory>

#include "conv_bench.hpp"

namespace {

using namespace bench;

/// One pass of one case in one memory format.
struct torch_pass {
  const conv_geometry& g;
  pass p;
  at::Tensor x, w, b, dy, out;
  torch_pass(const ours& o, pass p_, at::MemoryFormat format) : g(o.g), p(p_) {
    const auto nhwc = [&](const buffer& v, int n, int h, int width, int c) {
      return at::from_blob(const_cast<float*>(v.data()), {n, h, width, c}).permute({0, 3, 1, 2}).contiguous(format);
    };
    x = nhwc(o.x, g.n, g.in_h, g.in_w, g.in_c);
    dy = nhwc(o.dy, g.n, g.out_h, g.out_w, g.out_c);
    w = nhwc(o.w, g.out_c, g.kernel_h, g.kernel_w, g.in_c_per_group());
    b = at::from_blob(const_cast<float*>(o.bias.data()), {g.out_c}).clone();
  }
  void run() {
    const std::vector<std::int64_t> stride{g.stride_h, g.stride_w}, pad{g.pad_top, g.pad_left}, dilation{g.dilation_h, g.dilation_w}, none{0, 0};
    if (p == forward) {
      out = at::conv2d(x, w, b, stride, pad, dilation, g.groups);
      out.relu_();
    } else if (p == backward_data) {
      out = std::get<0>(at::convolution_backward(dy, x, w, c10::nullopt, stride, pad, dilation, false, none, g.groups, {true, false, false}));
    } else {
      out = std::get<1>(at::convolution_backward(dy, x, w, c10::nullopt, stride, pad, dilation, false, none, g.groups, {false, true, false}));
    }
  }
  buffer result() const {
    const at::Tensor t = out.permute({0, 2, 3, 1}).contiguous();
    return buffer(t.data_ptr<float>(), t.data_ptr<float>() + t.numel());
  }
};

}  // namespace

int run_networks(int argc, char** argv);

int main(int argc, char** argv) {
  if (argc > 1 && std::string(argv[1]) == "networks") return run_networks(argc, argv);
  const options opt(argc, argv);
  if (opt.threads > 0) at::set_num_threads(opt.threads);
  const c10::InferenceMode guard;
  report table(std::string("libtorch ") + TORCH_VERSION);
  for (const auto& c : layer_cases()) {
    std::unique_ptr<ours> o;
    for (const pass p : {forward, backward_data, backward_weights}) {
      if (!opt.wants(c, p)) continue;
      if (!o) o = std::make_unique<ours>(c.g);
      torch_pass nchw(*o, p, at::MemoryFormat::Contiguous), last(*o, p, at::MemoryFormat::ChannelsLast);
      std::vector<rival> rivals{{"NCHW", [&] { nchw.run(); }}, {"last", [&] { last.run(); }}};
      const auto t = alternate({[&] { o->run(p); }, rivals[0].run, rivals[1].run}, opt.budget);
      rivals[0].difference = largest_difference(o->result(p), nchw.result());
      rivals[1].difference = largest_difference(o->result(p), last.result());
      table.row(c, p, t[0], rivals, {t[1], t[2]});
    }
  }
  table.finish(opt.json);
}
