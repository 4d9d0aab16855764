#include "agent/deploy/probe_source.hpp"

#include <netinet/in.h>

#include <cerrno>

namespace updagent::deploy {

base::Result<listen::Address> address_of(int fd, int (*question)(int, sockaddr*, socklen_t*)) {
  sockaddr_storage storage{};
  socklen_t length = sizeof storage;
  if (question(fd, reinterpret_cast<sockaddr*>(&storage), &length) != 0)
    return base::system_error(errno, "cannot ask a socket for its address");
  return listen::from_sockaddr(storage, length, true);
}

// Any port of the address that the connection will leave from.
base::Status bind_source(int fd, const sockaddr* to) {
  sockaddr_storage from{};
  socklen_t length = 0;
  if (to->sa_family == AF_INET) {
    auto& v4 = reinterpret_cast<sockaddr_in&>(from);
    v4.sin_family = AF_INET;
    v4.sin_addr = reinterpret_cast<const sockaddr_in*>(to)->sin_addr;
    length = sizeof v4;
  } else {
    auto& v6 = reinterpret_cast<sockaddr_in6&>(from);
    v6.sin6_family = AF_INET6;
    v6.sin6_addr = reinterpret_cast<const sockaddr_in6*>(to)->sin6_addr;
    v6.sin6_scope_id = reinterpret_cast<const sockaddr_in6*>(to)->sin6_scope_id;
    length = sizeof v6;
  }
  // an address of this node can be the source of a connection to itself
  if (::bind(fd, reinterpret_cast<const sockaddr*>(&from), length) == 0) return base::ok();
  return base::system_error(errno,
                            "a probe through the production port needs an address of this "
                            "node");
}

}  // namespace updagent::deploy
