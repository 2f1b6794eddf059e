// SPDX-License-Identifier: MIT
// Adversarial pre-training: a generator of class maps and a discriminator that tells them from labels, one optimiser each, by turns
// (Goodfellow et al., NIPS 2014; on label maps Luc et al., 2016). First stage of SMAF-Net (nets/smaf_net.hpp).
//   1. generator:      loss of its scores + what it has declared as adversarial penalty; the discriminator's weights stay
//   2. discriminator:  on (image, labels as one-hot maps) and (image, the maps of step 1); it then goes to the generator's copy
// Both take the maps of one forward pass. Where labels are ignored the real maps are the generator's: nothing is to be told apart there.
// The discriminator's running statistics are those of its own steps. A function of options and seed, bit for bit, also across --resume.
#pragma once
#include <chrono>
#include <filesystem>

#include "rsseg/train/run_log.hpp"
#include "rsseg/train/trainer.hpp"

namespace rsseg::train {

/// Labels as maps of 0 and 1 (N,K,H,W); ignored pixels get the values of `elsewhere`.
inline tensor<float> one_hot(const tensor<std::int32_t>& labels, int ignore, const tensor<float>& elsewhere) {
  const shape s = elsewhere.extent();
  tensor<float> out(s);
  for (std::size_t i = 0; i < labels.size(); ++i)
    for (int k = 0; k < s.c; ++k) {
      const std::size_t at = i * std::size_t(s.c) + std::size_t(k);
      out.data()[at] = labels.data()[i] == ignore ? elsewhere.data()[at] : float(labels.data()[i] == k);
    }
  return out;
}

/// Parameters and buffers whose names start with `prefix` go from one store to the other; returns how many there were.
inline int copy_weights(const parameter_store<float>& from, parameter_store<float>& to, const std::string& prefix = "") {
  int copied = 0;
  for (std::size_t e = 0; e < from.entries().size(); ++e) {
    const stored_tensor& t = from.entries()[e];
    const int at = t.name.rfind(prefix, 0) == 0 ? to.find(t.name) : -1;
    if (at < 0 || to.entries()[std::size_t(at)].size != t.size) continue;
    std::copy_n(from.data(int(e)), t.size, to.data(at));
    ++copied;
  }
  to.touch();
  return copied;
}

class adversarial_trainer {
 public:
  /// options: length, batch, loss, data, checkpoints and folder as of a training; its optimiser is the stage's.
  adversarial_trainer(const adversarial_stage& stage, const build_options& build, std::shared_ptr<const data::dataset> set,
                      const train_options& options)
      : stage_(stage), generator_(stage.generator, build), discriminator_(stage.discriminator, build), set_(std::move(set)), o_(options) {
    generator_.weights().initialise(o_.seed);
    discriminator_.weights().initialise(o_.seed);
    copy_weights(discriminator_.weights(), generator_.weights());
  }
  basic_model<float>& generator() { return generator_; }
  basic_model<float>& discriminator() { return discriminator_; }
  /// What was learnt goes to a network with parameters of these names. Throws usage_error if it has none of them.
  void give(parameter_store<float>& to) {
    const std::string fixed = stage_.fixed;
    if (copy_weights(generator_.weights(), to) + copy_weights(discriminator_.weights(), to) == 0)
      throw usage_error("adversarial pre-training: the network has no parameter of the generator or the discriminator");
  }

  /// Trains until the length of the options is reached. log.jsonl: loss (the generator's, whole), adversarial (its penalty), discriminator
  /// (its loss), learning rate. Throws as trainer::run.
  train_result run(const train_events& events) {
    namespace fs = std::filesystem;
    if (o_.steps == 0 && o_.epochs <= 0 && o_.minutes <= 0) throw usage_error("say how long to train: --epochs, --steps or --minutes");
    std::error_code none;
    fs::create_directories(o_.out, none);
    if (!fs::is_directory(o_.out, none)) throw output_error(o_.out + ": cannot be made a folder; choose another --out");
    const int classes = generator_.options().classes;
    o_.loss.class_weights = !o_.class_weights.empty();
    tensor<float> weights_input(shape{1, std::max(1, int(o_.class_weights.size())), 1, 1});
    std::copy(o_.class_weights.begin(), o_.class_weights.end(), weights_input.data());
    generator_.set_memory_limit(o_.memory_limit), discriminator_.set_memory_limit(o_.memory_limit);
    generator_.prepare_training(o_.loss, o_.recompute.value_or(true));
    discriminator_.prepare_training(graph::loss_options{}, o_.recompute.value_or(true));
    const auto& g = generator_.training().graph();
    const int fake_at = g.find_output("fake"), deceived_at = g.find_output("adversarial");
    if (fake_at < 0 || deceived_at < 0) throw usage_error("adversarial pre-training: the generator has no output 'fake' or 'adversarial'");

    optimizer_options adam;
    adam.kind = optimizer_kind::adam, adam.momentum = stage_.beta1, adam.beta2 = stage_.beta2;
    optimizer<float> generator_opt(generator_.weights(), adam), discriminator_opt(discriminator_.weights(), adam);
    const std::string fixed = stage_.fixed;
    generator_opt.scale_rate(0, [&](const std::string& name) { return name.rfind(fixed, 0) == 0; });

    data::loader_options lo;
    lo.batch = o_.batch, lo.workers = o_.workers, lo.seed = o_.seed, lo.augment = o_.augment, lo.sampling = o_.sampling, lo.normalize = o_.normalize;
    data::loader loader(set_, lo);
    std::uint64_t total = o_.steps;
    if (total == 0 && o_.epochs > 0) total = std::max<std::uint64_t>(1, std::uint64_t(std::ceil(o_.epochs * double(loader.batches_per_epoch()))));

    train_result result;
    training_state& s = result.state;
    s.settings = {{"stage", "adversarial"},
                  {"classes", classes},
                  {"batch", o_.batch},
                  {"crop", o_.augment.crop_height},
                  {"seed", o_.seed},
                  {"steps", total},
                  {"minutes", o_.minutes},
                  {"loss", loss_settings(o_.loss)},
                  {"lr", stage_.learning_rate},
                  {"balance", o_.sampling.balance},
                  {"images", set_->size()},
                  {"class_weights", o_.class_weights}};
    const std::string checkpoint = o_.out + "/checkpoint.safetensors";
    const checkpoint_part parts[] = {{"generator.", &generator_.weights(), &generator_opt},
                                     {"discriminator.", &discriminator_.weights(), &discriminator_opt}};
    const bool resumed = o_.resume && fs::exists(checkpoint, none);
    if (resumed) {
      s = load_checkpoint(checkpoint, parts, s.settings);
      loader.restore(s.position);
      if (events.message) events.message("pre-training resumed at step " + std::to_string(s.step));
    }
    run_log log(o_.out + "/log.jsonl", resumed, s.step);
    const auto start = std::chrono::steady_clock::now();
    const double before = s.elapsed;
    const auto elapsed = [&] { return before + std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(); };
    const auto progress = [&] {
      return std::min(1.0, std::max(total ? double(s.step) / double(total) : 0, o_.minutes > 0 ? s.elapsed / (60 * o_.minutes) : 0));
    };
    double last_checkpoint = elapsed();
    while (progress() < 1) {
      const data::batch b = loader.next();
      check_labels(b.targets, classes, o_.loss.ignore, [&](int n) { return set_->name(b.index[std::size_t(n)]); });
      std::vector<const tensor<float>*> inputs{&b.images};
      if (!o_.class_weights.empty()) inputs.push_back(&weights_input);
      const double loss = generator_.train_step(inputs, b.targets, cpu::run_state{o_.seed, 2 * s.step});
      const auto& engine = generator_.training();
      const tensor<float> fake = basic_model<float>::copy_of(engine, engine.graph().outputs[fake_at].node);
      const double adversarial = double(*engine.value(engine.graph().outputs[deceived_at].node));
      const tensor<float> real = one_hot(b.targets, o_.loss.ignore, fake);
      const tensor<float>* pair[] = {&b.images, &real, &fake};
      const double judged = discriminator_.train_step(pair, b.targets, cpu::run_state{o_.seed, 2 * s.step + 1});
      if (!std::isfinite(loss) || !std::isfinite(judged))
        throw numeric_error("the loss of the " + std::string(std::isfinite(loss) ? "discriminator" : "generator") + " is not finite at step " +
                            std::to_string(s.step + 1) + " of the pre-training; use another --seed or a larger --batch");
      generator_opt.step(generator_.training().gradients(), stage_.learning_rate);
      discriminator_opt.step(discriminator_.training().gradients(), stage_.learning_rate);
      copy_weights(discriminator_.weights(), generator_.weights());
      ++s.step;
      s.position = loader.state();
      s.elapsed = elapsed();
      s.running_loss = s.step == 1 ? loss : 0.95 * s.running_loss + 0.05 * loss;
      result.last_loss = loss;
      log.write({{"step", s.step},
                 {"loss", loss},
                 {"adversarial", adversarial},
                 {"discriminator", judged},
                 {"lr", stage_.learning_rate},
                 {"seconds", s.elapsed}});
      if (events.step) events.step(s, judged, stage_.learning_rate, progress());
      const bool done = progress() >= 1, stop = !done && events.interrupted && events.interrupted();
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
    return result;
  }

 private:
  adversarial_stage stage_;
  basic_model<float> generator_, discriminator_;
  std::shared_ptr<const data::dataset> set_;
  train_options o_;
};

}  // namespace rsseg::train
