// Options of a request that downloads and webhooks set alike.
#pragma once

#include <string>

#include "agent/fetch/curl_handles.hpp"

namespace updagent::fetch {

template <class Value>
void set(bool& good, CURL* easy, CURLoption option, Value value) {
  good = good && curl_easy_setopt(easy, option, value) == CURLE_OK;
}

// TLS 1.2 at least, the server checked against `ca_file` alone, or the system's CAs for "".
bool set_tls(CURL* easy, const std::string& ca_file);

}  // namespace updagent::fetch
