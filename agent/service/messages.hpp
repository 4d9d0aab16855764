// One message with descriptors over a SOCK_SEQPACKET connection (unix(7), cmsg(3)).
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/error.hpp"
#include "agent/base/unique_fd.hpp"

namespace updagent::service {

inline constexpr std::size_t kMaxMessageBytes = 128 * 1024;  // below the default of wmem_default
inline constexpr std::size_t kMaxMessageDescriptors = 4;

struct Message {
  std::string text;
  std::vector<base::UniqueFd> descriptors;
};

// Never waits: Code::busy when the other end doesn't read, Code::io_error when it is gone.
base::Status send_message(int fd, std::string_view text, int descriptor = -1);
// Nothing: no message is there. Code::io_error at the end of the connection, or when a message was
// longer than it may be: the connection is of no use any more.
base::Result<std::optional<Message>> receive_message(int fd);

// A SOCK_SEQPACKET socket that listens at `path` with mode 0600; a dead predecessor's is replaced.
base::Result<base::UniqueFd> listen_at(const std::string& path);
// Code::not_found when nobody listens there.
base::Result<base::UniqueFd> connect_to(const std::string& path);
// Whether the peer of a connection is root or our own user.
bool peer_may_command(int fd);

}  // namespace updagent::service
