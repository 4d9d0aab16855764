// Owns the end of one process that we started, or that a predecessor of ours did: by pidfd, so that
// a pid which now belongs to somebody else is never waited for, signalled or counted.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "agent/base/error.hpp"
#include "agent/base/unique_fd.hpp"

namespace updagent::launch {

// What is recorded about a process, to know it again after our own death.
struct ProcessIdentity {
  pid_t pid = 0;
  std::uint64_t start_ticks = 0;  // of proc_pid_stat(5); with the pid unique within a boot
  std::string boot_id;
  std::uint64_t pidfs_inode = 0;  // unique within a boot by itself; 0 before Linux 6.9
};

// Of the process behind `pidfd`, whose pid is `pid`. Code::not_found when it is gone.
base::Result<ProcessIdentity> identify_process(pid_t pid, const base::UniqueFd& pidfd);

struct ProcessEnd {
  // False: it was not our child, and the kernel (before 6.15) or a slow reaper left no record.
  bool known = false;
  int exit_status = -1;   // of exit(2); -1 if a signal ended it
  int signal_number = 0;  // that ended it, 0 otherwise
  bool core_dumped = false;

  // "exit status 3", "killed by signal 11 (SEGV), core dumped", "gone; nobody kept how it ended"
  std::string describe() const;
};

class ProcessWatch {
 public:
  // A process that is held already: a child just started, or a pidfd that was kept over execve(2).
  static ProcessWatch own(ProcessIdentity identity, base::UniqueFd pidfd);
  // By record. Code::not_found, with what was found instead, when that process is gone: another
  // boot, no such pid, or a pid that was given to another process since.
  static base::Result<ProcessWatch> adopt(const ProcessIdentity& recorded);

  const ProcessIdentity& identity() const { return identity_; }
  pid_t pid() const { return identity_.pid; }
  int pidfd() const { return pidfd_.get(); }
  int event_fd() const { return pidfd_.get(); }  // readable once it is dead

  bool alive() const;
  // Nothing while it lives; afterwards how it ended (a child of ours is reaped by the first call).
  // Waits at most kReapPatience, and only for a process of somebody else that has just died.
  std::optional<ProcessEnd> on_event();
  // False when it is dead already.
  base::Result<bool> send_signal(int signal_number) const;

 private:
  ProcessWatch(ProcessIdentity identity, base::UniqueFd pidfd);

  ProcessIdentity identity_;
  base::UniqueFd pidfd_;
  std::optional<ProcessEnd> end_;
};

// Who dies first when memory ends, -1000 to 1000 (proc_pid_oom_score_adj(5)): changed when a
// candidate becomes the active one. What it forks later inherits it, so this is for each of its
// processes. `is_ours` is asked when the file is open: a later process of that pid is left alone.
// False: it is gone, not ours, or has not `from`, because the service chose a score for it.
base::Result<bool> move_oom_score(pid_t pid, int from, int to,
                                  const std::function<bool(pid_t)>& is_ours);

}  // namespace updagent::launch
