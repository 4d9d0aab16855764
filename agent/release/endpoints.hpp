// The small languages inside a probe: its type, HTTP statuses, addresses, URLs.
#pragma once

#include <string>
#include <string_view>
#include <utility>

#include "agent/base/error.hpp"
#include "agent/release/manifest.hpp"

namespace updagent::release {

// "exec", "http", "tcp". `place` and `code` are for the refusal.
std::string_view probe_type_name(ProbeType type);
base::Result<ProbeType> parse_probe_type(std::string_view text, const std::string& place,
                                         base::Code code);

// "200" or "200-299"; whether the numbers are HTTP's is rules.hpp's business.
base::Result<std::pair<int, int>> parse_status_range(std::string_view text,
                                                     const std::string& place, base::Code code);
std::string status_range_text(const std::pair<int, int>& range);

// HOST:PORT or [IPV6]:PORT.
bool is_host_and_port(std::string_view text);
// http(s)://HOST[:PORT][/...] without credentials: everybody who has the artifact can read it.
bool is_probe_url(std::string_view text);

}  // namespace updagent::release
