// SPDX-License-Identifier: MIT
// A progress bar that knows where it is shown: redrawn in place on a terminal, an occasional plain line in a log file, nothing when quiet.
#pragma once
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

namespace rsseg::train {

struct progress_options {
  bool quiet = false;           ///< nothing but message() is printed
  std::FILE* out = stderr;      ///< results go to stdout, progress does not
  int terminal = -1;            ///< 1, 0, or -1: ask the stream (and TERM, which must not be "dumb")
  double interval = 0;          ///< seconds between prints; 0: 0.1 on a terminal, 10 in a log
  int columns = 0;              ///< 0: ask the terminal
  double (*clock)() = nullptr;  ///< seconds; for tests
};

/// "3:05", "1:02:03", "2 d 03:04"; "?" for what is not known.
inline std::string duration_text(double seconds) {
  if (!(seconds >= 0) || seconds > 1e8) return "?";
  const long long s = static_cast<long long>(seconds + 0.5);
  char text[64];
  if (s >= 86400)
    std::snprintf(text, sizeof text, "%lld d %02lld:%02lld", s / 86400, s / 3600 % 24, s / 60 % 60);
  else if (s >= 3600)
    std::snprintf(text, sizeof text, "%lld:%02lld:%02lld", s / 3600, s / 60 % 60, s % 60);
  else
    std::snprintf(text, sizeof text, "%lld:%02lld", s / 60, s % 60);
  return text;
}

/// progress bar("train", 500, "steps"); bar.update(120, "loss 0.532  mIoU 0.61"); ... bar.finish();
/// The rate counts from the first update(), so that a resumed run does not claim what others did.
class progress {
 public:
  /// total 0: unknown, no bar and no time left.
  progress(std::string label, std::int64_t total, std::string unit = "steps", progress_options options = {})
      : label_(std::move(label)), unit_(std::move(unit)), total_(total), options_(options) {
    const char* kind = std::getenv("TERM");
    if (options_.terminal < 0) options_.terminal = ::isatty(::fileno(options_.out)) && kind && std::strcmp(kind, "dumb") != 0;
    if (options_.interval <= 0) options_.interval = options_.terminal ? 0.1 : 10;
    start_ = last_ = now();
  }
  progress(const progress&) = delete;
  ~progress() { wipe(); }

  void set_total(std::int64_t total) { total_ = total; }
  double elapsed() const { return now() - start_; }
  /// Units per second since the first update.
  double rate() const {
    const double t = now() - first_time_;
    return first_ >= 0 && t > 0 ? double(done_ - first_) / t : 0;
  }
  /// Seconds left; negative: not known yet.
  double left() const {
    const double r = rate();
    return total_ > 0 && r > 0 ? double(total_ - done_) / r : -1;
  }
  /// `note` ends the line: losses, scores. Prints at most once per interval.
  void update(std::int64_t done, const std::string& note = "") {
    done_ = done;
    const double t = now();
    if (first_ < 0) first_ = done, first_time_ = t;
    if (options_.quiet || finished_ || t - last_ < options_.interval) return;
    last_ = t;
    show(note, false);
  }
  /// Prints the state a last time, whatever the interval.
  void finish(const std::string& note = "") {
    if (finished_) return;
    if (!options_.quiet) show(note, true);
    finished_ = true;
  }
  /// A line of its own, above the bar.
  void message(const std::string& line) {
    wipe();
    std::fprintf(options_.out, "%s\n", line.c_str());
    std::fflush(options_.out);
  }

 private:
  double now() const {
    if (options_.clock) return options_.clock();
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
  }
  int columns() const {
    if (options_.columns > 0) return options_.columns;
    winsize size{};
    return ::ioctl(::fileno(options_.out), TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
  }
  void wipe() {
    if (!drawn_) return;
    std::fputs("\r\x1b[K", options_.out);
    std::fflush(options_.out);
    drawn_ = false;
  }
  std::string facts(bool last) const {
    char text[96];
    std::string line;
    const double r = rate();
    if (total_ > 0) {
      std::snprintf(text, sizeof text, "%3d%%  ", int(100.0 * double(std::min(done_, total_)) / double(total_)));
      line += text;
      line += std::to_string(done_) + "/" + std::to_string(total_) + " " + unit_;
    } else {
      line += std::to_string(done_) + " " + unit_;
    }
    if (r > 0) {
      // Slow work reads better the other way round.
      r >= 1 ? std::snprintf(text, sizeof text, "  %.*f/s", r < 100 ? 1 : 0, r) : std::snprintf(text, sizeof text, "  %.1f s each", 1 / r);
      line += text;
    }
    line += "  " + duration_text(elapsed());
    if (!last && total_ > 0) line += ", " + duration_text(left()) + " left";
    return line;
  }
  void show(const std::string& note, bool last) {
    std::string line = facts(last) + (note.empty() ? "" : "  " + note);
    if (!options_.terminal) {
      std::fprintf(options_.out, "%s: %s\n", label_.c_str(), line.c_str() + std::min(line.find_first_not_of(' '), line.size()));
      std::fflush(options_.out);
      return;
    }
    std::string head = label_ + " ";
    const int room = columns() - 1 - int(head.size() + line.size());
    if (total_ > 0 && room >= 8) {
      const int wide = std::min(room - 3, 30), full = int(double(wide) * double(std::min(done_, total_)) / double(total_));
      head += "[" + std::string(std::size_t(full), '=') + std::string(std::size_t(wide - full), ' ') + "] ";
    }
    line = head + line;
    line.resize(std::min(line.size(), std::size_t(std::max(columns() - 1, 1))));  // a wrapped line could not be redrawn
    std::fprintf(options_.out, "\r%s\x1b[K%s", line.c_str(), last ? "\n" : "");
    std::fflush(options_.out);
    drawn_ = !last;
  }

  std::string label_, unit_;
  std::int64_t total_, done_ = 0, first_ = -1;
  progress_options options_;
  double start_ = 0, last_ = 0, first_time_ = 0;
  bool drawn_ = false, finished_ = false;
};

}  // namespace rsseg::train
