// The keeper of one command: what runs in the forked process of child_process.cpp. Everything it
// needs is prepared before fork(2); after it only async-signal-safe calls are made
// (signal-safety(7), plus system calls without a lock), because another thread of the agent may
// have held any lock.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>

namespace updagent::base::keeper {

// Where a start failed. The names for people are in start_error.cpp.
enum class Step : int {
  none,
  close_descriptors,
  new_session,
  subreaper,
  signals,
  fork_command,
  redirect,
  groups,
  gid,
  uid,
  no_new_privs,
  working_directory,
  exec,
};

inline constexpr int kNoCandidate = -1;

// On the error pipe, at most once; end of file without it means that execve(2) succeeded.
struct StartFailure {
  Step step = Step::none;
  int errno_value = 0;
  int candidate =
      kNoCandidate;  // of exec: which of Plan::candidates it was; kNoCandidate: none of them exists
};

enum class Reason : int { ended, time_limit, asked };

// On the status pipe, once, when the command and (unless it ended by itself) its tree are gone.
struct EndReport {
  int wait_status = 0;  // as of waitpid(2)
  Reason reason = Reason::ended;
  int processes_left = 0;  // 1 when the bounds of the killing were reached first
};

struct Plan {
  const char* const* argv = nullptr;
  const char* const* environment = nullptr;
  const char* const* candidates = nullptr;  // paths for execve(2), tried in order, null at the end
  const char* working_directory = nullptr;  // null keeps the caller's
  bool change_identity = false;
  uid_t uid = 0;
  gid_t gid = 0;
  const gid_t* groups = nullptr;
  std::size_t group_count = 0;
  bool no_new_privs = true;
  std::int64_t deadline_us = 0;  // of monotonic_now_us()

  // Everything else that is open is closed.
  int stdin_fd = -1;
  int output_fd = -1;
  int error_fd = -1;
  int lifeline_fd = -1;  // end of file: kill the tree
  int status_fd = -1;
  int agent_fd = -1;  // pidfd of the agent: its death kills the tree too
};

// The life of the keeper, with all signals blocked on entry.
[[noreturn]] void run(const Plan& plan);

}  // namespace updagent::base::keeper
