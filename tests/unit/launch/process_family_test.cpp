#include "agent/launch/process_family.hpp"

#include <sys/prctl.h>

#include "agent/launch/proc_stat.hpp"
#include "tests/unit/launch/launch_support.hpp"

namespace updagent::launch {
namespace {

using test::TestDirectory;

constexpr base::Milliseconds kPatience{kPatienceMs};

// A service whose script writes the pids of its processes, one a line, and stays.
class Family {
 public:
  explicit Family(const std::string& script, std::size_t processes) {
    mark_ = "RUNTIME_DIRECTORY=" + directory_.path();
    TestSpec spec({"/bin/sh", "-c", script + "; echo $$ >> pids; exec sleep 1000"});
    spec.spec.environment = {"PATH=/usr/bin:/bin", mark_};
    spec.spec.working_directory = directory_.path();
    running_.emplace(spec.spec);
    EXPECT_TRUE(eventually([&] {
      const std::string text = directory_.read("pids");
      return std::count(text.begin(), text.end(), '\n') == static_cast<long>(processes);
    })) << directory_.read("pids");
  }
  ~Family() {
    for (const pid_t pid : pids())
      if (pid != running_->pid()) ::kill(pid, SIGKILL);
  }

  ProcessFamily family(bool with_mark = true) const {
    return {running_->service.identity, with_mark ? mark_ : ""};
  }
  std::set<pid_t> pids() const {
    std::set<pid_t> found;
    std::ifstream file(directory_.path("pids"));
    for (pid_t pid = 0; file >> pid;) found.insert(pid);
    return found;
  }
  std::set<pid_t> found(bool with_mark = true) const {
    const auto pids = processes_of(family(with_mark));
    EXPECT_TRUE(pids.has_value());
    return {pids->begin(), pids->end()};
  }
  Running& running() { return *running_; }

 private:
  TestDirectory directory_;
  std::string mark_;
  std::optional<Running> running_;
};

constexpr const char* kChild = "(echo $(exec sh -c 'echo $PPID') >> pids; exec sleep 1000) &";
// nobody's descendant, in the session of the service
constexpr const char* kOrphan = "( (echo $(exec sh -c 'echo $PPID') >> pids; exec sleep 1000) & )";
// nobody's descendant, in a session of its own
constexpr const char* kDaemon = "(setsid sh -c 'echo $$ >> pids; exec sleep 1000' &)";
// and without the mark
constexpr const char* kFugitive =
    "(env -u RUNTIME_DIRECTORY setsid sh -c 'echo $$ >> pids; exec sleep 1000' &)";

bool all_dead(const std::set<pid_t>& pids) {
  return eventually([&] {
    return std::all_of(pids.begin(), pids.end(), [](pid_t pid) {
      const auto stat = read_proc_stat(pid);
      return !stat || stat->dead();
    });
  });
}

TEST(ProcessFamily, Children_orphans_and_daemons_are_found_and_killed) {
  Family family(std::string(kChild) + kOrphan + ";" + kDaemon, 4);
  EXPECT_EQ(family.found(), family.pids());
  for (const pid_t pid : family.pids()) EXPECT_TRUE(belongs_to(family.family(), pid));
  EXPECT_FALSE(belongs_to(family.family(), ::getpid()));
  const auto left = kill_family(family.family(), kPatience);
  ASSERT_TRUE(left.has_value()) << left.error().line();
  EXPECT_TRUE(left->empty());
  EXPECT_TRUE(all_dead(family.pids()));
}

TEST(ProcessFamily, Without_a_mark_a_daemon_in_its_own_session_is_not_found) {
  Family family(std::string(kChild) + kOrphan + ";" + kDaemon, 4);
  EXPECT_EQ(family.found(false).size(), 3U);
}

// The limit that process_family.hpp states.
TEST(ProcessFamily, A_daemon_that_leaves_tree_session_and_environment_escapes) {
  Family family(kFugitive, 2);
  EXPECT_EQ(family.found(), std::set<pid_t>{family.running().pid()});
}

// Its environment is empty for a moment, again and again.
TEST(ProcessFamily, A_daemon_in_the_middle_of_execve_is_found_too) {
  const Family family(
      "printf '#!/bin/sh\\nexec ./again\\n' > again; chmod +x again;"
      "(ulimit -t 60; setsid sh -c 'echo $$ >> pids; exec ./again' &)",
      2);
  const std::set<pid_t> pids = family.pids();
  for (int i = 0; i < 300; ++i)
    for (const pid_t pid : pids) ASSERT_TRUE(belongs_to(family.family(), pid));
  EXPECT_EQ(family.found(), pids);
}

TEST(ProcessFamily, After_the_main_process_the_mark_still_finds_the_others) {
  Family family(std::string(kOrphan) + ";" + kDaemon, 3);
  const std::set<pid_t> all = family.pids();
  const ProcessFamily asked = family.family();
  std::set<pid_t> others = all;
  others.erase(asked.main.pid);
  family.running().stop();
  EXPECT_EQ(family.found(), others);
  EXPECT_TRUE(kill_family(asked, kPatience).value().empty());
  EXPECT_TRUE(all_dead(others));
}

TEST(ProcessFamily, A_pid_that_is_somebody_elses_by_now_is_not_the_main_process) {
  Family family("true", 1);
  ProcessFamily stale = family.family(false);
  stale.main.start_ticks += 1;
  EXPECT_TRUE(processes_of(stale).value().empty());
  EXPECT_FALSE(belongs_to(stale, family.running().pid()));
  EXPECT_TRUE(kill_family(stale, kPatience).value().empty());
  EXPECT_EQ(family.found(), std::set<pid_t>{family.running().pid()});
}

TEST(ProcessFamily, A_mark_must_fit_as_a_whole) {
  Family family("true", 1);
  ProcessFamily similar = family.family();
  similar.main.start_ticks += 1;
  EXPECT_EQ(processes_of(similar).value().size(), 1U);
  similar.mark.pop_back();
  EXPECT_TRUE(processes_of(similar).value().empty());
}

}  // namespace
}  // namespace updagent::launch
