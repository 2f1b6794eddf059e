// SPDX-License-Identifier: MIT
// Batches for training and evaluation, made ahead of time by worker threads. Batch b of epoch e is a function of (seed, e, b), so
// neither their number nor their timing changes what a network sees, and a loader put back to a saved position goes on bitwise.
#pragma once
#include <algorithm>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "rsseg/core/error.hpp"
#include "rsseg/core/random.hpp"
#include "rsseg/core/tensor.hpp"
#include "rsseg/data/augment.hpp"
#include "rsseg/data/dataset.hpp"
#include "rsseg/data/normalize.hpp"
#include "rsseg/data/sampler.hpp"

namespace rsseg::data {

struct loader_options {
  int batch = 1;
  int workers = 2;        ///< threads; 0: batches are made when asked for, in the caller's thread
  int prefetch = 4;       ///< batches made ahead, at least 1
  bool fill_last = true;  ///< an epoch's last batch is filled up with further draws; false: it may be smaller (evaluation)
  std::uint64_t seed = 1;
  augment_options augment;
  sampler_options sampling;
  normalization normalize;
};

struct batch {
  tensor<float> images;                 ///< (N,C,H,W), normalised
  tensor<std::int32_t> targets;         ///< (N,1,H,W), class ids and the ignored id
  std::vector<std::size_t> index;       ///< which image of the set each one is
  std::uint64_t epoch = 0, number = 0;  ///< this is batch `number` of `epoch`
  bool last_of_epoch = false;
};

/// Where a loader stands: the batch that next() gives next.
struct loader_state {
  std::uint64_t epoch = 0, number = 0;
  friend bool operator==(const loader_state&, const loader_state&) = default;
};

class loader {
 public:
  /// The loader shares ownership of the set. Throws usage_error on bad options, input_error from counting classes.
  loader(std::shared_ptr<const dataset> set, const loader_options& options)
      : set_(std::move(set)), options_(options), sampler_(*set_, options.sampling, options.seed) {
    if (options.batch < 1) throw usage_error("batch size is " + std::to_string(options.batch) + "; expected 1 or more");
    if (options.workers < 0) throw usage_error("number of loader threads is " + std::to_string(options.workers) + "; expected 0 or more");
    options_.prefetch = std::max(1, options_.prefetch);
    options_.augment.check();
    options_.normalize.require_bands(set_->bands());
    start();
  }
  loader(const loader&) = delete;
  loader& operator=(const loader&) = delete;
  ~loader() { stop(); }

  std::uint64_t batches_per_epoch() const {
    const std::uint64_t b = std::uint64_t(options_.batch);
    return (sampler_.draws_per_epoch() + b - 1) / b;
  }
  const dataset& set() const { return *set_; }

  /// The next batch, epoch after epoch without end. An error met while making it is thrown here, and names the file; the loader
  /// then stands behind that batch.
  batch next() {
    const std::uint64_t ticket = consumed_;
    if (workers_.empty()) {
      ++consumed_;
      return make(ticket);
    }
    std::unique_lock lock(mutex_);
    arrived_.wait(lock, [&] { return ready_.count(ticket) != 0; });
    result r = std::move(ready_.at(ticket));
    ready_.erase(ticket);
    ++consumed_;
    lock.unlock();
    wanted_.notify_all();
    if (r.failure) std::rethrow_exception(r.failure);
    return std::move(r.made);
  }

  loader_state state() const { return {consumed_ / batches_per_epoch(), consumed_ % batches_per_epoch()}; }
  /// Goes to a saved position; batches made ahead are thrown away.
  void restore(const loader_state& s) {
    stop();
    consumed_ = s.epoch * batches_per_epoch() + s.number;
    start();
  }

 private:
  struct result {
    batch made;
    std::exception_ptr failure;
  };

  /// Batch `ticket`, counted from the first of epoch 0. Reads only immutable members: any thread may call it.
  batch make(std::uint64_t ticket) const {
    batch b;
    b.epoch = ticket / batches_per_epoch(), b.number = ticket % batches_per_epoch();
    b.last_of_epoch = b.number + 1 == batches_per_epoch();
    const std::uint64_t first = b.number * std::uint64_t(options_.batch);
    std::uint64_t count = std::uint64_t(options_.batch);
    if (!options_.fill_last) count = std::min(count, std::uint64_t(sampler_.draws_per_epoch()) - first);
    for (std::uint64_t i = 0; i < count; ++i) {
      const sampler::draw d = sampler_.at(b.epoch, first + i);
      const auto s = set_->load(d.image);
      const int h = options_.augment.crop_height ? options_.augment.crop_height : s->image.height;
      const int w = options_.augment.crop_width ? options_.augment.crop_width : s->image.width;
      if (i == 0) {
        b.images = tensor<float>(shape{int(count), s->image.bands, h, w});
        b.targets = tensor<std::int32_t>(shape{int(count), 1, h, w});
      } else if (h != b.targets.extent().h || w != b.targets.extent().w) {
        throw input_error(s->name + ": " + std::to_string(w) + "x" + std::to_string(h) + " pixels in one batch with an image of " +
                          std::to_string(b.targets.extent().w) + "x" + std::to_string(b.targets.extent().h) + "; set a crop size, or batch size 1");
      }
      random_stream random(options_.seed ^ 0x4155474D454E5421u, b.epoch << 32 | (first + i));
      const focus_point focus = find_focus(d, s->labels, random);
      const std::size_t pixels = std::size_t(h) * std::size_t(w);
      augment_into(*s, options_.augment, options_.normalize, set_->classes().ignore_id, random,
                   b.images.data() + i * pixels * std::size_t(s->image.bands), b.targets.data() + i * pixels, focus);
      b.index.push_back(d.image);
    }
    return b;
  }

  void start() {
    stopping_ = false;
    taken_ = consumed_;
    for (int t = 0; t < options_.workers; ++t) workers_.emplace_back([this] { work(); });
  }
  void stop() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    wanted_.notify_all();
    for (auto& t : workers_) t.join();
    workers_.clear();
    ready_.clear();
  }
  void work() {
    for (;;) {
      std::uint64_t ticket;
      {
        std::unique_lock lock(mutex_);
        wanted_.wait(lock, [&] { return stopping_ || taken_ < consumed_ + std::uint64_t(options_.prefetch); });
        if (stopping_) return;
        ticket = taken_++;
      }
      result r;
      try {
        r.made = make(ticket);
      } catch (...) {
        r.failure = std::current_exception();
      }
      {
        const std::lock_guard lock(mutex_);
        ready_.emplace(ticket, std::move(r));
      }
      arrived_.notify_all();
    }
  }

  std::shared_ptr<const dataset> set_;
  loader_options options_;
  sampler sampler_;
  std::uint64_t consumed_ = 0;  // batches handed out; written by the consumer under the lock
  std::uint64_t taken_ = 0;     // batches some worker has begun
  bool stopping_ = false;
  std::map<std::uint64_t, result> ready_;
  std::mutex mutex_;
  std::condition_variable wanted_, arrived_;
  std::vector<std::thread> workers_;
};

}  // namespace rsseg::data
