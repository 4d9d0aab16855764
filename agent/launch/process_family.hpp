// The processes of one generation where no cgroup holds them. A process belongs to it when it
//   1. is the main process or descends from it,
//   2. is in the session that the main process leads (start_service() makes it one), or
//   3. started with the generation's mark, an exact "NAME=value", in its environment.
// 1 and 2 hold while the main process lives or is our unreaped child; 3 always.
// Not found: a daemon that forks twice (so that it is nobody's descendant), makes a session of its
// own and clears its environment. A cgroup catches that one too, see cgroup.hpp.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "agent/base/clock.hpp"
#include "agent/base/error.hpp"
#include "agent/launch/process_watch.hpp"

namespace updagent::launch {

struct ProcessFamily {
  ProcessIdentity main;
  std::string mark;  // unique on this node: "RUNTIME_DIRECTORY=/run/updagent/shop/7"; "": not asked
};

// The living ones, this process never. One pass over /proc.
base::Result<std::vector<pid_t>> processes_of(const ProcessFamily& family);

// The same question about one process, dead but unreaped ones included: who sent this message?
bool belongs_to(const ProcessFamily& family, pid_t pid);

// SIGKILL to each, in passes until none is found, at most `patience`. Those that would not die
// (uninterruptible sleep) or were forked faster than we walk.
base::Result<std::vector<pid_t>> kill_family(const ProcessFamily& family,
                                             base::Milliseconds patience);

}  // namespace updagent::launch
