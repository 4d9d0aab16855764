// Unix sockets in sock_diag.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "agent/base/error.hpp"
#include "agent/listen/diag.hpp"

namespace updagent::listen {

struct UnixSocket {
  std::uint32_t inode = 0;
  bool listening = false;
  Address address;                    // what it (or the listener it came from) is bound to
  std::optional<std::uint32_t> file;  // low 32 bits of the inode that it is bound to
  std::optional<uid_t> uid;
  std::uint32_t peer = 0;           // inode of the other end; 0 when no process holds that
  std::uint32_t receive_queue = 0;  // bytes, or connections that wait
  std::uint32_t send_queue = 0;     // bytes, or how many may wait
};
// All that have a name, listening or connected.
base::Result<std::vector<UnixSocket>> named_unix_sockets();
// Nothing when the kernel has no such socket here.
base::Result<std::optional<UnixSocket>> unix_socket(std::uint32_t inode);

// As accepted_socket(), of the client's descriptor.
base::Result<std::uint32_t> accepted_unix_socket(int client_fd);

base::Result<std::vector<PortHolder>> unix_holders_of(const Address& address);
base::Result<std::vector<Connection>> unix_connections_of(const Address& address,
                                                          const InodeSet& sockets);

}  // namespace updagent::listen
