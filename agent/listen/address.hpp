// Where a service listens, in the words of the manifest:
//   tcp:127.0.0.1:8080   tcp:[::]:8080   udp:0.0.0.0:53   unix:/run/shop/http.sock   unix:@shop
// Hosts are numeric: a name can change its address between two generations, which must have the
// same one.
#pragma once

#include <sys/socket.h>
#include <sys/un.h>

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "agent/base/error.hpp"

namespace updagent::listen {

enum class Transport { tcp, udp, unix_path, unix_abstract };

struct Address {
  Transport transport = Transport::tcp;
  int family = AF_INET;               // AF_INET, AF_INET6 or AF_UNIX
  std::array<std::uint8_t, 16> ip{};  // network order; IPv4 in the first four
  std::uint16_t port = 0;             // 0: the kernel chooses (tests)
  std::uint32_t scope = 0;            // interface index of a link-local IPv6 address
  bool v6only = true;                 // false: "::" takes IPv4 too. Not in the text: an own key
  std::string path;                   // of unix_path, or the abstract name without its '@'

  bool operator==(const Address&) const = default;
  bool is_inet() const { return family != AF_UNIX; }
  bool is_wildcard() const;
  std::string text() const;  // what parse_address reads
};

// Where to connect to reach a listener at this address: of a wildcard the loopback address, of a
// dual-stack one that of IPv4. Where IPv6 is switched off (many a container) "::" can be bound all
// the same, and ::1 is not there.
Address reachable_address(Address address);

// `place` and `code` are for the refusal: "service.listener[0].address".
base::Result<Address> parse_address(std::string_view text, const std::string& place,
                                    base::Code code);

// Both have room for every family.
struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t length = 0;
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
};
SocketAddress to_sockaddr(const Address& address);
// IPv4-mapped IPv6 becomes IPv4. `stream` tells tcp from udp.
base::Result<Address> from_sockaddr(const sockaddr_storage& storage, socklen_t length, bool stream);
// Of a bound socket, with its own v6only.
base::Result<Address> address_of_socket(int fd);

// Is every packet that can reach `inner` one that `outer` would take as well (same transport and
// port; wildcards and dual-stack counted)? Equal addresses contain each other.
bool contains(const Address& outer, const Address& inner);
// Could one packet reach both?
bool overlaps(const Address& one, const Address& other);

inline constexpr std::size_t kMaxUnixPath = sizeof(sockaddr_un::sun_path) - 1;

}  // namespace updagent::listen
