// Internet sockets in sock_diag.
#pragma once

#include <linux/inet_diag.h>

#include <cstdint>

#include "agent/listen/diag.hpp"
#include "agent/listen/netlink.hpp"

namespace updagent::listen {

// All sockets of a family and transport whose local port is `port`, in these states (a mask).
inet_diag_req_v2 inet_request(int family, Transport transport, std::uint16_t port,
                              std::uint32_t states);
Address local_address(const inet_diag_msg& message, Transport transport);
Address remote_address(const inet_diag_msg& message, Transport transport);

}  // namespace updagent::listen
