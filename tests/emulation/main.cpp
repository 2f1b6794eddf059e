// SPDX-License-Identifier: MIT
// main of the tests of kernels. After a whole run the dynamic shared memory of every kernel that was launched is held to its budget: what ptxas
// reports (tools/ptxas_budget.py) knows only static shared memory, of which there is none.
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <cstdio>

#include "kernels/backend.cuh"
#include "shared_budget.hpp"

int main(int argc, char** argv) {
  const int failed = doctest::Context(argc, argv).run();
  if (failed || argc > 1) return failed;
  int over = 0;
  std::size_t most = 0;
  for (const auto& [kernel, bytes] : rsseg::emulation::the_engine().shared_used) {
    const std::size_t budget = rsseg::test::shared_budget(kernel);
    most = bytes > most ? bytes : most;
    if (bytes <= budget) continue;
    std::printf("%s: %zu bytes of shared memory, budget %zu (tests/emulation/shared_budget.hpp)\n", kernel.c_str(), bytes, budget);
    ++over;
  }
  std::printf("shared memory: %zu kernels launched, %d over budget, at most %zu bytes\n", rsseg::emulation::the_engine().shared_used.size(), over,
              most);
  return over > 0;
}
