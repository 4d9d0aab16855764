#include "agent/release/endpoints.hpp"

#include <arpa/inet.h>

#include <algorithm>
#include <array>
#include <optional>

#include "agent/base/text.hpp"
#include "agent/release/describe.hpp"

namespace updagent::release {
namespace {

using base::Error;

constexpr std::array<std::pair<std::string_view, ProbeType>, 3> kProbeTypes = {
    {{"exec", ProbeType::exec}, {"http", ProbeType::http}, {"tcp", ProbeType::tcp}}};
constexpr std::uint64_t kMaxPort = 65535;
constexpr std::size_t kMaxHostLength = 253;  // of a DNS name, RFC 1035

bool is_host_char(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '.' ||
         c == '-' || c == '_';
}

bool is_name_or_v4(std::string_view host) {
  return !host.empty() && host.size() <= kMaxHostLength && host[0] != '-' &&
         std::all_of(host.begin(), host.end(), is_host_char);
}

bool is_v6(std::string_view host) {
  in6_addr address{};
  if (host.find('\0') != std::string_view::npos) return false;  // it would end the C string
  return ::inet_pton(AF_INET6, std::string(host).c_str(), &address) == 1;
}

bool is_port(std::string_view text) {
  const auto port = base::parse_u64(text);
  return port && text.size() <= 5 && *port >= 1 && *port <= kMaxPort;
}

// What follows the host ("" or ":PORT" or more), or nothing if it does not begin with one.
std::optional<std::string_view> after_host(std::string_view text) {
  if (text.starts_with('[')) {
    const std::size_t close = text.find(']');
    if (close == std::string_view::npos || !is_v6(text.substr(1, close - 1))) return std::nullopt;
    return text.substr(close + 1);
  }
  const std::size_t colon = std::min(text.find(':'), text.size());
  if (!is_name_or_v4(text.substr(0, colon))) return std::nullopt;
  return text.substr(colon);
}

std::optional<int> parse_status(std::string_view text) {
  const auto value = base::parse_u64(text);
  if (!value || text.size() != 3) return std::nullopt;
  return static_cast<int>(*value);
}

}  // namespace

std::string_view probe_type_name(ProbeType type) {
  for (const auto& [name, known] : kProbeTypes)
    if (known == type) return name;
  return "unknown";
}

base::Result<ProbeType> parse_probe_type(std::string_view text, const std::string& place,
                                         base::Code code) {
  for (const auto& [name, type] : kProbeTypes)
    if (name == text) return type;
  return Error(code, place + " is not valid")
      .expected("'exec', 'http' or 'tcp'")
      .got(in_quotes(text));
}

base::Result<std::pair<int, int>> parse_status_range(std::string_view text,
                                                     const std::string& place, base::Code code) {
  const std::size_t dash = text.find('-');
  const auto low = parse_status(text.substr(0, dash));
  const auto high = dash == std::string_view::npos ? low : parse_status(text.substr(dash + 1));
  if (low && high) return std::pair(*low, *high);
  return Error(code, place + " is not valid").expected("'200' or '200-299'").got(in_quotes(text));
}

std::string status_range_text(const std::pair<int, int>& range) {
  const std::string low = std::to_string(range.first);
  return range.first == range.second ? low : low + '-' + std::to_string(range.second);
}

bool is_host_and_port(std::string_view text) {
  const auto rest = after_host(text);
  return rest && rest->starts_with(':') && is_port(rest->substr(1));
}

bool is_probe_url(std::string_view text) {
  const bool visible = std::all_of(text.begin(), text.end(), [](char c) {
    return static_cast<unsigned char>(c) > 0x20 && c != 0x7F;
  });
  if (!visible) return false;
  for (const std::string_view scheme : {"http://", "https://"}) {
    if (!text.starts_with(scheme)) continue;
    const std::string_view authority =
        text.substr(scheme.size(), text.find_first_of("/?#", scheme.size()) - scheme.size());
    const auto rest = after_host(authority);
    return rest && (rest->empty() || (rest->starts_with(':') && is_port(rest->substr(1))));
  }
  return false;
}

}  // namespace updagent::release
