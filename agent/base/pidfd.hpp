// pidfd_open(2) and pidfd_send_signal(2). glibc 2.36 declares both without extern "C", so that C++
// can't link them. Async-signal-safe.
#pragma once

#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#include "agent/base/unique_fd.hpp"

namespace updagent::base {

// Names one process for ever, whatever becomes of its pid; readable once it is dead. Empty with
// errno set on failure.
inline UniqueFd open_pidfd(pid_t pid) {
  return UniqueFd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
}

// False with errno set: ESRCH when the process is dead.
inline bool signal_pidfd(const UniqueFd& process, int signal_number) {
  return ::syscall(SYS_pidfd_send_signal, process.get(), signal_number, nullptr, 0) == 0;
}

}  // namespace updagent::base
