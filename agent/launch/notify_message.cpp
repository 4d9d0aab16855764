#include "agent/launch/notify_message.hpp"

#include <algorithm>
#include <array>
#include <limits>

#include "agent/base/text.hpp"

namespace updagent::launch {
namespace {

using base::Code;
using base::Error;

constexpr std::size_t kShownBytes = 80;                    // of a malformed line
constexpr std::uint64_t kMaxErrno = 4095;                  // the kernel's MAX_ERRNO
constexpr std::uint64_t kMaxPid = std::uint64_t{1} << 22;  // PID_MAX_LIMIT of 64-bit kernels

// The longest start of `text` within `limit` bytes that doesn't cut a UTF-8 sequence.
std::string_view cut_utf8(std::string_view text, std::size_t limit) {
  if (text.size() <= limit) return text;
  while (limit > 0 && (static_cast<unsigned char>(text[limit]) & 0xC0U) == 0x80U) --limit;
  return text.substr(0, limit);
}

// C0 and DEL are one byte; C1 is U+0080 to U+009F, 0xC2 and a byte below 0xA0.
std::string without_controls(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    const bool c1 =
        byte == 0xC2 && i + 1 < text.size() && static_cast<unsigned char>(text[i + 1]) < 0xA0;
    if (c1) ++i;
    if (!c1 && byte >= 0x20 && byte != 0x7F) out += text[i];
  }
  return out;
}

bool set_once(std::optional<std::uint64_t>& field, std::string_view value, std::uint64_t low,
              std::uint64_t high) {
  const auto number = base::parse_u64(value);
  if (!number || *number < low || *number > high) return false;
  field = number;
  return true;
}

constexpr std::uint64_t kAnyNumber = std::numeric_limits<std::uint64_t>::max();

// Every reader says whether the value could be read; only then has it changed the message.
bool read_one(std::string_view value) {
  return value == "1";
}

bool read_watchdog(NotifyMessage& message, std::string_view value) {
  if (value == "1") message.watchdog = WatchdogSign::alive;
  if (value == "trigger") message.watchdog = WatchdogSign::trigger;
  return message.watchdog != WatchdogSign::none;
}

bool read_poll(NotifyMessage& message, std::string_view value) {
  if (value != "0" && value != "1") return false;
  message.store_watch = value == "1";
  return true;
}

bool read_status(NotifyMessage& message, std::string_view value) {
  // what could turn the reading direction of a terminal is escaped, what could drive it is left out
  message.status =
      cut_utf8(base::printable(without_controls(base::to_valid_utf8(value))), kMaxStatusBytes);
  return true;
}

bool read_pid(NotifyMessage& message, std::string_view value) {
  std::optional<std::uint64_t> number;
  if (!set_once(number, value, 1, kMaxPid)) return false;
  message.main_pid = static_cast<pid_t>(*number);
  return true;
}

bool read_errno(NotifyMessage& message, std::string_view value) {
  std::optional<std::uint64_t> number;
  if (!set_once(number, value, 0, kMaxErrno)) return false;
  message.errno_value = static_cast<int>(*number);
  return true;
}

bool read_capped(std::optional<std::uint64_t>& field, std::string_view value, std::uint64_t cap) {
  if (!set_once(field, value, 0, kAnyNumber)) return false;
  field = std::min(*field, cap);
  return true;
}

bool read_name(NotifyMessage& message, std::string_view value) {
  if (!is_store_name(value)) return false;
  message.store_name = value;
  return true;
}

// Higher ones win (see Lifecycle); the order of the lines says nothing.
bool read_lifecycle(NotifyMessage& message, std::string_view value, Lifecycle lifecycle) {
  static constexpr std::array kRising = {Lifecycle::unchanged, Lifecycle::reloading,
                                         Lifecycle::ready, Lifecycle::stopping};
  const auto rank = [](Lifecycle of) { return std::ranges::find(kRising, of); };
  if (!read_one(value)) return false;
  if (rank(lifecycle) > rank(message.lifecycle)) message.lifecycle = lifecycle;
  return true;
}

using Reader = bool (*)(NotifyMessage&, std::string_view);
struct Field {
  std::string_view name;
  Reader read;
};

constexpr std::array kFields = {
    Field{"READY", [](NotifyMessage& m,
                      std::string_view v) { return read_lifecycle(m, v, Lifecycle::ready); }},
    Field{"RELOADING",
          [](NotifyMessage& m, std::string_view v) {
            return read_lifecycle(m, v, Lifecycle::reloading);
          }},
    Field{"STOPPING", [](NotifyMessage& m,
                         std::string_view v) { return read_lifecycle(m, v, Lifecycle::stopping); }},
    Field{"MONOTONIC_USEC",
          [](NotifyMessage& m, std::string_view v) {
            return set_once(m.monotonic_usec, v, 0, kAnyNumber);
          }},
    Field{"STATUS", read_status},
    Field{"MAINPID", read_pid},
    Field{"WATCHDOG", read_watchdog},
    Field{"WATCHDOG_USEC",
          [](NotifyMessage& m, std::string_view v) {
            return read_capped(m.watchdog_usec, v, kMaxWatchdogUsec);
          }},
    Field{"EXTEND_TIMEOUT_USEC",
          [](NotifyMessage& m, std::string_view v) {
            return read_capped(m.extend_timeout_usec, v, kMaxExtendUsec);
          }},
    Field{"ERRNO", read_errno},
    Field{"BARRIER", [](NotifyMessage& m, std::string_view v) { return m.barrier = read_one(v); }},
    Field{"FDSTORE", [](NotifyMessage& m, std::string_view v) { return m.store = read_one(v); }},
    Field{"FDSTOREREMOVE",
          [](NotifyMessage& m, std::string_view v) { return m.store_remove = read_one(v); }},
    Field{"FDNAME", read_name},
    Field{"FDPOLL", read_poll},
};

std::string shown(std::string_view line) {
  const std::string_view start = cut_utf8(line, kShownBytes);
  return base::printable(start) + (start.size() < line.size() ? "..." : "");
}

class LineReader {
 public:
  void read(std::string_view line) {
    const std::size_t equals = line.find('=');
    if (equals == std::string_view::npos) return;  // not an assignment: unknown
    for (std::size_t i = 0; i < kFields.size(); ++i)
      if (kFields[i].name == line.substr(0, equals)) {
        if (!seen_[i] && !kFields[i].read(message_, line.substr(equals + 1)))
          message_.malformed.push_back(shown(line));
        seen_[i] = true;
      }
  }
  NotifyMessage take() {
    // Without the name it would remove nothing that was meant.
    if (message_.store_remove && message_.store_name.empty()) {
      message_.store_remove = false;
      message_.malformed.emplace_back("FDSTOREREMOVE=1 without a valid FDNAME");
    }
    return std::move(message_);
  }

 private:
  NotifyMessage message_;
  std::array<bool, kFields.size()> seen_{};
};

Error refused(std::string what) {
  return {Code::usage, "a notify message is ignored: " + std::move(what)};
}

}  // namespace

bool is_store_name(std::string_view name) {
  return !name.empty() && name.size() <= kMaxStoreNameBytes &&
         std::ranges::all_of(name, [](char c) { return c >= ' ' && c <= '~' && c != ':'; });
}

base::Result<NotifyMessage> parse_notify_message(std::string_view datagram) {
  if (datagram.size() > kMaxNotifyBytes)
    return refused("it is too long")
        .expected("at most " + std::to_string(kMaxNotifyBytes) + " bytes")
        .got(std::to_string(datagram.size()));
  if (datagram.ends_with('\0')) datagram.remove_suffix(1);  // some senders count the terminator
  if (datagram.find('\0') != std::string_view::npos)
    return refused("it has a zero byte").expected("lines of text").got("binary");
  LineReader reader;
  std::size_t lines = 0;
  while (!datagram.empty()) {
    const std::size_t end = std::min(datagram.find('\n'), datagram.size());
    if (end > 0 && ++lines > kMaxNotifyLines)
      return refused("it has too many lines")
          .expected("at most " + std::to_string(kMaxNotifyLines))
          .got("more");
    reader.read(datagram.substr(0, end));
    datagram.remove_prefix(std::min(end + 1, datagram.size()));
  }
  NotifyMessage message = reader.take();
  if (message.barrier && lines != 1)
    return refused("BARRIER=1 must come alone")
        .expected("one line")
        .got(std::to_string(lines) + " lines");
  return message;
}

}  // namespace updagent::launch
