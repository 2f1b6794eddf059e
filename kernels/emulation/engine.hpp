// SPDX-License-Identifier: MIT
// Runs CUDA kernels on the host. The threads of a block are fibers; a fiber runs one CUDA thread after the other until one has to wait, so
// that a kernel without barriers costs no switch at all. A wait (barrier, warp operation, mbarrier) parks the thread; the last one to arrive
// performs the operation and makes the others ready. When nothing can run any more, the engine says why: that is a bug in the kernel.
#pragma once
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <map>
#include <source_location>
#include <string>

#include "fiber.hpp"

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  constexpr dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
};
// One operating-system thread emulates, so plain globals serve as CUDA's built-in variables; the engine sets them at every switch.
inline uint3 threadIdx{}, blockIdx{};
inline dim3 blockDim{}, gridDim{};

namespace rsseg::emulation {

#if defined(__cpp_lib_source_location)
using site = std::source_location;
#else
/// std::source_location for clang 14, which has no built-in for libstdc++'s.
class site {
 public:
  static constexpr site current(const char* file = __builtin_FILE(), unsigned line = __builtin_LINE(), unsigned column = __builtin_COLUMN()) {
    site s;
    s.file_ = file, s.line_ = line, s.column_ = column;
    return s;
  }
  constexpr const char* file_name() const { return file_; }
  constexpr unsigned line() const { return line_; }
  constexpr unsigned column() const { return column_; }

 private:
  const char* file_ = "";
  unsigned line_ = 0, column_ = 0;
};
#endif

/// A mistake in a kernel, or a launch the device would refuse. Names kernel, block, thread, file and line.
class kernel_fault : public error {
 public:
  using error::error;
};

enum class order { forward, reverse, shuffled };

struct options {
  order schedule = order::forward;      ///< in which order blocks and threads run
  std::uint64_t seed = 1;               ///< of order::shuffled
  bool allow_early_exit = false;        ///< a thread that returned counts as arrived at __syncthreads (what sm_70+ does)
  std::size_t max_shared = 227 * 1024;  ///< bytes of dynamic shared memory a block may have
  unsigned max_threads = 1024;          ///< threads per block
};
inline options& settings() {
  static options o;
  return o;
}

struct counters {
  std::uint64_t blocks = 0, threads = 0, barrier_arrivals = 0, warp_arrivals = 0;
};

enum class wait_kind : std::uint8_t { none, barrier, group, mbarrier };
enum class thread_state : std::uint8_t { fresh, running, ready, waiting, finished };

struct async_copy {
  void* to;
  const void* from;  // null: zero fill
  int bytes;
  int group;
};

/// Everything the engine knows of one CUDA thread. `print emulation::the_engine().threads[5]` in gdb.
struct thread_record {
  uint3 index{};
  thread_state state = thread_state::fresh;
  wait_kind waits_for = wait_kind::none;
  fiber* home = nullptr;
  site where{};
  int barrier = 0, barrier_count = 0, predicate = 0, votes = 0, voters = 0;  // wait_kind::barrier
  int operation = 0;                                                         // wait_kind::group: what, with whom, and its operands
  unsigned mask = 0;
  std::uint64_t in = 0, out = 0;
  int arg0 = 0, arg1 = 0;
  void* payload = nullptr;
  const void* mbarrier = nullptr;  // wait_kind::mbarrier
  unsigned parity = 0;
  std::vector<async_copy> copies;  // cp.async not yet landed
  int open_group = 0;
  // wgmma not yet waited for, and the accumulators they work on
  struct product {
    float* accumulator;
    const void* a;
    int step_a;
    const void* b;
    int step_b;
    int group;
    void (*run)(thread_record* group, std::size_t which);
  };
  std::vector<product> products;
  std::map<float*, std::vector<float>> accumulators;
  int open_product_group = 0;
};

inline std::string text(const site& s) { return std::string(s.file_name()) + ":" + std::to_string(s.line()); }
inline bool same(const site& a, const site& b) {
  return a.line() == b.line() && a.column() == b.column() && std::strcmp(a.file_name(), b.file_name()) == 0;
}

class engine;
engine& the_engine();

class engine {
 public:
  std::vector<thread_record> threads;
  counters stats;
  const char* kernel = "";
  std::map<std::string, std::size_t> shared_used;  ///< by kernel, the most dynamic shared memory of any launch

  engine() : fibers_(&engine::entry) {}

  thread_record& me() { return threads[std::size_t(current_)]; }
  int my_number() const { return current_; }
  void* shared() { return shared_; }
  std::size_t shared_bytes() const { return shared_bytes_; }
  bool inside() const { return current_ >= 0; }

  std::string name(const thread_record& t) const {
    auto three = [](auto a, auto b, auto c) { return "(" + std::to_string(a) + "," + std::to_string(b) + "," + std::to_string(c) + ")"; };
    return "block " + three(blockIdx.x, blockIdx.y, blockIdx.z) + " thread " + three(t.index.x, t.index.y, t.index.z);
  }
  /// Ends the launch with a kernel_fault. Only this fiber unwinds; the others are dropped where they stand.
  [[noreturn]] void fault(const std::string& what) {
    fault_ = std::string("kernel ") + kernel + ": " + what;
    throw abandon{};
  }

  /// Waits until `count` threads (0: the whole block) have come to barrier `id`; __syncthreads is barrier 0.
  void barrier(int id, int count, int predicate, const site& where) {
    thread_record& t = me();
    ++stats.barrier_arrivals;
    t.barrier = id, t.barrier_count = count == 0 ? int(threads.size()) : count, t.predicate = predicate;
    park(wait_kind::barrier, where);
    if (barrier_is_full(t)) release_barrier(id);
    run_others();
  }
  /// Counts as an arrival at a named barrier without waiting (bar.arrive).
  void barrier_arrive(int id, int count, const site& where) {
    arrived_[id] += 1;
    for (auto& t : threads)
      if (t.state == thread_state::waiting && t.waits_for == wait_kind::barrier && t.barrier == id) {
        if (t.barrier_count != count)
          fault("named barrier " + std::to_string(id) + " used with different counts at " + text(where) + " and " + text(t.where));
        if (barrier_is_full(t)) release_barrier(id);
        return;
      }
  }
  /// An operation of `width` neighbouring threads (32: warp, 128: warp group), of which those in mask take part (width 32 only).
  /// The last to arrive runs action(first record of the group) for all.
  template <class Action>
  void together(int operation, int width, unsigned mask, const site& where, Action&& action) {
    thread_record& t = me();
    ++stats.warp_arrivals;
    const int base = current_ / width * width, lane = current_ - base;
    const int lanes = std::min(width, int(threads.size()) - base);
    if (width == 32 && lanes < 32) mask &= (1u << lanes) - 1u;
    auto takes_part = [&](int i) { return width != 32 || (mask >> i & 1u); };
    if (!takes_part(lane)) fault("warp operation at " + text(where) + ": " + name(t) + " is not in its own mask");
    if (width != 32 && lanes != width) fault("warp-group operation at " + text(where) + " by an incomplete warp group");
    t.operation = operation, t.mask = mask, t.where = where;
    bool complete = true;
    for (int i = 0; i < lanes; ++i) {
      if (i == lane || !takes_part(i)) continue;
      thread_record& o = threads[std::size_t(base + i)];
      if (o.state == thread_state::finished)
        fault("warp operation at " + text(where) + ": lane " + std::to_string(i) + " is in the mask but has returned");
      if (o.state != thread_state::waiting || o.waits_for != wait_kind::group) {
        complete = false;
        continue;
      }
      if (o.mask != mask || o.operation != operation || !same(o.where, where))
        fault("divergent warp operation: " + name(t) + " at " + text(where) + ", " + name(o) + " at " + text(o.where));
    }
    if (!complete) {
      park(wait_kind::group, where);
      run_others();
      return;
    }
    action(&threads[std::size_t(base)]);
    for (int i = 0; i < lanes; ++i)
      if (i != lane && takes_part(i)) make_ready(base + i);
  }

  // --- mbarrier: a counter of arrivals and of bytes still to come, whose phase flips when both reach zero
  struct mbarrier_state {
    int count = 0, pending = 0;
    long long bytes = 0;
    unsigned phase = 0;
    std::vector<async_copy> loading;  // TMA copies of the running phase
    std::vector<async_copy> landing;  // of completed phases, performed by the first thread that waits for them
  };
  void mbarrier_init(const void* at, int count) {
    mbarrier_state s;
    s.count = s.pending = count;
    mbarriers_[at] = s;
  }
  mbarrier_state& mbarrier_at(const void* at, const site& where) {
    auto it = mbarriers_.find(at);
    if (it == mbarriers_.end()) fault("mbarrier used before mbarrier_init at " + text(where) + " by " + name(me()));
    return it->second;
  }
  void mbarrier_update(const void* at, int arrivals, long long bytes, const site& where) {
    mbarrier_state& s = mbarrier_at(at, where);
    s.pending -= arrivals, s.bytes += bytes;
    if (s.pending < 0) fault("mbarrier at " + text(where) + ": more arrivals than its count of " + std::to_string(s.count));
    if (s.pending == 0 && s.bytes == 0) {
      s.phase ^= 1u, s.pending = s.count;
      s.landing.insert(s.landing.end(), s.loading.begin(), s.loading.end());
      s.loading.clear();
      bool woke = false;
      for (std::size_t i = 0; i < threads.size(); ++i)
        if (threads[i].state == thread_state::waiting && threads[i].waits_for == wait_kind::mbarrier && threads[i].mbarrier == at &&
            threads[i].parity != s.phase) {
          woke = true;
          make_ready(int(i));
          if (settings().schedule != order::forward)  // to the front of the queue
            std::rotate(ready_.begin() + std::ptrdiff_t(next_ready_), ready_.end() - 1, ready_.end());
        }
      // Who was waiting runs at once in the other orders: what an arrival allowed too early then happens before anything else.
      if (woke && settings().schedule != order::forward) make_ready(current_), run_others();
    }
  }
  /// Returns once the phase of this parity has completed.
  void mbarrier_wait(const void* at, unsigned parity, const site& where) {
    if (mbarrier_at(at, where).phase == parity) {
      me().mbarrier = at, me().parity = parity;
      park(wait_kind::mbarrier, where);
      run_others();
    }
    mbarrier_state& s = mbarrier_at(at, where);
    for (const async_copy& c : s.landing) land(c);
    s.landing.clear();
  }
  static void land(const async_copy& c) {
    if (c.from)
      std::memcpy(c.to, c.from, std::size_t(c.bytes));
    else
      std::memset(c.to, 0, std::size_t(c.bytes));
  }

  /// Runs body once per thread of every block.
  void run(const char* kernel_name, dim3 grid, dim3 block, std::size_t shared_size, void (*body)(void*), void* argument);

  /// One line per thread that has not finished: where it is and what it waits for. See show_threads.
  std::string describe() const {
    static const char* const waits[] = {"", "barrier", "warp operation", "mbarrier"};
    std::string s;
    for (const auto& t : threads) {
      if (t.state == thread_state::finished || t.state == thread_state::fresh) continue;
      s += name(t) + (t.state == thread_state::waiting ? std::string(" waits for ") + waits[int(t.waits_for)] + " at " + text(t.where)
                                                       : std::string(t.state == thread_state::running ? " runs" : " can run"));
      s += '\n';
    }
    return s;
  }

 private:
  struct abandon {};

  void park(wait_kind kind, const site& where) { me().state = thread_state::waiting, me().waits_for = kind, me().where = where; }
  void make_ready(int i) {
    threads[std::size_t(i)].state = thread_state::ready, threads[std::size_t(i)].waits_for = wait_kind::none;
    ready_.push_back(i);
  }
  bool at_barrier(const thread_record& t, int id) const {
    return t.state == thread_state::waiting && t.waits_for == wait_kind::barrier && t.barrier == id;
  }
  bool barrier_is_full(const thread_record& by) {
    int here = arrived_[by.barrier];
    for (const auto& t : threads) here += at_barrier(t, by.barrier);
    return here >= by.barrier_count;
  }
  void release_barrier(int id) {
    const thread_record* first = nullptr;
    int votes = 0;
    waiting_.clear();
    for (std::size_t k = 0; k < threads.size(); ++k) {
      const int i = start_order_[k];
      thread_record& t = threads[std::size_t(i)];
      if (!at_barrier(t, id)) continue;
      if (first == nullptr) first = &t;
      // Two sites of __syncthreads meeting in one barrier is undefined. Named barriers exist to be met from different places.
      if (id == 0 && !same(first->where, t.where))
        fault("divergent barrier: " + name(*first) + " waits at " + text(first->where) + ", " + name(t) + " at " + text(t.where));
      votes += t.predicate != 0;
      waiting_.push_back(i);
    }
    arrived_[id] = 0;
    for (int i : waiting_) {
      threads[std::size_t(i)].votes = votes, threads[std::size_t(i)].voters = int(waiting_.size());
      make_ready(i);
    }
  }

  std::uint64_t random() { return state_ ^= state_ << 13, state_ ^= state_ >> 7, state_ ^= state_ << 17; }
  void become(int i) {
    current_ = i;
    threadIdx = threads[std::size_t(i)].index;
    threads[std::size_t(i)].state = thread_state::running;
  }
  /// The next ready thread, or -1.
  int take_ready() {
    if (next_ready_ == ready_.size()) return ready_.clear(), next_ready_ = 0, -1;
    if (settings().schedule == order::shuffled) std::swap(ready_[next_ready_], ready_[next_ready_ + random() % (ready_.size() - next_ready_)]);
    return ready_[next_ready_++];
  }
  /// The running thread has parked itself (or is ready): give the processor away, come back when it is this thread's turn.
  void run_others() {
    if (int next = take_ready(); next >= 0) {
      fiber* to = threads[std::size_t(next)].home;
      become(next);
      if (to != fibers_.current()) fibers_.switch_to(to);
      return;
    }
    if (next_fresh_ < start_order_.size()) return fibers_.switch_to(fibers_.fresh());
    if (!settle()) explain_standstill();
    run_others();
  }
  /// This fiber has no thread left to run.
  void leave() {
    for (;;) {
      if (int next = take_ready(); next >= 0) {
        fiber *from = fibers_.current(), *to = threads[std::size_t(next)].home;
        become(next);
        fibers_.recycle(from);
        fibers_.switch_to(to, true);
      }
      if (std::all_of(threads.begin(), threads.end(), [](const auto& t) { return t.state == thread_state::finished; })) {
        fibers_.recycle(fibers_.current());
        fibers_.switch_to(fibers_.main(), true);
      }
      if (!settle()) explain_standstill();
    }
  }
  /// Nothing can run. With early exits allowed, a barrier may be complete without those that returned.
  bool settle() {
    if (!settings().allow_early_exit) return false;
    for (const auto& t : threads)
      if (t.state != thread_state::finished && !at_barrier(t, 0)) return false;
    release_barrier(0);
    return true;
  }
  [[noreturn]] void explain_standstill() {
    const thread_record *barrier = nullptr, *group = nullptr, *mbar = nullptr, *gone = nullptr;
    for (const auto& t : threads) {
      if (t.state == thread_state::finished && !gone) gone = &t;
      if (t.state != thread_state::waiting) continue;
      if (t.waits_for == wait_kind::barrier && !barrier) barrier = &t;
      if (t.waits_for == wait_kind::group && !group) group = &t;
      if (t.waits_for == wait_kind::mbarrier && !mbar) mbar = &t;
    }
    if (barrier)
      for (const auto& t : threads)
        if (at_barrier(t, 0) && barrier->barrier == 0 && !same(t.where, barrier->where))
          fault("divergent barrier: " + name(*barrier) + " waits at " + text(barrier->where) + ", " + name(t) + " at " + text(t.where));
    if (barrier && gone && !group && !mbar)
      fault("divergent barrier: " + name(*gone) + " returned while other threads wait at " + text(barrier->where));
    std::string what = "deadlock:";
    if (barrier) what += " " + name(*barrier) + " waits at barrier " + text(barrier->where) + ";";
    if (group) what += " " + name(*group) + " waits in a warp operation at " + text(group->where) + " for lanes that never arrive;";
    if (mbar) what += " " + name(*mbar) + " waits for an mbarrier at " + text(mbar->where) + " whose phase never completes;";
    fault(what);
  }

  static void entry();
  void run_fresh_threads() {
    while (next_fresh_ < start_order_.size()) {
      const int i = start_order_[next_fresh_++];
      threads[std::size_t(i)].home = fibers_.current();
      become(i);
      body_(argument_);
      if (!me().copies.empty())
        fault(name(me()) + " returned without waiting for " + std::to_string(me().copies.size()) + " cp.async copies (missing cp_async_wait)");
      if (!me().products.empty())
        fault(name(me()) + " returned without waiting for " + std::to_string(me().products.size()) + " wgmma (missing wgmma_wait)");
      me().state = thread_state::finished;
    }
  }
  void run_block();
  void allocate_shared(std::size_t bytes);
  void check_shared();

  fiber_pool fibers_;
  std::vector<int> start_order_, ready_, waiting_;
  std::size_t next_fresh_ = 0, next_ready_ = 0;
  int current_ = -1;
  int arrived_[16] = {};
  std::map<const void*, mbarrier_state> mbarriers_;
  void (*body_)(void*) = nullptr;
  void* argument_ = nullptr;
  char* shared_ = nullptr;
  std::size_t shared_bytes_ = 0;
  std::unique_ptr<char, void (*)(void*)> shared_storage_{nullptr, std::free};
  std::string fault_;
  std::uint64_t state_ = 1;
};

inline engine& the_engine() {
  static engine e;
  return e;
}
/// For the debugger: `call rsseg::emulation::show_threads()`.
[[gnu::used]] inline void show_threads() { std::fputs(the_engine().describe().c_str(), stderr); }

// 0xFF bytes are a NaN with a payload that arithmetic never makes on its own, in float, bf16 and fp16 alike: what was never written shows.
inline constexpr int poison_byte = 0xFF;
inline constexpr std::size_t guard_bytes = 256;

inline void engine::entry() {
  engine& e = the_engine();
  e.fibers_.entered();
  try {
    e.run_fresh_threads();
    e.leave();
  } catch (const abandon&) {
  } catch (const std::exception& x) {
    e.fault_ = std::string("kernel ") + e.kernel + ": exception: " + x.what();
  }
  e.fibers_.switch_to(e.fibers_.main());  // outside the handlers, so that no exception object is left on an abandoned stack
  std::abort();
}

inline void engine::allocate_shared(std::size_t bytes) {
  // 1024-byte alignment is what swizzled TMA tiles need. A guard follows, so that a write beyond the end is seen without AddressSanitizer, too.
  const std::size_t room = (bytes + guard_bytes + 1023) / 1024 * 1024;
  shared_storage_.reset(static_cast<char*>(std::aligned_alloc(1024, room)));
  shared_ = shared_storage_.get(), shared_bytes_ = bytes;
  std::memset(shared_, poison_byte, room);
#if defined(RSSEG_EMULATION_ASAN)
  __asan_poison_memory_region(shared_ + bytes, room - bytes);
#endif
}
inline void engine::check_shared() {
  const std::size_t room = (shared_bytes_ + guard_bytes + 1023) / 1024 * 1024;
#if defined(RSSEG_EMULATION_ASAN)
  __asan_unpoison_memory_region(shared_, room);
#endif
  for (std::size_t i = shared_bytes_; i < room; ++i)
    if (static_cast<unsigned char>(shared_[i]) != poison_byte && fault_.empty())
      fault_ = std::string("kernel ") + kernel + ": shared memory written " + std::to_string(i - shared_bytes_) + " bytes beyond its " +
               std::to_string(shared_bytes_) + " bytes in block (" + std::to_string(blockIdx.x) + "," + std::to_string(blockIdx.y) + "," +
               std::to_string(blockIdx.z) + ")";
}

inline void engine::run_block() {
  const bool reverse = settings().schedule == order::reverse;
  const unsigned n = unsigned(threads.size());
  for (unsigned t = 0; t < n; ++t) {
    thread_record& r = threads[t];
    r.index = {t % blockDim.x, t / blockDim.x % blockDim.y, t / (blockDim.x * blockDim.y)};
    r.state = thread_state::fresh, r.waits_for = wait_kind::none, r.home = nullptr;
    r.copies.clear(), r.open_group = 0;
    r.products.clear(), r.accumulators.clear(), r.open_product_group = 0;
    start_order_[t] = int(reverse ? n - 1 - t : t);
  }
  if (settings().schedule == order::shuffled)
    for (unsigned t = n; t > 1; --t) std::swap(start_order_[t - 1], start_order_[random() % t]);
  next_fresh_ = next_ready_ = 0;
  ready_.clear(), mbarriers_.clear();
  std::fill(std::begin(arrived_), std::end(arrived_), 0);
  fibers_.switch_to(fibers_.fresh());
  current_ = -1;
  ++stats.blocks, stats.threads += n;
}

inline void engine::run(const char* kernel_name, dim3 grid, dim3 block, std::size_t shared_size, void (*body)(void*), void* argument) {
  const std::string who = std::string("kernel ") + kernel_name + ": ";
  if (inside()) throw kernel_fault(who + "launched from inside a kernel");
  const std::uint64_t n = std::uint64_t(block.x) * block.y * block.z, blocks = std::uint64_t(grid.x) * grid.y * grid.z;
  if (n == 0 || n > settings().max_threads || block.z > 64) throw kernel_fault(who + std::to_string(n) + " threads in a block, expected 1 to 1024");
  if (shared_size > settings().max_shared)
    throw kernel_fault(who + std::to_string(shared_size) + " bytes of shared memory, the device has " + std::to_string(settings().max_shared));
  if (blocks == 0 || grid.x > 2147483647u || grid.y > 65535 || grid.z > 65535) throw kernel_fault(who + "bad grid");
  if (std::size_t& most = shared_used[kernel_name]; shared_size > most) most = shared_size;
  kernel = kernel_name, gridDim = grid, blockDim = block, body_ = body, argument_ = argument;
  state_ = settings().seed * 0x9E3779B97F4A7C15ull | 1;
  fault_.clear();
  threads.resize(n), start_order_.resize(n);
  std::vector<std::uint32_t> sequence;
  if (settings().schedule == order::shuffled) {
    sequence.resize(blocks);
    for (std::uint64_t i = 0; i < blocks; ++i) sequence[i] = std::uint32_t(i);
    for (std::uint64_t i = blocks; i > 1; --i) std::swap(sequence[i - 1], sequence[random() % i]);
  }
  for (std::uint64_t k = 0; k < blocks; ++k) {
    const std::uint64_t i = settings().schedule == order::forward ? k : settings().schedule == order::reverse ? blocks - 1 - k : sequence[k];
    blockIdx = {unsigned(i % grid.x), unsigned(i / grid.x % grid.y), unsigned(i / (std::uint64_t(grid.x) * grid.y))};
    if (shared_size > 0) allocate_shared(shared_size);
    run_block();
    if (shared_size > 0) check_shared();
    if (!fault_.empty()) {
      fibers_.recycle_all();
      throw kernel_fault(fault_);
    }
  }
}

}  // namespace rsseg::emulation
