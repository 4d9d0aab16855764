// file: URLs: the file itself, no copy.
#pragma once

#include "agent/base/error.hpp"
#include "agent/fetch/fetch.hpp"
#include "agent/fetch/url.hpp"

namespace updagent::fetch {

// Code::fetch_failed for what is missing or not a regular file, Code::too_large.
base::Result<Fetched> open_local_file(const Request& request, const Url& url);

}  // namespace updagent::fetch
