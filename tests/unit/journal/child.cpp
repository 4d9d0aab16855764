// What the test binary does as a child of itself. Each verb prints lines and ends with 0, or prints
// "CODE: line" of the error and ends with 1.
#include <grp.h>
#include <sqlite3.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "tests/unit/journal/support.hpp"

namespace updagent::journal::testing {
namespace {

void say(const std::string& line) {
  std::printf("%s\n", line.c_str());
  std::fflush(stdout);
}

int fail(const base::Error& error) {
  say(std::string(error.code_name()) + ": " + error.line());
  return 1;
}

// record DIR COUNT GROUP: one event at a time; "N" after each that was acknowledged
int record(const std::string& directory, int count, const std::string& group) {
  auto journal = Journal::open(paths_in(directory), "node-1", Journal::Mode::read_write, group);
  if (!journal) return fail(journal.error());
  for (int i = 1; i <= count; ++i) {
    const auto recorded = journal->record(std::vector{sample_event(i)});
    if (!recorded) return fail(recorded.error());
    say(std::to_string(i));
  }
  return 0;
}

// read DIR UID GID: as that user, in that group alone
int read_as(const std::string& directory, uid_t uid, gid_t gid) {
  const gid_t none = 65534;
  if (::setgroups(1, &gid) != 0 || ::setresgid(none, none, none) != 0 ||
      ::setresuid(uid, uid, uid) != 0)
    return 2;
  auto journal = Journal::open(paths_in(directory), "node-1", Journal::Mode::read_only);
  if (!journal) return fail(journal.error());
  const auto report = journal->verify(std::nullopt);
  if (!report) return fail(report.error());
  say(std::to_string(all_events(*journal).size()) + " events, problem '" + report->problem + "'");
  const auto written = journal->record(std::vector{sample_event()});
  return written ? 3 : 0;
}

// lock DIR: takes the write lock, says so and keeps it until its end
int lock(const std::string& directory) {
  sqlite3* handle = nullptr;
  if (sqlite3_open(paths_in(directory).database.c_str(), &handle) != SQLITE_OK ||
      sqlite3_exec(handle, "BEGIN IMMEDIATE", nullptr, nullptr, nullptr) != SQLITE_OK)
    return 2;
  say("locked");
  ::pause();
  return 0;
}

// import DIR: opens, which imports the spool
int import(const std::string& directory) {
  auto journal = Journal::open(paths_in(directory), "node-1", Journal::Mode::read_write);
  if (!journal) return fail(journal.error());
  for (const std::string& warning : journal->take_warnings()) say(warning);
  return 0;
}

}  // namespace

int child_main(const std::vector<std::string>& words) {
  const std::string& verb = words.at(0);
  if (verb == "record")
    return record(words.at(1), std::atoi(words.at(2).c_str()), words.size() > 3 ? words[3] : "");
  if (verb == "read")
    return read_as(words.at(1), static_cast<uid_t>(std::atoi(words.at(2).c_str())),
                   static_cast<gid_t>(std::atoi(words.at(3).c_str())));
  if (verb == "lock") return lock(words.at(1));
  if (verb == "import") return import(words.at(1));
  return 64;
}

}  // namespace updagent::journal::testing
