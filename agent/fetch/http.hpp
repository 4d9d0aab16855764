// One HTTP GET by libcurl, redirects included, that an Interrupt can end at any moment. It knows
// nothing of part files or of trying again: it says what came.
//
// Redirects are followed here, not by libcurl: each hop is checked (never from https to http), and
// what was given for one origin (user and password, netrc, client certificate) stays there.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "agent/base/error.hpp"
#include "agent/base/interrupt.hpp"
#include "agent/fetch/curl_handles.hpp"
#include "agent/fetch/fetch.hpp"
#include "agent/fetch/response_head.hpp"
#include "agent/fetch/retry.hpp"
#include "agent/fetch/url.hpp"

namespace updagent::fetch {

// What is asked for besides the URL; "" and 0 leave a header out.
struct Conditions {
  std::uint64_t from = 0;  // Range: bytes=FROM-
  std::string if_range;
  std::string if_none_match;
  std::string if_modified_since;
};

class ResponseSink {
 public:
  virtual ~ResponseSink() = default;
  // The final response, before its body; called once per get() at most. False ends the exchange:
  // its body is not wanted.
  virtual bool on_response(const ResponseHead& head) = 0;
  virtual bool on_bytes(std::string_view bytes) = 0;  // false ends the exchange
  virtual void on_tick() = 0;                         // now and then while it runs
};

struct Exchange {
  bool interrupted = false;
  bool ended_by_sink = false;
  std::optional<Failure> failure;  // neither of both, and the transfer was not complete
};

class HttpClient {
 public:
  HttpClient(const Limits& limits, const Credentials& credentials, base::Interrupt* interrupt);
  // Code::config_invalid for a file of the credentials that can't be read.
  base::Status prepare();
  Exchange get(const Url& url, const Conditions& conditions, ResponseSink& sink);

 private:
  struct Hop;
  Exchange run(Hop& hop);
  std::optional<Exchange> drive(Hop& hop);
  Exchange conclude(Hop& hop, CURLcode code);

  Limits limits_;
  Credentials credentials_;
  base::Interrupt* interrupt_;
  MultiHandle multi_;  // keeps connections and DNS answers between attempts
};

}  // namespace updagent::fetch
