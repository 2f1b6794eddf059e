// SPDX-License-Identifier: MIT
// What the executor asks of CUDA besides kernels: device memory, pinned memory, streams, events, copies, and stream capture. The emulation does
// copies at once and records launches while it captures, so that a replay there, too, sees only what lies in device memory.
#pragma once
#include <utility>
#include <vector>

#include "../backend.cuh"
#include "../device.cuh"

namespace rsseg::cuda {
inline namespace RSSEG_BACKEND_NS {

#if RSSEG_EMULATED
using event_t = int;
inline void* device_allocate(std::size_t bytes) {
  void* p = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
  if (p) std::memset(p, emulation::poison_byte, bytes);
  return p;
}
inline void device_free(void* p) { std::free(p); }
inline void* pinned_allocate(std::size_t bytes) { return std::aligned_alloc(256, (bytes + 255) / 256 * 256); }
inline void pinned_free(void* p) { std::free(p); }
inline stream_t make_stream() { return nullptr; }
inline void destroy_stream(stream_t) {}
inline event_t make_event() { return 0; }
inline void destroy_event(event_t) {}
inline void record_event(event_t, stream_t) {}
inline void wait_event(stream_t, event_t) {}
inline void synchronise_event(event_t, const char*) {}
inline void synchronise(stream_t, const char*) {}
inline void copy_bytes(stream_t, void* to, const void* from, std::size_t bytes, const char*) {
  if (bytes) emulation::submit([=] { std::memcpy(to, from, bytes); });
}
inline void set_bytes(stream_t, void* to, int value, std::size_t bytes) {
  if (bytes) emulation::submit([=] { std::memset(to, value, bytes); });
}
#else
using event_t = cudaEvent_t;
/// Null when there is no memory.
inline void* device_allocate(std::size_t bytes) {
  void* p = nullptr;
  const cudaError_t status = cudaMalloc(&p, bytes);
  if (status == cudaErrorMemoryAllocation) {
    (void)cudaGetLastError();  // not sticky
    return nullptr;
  }
  check(status, "allocate device memory");
  return p;
}
inline void device_free(void* p) { cudaFree(p); }
inline void* pinned_allocate(std::size_t bytes) {
  void* p = nullptr;
  check(cudaMallocHost(&p, bytes), "allocate pinned host memory");
  return p;
}
inline void pinned_free(void* p) { cudaFreeHost(p); }
inline stream_t make_stream() {
  stream_t s{};
  check(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking), "make a stream");
  return s;
}
inline void destroy_stream(stream_t s) { cudaStreamDestroy(s); }
inline event_t make_event() {
  event_t e{};
  check(cudaEventCreateWithFlags(&e, cudaEventDisableTiming), "make an event");
  return e;
}
inline void destroy_event(event_t e) { cudaEventDestroy(e); }
inline void record_event(event_t e, stream_t s) { check(cudaEventRecord(e, s), "record an event"); }
inline void wait_event(stream_t s, event_t e) { check(cudaStreamWaitEvent(s, e, 0), "wait for an event"); }
/// A failure here belongs to a kernel launched earlier; which one, a run with RSSEG_CUDA_SYNC=1 tells.
inline void synchronise_event(event_t e, const char* doing) { check_late(cudaEventSynchronize(e), doing); }
inline void synchronise(stream_t s, const char* doing) { check_late(cudaStreamSynchronize(s), doing); }
inline void copy_bytes(stream_t s, void* to, const void* from, std::size_t bytes, const char* doing) {
  if (bytes) check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, s), doing);
}
inline void set_bytes(stream_t s, void* to, int value, std::size_t bytes) {
  if (bytes) check(cudaMemsetAsync(to, value, bytes, s), "set device memory");
}
#endif

/// Memory of the device (or pinned memory of the host), owned.
template <bool Pinned>
class owned_memory {
 public:
  owned_memory() = default;
  owned_memory(owned_memory&& o) noexcept : data_(std::exchange(o.data_, nullptr)), size_(std::exchange(o.size_, 0)) {}
  owned_memory& operator=(owned_memory&& o) noexcept {
    std::swap(data_, o.data_), std::swap(size_, o.size_);
    return *this;
  }
  ~owned_memory() { release(); }
  /// Grows to at least `bytes`; contents are lost. what: for the message.
  void resize(std::size_t bytes, const std::string& what) {
    if (bytes <= size_) return;
    release();
    data_ = Pinned ? pinned_allocate(bytes) : device_allocate(bytes);
    if (!data_) throw memory_error("cuda: no memory for " + std::to_string((bytes >> 20) + 1) + " MiB (" + what + "); use a smaller batch or tile");
    size_ = bytes;
  }
  template <class T = unsigned char>
  T* data() const {
    return static_cast<T*>(data_);
  }
  std::size_t size() const { return size_; }

 private:
  void release() {
    if (data_) Pinned ? pinned_free(data_) : device_free(data_);
    data_ = nullptr, size_ = 0;
  }
  void* data_ = nullptr;
  std::size_t size_ = 0;
};
using device_memory = owned_memory<false>;
using pinned_memory = owned_memory<true>;

class owned_stream {
 public:
  owned_stream() : stream_(make_stream()) {}
  ~owned_stream() { destroy_stream(stream_); }
  owned_stream(const owned_stream&) = delete;
  owned_stream& operator=(const owned_stream&) = delete;
  operator stream_t() const { return stream_; }

 private:
  stream_t stream_;
};
class owned_event {
 public:
  owned_event() : event_(make_event()) {}
  ~owned_event() { destroy_event(event_); }
  owned_event(const owned_event&) = delete;
  owned_event& operator=(const owned_event&) = delete;
  void record(stream_t s) {
    record_event(event_, s);
    recorded_ = true;
  }
  /// The stream goes on when what was recorded is done.
  void hold(stream_t s) const {
    if (recorded_) wait_event(s, event_);
  }
  void wait(const char* doing) const {
    if (recorded_) synchronise_event(event_, doing);
  }

 private:
  event_t event_;
  bool recorded_ = false;
};

/// A recorded sequence of launches, replayed as one: a CUDA graph.
class captured_graph {
 public:
  captured_graph() = default;
  captured_graph(const captured_graph&) = delete;
  captured_graph& operator=(const captured_graph&) = delete;
  ~captured_graph() { reset(); }
#if RSSEG_EMULATED
  bool ready() const { return !launches_.empty(); }
  void reset() { launches_.clear(); }
  template <class Body>
  void capture(stream_t, const Body& body) {
    reset();
    emulation::recording() = &launches_;
    try {
      body();
    } catch (...) {
      emulation::recording() = nullptr;
      reset();
      throw;
    }
    emulation::recording() = nullptr;
  }
  void launch(stream_t) {
    for (auto& l : launches_) l();
  }

 private:
  std::vector<std::function<void()>> launches_;
#else
  bool ready() const { return exec_ != nullptr; }
  void reset() {
    if (exec_) cudaGraphExecDestroy(exec_);
    exec_ = nullptr;
  }
  template <class Body>
  void capture(stream_t s, const Body& body) {
    reset();
    check(cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal), "begin stream capture");
    cudaGraph_t graph = nullptr;
    try {
      body();
    } catch (...) {
      cudaStreamEndCapture(s, &graph);
      if (graph) cudaGraphDestroy(graph);
      (void)cudaGetLastError();
      throw;
    }
    check(cudaStreamEndCapture(s, &graph), "end stream capture");
    const cudaError_t status = cudaGraphInstantiate(&exec_, graph, 0);
    cudaGraphDestroy(graph);
    check(status, "instantiate a CUDA graph");
  }
  void launch(stream_t s) { check(cudaGraphLaunch(exec_, s), "launch a CUDA graph"); }

 private:
  cudaGraphExec_t exec_ = nullptr;
#endif
};

}  // namespace RSSEG_BACKEND_NS
}  // namespace rsseg::cuda
