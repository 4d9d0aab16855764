// What runs in the forked process between clone3(2) and execve(2). Everything it needs is prepared
// before; here only async-signal-safe calls are made and nothing is allocated.
#pragma once

#include <sys/resource.h>
#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "agent/launch/capabilities.hpp"
#include "agent/launch/guard.hpp"

namespace updagent::launch {

// In the order in which they are done. The words for people are in start_failure.cpp.
enum class StartStep : int {
  join_cgroup,
  new_session,
  signals,
  descriptors,
  close_others,
  oom_score,
  limits,
  bounding_set,
  groups,
  gid,
  uid,
  capabilities,
  ambient_set,
  no_new_privs,
  working_directory,
  guard,
  send_listener,
  exec,
};
inline constexpr int kStartSteps = static_cast<int>(StartStep::exec) + 1;

inline constexpr int kNoDetail = -1;

// A page that parent and child share: where the child is, and what failed. It outlives a child that
// is killed, so that even that is told apart from a crash of the service.
struct StartProgress {
  std::atomic<StartStep> step{StartStep::join_cgroup};
  std::atomic<int> errno_value{0};  // valid once `failed`
  // descriptors: the number it should get; limits: the resource; ambient_set: the capability;
  // exec: which of the candidates, kNoDetail when none of them exists
  std::atomic<int> detail{kNoDetail};
  std::atomic<bool> failed{false};
};

static_assert(std::atomic<StartStep>::is_always_lock_free && std::atomic<int>::is_always_lock_free,
              "a lock in the page would be the other process's");

struct StartLimit {
  int resource = 0;
  rlimit value{};
};

// A variable whose value is the service's own pid: `text` is "NAME=" and room for kPidRoom bytes.
inline constexpr std::size_t kPidRoom = 12;
struct PidVariable {
  char* text = nullptr;
  std::size_t value_at = 0;
};

struct StartPlan {
  const char* const* argv = nullptr;
  const char* const* environment = nullptr;  // contains the texts of pid_variables
  const PidVariable* pid_variables = nullptr;
  std::size_t pid_variable_count = 0;
  const char* const* candidates = nullptr;  // paths for execve(2), tried in order, null at the end
  const char* working_directory = nullptr;

  bool change_identity = false;
  uid_t uid = 0;
  gid_t gid = 0;
  const gid_t* groups = nullptr;
  std::size_t group_count = 0;

  bool drop_bounding = false;
  int last_capability = 0;
  CapabilitySet bounding = kAllCapabilities;
  CapabilitySet permitted = kNoCapabilities;  // and effective
  CapabilitySet ambient = kNoCapabilities;    // and inheritable

  const StartLimit* limits = nullptr;
  std::size_t limit_count = 0;
  mode_t umask = 022;
  const char* oom_score = nullptr;  // decimal; null leaves it
  int cgroup_fd = -1;               // to join by writing, when clone3(2) could not do it

  int stdin_fd = -1;
  int stdout_fd = -1;
  int stderr_fd = -1;
  int* descriptors = nullptr;  // the child's to change; they become 3, 4, ...
  std::size_t descriptor_count = 0;
  int channel_fd = -1;  // SOCK_SEQPACKET: takes the notify listener, and closes at execve(2)
  const Guard* guard = nullptr;
  StartProgress* progress = nullptr;
};

// With all signals blocked on entry.
[[noreturn]] void run_start(const StartPlan& plan);

}  // namespace updagent::launch
