// Where to connect to and from.
#pragma once

#include <sys/socket.h>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace load {

struct Address {
  sockaddr_storage storage{};
  socklen_t length = 0;

  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
  int family() const { return storage.ss_family; }
};

// "tcp:127.0.0.1:8080" "tcp:[::1]:8080" "unix:/path" "unix:@abstract"
std::optional<Address> parse_target(std::string_view text);
// "127.0.0.2", "127.0.0.2-127.0.0.9", "::1", several with commas between. Empty on a mistake.
std::vector<Address> parse_sources(std::string_view text);
// "127.0.0.2:41234": how the kernel calls our end
std::string local_name(int socket_fd);

}  // namespace load
