// What became of the requests of one flow: in all, and in windows of time.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "tests/handoff/load/histogram.hpp"

namespace load {

using Json = nlohmann::ordered_json;

// Of one attempt. The classes from `refused` to `other` are failures.
enum class Outcome {
  ok,
  refused,           // nobody listens: ECONNREFUSED, or no such socket file
  reset,             // ECONNRESET, EPIPE, at any time before the end of the response
  eof,               // closed before the first byte of a response
  cut,               // closed inside a response
  timeout,           // no progress
  wrong_status,      // the response is whole, but not the one that was to come
  wrong_body,        //
  wrong_generation,  //
  other,             // the detail says what: no HTTP, out of ports, ...
  keepalive_race,    // a reused connection ended before any byte of the response: see Spec::race_ms
  unfinished,        // still in flight when we were told to stop
};
inline constexpr std::size_t kOutcomes = 12;
std::string_view name_of(Outcome outcome);
bool is_failure(Outcome outcome);

struct Counts {
  std::array<std::uint64_t, kOutcomes> outcomes{};
  std::map<std::string, std::uint64_t> generations;  // of every response whose head came
  std::uint64_t idle_eof = 0;    // kept-alive connections that ended with no request in flight
  std::uint64_t idle_reset = 0;  //
  std::uint64_t idle_data = 0;   // sent something that nobody had asked for (a 408), then closed
  Histogram latency;             // of good answers, from when the request was due

  std::uint64_t& of(Outcome outcome) { return outcomes[static_cast<std::size_t>(outcome)]; }
};

// Sums that make no sense in windows.
struct Totals {
  std::uint64_t requests = 0;
  std::uint64_t not_begun = 0;        // see Tally::forget_request; not among the requests
  std::uint64_t connections = 0;      // that were established
  std::uint64_t announced_close = 0;  // responses with Connection: close that we had not asked for
  std::uint64_t not_closed = 0;       // connections that the server should have closed and did not
  std::uint64_t retried = 0;
  std::uint64_t bytes = 0;
  std::int64_t race_max_us = 0;  // longest time from request to the end of a lost race
  std::int64_t gap_max_us = 0;   // longest silence inside a response
  std::int64_t late_max_us = 0;  // longest time that a request had to wait for us
  Histogram connect;
  Histogram first_byte;  // from when the request was due
  std::map<std::string, std::uint64_t> details;
};

class Tally {
 public:
  explicit Tally(std::string flow) : flow_(std::move(flow)) {}

  // A request belongs to the window in which it became due, however late it ends.
  using WindowId = std::uint64_t;
  WindowId open_request();
  void close_request(WindowId window);
  // It was due and never begun: no connection was free before the end.
  void forget_request(WindowId window);
  void attempt(WindowId window, Outcome outcome, const std::string& generation);
  void latency(WindowId window, std::int64_t us);
  void detail(const std::string& key);
  void idle_end(std::uint64_t Counts::* how);

  std::uint64_t open_requests() const { return open_requests_; }
  Totals& totals() { return totals_; }

  void begin_window(std::int64_t now_us);
  // The oldest windows that are over and whose requests have ended; of all when `all`.
  bool take_window(bool all, std::int64_t now_us, Json& window);
  Json result();

 private:
  struct Window {
    std::int64_t from_us = 0;
    std::int64_t to_us = 0;
    std::uint64_t begun = 0;
    std::uint64_t open = 0;
    Counts counts;
  };
  Window& window(WindowId id) { return windows_[id - first_window_]; }

  std::string flow_;
  std::deque<Window> windows_;
  WindowId first_window_ = 0;
  std::uint64_t open_requests_ = 0;
  Counts counts_;
  Totals totals_;
};

}  // namespace load
