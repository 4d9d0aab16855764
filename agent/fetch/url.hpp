// What this folder needs to know about a URL, read by libcurl's own parser: two parsers that differ
// are how credentials reach the wrong host.
#pragma once

#include <optional>
#include <string>

#include "agent/base/error.hpp"

namespace updagent::fetch {

inline constexpr std::size_t kMaxUrlBytes = 16 * 1024;  // twice what servers and proxies accept

struct Url {
  std::string scheme;    // "https", "http" or "file"
  std::string origin;    // "https://host:443": who may see credentials that were given for it
  std::string location;  // the URL without user, password and fragment
  std::string user;      // decoded
  std::string password;
  std::string path;  // decoded; only for file

  bool is_https() const { return scheme == "https"; }
};

// Code::usage for what can't be read, and for any scheme but https, http and file. The message
// names no part of the URL that could be secret.
base::Result<Url> parse_url(const std::string& text);

// `reference` as a Location header has it, absolute or relative to `base`; "" if it can't be read.
std::string resolve_reference(const Url& base, const std::string& reference);

// The name under which a URL's part file is kept: SHA-256 of its location in hex, so that neither
// the password nor anything computed from it is written to disk.
std::string storage_key(const Url& url);

}  // namespace updagent::fetch
