// SPDX-License-Identifier: MIT
// The command-line program.
#include <csignal>
#include <cstdio>

#include "commands.hpp"
#include "rsseg/core/parallel.hpp"

namespace rsseg::program {
namespace {
volatile std::sig_atomic_t stop_asked = 0;
extern "C" void on_signal(int) {
  if (stop_asked) std::_Exit(130);  // a second Ctrl-C does not wait
  stop_asked = 1;
}
extern "C" void leave(int) { std::_Exit(130); }
}  // namespace
bool interrupted() { return stop_asked != 0; }
}  // namespace rsseg::program

int main(int argc, char** argv) {
  using namespace rsseg;
  std::signal(SIGINT, program::leave);  // commands that ask interrupted() stop in order, the others at once
  std::signal(SIGTERM, program::leave);
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);  // a file-size limit is an error message, not a death
  CLI::App app{"rsseg " RSSEG_VERSION ": semantic segmentation of high-resolution remote-sensing images"};
  app.require_subcommand(1);
  app.set_version_flag("--version", RSSEG_VERSION);
  app.fallthrough();
  program::common_options common;
  app.add_flag("--json", common.json, "print one JSON object for machines");
  app.add_flag("-q,--quiet", common.quiet, "no progress");
  app.add_option("--threads", common.threads, "number of threads (0: all cores)")->check(CLI::Range(0, 4096));
  app.footer(
      "Start: rsseg list; rsseg COMMAND --help. Exit codes: 2 wrong use, 3 bad input file, 4 cannot write, 5 too little memory, 6 loss not finite, "
      "130 interrupted.");
  app.parse_complete_callback([&] {
    set_threads(common.threads);
    for (const char* orderly : {"train", "eval", "segment", "classical"})
      if (app.got_subcommand(orderly)) {
        std::signal(SIGINT, program::on_signal);
        std::signal(SIGTERM, program::on_signal);
      }
  });
  program::add_list(app, common);
  program::add_describe(app, common);
  program::add_train(app, common);
  program::add_eval(app, common);
  program::add_segment(app, common);
  program::add_dataset(app, common);
  program::add_classical(app, common);
  program::add_parity(app, common);
  program::add_bench(app, common);
  try {
    const auto known = [&](const std::string& name) {
      return !app.get_subcommands([&](const CLI::App* a) { return a->get_name() == name; }).empty();
    };
    if (argc > 1 && argv[1][0] != '-' && !known(argv[1])) throw usage_error("unknown command '" + std::string(argv[1]) + "'; see rsseg --help");
    app.parse(argc, argv);
  } catch (const CLI::Success& e) {
    return app.exit(e);
  } catch (const CLI::RuntimeError& e) {
    return e.get_exit_code();
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() == 0) return app.exit(e);
    std::string command;
    for (const CLI::App* at = &app; !at->get_subcommands().empty();) command += (at = at->get_subcommands()[0])->get_name() + " ";
    if (command.empty() && argc > 1 && argv[1][0] != '-') command = std::string(argv[1]) + " ";
    std::fprintf(stderr, "rsseg: error: %s; see rsseg %s--help\n", e.what(), command.c_str());
    return 2;
  } catch (const error& e) {
    std::fprintf(stderr, "rsseg: error: %s\n", e.what());
    return e.exit_code();
  } catch (const std::bad_alloc&) {
    std::fprintf(stderr, "rsseg: error: out of memory; use a smaller tile, crop or batch\n");
    return 5;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "rsseg: error: %s\n", e.what());
    return 1;
  }
  if (std::fflush(stdout) == 0 && !std::ferror(stdout)) return 0;
  std::fprintf(stderr, "rsseg: error: cannot write the result to standard output: is its disk full?\n");
  return 4;
}
