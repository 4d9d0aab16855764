// Where a connection of ours leaves from: the policy knows it by that, so it is bound before it is
// entered there.
#pragma once

#include <sys/socket.h>

#include "agent/base/error.hpp"
#include "agent/listen/address.hpp"

namespace updagent::deploy {

// Any port of the address that the connection to `to` (an address of this node) leaves from.
base::Status bind_source(int fd, const sockaddr* to);
// `question` is getsockname(2) or getpeername(2).
base::Result<listen::Address> address_of(int fd, int (*question)(int, sockaddr*, socklen_t*));

}  // namespace updagent::deploy
