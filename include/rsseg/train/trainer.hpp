// SPDX-License-Identifier: MIT
// Trains a segmenter on a data set: batches, loss, gradients, optimiser, validation, checkpoints, a log of JSON lines.
// With a number of steps or epochs a run is a function of its options and seed, bit for bit, also across a stop and --resume; with a time
// limit the learning rate follows the clock.
#pragma once
#include <chrono>
#include <filesystem>
#include <functional>

#include "rsseg/data/statistics.hpp"
#include "rsseg/train/checkpoint.hpp"
#include "rsseg/train/evaluate.hpp"
#include "rsseg/train/run_log.hpp"
#include "rsseg/train/schedule.hpp"

namespace rsseg::train {

struct train_options {
  std::uint64_t steps = 0;  ///< optimiser steps; 0: from epochs
  double epochs = 0;
  double minutes = 0;             ///< a time limit; alone, it is the length of the training
  int batch = 8, accumulate = 1;  ///< gradients of `accumulate` batches are averaged for one step
  std::uint64_t seed = 1;
  optimizer_options optimizer;
  train::schedule schedule;
  graph::loss_options loss;
  std::vector<float> class_weights;  ///< one per class for the weighted losses; empty: all 1
  data::augment_options augment;
  data::sampler_options sampling;
  data::normalization normalize;
  int workers = 2;
  int tile = 512;             ///< of validation
  double evaluate_every = 0;  ///< fraction of the training between validations; 0: only at the end
  double checkpoint_seconds = 60;
  std::uint64_t checkpoint_steps = 0;  ///< also every so many steps
  bool recompute = false, resume = false;
  std::size_t memory_limit = 0;
  double head_rate = 1;       ///< learning-rate factor outside the backbone
  std::string backbone;       ///< prefixes of the backbone's parameters, separated by commas
  double penalties_from = 0;  ///< part of the training after which the network's penalties count
  std::string out;            ///< folder of weights.safetensors, checkpoint.safetensors, log.jsonl
  /// For networks that see more than the image: the inputs of a batch in the graph's order, a function of the batch and its number only;
  /// may replace the labels. Empty: the images.
  std::function<std::vector<tensor<float>>(const data::batch&, std::uint64_t, tensor<std::int32_t>&)> inputs;
  /// Changes the graph lowered for training before losses are added (penalties). Empty: nothing.
  std::function<void(graph::graph&)> prepare;
  /// What validation predicts with. Empty: the model by itself.
  scene::predictor predictor;
};

/// What happens, for progress display.
struct train_events {
  /// After each step: (state, loss of the step, learning rate, part of the training done).
  std::function<void(const training_state&, double, double, double)> step;
  /// After each validation.
  std::function<void(const training_state&, const confusion_matrix&)> validated;
  /// True: stop now, with a checkpoint.
  std::function<bool()> interrupted;
  std::function<void(const std::string&)> message;
};

struct train_result {
  training_state state;
  bool interrupted = false;
  double last_loss = 0;
  std::vector<nlohmann::json> log;  ///< all lines of the log
};

/// What a checkpoint remembers of the losses.
inline nlohmann::json loss_settings(const graph::loss_options& loss) {
  nlohmann::json terms = nlohmann::json::array();
  for (int i = 0; i < loss.term_count; ++i) {
    const graph::loss_term& t = loss.terms[i];
    terms.push_back({int(t.kind), t.weight, t.alpha, t.beta, t.gamma, t.count, t.flag, t.flag2});
  }
  return {{"terms", terms}, {"edges", int(loss.edges)}};
}

class trainer {
 public:
  trainer(const network_entry& net, basic_model<float>& model, std::shared_ptr<const data::dataset> train_set,
          std::shared_ptr<const data::dataset> val_set, const weights_info& info, const train_options& options)
      : net_(net), model_(model), train_set_(std::move(train_set)), val_set_(std::move(val_set)), info_(info), o_(options) {}

  train_result run(const train_events& events) {
    namespace fs = std::filesystem;
    o_.schedule.check();
    if (o_.batch < 1 || o_.accumulate < 1) throw usage_error("batch and accumulation must be 1 or more");
    if (o_.steps == 0 && o_.epochs <= 0 && o_.minutes <= 0) throw usage_error("say how long to train: --epochs, --steps or --minutes");
    std::error_code none;
    fs::create_directories(o_.out, none);
    if (!fs::is_directory(o_.out, none)) throw output_error(o_.out + ": cannot be made a folder; choose another --out");

    const std::vector<float>& class_weights = o_.class_weights;
    if (!class_weights.empty() && int(class_weights.size()) != info_.classes)
      throw usage_error("class weights: expected " + std::to_string(info_.classes) + ", got " + std::to_string(class_weights.size()));
    o_.loss.class_weights = !class_weights.empty();
    model_.set_memory_limit(o_.memory_limit);
    bool with_penalties = o_.penalties_from <= 0;
    prepare(with_penalties);
    optimizer<float> opt(model_.weights(), o_.optimizer);
    if (o_.head_rate != 1 && !o_.backbone.empty()) opt.scale_rate(o_.head_rate, [&](const std::string& name) { return !in_backbone(name); });

    data::loader_options lo;
    lo.batch = o_.batch, lo.workers = o_.workers, lo.seed = o_.seed, lo.augment = o_.augment, lo.sampling = o_.sampling, lo.normalize = o_.normalize;
    data::loader loader(train_set_, lo);
    std::uint64_t total = o_.steps;
    if (total == 0 && o_.epochs > 0)
      total = std::max<std::uint64_t>(1, std::uint64_t(std::ceil(o_.epochs * double(loader.batches_per_epoch()) / o_.accumulate)));

    train_result result;
    training_state& s = result.state;
    s.settings = settings(total);
    const std::string checkpoint = o_.out + "/checkpoint.safetensors";
    const checkpoint_part parts[] = {{"", &model_.weights(), &opt}};
    const bool resumed = o_.resume && fs::exists(checkpoint, none);
    if (resumed) {
      s = load_checkpoint(checkpoint, parts, s.settings);
      loader.restore(s.position);
      if (events.message) events.message("resumed at step " + std::to_string(s.step));
    } else if (o_.resume && events.message) {
      events.message("nothing to resume in " + o_.out + ": starting anew");
    }
    run_log log(o_.out + "/log.jsonl", resumed, s.step);
    const auto write_log = [&](const nlohmann::json& j) { log.write(j); };

    const auto start = std::chrono::steady_clock::now();
    const double before = s.elapsed;
    const auto elapsed = [&] { return before + std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(); };
    const auto progress = [&] {
      double p = total ? double(s.step) / double(total) : 0;
      if (o_.minutes > 0) p = std::max(p, s.elapsed / (60 * o_.minutes));
      return std::min(1.0, p);
    };
    double next_validation = o_.evaluate_every > 0 ? o_.evaluate_every * (double(s.evaluations) + 1) : 2;
    double last_checkpoint = elapsed();
    tensor<float> weights_input;
    if (!class_weights.empty()) {
      weights_input = tensor<float>(shape{1, int(class_weights.size()), 1, 1});
      std::copy(class_weights.begin(), class_weights.end(), weights_input.data());
    }
    std::vector<float> accumulated;
    bool done = progress() >= 1;
    while (!done) {
      if (!with_penalties && progress() >= o_.penalties_from) prepare(with_penalties = true);
      const double lr = o_.schedule.at(progress());
      double loss = 0;
      for (int a = 0; a < o_.accumulate; ++a) {
        const data::batch b = loader.next();
        check_labels(b.targets, info_.classes, o_.loss.ignore, [&](int n) { return train_set_->name(b.index[std::size_t(n)]); });
        const std::uint64_t number = s.step * std::uint64_t(o_.accumulate) + std::uint64_t(a);
        std::vector<const tensor<float>*> inputs;
        std::vector<tensor<float>> made;
        tensor<std::int32_t> labels;
        if (o_.inputs) {
          made = o_.inputs(b, number, labels);
          for (const auto& m : made) inputs.push_back(&m);
        } else {
          inputs.push_back(&b.images);
        }
        if (!class_weights.empty()) inputs.push_back(&weights_input);
        loss += model_.train_step(inputs, o_.inputs ? labels : b.targets, cpu::run_state{o_.seed, number}) / o_.accumulate;
        if (o_.accumulate > 1) accumulate(accumulated, a == 0);
      }
      if (!std::isfinite(loss))
        throw numeric_error("the loss became " + std::string(std::isnan(loss) ? "NaN" : "infinite") + " at step " + std::to_string(s.step + 1) +
                            " (learning rate " + std::to_string(lr) + "); " +
                            (fs::exists(checkpoint, none) ? "the last checkpoint is kept in " + o_.out + "; " : "") + "use a lower --lr or --clip 1");
      opt.step(o_.accumulate > 1 ? accumulated : model_.training().gradients(), lr, 1.0 / o_.accumulate);
      ++s.step;
      s.position = loader.state();
      s.elapsed = elapsed();
      s.running_loss = s.step == 1 ? loss : 0.95 * s.running_loss + 0.05 * loss;
      result.last_loss = loss;
      write_log({{"step", s.step},
                 {"epoch", double(s.position.epoch) + double(s.position.number) / double(loader.batches_per_epoch())},
                 {"loss", loss},
                 {"lr", lr},
                 {"seconds", s.elapsed}});
      const double p = progress();
      done = p >= 1;
      if (events.step) events.step(s, loss, lr, p);
      if (val_set_ && (done || p >= next_validation)) {
        while (o_.evaluate_every > 0 && next_validation <= p) next_validation += o_.evaluate_every;
        validate(opt, s, events, write_log);
      }
      const bool stop = !done && events.interrupted && events.interrupted();
      if (done || stop || elapsed() - last_checkpoint > o_.checkpoint_seconds || (o_.checkpoint_steps && s.step % o_.checkpoint_steps == 0)) {
        save_checkpoint(checkpoint, parts, s);
        last_checkpoint = elapsed();
      }
      if (stop) {
        result.interrupted = true;
        break;
      }
    }
    result.log = log.lines();
    if (!val_set_ && !result.interrupted) save_weights(opt, s);
    return result;
  }

 private:
  void prepare(bool with_penalties) {
    build_options b = model_.options();
    b.training = true;
    graph::graph g = lower_network(model_.build(), b);
    if (o_.prepare) o_.prepare(g);
    if (!with_penalties) g.penalties.clear();
    model_.prepare_training(std::move(g), o_.loss, o_.recompute);
  }
  bool in_backbone(const std::string& name) const {
    for (std::size_t at = 0; at < o_.backbone.size();) {
      const std::size_t end = std::min(o_.backbone.find(',', at), o_.backbone.size());
      if (name.compare(0, end - at, o_.backbone, at, end - at) == 0) return true;
      at = end + 1;
    }
    return false;
  }
  nlohmann::json settings(std::uint64_t total) const {
    return {{"network", net_.name},
            {"classes", info_.classes},
            {"bands", info_.bands},
            {"batch", o_.batch},
            {"crop", o_.augment.crop_height},
            {"seed", o_.seed},
            {"steps", total},
            {"minutes", o_.minutes},
            {"accumulate", o_.accumulate},
            {"optimizer", int(o_.optimizer.kind)},
            {"lr", o_.schedule.base},
            {"schedule", o_.schedule.kind},
            {"loss", loss_settings(o_.loss)},
            {"class_weights", o_.class_weights},
            {"balance", o_.sampling.balance},
            {"penalties_from", o_.penalties_from},
            {"images", train_set_->size()}};
  }
  void accumulate(std::vector<float>& sum, bool first) {
    const auto& g = model_.training().gradients();
    if (first)
      sum = g;
    else
      for (std::size_t i = 0; i < g.size(); ++i) sum[i] += g[i];
  }
  /// Swaps in the averaged weights while f runs, if there are any. Running statistics are not averaged.
  template <class F>
  void with_average(optimizer<float>& opt, const F& f) {
    auto& values = model_.weights().values();
    std::vector<float> kept;
    if (!opt.average().empty()) {
      kept = values;
      for (const stored_tensor& t : model_.weights().entries())
        if (t.trained) std::copy_n(opt.average().begin() + std::ptrdiff_t(t.offset), t.size, values.begin() + std::ptrdiff_t(t.offset));
      model_.weights().touch();
    }
    f();
    if (!kept.empty()) std::copy(kept.begin(), kept.end(), values.begin()), model_.weights().touch();
  }
  template <class Log>
  void validate(optimizer<float>& opt, training_state& s, const train_events& events, const Log& write_log) {
    with_average(opt, [&] {
      const auto options = tiling_of(net_, model_, o_.tile, o_.normalize);
      const scene::predictor predict = o_.predictor ? o_.predictor : predictor_of(model_);
      const confusion_matrix m = evaluate(predict, *val_set_, options, [&](std::size_t, std::size_t, const data::sample&, const auto&) {
        return !(events.interrupted && events.interrupted());
      });
      if (events.interrupted && events.interrupted()) return;
      ++s.evaluations;
      const segmentation_scores scores = m.scores();
      nlohmann::json iou = nlohmann::json::array();
      for (const auto& c : scores.classes) iou.push_back(std::isnan(c.iou) ? nlohmann::json() : nlohmann::json(c.iou));
      write_log({{"step", s.step}, {"val_miou", scores.mean_iou}, {"val_accuracy", scores.pixel_accuracy}, {"val_iou", iou}, {"seconds", s.elapsed}});
      if (scores.mean_iou > s.best_miou) {
        s.best_miou = scores.mean_iou;
        write_weights(s);
      }
      if (events.validated) events.validated(s, m);
    });
  }
  void save_weights(optimizer<float>& opt, const training_state& s) {
    with_average(opt, [&] { write_weights(s); });
  }
  void write_weights(const training_state& s) {
    auto metadata = info_.to_metadata();
    metadata["rsseg.step"] = std::to_string(s.step);
    if (s.best_miou >= 0) metadata["rsseg.val_miou"] = std::to_string(s.best_miou);
    io::write_safetensors(o_.out + "/weights.safetensors", weights_as_tensors(model_.weights()), metadata);
  }

  const network_entry& net_;
  basic_model<float>& model_;
  std::shared_ptr<const data::dataset> train_set_, val_set_;
  weights_info info_;
  train_options o_;
};

}  // namespace rsseg::train
