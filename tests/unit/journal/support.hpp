// What the tests of the journal share: a directory of their own, a journal in it, a way to tamper,
// and this test binary as a child process.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "agent/journal/journal.hpp"

namespace updagent::journal::testing {

inline constexpr std::int64_t kBaseTimeUs = 1'760'000'000'000'000;  // 2025-10-09T08:53:20Z

#ifdef UPDAGENT_FAILPOINTS
inline constexpr bool kFailpoints = true;
#else
inline constexpr bool kFailpoints = false;  // a build for users: what needs one is skipped
#endif

// In memory where there is room: thousands of fsyncs, and no power cut is tried here.
class TempDirectory {
 public:
  TempDirectory();
  ~TempDirectory();
  TempDirectory(const TempDirectory&) = delete;
  TempDirectory& operator=(const TempDirectory&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// The value, or a failure of the test that shows the error.
template <class T>
T must(base::Result<T> result) {
  if (result) return std::move(*result);
  ADD_FAILURE() << result.error().line();
  throw std::runtime_error(result.error().line());
}
inline void must(const base::Status& status) {
  if (!status) ADD_FAILURE() << status.error().line();
}

Paths paths_in(const std::string& directory);
Journal open_journal(const std::string& directory, const std::string& group = "");
base::Result<Journal> try_open(const std::string& directory, Journal::Mode mode,
                               base::Milliseconds busy_timeout = base::Milliseconds(200));

// "stage.finished" of app shop, a minute after kBaseTimeUs for each `minute`.
EventDraft sample_event(std::int64_t minute = 0);
DeploymentRow sample_deployment(const std::string& trace_id, const std::string& outcome = "");
ReleaseRow sample_release(const std::string& version, ReleaseState state);
void record_events(Journal& journal, int count, std::int64_t first_minute = 0);
std::vector<Event> all_events(Journal& journal);

// On a connection of its own: what an attacker, or another version, does to the file.
void run_sql(const std::string& directory, const std::string& sql);
std::string sql_text(const std::string& database, const std::string& sql);  // rows by newlines

std::string read_text(const std::string& path);
void write_text(const std::string& path, const std::string& content);

// This binary again, as child.cpp's `verb`, so that a failpoint or another uid is its own affair.
class Child {
 public:
  Child(const std::vector<std::string>& words, const std::vector<std::string>& environment = {});
  ~Child();
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  std::string read_line();  // "" at the end of its output
  void kill();
  int wait();  // exit status, or -signal
  int pid() const { return pid_; }

 private:
  int pid_ = -1;
  int output_fd_ = -1;
};

int child_main(const std::vector<std::string>& words);

}  // namespace updagent::journal::testing
