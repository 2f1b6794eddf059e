// SPDX-License-Identifier: MIT
// Fibers: the threads of an emulated CUDA block take turns on one operating-system thread, each on its own small stack.
// x86-64 switches in a dozen instructions (the six callee-saved registers of the System V ABI); other processors use ucontext.
// AddressSanitizer is told about every switch, so that its stack checks keep working inside kernels.
#pragma once
#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <vector>

#include "rsseg/core/error.hpp"

#if !defined(__x86_64__)
#define RSSEG_EMULATION_UCONTEXT 1
#endif
#if defined(RSSEG_EMULATION_UCONTEXT)
#include <ucontext.h>
#endif

#if defined(__SANITIZE_ADDRESS__)
#define RSSEG_EMULATION_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define RSSEG_EMULATION_ASAN 1
#endif
#endif
#if defined(RSSEG_EMULATION_ASAN)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace rsseg::emulation {

struct fiber {
  char* stack = nullptr;
  std::size_t size = 0;
  void* stack_pointer = nullptr;
  void* fake_stack = nullptr;  // AddressSanitizer's handle of a suspended fiber
#if defined(RSSEG_EMULATION_UCONTEXT)
  ucontext_t context;
#endif
};

#if !defined(RSSEG_EMULATION_UCONTEXT)
// Naked: the compiler adds no prologue, so the stack holds exactly what is pushed here.
[[gnu::naked, gnu::noinline]] inline void switch_stacks(void** /*rdi: where to save*/, void* /*rsi: what to load*/) {
  asm volatile(
      "pushq %rbp\n\tpushq %rbx\n\tpushq %r12\n\tpushq %r13\n\tpushq %r14\n\tpushq %r15\n\t"
      "movq %rsp, (%rdi)\n\tmovq %rsi, %rsp\n\t"
      "popq %r15\n\tpopq %r14\n\tpopq %r13\n\tpopq %r12\n\tpopq %rbx\n\tpopq %rbp\n\tret");
}
#endif

/// Owns the stacks and knows which fiber runs. main() is the caller's own stack.
class fiber_pool {
 public:
  using entry_point = void (*)();
  explicit fiber_pool(entry_point entry) : entry_(entry), current_(&main_) {}
  fiber_pool(const fiber_pool&) = delete;
  fiber_pool& operator=(const fiber_pool&) = delete;
  ~fiber_pool() {
    for (auto& f : all_) munmap(f->stack - page, f->size + page);
  }

  fiber* main() { return &main_; }
  fiber* current() { return current_; }
  std::uint64_t switches() const { return switches_; }

  /// A fiber that will begin at the entry point.
  fiber* fresh() {
    fiber* f = free_.empty() ? allocate() : free_.back();
    if (!free_.empty()) free_.pop_back();
    prepare(*f);
    return f;
  }
  void recycle(fiber* f) { free_.push_back(f); }
  /// Forgets all suspended fibers: after a fault nothing will resume them.
  void recycle_all() {
    free_.clear();
    for (auto& f : all_) free_.push_back(f.get());
  }

#if defined(RSSEG_EMULATION_ASAN)
  [[gnu::no_sanitize_address]]
#endif
  void
  switch_to(fiber* to, [[maybe_unused]] bool for_good = false) {
    fiber* from = current_;
    current_ = to;
    ++switches_;
#if defined(RSSEG_EMULATION_ASAN)
    __sanitizer_start_switch_fiber(for_good ? nullptr : &from->fake_stack, to == &main_ ? main_low_ : to->stack,
                                   to == &main_ ? main_size_ : to->size);
#endif
#if defined(RSSEG_EMULATION_UCONTEXT)
    swapcontext(&from->context, &to->context);
#else
    switch_stacks(&from->stack_pointer, to->stack_pointer);
#endif
#if defined(RSSEG_EMULATION_ASAN)
    __sanitizer_finish_switch_fiber(current_->fake_stack, nullptr, nullptr);
#endif
  }

  /// First thing that runs on a fresh fiber.
  void entered() {
#if defined(RSSEG_EMULATION_ASAN)
    const void* low = nullptr;
    std::size_t size = 0;
    __sanitizer_finish_switch_fiber(nullptr, &low, &size);
    if (main_low_ == nullptr) main_low_ = low, main_size_ = size;  // the first fiber of all is always entered from main
#endif
  }

 private:
  static constexpr std::size_t page = 4096;
#if defined(RSSEG_EMULATION_ASAN)
  static constexpr std::size_t stack_size = 512 * 1024;
#else
  static constexpr std::size_t stack_size = 128 * 1024;
#endif

  fiber* allocate() {
    void* p = mmap(nullptr, stack_size + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) throw memory_error("emulation: no memory for the stack of an emulated CUDA thread; use fewer threads per block");
    mprotect(p, page, PROT_NONE);  // running off the stack faults at once
    all_.push_back(std::make_unique<fiber>());
    all_.back()->stack = static_cast<char*>(p) + page;
    all_.back()->size = stack_size;
    return all_.back().get();
  }

  void prepare(fiber& f) {
#if defined(RSSEG_EMULATION_ASAN)
    __asan_unpoison_memory_region(f.stack, f.size);
    f.fake_stack = nullptr;
#endif
#if defined(RSSEG_EMULATION_UCONTEXT)
    getcontext(&f.context);
    f.context.uc_stack.ss_sp = f.stack;
    f.context.uc_stack.ss_size = f.size;
    f.context.uc_link = nullptr;
    makecontext(&f.context, entry_, 0);
#else
    // What switch_stacks pops: six registers, then the return address. After `ret` the stack must be 8 modulo 16, as after a call.
    void** top = reinterpret_cast<void**>(f.stack + f.size - 24);
    *--top = reinterpret_cast<void*>(entry_);
    for (int i = 0; i < 6; ++i) *--top = nullptr;
    f.stack_pointer = top;
#endif
  }

  entry_point entry_;
  fiber main_;
  fiber* current_;
  std::vector<std::unique_ptr<fiber>> all_;
  std::vector<fiber*> free_;
  std::uint64_t switches_ = 0;
  [[maybe_unused]] const void* main_low_ = nullptr;
  [[maybe_unused]] std::size_t main_size_ = 0;
};

}  // namespace rsseg::emulation
