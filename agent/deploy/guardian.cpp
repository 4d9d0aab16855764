#include "agent/deploy/guardian.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include "agent/base/detached_process.hpp"
#include "agent/base/failpoints.hpp"

namespace updagent::deploy {
namespace {

constexpr char kClosed = 'c';
// It has nothing to do but read one byte: past this someone has stopped it.
constexpr int kPatienceMs = 2'000;

void reset_signals() {
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  // It must survive what ended the driver: a closed terminal, ^C typed at it.
  ::signal(SIGHUP, SIG_IGN);
  ::signal(SIGINT, SIG_IGN);
  ::signal(SIGTERM, SIG_IGN);
  ::signal(SIGPIPE, SIG_IGN);
}

// Keeps the two descriptors (moved to 3 and 4) and nothing else: above all not the app's lock,
// which must fall when the driver dies.
void keep_only(int lifeline_fd, int driver_fd) {
  // a guardian that holds the driver's streams is better than none
  static_cast<void>(base::leave_standard_streams());
  const int high_lifeline = ::fcntl(lifeline_fd, F_DUPFD_CLOEXEC, 10);
  const int high_driver = ::fcntl(driver_fd, F_DUPFD_CLOEXEC, 10);
  ::dup3(high_lifeline, 3, O_CLOEXEC);
  ::dup3(high_driver, 4, O_CLOEXEC);
  ::close_range(5, ~0U, 0);
}

[[noreturn]] void guard(const std::vector<char*>& argv) {
  char word = 0;
  ssize_t count = 0;
  do {
    count = ::read(3, &word, 1);
  } while (count < 0 && errno == EINTR);
  if (count == 1 && word == kClosed) ::_exit(0);
  // The pipe is closed when the driver is gone or nearly so; its lock is free when it is reaped.
  pollfd driver{4, POLLIN, 0};
  while (::poll(&driver, 1, -1) < 0 && errno == EINTR) {
  }
  base::failpoint::hit("guardian.act");
#ifdef UPDAGENT_FAILPOINTS
  ::unsetenv("UPDAGENT_FAILPOINTS");  // what killed the driver must not kill the recovery as well
#endif
  // SIGTERM may stop the recovery that follows as it may stop any driver
  ::signal(SIGINT, SIG_DFL);
  ::signal(SIGTERM, SIG_DFL);
  ::execv("/proc/self/exe", argv.data());
  ::execvp(argv[0], argv.data());
  ::_exit(127);
}

}  // namespace

base::Result<Guardian> Guardian::start(const std::vector<std::string>& command) {
  if (command.empty()) return Guardian();
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return base::system_error(errno, "cannot make a pipe");
  base::UniqueFd read_end(ends[0]);
  base::UniqueFd write_end(ends[1]);
  const base::UniqueFd driver(static_cast<int>(::syscall(SYS_pidfd_open, ::getpid(), 0)));
  if (!driver) return base::system_error(errno, "cannot open a pidfd of the driver");
  std::vector<std::string> words = command;
  std::vector<char*> argv;
  argv.reserve(words.size() + 1);
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);

  const pid_t pid = ::fork();
  if (pid < 0) return base::system_error(errno, "cannot fork the guardian");
  if (pid == 0) {
    ::setsid();
    reset_signals();
    keep_only(read_end.get(), driver.get());
    guard(argv);
  }
  // our child, not yet reaped: the number is its own
  base::UniqueFd process(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (process) return Guardian(std::move(write_end), std::move(process));
  base::Error error = base::system_error(errno, "cannot open a pidfd of the guardian");
  ::kill(pid, SIGKILL);
  while (::waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
  }
  return error;
}

void Guardian::dismiss() {
  if (!lifeline_) return;
  static_cast<void>(!::write(lifeline_.get(), &kClosed, 1));
  lifeline_.reset();
  pollfd gone{process_.get(), POLLIN, 0};
  if (::poll(&gone, 1, kPatienceMs) != 1)
    ::syscall(SYS_pidfd_send_signal, process_.get(), SIGKILL, nullptr, 0);
  siginfo_t ignored{};
  while (::waitid(P_PIDFD, static_cast<id_t>(process_.get()), &ignored, WEXITED) != 0 &&
         errno == EINTR) {
  }
  process_.reset();
}

}  // namespace updagent::deploy
