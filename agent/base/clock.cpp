#include "agent/base/clock.hpp"

#include <time.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <fstream>

#include "agent/base/text.hpp"

namespace updagent::base {
namespace {

constexpr std::int64_t kMicrosPerSecond = 1'000'000;
constexpr std::int64_t kMaxDurationMs = std::int64_t{10} * 366 * 24 * 3600 * 1000;

std::int64_t now_us(clockid_t clock) {
  timespec now{};
  ::clock_gettime(clock, &now);
  return static_cast<std::int64_t>(now.tv_sec) * kMicrosPerSecond + now.tv_nsec / 1000;
}

// Reads exactly `digits` decimal digits at position, advancing it.
std::optional<int> take_digits(std::string_view text, std::size_t& position, std::size_t digits) {
  if (position + digits > text.size()) return std::nullopt;
  int value = 0;
  for (std::size_t i = 0; i < digits; ++i) {
    const char c = text[position + i];
    if (c < '0' || c > '9') return std::nullopt;
    value = value * 10 + (c - '0');
  }
  position += digits;
  return value;
}

bool take_char(std::string_view text, std::size_t& position, char expected) {
  if (position >= text.size() || text[position] != expected) return false;
  ++position;
  return true;
}

std::optional<std::int64_t> utc_seconds(int year, int month, int day, int hour, int minute,
                                        int second) {
  const std::chrono::year_month_day date{std::chrono::year(year),
                                         std::chrono::month(static_cast<unsigned>(month)),
                                         std::chrono::day(static_cast<unsigned>(day))};
  if (!date.ok() || hour > 23 || minute > 59 || second > 60) return std::nullopt;
  const auto days = std::chrono::sys_days(date).time_since_epoch().count();
  return static_cast<std::int64_t>(days) * 86400 + hour * 3600 + minute * 60 + second;
}

}  // namespace

std::int64_t wall_now_us() {
  return now_us(CLOCK_REALTIME);
}
std::int64_t monotonic_now_us() {
  return now_us(CLOCK_BOOTTIME);
}

Milliseconds Deadline::left() const {
  constexpr std::int64_t kPollMaxMs = 24 * 3600 * 1000;  // a day: poll(2) takes an int
  // rounded up: a poll that wakes half a millisecond early would spin
  const std::int64_t left_ms = (at_us_ - monotonic_now_us() + 999) / 1000;
  return Milliseconds(std::clamp<std::int64_t>(left_ms, 0, kPollMaxMs));
}

std::string format_rfc3339(std::int64_t wall_us) {
  std::int64_t seconds = wall_us / kMicrosPerSecond;
  std::int64_t micros = wall_us % kMicrosPerSecond;
  if (micros < 0) {
    micros += kMicrosPerSecond;
    --seconds;
  }
  const time_t time = seconds;
  tm parts{};
  ::gmtime_r(&time, &parts);
  std::array<char, 64> text{};
  std::snprintf(text.data(), text.size(), "%04d-%02d-%02dT%02d:%02d:%02d.%06dZ",
                parts.tm_year + 1900, parts.tm_mon + 1, parts.tm_mday, parts.tm_hour, parts.tm_min,
                parts.tm_sec, static_cast<int>(micros));
  return text.data();
}

std::optional<std::int64_t> parse_rfc3339(std::string_view text) {
  std::size_t at = 0;
  const auto year = take_digits(text, at, 4);
  if (!year || !take_char(text, at, '-')) return std::nullopt;
  const auto month = take_digits(text, at, 2);
  if (!month || !take_char(text, at, '-')) return std::nullopt;
  const auto day = take_digits(text, at, 2);
  if (!day) return std::nullopt;
  if (at == text.size()) {
    const auto midnight = utc_seconds(*year, *month, *day, 0, 0, 0);
    if (!midnight) return std::nullopt;
    return *midnight * kMicrosPerSecond;
  }
  if (!take_char(text, at, 'T') && !take_char(text, at, ' ')) return std::nullopt;
  const auto hour = take_digits(text, at, 2);
  if (!hour || !take_char(text, at, ':')) return std::nullopt;
  const auto minute = take_digits(text, at, 2);
  if (!minute) return std::nullopt;
  int second = 0;
  if (take_char(text, at, ':')) {
    const auto value = take_digits(text, at, 2);
    if (!value) return std::nullopt;
    second = *value;
  }
  std::int64_t micros = 0;
  if (take_char(text, at, '.')) {
    std::int64_t scale = kMicrosPerSecond;
    const std::size_t start = at;
    while (at < text.size() && text[at] >= '0' && text[at] <= '9') {
      scale /= 10;
      micros += scale * (text[at] - '0');
      ++at;
    }
    if (at == start) return std::nullopt;
  }
  std::int64_t offset = 0;
  if (at < text.size() && (text[at] == '+' || text[at] == '-')) {
    const int sign = text[at++] == '+' ? 1 : -1;
    const auto offset_hour = take_digits(text, at, 2);
    if (!offset_hour || !take_char(text, at, ':')) return std::nullopt;
    const auto offset_minute = take_digits(text, at, 2);
    if (!offset_minute || *offset_hour > 23 || *offset_minute > 59) return std::nullopt;
    offset = sign * (*offset_hour * 3600 + *offset_minute * 60);
  } else if (at < text.size()) {
    if (!take_char(text, at, 'Z')) return std::nullopt;
  }
  if (at != text.size()) return std::nullopt;
  const auto seconds = utc_seconds(*year, *month, *day, *hour, *minute, second);
  if (!seconds) return std::nullopt;
  return (*seconds - offset) * kMicrosPerSecond + micros;
}

// By hand, because strptime(3) reads the names of the locale and takes what is not a date.
std::optional<std::int64_t> parse_http_date(std::string_view text) {
  static constexpr std::array<std::string_view, 7> kDays = {"Mon", "Tue", "Wed", "Thu",
                                                            "Fri", "Sat", "Sun"};
  static constexpr std::array<std::string_view, 12> kMonths = {
      "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  constexpr std::size_t kLength = 29;  // fixed, RFC 9110 section 5.6.7
  if (text.size() != kLength || text.substr(3, 2) != ", " || text.substr(25) != " GMT")
    return std::nullopt;
  const auto* month = std::find(kMonths.begin(), kMonths.end(), text.substr(8, 3));
  if (std::find(kDays.begin(), kDays.end(), text.substr(0, 3)) == kDays.end() ||
      month == kMonths.end() || text[7] != ' ' || text[11] != ' ' || text[16] != ' ' ||
      text[19] != ':' || text[22] != ':')
    return std::nullopt;
  const auto number = [&](std::size_t at, std::size_t digits) {
    return take_digits(text, at, digits).value_or(-1);
  };
  const int day = number(5, 2);
  const int year = number(12, 4);
  const int hour = number(17, 2);
  const int minute = number(20, 2);
  const int second = number(23, 2);
  if (day < 0 || year < 0 || hour < 0 || minute < 0 || second < 0) return std::nullopt;
  const int month_number = static_cast<int>(month - kMonths.begin()) + 1;
  const auto seconds = utc_seconds(year, month_number, day, hour, minute, second);
  if (!seconds) return std::nullopt;
  return *seconds * kMicrosPerSecond;
}

std::optional<Milliseconds> parse_duration(std::string_view text) {
  static constexpr std::array<std::pair<std::string_view, std::int64_t>, 5> kUnits = {
      {{"ms", 1}, {"s", 1000}, {"m", 60'000}, {"h", 3'600'000}, {"d", 86'400'000}}};
  std::int64_t total_ms = 0;
  if (text.empty()) return std::nullopt;
  while (!text.empty()) {
    const std::size_t digits = text.find_first_not_of("0123456789");
    if (digits == 0 || digits == std::string_view::npos) return std::nullopt;
    const auto number = parse_u64(text.substr(0, digits));
    text.remove_prefix(digits);
    const std::size_t unit_length = std::min(text.find_first_of("0123456789"), text.size());
    const std::string_view unit = text.substr(0, unit_length);
    text.remove_prefix(unit_length);
    const auto* found = std::find_if(kUnits.begin(), kUnits.end(),
                                     [&](const auto& known) { return known.first == unit; });
    if (!number || found == kUnits.end()) return std::nullopt;
    if (*number > static_cast<std::uint64_t>(kMaxDurationMs / found->second)) return std::nullopt;
    total_ms += static_cast<std::int64_t>(*number) * found->second;
    if (total_ms > kMaxDurationMs) return std::nullopt;
  }
  return Milliseconds(total_ms);
}

std::string human_duration(std::int64_t duration_us) {
  std::array<char, 48> text{};
  const std::int64_t ms = duration_us / 1000;
  const std::int64_t s = ms / 1000;
  if (duration_us < 1000) {
    std::snprintf(text.data(), text.size(), "%d us", static_cast<int>(duration_us));
  } else if (ms < 1000) {
    std::snprintf(text.data(), text.size(), "%d ms", static_cast<int>(ms));
  } else if (s < 60) {
    std::snprintf(text.data(), text.size(), "%.1f s", static_cast<double>(ms) / 1000.0);
  } else if (s < 3600) {
    std::snprintf(text.data(), text.size(), "%dm%02ds", static_cast<int>(s / 60),
                  static_cast<int>(s % 60));
  } else {
    std::snprintf(text.data(), text.size(), "%lldh%02dm", static_cast<long long>(s / 3600),
                  static_cast<int>(s / 60 % 60));
  }
  return text.data();
}

std::string format_duration(Milliseconds span) {
  const std::int64_t ms = span.count();
  return ms % 1000 == 0 ? std::to_string(ms / 1000) + "s" : std::to_string(ms) + "ms";
}

std::string boot_id() {
#ifdef UPDAGENT_FAILPOINTS
  // A simulated reboot: the crash tests change the boot id without booting.
  if (const char* fake = std::getenv("UPDAGENT_TEST_BOOT_ID"); fake != nullptr) return fake;
#endif
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::string id;
  std::getline(file, id);
  return id;
}

}  // namespace updagent::base
