// SPDX-License-Identifier: MIT
// The progress bar on a terminal, in a log, and quiet.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdio>

#include "io_temp.hpp"
#include "rsseg/train/progress.hpp"

using namespace rsseg;
using test::has;

namespace {
double fake_time = 0;
/// What is printed while 101 updates of one second each go by.
std::string printed(train::progress_options options, std::int64_t total = 100) {
  char* text = nullptr;
  std::size_t size = 0;
  options.out = ::open_memstream(&text, &size);
  options.clock = [] { return fake_time; };
  fake_time = 1000;
  {
    train::progress bar("train", total, "steps", options);
    for (int i = 0; i <= 100; ++i, fake_time += 1) {
      bar.update(i, "loss 0.5");
      if (i == 50) bar.message("halfway");
    }
    fake_time -= 1;
    bar.finish("done");
    bar.update(100, "too late");
  }
  std::fclose(options.out);
  const std::string out(text, size);
  ::free(text);
  return out;
}
}  // namespace

TEST_CASE("progress: a log gets a plain line every ten seconds") {
  train::progress_options options;
  options.terminal = 0;
  const std::string out = printed(options);
  CHECK(out.find('\r') == std::string::npos);
  CHECK(out.find('\x1b') == std::string::npos);
  CHECK(std::count(out.begin(), out.end(), '\n') == 10 + 1 + 1);
  CHECK(has(out, "train: 50%  50/100 steps  1.0/s  0:50, 0:50 left  loss 0.5\nhalfway\n"));
  CHECK(has(out, "train: 100%  100/100 steps  1.0/s  1:40  done\n"));
  CHECK_FALSE(has(out, "too late"));
}

TEST_CASE("progress: a terminal gets one line, redrawn, never wider than it is") {
  train::progress_options options;
  options.terminal = 1, options.columns = 60;
  const std::string out = printed(options);
  CHECK(has(out, "\rtrain [=="));
  CHECK(std::count(out.begin(), out.end(), '\n') == 2);  // the message and the end
  CHECK(has(out, "\r\x1b[Khalfway\n"));
  std::size_t longest = 0;
  for (std::size_t at = 0, end; at < out.size(); at = end + 1) {
    end = std::min(out.find_first_of("\r\x1b\n", at), out.size());
    longest = std::max(longest, end - at);
  }
  CHECK(longest <= 59);
  options.columns = 10;
  CHECK(has(printed(options), "\rtrain  50\x1b"));
}

TEST_CASE("progress: quiet prints messages only; an unknown total has no time left") {
  train::progress_options options;
  options.terminal = 0, options.quiet = true;
  CHECK(printed(options) == "halfway\n");
  options.quiet = false;
  const std::string out = printed(options, 0);
  CHECK(has(out, "train: 50 steps  1.0/s  0:50  loss"));
  CHECK_FALSE(has(out, "left"));
}

TEST_CASE("progress: durations") {
  CHECK(train::duration_text(5) == "0:05");
  CHECK(train::duration_text(3725) == "1:02:05");
  CHECK(train::duration_text(2 * 86400 + 3 * 3600 + 240) == "2 d 03:04");
  CHECK(train::duration_text(-1) == "?");
}
