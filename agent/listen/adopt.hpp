// Listeners of a service that updagent did not start. The service goes on with its socket and
// notices nothing: we get a copy of its descriptor and make the socket one that others can join.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "agent/base/error.hpp"
#include "agent/base/unique_fd.hpp"
#include "agent/listen/listener.hpp"
#include "agent/listen/mechanism.hpp"

namespace updagent::listen {

struct RunningListener {
  base::UniqueFd fd;  // our copy of the descriptor; the same socket
  int number = -1;    // in that process
  Address address;
  int protocol = 0;  // IPPROTO_TCP, IPPROTO_UDP, IPPROTO_MPTCP, or 0 of a unix socket
  std::uint32_t inode = 0;
  uid_t uid = 0;  // whose the kernel takes the socket for
};
// Every socket at which a process takes connections (or, of udp, anybody's datagrams), each once.
// Needs the right to trace the process.
base::Result<std::vector<RunningListener>> running_listeners(pid_t pid);

// The one at the address of `spec`: the same address, or where there is none the one that contains
// it. Code::not_found names what there is; several at one address (a server's `reuseport` option)
// are refused. It is taken out of `running`: what is left there in the end nobody asked for.
base::Result<RunningListener> take_running(std::vector<RunningListener>& running,
                                           const ListenerSpec& spec);

struct Adopted {
  base::UniqueFd fd;
  ListenerSpec spec;  // with the socket's own address, options, backlog and flags
  Mechanism mechanism = Mechanism::shared;
  std::string why_shared;
};
// Prepares the socket for others beside it: SO_REUSEPORT, and our uid as its owner. Where a fresh
// socket can't join it is left as it was, and `why_shared` says why. Steered: then name its slot
// active in the policy and give it to SteeredListener::reattach().
base::Result<Adopted> adopt(RunningListener running, const ListenerSpec& spec);

}  // namespace updagent::listen
