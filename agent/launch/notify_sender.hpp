// Who sent a notify message, and whether that process is one of the generation's.
#pragma once

#include <sys/socket.h>
#include <sys/types.h>

#include <cstdint>
#include <functional>

#include "agent/base/unique_fd.hpp"

namespace updagent::launch {

// What makes a process one of the generation's. Both are asked at the moment of a message.
struct Membership {
  // Is the living process of this pid in it? False for a pid that nobody has.
  std::function<bool(pid_t)> has_process;
  // Is this the id of its cgroup (v2), or of one below? May be empty: then a sender that was gone
  // before its message was read is not known.
  std::function<bool(std::uint64_t)> has_cgroup;
};

enum class Standing {
  member,
  stranger,
  gone,  // dead and reaped, and the kernel has not kept which cgroup it was in
};

struct Sender {
  pid_t pid = 0;         // 0: in a pid namespace that we can't see
  uid_t uid = 0;         // the effective one, as the kernel saw it
  base::UniqueFd pidfd;  // empty before Linux 6.5, or when the process is gone (before 6.16)
};

// A pid can be given to another process while we ask about it. So the answer counts only if the
// pidfd, which can't, is of a living process afterwards. A process that has exited but whose parent
// has not waited for it still has its pid. One that is quite gone is known by what its pidfd keeps
// (Linux 6.16): the cgroup it died in. Short-lived helpers (`systemd-notify --no-block`, a shell
// with socat) are so; systemd-notify as it is waits for BARRIER and never gets there.
Standing standing_of(const Sender& sender, const Membership& membership);

// MAINPID, which is only a number: its pidfd if it is a member, empty otherwise.
base::UniqueFd member_process(pid_t pid, const Membership& membership);

}  // namespace updagent::launch
