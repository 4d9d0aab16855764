#include <gtest/gtest.h>
#include <poll.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "tests/unit/health/probe_server.hpp"

namespace updagent::health {
namespace {

TEST(ExecProbe, Exit_status_0_is_healthy_and_its_output_is_kept) {
  std::string output;
  const Verdict verdict = prove_all({exec_probe("echo fine")}, {},
                                    [&](const ProbeResult& result) { output = result.output; });
  EXPECT_TRUE(verdict.healthy) << verdict.reason;
  EXPECT_EQ(output, "fine\n");
}

TEST(ExecProbe, A_failure_is_named_with_the_last_line_of_its_output) {
  const Verdict verdict =
      prove_all({exec_probe("echo first; printf 'no \\033 disk\\n\\n' >&2; exit 3")});
  EXPECT_EQ(verdict.reason, "probe 'p' failed: exit status 3: no \\x1b disk");
  EXPECT_EQ(verdict.output, "first\nno \x1b disk\n\n");
}

TEST(ExecProbe, A_failure_without_output_is_named_by_its_status) {
  EXPECT_EQ(prove_all({exec_probe("exit 1")}).reason, "probe 'p' failed: exit status 1");
  EXPECT_EQ(prove_all({exec_probe("kill -SEGV $$")}).reason,
            "probe 'p' failed: killed by signal 11 (SEGV)");
}

TEST(ExecProbe, It_runs_where_and_with_what_the_context_says) {
  ProbeContext context;
  context.working_directory = "/usr";
  context.environment = {"ONLY=this"};
  std::string output;
  release::Probe probe = exec_probe("");
  probe.command.argv = {"/bin/sh", "-c", "pwd; echo $ONLY; echo ${HOME-unset}"};
  prove_all({probe}, context, [&](const ProbeResult& result) { output = result.output; });
  EXPECT_EQ(output, "/usr\nthis\nunset\n");
}

TEST(ExecProbe, It_runs_as_the_user_of_the_context_without_new_privileges) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can become someone else";
  ProbeContext context;
  context.identity = base::Identity{"nobody", 65534, 65534, {65534}, "/"};
  std::string output;
  prove_all({exec_probe("id -u; grep NoNewPrivs /proc/self/status")}, context,
            [&](const ProbeResult& result) { output = result.output; });
  EXPECT_EQ(output, "65534\nNoNewPrivs:\t1\n");
}

TEST(ExecProbe, A_command_that_is_missing_is_a_failure_and_not_the_end_of_the_probing) {
  release::Probe probe = exec_probe("");
  probe.command.argv = {"bin/no-such-check"};
  probe.failures = 2;
  const Verdict verdict = prove_all({probe});
  EXPECT_EQ(verdict.results, 2U);
  EXPECT_EQ(verdict.reason,
            "probe 'p' failed 2 times in a row: cannot run 'bin/no-such-check': No such file or "
            "directory");
}

TEST(ExecProbe, One_that_hangs_is_killed_with_its_children) {
  std::string directory = std::filesystem::temp_directory_path() / "updagent-test-XXXXXX";
  ASSERT_NE(::mkdtemp(directory.data()), nullptr);
  const std::string tether = directory + "/tether";
  ASSERT_EQ(::mkfifo(tether.c_str(), 0600), 0);
  const base::UniqueFd reader(::open(tether.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  release::Probe probe =
      exec_probe("exec 3>" + tether + "; echo up >&3; setsid sleep 1000 & exec sleep 1000");
  probe.timeout = base::Milliseconds(1000);
  EXPECT_EQ(prove_all({probe}).reason,
            "probe 'p' failed: still running after 1s: killed with its children");
  std::array<char, 8> text{};
  EXPECT_EQ(::read(reader.get(), text.data(), text.size()), 3) << "it never ran";
  pollfd waiting{reader.get(), 0, 0};
  EXPECT_EQ(::poll(&waiting, 1, 30'000), 1);
  EXPECT_NE(waiting.revents & POLLHUP, 0) << "someone still holds it";
  std::filesystem::remove_all(directory);
}

}  // namespace
}  // namespace updagent::health
