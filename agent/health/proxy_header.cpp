#include <arpa/inet.h>
#include <netinet/in.h>

#include <array>
#include <cerrno>

#include "agent/health/forwarder.hpp"

namespace updagent::health {
namespace {

struct End {
  std::string ip;
  std::string port;
};

End end_of(const sockaddr_storage& address) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  if (address.ss_family == AF_INET) {
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(address);
    ::inet_ntop(AF_INET, &v4.sin_addr, text.data(), text.size());
    return {text.data(), std::to_string(ntohs(v4.sin_port))};
  }
  const auto& v6 = reinterpret_cast<const sockaddr_in6&>(address);
  ::inet_ntop(AF_INET6, &v6.sin6_addr, text.data(), text.size());
  return {text.data(), std::to_string(ntohs(v6.sin6_port))};
}

}  // namespace

base::Result<std::string> proxy_header_of(int fd) {
  sockaddr_storage from{};
  sockaddr_storage to{};
  socklen_t from_length = sizeof from;
  socklen_t to_length = sizeof to;
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&from), &from_length) != 0 ||
      ::getpeername(fd, reinterpret_cast<sockaddr*>(&to), &to_length) != 0)
    return base::system_error(errno, "cannot ask a connection for its addresses");
  if (from.ss_family != AF_INET && from.ss_family != AF_INET6)
    return std::string("PROXY UNKNOWN\r\n");  // a local socket has no address to tell
  const End client = end_of(from);
  const End server = end_of(to);
  return "PROXY " + std::string(from.ss_family == AF_INET ? "TCP4 " : "TCP6 ") + client.ip + " " +
         server.ip + " " + client.port + " " + server.port + "\r\n";
}

}  // namespace updagent::health
