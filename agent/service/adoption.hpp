// `updagent adopt`: a service that updagent did not start is found by its pid, so that it can
// become a generation. It goes on serving and notices nothing.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "agent/base/error.hpp"
#include "agent/launch/process_watch.hpp"
#include "agent/listen/adopt.hpp"
#include "agent/release/resolved_service.hpp"

namespace updagent::service {

struct RunningService {
  launch::ProcessWatch process;
  release::ResolvedService run;            // with the addresses that its sockets really have
  std::vector<listen::Adopted> listeners;  // in the order of run.service.listeners
  std::vector<std::string> others;  // where it listens, too, and `run` has no listener for it
  std::string why_shared;           // why fresh sockets can't join one of them; "" = they can
};

// Every listener of `run` must be among the sockets of the process: Code::not_found otherwise, and
// nothing is changed. A pid whose parent holds the same socket is refused, naming the parent: a
// worker is not what starts and stops a service. After success the sockets have SO_REUSEPORT and
// our uid (listen/adopt.hpp).
base::Result<RunningService> find_running_service(pid_t pid, release::ResolvedService run);

// Processes other than ours that have one of these sockets open: what serves on although the main
// process is gone.
std::vector<pid_t> other_holders(const std::vector<std::uint32_t>& inodes);

}  // namespace updagent::service
