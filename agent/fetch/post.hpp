// One HTTP POST of a small JSON document: webhooks. No redirects, no resume.
#pragma once

#include <string>
#include <string_view>

#include "agent/base/clock.hpp"
#include "agent/base/error.hpp"
#include "agent/fetch/fetch.hpp"

namespace updagent::fetch {

struct PostRequest {
  std::string url;
  std::string body;          // application/json
  std::string bearer_token;  // "" = no Authorization header
  base::Milliseconds timeout{10'000};
  Credentials credentials;
};

// Any 2xx is fine; the answer's body is read (bounded) and thrown away. Code::fetch_failed
// otherwise.
base::Status post_json(const PostRequest& request);

}  // namespace updagent::fetch
