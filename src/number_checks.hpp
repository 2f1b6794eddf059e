// SPDX-License-Identifier: MIT
// Checks of numbers on the command line, shared by the program, benchmarks and samples.
#pragma once
#include <CLI/CLI.hpp>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>

namespace rsseg::program {

/// Checks of numbers, as CLI::PositiveNumber and its like; but NaN is refused, and the message names no bound that means "none".
inline CLI::Validator number_check(const std::string& expected, const std::string& shown, const std::function<bool(double)>& good) {
  return CLI::Validator(
      [expected, good](std::string& text) {
        char* end = nullptr;
        const double v = std::strtod(text.c_str(), &end);
        return end != text.c_str() && *end == 0 && std::isfinite(v) && good(v) ? std::string() : "expected " + expected + ", got '" + text + "'";
      },
      shown);
}
inline CLI::Validator above_zero() {
  return number_check("a number above 0", "above 0", [](double v) { return v > 0; });
}
inline CLI::Validator not_negative() {
  return number_check("a number of 0 or more", "0 or more", [](double v) { return v >= 0; });
}
inline CLI::Validator between(double least, double most) {
  char range[64];
  std::snprintf(range, sizeof range, "%g to %g", least, most);
  return number_check(std::string("a number from ") + range, range, [=](double v) { return v >= least && v <= most; });
}
/// For options of unsigned type, which would take -1 for the largest number there is.
inline CLI::Validator whole_number(std::uint64_t least = 0) {
  return CLI::Validator(
      [least](std::string& text) {
        const bool digits = !text.empty() && text.size() < 20 && text.find_first_not_of("0123456789") == std::string::npos;
        return digits && std::stoull(text) >= least ? std::string()
                                                    : "expected a whole number of " + std::to_string(least) + " or more, got '" + text + "'";
      },
      "whole, " + std::to_string(least) + " or more");
}

}  // namespace rsseg::program
