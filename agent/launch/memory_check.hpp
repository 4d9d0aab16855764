// Is there room for one more generation? Two run at once during a handoff, and the kernel's answer
// to a lack of memory may be to kill the one that serves.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "agent/base/error.hpp"
#include "agent/launch/cgroup.hpp"

namespace updagent::launch {

struct MemoryAtHand {
  std::uint64_t bytes = 0;
  std::string limited_by;  // "MemAvailable", "memory.max of /sys/fs/cgroup/..."
};

// The least of MemAvailable and what is left under each cgroup above this process (version 2:
// memory.max and memory.high, version 1: memory.limit_in_bytes); cache that can be dropped counts
// as free. Swap doesn't count.
base::Result<MemoryAtHand> memory_at_hand();

struct MemoryInUse {
  std::uint64_t bytes = 0;
  std::string measured_as;  // "memory.current", "PSS of 4 processes"
};

// By its cgroup where that has a memory controller, else by the proportional set sizes of its
// processes (RSS of one that we may not look into). Walks page tables: some milliseconds per GiB.
MemoryInUse memory_in_use(const GenerationCgroup* cgroup, std::span<const pid_t> processes);

// What the processes of a generation have open; nothing when none of them lets us look. Of at most
// kMaxCountedProcesses of them, so a fork bomb costs no more.
inline constexpr std::size_t kMaxCountedProcesses = 256;
std::optional<std::uint64_t> descriptors_in_use(std::span<const pid_t> processes);

// Code::no_space with the figures when what the active generation uses, and the node's reserve of
// bytes beside it, are not there once more.
base::Status check_memory(const MemoryAtHand& at_hand, const MemoryInUse& active,
                          std::uint64_t reserve = 0);

// --- the parts

// The folder of one memory cgroup, of either version. Nothing: it limits nothing.
std::optional<MemoryAtHand> left_under(const std::string& folder, bool version_2);

}  // namespace updagent::launch
