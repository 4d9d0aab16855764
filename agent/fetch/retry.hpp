// What a failed attempt means and when to try again. Pure: no clock, no network, no randomness.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "agent/base/clock.hpp"
#include "agent/base/error.hpp"
#include "agent/fetch/fetch.hpp"

namespace updagent::fetch {

enum class Remedy {
  wait_for_link,    // link loss, DNS, refused, timed out: the node may be offline for hours
  wait_for_server,  // 408, 429, 5xx
  ask_on,           // a part came in good order, there may be more: at once, if it was not empty
  start_over,       // what we have does not fit what the server has: at once, from zero
  give_up,          // trying again can't help
};

struct Failure {
  Remedy remedy = Remedy::wait_for_link;
  std::string problem;  // one line for people: "cannot connect to 10.0.0.1: Connection refused"
  std::optional<base::Milliseconds> retry_after;  // what the server asked for
  base::Code code = base::Code::fetch_failed;     // for give_up
  std::string hint;                               // for give_up
};

// `curl_code` is a CURLcode other than CURLE_OK; `detail` libcurl's own text, os_errno 0 or what
// the system said.
Failure failure_of_transport(int curl_code, std::string_view detail, int os_errno);

// A status that is neither the file nor a part of it.
Failure failure_of_status(int status, std::string_view retry_after, std::int64_t wall_us);

// RFC 9110 10.2.3: seconds, or a date (never negative). Nothing if it is neither.
std::optional<base::Milliseconds> parse_retry_after(std::string_view text, std::int64_t wall_us);

// The wait after the `failures`-th failure in a row (from 1): backoff_first, doubled, at most
// backoff_max, times 0.5 to 1.5 by `random` (uniform), never below what the server asked for, never
// past `left` (what remains until give_up_after), never 0.
base::Milliseconds wait_before_retry(const Limits& limits, int failures, std::uint32_t random,
                                     std::optional<base::Milliseconds> retry_after,
                                     base::Milliseconds left);

// Fewer than `bytes_per_second` over a whole window: the link is dead, whatever TCP believes.
class StallWatch {
 public:
  StallWatch(std::uint64_t bytes_per_second, base::Milliseconds window)
      : bytes_per_second_(bytes_per_second), window_(window) {}
  // `received` never falls; until the first call nothing is measured.
  bool is_dead(std::int64_t now_us, std::uint64_t received);
  std::string describe() const;  // "fewer than 100 bytes per second for 30s"

 private:
  std::uint64_t bytes_per_second_;
  base::Milliseconds window_;
  std::optional<std::int64_t> window_start_us_;
  std::uint64_t received_at_start_ = 0;
};

}  // namespace updagent::fetch
