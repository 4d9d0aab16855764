#include "agent/launch/inject_match.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <optional>
#include <string_view>

#include "agent/base/text.hpp"

namespace updagent::launch {
namespace {

#ifndef IPPROTO_MPTCP
constexpr int IPPROTO_MPTCP = 262;
#endif
constexpr std::size_t kShortIn6 = 24;  // of RFC 2133, without the scope: the kernel takes it too
constexpr std::size_t kPathOffset = offsetof(sockaddr_un, sun_path);

// An address of IPv4 or IPv6 as the set of packets that it stands for.
struct Endpoint {
  std::array<std::uint8_t, 16> ip{};  // IPv4 as IPv4-mapped
  std::uint32_t scope = 0;
  std::uint16_t port = 0;
  bool wildcard = false;
  bool v4 = false;
  bool v6 = false;

  bool same_set(const Endpoint& other) const {
    return wildcard == other.wildcard && v4 == other.v4 && v6 == other.v6 &&
           (wildcard || (ip == other.ip && scope == other.scope));
  }
  bool contains(const Endpoint& other) const {
    if (wildcard) return (v4 || !other.v4) && (v6 || !other.v6);
    return same_set(other);
  }
};

Endpoint from_in(const sockaddr_in& address) {
  Endpoint out;
  out.ip = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF};
  std::memcpy(out.ip.data() + 12, &address.sin_addr, sizeof address.sin_addr);
  out.port = ntohs(address.sin_port);
  out.wildcard = address.sin_addr.s_addr == htonl(INADDR_ANY);
  out.v4 = true;
  return out;
}

Endpoint from_in6(const sockaddr_in6& address, bool v6only) {
  Endpoint out;
  std::memcpy(out.ip.data(), &address.sin6_addr, sizeof address.sin6_addr);
  out.port = ntohs(address.sin6_port);
  if (IN6_IS_ADDR_V4MAPPED(&address.sin6_addr)) {
    out.v4 = true;
    out.wildcard = std::all_of(out.ip.begin() + 12, out.ip.end(), [](auto b) { return b == 0; });
    return out;
  }
  out.v6 = true;
  out.wildcard = IN6_IS_ADDR_UNSPECIFIED(&address.sin6_addr);
  out.v4 = out.wildcard && !v6only;
  // Other addresses may carry a scope too; the kernel does not look at it.
  if (IN6_IS_ADDR_LINKLOCAL(&address.sin6_addr)) out.scope = address.sin6_scope_id;
  return out;
}

// bind(2) of an AF_INET socket takes AF_UNSPEC with INADDR_ANY as AF_INET, and so do we.
bool is_old_wildcard(const sockaddr_in& address, int domain) {
  return address.sin_family == AF_UNSPEC && domain == AF_INET &&
         address.sin_addr.s_addr == htonl(INADDR_ANY);
}

std::optional<Endpoint> endpoint(const sockaddr_storage& address, socklen_t length, int domain,
                                 bool v6only) {
  if (length >= sizeof(sockaddr_in)) {
    const auto& in = reinterpret_cast<const sockaddr_in&>(address);
    if ((in.sin_family == AF_INET && domain == AF_INET) || is_old_wildcard(in, domain))
      return from_in(in);
  }
  if (length >= kShortIn6 && address.ss_family == AF_INET6 && domain == AF_INET6)
    return from_in6(reinterpret_cast<const sockaddr_in6&>(address), v6only);
  return std::nullopt;
}

// The bytes of sun_path: of a path up to its zero byte, of an abstract name all of them.
std::string_view unix_name(const sockaddr_storage& address, socklen_t length) {
  if (address.ss_family != AF_UNIX || length <= kPathOffset || length > sizeof(sockaddr_un))
    return {};
  const auto& un = reinterpret_cast<const sockaddr_un&>(address);
  const std::string_view whole(un.sun_path, length - kPathOffset);
  return whole[0] == '\0' ? whole : whole.substr(0, whole.find('\0'));
}

bool same_protocol(const AskedBind& asked, const InjectListener& listener) {
  if (asked.type != listener.type) return false;
  if (asked.domain == AF_UNIX || asked.type == SOCK_DGRAM)
    return asked.protocol == 0 || asked.protocol == IPPROTO_UDP;
  // Multipath TCP is the default of newer Go programs, and falls back to TCP by itself.
  return asked.protocol == 0 || asked.protocol == IPPROTO_TCP || asked.protocol == IPPROTO_MPTCP;
}

BindMatch match_unix(const AskedBind& asked, std::span<const InjectListener> listeners,
                     std::span<const std::string> canonical_paths) {
  const std::string_view name = unix_name(asked.address, asked.address_length);
  if (name.empty()) return {};  // the kernel chooses a name
  for (std::size_t i = 0; i < listeners.size(); ++i) {
    if (!same_protocol(asked, listeners[i])) continue;
    const bool same = unix_name(listeners[i].address, listeners[i].address_length) == name ||
                      (!asked.canonical_path.empty() && asked.canonical_path == canonical_paths[i]);
    if (same) return {Fit::ours, i};
  }
  return {};
}

// Better ones are later.
enum class Rank { none, too_open, part, both_families, same };

Rank rank_of(const Endpoint& asked, const Endpoint& listener) {
  if (asked.port != listener.port) return Rank::none;
  if (asked.same_set(listener)) return Rank::same;
  if (asked.contains(listener)) return Rank::part;
  if (!listener.contains(asked)) return Rank::none;
  return asked.wildcard ? Rank::both_families : Rank::too_open;
}

BindMatch match_inet(const Endpoint& asked, const AskedBind& bind,
                     std::span<const InjectListener> listeners) {
  Rank best = Rank::none;
  std::size_t index = 0;
  std::size_t parts = 0;
  for (std::size_t i = 0; i < listeners.size(); ++i) {
    const auto theirs = endpoint(listeners[i].address, listeners[i].address_length,
                                 listeners[i].address.ss_family, listeners[i].v6only);
    if (!theirs || !same_protocol(bind, listeners[i])) continue;
    const Rank rank = rank_of(asked, *theirs);
    if (rank == Rank::part) ++parts;
    if (rank <= best) continue;
    best = rank;
    index = i;
  }
  if (best == Rank::none) return {};
  if (best == Rank::too_open) return {Fit::too_open, index};
  if (best == Rank::part && parts > 1) return {Fit::divided, index};
  return {Fit::ours, index};
}

std::string inet_text(const Endpoint& endpoint, int type) {
  std::array<char, INET6_ADDRSTRLEN> host{};
  const bool v4_only = endpoint.v4 && !endpoint.v6;
  if (v4_only)
    ::inet_ntop(AF_INET, endpoint.ip.data() + 12, host.data(), host.size());
  else
    ::inet_ntop(AF_INET6, endpoint.ip.data(), host.data(), host.size());
  const std::string transport = type == SOCK_STREAM ? "tcp:" : "udp:";
  const std::string shown = v4_only ? host.data() : "[" + std::string(host.data()) + "]";
  return transport + shown + ":" + std::to_string(endpoint.port);
}

}  // namespace

BindMatch match_bind(const AskedBind& asked, std::span<const InjectListener> listeners,
                     std::span<const std::string> canonical_paths) {
  if (asked.domain == AF_UNIX) return match_unix(asked, listeners, canonical_paths);
  const auto wanted = endpoint(asked.address, asked.address_length, asked.domain, asked.v6only);
  if (!wanted || wanted->port == 0) return {};  // port 0: any port but ours
  return match_inet(*wanted, asked, listeners);
}

std::string bind_text(const sockaddr_storage& address, socklen_t length, int type) {
  const std::string_view name = unix_name(address, length);
  if (!name.empty())
    return "unix:" +
           (name[0] == '\0' ? "@" + base::printable(name.substr(1)) : base::printable(name));
  const int domain = address.ss_family == AF_UNSPEC ? AF_INET : address.ss_family;
  const auto shown = endpoint(address, length, domain, true);
  if (!shown || (type != SOCK_STREAM && type != SOCK_DGRAM)) return "";
  return inet_text(*shown, type);
}

}  // namespace updagent::launch
