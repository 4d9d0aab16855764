#include "tests/unit/journal/support.hpp"

#include <fcntl.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>

namespace updagent::journal::testing {

namespace {

constexpr std::uint64_t kEnoughBytes = 128ULL << 20;  // many times what a test leaves

std::string parent_directory() {
  struct statvfs about{};
  const bool room = ::statvfs("/dev/shm", &about) == 0 && ::access("/dev/shm", W_OK) == 0 &&
                    about.f_bavail * about.f_frsize >= kEnoughBytes;
  return room ? "/dev/shm" : "/tmp";
}

}  // namespace

TempDirectory::TempDirectory() {
  std::string name = parent_directory() + "/updagent-journal-XXXXXX";
  if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("mkdtemp");
  path_ = name;
  ::chmod(path_.c_str(), 0755);
}

TempDirectory::~TempDirectory() {
  std::filesystem::remove_all(path_);
}

Paths paths_in(const std::string& directory) {
  return {directory + "/updagent.db", directory + "/audit.head", directory + "/spool",
          directory + "/journal.reserve"};
}

Journal open_journal(const std::string& directory, const std::string& group) {
  return must(Journal::open(paths_in(directory), "node-1", Journal::Mode::read_write, group));
}

base::Result<Journal> try_open(const std::string& directory, Journal::Mode mode,
                               base::Milliseconds busy_timeout) {
  return Journal::open(paths_in(directory), "node-1", mode, "", busy_timeout);
}

EventDraft sample_event(std::int64_t minute) {
  EventDraft event;
  event.trace_id = "4bf92f3577b34da6a3ce929d0e0e4736";
  event.span_id = "00f067aa0ba902b7";
  event.parent_span_id = "b7ad6b7169203331";
  event.app = "shop";
  event.event = "stage.finished";
  event.stage = "fetch";
  event.phase = "pre-upgrade";
  event.status = "success";
  event.timestamp_us = kBaseTimeUs + minute * 60'000'000;
  event.duration_us = 1'234'567;
  event.from_version = "1.4.1";
  event.to_version = "1.4.2";
  event.actor = "uid=0 login=kai";
  event.detail = {{"bytes", 1048576}, {"url", "https://example.net/shop.tar.gz"}};
  return event;
}

DeploymentRow sample_deployment(const std::string& trace_id, const std::string& outcome) {
  DeploymentRow row;
  row.trace_id = trace_id;
  row.root_span_id = "b7ad6b7169203331";
  row.app = "shop";
  row.kind = "apply";
  row.from_version = "1.4.1";
  row.to_version = "1.4.2";
  row.to_digest = std::string(64, 'a');
  row.source = "https://example.net/shop.tar.gz";
  row.actor = "uid=0 login=kai";
  row.state = outcome.empty() ? "switch" : std::string(kClosedState);
  row.pre_upgrade_ran = true;
  row.outcome = outcome;
  row.reason = outcome.empty() ? "" : "probe healthz failed";
  row.started_us = kBaseTimeUs;
  row.ended_us = outcome.empty() ? 0 : kBaseTimeUs + 1;
  row.driver_pid = 4711;
  row.boot_id = "f3c1";
  row.bytes_downloaded = 1048576;
  row.bytes_reused = 7;
  return row;
}

ReleaseRow sample_release(const std::string& version, ReleaseState state) {
  return {"shop", version,     std::string(64, 'a'), state,
          4096,   kBaseTimeUs, std::string(32, 'b'), false};
}

void record_events(Journal& journal, int count, std::int64_t first_minute) {
  std::vector<EventDraft> events;
  for (int i = 0; i < count; ++i) events.push_back(sample_event(first_minute + i));
  must(journal.record(events));
}

std::vector<Event> all_events(Journal& journal) {
  std::vector<Event> events;
  LogFilter all;
  all.limit = 0;
  must(journal.query(all, [&events](const Event& event) {
    events.push_back(event);
    return true;
  }));
  return events;
}

namespace {

struct CloseSqlite {
  void operator()(sqlite3* handle) const { sqlite3_close(handle); }
};

int append_row(void* out, int columns, char** values, char**) {
  auto& text = *static_cast<std::string*>(out);
  for (int i = 0; i < columns; ++i) {
    if (i > 0) text += '|';
    if (values[i] != nullptr) text += values[i];
  }
  text += '\n';
  return 0;
}

}  // namespace

std::string sql_text(const std::string& database, const std::string& sql) {
  sqlite3* raw = nullptr;
  const int opened = sqlite3_open(database.c_str(), &raw);
  const std::unique_ptr<sqlite3, CloseSqlite> handle(raw);
  EXPECT_EQ(opened, SQLITE_OK);
  int keep_wal = 1;
  sqlite3_file_control(raw, "main", SQLITE_FCNTL_PERSIST_WAL, &keep_wal);
  std::string rows;
  EXPECT_EQ(sqlite3_exec(raw, sql.c_str(), append_row, &rows, nullptr), SQLITE_OK)
      << sqlite3_errmsg(raw) << " in " << sql;
  return rows;
}

void run_sql(const std::string& directory, const std::string& sql) {
  sql_text(paths_in(directory).database, sql);
}

std::string read_text(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

void write_text(const std::string& path, const std::string& content) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << content;
  file.flush();
  EXPECT_TRUE(file.good()) << path;
}

Child::Child(const std::vector<std::string>& words, const std::vector<std::string>& environment) {
  std::vector<std::string> arguments = {"journal_test", "--child"};
  arguments.insert(arguments.end(), words.begin(), words.end());
  std::vector<std::string> variables = environment;
  variables.emplace_back("PATH=/usr/bin:/bin");
  std::vector<char*> argv;
  for (std::string& word : arguments) argv.push_back(word.data());
  argv.push_back(nullptr);
  std::vector<char*> envp;
  for (std::string& variable : variables) envp.push_back(variable.data());
  envp.push_back(nullptr);
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) throw std::runtime_error("pipe2");
  pid_ = ::fork();
  if (pid_ == 0) {
    ::dup2(ends[1], STDOUT_FILENO);
    ::execve("/proc/self/exe", argv.data(), envp.data());
    ::_exit(127);
  }
  ::close(ends[1]);
  output_fd_ = ends[0];
}

Child::~Child() {
  if (pid_ > 0) {
    kill();
    wait();
  }
  ::close(output_fd_);
}

std::string Child::read_line() {
  std::string line;
  for (char c = 0; ::read(output_fd_, &c, 1) == 1;) {
    if (c == '\n') return line;
    line += c;
  }
  return line;
}

void Child::kill() {
  ::kill(pid_, SIGKILL);
}

int Child::wait() {
  int status = 0;
  ::waitpid(pid_, &status, 0);
  pid_ = -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

}  // namespace updagent::journal::testing
