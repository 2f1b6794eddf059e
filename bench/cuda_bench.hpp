// SPDX-License-Identifier: MIT
// What the CUDA benchmarks share: the roofline of an H100, timing by graph replay over rotated buffers, comparison of results, the table's numbers.
#pragma once
#include <cudnn.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <functional>
#include <string>
#include <vector>

#include "kernels/device_array.hpp"

namespace cuda_bench {
using namespace rsseg;
using namespace rsseg::cuda;

// H100 SXM, dense, nominal: fp32, tf32, bf16; memory: what a copy reaches
constexpr double flops_per_second[] = {67e12, 400e12, 800e12}, bytes_per_second = 3.0e12;
/// So many copies of `bytes` that together they overflow the L2 cache four times.
inline int rotations(std::size_t bytes) { return int(std::clamp<std::size_t>(200u * 1024 * 1024 / (bytes + 1) + 1, 2, 64)); }

inline void check_cudnn(cudnnStatus_t s, const char* doing) {
  if (s != CUDNN_STATUS_SUCCESS) throw error(std::string("cudnn: ") + doing + ": " + cudnnGetErrorString(s));
}

/// Median microseconds of one call: `copies` calls captured in a graph, replayed.
inline double median_us(int copies, int rounds, cudaStream_t stream, const std::function<void(int)>& call) {
  call(0);  // loads modules, sets attributes
  check(cudaStreamSynchronize(stream), "warm-up");
  cudaGraph_t graph;
  cudaGraphExec_t replay;
  check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "capture");
  for (int i = 0; i < copies; ++i) call(i);
  check(cudaStreamEndCapture(stream, &graph), "capture");
  check(cudaGraphInstantiate(&replay, graph, 0), "instantiate graph");
  cudaEvent_t begin, end;
  check(cudaEventCreate(&begin), "event"), check(cudaEventCreate(&end), "event");
  std::vector<float> times;
  for (int r = 0; r < rounds + 2; ++r) {
    check(cudaEventRecord(begin, stream), "record"), check(cudaGraphLaunch(replay, stream), "replay"), check(cudaEventRecord(end, stream), "record");
    check(cudaEventSynchronize(end), "replay");
    float ms = 0;
    check(cudaEventElapsedTime(&ms, begin, end), "elapsed time");
    if (r >= 2) times.push_back(ms);
  }
  cudaEventDestroy(begin), cudaEventDestroy(end), cudaGraphExecDestroy(replay), cudaGraphDestroy(graph);
  std::nth_element(times.begin(), times.begin() + std::ptrdiff_t(times.size() / 2), times.end());
  return 1e3 * double(times[times.size() / 2]) / copies;
}

template <class A, class B>
inline double largest_difference(const std::vector<A>& a, const std::vector<B>& b) {
  double worst = 0, scale = 1e-30;
  for (std::size_t i = 0; i < a.size(); ++i)
    worst = std::max(worst, std::abs(double(to_float(a[i])) - double(to_float(b[i])))), scale = std::max(scale, std::abs(double(to_float(b[i]))));
  return worst / scale;
}
inline std::string number(double v, const char* format = "%.1f") {
  char s[32];
  std::snprintf(s, sizeof s, format, v);
  return std::isnan(v) ? "not measured" : s;
}
inline std::string today() {
  char s[32];
  const std::time_t t = std::time(nullptr);
  std::strftime(s, sizeof s, "%Y-%m-%d", std::gmtime(&t));
  return s;
}

}  // namespace cuda_bench
