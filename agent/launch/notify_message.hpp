// One datagram of the sd_notify protocol as a value (sd_notify(3), systemd 259). Pure: who sent it,
// and whether that counts, is notify_server.hpp's business. A value that can't be read never takes
// effect: it is named in `malformed`, and the rest of the message stands. Of several assignments of
// one name the first counts, as in systemd. Names that are not known here are left out in silence.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/error.hpp"

namespace updagent::launch {

inline constexpr std::size_t kMaxNotifyBytes = 4096;  // of a datagram; systemd's bound too
inline constexpr std::size_t kMaxNotifyLines = 64;    // the protocol knows about 20 names
inline constexpr std::size_t kMaxStatusBytes = 512;   // a line in a terminal, some in the database
inline constexpr std::size_t kMaxStoreNameBytes = 255;  // sd_notify(3), FDNAME=
inline constexpr std::uint64_t kMaxExtendUsec =
    600'000'000;  // ten minutes: a service that needs longer says so again, and is seen to live
// A year. 2^64-1 means never; in microseconds after now it would be the past.
inline constexpr std::uint64_t kMaxWatchdogUsec = 365ULL * 24 * 3600 * 1'000'000;

// STOPPING beats READY, and READY beats RELOADING, when one message has several.
enum class Lifecycle { unchanged, ready, reloading, stopping };
enum class WatchdogSign { none, alive, trigger };

struct NotifyMessage {
  Lifecycle lifecycle = Lifecycle::unchanged;
  std::optional<std::uint64_t> monotonic_usec;  // CLOCK_MONOTONIC, with RELOADING
  std::optional<std::string> status;            // UTF-8 without control characters, bounded
  std::optional<pid_t> main_pid;
  WatchdogSign watchdog = WatchdogSign::none;
  std::optional<std::uint64_t>
      watchdog_usec;  // 0: no watchdog from now on; at most kMaxWatchdogUsec
  std::optional<std::uint64_t> extend_timeout_usec;  // at most kMaxExtendUsec
  std::optional<int> errno_value;
  bool barrier = false;  // the message is that and nothing else

  bool store = false;         // FDSTORE=1
  bool store_remove = false;  // FDSTOREREMOVE=1 with a valid FDNAME
  std::string store_name;     // FDNAME, "" without a valid one
  bool store_watch = true;    // FDPOLL

  std::vector<std::string> malformed;  // "MAINPID=x1", printable and shortened
};

// An Error only for a datagram that is refused as a whole: too long, too many lines, a zero byte
// within, BARRIER=1 together with anything else.
base::Result<NotifyMessage> parse_notify_message(std::string_view datagram);

// ASCII without control characters and ':', 1 to 255 bytes: what LISTEN_FDNAMES can carry.
bool is_store_name(std::string_view name);

}  // namespace updagent::launch
