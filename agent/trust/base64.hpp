// Base64 (RFC 4648) as DSSE wants it: written in the standard alphabet, read in that or the
// URL-safe one, always padded. One spelling per value: unused bits must be zero, nothing else is
// skipped.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace updagent::trust {

std::string base64_encode(std::string_view bytes);
std::optional<std::string> base64_decode(std::string_view text);

}  // namespace updagent::trust
