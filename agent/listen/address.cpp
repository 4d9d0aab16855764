#include "agent/listen/address.hpp"

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>

#include "agent/base/text.hpp"

namespace updagent::listen {
namespace {

using base::Error;
using base::Result;

constexpr std::uint64_t kMaxPort = 65535;
constexpr std::size_t kMaxPortDigits = 5;
constexpr std::size_t kV4Bytes = 4;
constexpr std::string_view kExpected =
    "tcp:HOST:PORT, tcp:[IPV6]:PORT, udp:HOST:PORT, unix:/PATH or unix:@NAME, HOST numeric";

struct Refusal {
  const std::string& place;
  base::Code code;
  std::string_view text;

  Error operator()(const std::string& why) const {
    return Error(code, place + " is not valid: " + why)
        .expected(std::string(kExpected))
        .got("'" + base::printable(text) + "'");
  }
};

std::optional<std::uint16_t> parse_port(std::string_view text) {
  const auto port = base::parse_u64(text);
  if (!port || text.size() > kMaxPortDigits || *port > kMaxPort) return std::nullopt;
  return static_cast<std::uint16_t>(*port);
}

// "fe80::1%eth0": the interface by name or number
bool parse_v6(std::string_view text, Address& address) {
  const std::size_t percent = text.find('%');
  if (percent != std::string_view::npos) {
    const std::string zone(text.substr(percent + 1));
    const auto number = base::parse_u64(zone);
    address.scope = number && *number <= UINT32_MAX ? static_cast<std::uint32_t>(*number)
                                                    : ::if_nametoindex(zone.c_str());
    if (address.scope == 0) return false;
  }
  return ::inet_pton(AF_INET6, std::string(text.substr(0, percent)).c_str(), address.ip.data()) ==
         1;
}

bool is_v4_mapped(const Address& address) {
  const in6_addr* ip = reinterpret_cast<const in6_addr*>(address.ip.data());
  return address.family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(ip);
}

// ::ffff:a.b.c.d as what it is on the wire.
void unmap(Address& address) {
  if (!is_v4_mapped(address)) return;
  std::copy_n(address.ip.begin() + 12, kV4Bytes, address.ip.begin());
  std::fill(address.ip.begin() + kV4Bytes, address.ip.end(), std::uint8_t{0});
  address.family = AF_INET;
  address.scope = 0;
  address.v6only = true;
}

Result<Address> parse_inet(std::string_view rest, Transport transport, const Refusal& refuse) {
  Address address;
  address.transport = transport;
  const bool bracket = rest.starts_with('[');
  const std::size_t colon = bracket ? rest.find("]:") : rest.rfind(':');
  if (colon == std::string_view::npos) return refuse("it has no port");
  const std::string_view host = bracket ? rest.substr(1, colon - 1) : rest.substr(0, colon);
  const auto port = parse_port(rest.substr(colon + (bracket ? 2 : 1)));
  if (!port) return refuse("the port is not a number up to 65535");
  address.port = *port;
  if (host.find('\0') != std::string_view::npos) return refuse("it has a byte 0");
  if (bracket) {
    address.family = AF_INET6;
    if (!parse_v6(host, address)) return refuse("that is not an IPv6 address");
    unmap(address);
    return address;
  }
  if (host == "*") return refuse("'*' is not clear: write 0.0.0.0 or [::]");
  if (host.find(':') != std::string_view::npos)
    return refuse("an IPv6 address stands in brackets: [::1]:8080");
  if (::inet_pton(AF_INET, std::string(host).c_str(), address.ip.data()) != 1)
    return refuse("names are not looked up here, give the address itself");
  return address;
}

Result<Address> parse_unix(std::string_view rest, const Refusal& refuse) {
  Address address;
  address.family = AF_UNIX;
  if (rest.find('\0') != std::string_view::npos) return refuse("it has a byte 0");
  if (rest.starts_with('@')) {
    address.transport = Transport::unix_abstract;
    address.path = rest.substr(1);
    if (address.path.empty()) return refuse("the abstract name is empty");
  } else {
    address.transport = Transport::unix_path;
    address.path = rest;
    if (!rest.starts_with('/')) return refuse("the path is not absolute");
    if (rest.ends_with('/')) return refuse("the path names a directory");
  }
  if (address.path.size() > kMaxUnixPath)
    return refuse("longer than " + std::to_string(kMaxUnixPath) + " bytes, the kernel's limit");
  return address;
}

bool takes_v4(const Address& address) {
  return address.family == AF_INET || !address.v6only;
}

bool same_ip(const Address& one, const Address& other) {
  return one.family == other.family && one.ip == other.ip &&
         (one.scope == other.scope || one.scope == 0 || other.scope == 0);
}

Address from_unix(const sockaddr_un& raw, socklen_t length) {
  Address address;
  address.family = AF_UNIX;
  address.transport = Transport::unix_path;
  const std::size_t offset = offsetof(sockaddr_un, sun_path);
  const std::size_t size = length > offset ? length - offset : 0;
  if (size > 0 && raw.sun_path[0] == '\0') {
    address.transport = Transport::unix_abstract;
    address.path.assign(raw.sun_path + 1, size - 1);
  } else {
    address.path.assign(raw.sun_path, ::strnlen(raw.sun_path, std::min(size, kMaxUnixPath)));
  }
  return address;
}

}  // namespace

bool Address::is_wildcard() const {
  return is_inet() &&
         std::all_of(ip.begin(), ip.end(), [](std::uint8_t byte) { return byte == 0; });
}

std::string Address::text() const {
  if (transport == Transport::unix_path) return "unix:" + path;
  if (transport == Transport::unix_abstract) return "unix:@" + path;
  std::array<char, INET6_ADDRSTRLEN> host{};
  ::inet_ntop(family, ip.data(), host.data(), host.size());
  std::string out = transport == Transport::tcp ? "tcp:" : "udp:";
  if (family == AF_INET) {
    out += host.data();
  } else {
    out += '[';
    out += host.data();
    if (scope != 0) out += '%' + std::to_string(scope);
    out += ']';
  }
  return out + ':' + std::to_string(port);
}

Address reachable_address(Address address) {
  if (!address.is_wildcard()) return address;
  if (!address.v6only) {
    address.family = AF_INET;
    address.v6only = true;
  }
  if (address.family == AF_INET) address.ip[0] = 127;
  address.ip[address.family == AF_INET ? kV4Bytes - 1 : address.ip.size() - 1] = 1;
  return address;
}

Result<Address> parse_address(std::string_view text, const std::string& place, base::Code code) {
  const Refusal refuse{place, code, text};
  const std::size_t colon = std::min(text.find(':'), text.size());
  const std::string_view scheme = text.substr(0, colon);
  const std::string_view rest = text.substr(std::min(colon + 1, text.size()));
  if (scheme == "tcp") return parse_inet(rest, Transport::tcp, refuse);
  if (scheme == "udp") return parse_inet(rest, Transport::udp, refuse);
  if (scheme == "unix") return parse_unix(rest, refuse);
  return refuse("it does not begin with tcp:, udp: or unix:");
}

SocketAddress to_sockaddr(const Address& address) {
  SocketAddress out;
  if (address.family == AF_INET) {
    auto* raw = reinterpret_cast<sockaddr_in*>(&out.storage);
    raw->sin_family = AF_INET;
    raw->sin_port = htons(address.port);
    std::memcpy(&raw->sin_addr, address.ip.data(), kV4Bytes);
    out.length = sizeof *raw;
  } else if (address.family == AF_INET6) {
    auto* raw = reinterpret_cast<sockaddr_in6*>(&out.storage);
    raw->sin6_family = AF_INET6;
    raw->sin6_port = htons(address.port);
    raw->sin6_scope_id = address.scope;
    std::memcpy(&raw->sin6_addr, address.ip.data(), address.ip.size());
    out.length = sizeof *raw;
  } else {
    auto* raw = reinterpret_cast<sockaddr_un*>(&out.storage);
    raw->sun_family = AF_UNIX;
    // an abstract name has a byte 0 before it and none behind it, a path the other way round
    const std::size_t before = address.transport == Transport::unix_abstract ? 1 : 0;
    const std::size_t size = std::min(address.path.size(), kMaxUnixPath);
    std::memcpy(raw->sun_path + before, address.path.data(), size);
    out.length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + size + 1);
  }
  return out;
}

Result<Address> from_sockaddr(const sockaddr_storage& storage, socklen_t length, bool stream) {
  Address address;
  address.transport = stream ? Transport::tcp : Transport::udp;
  address.family = storage.ss_family;
  if (storage.ss_family == AF_INET && length >= sizeof(sockaddr_in)) {
    const auto* raw = reinterpret_cast<const sockaddr_in*>(&storage);
    address.port = ntohs(raw->sin_port);
    std::memcpy(address.ip.data(), &raw->sin_addr, kV4Bytes);
    return address;
  }
  if (storage.ss_family == AF_INET6 && length >= sizeof(sockaddr_in6)) {
    const auto* raw = reinterpret_cast<const sockaddr_in6*>(&storage);
    address.port = ntohs(raw->sin6_port);
    address.scope = raw->sin6_scope_id;
    std::memcpy(address.ip.data(), &raw->sin6_addr, address.ip.size());
    unmap(address);
    return address;
  }
  if (storage.ss_family == AF_UNIX)
    return from_unix(*reinterpret_cast<const sockaddr_un*>(&storage), length);
  return Error(base::Code::config_invalid, "an address of a family that updagent does not steer")
      .expected("IPv4, IPv6 or unix")
      .got("family " + std::to_string(storage.ss_family));
}

Result<Address> address_of_socket(int fd) {
  sockaddr_storage storage{};
  socklen_t length = sizeof storage;
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&storage), &length) != 0)
    return base::system_error(errno, "cannot ask a socket for its address");
  int type = 0;
  socklen_t size = sizeof type;
  if (::getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) != 0)
    return base::system_error(errno, "cannot ask a socket for its type");
  UPD_ASSIGN(Address address, from_sockaddr(storage, length, type == SOCK_STREAM));
  int v6only = 1;
  size = sizeof v6only;
  if (address.family == AF_INET6 &&
      ::getsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6only, &size) != 0)
    return base::system_error(errno, "cannot ask a socket for IPV6_V6ONLY");
  address.v6only = v6only != 0;
  return address;
}

bool contains(const Address& outer, const Address& inner) {
  if (outer.transport != inner.transport) return false;
  if (!outer.is_inet()) return outer.path == inner.path;
  if (outer.port != inner.port) return false;
  // a dual-stack address takes both, so only another dual-stack one can take all of it
  if (!inner.v6only && outer.v6only) return false;
  if (same_ip(outer, inner)) return true;
  if (!outer.is_wildcard()) return false;
  return outer.family == inner.family || (inner.family == AF_INET && takes_v4(outer));
}

bool overlaps(const Address& one, const Address& other) {
  if (one.transport != other.transport) return false;
  if (!one.is_inet()) return one.path == other.path;
  if (one.port != other.port) return false;
  if (same_ip(one, other)) return true;
  if (one.family == other.family) return one.is_wildcard() || other.is_wildcard();
  const Address& v6 = one.family == AF_INET6 ? one : other;
  return v6.is_wildcard() && takes_v4(v6);
}

}  // namespace updagent::listen
