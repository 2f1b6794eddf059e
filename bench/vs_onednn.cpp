// SPDX-License-Identifier: MIT
// Layers against oneDNN: forward (with bias and ReLU), data gradient, weight gradient. oneDNN runs in the layout it prefers ("any", reorders not
// counted) and in NHWC; the better one counts. Outputs are compared.
//   vs_onednn [--threads N] [--seconds S] [--only TEXT] [--pass P] [--json FILE]
#include <omp.h>

#include <dnnl.hpp>
#include <memory>
#include <unordered_map>

#include "conv_bench.hpp"

namespace {

using namespace bench;
using tag = dnnl::memory::format_tag;
using desc = dnnl::memory::desc;

struct side {
  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream{engine};
};

/// One pass of one case in one layout; memories and primitive stay alive in the closure.
struct onednn_pass {
  side& s;
  const ours& o;
  pass p;
  dnnl::memory out_user;
  buffer out;
  dnnl::primitive primitive;
  std::unordered_map<int, dnnl::memory> arguments;
  dnnl::memory out_inner;

  onednn_pass(side& s_, const ours& o_, pass p_, bool any) : s(s_), o(o_), p(p_) {
    const conv_geometry& g = o.g;
    const bool grouped = g.groups > 1;
    const int kc = g.in_c_per_group(), nc = g.out_c_per_group();
    const auto f32 = dnnl::memory::data_type::f32;
    const dnnl::memory::dims x_dims{g.n, g.in_c, g.in_h, g.in_w}, y_dims{g.n, g.out_c, g.out_h, g.out_w};
    dnnl::memory::dims w_dims{nc, kc, g.kernel_h, g.kernel_w};
    if (grouped) w_dims.insert(w_dims.begin(), g.groups);
    const dnnl::memory::dims strides{g.stride_h, g.stride_w}, dilates{g.dilation_h - 1, g.dilation_w - 1}, low{g.pad_top, g.pad_left};
    const dnnl::memory::dims high{(g.out_h - 1) * g.stride_h + (g.kernel_h - 1) * g.dilation_h + 1 - g.in_h - g.pad_top,
                                  (g.out_w - 1) * g.stride_w + (g.kernel_w - 1) * g.dilation_w + 1 - g.in_w - g.pad_left};
    const desc x_user(x_dims, f32, tag::nhwc), y_user(y_dims, f32, tag::nhwc), w_user(w_dims, f32, grouped ? tag::gohwi : tag::ohwi);
    const desc b_user({g.out_c}, f32, tag::x);
    const desc x_md(x_dims, f32, any ? tag::any : tag::nhwc), y_md(y_dims, f32, any ? tag::any : tag::nhwc), w_md(w_dims, f32, tag::any);
    const auto direct = dnnl::algorithm::convolution_auto;

    dnnl::primitive_attr attributes;
    dnnl::post_ops post;
    post.append_eltwise(1.f, dnnl::algorithm::eltwise_relu, 0.f, 0.f);
    attributes.set_post_ops(post);
    const dnnl::convolution_forward::desc inference(dnnl::prop_kind::forward_inference, direct, x_md, w_md, b_user, y_md, strides, dilates, low,
                                                    high);
    const dnnl::convolution_forward::desc training(dnnl::prop_kind::forward_training, direct, x_md, w_md, y_md, strides, dilates, low, high);
    const dnnl::convolution_forward::primitive_desc hint(training, s.engine);
    if (p == forward) {
      const dnnl::convolution_forward::primitive_desc d(inference, attributes, s.engine);
      primitive = dnnl::convolution_forward(d);
      arguments = {{DNNL_ARG_SRC, bring(x_user, d.src_desc(), o.x)},
                   {DNNL_ARG_WEIGHTS, bring(w_user, d.weights_desc(), o.w)},
                   {DNNL_ARG_BIAS, bring(b_user, d.bias_desc(), o.bias)},
                   {DNNL_ARG_DST, out_inner = dnnl::memory(d.dst_desc(), s.engine)}};
      receive(y_user, o.y.size());
    } else if (p == backward_data) {
      const dnnl::convolution_backward_data::primitive_desc d({direct, x_md, w_md, y_md, strides, dilates, low, high}, s.engine, hint);
      primitive = dnnl::convolution_backward_data(d);
      arguments = {{DNNL_ARG_DIFF_DST, bring(y_user, d.diff_dst_desc(), o.dy)},
                   {DNNL_ARG_WEIGHTS, bring(w_user, d.weights_desc(), o.w)},
                   {DNNL_ARG_DIFF_SRC, out_inner = dnnl::memory(d.diff_src_desc(), s.engine)}};
      receive(x_user, o.x.size());
    } else {
      const dnnl::convolution_backward_weights::primitive_desc d({direct, x_md, w_md, y_md, strides, dilates, low, high}, s.engine, hint);
      primitive = dnnl::convolution_backward_weights(d);
      arguments = {{DNNL_ARG_SRC, bring(x_user, d.src_desc(), o.x)},
                   {DNNL_ARG_DIFF_DST, bring(y_user, d.diff_dst_desc(), o.dy)},
                   {DNNL_ARG_DIFF_WEIGHTS, out_inner = dnnl::memory(d.diff_weights_desc(), s.engine)}};
      receive(w_user, o.w.size());
    }
  }
  dnnl::memory bring(const desc& user, const desc& inner, const buffer& data) {
    dnnl::memory from(user, s.engine, const_cast<float*>(data.data())), to(inner, s.engine);
    dnnl::reorder(from, to).execute(s.stream, from, to);
    s.stream.wait();
    return to;
  }
  void receive(const desc& user, std::size_t size) {
    out.resize(size);
    out_user = dnnl::memory(user, s.engine, out.data());
  }
  void run() {
    primitive.execute(s.stream, arguments);
    s.stream.wait();
  }
  const buffer& result() {
    dnnl::reorder(out_inner, out_user).execute(s.stream, out_inner, out_user);
    s.stream.wait();
    return out;
  }
};

}  // namespace

int main(int argc, char** argv) {
  const options opt(argc, argv);
  if (opt.threads > 0) omp_set_num_threads(opt.threads);
  const dnnl_version_t* v = dnnl_version();
  report table("oneDNN " + std::to_string(v->major) + "." + std::to_string(v->minor) + "." + std::to_string(v->patch));
  side s;
  for (const auto& c : layer_cases()) {
    std::unique_ptr<ours> o;
    for (const pass p : {forward, backward_data, backward_weights}) {
      if (!opt.wants(c, p)) continue;
      if (!o) o = std::make_unique<ours>(c.g);
      onednn_pass blocked(s, *o, p, true), nhwc(s, *o, p, false);
      std::vector<rival> rivals{{"any", [&] { blocked.run(); }}, {"nhwc", [&] { nhwc.run(); }}};
      const auto t = alternate({[&] { o->run(p); }, rivals[0].run, rivals[1].run}, opt.budget);
      rivals[0].difference = largest_difference(o->result(p), blocked.result());
      rivals[1].difference = largest_difference(o->result(p), nhwc.result());
      table.row(c, p, t[0], rivals, {t[1], t[2]});
    }
  }
  table.finish(opt.json);
}
