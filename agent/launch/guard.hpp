// The seccomp filter that every service runs under. It is one program, because only one filter of a
// process may have a notify listener.
//
// Refused, each because it would harm more than the service itself:
//   setsockopt(SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF | SO_ATTACH_REUSEPORT_EBPF |
//              SO_DETACH_REUSEPORT_BPF)                 EPERM
//       the program belongs to the whole reuseport group: a candidate could take or drop the active
//       one's connections. SO_LOCK_FILTER on our listeners stops the first two but not the third.
//   io_uring_setup(2), unless the node allows it        EPERM, as kernel.io_uring_disabled gives it
//       IORING_OP_URING_CMD sets socket options (Linux 6.7) and IORING_OP_BIND binds (6.11) where
//       no seccomp filter looks.
//   socketcall(2) for setsockopt(2), i386 only          EPERM
//       its arguments are in memory, where a filter can't look. 32-bit programs whose C library
//       goes that way (glibc's i386 does) can set no socket option at all.
//   system calls of other ABIs (x32)                    ENOSYS, as kernels without them give it
// Not refused: SO_ATTACH_FILTER and SO_ATTACH_BPF act on one socket; what we share of a listener is
// locked by SO_LOCK_FILTER, and on its own sockets a service may filter as it likes.
//
// With `intercept_bind` bind(2) stops until the listener's holder answers. Not intercepted:
// socketcall(2)'s bind (i386), and IORING_OP_BIND where the node allows io_uring.
//
// What the filter does not cover: what the service's user may do to other processes of the same
// user (kill(2), ptrace(2)), and a service with capabilities such as CAP_SYS_ADMIN or CAP_BPF.
#pragma once

#include <linux/filter.h>

#include <vector>

#include "agent/base/error.hpp"
#include "agent/base/unique_fd.hpp"

namespace updagent::launch {

struct GuardOptions {
  bool intercept_bind = false;  // protocol inject
  bool allow_io_uring = false;  // the node's decision: see above what it opens
};

class Guard {
 public:
  // The error says what this kernel lacks.
  static base::Result<Guard> build(const GuardOptions& options);

  bool intercepts_bind() const { return intercept_bind_; }
  // Linux 5.19: a call that waits for its answer is interrupted by nothing but its death. Without
  // it a signal (Go's preemption) starts the call again, so that one bind is asked twice.
  bool wait_killable() const { return wait_killable_; }

  // On the calling thread, for ever; async-signal-safe. Needs no_new_privs or CAP_SYS_ADMIN. The
  // notify listener's descriptor (O_CLOEXEC) with intercept_bind, else 0; -1 with errno set: EBUSY
  // when an older filter (of a container, of a supervisor above us) has a listener already.
  int install() const noexcept;

 private:
  Guard() = default;

  std::vector<sock_filter> program_;
  bool intercept_bind_ = false;
  bool wait_killable_ = false;
};

}  // namespace updagent::launch
