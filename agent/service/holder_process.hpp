// The process behind holder.hpp. While no supervisor is connected it also reads the notify sockets
// of the generations, so that no service blocks on one and nothing that matters is lost
// (notify_memory.hpp); the next supervisor hears that first. With a supervisor there it reads none.
#pragma once

#include "agent/base/error.hpp"
#include "agent/base/unique_fd.hpp"

namespace updagent::service {

// Forks it: a child of init, not ours, so that nobody has to reap it and our own children stay
// services.
base::Status fork_holder(base::UniqueFd listener);

}  // namespace updagent::service
