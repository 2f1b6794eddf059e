// SPDX-License-Identifier: MIT
// How much dynamic shared memory a block of each kernel may take. Most keep to the 48 KiB that every device grants unasked; what is listed asks for
// more, and the number decides how many blocks a multiprocessor holds (64 KiB on sm_75, 100 on sm_86 and sm_89, 164 on sm_80, 228 on sm_90).
#pragma once
#include <cstddef>
#include <string_view>

namespace rsseg::test {

inline std::size_t shared_budget(std::string_view kernel) {
  struct row {
    std::string_view kernel;
    std::size_t bytes;
  };
  constexpr row rows[] = {
      {"conv_mma forward", 61440},  // three stages of 128 x 128 x 64 bytes: three blocks on sm_90, two on sm_80, one on sm_75
      {"conv_mma forward with statistics", 61440},
      {"conv_mma data gradient", 61440},
      {"conv_mma weight gradient", 61440},
      {"conv_hopper", 197632},  // four stages of 48 KiB, or five of 32
      {"conv_hopper weight gradient", 164864},
      {"planted", 1048576},  // the faults planted in engine.cpp
  };
  for (const row& r : rows)
    if (r.kernel == kernel) return r.bytes;
  return 49152;
}

}  // namespace rsseg::test
