// One HTTP POST of a small JSON document: webhooks. No redirects, no resume. TLS as for downloads,
// but the node's client certificate and netrc are for its artifact server: nobody else sees them.
#pragma once

#include <string>
#include <string_view>

#include "agent/base/clock.hpp"
#include "agent/base/error.hpp"

namespace updagent::fetch {

struct PostRequest {
  std::string url;
  std::string body;          // application/json
  std::string bearer_token;  // "" = no Authorization header
  base::Milliseconds timeout{10'000};
  std::string ca_file;  // "" = the system's
};

// Any 2xx is fine; the answer's body is read (bounded) and thrown away. Code::fetch_failed
// otherwise.
base::Status post_json(const PostRequest& request);

}  // namespace updagent::fetch
