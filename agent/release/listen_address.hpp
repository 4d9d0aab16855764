// Where a service listens: "tcp:127.0.0.1:8080", "tcp:[::]:443", "udp:...", "unix:/run/shop/http",
// "unix:@name"; and the patterns in which a node says what a release may ask for. One spelling for
// each address, so that texts can be compared.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "agent/base/error.hpp"

namespace updagent::release {

enum class AddressKind : std::uint8_t { tcp, udp, unix_path, unix_abstract };

struct ListenAddress {
  AddressKind kind = AddressKind::tcp;
  std::string host;        // tcp, udp: "0.0.0.0", "::1"
  std::uint16_t port = 0;  // tcp, udp
  std::string path;        // unix: the path, or the name without '@'

  bool is_v6() const { return host.find(':') != std::string::npos; }
  bool is_unix() const {
    return kind == AddressKind::unix_path || kind == AddressKind::unix_abstract;
  }
  bool is_stream() const { return kind != AddressKind::udp; }
  std::string text() const;               // "tcp:[::1]:80"
  std::string text_without_kind() const;  // "[::1]:80", "/run/shop/http", "@name"

  bool operator==(const ListenAddress&) const = default;
};

// Hosts are numbers: a name may mean several addresses, or other ones tomorrow. A port is 1 to
// 65535, since 0 would be another one for each generation. The one spelling is that of
// inet_ntop(3); another one is refused, naming it. `place` and `code` are for the refusal.
base::Result<ListenAddress> parse_listen_address(std::string_view text, const std::string& place,
                                                 base::Code code);

// "tcp:*:8080", "tcp:127.0.0.1:*", "udp:*:1024-65535", "unix:/run/shop/*" (all below the folder),
// "unix:@shop*" (names that begin so), or an address itself.
struct AddressPattern {
  AddressKind kind = AddressKind::tcp;
  std::string host;  // "": any, IPv4 and IPv6
  std::uint16_t low = 0;
  std::uint16_t high = 0;
  std::string path;        // the path or name, or what it begins with
  bool is_prefix = false;  // of unix

  bool matches(const ListenAddress& address) const;
};

std::optional<AddressPattern> parse_address_pattern(std::string_view text);

}  // namespace updagent::release
