// SPDX-License-Identifier: MIT
// The most memory that this process has held since it was started.
#pragma once
#include <cstdio>

namespace bench {

/// Bytes; 0 where /proc is missing. getrusage would count what the parent held before it started this program.
inline double resident_peak() {
  std::FILE* f = std::fopen("/proc/self/status", "r");
  char line[256];
  double kib = 0;
  while (f != nullptr && std::fgets(line, sizeof line, f) != nullptr)
    if (std::sscanf(line, "VmHWM: %lf", &kib) == 1) break;
  if (f != nullptr) std::fclose(f);
  return kib * 1024;
}

}  // namespace bench
