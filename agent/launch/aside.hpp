// A process of a moment, for the few calls at which a service could make the supervisor wait for
// ever: reading memory whose pages the service itself provides (userfaultfd, FUSE), closing a file
// of a file system that the service itself serves, a socket's lock that the service holds. The
// supervisor has one thread and must not stop: it starts an aside and goes on, and kills it when it
// takes too long. A fork costs about 0.2 ms; none of these calls is frequent.
//
// Only for a process with one thread. The work runs in a copy of the caller's memory: answers go
// into a shared mapping. It must not throw.
#pragma once

#include <sys/types.h>

#include <functional>

#include "agent/base/error.hpp"
#include "agent/base/unique_fd.hpp"

namespace updagent::launch {

class Aside {
 public:
  enum class Descriptors {
    shared,  // the caller's own table: what it closes, it closes for the caller
    own,     // an empty table: what is left open by a kill is gone with it; see from_caller()
  };

  static base::Result<Aside> start(Descriptors descriptors, const std::function<void()>& work);
  Aside(Aside&& other) noexcept = default;
  Aside& operator=(Aside&& other) noexcept;
  ~Aside();  // it goes on, until it ends or our own death kills it; see sweep()

  int event_fd() const { return pidfd_.get(); }  // readable once it has ended
  // True once it has ended; reaps it then.
  bool ended();
  // After ended(): the work returned. False: it was killed.
  bool finished() const { return finished_; }
  void kill() const;
  // Waits for the end, at most that long.
  bool wait(int timeout_ms);

  // Reaps those whose object went before they had ended; how many of them still run. Each start()
  // does it too, so that at most the last ones stay zombies.
  static std::size_t sweep();

  // Within the work of an aside with a table of its own: a duplicate of the caller's descriptor.
  // Empty with errno set; EPERM where the caller has no CAP_SYS_PTRACE and Yama is strict.
  static base::UniqueFd from_caller(int callers_fd);

 private:
  explicit Aside(base::UniqueFd pidfd) : pidfd_(std::move(pidfd)) {}
  void leave();

  base::UniqueFd pidfd_;
  bool reaped_ = false;
  bool finished_ = false;
};

}  // namespace updagent::launch
