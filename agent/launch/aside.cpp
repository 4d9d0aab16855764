#include "agent/launch/aside.hpp"

#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <vector>

#include "agent/base/pidfd.hpp"

namespace updagent::launch {
namespace {

using base::UniqueFd;

constexpr unsigned kUnshareTable = 1U << 1;  // CLOSE_RANGE_UNSHARE, linux/close_range.h

// Not SIGCHLD at its end: whoever waits for children of the supervisor does not see an aside.
constexpr unsigned long kCloneFlags = CLONE_PIDFD | CLONE_FILES;

// The range is all of it, so the kernel hands out an empty table. (Before Linux 6.12 it copied the
// first 64 descriptors, and closed the copies.)
bool leave_table() {
  return ::syscall(SYS_close_range, 0U, ~0U, kUnshareTable) == 0;
}

// Pidfds of asides that nobody waits for any more.
std::vector<UniqueFd>& left_behind() {
  static std::vector<UniqueFd> left;
  return left;
}

struct End {
  bool ended = false;
  bool finished = false;
};

End reap(const UniqueFd& pidfd, int timeout_ms) {
  pollfd event{pidfd.get(), POLLIN, 0};
  if (::poll(&event, 1, timeout_ms) <= 0) return {};
  siginfo_t info{};
  const int reaped = ::waitid(static_cast<idtype_t>(P_PIDFD), static_cast<id_t>(pidfd.get()), &info,
                              WEXITED | WNOHANG | __WALL);
  // When somebody else has reaped it, how it ended isn't known.
  return {true, reaped == 0 && info.si_code == CLD_EXITED && info.si_status == 0};
}

[[noreturn]] void run(pid_t caller, Aside::Descriptors descriptors,
                      const std::function<void()>& work) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  const bool orphan = ::getppid() != caller;  // it died before the line above
  if (!orphan && (descriptors == Aside::Descriptors::shared || leave_table())) {
    work();
    ::_exit(0);
  }
  ::_exit(1);
}

}  // namespace

base::Result<Aside> Aside::start(Descriptors descriptors, const std::function<void()>& work) {
  (void)sweep();
  const pid_t caller = ::getpid();
  int pidfd = -1;
  // NOLINTNEXTLINE(clang-analyzer-core.CallAndMessage): the fourth and fifth argument are unused
  const long pid = ::syscall(SYS_clone, kCloneFlags, nullptr, &pidfd, nullptr, nullptr);
  if (pid < 0) return base::system_error(errno, "cannot start a helper process");
  if (pid == 0) run(caller, descriptors, work);
  return Aside(UniqueFd(pidfd));
}

Aside& Aside::operator=(Aside&& other) noexcept {
  if (this == &other) return *this;
  leave();
  pidfd_ = std::move(other.pidfd_);
  reaped_ = other.reaped_;
  finished_ = other.finished_;
  return *this;
}

Aside::~Aside() {
  leave();
}

void Aside::leave() {
  if (pidfd_ && !ended()) left_behind().push_back(std::move(pidfd_));
}

std::size_t Aside::sweep() {
  std::erase_if(left_behind(), [](const UniqueFd& pidfd) { return reap(pidfd, 0).ended; });
  return left_behind().size();
}

bool Aside::ended() {
  return wait(0);
}

bool Aside::wait(int timeout_ms) {
  if (reaped_) return true;
  const End end = reap(pidfd_, timeout_ms);
  reaped_ = end.ended;
  finished_ = end.finished;
  return reaped_;
}

void Aside::kill() const {
  base::signal_pidfd(pidfd_, SIGKILL);
}

UniqueFd Aside::from_caller(int callers_fd) {
  const UniqueFd caller = base::open_pidfd(::getppid());
  if (!caller) return {};
  return UniqueFd(static_cast<int>(::syscall(SYS_pidfd_getfd, caller.get(), callers_fd, 0)));
}

}  // namespace updagent::launch
