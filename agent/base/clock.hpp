// Time: wall clock for records, monotonic clock for durations, text forms of both.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "agent/base/error.hpp"

namespace updagent::base {

using Milliseconds = std::chrono::milliseconds;

// Microseconds since the epoch, UTC.
std::int64_t wall_now_us();
// CLOCK_BOOTTIME: never jumps, goes on while the machine sleeps. Valid for this boot only.
std::int64_t monotonic_now_us();

// A point on the monotonic clock after which a bounded wait ends.
class Deadline {
 public:
  static Deadline in(Milliseconds span) {
    return Deadline(monotonic_now_us() + span.count() * 1000);
  }
  bool passed() const { return monotonic_now_us() >= at_us_; }
  // Never negative; capped so that it fits poll(2).
  Milliseconds left() const;

 private:
  explicit Deadline(std::int64_t at_us) : at_us_(at_us) {}
  std::int64_t at_us_;
};

// "2026-08-17T09:30:00.000123Z" (RFC 3339, always UTC, always six digits).
std::string format_rfc3339(std::int64_t wall_us);
// The same form, fraction and offset optional ("2026-08-17T11:30:00+02:00", "2026-08-17").
std::optional<std::int64_t> parse_rfc3339(std::string_view text);
// "Thu, 17 Aug 2026 09:30:00 GMT" (RFC 9110 IMF-fixdate), as in Retry-After and Last-Modified.
std::optional<std::int64_t> parse_http_date(std::string_view text);

// "500ms" "30s" "5m" "2h" "7d" and sums as "1m30s". No sign, no fraction, at most ten years.
std::optional<Milliseconds> parse_duration(std::string_view text);
// "431 ms", "12.4 s", "3m05s", "2h10m": for people.
std::string human_duration(std::int64_t duration_us);
// "90s" or "500ms": the shortest exact form that parse_duration reads.
std::string format_duration(Milliseconds span);

// /proc/sys/kernel/random/boot_id: changes with every boot.
std::string boot_id();

}  // namespace updagent::base
