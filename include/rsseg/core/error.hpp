// SPDX-License-Identifier: MIT
// The exceptions of rsseg. Every message is one line: what went wrong, where (file or layer), expected, got, and what to do.
#pragma once
#include <stdexcept>
#include <string>

namespace rsseg {

/// Base of everything rsseg throws on purpose. The command line prints what() after "rsseg: error: " and exits with exit_code().
class error : public std::runtime_error {
 public:
  explicit error(const std::string& message, int exit_code = 1) : std::runtime_error(message), exit_code_(exit_code) {}
  int exit_code() const noexcept { return exit_code_; }

 private:
  int exit_code_;
};

/// A wrong request: unknown network, option out of range (exit code 2).
class usage_error : public error {
 public:
  explicit usage_error(const std::string& message) : error(message, 2) {}
};

/// A file that is missing, unreadable, truncated, corrupt or of the wrong kind (exit code 3). The message names the file.
class input_error : public error {
 public:
  explicit input_error(const std::string& message) : error(message, 3) {}
};

/// An output that could not be written whole (exit code 4). The message names the file; nothing half-written is left.
class output_error : public error {
 public:
  explicit output_error(const std::string& message) : error(message, 4) {}
};

/// More memory needed than there is or than was allowed (exit code 5). The message names the layer and suggests a size.
class memory_error : public error {
 public:
  explicit memory_error(const std::string& message) : error(message, 5) {}
};

/// Training cannot go on: NaN or infinite loss (exit code 6).
class numeric_error : public error {
 public:
  explicit numeric_error(const std::string& message) : error(message, 6) {}
};

}  // namespace rsseg
