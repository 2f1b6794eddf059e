// SPDX-License-Identifier: MIT
// Files appear whole or not at all.
#include "rsseg/io/atomic_file.hpp"

#include <doctest/doctest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "io_temp.hpp"

using namespace rsseg;
using test::has;

TEST_CASE("atomic_file: commit replaces, no commit leaves the old file and no temporary") {
  test::temporary_folder folder;
  const std::string name = folder.file("out.txt");
  io::write_file(name, "old");
  {
    io::atomic_file file(name);
    file.write("half");
  }
  CHECK(io::read_text(name, "text") == "old");
  {
    io::atomic_file file(name);
    file.write(std::string(3'000'000, 'x'));
    file.commit();
  }
  CHECK(io::read_text(name, "text").size() == 3'000'000);
  CHECK(folder.names() == std::vector<std::string>{"out.txt"});
}

TEST_CASE("atomic_file: a symbolic link stays a link") {
  test::temporary_folder folder;
  io::write_file(folder.file("real"), "old");
  REQUIRE(::symlink(folder.file("real").c_str(), folder.file("link").c_str()) == 0);
  io::write_file(folder.file("link"), "new");
  CHECK(std::filesystem::is_symlink(folder.file("link")));
  CHECK(io::read_text(folder.file("real"), "text") == "new");
}

TEST_CASE("atomic_file: full disk") {
  const std::string text = test::message_of<output_error>([] { io::write_file("/dev/full", "x"); });
  CHECK(has(text, "/dev/full"));
  CHECK(has(text, "disk full"));
  CHECK(std::filesystem::is_character_file("/dev/full"));  // not replaced by a regular file
}

TEST_CASE("atomic_file: size limit leaves the old file whole") {
  test::temporary_folder folder;
  const std::string name = folder.file("out.bin");
  io::write_file(name, "old");
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {  // limits and signals of a child only
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{100'000, 100'000};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    const std::string text = test::message_of<output_error>([&] { io::write_file(name, std::string(5'000'000, 'x')); });
    ::_exit(has(text, "out.bin") && has(text, "size limit") ? 0 : 1);
  }
  int status = -1;
  ::waitpid(child, &status, 0);
  CHECK(status == 0);
  CHECK(io::read_text(name, "text") == "old");
  CHECK(folder.names().size() == 1);
}

TEST_CASE("atomic_file: kill -9 while writing leaves the old file; the next writer cleans up") {
  test::temporary_folder folder;
  const std::string name = folder.file("out.bin");
  io::write_file(name, "old");
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    io::atomic_file file(name);
    file.write(std::string(5'000'000, 'x'));
    ::kill(::getpid(), SIGKILL);
  }
  ::waitpid(child, nullptr, 0);
  CHECK(io::read_text(name, "text") == "old");
  io::write_file(name, "new");
  CHECK(io::read_text(name, "text") == "new");
  CHECK(folder.names().size() == 1);
}

TEST_CASE("atomic_file: two writers of one file") {
  test::temporary_folder folder;
  io::atomic_file first(folder.file("out"));
  first.write("first");
  const std::string text = test::message_of<output_error>([&] { io::atomic_file second(folder.file("out")); });
  CHECK(has(text, "another process"));
  first.commit();
  CHECK(io::read_text(folder.file("out"), "text") == "first");
}

TEST_CASE("atomic_file: impossible targets name the file and the remedy") {
  test::temporary_folder folder;
  const auto message = [](const std::string& name) { return test::message_of<output_error>([&] { io::write_file(name, "x"); }); };
  CHECK(has(message(folder.file("no/such/file")), "create it first"));
  CHECK(has(message(folder.path.string()), "is a folder"));
  CHECK(has(message(""), "no file name"));
  io::write_file(folder.file("plain"), "x");
  CHECK(has(message(folder.file("plain/file")), "not a folder"));
  CHECK(has(message(folder.file(std::string(300, 'n'))), "too long"));
  CHECK(has(message("/proc/rsseg"), "/proc/rsseg"));
  if (::geteuid() != 0) {
    std::filesystem::permissions(folder.path, std::filesystem::perms::owner_read | std::filesystem::perms::owner_exec);
    CHECK(has(message(folder.file("out")), "permission denied"));
    std::filesystem::permissions(folder.path, std::filesystem::perms::owner_all);
  }
}

TEST_CASE("read_file: missing, folder, empty, too large") {
  test::temporary_folder folder;
  const auto message = [](const std::string& name) { return test::message_of<input_error>([&] { io::read_file(name, "image", 100); }); };
  CHECK(message(folder.file("none")) == "image '" + folder.file("none") + "': no such file: check the path");
  CHECK(has(message(folder.path.string()), "is a folder"));
  test::put(folder.file("empty"), "");
  CHECK(has(message(folder.file("empty")), "is empty"));
  test::put(folder.file("big"), std::string(101, 'x'));
  CHECK(has(message(folder.file("big")), "limit of 100"));
  CHECK(has(message("/dev/zero"), "more than 100"));
}

TEST_CASE("paths: folder, stem, extension") {
  CHECK(io::detail::folder_of("a/b.c") == "a");
  CHECK(io::detail::folder_of("b.c") == ".");
  CHECK(io::detail::folder_of("/b.c") == "/");
  CHECK(io::detail::stem_path("a.b/c") == "a.b/c");
  CHECK(io::detail::stem_path("a/.hidden") == "a/.hidden");
  CHECK(io::detail::extension_of("a/x.TIF") == "tif");
  CHECK(io::detail::extension_of("a.b/x") == "");
}
