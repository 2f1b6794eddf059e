// SPDX-License-Identifier: MIT
// Does a network learn at all? A few fixed crops, every loss the network declares, no dropout, batch statistics on: the training loss is to
// fall below a fifth of its start. The first thing to try with a new network, and a test that fails when a gradient or a loss weight is wrong.
#pragma once
#include <chrono>
#include <functional>

#include "rsseg/model/model.hpp"
#include "rsseg/nets/entry.hpp"
#include "rsseg/train/crops.hpp"
#include "rsseg/train/optimizer.hpp"

namespace rsseg::train {

struct overfit_options {
  double target = 0.2;                                ///< part of the first loss that must be gone below
  int steps = 300;                                    ///< at most, with one learning rate
  std::vector<double> rates{1e-3, 3e-4, 1e-4, 1e-2};  ///< of Adam, tried in this order
  int patience = 80;                                  ///< a rate is given up if the loss has not once been below `hopeless` of its start by then
  double hopeless = 0.8;
  std::uint64_t seed = 1;
  double seconds = 0;  ///< > 0: stop after this time, unfinished
  graph::loss_options loss;
  /// After the weights are initialised; for weights of an earlier stage.
  std::function<void(parameter_store<float>&)> prepare;
  /// What is to fall in place of the training loss, of the weights before each step; for losses that hold pixels which no weight can change.
  std::function<double(basic_model<float>&)> judge;
  /// After each step: (rate, step, loss).
  std::function<void(double, int, double)> step;
};

struct overfit_result {
  bool reached = false;
  double rate = 0, first = 0, last = 0, seconds = 0;
  int steps = 0;         ///< with `rate`
  int steps_in_all = 0;  ///< with all rates
  std::int64_t parameters = 0;
  std::size_t bytes = 0;       ///< of the training arena
  std::vector<double> losses;  ///< of the rate that was used
  parameter_store<float> weights;
};

/// Appends a mean squared difference of the first output and a new, last input to the loss, in place of class labels.
inline void regress(graph::graph& g) {
  namespace gr = graph;
  for (int i = 0; i < g.outputs.size(); ++i) g.outputs[i].loss_weight = 0;
  const int out = g.outputs[0].node, channels = g.nodes[out].channels;
  gr::attributes minus, square, mean;
  minus.alpha = -1, minus.beta = 0;
  square.mode = int(gr::function::square);
  mean.begin = gr::ops::axis_n | gr::ops::axis_c | gr::ops::axis_h | gr::ops::axis_w, mean.flag = true;
  const int wanted = g.append(gr::op::input, {}, channels);
  const int difference = g.append(gr::op::add, {out, g.append(gr::op::affine, {wanted}, channels, minus)}, channels);
  gr::penalty p;
  p.node = g.append(gr::op::reduce, {g.append(gr::op::unary, {difference}, channels, square)}, 1, mean);
  g.penalties.push_back(p);
}

/// Trains `net` on the crops until the loss is low enough. Deterministic but for `seconds`.
inline overfit_result overfit(const network_entry& net, const crop_set& crops, const overfit_options& o) {
  build_options b;
  b.classes = crops.classes, b.bands = crops.images.extent().c, b.training = true, b.dropout = false;
  graph::graph g = lower_network(net.build, b);
  const network_feed feed = feed_network(g, net.name, crops);
  basic_model<float> model(net.build, b);
  if (feed.regression) regress(g);
  graph::loss_options loss = o.loss;
  loss.ignore = crops.ignore;
  model.prepare_training(std::move(g), loss);
  std::vector<const tensor<float>*> inputs;
  for (const auto& x : feed.inputs) inputs.push_back(&x);
  if (feed.regression) inputs.push_back(&feed.wanted);
  std::vector<const tensor<std::int32_t>*> labels;
  for (const auto& x : feed.labels) labels.push_back(&x);

  const auto start = std::chrono::steady_clock::now();
  const auto elapsed = [&] { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(); };
  overfit_result best;
  int in_all = 0;
  for (const double rate : o.rates) {
    model.weights().initialise(o.seed);
    if (o.prepare) o.prepare(model.weights());
    optimizer_options adam;
    adam.kind = optimizer_kind::adam;
    optimizer<float> opt(model.weights(), adam);
    overfit_result r;
    r.rate = rate;
    double lowest = 0;
    for (int step = 0; step <= o.steps; ++step) {  // the loss after `steps` updates counts, too
      const double judged = o.judge ? o.judge(model) : 0, trained = model.train_step(inputs, labels, cpu::run_state{o.seed, std::uint64_t(step)});
      const double l = o.judge ? judged : trained;
      r.losses.push_back(l), r.last = l, r.steps = step;
      if (step == 0) r.first = lowest = l;
      if (o.step) o.step(rate, step, l);
      if (!std::isfinite(l)) break;
      lowest = std::min(lowest, l);
      if ((r.reached = l < o.target * r.first)) break;
      if (step == o.patience && lowest > o.hopeless * r.first) break;
      if (o.seconds > 0 && elapsed() > o.seconds) break;
      if (step < o.steps) opt.step(model.training().gradients(), rate);
    }
    in_all += r.steps;
    r.steps_in_all = in_all, r.seconds = elapsed();
    const bool better = best.losses.empty() || r.reached || (std::isfinite(r.last) && !(r.last / r.first >= best.last / best.first));
    if (better) best = std::move(r);
    best.steps_in_all = in_all, best.seconds = elapsed();
    if (best.reached || (o.seconds > 0 && elapsed() > o.seconds)) break;
  }
  best.parameters = model.weights().parameter_count(), best.bytes = model.training().bytes();
  best.weights = model.weights();
  return best;
}

}  // namespace rsseg::train
