#include "tests/handoff/load/address.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/un.h>

#include <array>
#include <charconv>
#include <cstddef>
#include <cstring>

namespace load {
namespace {

constexpr std::uint32_t kMaxRange = 4096;  // of source addresses

template <class Name>
Address as_address(const Name& name, std::size_t length = sizeof(Name)) {
  Address address;
  std::memcpy(&address.storage, &name, sizeof name);
  address.length = static_cast<socklen_t>(length);
  return address;
}

std::optional<Address> parse_unix(std::string_view path) {
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  if (path.size() < 2 || path.size() >= sizeof name.sun_path) return std::nullopt;
  std::memcpy(name.sun_path, path.data(), path.size());
  std::size_t length = offsetof(sockaddr_un, sun_path) + path.size();
  if (path[0] == '@')
    name.sun_path[0] = '\0';
  else if (path[0] == '/')
    ++length;
  else
    return std::nullopt;
  return as_address(name, length);
}

std::optional<Address> parse_ip(const std::string& text, std::uint16_t port) {
  sockaddr_in v4{};
  v4.sin_family = AF_INET;
  v4.sin_port = htons(port);
  if (::inet_pton(AF_INET, text.c_str(), &v4.sin_addr) == 1) return as_address(v4);
  sockaddr_in6 v6{};
  v6.sin6_family = AF_INET6;
  v6.sin6_port = htons(port);
  if (::inet_pton(AF_INET6, text.c_str(), &v6.sin6_addr) == 1) return as_address(v6);
  return std::nullopt;
}

std::uint32_t as_number(const Address& address) {
  sockaddr_in name{};
  std::memcpy(&name, &address.storage, sizeof name);
  return ntohl(name.sin_addr.s_addr);
}

Address as_v4(std::uint32_t number) {
  sockaddr_in name{};
  name.sin_family = AF_INET;
  name.sin_addr.s_addr = htonl(number);
  return as_address(name);
}

// One address or FIRST-LAST; false on a mistake.
bool add_sources(std::string_view text, std::vector<Address>& sources) {
  const auto dash = text.find('-');
  const auto first = parse_ip(std::string(text.substr(0, dash)), 0);
  if (!first) return false;
  sources.push_back(*first);
  if (dash == std::string_view::npos) return true;
  const auto last = parse_ip(std::string(text.substr(dash + 1)), 0);
  if (!last || first->family() != AF_INET || last->family() != AF_INET) return false;
  const std::uint32_t from = as_number(*first);
  const std::uint32_t to = as_number(*last);
  if (to < from || to - from > kMaxRange) return false;
  for (std::uint32_t number = from + 1; number <= to; ++number) sources.push_back(as_v4(number));
  return true;
}

}  // namespace

std::optional<Address> parse_target(std::string_view text) {
  if (text.starts_with("unix:")) return parse_unix(text.substr(5));
  if (!text.starts_with("tcp:")) return std::nullopt;
  text.remove_prefix(4);
  const auto colon = text.rfind(':');
  if (colon == std::string_view::npos) return std::nullopt;
  std::string_view host = text.substr(0, colon);
  const std::string_view digits = text.substr(colon + 1);
  std::uint16_t port = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
  if (error != std::errc() || end != digits.data() + digits.size()) return std::nullopt;
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  return parse_ip(std::string(host), port);
}

std::vector<Address> parse_sources(std::string_view text) {
  std::vector<Address> sources;
  while (!text.empty()) {
    const auto comma = text.find(',');
    if (!add_sources(text.substr(0, comma), sources)) return {};
    text.remove_prefix(comma == std::string_view::npos ? text.size() : comma + 1);
  }
  return sources;
}

std::string local_name(int socket_fd) {
  sockaddr_storage storage{};
  socklen_t length = sizeof storage;
  std::array<char, INET6_ADDRSTRLEN> text{};
  if (::getsockname(socket_fd, reinterpret_cast<sockaddr*>(&storage), &length) != 0) return "";
  if (storage.ss_family == AF_INET) {
    sockaddr_in name{};
    std::memcpy(&name, &storage, sizeof name);
    ::inet_ntop(AF_INET, &name.sin_addr, text.data(), text.size());
    return std::string(text.data()) + ":" + std::to_string(ntohs(name.sin_port));
  }
  if (storage.ss_family == AF_INET6) {
    sockaddr_in6 name{};
    std::memcpy(&name, &storage, sizeof name);
    ::inet_ntop(AF_INET6, &name.sin6_addr, text.data(), text.size());
    return "[" + std::string(text.data()) + "]:" + std::to_string(ntohs(name.sin6_port));
  }
  return "unix";
}

}  // namespace load
