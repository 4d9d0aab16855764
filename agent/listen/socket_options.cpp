#include "agent/listen/socket_options.hpp"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <optional>

#include "agent/base/unique_fd.hpp"

namespace updagent::listen {
namespace {

using base::Result;
using base::Status;

struct Known {
  int level;
  int name;
  const char* text;
};

// What may stand on a listening socket and is inherited by its connections, or decides which
// connections come. Not SO_INCOMING_CPU and not SO_ATTACH_FILTER: they choose between sockets of
// one address, which is our business.
constexpr std::array kKnown = {
    Known{SOL_SOCKET, SO_KEEPALIVE, "SO_KEEPALIVE"},
    Known{SOL_SOCKET, SO_OOBINLINE, "SO_OOBINLINE"},
    Known{SOL_SOCKET, SO_LINGER, "SO_LINGER"},
    Known{SOL_SOCKET, SO_RCVBUF, "SO_RCVBUF"},
    Known{SOL_SOCKET, SO_SNDBUF, "SO_SNDBUF"},
    Known{SOL_SOCKET, SO_RCVLOWAT, "SO_RCVLOWAT"},
    Known{SOL_SOCKET, SO_RCVTIMEO, "SO_RCVTIMEO"},
    Known{SOL_SOCKET, SO_SNDTIMEO, "SO_SNDTIMEO"},
    Known{SOL_SOCKET, SO_PRIORITY, "SO_PRIORITY"},
    Known{SOL_SOCKET, SO_MARK, "SO_MARK"},
    Known{SOL_SOCKET, SO_BINDTODEVICE, "SO_BINDTODEVICE"},
    Known{SOL_SOCKET, SO_DONTROUTE, "SO_DONTROUTE"},
    Known{SOL_SOCKET, SO_BROADCAST, "SO_BROADCAST"},
    Known{SOL_SOCKET, SO_TIMESTAMP, "SO_TIMESTAMP"},
    Known{SOL_SOCKET, SO_PASSCRED, "SO_PASSCRED"},
    Known{SOL_SOCKET, SO_BUSY_POLL, "SO_BUSY_POLL"},
    Known{SOL_SOCKET, SO_ZEROCOPY, "SO_ZEROCOPY"},
    Known{IPPROTO_TCP, TCP_NODELAY, "TCP_NODELAY"},
    Known{IPPROTO_TCP, TCP_DEFER_ACCEPT, "TCP_DEFER_ACCEPT"},
    Known{IPPROTO_TCP, TCP_FASTOPEN, "TCP_FASTOPEN"},
    Known{IPPROTO_TCP, TCP_KEEPIDLE, "TCP_KEEPIDLE"},
    Known{IPPROTO_TCP, TCP_KEEPINTVL, "TCP_KEEPINTVL"},
    Known{IPPROTO_TCP, TCP_KEEPCNT, "TCP_KEEPCNT"},
    Known{IPPROTO_TCP, TCP_USER_TIMEOUT, "TCP_USER_TIMEOUT"},
    Known{IPPROTO_TCP, TCP_CONGESTION, "TCP_CONGESTION"},
    Known{IPPROTO_TCP, TCP_NOTSENT_LOWAT, "TCP_NOTSENT_LOWAT"},
    Known{IPPROTO_TCP, TCP_WINDOW_CLAMP, "TCP_WINDOW_CLAMP"},
    Known{IPPROTO_TCP, TCP_LINGER2, "TCP_LINGER2"},
    Known{IPPROTO_TCP, TCP_SYNCNT, "TCP_SYNCNT"},
    Known{IPPROTO_TCP, TCP_SAVE_SYN, "TCP_SAVE_SYN"},
    Known{IPPROTO_IP, IP_TOS, "IP_TOS"},
    Known{IPPROTO_IP, IP_TTL, "IP_TTL"},
    Known{IPPROTO_IP, IP_FREEBIND, "IP_FREEBIND"},
    Known{IPPROTO_IP, IP_TRANSPARENT, "IP_TRANSPARENT"},
    Known{IPPROTO_IP, IP_MTU_DISCOVER, "IP_MTU_DISCOVER"},
    Known{IPPROTO_IP, IP_PKTINFO, "IP_PKTINFO"},
    Known{IPPROTO_IP, IP_RECVTOS, "IP_RECVTOS"},
    Known{IPPROTO_IP, IP_RECVTTL, "IP_RECVTTL"},
    Known{IPPROTO_IP, IP_RECVORIGDSTADDR, "IP_RECVORIGDSTADDR"},
    Known{IPPROTO_IPV6, IPV6_TCLASS, "IPV6_TCLASS"},
    Known{IPPROTO_IPV6, IPV6_UNICAST_HOPS, "IPV6_UNICAST_HOPS"},
    Known{IPPROTO_IPV6, IPV6_FREEBIND, "IPV6_FREEBIND"},
    Known{IPPROTO_IPV6, IPV6_TRANSPARENT, "IPV6_TRANSPARENT"},
    Known{IPPROTO_IPV6, IPV6_MTU_DISCOVER, "IPV6_MTU_DISCOVER"},
    Known{IPPROTO_IPV6, IPV6_RECVPKTINFO, "IPV6_RECVPKTINFO"},
    Known{IPPROTO_IPV6, IPV6_RECVTCLASS, "IPV6_RECVTCLASS"},
    Known{IPPROTO_IPV6, IPV6_RECVHOPLIMIT, "IPV6_RECVHOPLIMIT"},
};
constexpr std::size_t kMaxValue = 64;  // the longest of them is a name of 16 bytes

bool is_buffer(int level, int name) {
  return level == SOL_SOCKET && (name == SO_RCVBUF || name == SO_SNDBUF);
}

// Nothing when this kind of socket has no such option.
std::optional<std::string> value_of(int fd, const Known& option) {
  std::array<char, kMaxValue> value{};
  socklen_t size = value.size();
  if (::getsockopt(fd, option.level, option.name, value.data(), &size) != 0) return std::nullopt;
  return std::string(value.data(), size);
}

Result<base::UniqueFd> fresh_socket_like(int fd) {
  std::array<int, 3> kind{};
  constexpr std::array<int, 3> kNames = {SO_DOMAIN, SO_TYPE, SO_PROTOCOL};
  for (std::size_t i = 0; i < kNames.size(); ++i) {
    socklen_t size = sizeof kind[i];
    if (::getsockopt(fd, SOL_SOCKET, kNames[i], &kind[i], &size) != 0)
      return base::system_error(errno, "cannot ask a socket for its kind");
  }
  base::UniqueFd fresh(::socket(kind[0], kind[1] | SOCK_CLOEXEC, kind[2]));
  if (!fresh) return base::system_error(errno, "cannot open a socket to compare with");
  return fresh;
}

// The kernel answers with twice what was asked for.
std::string halved(const std::string& value) {
  int size = 0;
  if (value.size() != sizeof size) return value;
  std::memcpy(&size, value.data(), sizeof size);
  size /= 2;
  return {reinterpret_cast<const char*>(&size), sizeof size};
}

// Past net.core.rmem_max only with CAP_NET_ADMIN; below it the plain one will do.
bool force_buffer(int fd, const SocketOption& option) {
  const int forced = option.name == SO_RCVBUF ? SO_RCVBUFFORCE : SO_SNDBUFFORCE;
  return ::setsockopt(fd, SOL_SOCKET, forced, option.value.data(),
                      static_cast<socklen_t>(option.value.size())) == 0;
}

std::string name_of(const SocketOption& option) {
  for (const Known& known : kKnown)
    if (known.level == option.level && known.name == option.name) return known.text;
  return "option " + std::to_string(option.name) + " of level " + std::to_string(option.level);
}

}  // namespace

Result<std::vector<SocketOption>> capture_options(int fd) {
  UPD_ASSIGN(const base::UniqueFd fresh, fresh_socket_like(fd));
  std::vector<SocketOption> options;
  for (const Known& known : kKnown) {
    auto value = value_of(fd, known);
    if (!value || value->empty() || value == value_of(fresh.get(), known)) continue;
    if (is_buffer(known.level, known.name)) value = halved(*value);
    options.push_back({known.level, known.name, std::move(*value)});
  }
  return options;
}

Status apply_options(int fd, const std::vector<SocketOption>& options) {
  for (const SocketOption& option : options) {
    if (is_buffer(option.level, option.name) && force_buffer(fd, option)) continue;
    if (::setsockopt(fd, option.level, option.name, option.value.data(),
                     static_cast<socklen_t>(option.value.size())) != 0)
      return base::system_error(errno, "cannot set " + name_of(option) + " on a socket");
  }
  return base::ok();
}

}  // namespace updagent::listen
