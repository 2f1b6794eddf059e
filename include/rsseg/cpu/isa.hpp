// SPDX-License-Identifier: MIT
// Instruction sets of the CPU backend. One is chosen at run time, so that speed does not depend on the flags of whoever includes rsseg.
// RSSEG_CPU=avx512|avx2|portable overrides the choice.
#pragma once
#include <cstdlib>
#include <cstring>
#include <string>

#include "rsseg/core/error.hpp"

#if defined(__x86_64__) || defined(_M_X64)
#define RSSEG_X86 1
#else
#define RSSEG_X86 0
#endif

namespace rsseg::cpu {

/// Ordered: a later one includes what the earlier ones need.
enum class isa { portable = 0, avx2 = 1, avx512 = 2 };

inline const char* name_of(isa i) { return i == isa::avx512 ? "avx512" : i == isa::avx2 ? "avx2" : "portable"; }

/// Whether this machine can run it.
inline bool available(isa i) {
#if RSSEG_X86
  if (i == isa::avx512)
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("fma");
  if (i == isa::avx2) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
  return i == isa::portable;
}

/// Whether this machine multiplies bfloat16 numbers (AVX512-BF16); used with isa::avx512.
inline bool bf16_instructions() {
#if RSSEG_X86
  return available(isa::avx512) && __builtin_cpu_supports("avx512bf16");
#else
  return false;
#endif
}

namespace detail {
inline isa best_isa() { return available(isa::avx512) ? isa::avx512 : available(isa::avx2) ? isa::avx2 : isa::portable; }

inline std::string isa_choices() {
  std::string s = "portable";
  if (available(isa::avx2)) s += ", avx2";
  if (available(isa::avx512)) s += ", avx512";
  return s;
}

inline isa isa_from_environment() {
  const char* v = std::getenv("RSSEG_CPU");
  if (v == nullptr || *v == '\0') return best_isa();
  for (isa i : {isa::portable, isa::avx2, isa::avx512})
    if (std::strcmp(v, name_of(i)) == 0 && available(i)) return i;
  throw usage_error("RSSEG_CPU=" + std::string(v) + " is not available on this CPU; choose one of: " + isa_choices() + ", or unset it");
}

inline isa& isa_setting() {
  static isa chosen = isa_from_environment();
  return chosen;
}
}  // namespace detail

/// The instruction set in use. The first call reads RSSEG_CPU and throws usage_error when it names what this CPU lacks.
inline isa current_isa() { return detail::isa_setting(); }

/// Switches (for tests and comparisons; not while a kernel runs). Weights packed before must be packed again, since the layout differs.
/// Throws usage_error when this CPU lacks it.
inline void set_isa(isa i) {
  if (!available(i))
    throw usage_error("instruction set " + std::string(name_of(i)) + " is not available on this CPU; choose one of: " + detail::isa_choices());
  detail::isa_setting() = i;
}

}  // namespace rsseg::cpu
