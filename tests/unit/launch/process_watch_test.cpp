#include "agent/launch/process_watch.hpp"

#include <sys/syscall.h>

#include "agent/base/clock.hpp"
#include "agent/base/pidfd.hpp"
#include "tests/unit/launch/launch_support.hpp"

namespace updagent::launch {
namespace {

using test::TestDirectory;

ProcessWatch watch_of(const std::vector<std::string>& argv) {
  const TestSpec spec(argv);
  auto started = start_service(spec.spec);
  if (!started) throw std::runtime_error(started.error().line());
  return ProcessWatch::own(started->identity, std::move(started->pidfd));
}

ProcessEnd end_of(ProcessWatch& watch) {
  EXPECT_TRUE(readable_within(watch.event_fd()));
  const auto end = watch.on_event();
  EXPECT_TRUE(end.has_value());
  return end.value_or(ProcessEnd{});
}

// A process whose parent is gone before this returns.
pid_t orphan(const TestDirectory& directory, const std::string& script) {
  const std::string record = directory.path("pid");
  const pid_t parent = ::fork();
  if (parent == 0) {
    const pid_t child = ::fork();
    if (child == 0) {
      ::execl("/bin/sh", "sh", "-c", script.c_str(), nullptr);
      ::_exit(127);
    }
    std::ofstream(record) << child;
    ::_exit(0);
  }
  ::waitpid(parent, nullptr, 0);
  return std::stoi(slurp(record));
}

ProcessIdentity identity_of(pid_t pid) {
  const base::UniqueFd pidfd = base::open_pidfd(pid);
  auto identity = identify_process(pid, pidfd);
  EXPECT_TRUE(identity.has_value()) << identity.error().line();
  return identity.value_or(ProcessIdentity{});
}

TEST(ProcessWatch, A_childs_end_is_known_exactly) {
  ProcessWatch watch = watch_of({"/bin/sh", "-c", "exit 3"});
  const ProcessEnd end = end_of(watch);
  EXPECT_TRUE(end.known);
  EXPECT_EQ(end.exit_status, 3);
  EXPECT_EQ(end.describe(), "exit status 3");
  EXPECT_FALSE(watch.alive());
  EXPECT_EQ(watch.on_event()->exit_status, 3) << "it is remembered";
}

TEST(ProcessWatch, A_signal_that_ended_it_is_named) {
  ProcessWatch watch = watch_of(sleeper());
  EXPECT_TRUE(watch.alive());
  EXPECT_FALSE(watch.on_event().has_value());
  EXPECT_TRUE(watch.send_signal(SIGTERM).value_or(false));
  EXPECT_EQ(end_of(watch).describe(), "killed by signal 15 (TERM)");
  EXPECT_FALSE(watch.send_signal(SIGTERM).value_or(true)) << "it is dead";
}

TEST(ProcessWatch, A_process_of_a_dead_supervisor_is_adopted_by_its_record) {
  const TestDirectory directory;
  const pid_t pid = orphan(directory, "exec sleep 1000");
  const ProcessIdentity recorded = identity_of(pid);
  auto watch = ProcessWatch::adopt(recorded);
  ASSERT_TRUE(watch.has_value()) << watch.error().line();
  EXPECT_TRUE(watch->alive());
  EXPECT_TRUE(watch->send_signal(SIGKILL).value_or(false));
  const ProcessEnd end = end_of(*watch);
  // known where the kernel keeps it (6.15) and its parent has reaped it by now
  EXPECT_EQ(end.describe(),
            end.known ? "killed by signal 9 (KILL)" : "gone; nobody kept how it ended");
}

TEST(ProcessWatch, A_record_that_fits_no_living_process_is_refused_with_what_was_found) {
  ProcessWatch watch = watch_of(sleeper());
  const ProcessIdentity right = watch.identity();
  EXPECT_TRUE(ProcessWatch::adopt(right).has_value());

  const auto refusal = [&](const std::function<void(ProcessIdentity&)>& change) {
    ProcessIdentity record = right;
    change(record);
    const auto adopted = ProcessWatch::adopt(record);
    EXPECT_FALSE(adopted.has_value());
    if (adopted) return std::string("adopted");
    EXPECT_EQ(adopted.error().code(), base::Code::not_found);
    return adopted.error().got();
  };
  EXPECT_EQ(refusal([](auto& r) { r.start_ticks += 1; }),
            "a process of that pid which started at another time");
  EXPECT_EQ(refusal([](auto& r) { r.boot_id = "another"; }), "a record of another boot (another)");
  EXPECT_EQ(refusal([](auto& r) { r.pidfs_inode += 7; }),
            "a process of that pid with another pidfs inode");
  EXPECT_TRUE(watch.send_signal(SIGKILL).value_or(false));
  end_of(watch);
  EXPECT_EQ(refusal([](auto&) {}), "no process of that pid");
}

TEST(ProcessWatch, Two_processes_have_different_pidfs_inodes_where_there_is_pidfs) {
  ProcessWatch one = watch_of(sleeper());
  ProcessWatch two = watch_of(sleeper());
  if (one.identity().pidfs_inode == 0) GTEST_SKIP() << "no pidfs: a kernel before 6.9";
  EXPECT_NE(one.identity().pidfs_inode, two.identity().pidfs_inode);
  EXPECT_EQ(identity_of(one.pid()).pidfs_inode, one.identity().pidfs_inode);
  for (ProcessWatch* watch : {&one, &two}) {
    EXPECT_TRUE(watch->send_signal(SIGKILL).value_or(false));
    end_of(*watch);
  }
}

TEST(ProcessWatch, The_oom_score_of_a_running_service_can_be_moved) {
  ProcessWatch watch = watch_of(sleeper());
  const auto move = [&watch](int from, int to, bool ours = true) {
    return move_oom_score(watch.pid(), from, to, [ours](pid_t) { return ours; });
  };
  const auto score = [&watch] {
    return slurp("/proc/" + std::to_string(watch.pid()) + "/oom_score_adj");
  };
  const int first = std::stoi(score());
  EXPECT_TRUE(move(first, 200).value_or(false));
  EXPECT_EQ(score(), "200\n");
  EXPECT_FALSE(move(200, 100, false).value_or(true)) << "a process of somebody else";
  EXPECT_FALSE(move(0, 100).value_or(true)) << "a score that it was not given";
  EXPECT_EQ(score(), "200\n");
  EXPECT_NE(move(200, 2000).error().line().find("to 2000"), std::string::npos);
  EXPECT_TRUE(watch.send_signal(SIGKILL).value_or(false));
  end_of(watch);
  EXPECT_FALSE(move(200, 0).value_or(true)) << "one that is gone";
}

}  // namespace
}  // namespace updagent::launch
