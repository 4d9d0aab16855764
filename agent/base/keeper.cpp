#include "agent/base/keeper.hpp"

#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "agent/base/clock.hpp"
#include "agent/base/process_tree.hpp"
#include "agent/base/unique_fd.hpp"

namespace updagent::base::keeper {
namespace {

constexpr int kFirstFreeFd = 3;       // 0 to 2 become the command's
constexpr mode_t kUmask = 022;        // what a command writes doesn't depend on who called us
constexpr int kExitNotStarted = 127;  // as the shell says it; nobody reads it
// A killed process needs a moment to die; one in uninterruptible sleep may never: 10 s of patience.
constexpr int kDeathWaitMs = 25;
constexpr std::int64_t kKillLimitUs = 10'000'000;
// Each round kills every descendant there is, so only what forks faster than we walk needs a
// second.
constexpr int kMaxKillRounds = 4000;

[[noreturn]] void report_failure(int error_fd, Step step, int errno_value,
                                 int candidate = kNoCandidate) {
  const StartFailure failure{step, errno_value, candidate};
  static_cast<void>(!::write(error_fd, &failure, sizeof failure));
  ::_exit(kExitNotStarted);
}

// Handlers end with execve anyway, but what the agent ignores (SIGPIPE, SIGHUP) would stay ignored.
void reset_dispositions() {
  struct sigaction standard{};
  standard.sa_handler = SIG_DFL;
  for (int number = 1; number < NSIG; ++number) ::sigaction(number, &standard, nullptr);
}

// --- the command, between fork and exec ---------------------------------------------------------

void redirect(const Plan& plan) {
  if (::dup2(plan.stdin_fd, STDIN_FILENO) < 0 || ::dup2(plan.output_fd, STDOUT_FILENO) < 0 ||
      ::dup2(plan.output_fd, STDERR_FILENO) < 0)
    report_failure(plan.error_fd, Step::redirect, errno);
}

void drop_privileges(const Plan& plan) {
  if (plan.change_identity) {
    if (::setgroups(plan.group_count, plan.groups) != 0)
      report_failure(plan.error_fd, Step::groups, errno);
    if (::setresgid(plan.gid, plan.gid, plan.gid) != 0)
      report_failure(plan.error_fd, Step::gid, errno);
    if (::setresuid(plan.uid, plan.uid, plan.uid) != 0)
      report_failure(plan.error_fd, Step::uid, errno);
  }
  if (plan.no_new_privs && ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
    report_failure(plan.error_fd, Step::no_new_privs, errno);
}

// As execvp(3): a candidate that is not there is passed over, one that may not be run is
// remembered.
[[noreturn]] void exec_first(const Plan& plan) {
  StartFailure worst{Step::exec, ENOENT, kNoCandidate};
  for (int i = 0; plan.candidates[i] != nullptr; ++i) {
    // execve(2) changes neither list; its type is older than const
    ::execve(plan.candidates[i], const_cast<char* const*>(plan.argv),
             const_cast<char* const*>(plan.environment));
    const int failed = errno;
    const bool absent =
        failed == ENOTDIR || (failed == ENOENT && ::access(plan.candidates[i], F_OK) != 0);
    if (absent && plan.candidates[i + 1] != nullptr) continue;
    if (!absent) worst = {Step::exec, failed, i};
    if (failed != EACCES && !absent) break;
  }
  report_failure(plan.error_fd, worst.step, worst.errno_value, worst.candidate);
}

[[noreturn]] void run_command(const Plan& plan, pid_t keeper_pid) {
  ::setpgid(0, 0);  // `kill 0` of a script must not reach the keeper
  redirect(plan);
  ::umask(kUmask);
  drop_privileges(plan);
  // After setresuid(2), which clears it: a command never outlives a keeper that someone killed.
  ::prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
  if (::getppid() != keeper_pid) ::_exit(kExitNotStarted);
  if (plan.working_directory != nullptr && ::chdir(plan.working_directory) != 0)
    report_failure(plan.error_fd, Step::working_directory, errno);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  exec_first(plan);
}

// --- the keeper ---------------------------------------------------------------------------------

// All above 2, so that an agent that was started with closed stdio can't mix them up.
Plan with_high_descriptors(const Plan& plan) {
  Plan high = plan;
  for (int* fd : {&high.error_fd, &high.stdin_fd, &high.output_fd, &high.lifeline_fd,
                  &high.status_fd, &high.agent_fd}) {
    if (*fd >= kFirstFreeFd) continue;
    const int copy_fd = ::fcntl(*fd, F_DUPFD_CLOEXEC, kFirstFreeFd);
    if (copy_fd < 0) report_failure(plan.error_fd, Step::close_descriptors, errno);
    *fd = copy_fd;
  }
  return high;
}

void close_all_but(const Plan& plan) {
  std::array<int, 6> kept = {plan.stdin_fd,    plan.output_fd, plan.error_fd,
                             plan.lifeline_fd, plan.status_fd, plan.agent_fd};
  std::sort(kept.begin(), kept.end());
  unsigned from = 0;
  for (const int fd : kept) {
    const auto kept_fd = static_cast<unsigned>(fd);
    if (kept_fd > from && ::close_range(from, kept_fd - 1, 0) != 0)
      report_failure(plan.error_fd, Step::close_descriptors, errno);
    from = kept_fd + 1;
  }
  if (::close_range(from, ~0U, 0) != 0)
    report_failure(plan.error_fd, Step::close_descriptors, errno);
}

class Keeper {
 public:
  Keeper(const Plan& plan, pid_t command_pid, UniqueFd deaths)
      : plan_(plan), command_pid_(command_pid), deaths_(std::move(deaths)) {}

  [[noreturn]] void wait_for_end() {
    for (;;) {
      wait(left_ms());
      reap();
      if (command_reaped_) finish(Reason::ended);
      if (asked_to_kill()) finish(Reason::asked);
      if (left_ms() == 0) finish(Reason::time_limit);
    }
  }

 private:
  int left_ms() const {
    constexpr std::int64_t kLookAgainMs = 60'000;  // any bound: poll(2) takes an int
    const std::int64_t left = (plan_.deadline_us - monotonic_now_us() + 999) / 1000;
    return static_cast<int>(std::clamp<std::int64_t>(left, 0, kLookAgainMs));
  }

  void wait(int timeout_ms) const {
    std::array<pollfd, 3> waiting{
        {{deaths_.get(), POLLIN, 0}, {plan_.lifeline_fd, POLLIN, 0}, {plan_.agent_fd, POLLIN, 0}}};
    ::poll(waiting.data(), waiting.size(), timeout_ms);
  }

  // The lifeline carries nothing: an event on it is its end of file.
  bool asked_to_kill() const {
    std::array<pollfd, 2> waiting{{{plan_.lifeline_fd, POLLIN, 0}, {plan_.agent_fd, POLLIN, 0}}};
    return ::poll(waiting.data(), waiting.size(), 0) > 0;
  }

  // Everyone who is dead, adopted grandchildren included. False when no child is left at all: then
  // there is no descendant either, for an orphan would have become our child.
  bool reap() {
    signalfd_siginfo ignored{};
    while (::read(deaths_.get(), &ignored, sizeof ignored) > 0) {
    }
    for (;;) {
      int status = 0;
      const pid_t pid = ::waitpid(-1, &status, WNOHANG);
      if (pid == 0) return true;
      if (pid < 0) return errno != ECHILD;
      if (pid != command_pid_) continue;
      command_reaped_ = true;
      report_.wait_status = status;
    }
  }

  bool kill_everyone() {
    const std::int64_t give_up_us = monotonic_now_us() + kKillLimitUs;
    for (int round = 0; round < kMaxKillRounds && monotonic_now_us() < give_up_us; ++round) {
      // not through /proc, which may be missing; safe, because nobody else can reap it
      if (!command_reaped_) ::kill(command_pid_, SIGKILL);
      kill_descendants(::getpid());
      if (!reap()) return true;
      pollfd death{deaths_.get(), POLLIN, 0};
      ::poll(&death, 1, kDeathWaitMs);
    }
    return !reap();
  }

  [[noreturn]] void finish(Reason reason) {
    report_.reason = reason;
    if (reason != Reason::ended) {
      report_.wait_status = SIGKILL;
      report_.processes_left = kill_everyone() ? 0 : 1;
    }
    // nobody reads it when the agent is dead, and SIGPIPE is blocked
    static_cast<void>(!::write(plan_.status_fd, &report_, sizeof report_));
    ::_exit(0);
  }

  const Plan& plan_;
  pid_t command_pid_;
  UniqueFd deaths_;
  bool command_reaped_ = false;
  EndReport report_;
};

// Terminal and service manager signals are for the agent: it decides, and its death is seen here.
UniqueFd block_all_but_deaths(int error_fd) {
  sigset_t all;
  ::sigfillset(&all);
  sigset_t death;
  ::sigemptyset(&death);
  ::sigaddset(&death, SIGCHLD);
  UniqueFd deaths(::sigprocmask(SIG_SETMASK, &all, nullptr) == 0
                      ? ::signalfd(-1, &death, SFD_CLOEXEC | SFD_NONBLOCK)
                      : -1);
  if (!deaths) report_failure(error_fd, Step::signals, errno);
  return deaths;
}

}  // namespace

void run(const Plan& given) {
  reset_dispositions();
  const Plan plan = with_high_descriptors(given);
  close_all_but(plan);
  ::prctl(PR_SET_NAME, "updagent-keeper", 0, 0, 0);
  if (::setsid() < 0) report_failure(plan.error_fd, Step::new_session, errno);
  if (::prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0)
    report_failure(plan.error_fd, Step::subreaper, errno);
  UniqueFd deaths = block_all_but_deaths(plan.error_fd);

  const pid_t keeper_pid = ::getpid();
  const pid_t command_pid = ::fork();
  if (command_pid < 0) report_failure(plan.error_fd, Step::fork_command, errno);
  if (command_pid == 0) run_command(plan, keeper_pid);
  // only the command may hold these: their end of file is a message
  for (const int fd : {plan.stdin_fd, plan.output_fd, plan.error_fd}) UniqueFd(fd).reset();
  static_cast<void>(!::chdir("/"));  // a file system that the agent has left can be unmounted
  Keeper(plan, command_pid, std::move(deaths)).wait_for_end();
}

}  // namespace updagent::base::keeper
