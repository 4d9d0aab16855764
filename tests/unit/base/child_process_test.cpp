#include "agent/base/child_process.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <optional>

#include "agent/base/text.hpp"
#include "tests/unit/base/test_directory.hpp"

namespace updagent::base {
namespace {

using test::TestDirectory;

constexpr int kPatienceMs = 30'000;  // a bound for a machine under load, never what is measured

ChildSpec shell(const std::string& script) {
  ChildSpec spec;
  spec.argv = {"/bin/sh", "-c", script};
  spec.environment = {"PATH=" + std::string(kSafePath)};
  return spec;
}

ChildResult run(const ChildSpec& spec, Interrupt* interrupt = nullptr) {
  Result<ChildResult> result = run_child(spec, interrupt);
  EXPECT_TRUE(result.has_value()) << result.error().line();
  return result ? *result : ChildResult{};
}

Error start_error_of(const ChildSpec& spec) {
  const Result<ChildResult> result = run_child(spec, nullptr);
  EXPECT_FALSE(result.has_value()) << "it ran: " << result->output;
  return result ? Error(Code::internal, "it ran") : result.error();
}

// A fifo that processes of a command's tree hold open: its end of file proves that all are dead.
class Tether {
 public:
  explicit Tether(const TestDirectory& directory) : path_(directory.path("tether")) {
    EXPECT_EQ(::mkfifo(path_.c_str(), 0666), 0);
    ::chmod(path_.c_str(), 0666);
    reader_.reset(::open(path_.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  }
  const std::string& path() const { return path_; }

  // What came until there were `lines` lines, or the end of file for 0.
  std::string read_lines(std::size_t lines) {
    std::string text;
    while (lines == 0 ||
           static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n')) < lines) {
      pollfd waiting{reader_.get(), POLLIN, 0};
      if (::poll(&waiting, 1, kPatienceMs) <= 0) {
        ADD_FAILURE() << "nothing came; so far: " << text;
        return text;
      }
      char byte = 0;
      const ssize_t count = ::read(reader_.get(), &byte, 1);
      if (count == 0) return text;
      if (count == 1) text += byte;
    }
    return text;
  }
  // False when a process still holds it after the patience.
  bool ended() {
    pollfd waiting{reader_.get(), 0, 0};  // POLLHUP alone
    return ::poll(&waiting, 1, kPatienceMs) > 0 && (waiting.revents & POLLHUP) != 0;
  }

 private:
  std::string path_;
  UniqueFd reader_;
};

// Two forks and a session of its own: no parent, group or terminal leads from the command to it.
std::string daemon_holding(const Tether& tether) {
  return "(setsid sh -c 'exec 3>" + tether.path() +
         "; (echo up >&3; exec sleep 1000) >/dev/null 2>&1 & ' &); ";
}

// --- how it ends ------------------------------------------------------------------------------

TEST(ChildProcess, The_exit_status_is_the_commands) {
  EXPECT_TRUE(run(shell("exit 0")).success());
  const ChildResult failed = run(shell("exit 3"));
  EXPECT_EQ(failed.exit_status, 3);
  EXPECT_EQ(failed.signal_number, 0);
  EXPECT_FALSE(failed.success());
  EXPECT_EQ(failed.describe(Milliseconds(1000)), "exit status 3");
}

TEST(ChildProcess, A_signal_that_ended_it_is_named) {
  const ChildResult result = run(shell("kill -TERM $$"));
  EXPECT_EQ(result.exit_status, -1);
  EXPECT_EQ(result.signal_number, SIGTERM);
  EXPECT_EQ(result.describe(Milliseconds(1000)), "killed by signal 15 (TERM)");
}

TEST(ChildProcess, Signals_that_the_agent_ignores_or_blocks_work_in_the_command) {
  ::signal(SIGPIPE, SIG_IGN);
  sigset_t blocked;
  sigset_t before;
  ::sigemptyset(&blocked);
  ::sigaddset(&blocked, SIGTERM);
  ::pthread_sigmask(SIG_BLOCK, &blocked, &before);
  const ChildResult result = run(shell("grep -E '^Sig(Blk|Ign)' /proc/self/status"));
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  ::signal(SIGPIPE, SIG_DFL);
  const std::string none(16, '0');
  EXPECT_EQ(result.output, "SigBlk:\t" + none + "\nSigIgn:\t" + none + "\n");
}

// --- output and input -------------------------------------------------------------------------

TEST(ChildProcess, Output_and_error_come_in_the_order_they_were_written) {
  const ChildResult result = run(shell("echo one; echo two >&2; echo three"));
  EXPECT_EQ(result.output, "one\ntwo\nthree\n");
  EXPECT_FALSE(result.output_truncated);
}

TEST(ChildProcess, Of_ten_megabytes_the_first_and_the_last_half_of_the_limit_are_kept) {
  ChildSpec spec = shell("echo first; head -c 10485760 /dev/zero | tr '\\0' x; echo; echo last");
  spec.output_limit = 1000;
  const ChildResult result = run(spec);
  EXPECT_TRUE(result.success());
  EXPECT_TRUE(result.output_truncated);
  EXPECT_TRUE(result.output.starts_with("first\nxxx"));
  EXPECT_TRUE(result.output.ends_with("xxx\nlast\n"));
  const std::string marker = "\n[... 10484772 bytes left out ...]\n";  // 10485760 + 12 - 1000
  EXPECT_NE(result.output.find(marker), std::string::npos) << result.output;
  EXPECT_EQ(result.output.size(), 1000 + marker.size());
}

TEST(ChildProcess, Output_of_exactly_the_limit_is_whole) {
  ChildSpec spec = shell("printf abcdefghi");
  spec.output_limit = 9;
  const ChildResult result = run(spec);
  EXPECT_EQ(result.output, "abcdefghi");
  EXPECT_FALSE(result.output_truncated);
}

TEST(ChildProcess, Output_that_is_not_utf8_becomes_it) {
  const ChildResult result = run(shell("printf 'a\\377b'"));
  EXPECT_EQ(result.output,
            "a\xEF\xBF\xBD"
            "b");
}

TEST(ChildProcess, A_daemon_that_keeps_the_output_open_is_let_go_and_not_waited_for) {
  const TestDirectory directory;
  Tether tether(directory);
  const ChildResult result =
      run(shell("(exec 3>" + tether.path() +
                "; echo $$ >&3; sh -c 'echo $$ >&3; exec sleep 1000' &) ; echo done"));
  EXPECT_TRUE(result.success());
  EXPECT_NE(result.output.find("done"), std::string::npos);
  const std::string pids = tether.read_lines(2);
  const auto daemon =
      parse_u64(pids.substr(pids.find('\n') + 1, pids.size() - pids.find('\n') - 2));
  ASSERT_TRUE(daemon.has_value()) << pids;
  EXPECT_EQ(::kill(static_cast<pid_t>(*daemon), 0), 0) << "it was killed";
  ::kill(static_cast<pid_t>(*daemon), SIGKILL);
  EXPECT_TRUE(tether.ended());
}

TEST(ChildProcess, Standard_input_is_given_whole_and_then_ends) {
  ChildSpec spec = shell("sha256sum; wc -c");
  spec.argv = {"wc", "-c"};
  spec.standard_input = std::string(1024 * 1024, 'x');
  EXPECT_EQ(run(spec).output, "1048576\n");
}

TEST(ChildProcess, Standard_input_that_nobody_reads_blocks_nobody) {
  ChildSpec spec = shell("echo unread");
  spec.standard_input = std::string(1024 * 1024, 'x');
  EXPECT_EQ(run(spec).output, "unread\n");
}

TEST(ChildProcess, Standard_input_past_its_bound_is_refused) {
  ChildSpec spec = shell("cat");
  spec.standard_input = std::string(1024 * 1024 + 1, 'x');
  const Error error = start_error_of(spec);
  EXPECT_EQ(error.expected(), "at most 1048576 bytes");
  EXPECT_EQ(error.got(), "1048577");
}

TEST(ChildProcess, Without_standard_input_there_is_an_end_of_file) {
  EXPECT_EQ(run(shell("wc -c")).output, "0\n");
}

// --- what it is given -------------------------------------------------------------------------

TEST(ChildProcess, The_environment_is_exactly_the_list) {
  ::setenv("UPDAGENT_TEST_LEAK", "1", 1);
  ChildSpec spec;
  spec.argv = {"/usr/bin/env"};
  spec.environment = {"B=2", "A=one two"};
  EXPECT_EQ(run(spec).output, "B=2\nA=one two\n");
  ::unsetenv("UPDAGENT_TEST_LEAK");
}

TEST(ChildProcess, No_descriptor_of_the_agent_reaches_it) {
  const UniqueFd leak(::open("/dev/null", O_RDONLY));  // without O_CLOEXEC, as a library may
  ASSERT_GE(::fcntl(leak.get(), F_GETFD), 0);
  ChildSpec spec;
  spec.argv = {"/bin/ls", "/proc/self/fd"};
  EXPECT_EQ(run(spec).output, "0\n1\n2\n3\n");  // 3 is ls reading the directory
}

TEST(ChildProcess, It_works_when_the_agent_has_no_standard_descriptors) {
  const pid_t pid = ::fork();
  ASSERT_GE(pid, 0);
  if (pid == 0) {
    for (const int fd : {0, 1, 2}) UniqueFd(fd).reset();
    ChildSpec spec = shell("cat; echo ' and error' >&2");
    spec.standard_input = "input";
    const Result<ChildResult> result = run_child(spec, nullptr);
    ::_exit(result && result->success() && result->output == "input and error\n" ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(pid, &status, 0), pid);
  EXPECT_EQ(status, 0);
}

TEST(ChildProcess, It_runs_in_the_working_directory_and_finds_a_relative_program_there) {
  const TestDirectory directory;
  std::filesystem::create_directory(directory.path("bin"));
  directory.write("bin/hook", "#!/bin/sh\npwd; echo $0\n", 0755);
  ChildSpec spec;
  spec.argv = {"bin/hook"};
  spec.working_directory = directory.path();
  EXPECT_EQ(run(spec).output, directory.path() + "\nbin/hook\n");
}

TEST(ChildProcess, A_name_without_a_slash_is_searched_in_the_safe_path_only) {
  const TestDirectory directory;
  directory.write("true", "#!/bin/sh\necho mine\n", 0755);
  ChildSpec spec;
  spec.argv = {"true"};
  spec.working_directory = directory.path();
  spec.environment = {"PATH=" + directory.path()};
  EXPECT_EQ(run(spec).output, "");
}

TEST(ChildProcess, The_umask_is_the_same_whoever_calls) {
  const mode_t before = ::umask(077);
  const ChildResult result = run(shell("umask"));
  ::umask(before);
  EXPECT_EQ(result.output, "0022\n");
}

TEST(ChildProcess, It_has_a_session_and_a_group_that_are_not_the_agents) {
  const ChildResult result = run(shell("cut -d' ' -f5,6,7 /proc/self/stat; echo $$"));
  // group, session, terminal: its own group, the keeper's session, none
  EXPECT_NE(result.output.find(" 0\n"), std::string::npos) << result.output;
  EXPECT_EQ(result.output.find(" " + std::to_string(::getsid(0)) + " "), std::string::npos);
  EXPECT_TRUE(
      result.output.ends_with("\n" + result.output.substr(0, result.output.find(' ')) + "\n"));
}

class AsAnotherUser : public ::testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "only root can become someone else";
  }
  static Identity nobody() { return {"nobody", 65534, 65534, {65534, 12}, "/"}; }
};

TEST_F(AsAnotherUser, It_has_that_users_ids_and_groups_and_no_new_privileges) {
  ChildSpec spec =
      shell("id -u; id -g; id -G; grep -E '^(NoNewPrivs|CapEff|CapPrm)' /proc/self/status");
  spec.identity = nobody();
  const std::string none(16, '0');
  EXPECT_EQ(run(spec).output, "65534\n65534\n65534 12\nCapPrm:\t" + none + "\nCapEff:\t" + none +
                                  "\nNoNewPrivs:\t1\n");
}

TEST_F(AsAnotherUser, A_script_can_open_its_standard_streams_by_name) {
  ChildSpec spec = shell("cat /dev/stdin; echo out >/dev/stdout; echo err >/dev/stderr");
  spec.identity = nobody();
  spec.standard_input = "in\n";
  EXPECT_EQ(run(spec).output, "in\nout\nerr\n");
}

TEST_F(AsAnotherUser, New_privileges_are_kept_only_when_asked_for) {
  ChildSpec spec = shell("grep NoNewPrivs /proc/self/status");
  spec.no_new_privs = false;
  EXPECT_EQ(run(spec).output, "NoNewPrivs:\t0\n");
}

TEST_F(AsAnotherUser, A_folder_that_the_user_may_not_enter_is_named) {
  const TestDirectory directory;
  std::filesystem::create_directory(directory.path("private"));
  ::chmod(directory.path("private").c_str(), 0700);
  ChildSpec spec = shell("true");
  spec.identity = nobody();
  spec.working_directory = directory.path("private");
  const Error error = start_error_of(spec);
  EXPECT_EQ(error.line(), "cannot enter the working directory '" + directory.path("private") +
                              "' as user 'nobody': Permission denied (got a folder that it may not "
                              "pass: '" +
                              directory.path("private") + "')");
  EXPECT_EQ(error.hint(), "chmod o+x " + directory.path("private"));
}

TEST_F(AsAnotherUser, A_folder_above_that_the_user_may_not_pass_is_named) {
  const TestDirectory directory;
  std::filesystem::create_directories(directory.path("private/open"));
  ::chmod(directory.path("private").c_str(), 0700);
  ChildSpec spec = shell("true");
  spec.identity = nobody();
  spec.working_directory = directory.path("private/open");
  EXPECT_NE(start_error_of(spec).line().find("may not pass: '" + directory.path("private") + "')"),
            std::string::npos)
      << start_error_of(spec).line();
  EXPECT_EQ(folder_closed_to(nobody(), directory.path("private/open")), directory.path("private"));
  ::chmod(directory.path("private").c_str(), 0711);
  EXPECT_EQ(folder_closed_to(nobody(), directory.path("private/open")), "");
}

TEST_F(AsAnotherUser, Only_root_can_do_it) {
  const pid_t pid = ::fork();
  ASSERT_GE(pid, 0);
  if (pid == 0) {
    if (::setresuid(1, 1, 1) != 0) ::_exit(2);
    ChildSpec spec = shell("true");
    spec.identity = nobody();
    const Result<ChildResult> result = run_child(spec, nullptr);
    ::_exit(!result && result.error().code() == Code::config_invalid &&
                    result.error().line().find("cannot become user 'nobody' (setgroups)") == 0
                ? 0
                : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(pid, &status, 0), pid);
  EXPECT_EQ(status, 0);
}

// --- what can't be started --------------------------------------------------------------------

TEST(ChildProcess, A_program_that_is_not_in_the_path_is_named_with_the_path) {
  ChildSpec spec;
  spec.argv = {"no-such-program"};
  const Error error = start_error_of(spec);
  EXPECT_EQ(error.code(), Code::io_error);
  EXPECT_NE(error.line().find("cannot run 'no-such-program': No such file or directory"),
            std::string::npos);
  EXPECT_NE(error.expected().find(kSafePath), std::string::npos);
}

TEST(ChildProcess, A_relative_program_that_is_missing_is_named_with_its_folder) {
  const TestDirectory directory;
  ChildSpec spec;
  spec.argv = {"bin/hook"};
  spec.working_directory = directory.path();
  const Error error = start_error_of(spec);
  EXPECT_EQ(error.line(), "cannot run 'bin/hook': No such file or directory");
  EXPECT_NE(error.hint().find(directory.path()), std::string::npos);
}

TEST(ChildProcess, A_file_without_the_executable_bit_is_named_with_the_mend) {
  const TestDirectory directory;
  ChildSpec spec;
  spec.argv = {directory.write("hook", "#!/bin/sh\n", 0644)};
  const Error error = start_error_of(spec);
  EXPECT_EQ(error.line(), "cannot run '" + spec.argv[0] + "': Permission denied");
  EXPECT_NE(error.hint().find("chmod +x"), std::string::npos);
}

TEST(ChildProcess, A_missing_interpreter_is_not_taken_for_a_missing_script) {
  const TestDirectory directory;
  ChildSpec spec;
  spec.argv = {directory.write("hook", "#! /opt/no/such/python3 -u\nprint()\n", 0755)};
  const Error error = start_error_of(spec);
  EXPECT_EQ(error.expected(), "the interpreter '/opt/no/such/python3' of its first line");
  EXPECT_NE(error.hint().find("install '/opt/no/such/python3'"), std::string::npos);
}

TEST(ChildProcess, A_script_with_windows_line_ends_is_told_so) {
  const TestDirectory directory;
  ChildSpec spec;
  spec.argv = {directory.write("hook", "#!/bin/sh\r\necho\r\n", 0755)};
  EXPECT_NE(start_error_of(spec).hint().find("carriage return"), std::string::npos);
}

TEST(ChildProcess, A_file_that_is_no_program_is_told_so) {
  const TestDirectory directory;
  ChildSpec spec;
  spec.argv = {directory.write("hook", "hello\n", 0755)};
  const Error error = start_error_of(spec);
  EXPECT_EQ(error.line(), "cannot run '" + spec.argv[0] + "': Exec format error");
  EXPECT_NE(error.hint().find("#!"), std::string::npos);
}

TEST(ChildProcess, A_working_directory_that_is_missing_is_named) {
  ChildSpec spec = shell("true");
  spec.working_directory = "/no/such/folder";
  EXPECT_EQ(start_error_of(spec).line(),
            "cannot enter the working directory '/no/such/folder' as this user: No such file or "
            "directory");
}

TEST(ChildProcess, An_empty_command_and_a_NUL_byte_are_refused) {
  ChildSpec spec;
  EXPECT_EQ(start_error_of(spec).code(), Code::config_invalid);
  spec.argv = {"/bin/echo", std::string("a\0b", 3)};
  EXPECT_EQ(start_error_of(spec).line(), "a NUL byte in the command '/bin/echo'");
}

// --- the end of the whole tree ----------------------------------------------------------------

TEST(ChildProcess, The_time_limit_kills_a_daemon_that_forked_twice_and_left_the_session) {
  const TestDirectory directory;
  Tether tether(directory);
  // it waits for its daemon, so that the limit always finds both
  ChildSpec spec = shell(daemon_holding(tether) + "echo started; exec sleep 1000");
  spec.time_limit = Milliseconds(2000);
  const ChildResult result = run(spec);
  EXPECT_TRUE(result.timed_out);
  EXPECT_FALSE(result.success());
  EXPECT_FALSE(result.processes_left);
  EXPECT_EQ(result.output, "started\n");
  EXPECT_EQ(result.describe(spec.time_limit), "still running after 2s: killed with its children");
  EXPECT_EQ(tether.read_lines(0), "up\n");
  EXPECT_TRUE(tether.ended());
}

TEST(ChildProcess, A_command_that_ignores_signals_and_stops_itself_is_killed_too) {
  ChildSpec spec = shell("trap '' TERM INT HUP; kill -STOP $$; sleep 1000");
  spec.time_limit = Milliseconds(300);
  const ChildResult result = run(spec);
  EXPECT_TRUE(result.timed_out);
  EXPECT_EQ(result.signal_number, SIGKILL);
}

TEST(ChildProcess, A_tree_that_keeps_forking_is_killed) {
  const TestDirectory directory;
  Tether tether(directory);
  ChildSpec spec = shell("exec 3>" + tether.path() +
                         "; f() { while :; do (sleep 0.01 & ) ; done; }; f & f & f & wait");
  spec.time_limit = Milliseconds(500);
  const ChildResult result = run(spec);
  EXPECT_TRUE(result.timed_out);
  EXPECT_FALSE(result.processes_left);
  EXPECT_TRUE(tether.ended());
}

TEST(ChildProcess, An_agent_that_is_killed_takes_the_tree_with_it) {
  const TestDirectory directory;
  Tether tether(directory);
  const pid_t agent = ::fork();
  ASSERT_GE(agent, 0);
  if (agent == 0) {
    static_cast<void>(run_child(shell(daemon_holding(tether) + "exec 3>" + tether.path() +
                                      "; echo command >&3; exec sleep 1000"),
                                nullptr));
    ::_exit(0);
  }
  tether.read_lines(2);  // both are there
  ASSERT_EQ(::kill(agent, SIGKILL), 0);
  int status = 0;
  ASSERT_EQ(::waitpid(agent, &status, 0), agent);
  EXPECT_TRUE(tether.ended());
}

TEST(ChildProcess, An_agents_death_is_seen_even_while_another_process_holds_the_lifeline) {
  const TestDirectory directory;
  Tether tether(directory);
  Tether* const held = &tether;
  const pid_t agent = ::fork();
  ASSERT_GE(agent, 0);
  if (agent == 0) {
    Result<ChildProcess> child = ChildProcess::start(
        shell("exec 3>" + held->path() + "; echo command >&3; exec sleep 1000"));
    if (!child) ::_exit(1);
    const pid_t copy = ::fork();  // has all descriptors of the agent, as a careless fork would
    if (copy == 0) {
      ::poll(nullptr, 0, kPatienceMs);
      ::_exit(0);
    }
    const std::string pid = std::to_string(copy) + "\n";
    const UniqueFd tell(::open(held->path().c_str(), O_WRONLY | O_CLOEXEC));
    static_cast<void>(!::write(tell.get(), pid.data(), pid.size()));
    ::pause();
  }
  const std::string lines = tether.read_lines(2);
  ASSERT_EQ(::kill(agent, SIGKILL), 0);
  ASSERT_EQ(::waitpid(agent, nullptr, 0), agent);
  EXPECT_TRUE(tether.ended());
  for (std::size_t at = 0; at < lines.size();) {
    const std::size_t end = lines.find('\n', at);
    if (const auto pid = parse_u64(lines.substr(at, end - at)))
      ::kill(static_cast<pid_t>(*pid), SIGKILL);
    at = end + 1;
  }
}

TEST(ChildProcess, A_child_that_is_dropped_takes_its_tree_with_it) {
  const TestDirectory directory;
  Tether tether(directory);
  {
    Result<ChildProcess> child =
        ChildProcess::start(shell(daemon_holding(tether) + "exec sleep 1000"));
    ASSERT_TRUE(child.has_value()) << child.error().line();
    tether.read_lines(1);
  }
  EXPECT_TRUE(tether.ended());
}

TEST(ChildProcess, A_killed_keeper_takes_the_command_with_it_and_is_reported) {
  const TestDirectory directory;
  Tether tether(directory);
  // the command's parent is the keeper
  const ChildResult result =
      run(shell("exec 3>" + tether.path() + "; kill -KILL $PPID; exec sleep 1000"));
  EXPECT_FALSE(result.success());
  EXPECT_EQ(result.signal_number, SIGKILL);
  EXPECT_TRUE(result.processes_left);
  EXPECT_TRUE(tether.ended());
}

TEST(ChildProcess, An_interrupt_kills_the_tree_and_is_reported) {
  const TestDirectory directory;
  Tether tether(directory);
  sigset_t before;
  ::pthread_sigmask(SIG_SETMASK, nullptr, &before);
  {
    Result<Interrupt> interrupt = Interrupt::install();
    ASSERT_TRUE(interrupt.has_value());
    // the signal comes from the daemon, so that there is one to kill
    const ChildSpec spec =
        shell("(setsid sh -c 'exec 3>" + tether.path() + "; kill -INT " +
              std::to_string(::getpid()) + "; exec sleep 1000' &); exec sleep 1000");
    const ChildResult result = run(spec, &*interrupt);
    EXPECT_TRUE(result.interrupted);
    EXPECT_FALSE(result.timed_out);
    EXPECT_EQ(result.describe(spec.time_limit), "interrupted: killed with its children");
    EXPECT_TRUE(tether.ended());
    const ChildResult next = run(shell("echo ran"), &*interrupt);
    EXPECT_TRUE(next.interrupted) << "it is remembered until acknowledged";
    EXPECT_EQ(next.output, "");
    interrupt->acknowledge();
    EXPECT_EQ(run(shell("echo ran"), &*interrupt).output, "ran\n");
  }
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  ::signal(SIGHUP, SIG_DFL);
  ::signal(SIGPIPE, SIG_DFL);
}

TEST(ChildProcess, Several_run_at_once_in_one_loop) {
  std::vector<ChildProcess> children;
  for (int i = 0; i < 5; ++i) {
    Result<ChildProcess> child = ChildProcess::start(shell("echo " + std::to_string(i)));
    ASSERT_TRUE(child.has_value());
    children.push_back(std::move(*child));
  }
  for (std::size_t i = 0; i < children.size(); ++i) {
    for (;;) {
      pollfd waiting{children[i].event_fd(), POLLIN, 0};
      ASSERT_GT(::poll(&waiting, 1, kPatienceMs), 0);
      const Result<bool> ended = children[i].on_event();
      ASSERT_TRUE(ended.has_value());
      if (*ended) break;
    }
    EXPECT_EQ(children[i].take_result().output, std::to_string(i) + "\n");
  }
}

}  // namespace
}  // namespace updagent::base
