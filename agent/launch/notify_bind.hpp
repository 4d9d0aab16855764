// Puts a datagram socket at a path that a dead predecessor may have used.
#pragma once

#include <sys/types.h>

#include <string>

#include "agent/base/error.hpp"
#include "agent/base/unique_fd.hpp"

namespace updagent::launch {

// Bound, non-blocking, with SO_PASSCRED and (where the kernel has it) SO_PASSPIDFD. See
// NotifyServer::bind for owner, mode and folder. There is no moment without a socket at the path:
// the new one is bound beside it and renamed over it.
base::Result<base::UniqueFd> bind_notify_socket(const std::string& path, uid_t service_uid);
// The options alone: for a socket that is bound already.
base::Status prepare_notify_socket(int socket_fd);

}  // namespace updagent::launch
