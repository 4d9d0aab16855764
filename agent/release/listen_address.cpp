#include "agent/release/listen_address.hpp"

#include <arpa/inet.h>

#include <algorithm>
#include <array>

#include "agent/base/text.hpp"
#include "agent/release/describe.hpp"
#include "agent/release/service.hpp"

namespace updagent::release {
namespace {

using base::Error;

constexpr std::uint64_t kMaxPort = 65535;
constexpr std::string_view kGrammar =
    "tcp:HOST:PORT or udp:HOST:PORT with a numeric HOST ([V6] in brackets), unix:/PATH or "
    "unix:@NAME";

std::optional<std::uint16_t> parse_port(std::string_view text) {
  const auto port = base::parse_u64(text);
  if (!port || *port == 0 || *port > kMaxPort || text[0] == '0') return std::nullopt;
  return static_cast<std::uint16_t>(*port);
}

// As inet_ntop(3) spells it.
std::optional<std::string> normal_v4(std::string_view text) {
  in_addr address{};
  if (text.find('\0') != std::string_view::npos) return std::nullopt;  // it would end the C string
  if (::inet_pton(AF_INET, std::string(text).c_str(), &address) != 1) return std::nullopt;
  std::array<char, INET_ADDRSTRLEN> out{};
  return ::inet_ntop(AF_INET, &address, out.data(), out.size());
}

// No scope: which link an index means is not the release's to know. No IPv4 in IPv6 clothes: it
// would be a second spelling.
std::optional<std::string> normal_v6(std::string_view text) {
  in6_addr address{};
  if (text.find('\0') != std::string_view::npos) return std::nullopt;
  if (::inet_pton(AF_INET6, std::string(text).c_str(), &address) != 1) return std::nullopt;
  if (IN6_IS_ADDR_V4MAPPED(&address)) return std::nullopt;
  std::array<char, INET6_ADDRSTRLEN> out{};
  return ::inet_ntop(AF_INET6, &address, out.data(), out.size());
}

struct HostAndPort {
  std::string_view host;  // without brackets
  std::string_view port;
  bool in_brackets = false;
};

std::optional<HostAndPort> split_port(std::string_view text) {
  const std::size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return std::nullopt;
  HostAndPort out{.host = text.substr(0, colon), .port = text.substr(colon + 1)};
  if (!out.host.starts_with('[')) return out;
  if (!out.host.ends_with(']')) return std::nullopt;
  out.host = out.host.substr(1, out.host.size() - 2);
  out.in_brackets = true;
  return out;
}

std::optional<std::string> parse_host(const HostAndPort& split) {
  return split.in_brackets ? normal_v6(split.host) : normal_v4(split.host);
}

std::optional<ListenAddress> parse_inet(AddressKind kind, std::string_view text) {
  const auto split = split_port(text);
  if (!split) return std::nullopt;
  const auto host = parse_host(*split);
  const auto port = parse_port(split->port);
  if (!host || !port) return std::nullopt;
  return ListenAddress{.kind = kind, .host = *host, .port = *port, .path = {}};
}

// Absolute, no component empty, '.' or '..': the way to it can be compared with a folder's.
bool is_clean_path(std::string_view path) {
  if (!path.starts_with('/') || path.size() < 2) return false;
  while (!path.empty()) {
    path.remove_prefix(1);
    const std::string_view component = path.substr(0, path.find('/'));
    if (component.empty() || component == "." || component == "..") return false;
    path.remove_prefix(component.size());
  }
  return true;
}

bool is_plain_text(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) {
    return static_cast<unsigned char>(c) > 0x20 && static_cast<unsigned char>(c) < 0x7F &&
           c != '*';  // of patterns
  });
}

std::optional<ListenAddress> parse_unix(std::string_view text) {
  if (!is_plain_text(text) || text.size() > kMaxUnixPathBytes) return std::nullopt;
  ListenAddress address{.kind = AddressKind::unix_path, .host = {}, .port = 0, .path = {}};
  if (is_clean_path(text)) {
    address.path = text;
    return address;
  }
  if (!text.starts_with('@') || text.size() < 2) return std::nullopt;
  address.kind = AddressKind::unix_abstract;
  address.path = text.substr(1);
  return address;
}

struct Kinded {
  std::string_view kind;
  std::string_view rest;
};

Kinded split_kind(std::string_view text) {
  const std::size_t colon = text.find(':');
  if (colon == std::string_view::npos) return {};
  return {text.substr(0, colon), text.substr(colon + 1)};
}

std::optional<ListenAddress> parse(std::string_view text) {
  const Kinded split = split_kind(text);
  if (split.kind == "tcp") return parse_inet(AddressKind::tcp, split.rest);
  if (split.kind == "udp") return parse_inet(AddressKind::udp, split.rest);
  if (split.kind == "unix") return parse_unix(split.rest);
  return std::nullopt;
}

// "*", "8080" or "1024-65535".
bool parse_ports(std::string_view text, AddressPattern& into) {
  if (text == "*") {
    into.low = 1;
    into.high = kMaxPort;
    return true;
  }
  const std::size_t dash = text.find('-');
  const auto low = parse_port(text.substr(0, dash));
  const auto high = dash == std::string_view::npos ? low : parse_port(text.substr(dash + 1));
  if (!low || !high || *low > *high) return false;
  into.low = *low;
  into.high = *high;
  return true;
}

std::optional<AddressPattern> inet_pattern(AddressKind kind, std::string_view text) {
  AddressPattern pattern{.kind = kind, .host = {}, .low = 0, .high = 0, .path = {}};
  const auto split = split_port(text);
  if (!split || !parse_ports(split->port, pattern)) return std::nullopt;
  if (split->host == "*" && !split->in_brackets) return pattern;
  const auto host = parse_host(*split);
  if (!host) return std::nullopt;
  pattern.host = *host;
  return pattern;
}

std::optional<AddressPattern> unix_pattern(std::string_view text) {
  AddressPattern pattern{
      .kind = AddressKind::unix_path, .host = {}, .low = 0, .high = 0, .path = {}};
  if (!text.ends_with('*')) {
    const auto address = parse_unix(text);
    if (!address) return std::nullopt;
    pattern.kind = address->kind;
    pattern.path = address->path;
    return pattern;
  }
  text.remove_suffix(1);
  if (!is_plain_text(text)) return std::nullopt;
  pattern.is_prefix = true;
  if (text.starts_with('@')) {
    pattern.kind = AddressKind::unix_abstract;
    pattern.path = text.substr(1);
    return pattern;
  }
  // a whole folder, never "/run/sh*": what begins alike need not belong together
  const bool is_folder = text.ends_with('/');
  if (!is_folder || (text != "/" && !is_clean_path(text.substr(0, text.size() - 1))))
    return std::nullopt;
  pattern.path = text;
  return pattern;
}

}  // namespace

std::string ListenAddress::text_without_kind() const {
  switch (kind) {
    case AddressKind::unix_path:
      return path;
    case AddressKind::unix_abstract:
      return '@' + path;
    case AddressKind::tcp:
    case AddressKind::udp:
      break;
  }
  const std::string shown = is_v6() ? '[' + host + ']' : host;
  return shown + ':' + std::to_string(port);
}

std::string ListenAddress::text() const {
  const char* scheme = is_unix() ? "unix:" : kind == AddressKind::tcp ? "tcp:" : "udp:";
  return scheme + text_without_kind();
}

base::Result<ListenAddress> parse_listen_address(std::string_view text, const std::string& place,
                                                 base::Code code) {
  auto address = parse(text);
  if (address && address->text() == text) return std::move(*address);
  return Error(code, place + " is not valid")
      .expected(address ? in_quotes(address->text()) + ", the same in its one spelling"
                        : std::string(kGrammar))
      .got(in_quotes(text));
}

std::optional<AddressPattern> parse_address_pattern(std::string_view text) {
  const Kinded split = split_kind(text);
  if (split.kind == "tcp") return inet_pattern(AddressKind::tcp, split.rest);
  if (split.kind == "udp") return inet_pattern(AddressKind::udp, split.rest);
  if (split.kind == "unix") return unix_pattern(split.rest);
  return std::nullopt;
}

bool AddressPattern::matches(const ListenAddress& address) const {
  if (address.kind != kind) return false;
  if (address.is_unix()) return is_prefix ? address.path.starts_with(path) : address.path == path;
  return (host.empty() || host == address.host) && address.port >= low && address.port <= high;
}

}  // namespace updagent::release
