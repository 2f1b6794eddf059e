// SPDX-License-Identifier: MIT
// What only AddressSanitizer sees at once: reads beyond the end of global, shared and local arrays. Each planted fault runs in a child process, which
// must die with AddressSanitizer's report. Built only with -fsanitize=address.
#include <sys/wait.h>
#include <unistd.h>

#include "emulation_test.hpp"

#if !defined(RSSEG_EMULATION_ASAN)
#error "this file is for builds with AddressSanitizer"
#endif

using namespace rsseg;
using namespace rsseg::cuda;

namespace {
__global__ void read_global(const float* x, float* y, int beyond) { y[threadIdx.x] = x[int(threadIdx.x) + beyond]; }
template <int Unused>
__global__ void read_shared(float* y, int beyond) {
  RSSEG_DYN_SHARED(float, s);
  s[threadIdx.x] = 1;
  __syncthreads();
  y[threadIdx.x] = s[int(threadIdx.x) + beyond];
}
__global__ void read_local(float* y, int beyond) {
  float a[4] = {1, 2, 3, 4};
  __syncthreads();
  y[threadIdx.x] = a[int(threadIdx.x) % 4 + beyond];
}

/// True if body ends its process with AddressSanitizer's report.
template <class Body>
bool reported(Body&& body) {
  int ends[2];
  if (pipe(ends) != 0) return false;
  const pid_t child = fork();
  if (child == 0) {
    dup2(ends[1], 2);
    close(ends[0]), close(ends[1]);
    body();
    _exit(0);
  }
  close(ends[1]);
  std::string text;
  char part[4096];
  for (ssize_t n; (n = read(ends[0], part, sizeof part)) > 0;) text.append(part, std::size_t(n));
  close(ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  return text.find("AddressSanitizer") != std::string::npos && !(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}
}  // namespace

TEST_CASE("AddressSanitizer sees reads out of bounds in kernels") {
  for (int beyond : {0, 1}) {
    CAPTURE(beyond);
    auto global = [&] {
      device_array<float> x(std::vector<float>(64, 1.0f)), y(64);
      kernel_launch({"read_global", 1, 64}, read_global, x.get(), y.get(), beyond);
    };
    auto shared = [&] {
      device_array<float> y(32);
      kernel_launch({"read_shared", 1, 32, 128}, read_shared<1>, y.get(), beyond);
    };
    auto local = [&] {
      device_array<float> y(32);
      kernel_launch({"read_local", 1, 32}, read_local, y.get(), 4 * beyond);
    };
    CHECK(reported(global) == (beyond > 0));
    CHECK(reported(shared) == (beyond > 0));
    CHECK(reported(local) == (beyond > 0));
  }
}
