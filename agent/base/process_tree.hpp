// Finds and kills the descendants of a process through /proc. Async-signal-safe: no allocation, no
// locks (it runs in a forked process of an agent that may have threads).
#pragma once

#include <sys/types.h>

namespace updagent::base {

// SIGKILL to every process that descends from `ancestor`, which must be the caller's own pid or one
// that only the caller can reap. One pass: what is forked meanwhile is for the next one.
void kill_descendants(pid_t ancestor);

}  // namespace updagent::base
