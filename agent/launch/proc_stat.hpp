// What proc_pid_stat(5) says about a process, as far as launch/ asks.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "agent/base/error.hpp"

namespace updagent::launch {

// Names in /proc that one scan looks at: above any sane pid_max load, so that a scan ends.
inline constexpr std::size_t kMaxProcesses = 131'072;

struct ProcStat {
  char state = '?';  // 'Z' and 'X' are dead
  pid_t parent = 0;
  pid_t session = 0;
  std::uint64_t start_ticks = 0;  // clock ticks from boot: with the pid, one process of this boot
  bool kernel_thread = false;
  // False in the moment of execve(2) when the new program has no arguments and no environment yet,
  // and for a process that we may not look into.
  bool has_program = false;

  bool dead() const { return state == 'Z' || state == 'X'; }
};

// Nothing: there is no such process (any more), or /proc can't be read.
std::optional<ProcStat> read_proc_stat(pid_t pid);
// Every process that /proc shows us.
base::Result<std::vector<pid_t>> list_processes();

}  // namespace updagent::launch
