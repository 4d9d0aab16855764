// The options that a server set on its listening socket, taken from one socket and put on another:
// all sockets of a listener must behave the same, or a connection that migrates finds others than
// it was promised.
#pragma once

#include <string>
#include <vector>

#include "agent/base/error.hpp"

namespace updagent::listen {

struct SocketOption {
  int level = 0;
  int name = 0;
  std::string value;  // the bytes of setsockopt(2)

  bool operator==(const SocketOption&) const = default;
};

// Only those that differ from what a fresh socket of the same kind has: setting the rest could
// switch something (setting a buffer size ends its automatic growth). Options of the address
// (SO_REUSEPORT, IPV6_V6ONLY) are not among them.
base::Result<std::vector<SocketOption>> capture_options(int fd);
// Before bind(2): some can't be set later.
base::Status apply_options(int fd, const std::vector<SocketOption>& options);

}  // namespace updagent::listen
