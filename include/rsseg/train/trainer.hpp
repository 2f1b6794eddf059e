// SPDX-License-Identifier: MIT
// Trains a segmenter on a data set: batches, loss, gradients, optimiser, validation, checkpoints, a log of JSON lines.
// With a number of steps or epochs a run is a function of its options and seed, bit for bit, also across a stop and --resume; with a time
// limit the learning rate follows the clock.
#pragma once
#include <time.h>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <functional>
#include <optional>

#include "rsseg/data/statistics.hpp"
#include "rsseg/io/atomic_file.hpp"
#include "rsseg/train/checkpoint.hpp"
#include "rsseg/train/cuda_learner.hpp"
#include "rsseg/train/evaluate.hpp"
#include "rsseg/train/schedule.hpp"

namespace rsseg::train {

struct train_options {
  std::uint64_t steps = 0;  ///< optimiser steps; 0: from epochs
  double epochs = 0;
  double minutes = 0;             ///< a time limit; alone, it is the length of the training
  bool processor_time = false;    ///< minutes and elapsed seconds are the program's processor time, all threads, without
                                  ///< validations: fair between networks and on a shared machine
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
  std::optional<bool> recompute;  ///< cheap values again in the backward pass instead of keeping them, the same bits; not said: on the CPU only
  bool resume = false;
  std::size_t memory_limit = 0;
  double head_rate = 1;                ///< learning-rate factor outside the backbone
  std::string backbone;                ///< prefixes of the backbone's parameters, separated by commas
  double penalties_from = 0;           ///< part of the training after which the network's penalties count (on the CPU)
  std::shared_ptr<cuda_learner> cuda;  ///< trains there; null: on the CPU
  std::string out;                     ///< folder of weights.safetensors, checkpoint.safetensors, log.jsonl
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

/// A stage of a system of several networks (scene/): its weights, the loss and gradients of a batch, and what they are worth.
class learner {
 public:
  virtual ~learner() = default;
  virtual parameter_store<float>& weights() = 0;
  /// Before the first step.
  virtual void prepare(const train_options& o) = 0;
  /// Loss of one batch; class_weights (1,K,1,1) or null. A step is a function of the weights, the batch and the state.
  virtual double step(const data::batch& b, const tensor<float>* class_weights, const train_options& o, const cpu::run_state& state) = 0;
  /// Of the last step, laid out like weights().values().
  virtual std::vector<float>& gradients() = 0;
  virtual confusion_matrix validate(const data::dataset& set, const train_options& o, const image_callback& each) = 0;
};

class trainer {
 public:
  trainer(const network_entry& net, basic_model<float>& model, std::shared_ptr<const data::dataset> train_set,
          std::shared_ptr<const data::dataset> val_set, const weights_info& info, const train_options& options)
      : name_(net.name), net_(&net), model_(&model), train_set_(std::move(train_set)), val_set_(std::move(val_set)), info_(info), o_(options) {}
  /// name: what a checkpoint must have been made by to be resumed.
  trainer(std::string name, learner& stage, std::shared_ptr<const data::dataset> train_set, std::shared_ptr<const data::dataset> val_set,
          const weights_info& info, const train_options& options)
      : name_(std::move(name)), stage_(&stage), train_set_(std::move(train_set)), val_set_(std::move(val_set)), info_(info), o_(options) {}

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
    bool with_penalties = o_.penalties_from <= 0 || o_.cuda != nullptr;
    optimizer<float> opt(weights(), o_.optimizer);
    if (o_.head_rate != 1 && !o_.backbone.empty()) opt.scale_rate(o_.head_rate, [&](const std::string& name) { return !in_backbone(name); });
    prepare(opt, with_penalties);

    data::loader_options lo;
    lo.batch = o_.batch, lo.workers = o_.workers, lo.seed = o_.seed, lo.augment = o_.augment, lo.sampling = o_.sampling, lo.normalize = o_.normalize;
    data::loader loader(train_set_, lo);
    std::uint64_t total = o_.steps;
    if (total == 0 && o_.epochs > 0)
      total = std::max<std::uint64_t>(1, std::uint64_t(std::ceil(o_.epochs * double(loader.batches_per_epoch()) / o_.accumulate)));

    train_result result;
    training_state& s = result.state;
    s.settings = settings(total);
    const std::string checkpoint = o_.out + "/checkpoint.safetensors", log_path = o_.out + "/log.jsonl";
    if (o_.resume && fs::exists(checkpoint, none)) {
      s = load_checkpoint(checkpoint, weights(), opt, s.settings);
      if (o_.cuda) o_.cuda->push(opt);
      loader.restore(s.position);
      result.log = read_log(log_path, s.step);
      if (events.message) events.message("resumed at step " + std::to_string(s.step));
    } else if (o_.resume && events.message) {
      events.message("nothing to resume in " + o_.out + ": starting anew");
    }
    {
      std::string lines;
      for (const auto& l : result.log) lines += l.dump() + "\n";
      io::write_file(log_path, lines);
    }
    std::FILE* log = std::fopen(log_path.c_str(), "a");
    if (!log) throw output_error(log_path + ": cannot be written");
    const std::unique_ptr<std::FILE, int (*)(std::FILE*)> close_log(log, &std::fclose);
    const auto write_log = [&](const nlohmann::json& j) {
      result.log.push_back(j);
      const std::string line = j.dump() + "\n";
      if (std::fwrite(line.data(), 1, line.size(), log) != line.size() || std::fflush(log) != 0)
        throw output_error(log_path + ": disk full; free some space and --resume");
    };

    const auto now = [&] {
      if (!o_.processor_time) return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
      timespec t{};
      ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
      return double(t.tv_sec) + 1e-9 * double(t.tv_nsec);
    };
    double start = now();
    const double before = s.elapsed;
    const auto elapsed = [&] { return before + (now() - start); };
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
    // What is known of a step once its loss is: on a device that is one step later, so that the device never waits for the host.
    struct launched {
      training_state state;
      std::vector<std::uint64_t> runs;
      double loss, lr, progress;
    };
    std::vector<launched> open;
    const auto settle = [&](std::size_t keep) {
      while (open.size() > keep) {
        launched l = std::move(open.front());
        open.erase(open.begin());
        for (std::uint64_t run : l.runs) l.loss += o_.cuda->loss(run) / o_.accumulate;
        if (!std::isfinite(l.loss))
          throw numeric_error("the loss became " + std::string(std::isnan(l.loss) ? "NaN" : "infinite") + " at step " + std::to_string(l.state.step) +
                              " (learning rate " + nlohmann::json(l.lr).dump() + "); " +
                              (fs::exists(checkpoint, none) ? "the last checkpoint is kept in " + o_.out + "; " : "") +
                              "use a lower --lr or --clip 1");
        l.state.running_loss = l.state.step == 1 ? l.loss : 0.95 * s.running_loss + 0.05 * l.loss;
        s.running_loss = l.state.running_loss;
        result.last_loss = l.loss;
        write_log({{"step", l.state.step},
                   {"epoch", double(l.state.position.epoch) + double(l.state.position.number) / double(loader.batches_per_epoch())},
                   {"loss", l.loss},
                   {"lr", l.lr},
                   {"seconds", l.state.elapsed}});
        if (events.step) events.step(l.state, l.loss, l.lr, l.progress);
      }
    };
    bool done = progress() >= 1, labelled = done, warned = false;
    while (!done) {
      if (!with_penalties && progress() >= o_.penalties_from) prepare(opt, with_penalties = true);
      const double lr = o_.schedule.at(progress());
      double loss = 0;
      std::vector<std::uint64_t> runs;
      for (int a = 0; a < o_.accumulate; ++a) {
        const data::batch b = loader.next();
        check_labels(b.targets, info_.classes, o_.loss.ignore, [&](int n) { return train_set_->name(b.index[std::size_t(n)]); });
        labelled = labelled || std::any_of(b.targets.begin(), b.targets.end(), [&](std::int32_t t) { return t != o_.loss.ignore; });
        const std::uint64_t number = s.step * std::uint64_t(o_.accumulate) + std::uint64_t(a);
        if (stage_) {
          loss += stage_->step(b, class_weights.empty() ? nullptr : &weights_input, o_, cpu::run_state{o_.seed, number}) / o_.accumulate;
          if (o_.accumulate > 1) accumulate(accumulated, a == 0);
          continue;
        }
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
        const auto& targets = o_.inputs ? labels : b.targets;
        if (o_.cuda) {
          runs.push_back(o_.cuda->start(inputs, targets, cpu::run_state{o_.seed, number}));
          if (o_.accumulate > 1) o_.cuda->accumulate();
          if (runs.size() > 16) loss += o_.cuda->loss(runs.front()) / o_.accumulate, runs.erase(runs.begin());  // only so many are kept
          continue;
        }
        loss += model_->train_step(inputs, targets, cpu::run_state{o_.seed, number}) / o_.accumulate;
        if (o_.accumulate > 1) accumulate(accumulated, a == 0);
      }
      if (o_.cuda)
        o_.cuda->update(lr, 1.0 / o_.accumulate);
      else if (std::isfinite(loss))
        opt.step(o_.accumulate > 1 ? accumulated : gradients(), lr, 1.0 / o_.accumulate);
      ++s.step;
      s.position = loader.state();
      s.elapsed = elapsed();
      const double p = progress();
      done = p >= 1;
      if (!labelled && !warned && (done || s.step >= 20) && events.message) {
        events.message("no crop so far has a pixel with a label, so that nothing is learnt: look at the masks, and at the ignored id " +
                       std::to_string(o_.loss.ignore));
        warned = true;
      }
      open.push_back({s, std::move(runs), loss, lr, p});
      settle(o_.cuda ? 1 : 0);
      if (val_set_ && (done || p >= next_validation)) {
        settle(0);
        fetch(opt);
        while (o_.evaluate_every > 0 && next_validation <= p) next_validation += o_.evaluate_every;
        const double from = now();
        validate(opt, s, events, write_log);
        if (o_.processor_time) start += now() - from;
      }
      const bool stop = !done && events.interrupted && events.interrupted();
      if (done || stop || elapsed() - last_checkpoint > o_.checkpoint_seconds || (o_.checkpoint_steps && s.step % o_.checkpoint_steps == 0)) {
        settle(0);
        fetch(opt);
        save_checkpoint(checkpoint, weights(), opt, s);
        last_checkpoint = elapsed();
      }
      if (stop) {
        result.interrupted = true;
        return result;
      }
    }
    settle(0);
    fetch(opt);
    if (!val_set_) save_weights(opt, s);
    return result;
  }

 private:
  parameter_store<float>& weights() { return stage_ ? stage_->weights() : model_->weights(); }
  std::vector<float>& gradients() { return stage_ ? stage_->gradients() : model_->training().gradients(); }
  void prepare(optimizer<float>& opt, bool with_penalties) {
    if (stage_) {
      if (o_.cuda) throw usage_error("systems of several networks train on the CPU; leave --device out");
      return stage_->prepare(o_);
    }
    model_->set_memory_limit(o_.memory_limit);
    build_options lowered = model_->options();
    lowered.training = true;
    graph::graph g = lower_network(model_->build(), lowered);
    if (o_.prepare) o_.prepare(g);
    if (!with_penalties) g.penalties.clear();
    if (o_.cuda)
      o_.cuda->prepare(std::move(g), o_.loss, o_.recompute.value_or(false), opt);
    else
      model_->prepare_training(std::move(g), o_.loss, o_.recompute.value_or(true));
  }
  /// What the device has to the host.
  void fetch(optimizer<float>& opt) {
    if (o_.cuda) o_.cuda->fetch(opt);
  }
  scene::predictor own_predictor() {
    const int vote = net_ ? net_->vote : 0;
    if (o_.cuda) return voting([learner = o_.cuda](const tensor<float>& x) { return learner->infer(x); }, vote);
    return predictor_of(*model_, vote);
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
    return {{"network", name_},
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
  static std::vector<nlohmann::json> read_log(const std::string& path, std::uint64_t until) {
    std::vector<nlohmann::json> lines;
    std::ifstream in(path);
    for (std::string line; std::getline(in, line);) {
      const auto j = nlohmann::json::parse(line, nullptr, false);
      if (!j.is_discarded() && j.is_object() && j.value("step", std::uint64_t(0)) <= until) lines.push_back(j);
    }
    return lines;
  }
  void accumulate(std::vector<float>& sum, bool first) {
    const auto& g = gradients();
    if (first)
      sum = g;
    else
      for (std::size_t i = 0; i < g.size(); ++i) sum[i] += g[i];
  }
  /// Swaps in the averaged weights while f runs, if there are any. Running statistics are not averaged.
  template <class F>
  void with_average(optimizer<float>& opt, const F& f) {
    auto& values = weights().values();
    std::vector<float> kept;
    if (!opt.average().empty()) {
      kept = values;
      for (const stored_tensor& t : weights().entries())
        if (t.trained) std::copy_n(opt.average().begin() + std::ptrdiff_t(t.offset), t.size, values.begin() + std::ptrdiff_t(t.offset));
      weights().touch();
    }
    f();
    if (!kept.empty()) std::copy(kept.begin(), kept.end(), values.begin()), weights().touch();
  }
  template <class Log>
  void validate(optimizer<float>& opt, training_state& s, const train_events& events, const Log& write_log) {
    with_average(opt, [&] {
      const auto each = [&](std::size_t, std::size_t, const data::sample&, const auto&) { return !(events.interrupted && events.interrupted()); };
      const confusion_matrix m =
          stage_ ? stage_->validate(*val_set_, o_, each)
                 : evaluate(o_.predictor ? o_.predictor : own_predictor(), *val_set_, tiling_of(*net_, *model_, o_.tile, o_.normalize), each);
      if (events.interrupted && events.interrupted()) return;
      ++s.evaluations;
      const segmentation_scores scores = m.scores();
      nlohmann::json iou = nlohmann::json::array();
      for (const auto& c : scores.classes) iou.push_back(std::isnan(c.iou) ? nlohmann::json() : nlohmann::json(c.iou));
      write_log({{"step", s.step}, {"val_miou", scores.mean_iou}, {"val_accuracy", scores.pixel_accuracy}, {"val_iou", iou}, {"seconds", s.elapsed}});
      // A validation without a labelled pixel says nothing: the last weights stay.
      const bool says_nothing = std::isnan(scores.mean_iou) && s.best_miou < 0;
      if (scores.mean_iou > s.best_miou || says_nothing) {
        if (!says_nothing) s.best_miou = scores.mean_iou;
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
    io::write_safetensors(o_.out + "/weights.safetensors", weights_as_tensors(weights()), metadata);
  }

  std::string name_;
  const network_entry* net_ = nullptr;  // a network,
  basic_model<float>* model_ = nullptr;
  learner* stage_ = nullptr;  // or a stage of a system
  std::shared_ptr<const data::dataset> train_set_, val_set_;
  weights_info info_;
  train_options o_;
};

}  // namespace rsseg::train
