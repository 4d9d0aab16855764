#include "agent/base/interrupt.hpp"

#include <poll.h>
#include <sys/signalfd.h>

#include <cerrno>

namespace updagent::base {

Result<Interrupt> Interrupt::install() {
  sigset_t set;
  ::sigemptyset(&set);
  ::sigaddset(&set, SIGINT);
  ::sigaddset(&set, SIGTERM);
  if (::pthread_sigmask(SIG_BLOCK, &set, nullptr) != 0)
    return system_error(errno, "cannot block SIGINT and SIGTERM");
  ::signal(SIGHUP, SIG_IGN);
  ::signal(SIGPIPE, SIG_IGN);
  UniqueFd signals(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!signals) return system_error(errno, "cannot make a signalfd");
  return Interrupt(std::move(signals));
}

bool Interrupt::requested() {
  pollfd waiting{signals_.get(), POLLIN, 0};
  return ::poll(&waiting, 1, 0) > 0;
}

void Interrupt::acknowledge() {
  signalfd_siginfo signal_info{};
  while (::read(signals_.get(), &signal_info, sizeof signal_info) ==
         static_cast<ssize_t>(sizeof signal_info)) {
  }
}

}  // namespace updagent::base
