// SPDX-License-Identifier: MIT
// A network of ours as libtorch runs it: the nodes of its forward graph, one by one, as the ATen calls that torch::nn modules make (autograd
// included), with the same weights. Like torchvision's models it adds and rectifies in place where nobody else reads the value, and drops every
// intermediate after its last use. Written against the graph, not against one network, so that all of them can be compared.
#pragma once
#include <ATen/ATen.h>

#include <stdexcept>
#include <string>
#include <unordered_map>
#include <vector>

#include "rsseg/graph/infer.hpp"
#include "rsseg/graph/passes.hpp"
#include "rsseg/plan/parameter_store.hpp"

namespace bench {

namespace graph = rsseg::graph;
using rsseg::shape;

class torch_network {
 public:
  /// g: a forward graph (lowered for inference or training, perhaps with folded normalisation). Weights are copied from the store.
  torch_network(graph::graph g, const rsseg::parameter_store<float>& store, at::MemoryFormat format, bool training)
      : g_(std::move(g)), format_(format), training_(training), uses_(graph::use_counts(g_)) {
    const int n = g_.nodes.size();
    weight_.resize(std::size_t(n));
    last_.assign(std::size_t(n), -1);
    running_.assign(std::size_t(n), -1);
    for (int i = 0; i < n; ++i) {
      const graph::node& node = g_.nodes[i];
      for (int k = 0; k < node.input_count; ++k) last_[std::size_t(g_.input_of(i, k))] = i;
      if (node.kind == graph::op::bn_update) running_[std::size_t(g_.input_of(i, 0))] = i;
      if (node.kind != graph::op::parameter && node.kind != graph::op::buffer) continue;
      const int slot = store.find(g_.name_of(i));
      const auto& e = store.entries()[std::size_t(slot)];
      at::Tensor t = at::empty(e.dims(), at::kFloat);
      store.to_file_order(slot, t.data_ptr<float>());
      if (t.dim() == 4) t = t.contiguous(format);
      if (training && e.trained) t.set_requires_grad(true), trained_.push_back(t), names_.push_back(e.name);
      weight_[std::size_t(i)] = t;
    }
    for (const auto& o : g_.outputs) last_[std::size_t(o.node)] = n;
  }

  /// Scores of every output, in the order of the graph's outputs.
  std::vector<at::Tensor> forward(const at::Tensor& x) {
    const int n = g_.nodes.size();
    std::vector<shape> s{std::size_t(n)};
    for (int i = 0; i < n; ++i)
      if (g_.nodes[i].kind == graph::op::input) s[std::size_t(i)] = {int(x.size(0)), int(x.size(1)), int(x.size(2)), int(x.size(3))};
    if (graph::infer(g_, s.data()).what != graph::fault::none) throw std::runtime_error("this size is not allowed");
    std::vector<at::Tensor> v{std::size_t(n)};
    for (int i = 0; i < n; ++i) {
      v[std::size_t(i)] = run(i, v, s, x);
      for (int k = 0; k < g_.nodes[i].input_count; ++k)
        if (const int in = g_.input_of(i, k); last_[std::size_t(in)] == i) v[std::size_t(in)] = at::Tensor();
    }
    std::vector<at::Tensor> out;
    for (const auto& o : g_.outputs) out.push_back(v[std::size_t(o.node)]);
    return out;
  }

  /// Sum of the supervised outputs' cross entropies, each resized to the labels.
  at::Tensor loss(const at::Tensor& x, const at::Tensor& labels) {
    const std::vector<at::Tensor> scores = forward(x);
    at::Tensor total;
    for (int i = 0; i < g_.outputs.size(); ++i) {
      const graph::output& o = g_.outputs[i];
      if (o.loss_weight == 0) continue;
      at::Tensor z = scores[std::size_t(i)];
      if (z.size(2) != labels.size(1) || z.size(3) != labels.size(2))
        z = at::upsample_bilinear2d(z, {labels.size(1), labels.size(2)}, o.align_corners);
      at::Tensor part = at::cross_entropy_loss(z, labels, {}, at::Reduction::Mean, 255);
      if (o.loss_weight != 1) part = part * o.loss_weight;
      total = total.defined() ? total + part : part;
    }
    return total;
  }

  /// Forward, backward and the update of torch::optim::SGD.
  double step(const at::Tensor& x, const at::Tensor& labels, double rate, double momentum, double decay) {
    at::Tensor l = loss(x, labels);
    l.backward();
    const double value = l.item<double>();
    l = at::Tensor();
    if (rate > 0) update(rate, momentum, decay);
    return value;
  }
  const std::vector<at::Tensor>& trained() const { return trained_; }
  const std::vector<std::string>& names() const { return names_; }
  const graph::graph& network() const { return g_; }

 private:
  void update(double rate, double momentum, double decay) {
    const at::NoGradGuard guard;
    momentum_.resize(trained_.size());
    for (std::size_t i = 0; i < trained_.size(); ++i) {
      at::Tensor p = trained_[i], d = p.grad();
      if (!d.defined()) continue;
      if (decay != 0) d = d.add(p.detach(), decay);
      if (!momentum_[i].defined())
        momentum_[i] = d.clone();
      else
        momentum_[i].mul_(momentum).add_(d);
      p.detach().add_(momentum_[i], -rate);
      p.mutable_grad() = at::Tensor();
    }
  }

  /// In place only where a module written by hand would do it: the value has one reader and comes from an operator that keeps no output.
  bool may_overwrite(int id) const {
    const graph::op k = g_.nodes[id].kind;
    return uses_[id] == 1 && (k == graph::op::conv || k == graph::op::conv_transpose || k == graph::op::bn_apply || k == graph::op::add);
  }
  static at::Tensor rows(const at::Tensor& t) { return t.flatten(2).transpose(1, 2); }  // (n, h*w, c)

  at::Tensor run(int i, const std::vector<at::Tensor>& v, const std::vector<shape>& s, const at::Tensor& x) {
    using graph::op;
    const graph::node& n = g_.nodes[i];
    const graph::attributes& a = n.at;
    const auto in = [&](int k) -> const at::Tensor& {
      const std::size_t id = std::size_t(g_.input_of(i, k));
      return weight_[id].defined() ? weight_[id] : v[id];
    };
    const auto keep = [&](const at::Tensor& t) { return weight_[std::size_t(i)] = t, at::Tensor(); };  // depends on weights only
    if (weight_[std::size_t(i)].defined()) return {};
    const shape o = s[std::size_t(i)];
    switch (n.kind) {
      case op::input:
        return x;
      case op::conv: {
        at::Tensor from = in(0);
        std::vector<std::int64_t> pad{a.pad_top, a.pad_left};
        if (a.pad_top != a.pad_bottom || a.pad_left != a.pad_right)
          from = at::constant_pad_nd(from, {a.pad_left, a.pad_right, a.pad_top, a.pad_bottom}), pad = {0, 0};
        at::Tensor y =
            at::conv2d(from, in(1), n.input_count > 2 ? in(2) : at::Tensor(), {a.stride_h, a.stride_w}, pad, {a.dilation_h, a.dilation_w}, a.groups);
        if (n.input_count > 3) y.add_(in(3));
        if (a.relu) y.relu_();
        return y;
      }
      case op::conv_transpose: {
        at::Tensor y = at::conv_transpose2d(in(0), in(1), n.input_count > 2 ? in(2) : at::Tensor(), {a.stride_h, a.stride_w}, {a.pad_top, a.pad_left},
                                            {a.bins_h, a.bins_w}, a.groups, {a.dilation_h, a.dilation_w});
        if (a.relu) y.relu_();
        return y;
      }
      case op::bn_stats:
      case op::bn_update:
        return {};
      case op::bn_pair:
        return {};
      case op::bn_apply: {
        const int stats = g_.input_of(i, 1), update = running_[std::size_t(stats)];
        const bool batch = g_.nodes[stats].kind == op::bn_stats;
        const int first = batch ? g_.input_of(update, 1) : g_.input_of(stats, 0), second = batch ? g_.input_of(update, 2) : g_.input_of(stats, 1);
        at::Tensor y = at::batch_norm(in(0), in(2), in(3), weight_[std::size_t(first)], weight_[std::size_t(second)], batch,
                                      batch ? g_.nodes[update].at.beta : 0.1, a.alpha, false);
        if (a.relu) y.relu_();
        return y;
      }
      case op::fold_weights: {
        const int stats = g_.input_of(i, 1);
        const at::Tensor scale = in(2) / at::sqrt(weight_[std::size_t(g_.input_of(stats, 1))] + a.alpha);
        return keep((in(0) * scale.view(a.flag ? at::IntArrayRef{1, -1, 1, 1} : at::IntArrayRef{-1, 1, 1, 1})).contiguous(format_));
      }
      case op::fold_bias: {
        const int k = n.input_count == 4 ? 1 : 0, stats = g_.input_of(i, k);
        const at::Tensor scale = in(k + 1) / at::sqrt(weight_[std::size_t(g_.input_of(stats, 1))] + a.alpha);
        at::Tensor shift = -weight_[std::size_t(g_.input_of(stats, 0))];
        if (k) shift = shift + in(0);
        return keep(in(k + 2) + shift * scale);
      }
      case op::max_pool:
        return at::max_pool2d(in(0), {a.kernel_h, a.kernel_w}, {a.stride_h, a.stride_w}, {a.pad_top, a.pad_left}, {a.dilation_h, a.dilation_w},
                              a.flag);
      case op::argmax_pool: {  // values and indices at once, as modules do; the values wait for `pick`
        bool placed = false;
        for (int j = i + 1; j < g_.nodes.size(); ++j) placed = placed || (g_.nodes[j].kind == op::place && g_.input_of(j, 1) == i);
        if (!placed) {
          pooled_[i] = at::max_pool2d(in(0), {a.kernel_h, a.kernel_w}, {a.stride_h, a.stride_w}, {a.pad_top, a.pad_left},
                                      {a.dilation_h, a.dilation_w}, a.flag);
          return {};
        }
        auto both = at::max_pool2d_with_indices(in(0), {a.kernel_h, a.kernel_w}, {a.stride_h, a.stride_w}, {a.pad_top, a.pad_left},
                                                {a.dilation_h, a.dilation_w}, a.flag);
        pooled_[i] = std::get<0>(both);
        return std::get<1>(both);
      }
      case op::pick: {
        if (g_.input_of(i, 0) != g_.input_of(g_.input_of(i, 1), 0)) break;
        at::Tensor y = pooled_[g_.input_of(i, 1)];
        pooled_.erase(g_.input_of(i, 1));
        return y;
      }
      case op::place:
        return at::max_unpool2d(in(0), in(1), {o.h, o.w});
      case op::avg_pool:
        if (a.count == 1) break;
        return at::avg_pool2d(in(0), {a.kernel_h, a.kernel_w}, {a.stride_h, a.stride_w}, {a.pad_top, a.pad_left}, a.flag, !a.flag2);
      case op::adaptive_avg_pool:
        return at::adaptive_avg_pool2d(in(0), {a.bins_h, a.bins_w});
      case op::resize:
        if (o.h == in(0).size(2) && o.w == in(0).size(3)) return in(0);
        if (graph::interpolation(a.mode) == graph::interpolation::nearest) return at::upsample_nearest2d(in(0), {o.h, o.w});
        return at::upsample_bilinear2d(in(0), {o.h, o.w}, a.flag);
      case op::unary:
        if (graph::function(a.mode) == graph::function::relu) {
          if (!may_overwrite(g_.input_of(i, 0))) return at::relu(in(0));
          at::Tensor y = in(0);
          return y.relu_();
        }
        if (graph::function(a.mode) == graph::function::sigmoid) return at::sigmoid(in(0));
        break;
      case op::prelu:
        return at::prelu(in(0), in(1));
      case op::add: {
        const bool over = may_overwrite(g_.input_of(i, 0));
        at::Tensor y = in(0);
        for (int k = 1; k < n.input_count; ++k)
          if ((k > 1 || over) && in(k).sizes() == y.sizes())
            y.add_(in(k));
          else
            y = y + in(k);
        return y;
      }
      case op::mul:
        return in(0) * in(1);
      case op::dropout:
        return a.flag ? at::feature_dropout(in(0), a.alpha, true) : at::dropout(in(0), a.alpha, true);
      case op::concat: {
        std::vector<at::Tensor> parts;
        for (int k = 0; k < n.input_count; ++k) parts.push_back(in(k));
        return at::cat(parts, 1);
      }
      case op::slice:
        return in(0).narrow(1, a.begin, a.count);
      case op::pad_crop: {
        int top, left;
        const int h = int(in(0).size(2)), w = int(in(0).size(3));
        graph::ops::pad_offset(a, h, w, o.h, o.w, top, left);
        if (top == 0 && left == 0 && o.h == h && o.w == w) return in(0);
        if (a.mode != 0) break;
        return at::constant_pad_nd(in(0), {left, o.w - w - left, top, o.h - h - top});
      }
      case op::matmul: {
        at::Tensor p = rows(in(0)), q = rows(in(1));
        if (a.flag) p = p.transpose(1, 2);
        if (a.flag2) q = q.transpose(1, 2);
        at::Tensor y = at::bmm(p, q);
        if (a.alpha != 1) y = y * a.alpha;
        return y.transpose(1, 2).reshape({o.n, o.c, o.h, o.w});
      }
      case op::softmax:
        return at::softmax(in(0), 1);
      default:
        break;
    }
    throw std::runtime_error("operator " + std::to_string(int(n.kind)) + " has no counterpart in the comparison");
  }

  graph::graph g_;
  at::MemoryFormat format_;
  bool training_;
  graph::list<int> uses_;
  std::vector<at::Tensor> weight_, trained_, momentum_;
  std::vector<std::string> names_;
  std::vector<int> last_, running_;
  std::unordered_map<int, at::Tensor> pooled_;
};

}  // namespace bench
